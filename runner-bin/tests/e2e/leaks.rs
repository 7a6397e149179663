//! Where secrets of a job and of the runner must not turn up.

use runner_testkit::gitlab::{Artifact, JobSpec, Variable};

use crate::place::is_real;
use crate::world::{PATIENCE, World, success, text};

const VALUE: &str = "s3cret-value-of-the-job";
const HIDDEN: &str = "not-masked-and-not-public";

/// A variable, a file variable, the job's token in git, in an upload and in a download; and a server that
/// fails once each, since errors like to show addresses.
#[tokio::test]
async fn the_managers_log_at_its_most_talkative_holds_no_secret() {
    let world = World::new().await;
    let repo = world.gitlab.repo("group/project").commit("First", [("file", "content\n")]);
    let repo = repo.branch("main").create().await.unwrap();
    let first = JobSpec::new("first").repo(&repo).git_ref("main");
    let first = first
        .with(Variable::new("SECRET", VALUE).masked())
        .with(Variable::new("HIDDEN", HIDDEN).private())
        .with(Variable::new("FILE", HIDDEN).file())
        .script(["echo $SECRET > out; test \"$HIDDEN\" = \"$(cat $FILE)\"; ls file"])
        .artifact(Artifact::archive(["out"]));
    let first = world.gitlab.enqueue(first);
    let manager = world.process();
    success(&first.wait_finished(PATIENCE).await.unwrap());
    let second = JobSpec::new("second").needs(&first).script(["grep -q . out; exit 3"]);
    let second = world.gitlab.enqueue(second);
    let third = world.gitlab.enqueue(JobSpec::new("third").image("no/such:image").script(["true"]));
    for job in [&second, &third] {
        assert_eq!(job.wait_finished(PATIENCE).await.unwrap().state.as_str(), "failed");
    }
    let tokens = [first.token(), second.token(), third.token()];
    let log = manager.log();
    // It is the right log, and talkative.
    assert!(log.contains("level=debug") || log.contains("job="), "{log}");
    let secrets = [VALUE, HIDDEN, world.gitlab.runner_token()];
    for secret in secrets.into_iter().chain(tokens.iter().map(String::as_str)) {
        assert!(!log.contains(secret), "{secret} is in {log}");
    }
    manager.end_by(rustix::process::Signal::TERM).await;
}

/// `/podwright/plan` is `helper`'s; so is who packs artifacts.
#[tokio::test]
async fn a_link_in_the_place_of_the_project_does_not_bring_the_plan_into_artifacts() {
    let world = World::new().await;
    if !is_real() && !world.cluster().has_namespaces() {
        return eprintln!("left out: without namespaces, containers see each other's files");
    }
    for place in ["/podwright/plan", "/podwright/state"] {
        let swap = format!("cd ..; mv \"$CI_PROJECT_DIR\" away; ln -s {place} \"$CI_PROJECT_DIR\"");
        let spec = JobSpec::new("thief").script([swap.as_str()]);
        let job = world.gitlab.enqueue(spec.artifact(Artifact::archive(["**/*", "journal"])));
        let end = world.run(std::slice::from_ref(&job)).await.remove(0);
        assert_eq!(end.state.as_str(), "failed", "{}", text(&end));
        assert!(text(&end).contains("no directory of its own"), "{}", text(&end));
        assert!(world.gitlab.artifacts(&job).is_empty(), "{}", text(&end));
    }
}
