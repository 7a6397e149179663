//! The chart's role is enough for a manager, and nothing in it is superfluous: whole jobs and a hand-over on the simulated cluster,
//! whose manager has the role of the rendering and nothing else.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use runner_testkit::cluster::{Cluster, ClusterSettings, ImageSpec, Rule};
use runner_testkit::gitlab::{GitLab, JobSpec, JobState};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::render::rendered;
use crate::roles::rights;
use crate::values::of_kind;

const PATIENCE: Duration = Duration::from_secs(60);

/// What this test does not come to use, and who does.
const OTHERS: [&str; 4] = [
    // A pod of which the watch says nothing, or whose creation got no answer.
    "/pods get",
    // SPDY, where a proxy refuses the websocket.
    "/pods/exec create",
    // Services' output (CI_DEBUG_SERVICES), entry points.
    "/pods/log get",
    // Said on a job's pod.
    "/events create",
];

fn rules(role: &Value) -> Vec<Rule> {
    let list = |value: &Value| -> Vec<String> { serde_json::from_value(value.clone()).unwrap() };
    let rules = role["rules"].as_array().unwrap().iter().map(|rule| Rule {
        group: list(&rule["apiGroups"]).remove(0),
        resources: list(&rule["resources"]),
        verbs: list(&rule["verbs"]),
    });
    rules.collect()
}

/// A manager that ends with the test.
struct Manager(Child);

impl Drop for Manager {
    fn drop(&mut self) {
        // It may have ended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn manager(directory: &Path, name: &str, config: &str) -> Manager {
    let own = directory.join(name);
    std::fs::create_dir(&own).unwrap();
    std::fs::write(own.join("config.toml"), config).unwrap();
    let log = std::fs::File::create(own.join("log")).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_podwright"))
        .args(["run", "--config"])
        .arg(own.join("config.toml"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn();
    Manager(child.unwrap())
}

#[tokio::test]
async fn the_role_is_enough_for_jobs_and_hand_overs_and_nothing_in_it_is_superfluous() {
    let objects = rendered("default");
    let role = of_kind(&objects, "Role");
    let gitlab = GitLab::start().await.unwrap();
    let cluster =
        Cluster::start(ClusterSettings { rules: rules(role), ..Default::default() }).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_podwright"));
    let agent = ImageSpec::agent(&directory.path().join("agent"), program).unwrap();
    cluster.register_image("agent:test", agent);
    cluster.register_image("debian:test", ImageSpec::present());
    std::fs::write(directory.path().join("kubeconfig"), cluster.kubeconfig()).unwrap();
    let config = format!(
        "concurrent = 4\ncheck_interval = 1\n[[runners]]\nname = \"chart\"\nurl = \"{}\"\ntoken = \"{}\"\n\
         executor = \"kubernetes\"\n[runners.kubernetes]\nkubeconfig = {:?}\nnamespace = \"{}\"\n\
         image = \"debian:test\"\nhelper_image = \"debian:test\"\nagent_image = \"agent:test\"\n\
         manager_lease_duration = 1\n",
        gitlab.url(),
        gitlab.runner_token(),
        directory.path().join("kubeconfig"),
        cluster.namespace(),
    );

    let first = manager(directory.path(), "first", &config);
    let short = gitlab.enqueue(JobSpec::new("short").script(["echo short"]));
    assert_eq!(short.wait_finished(PATIENCE).await.unwrap().state, JobState::Success);
    let script =
        "echo begun; i=0; while [ $i -lt 300 ]; do i=$((i+1)); sleep 0.01; done; echo over";
    let long = gitlab.enqueue(JobSpec::new("long").script([script]));
    long.wait_trace("O begun\n", PATIENCE).await.unwrap();
    // One that gives up its jobs, one that dies without a word.
    kill_process(Pid::from_child(&first.0), Signal::TERM).unwrap();
    let second = manager(directory.path(), "second", &config);
    assert_eq!(long.wait_finished(PATIENCE).await.unwrap().state, JobState::Success);
    let lost = gitlab.enqueue(JobSpec::new("lost").script([script]));
    lost.wait_trace("O begun\n", PATIENCE).await.unwrap();
    drop(second);
    let _third = manager(directory.path(), "third", &config);
    assert_eq!(lost.wait_finished(PATIENCE).await.unwrap().state, JobState::Success);

    let given = rights(role);
    let mut unused: Vec<&str> = given.iter().map(String::as_str).collect();
    for (verb, resource, _) in cluster.requests().iter() {
        // Signs of life of managers whose role has no leases: looked for in vain, which is no harm.
        // And pages like /version are open to everybody.
        if resource == "configmaps" || resource.starts_with('/') {
            continue;
        }
        let used = |right: &&str| right.split_once('/').unwrap().1 == format!("{resource} {verb}");
        let known = given.iter().map(String::as_str).any(|right| used(&right));
        assert!(known, "{verb} {resource} is asked for and not in the role");
        unused.retain(|right| !used(right));
    }
    unused.retain(|right| !OTHERS.contains(right));
    assert!(unused.is_empty(), "in the role and not used: {unused:?}");
    assert_eq!(gitlab.violations(), []);
}
