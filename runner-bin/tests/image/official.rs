//! What the official chart does with an image: its scripts and probes, word for word.

use runner_testkit::gitlab::{Endpoint, GitLab, JobSpec, JobState};

use crate::PATIENCE;
use crate::container::Running;
use crate::pod::{CHART, Pod, User};

async fn live(running: &Running) -> Option<i32> {
    let done = running.exec(&["/bin/bash", "/configmaps/check-live", "3"]).await;
    done.code
}

async fn ready(running: &Running) -> bool {
    running.exec(&["/usr/bin/pgrep", "gitlab.*runner"]).await.code == Some(0)
}

fn managers_taken_off(pod: &Pod) -> usize {
    let requests = pod.gitlab.requests();
    let off = requests
        .iter()
        .filter(|r| r.method == "DELETE" && r.path.ends_with("/api/v4/runners/managers"));
    off.count()
}

#[tokio::test]
async fn manager_65_the_official_charts_scripts_register_verify_run_and_unregister() {
    let Some(pod) = Pod::new().await else { return };
    let mut running = pod.start().await;
    assert!(running.log().contains("Registration attempt 1 of 2"));
    assert!(ready(&running).await, "the process has to be called gitlab-runner");
    assert_eq!(live(&running).await, Some(0));

    let end = pod.job().await;
    assert_eq!(end.state, JobState::Success);
    let trace = String::from_utf8_lossy(&end.trace).into_owned();
    assert!(trace.contains("from the pod"), "{trace}");

    // What the kubelet does when the pod is deleted: preStop, then the image's stop signal.
    let done = running.exec(&["/entrypoint", "unregister", "--all-runners"]).await;
    assert_eq!(done.code, Some(0), "{}", done.out);
    assert_eq!(managers_taken_off(&pod), 1);
    running.signal("QUIT");
    assert_eq!(running.end().await, Some(0), "{}", running.log());
    assert_eq!(pod.gitlab.violations(), []);
}

#[rstest::rstest]
#[case::uid_999(User { uid: 999, gid: 999 })]
#[case::root(User { uid: 0, gid: 0 })]
#[case::random_uid(User { uid: 1_000_660_000, gid: 0 })]
#[tokio::test]
async fn manager_66_any_user_with_a_read_only_root_file_system(#[case] user: User) {
    let Some(pod) = Pod::new().await else { return };
    let mut running = pod.container(user).start();
    pod.polled(&running).await;
    assert!(ready(&running).await);
    assert_eq!(live(&running).await, Some(0), "{}", running.log());
    assert_eq!(pod.job().await.state, JobState::Success);
    running.signal("QUIT");
    assert_eq!(running.end().await, Some(0), "{}", running.log());
}

#[tokio::test]
async fn manager_66_tini_instead_of_dumb_init() {
    let Some(pod) = Pod::new().await else { return };
    let command = ["/usr/local/bin/tini", "--", "/bin/bash", "/configmaps/entrypoint"];
    let mut running = pod.container(CHART).args(&command).start();
    pod.polled(&running).await;
    assert!(ready(&running).await);
    running.signal("QUIT");
    assert_eq!(running.end().await, Some(0), "{}", running.log());
}

#[tokio::test]
async fn manager_67_a_ca_of_the_charts_secret_is_trusted() {
    let Some(pod) = Pod::with(GitLab::builder().tls()).await else { return };
    let certs = pod.path("certs");
    std::fs::create_dir(&certs).unwrap();
    std::fs::write(certs.join("127.0.0.1.crt"), pod.gitlab.ca_pem().unwrap()).unwrap();
    let container = pod.container(CHART).mount(&certs, "/home/gitlab-runner/.gitlab-runner/certs");
    let mut running = container.start();
    pod.polled(&running).await;
    assert_eq!(live(&running).await, Some(0));
    running.signal("QUIT");
    assert_eq!(running.end().await, Some(0));
}

#[tokio::test]
async fn manager_67_a_ca_that_the_entrypoint_is_told_of_is_trusted() {
    let Some(pod) = Pod::with(GitLab::builder().tls()).await else { return };
    pod.configmap("ca.crt", pod.gitlab.ca_pem().unwrap());
    let trusting = pod.container(CHART).env("CA_CERTIFICATES_PATH", "/configmaps/ca.crt").start();
    pod.polled(&trusting).await;
    let verify = ["/entrypoint", "verify"];
    let done = trusting.exec(&verify).await;
    assert!(done.out.contains("is valid"), "{}", done.out);
}

#[tokio::test]
async fn manager_68_cache_credentials_reach_the_configuration() {
    let Some(pod) = Pod::new().await else { return };
    for (name, text) in [
        ("accesskey", "s3-key"),
        ("secretkey", "s3-secret"),
        ("gcs-access-id", "gcs-id"),
        ("gcs-private-key", "-----BEGIN\\nkey\\n-----END"),
        ("azure-account-name", "azure-name"),
        ("azure-account-key", "azure-key"),
    ] {
        pod.secret(name, text);
    }
    let running = pod.start().await;
    let text = std::fs::read_to_string(pod.path("home/config.toml")).unwrap();
    let table: toml::Table = toml::from_str(&text).unwrap();
    let cache = &table["runners"][0]["cache"];
    let value = |group: &str, key: &str| cache[group][key].as_str().unwrap().to_owned();
    assert_eq!(value("s3", "AccessKey"), "s3-key");
    assert_eq!(value("s3", "SecretKey"), "s3-secret");
    assert_eq!(value("gcs", "AccessID"), "gcs-id");
    assert_eq!(value("gcs", "PrivateKey"), "-----BEGIN\nkey\n-----END");
    assert_eq!(value("azure", "AccountName"), "azure-name");
    assert_eq!(value("azure", "AccountKey"), "azure-key");
    assert!(!running.log().contains("s3-secret"), "{}", running.log());
}

#[tokio::test]
async fn manager_68_a_file_with_gcs_credentials_reaches_the_configuration() {
    let Some(pod) = Pod::new().await else { return };
    pod.secret("gcs-applicaton-credentials-file", "{}");
    let _running = pod.start().await;
    let text = std::fs::read_to_string(pod.path("home/config.toml")).unwrap();
    assert!(text.contains("/secrets/gcs-applicaton-credentials-file"), "{text}");
}

#[tokio::test]
async fn manager_70_a_job_that_runs_when_the_pod_is_deleted_is_finished() {
    let Some(pod) = Pod::new().await else { return };
    let mut running = pod.start().await;
    let script =
        "echo started; i=0; while [ $i -lt 300 ]; do i=$((i+1)); sleep 0.01; done; echo done";
    let job = pod.gitlab.enqueue(JobSpec::new("long").script([script]));
    job.wait_trace("started", PATIENCE).await.unwrap();
    running.exec(&["/entrypoint", "unregister", "--all-runners"]).await;
    running.signal("QUIT");
    assert_eq!(job.state(), JobState::Running);
    assert_eq!(job.wait_finished(PATIENCE).await.unwrap().state, JobState::Success);
    assert_eq!(running.end().await, Some(0), "{}", running.log());
}

#[tokio::test]
async fn manager_71_liveness_survives_an_outage_and_fails_for_a_revoked_token() {
    let Some(pod) = Pod::new().await else { return };
    let running = pod.start().await;

    pod.gitlab.script(Endpoint::VerifyRunner).hang().always();
    assert_eq!(live(&running).await, Some(0), "a GitLab that does not answer");
    pod.gitlab.clear_scripts();
    pod.gitlab.script(Endpoint::VerifyRunner).reply(502).always();
    assert_eq!(live(&running).await, Some(0), "a GitLab that answers 502");
    pod.gitlab.clear_scripts();
    pod.gitlab.go_away().await;
    assert_eq!(live(&running).await, Some(0), "a GitLab that refuses connections");
    assert!(ready(&running).await);
    pod.gitlab.come_back().unwrap();
    assert_eq!(live(&running).await, Some(0));

    pod.gitlab.script(Endpoint::VerifyRunner).reply(403).always();
    assert_eq!(live(&running).await, Some(1), "a runner that GitLab does not know any more");
    pod.gitlab.clear_scripts();
    assert_eq!(pod.job().await.state, JobState::Success);
}

#[tokio::test]
async fn manager_71_liveness_without_runners_fails() {
    let Some(pod) = Pod::new().await else { return };
    let running = pod.start().await;
    running.exec(&["/entrypoint", "unregister", "--all-runners"]).await;
    assert_eq!(live(&running).await, Some(1));
}

#[tokio::test]
async fn a_registration_that_fails_ends_the_container() {
    let Some(pod) = Pod::new().await else { return };
    pod.gitlab.go_away().await;
    let done = pod.container(CHART).run().await;
    assert_eq!(done.code, Some(1), "{}", done.out);
    assert!(done.out.contains("Registration attempt 2 of 2"), "{}", done.out);
}

#[tokio::test]
async fn manager_77_a_restarted_container_keeps_its_system_id() {
    let Some(pod) = Pod::new().await else { return };
    let id = || std::fs::read_to_string(pod.path("home/.runner_system_id")).unwrap();
    let mut first = pod.start().await;
    let before = id();
    first.signal("TERM");
    assert_eq!(first.end().await, Some(0), "{}", first.log());
    drop(first);
    let _second = pod.start().await;
    assert_eq!(id(), before);
}

/// `runners.configOverride`: the file is the user's, and nothing is registered.
#[tokio::test]
async fn manager_74_a_whole_configuration_with_two_runners_and_a_token_of_the_environment() {
    let Some(pod) = Pod::new().await else { return };
    let token = pod.gitlab.runner_token().to_owned();
    let runner = |name: &str, token: &str| {
        format!(
            "[[runners]]\nname = \"{name}\"\nurl = \"{}\"\ntoken = \"{token}\"\nexecutor = \"kubernetes\"\n\
             [runners.kubernetes]\nkubeconfig = \"/configmaps/kubeconfig\"\nnamespace = \"{}\"\n\
             image = \"debian:test\"\nhelper_image = \"debian:test\"\n",
            pod.gitlab.url(),
            pod.cluster.namespace(),
        )
    };
    let text = format!("concurrent = 2\n{}{}", runner("one", "$TOKEN"), runner("two", "glrt-gone"));
    pod.configmap("config.toml", &text);
    pod.configmap("register-the-runner", "exit 0");
    let mut running = pod.container(CHART).env("TOKEN", &token).start();
    pod.polled(&running).await;
    assert_eq!(pod.job().await.state, JobState::Success);
    // The hook of the chart: what it writes has no token that was not in the file before.
    let done = running.exec(&["/entrypoint", "unregister", "--all-runners"]).await;
    assert_eq!(done.code, Some(0), "{}", done.out);
    let text = std::fs::read_to_string(pod.path("home/config.toml")).unwrap();
    assert!(!text.contains(&token), "{text}");
    running.signal("QUIT");
    assert_eq!(running.end().await, Some(0), "{}", running.log());
}

#[tokio::test]
async fn manager_75_two_pods_are_two_managers_and_no_job_is_taken_twice() {
    const JOBS: usize = 12;
    let Some(pod) = Pod::new().await else { return };
    let second = pod.path("home-2");
    std::fs::create_dir(&second).unwrap();
    std::fs::set_permissions(&second, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let first = pod.start().await;
    let other = pod.container_in(CHART, &second).start();
    other.says("Starting").await;
    let id = |home: &str| std::fs::read_to_string(pod.path(home).join(".runner_system_id"));
    assert_ne!(id("home").unwrap(), id("home-2").unwrap());

    let jobs: Vec<_> = (0..JOBS)
        .map(|number| {
            pod.gitlab.enqueue(JobSpec::new(format!("job {number}")).script(["echo once"]))
        })
        .collect();
    for job in &jobs {
        let end = job.wait_finished(PATIENCE).await.unwrap();
        assert_eq!(end.state, JobState::Success);
        let trace = String::from_utf8_lossy(&end.trace).into_owned();
        assert_eq!(trace.matches("O once\n").count(), 1, "{trace}");
    }
    let took = |log: String| log.matches("job received").count();
    assert_eq!(took(first.log()) + took(other.log()), JOBS);
    assert_eq!(pod.gitlab.violations(), []);
}
