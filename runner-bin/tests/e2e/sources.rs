//! Sources as GitLab hands them out: with the job's own token, submodules of other projects, and the id
//! that connects a fetch with the request for the job.

use runner_testkit::gitlab::{Endpoint, JobSpec};

use crate::world::{World, success, text};

#[tokio::test]
async fn stages_49_51_55_a_job_gets_its_sources_with_its_own_token_and_nobody_elses() {
    let world = World::new().await;
    let library = world.gitlab.repo("other/library").readable_by_jobs();
    let library = library.commit("First", [("lib", "from the library\n")]).create().await.unwrap();
    let modules = "[submodule \"lib\"]\n\tpath = lib\n\turl = ../../other/library.git\n";
    let repo = world.gitlab.repo("group/project").commit("First", [(".gitmodules", modules)]);
    let repo = repo.submodule("lib", library.sha("main").unwrap()).create().await.unwrap();
    let closed = world.gitlab.repo("other/closed").commit("First", [("secret", "x\n")]);
    closed.create().await.unwrap();
    let spec =
        JobSpec::new("test").repo(&repo).variable("GIT_SUBMODULE_STRATEGY", "normal").script([
            "cat lib/lib",
            "git fetch -q origin && git -C lib fetch -q origin && echo fetched again",
            "export GIT_TERMINAL_PROMPT=0; url=$(git config remote.origin.url)",
            "if git ls-remote \"${url%/group/*}/other/closed.git\" 2>/dev/null; then exit 5; fi",
        ]);
    let end = world.run_one(spec).await;
    success(&end);
    let trace = text(&end);
    for line in ["Updated submodules", " from the library\n", " fetched again\n"] {
        assert!(trace.contains(line), "{line:?} is not in {trace}");
    }
    let requests = world.gitlab.requests();
    let git: Vec<_> = requests.iter().filter(|it| it.endpoint == Endpoint::Git).collect();
    let id = git[0].headers["x-gitaly-correlation-id"].clone();
    assert!(trace.contains(&format!("Gitaly correlation ID: {id}")), "{trace}");
    let asked = |it: &&runner_testkit::gitlab::Request| {
        it.endpoint == Endpoint::RequestJob && it.headers.get("x-request-id") == Some(&id)
    };
    assert!(requests.iter().any(|it| asked(&it)), "no request for a job was called {id}");
}
