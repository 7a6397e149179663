//! The commands as processes, against the GitLab stand-in: output, exit codes, and the file.
#![expect(clippy::unwrap_used, reason = "clippy knows tests only inside `#[test]` functions")]

use std::path::PathBuf;
use std::process::{Command, Stdio};

use runner_testkit::gitlab::{Endpoint, GitLab};

struct Desk {
    gitlab: GitLab,
    directory: tempfile::TempDir,
}

/// What a command came to.
struct Done {
    code: Option<i32>,
    out: String,
    log: String,
}

impl Desk {
    async fn new() -> Self {
        let gitlab = GitLab::builder().registration_token("legacy-reg").start().await.unwrap();
        Self { gitlab, directory: tempfile::tempdir().unwrap() }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("config.toml")
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.file()).unwrap_or_default()
    }

    fn table(&self) -> toml::Table {
        toml::from_str(&self.text()).unwrap()
    }

    async fn run(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Done {
        run_in(&self.file(), arguments, variables, "").await
    }

    /// A `[[runners]]` entry.
    fn runner(&self, name: &str, token: &str) -> String {
        format!(
            "[[runners]] # {name}\nname = \"{name}\"\nurl = \"{}\"\ntoken = \"{token}\"\nexecutor = \"kubernetes\"\n\
             [runners.kubernetes]\nnamespace = \"ci\"\n",
            self.gitlab.url()
        )
    }

    fn write(&self, runners: &[(&str, &str)]) {
        let runners: String =
            runners.iter().map(|(name, token)| self.runner(name, token)).collect();
        std::fs::write(self.file(), format!("# ours\nconcurrent = 7\n{runners}")).unwrap();
    }

    fn paths(&self) -> Vec<String> {
        self.gitlab
            .requests()
            .into_iter()
            .map(|request| format!("{} {}", request.method, request.path))
            .collect()
    }
}

/// In a thread of its own, so that the stand-in can answer meanwhile.
async fn run_in(
    file: &std::path::Path,
    arguments: &[&str],
    variables: &[(&str, &str)],
    input: &str,
) -> Done {
    let mut command = Command::new(env!("CARGO_BIN_EXE_podwright"));
    command.env_clear().env("CONFIG_FILE", file).env("HOME", "/nonexistent").args(arguments);
    command.envs(variables.iter().copied());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let input = input.to_owned();
    let output = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    });
    let output = output.await.unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Done { code: output.status.code(), out: text(output.stdout), log: text(output.stderr) }
}

impl Done {
    #[track_caller]
    fn ok(&self, words: &str) {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.log);
        assert!(self.log.contains(words), "{words:?} is not in {}", self.log);
    }

    #[track_caller]
    fn fails(&self, words: &str) {
        assert_eq!(self.code, Some(1), "{}{}", self.out, self.log);
        assert!(self.log.contains(words), "{words:?} is not in {}", self.log);
    }
}

#[tokio::test]
async fn manager_39_register_with_variables_only_writes_a_runner_that_can_be_read() {
    let desk = Desk::new().await;
    let (url, token) = (desk.gitlab.url(), desk.gitlab.runner_token());
    // As the official chart does.
    let done = desk
        .run(
            &["register", "--name=pod", "--non-interactive"],
            &[
                ("CI_SERVER_URL", &url),
                ("CI_SERVER_TOKEN", token),
                ("RUNNER_EXECUTOR", "kubernetes"),
                ("REGISTER_LOCKED", "true"),
                ("RUNNER_TAG_LIST", ""),
                ("KUBERNETES_NAMESPACE", "ci"),
                ("KUBERNETES_PRIVILEGED", ""),
                ("KUBERNETES_SERVICE_HOST", "10.0.0.1"),
                ("RUNNER_OUTPUT_LIMIT", "9000"),
            ],
        )
        .await;
    done.ok("Verifying runner... is valid");
    done.ok("Runner registered successfully.");
    done.ok("Configuration (with the authentication token) was saved in");
    let table = desk.table();
    let runner = table["runners"][0].as_table().unwrap();
    assert_eq!(runner["name"].as_str(), Some("pod"));
    assert_eq!(runner["token"].as_str(), Some(token));
    assert!(runner["id"].as_integer().unwrap() > 0);
    assert_eq!(runner["output_limit"].as_integer(), Some(9000));
    assert_eq!(runner["kubernetes"]["namespace"].as_str(), Some("ci"));
    assert!(runner["kubernetes"].get("privileged").is_none());
    desk.run(&["lint"], &[]).await.ok("Configuration file is valid.");
    assert!(desk.gitlab.violations().is_empty(), "{:?}", desk.gitlab.violations());
    // Again: GitLab Runner would add a second entry.
    let again = ["register", "-n", "--url", &url, "--token", token, "--executor", "kubernetes"];
    desk.run(&again, &[]).await.ok("its entry is replaced");
    assert_eq!(desk.table()["runners"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn manager_40_what_gitlab_decides_is_a_warning_or_a_mistake_depending_on_where_the_token_came()
 {
    let desk = Desk::new().await;
    let (url, token) = (desk.gitlab.url(), desk.gitlab.runner_token());
    let common = ["register", "-n", "--url", &url, "--executor", "kubernetes", "--tag-list", "a,b"];
    let with = |flag, value| [&common[..], &[flag, value]].concat();
    let done = desk.run(&with("--token", token), &[]).await;
    done.fails("configuration is reserved");
    assert!(desk.text().is_empty(), "nothing was written");
    let done = desk.run(&with("--registration-token", token), &[]).await;
    done.ok("--tag-list are set in GitLab");
}

#[tokio::test]
async fn manager_40_a_registration_token_makes_a_runner() {
    let desk = Desk::new().await;
    let url = desk.gitlab.url();
    let done = desk
        .run(
            &["register", "-n", "--url", &url, "--executor", "kubernetes", "--tag-list", "a"],
            &[("REGISTRATION_TOKEN", "legacy-reg")],
        )
        .await;
    done.ok("deprecated");
    let table = desk.table();
    let token = table["runners"][0]["token"].as_str().unwrap();
    assert!(token.starts_with("testkit-registered-"), "{token}");
    desk.run(&["verify"], &[]).await.ok("Verifying runner... is alive");
}

#[tokio::test]
async fn manager_41_register_that_fails_leaves_the_file_alone() {
    let desk = Desk::new().await;
    desk.write(&[("one", desk.gitlab.runner_token())]);
    let before = desk.text();
    let url = desk.gitlab.url();
    let common = ["register", "--non-interactive", "--executor", "kubernetes"];
    let with = |more: &[&'static str]| [&common[..], more].concat();
    let server = ("CI_SERVER_URL", url.as_str());
    let done = desk.run(&with(&["--token", "glrt-wrong"]), &[server]).await;
    done.fails("Failed to verify the runner");
    let done = desk.run(&with(&["-r", "wrong"]), &[server]).await;
    done.fails("Failed to register the runner");
    desk.run(&with(&["--token", "glrt-x"]), &[]).await.fails("The url needs to be entered");
    desk.run(&with(&[]), &[server]).await.fails("The registration-token needs to be entered");
    let done =
        desk.run(&["register", "-n", "--token", "glrt-x", "--executor", "docker"], &[server]).await;
    done.fails("Invalid executor specified");
    let done = desk.run(&with(&["--token", "t", "--access-level", "all"]), &[server]).await;
    done.fails("not_protected or ref_protected");
    desk.run(&with(&["--limit", "many"]), &[server])
        .await
        .fails("--limit: \"many\" is not an integer");
    desk.gitlab.go_away().await;
    let token = desk.gitlab.runner_token();
    let done = desk.run(&[&common[..], &["--token", token]].concat(), &[server]).await;
    done.fails("cannot be reached");
    assert_eq!(desk.text(), before);
}

#[tokio::test]
async fn manager_42_a_template_fills_in_and_must_hold_exactly_one_runner() {
    let desk = Desk::new().await;
    let template = desk.directory.path().join("template.toml");
    let one = "concurrent = 99\n[[runners]]\ntoken = \"glrt-not-this-one\"\nname = \"theirs\"\n\
               executor = \"kubernetes\"\noutput_limit = 8\n[runners.kubernetes]\nimage = \"theirs\"\n\
               [runners.kubernetes.node_selector]\ndisk = \"ssd\"\n";
    let (url, token) = (desk.gitlab.url(), desk.gitlab.runner_token());
    let path = template.to_str().unwrap();
    let arguments = [
        "register",
        "-n",
        "--url",
        &url,
        "--token",
        token,
        "--kubernetes-image=own",
        "--template-config",
        path,
    ];
    for (text, words) in [
        ("concurrent = 3\n", "exactly one"),
        (&format!("{one}{}", "[[runners]]\nname = \"b\"\n"), "exactly one"),
        ("[[runners", "cannot be used"),
    ] {
        std::fs::write(&template, text).unwrap();
        desk.run(&arguments, &[]).await.fails(words);
    }
    std::fs::remove_file(&template).unwrap();
    desk.run(&arguments, &[]).await.fails("exactly one");
    std::fs::write(&template, one).unwrap();
    desk.run(&arguments, &[]).await.ok("registered successfully");
    let table = desk.table();
    assert_eq!(
        table["concurrent"].as_integer(),
        Some(1),
        "global keys of a template have no effect"
    );
    let runner = &table["runners"][0];
    assert_eq!(runner["token"].as_str(), Some(token));
    assert_ne!(runner["name"].as_str(), Some("theirs"));
    assert_eq!(runner["output_limit"].as_integer(), Some(8));
    assert_eq!(runner["kubernetes"]["image"].as_str(), Some("own"));
    assert_eq!(runner["kubernetes"]["node_selector"]["disk"].as_str(), Some("ssd"));
}

#[tokio::test]
async fn manager_44_a_registration_that_cannot_be_written_is_taken_back() {
    let desk = Desk::new().await;
    // `runners` is something that cannot be added to.
    std::fs::write(desk.file(), "runners = []\n").unwrap();
    let url = desk.gitlab.url();
    let arguments =
        ["register", "-n", "--url", &url, "-r", "legacy-reg", "--executor", "kubernetes"];
    desk.run(&arguments, &[]).await.fails("the registration was taken back");
    let unregistered = || desk.paths().iter().filter(|path| path.starts_with("DELETE")).count();
    assert_eq!(unregistered(), 1);
    let leave = [&arguments[..], &["--leave-runner"]].concat();
    desk.run(&leave, &[]).await.fails("not a list of [[runners]]");
    assert_eq!(unregistered(), 1);
}

#[tokio::test]
async fn register_asks_for_what_is_missing() {
    let desk = Desk::new().await;
    let input = format!("{}\n{}\nmine\n\n", desk.gitlab.url(), desk.gitlab.runner_token());
    let done = run_in(&desk.file(), &["register"], &[], &input).await;
    done.ok("registered successfully");
    assert_eq!(desk.table()["runners"][0]["name"].as_str(), Some("mine"));
    let done = run_in(&desk.file(), &["register"], &[], "").await;
    done.fails("use --non-interactive");
}

#[tokio::test]
async fn manager_45_verify_says_valid_or_alive_and_removes_what_is_not() {
    let desk = Desk::new().await;
    let good = desk.gitlab.runner_token().to_owned();
    desk.write(&[("good", &good), ("bad", "glrt-gone"), ("old", "legacy-gone")]);
    let done = desk.run(&["verify"], &[]).await;
    done.fails("Failed to verify runners");
    done.fails("Verifying runner... is valid");
    done.fails("Verifying runner... is not valid");
    done.fails("Verifying runner... is removed");
    desk.run(&["verify", "--name", "good"], &[]).await.ok("is valid");
    desk.run(&["verify", "--token", &good], &[]).await.ok("is valid");
    desk.run(&["verify", "--name", "nobody"], &[]).await.fails("no runner");
    desk.run(&["verify", "--delete"], &[]).await.ok("Updated");
    let text = desk.text();
    assert!(text.starts_with("# ours\nconcurrent = 7\n") && text.contains("# good"), "{text}");
    assert!(!text.contains("gone"), "{text}");
    assert!(desk.directory.path().join(".runner_system_id").exists());
}

#[tokio::test]
async fn manager_45_an_outage_is_no_reason_to_fail_and_is_said_clearly() {
    let desk = Desk::new().await;
    desk.write(&[("one", desk.gitlab.runner_token())]);
    desk.gitlab.go_away().await;
    let done = desk.run(&["verify", "--delete"], &[]).await;
    done.ok("Verifying runner... failed");
    assert!(!done.log.contains("is valid"));
    assert!(desk.text().contains("one"));
}

#[tokio::test]
async fn manager_71_the_official_charts_probe_outlives_an_outage_and_any_log_level() {
    let desk = Desk::new().await;
    desk.write(&[("one", desk.gitlab.runner_token())]);
    desk.run(&["verify", "--url="], &[("LOG_LEVEL", "error")]).await.ok("is valid");
    desk.gitlab.go_away().await;
    desk.run(&["verify", "--url="], &[]).await.ok("GitLab did not answer");
    desk.run(&["verify", "--url="], &[]).await.ok("is valid");
    desk.gitlab.come_back().unwrap();
    desk.write(&[("one", desk.gitlab.runner_token()), ("two", "glrt-gone")]);
    desk.run(&["verify", "--url="], &[]).await.fails("Failed to verify runners");
    desk.write(&[]);
    let nobody = desk.run(&["verify", "--url="], &[]).await;
    assert!(!nobody.log.contains("is valid"), "{}", nobody.log);
}

#[tokio::test]
async fn manager_46_verify_with_an_empty_url_means_all_runners_whatever_the_environment_says() {
    let desk = Desk::new().await;
    desk.write(&[("one", desk.gitlab.runner_token()), ("two", "glrt-gone")]);
    let environment = [("CI_SERVER_URL", "https://elsewhere"), ("CI_SERVER_TOKEN", "x")];
    let done = desk.run(&["verify", "--url="], &environment).await;
    done.fails("is valid");
    done.fails("is not valid");
}

#[tokio::test]
async fn manager_47_unregister_all_keeps_what_failed_and_exits_with_0() {
    let desk = Desk::new().await;
    let url = desk.gitlab.url();
    let arguments =
        ["register", "-n", "--url", &url, "-r", "legacy-reg", "--executor", "kubernetes"];
    desk.run(&arguments, &[]).await.ok("");
    let legacy = desk.table()["runners"][0]["token"].as_str().unwrap().to_owned();
    let created = desk.gitlab.runner_token().to_owned();
    desk.write(&[("created", &created), ("legacy", &legacy), ("gone", "glrt-gone")]);
    let done = desk.run(&["unregister", "--all-runners"], &[]).await;
    done.ok("Unregistering runner from GitLab failed");
    let text = desk.text();
    assert!(
        text.contains("# gone") && !text.contains("# created") && !text.contains("# legacy"),
        "{text}"
    );
    let paths = desk.paths();
    assert!(
        paths.iter().any(|path| path.ends_with("DELETE /api/v4/runners/managers")),
        "{paths:?}"
    );
    assert!(paths.iter().any(|path| path.ends_with("DELETE /api/v4/runners")), "{paths:?}");
    desk.run(&["unregister", "--all-runners", "--strict"], &[]).await.fails("Failed to unregister");
}

#[tokio::test]
async fn manager_48_unregister_by_name_or_token_removes_exactly_that() {
    let desk = Desk::new().await;
    let token = desk.gitlab.runner_token().to_owned();
    desk.write(&[("one", &token), ("two", "glrt-other")]);
    desk.run(&["unregister", "--name", "nobody"], &[]).await.fails("no such runner");
    desk.run(&["unregister"], &[]).await.fails("say which runner");
    desk.run(&["unregister", "--name", "two", "--token", &token], &[])
        .await
        .fails("no such runner");
    desk.run(&["unregister", "--name", "one"], &[]).await.ok("succeeded");
    let text = desk.text();
    assert!(!text.contains("# one") && text.contains("# two") && text.contains("# ours"), "{text}");
}

#[tokio::test]
async fn manager_49_list_lint_reset_token_and_the_rest_of_the_command_line() {
    let desk = Desk::new().await;
    desk.write(&[("one", desk.gitlab.runner_token())]);
    let done = desk.run(&["list"], &[]).await;
    done.ok("Listing configured runners");
    done.ok(desk.gitlab.runner_token());
    desk.run(&["lint"], &[]).await.ok("Configuration file is valid.");
    desk.run(&["reset-token", "--name", "nobody"], &[]).await.fails("no such runner");
    desk.run(&["reset-token", "--name", "one"], &[]).await.ok("renewed");
    let text = desk.text();
    assert!(text.contains("glrt-testkit-reset-") && text.contains("# ours"), "{text}");
    desk.run(&["verify"], &[]).await.ok("is valid");

    let done = desk.run(&["--version"], &[]).await;
    for line in ["Version:", "Git revision:", "Git branch:", "GO version:", "Built:", "OS/Arch:"] {
        assert!(done.out.lines().any(|other| other.starts_with(line)), "{}", done.out);
    }
    assert_eq!(done.code, Some(0));
    let done = desk.run(&[], &[]).await;
    assert_eq!(done.code, Some(0), "no command: help");
    assert_eq!(desk.run(&["--help"], &[]).await.code, Some(0));
    assert_eq!(desk.run(&["dance"], &[]).await.code, Some(1));
    assert_eq!(desk.run(&["verify", "--dance"], &[]).await.code, Some(1));
    let done = desk.run(&["--log-format", "json", "list"], &[]).await;
    let line: serde_json::Value = serde_json::from_str(done.log.lines().next().unwrap()).unwrap();
    assert_eq!((&line["msg"], &line["level"]), (&"Runtime platform".into(), &"info".into()));
    desk.run(&["list"], &[("LOG_LEVEL", "loud")]).await.fails("loud");
}

#[tokio::test]
async fn manager_03_lint_and_config_check_report_what_run_ignores() {
    let desk = Desk::new().await;
    desk.write(&[("one", "glrt-x")]);
    std::fs::write(desk.file(), format!("concurent = 2\n{}", desk.text())).unwrap();
    desk.run(&["lint"], &[]).await.fails("did you mean `concurrent`?");
    let file = desk.file();
    let done = desk.run(&["config", "check", file.to_str().unwrap(), "--effective"], &[]).await;
    assert_eq!(done.code, Some(0), "run would not refuse it: {}", done.out);
    assert!(
        done.out.contains("line 1: `concurent`") && done.out.contains("concurrent = 7"),
        "{}",
        done.out
    );
    assert!(!done.out.contains("glrt-x"));
    std::fs::write(&file, "concurrent = 0\n").unwrap();
    assert_eq!(desk.run(&["config", "check", file.to_str().unwrap()], &[]).await.code, Some(1));
}

#[tokio::test]
async fn a_token_that_stands_as_a_variable_is_not_renewed_into_the_file() {
    let desk = Desk::new().await;
    desk.write(&[("one", "$TOKEN")]);
    let before = desk.text();
    let token = desk.gitlab.runner_token();
    let done = desk.run(&["reset-token", "--name", "one"], &[("TOKEN", token)]).await;
    done.fails("comes from $TOKEN");
    assert_eq!(desk.text(), before);
    // GitLab was not asked: the old one would be void.
    assert_eq!(desk.gitlab.request_counts().get(&Endpoint::ResetToken), None);
}

#[tokio::test]
async fn status_tells_whether_pages_answer() {
    let desk = Desk::new().await;
    desk.run(&["status"], &[]).await.fails("no listen_address");
    desk.run(&["status"], &[("LISTEN_ADDRESS", "127.0.0.1:1")]).await.fails("not running");
}

#[tokio::test]
async fn completions_and_manual_pages_are_made_and_other_names_are_answered_to() {
    let desk = Desk::new().await;
    let done = desk.run(&["completions", "bash"], &[]).await;
    assert!(done.out.contains("podwright") && done.out.contains("reset-token"), "{}", done.out);
    let pages = desk.directory.path().join("man");
    assert_eq!(desk.run(&["man", pages.to_str().unwrap()], &[]).await.code, Some(0));
    let count = std::fs::read_dir(&pages).unwrap().count();
    assert!(count > 10, "{count} pages");
    let other = desk.directory.path().join("gitlab-runner");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_podwright"), &other).unwrap();
    let output = Command::new(&other).args(["verify", "--help"]).output().unwrap();
    assert!(output.status.success());
    let help = String::from_utf8(output.stdout).unwrap();
    assert!(help.contains("gitlab-runner verify"), "{help}");
}
