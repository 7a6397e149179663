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

/// What a kernel with control groups of version 2 shows in a container.
const GROUP: [(&str, &str); 4] = [
    ("memory.peak", "5242881\n"),
    ("memory.max", "8388608\n"),
    ("cpu.stat", "usage_usec 3210000\nuser_usec 1\n"),
    ("memory.events", "low 0\noom 2\noom_kill 2\n"),
];

#[tokio::test]
async fn the_summary_has_memory_and_cpu_of_each_container_and_why_the_job_failed() {
    let what = "show control groups of its own";
    let Some(mut world) = World::simulated(what).await else { return };
    if !world.cluster().has_namespaces() {
        // The agent is process 1 of nothing then, and says nothing of its control group.
        eprintln!("left out: containers of this simulation have no namespaces of their own");
        return;
    }
    let group = world.directory().join("group");
    std::fs::create_dir(&group).unwrap();
    for (name, content) in GROUP {
        std::fs::write(group.join(name), content).unwrap();
    }
    let mount = serde_json::json!({
        "name": "group", "mount_path": "/sys/fs/cgroup", "host_path": group, "read_only": true,
    });
    world.settings.volumes.host_path = vec![serde_json::from_value(mount).unwrap()];
    let end = world.run_one(JobSpec::new("job").script(["exit 3"])).await;
    let said = text(&end);
    let used = "memory 6 MiB at most of 8 MiB, CPU 3.2s, 2 killed for want of memory";
    for row in [
        format!("  container build    {used}"),
        format!("  container helper   {used}"),
        "  failed             step_script: command terminated with exit code 3".to_owned(),
    ] {
        assert!(said.contains(&row), "{row:?} is not in {said}");
    }
}
