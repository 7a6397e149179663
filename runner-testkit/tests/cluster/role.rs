//! The role that the README promises to be enough is the one that whole jobs are tested with.

use runner_testkit::cluster::Rule;

#[test]
fn the_readmes_role_is_the_one_that_jobs_are_tested_with() {
    let readme = include_str!("../../../README.md");
    let written: Vec<&str> =
        readme.lines().filter(|line| line.starts_with("  - { apiGroups:")).collect();
    let tested: Vec<String> = Rule::least_privilege()
        .iter()
        .flat_map(|rule| {
            rule.resources.iter().map(|resource| {
                let (group, verbs) = (&rule.group, rule.verbs.join(", "));
                format!(
                    "  - {{ apiGroups: [\"{group}\"], resources: [{resource}], verbs: [{verbs}] }}"
                )
            })
        })
        .collect();
    assert_eq!(written, tested);
}
