//! Images of any kind, and namespaces that allow little.
//!
//! Containers of the simulated cluster share this machine's file system and user, so what is about
//! uids, missing shells and pod security is shown on a real cluster only.

use runner_testkit::gitlab::{JobSpec, JobState};
use serde_json::json;

use crate::place::is_real;
use crate::world::{World, success, text};

async fn real(what: &str) -> Option<World> {
    if !is_real() {
        eprintln!("left out on the simulated cluster, which cannot show it: {what}");
        return None;
    }
    Some(World::new().await)
}

fn variable(name: &str, default: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| default.to_owned())
}

#[tokio::test]
async fn an_image_without_a_shell_runs_a_script() {
    let Some(world) = real("an image without a shell").await else { return };
    let image = variable("PODWRIGHT_E2E_IMAGE_NOSHELL", "docker.io/library/noshell:test");
    let spec = JobSpec::new("test").image(image).script(["echo \"a shell: $((6 * 7))\"", "exit 9"]);
    let end = world.run_one(spec).await;
    assert_eq!(end.state, JobState::Failed);
    assert_eq!(end.exit_code, Some(9), "{}", text(&end));
    assert!(text(&end).contains("a shell: 42"), "{}", text(&end));
}

#[tokio::test]
async fn a_job_that_does_not_run_as_root_owns_its_checkout() {
    let Some(mut world) = real("another user").await else { return };
    world.settings.build_container_security_context =
        serde_json::from_value(json!({ "run_as_user": 4321, "run_as_group": 4321 })).unwrap();
    let repo = world.gitlab.repo("group/project").commit("First", [("file", "content\n")]);
    let repo = repo.branch("main").create().await.unwrap();
    let spec = JobSpec::new("test").repo(&repo).git_ref("main").script([
        "id -u",
        "echo more >> file && cat file && chmod 600 file",
        "git status --short",
        "mkdir made && rm -rf made",
    ]);
    let end = world.run_one(spec).await;
    success(&end);
    for line in [" 4321\n", " more\n", " M file\n"] {
        assert!(text(&end).contains(line), "{line:?} is not in {}", text(&end));
    }
}

#[tokio::test]
async fn a_read_only_root_file_system_is_no_obstacle() {
    let mut world = World::new().await;
    if !is_real() && !world.cluster().has_namespaces() {
        return eprintln!("left out: without namespaces, containers have no root of their own");
    }
    let read_only = json!({ "read_only_root_filesystem": true });
    world.settings.build_container_security_context =
        serde_json::from_value(read_only.clone()).unwrap();
    world.settings.helper_container_security_context = serde_json::from_value(read_only).unwrap();
    let repo = world.gitlab.repo("group/project").commit("First", [("file", "content\n")]);
    let repo = repo.branch("main").create().await.unwrap();
    let spec = JobSpec::new("test")
        .repo(&repo)
        .git_ref("main")
        .script(["cat file", "if touch /podwright-x 2>/dev/null; then exit 5; fi"]);
    success(&world.run_one(spec).await);
}

/// Needs a namespace with the label `pod-security.kubernetes.io/enforce=restricted`, named by
/// `PODWRIGHT_E2E_RESTRICTED`.
#[tokio::test]
async fn a_namespace_with_the_restricted_standard_runs_jobs() {
    let Some(mut world) = real("pod security admission").await else { return };
    let Ok(namespace) = std::env::var("PODWRIGHT_E2E_RESTRICTED") else {
        return eprintln!("left out: PODWRIGHT_E2E_RESTRICTED names no namespace");
    };
    world.settings.namespace.clone_from(&namespace);
    world.place.use_namespace(&namespace);
    world.settings.pod_security_context = serde_json::from_value(json!({
        "run_as_non_root": true, "run_as_user": 1234, "run_as_group": 1234, "fs_group": 1234,
        "seccomp_profile": { "type": "RuntimeDefault" },
    }))
    .unwrap();
    let container = json!({
        "allow_privilege_escalation": false, "capabilities": { "drop": ["ALL"] },
    });
    world.settings.build_container_security_context =
        serde_json::from_value(container.clone()).unwrap();
    world.settings.helper_container_security_context = serde_json::from_value(container).unwrap();
    let repo = world.gitlab.repo("group/project").commit("First", [("file", "content\n")]);
    let repo = repo.branch("main").create().await.unwrap();
    let spec = JobSpec::new("test").repo(&repo).git_ref("main").script([
        "id -u",
        "cat file",
        "echo more >> file",
        "git status --short",
    ]);
    let end = world.run_one(spec).await;
    success(&end);
    assert!(text(&end).contains(" 1234\n"), "{}", text(&end));
}
