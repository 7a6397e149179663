//! The summary at a log's end: what only the cluster knows of where a job's time went.

use std::time::Duration;

use runner_testkit::cluster::{ClusterSettings, ImageSpec, Pull, Rule};
use runner_testkit::gitlab::{GitLab, JobSpec};

use crate::world::{World, success, text};

/// The seconds in the line of this name.
fn seconds(said: &str, name: &str) -> Option<f64> {
    let line = said.lines().find(|line| line.contains(&format!("\x1b[0K  {name} ")))?;
    let value = line.split_once(name)?.1.split_whitespace().next()?;
    value.split('\x1b').next()?.strip_suffix('s')?.parse().ok()
}

async fn run(rules: Vec<Rule>, spec: JobSpec) -> Option<(World, String)> {
    let cluster = ClusterSettings {
        rules,
        schedule_delay: Duration::from_millis(600),
        ..ClusterSettings::default()
    };
    let what = "take its time with nodes and images";
    let world = World::simulated_with(what, GitLab::builder(), cluster).await?;
    // Longer than what is worth asking for.
    let pull = Pull { delay: Duration::from_millis(5_200), ..Pull::default() };
    world.cluster().register_image("slow:1", ImageSpec { pull, ..ImageSpec::default() });
    let end = world.run_one(spec.image("slow:1").script(["sleep 1"])).await;
    success(&end);
    Some((world, text(&end)))
}

#[tokio::test]
async fn the_summary_says_how_long_node_image_and_container_took() {
    let mut rules = Rule::least_privilege();
    rules.push(Rule::core(&["events"], &["list"]));
    let Some((world, said)) = Box::pin(run(rules, JobSpec::new("job"))).await else { return };
    let spans = ["in the queue", "finding a node", "starting the pod", "build container", "script"];
    let known: Vec<_> = spans.iter().map(|name| (*name, seconds(&said, name))).collect();
    assert!(known[1].1.is_some_and(|node| node >= 0.6), "{known:?} in {said}");
    assert!(known[3].1.is_some_and(|build| build > 3.0), "{known:?} in {said}");
    assert!(known[4].1.is_some_and(|script| (0.9..5.0).contains(&script)), "{known:?} in {said}");
    let pull = said.lines().find(|line| line.contains("  image of build "));
    let pull = pull.unwrap_or_else(|| panic!("no pull in {said}"));
    assert!(pull.contains("pulled in 5."), "{pull}");
    assert!(pull.contains("s, 4 MiB"), "{pull}");
    assert_eq!(world.cluster().requests().of("list", "events"), 1);
}

#[tokio::test]
async fn a_role_without_events_costs_the_summary_its_pulls_and_nothing_else() {
    let rules = Rule::least_privilege();
    let Some((_world, said)) = Box::pin(run(rules, JobSpec::new("job"))).await else { return };
    assert!(seconds(&said, "finding a node").is_some(), "{said}");
    assert!(!said.contains("  image of "), "{said}");
}

#[tokio::test]
async fn who_wants_no_summary_asks_for_nothing() {
    let spec = JobSpec::new("job").variable("PODWRIGHT_JOB_SUMMARY", "false");
    let Some((world, said)) = Box::pin(run(Rule::everything(), spec)).await else { return };
    assert!(!said.contains("job_summary"), "{said}");
    assert_eq!(world.cluster().requests().of("list", "events"), 0);
}
