//! The pod as a function of job and settings: golden files and rules.

#![expect(clippy::unwrap_used, reason = "clippy knows tests only inside `#[test]` functions")]

use std::time::Duration;

use rstest::rstest;
use runner_core::ids::{JobId, SourceId};
use runner_core::job::{Image, Job, Project, SourceFeatures, Step, Variable};
use runner_core::plan::Plan;
use runner_core::planner::{PlanLookup, PlanSettings, Transfers, plan};
use runner_k8s::names::names;
use runner_k8s::pod::{Abilities, AgentDelivery, PlanItems, PodError, PodInput, adapt, build_pod};
use runner_k8s::settings::{RawSettings, SettingsErrors};
use runner_k8s::{KubernetesSettings, RunnerIdentity};
use serde_json::{Value, json};

fn job() -> Job {
    let public = |key: &str, value: &str| Variable {
        key: key.into(),
        value: value.into(),
        public: true,
        ..Variable::default()
    };
    Job {
        id: JobId(42),
        name: "unit tests".into(),
        project: Project {
            id: 7,
            name: "My Widgets".into(),
            path: "group/widgets".into(),
            reference: "main".into(),
            sha: "0123456789abcdef0123456789abcdef01234567".into(),
        },
        sources: None,
        variables: vec![
            public("CI_PROJECT_PATH", "group/widgets"),
            public("CI_PROJECT_NAMESPACE", "group/sub"),
            public("TAG", "12"),
        ],
        steps: vec![Step { name: "script".into(), script: vec!["make".into()] }],
        image: Some(Image { name: "debian:$TAG".into(), ..Image::default() }),
        services: Vec::new(),
        artifacts: Vec::new(),
        dependencies: Vec::new(),
        caches: Vec::new(),
        registries: Vec::new(),
        timeout: Duration::from_secs(3600),
        features: SourceFeatures::default(),
        url: Some("https://gitlab.example/group/widgets/-/jobs/42".into()),
        ..Job::empty(JobId(0))
    }
}

fn planned(job: &Job) -> Plan {
    plan(job, &PlanSettings::default(), Transfers::default()).unwrap()
}

fn resolve(toml: &str) -> Result<KubernetesSettings, SettingsErrors> {
    let head = "namespace = \"ci\"\nhelper_image = \"helper:1\"\nagent_image = \"agent:1\"\n";
    let raw: RawSettings = toml::from_str(&format!("{head}{toml}")).unwrap();
    KubernetesSettings::resolve(&raw)
}

fn pod_of(job: &Job, toml: &str) -> Result<Value, PodError> {
    let settings = resolve(toml).unwrap();
    let runner = RunnerIdentity {
        source: SourceId("https://gitlab.example#hash".into()),
        name: "blue runner".into(),
        short_token: "t0k3n_-".into(),
        manager: "m1".into(),
    };
    let names = names(&runner, job.id, job.project.id, "0");
    let items = PlanItems {
        secrets: vec![(names.record.clone(), vec!["plan.0".into()])],
        pull_secret: None,
    };
    let plan = planned(job);
    let input = PodInput {
        settings: &settings,
        runner: &runner,
        job,
        lookup: &PlanLookup::new(&plan),
        names: &names,
        items: &items,
    };
    build_pod(&input).map(|built| built.pod.to_value())
}

fn spec(toml: &str) -> Value {
    pod_of(&job(), toml).unwrap()["spec"].clone()
}

fn container<'v>(spec: &'v Value, name: &str) -> &'v Value {
    let all = spec["containers"].as_array().unwrap();
    all.iter().find(|container| container["name"] == name).unwrap()
}

/// Leaves out what changes with the planner and not with the pod.
fn without_environment(mut pod: Value) -> Value {
    for container in pod["spec"]["containers"].as_array_mut().unwrap() {
        container.as_object_mut().unwrap().remove("env");
    }
    pod
}

#[test]
fn a_plain_job() {
    let pod = pod_of(&job(), "").unwrap();
    insta::assert_json_snapshot!(without_environment(pod));
}

#[test]
fn a_job_with_all_there_is() {
    let mut job = job();
    job.image.as_mut().unwrap().user = Some("1000:1001".into());
    job.services = vec![
        Image {
            name: "r.example:5000/team/postgres:16".into(),
            aliases: vec!["db".into()],
            ..Image::default()
        },
        Image {
            name: "redis".into(),
            entrypoint: Some(vec!["redis-server".into()]),
            command: Some(vec!["--port".into(), "6380".into()]),
            ..Image::default()
        },
    ];
    let pod = pod_of(
        &job,
        r#"
        pull_policy = ["if-not-present", "always"]
        image_pull_secrets = ["registry"]
        cpu_request = "500m"
        memory_limit = "1Gi"
        helper_memory_limit = "256Mi"
        service_cpu_limit = "1"
        ephemeral_storage_limit = "0"
        service_account = "builder"
        automount_service_account_token = false
        privileged = false
        allow_privilege_escalation = false
        cap_drop = ["ALL"]
        priority_class_name = "low"
        pod_termination_grace_period_seconds = 5
        [node_selector]
        pool = "ci"
        [node_tolerations]
        "dedicated=ci" = "NoSchedule"
        "spot" = ""
        [pod_labels]
        team = "$CI_PROJECT_NAMESPACE"
        "job.runner.gitlab.com/pod" = "mine"
        [pod_annotations]
        note = "$TAG"
        [pod_security_context]
        run_as_non_root = true
        fs_group = 1000
        [pod_security_context.seccomp_profile]
        type = "RuntimeDefault"
        [build_container_security_context]
        read_only_root_filesystem = true
        [[volumes.empty_dir]]
        name = "tmp"
        mount_path = "/tmp"
        medium = "Memory"
        size_limit = "64Mi"
        [[volumes.host_path]]
        name = "docker"
        mount_path = "/var/run/docker.sock"
        read_only = true
        [[volumes.pvc]]
        name = "cache"
        mount_path = "/cache/$TAG"
        sub_path = "a"
        [[volumes.pvc]]
        name = "cache"
        mount_path = "/more"
        [[volumes.secret]]
        name = "key"
        mount_path = "/key"
        [volumes.secret.items]
        a = "b"
        [[volumes.config_map]]
        name = "conf"
        mount_path = "/conf"
        "#,
    );
    insta::assert_json_snapshot!(without_environment(pod.unwrap()));
}

#[test]
fn a_pod_for_a_cluster_that_can_do_little() {
    let mut pod = pod_of(&job(), "helper_cpu_limit = \"1\"").unwrap();
    let abilities = Abilities { agent: AgentDelivery::InitContainer, restart_rules: false };
    adapt(&mut pod, abilities, &json!({ "runAsUser": 0 }));
    insta::assert_json_snapshot!(without_environment(pod));
}

#[test]
fn what_a_cluster_can_do_is_left_alone() {
    let mut pod = pod_of(&job(), "").unwrap();
    let before = pod.clone();
    let abilities = Abilities { agent: AgentDelivery::ImageVolume, restart_rules: true };
    adapt(&mut pod, abilities, &Value::Null);
    assert_eq!(pod, before);
}

#[test]
fn k8s_95_only_the_helper_sees_plan_and_state_and_services_see_nothing_of_the_runner() {
    let mut job = job();
    job.services = vec![Image { name: "redis".into(), ..Image::default() }];
    let spec = pod_of(&job, "").unwrap()["spec"].clone();
    let mounts = |name: &str| {
        let all = container(&spec, name)["volumeMounts"].as_array().unwrap();
        let name = |mount: &Value| mount["name"].as_str().unwrap().to_owned();
        all.iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(mounts("svc-0"), ["repo"]);
    assert_eq!(mounts("build"), ["repo", "podwright-agent", "podwright-link"]);
    assert!(mounts("helper").contains(&"podwright-plan".to_owned()));
    let build = container(&spec, "build")["volumeMounts"].as_array().unwrap();
    assert!(build[1..].iter().all(|mount| mount["readOnly"] == true));
}

#[test]
fn k8s_85_the_pod_lives_longer_than_all_deadlines_of_its_plan() {
    let job = job();
    let plan = planned(&job);
    let deadline = pod_of(&job, "").unwrap()["spec"]["activeDeadlineSeconds"].as_u64().unwrap();
    assert!(Duration::from_secs(deadline) > plan.timeout + plan.hold + Duration::from_secs(180));
}

#[test]
fn k8s_38_an_alias_takes_neither_the_builds_name_nor_another_services() {
    let mut job = job();
    let service = |alias: &str| Image {
        name: "redis".into(),
        aliases: if alias.is_empty() { Vec::new() } else { vec![alias.into()] },
        ..Image::default()
    };
    job.services = vec![service("build"), service("svc-1"), service(""), service("svc-1")];
    let spec = pod_of(&job, "").unwrap()["spec"].clone();
    let mut names: Vec<_> = spec["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| c["name"].as_str().unwrap())
        .collect();
    assert_eq!(names[..2], ["helper", "build"]);
    names.sort_unstable();
    names.dedup();
    assert_eq!(names, ["build", "helper", "svc-0", "svc-1", "svc-2", "svc-3"]);
}

#[test]
fn k8s_39_services_are_reached_by_image_and_alias() {
    let mut job = job();
    job.services = vec![
        Image {
            name: "r.example:5000/team/pg:16".into(),
            aliases: vec!["db".into()],
            ..Image::default()
        },
        Image { name: "web".into(), ports: vec![80], ..Image::default() },
    ];
    let aliases = &pod_of(&job, "").unwrap()["spec"]["hostAliases"];
    // `r.example__team__pg` is no host name.
    assert_eq!(*aliases, json!([{ "ip": "127.0.0.1", "hostnames": ["r.example-team-pg", "db"] }]));
    job.services[0].aliases = vec!["Not_A_Host".into()];
    assert!(pod_of(&job, "").unwrap_err().to_string().contains("Not_A_Host"));
}

#[test]
fn k8s_40_a_dollar_in_the_environment_is_not_kubernetes_business() {
    let mut job = job();
    job.variables.push(Variable {
        key: "PRICE".into(),
        value: "$(HOME) $$5".into(),
        public: true,
        raw: true,
        ..Variable::default()
    });
    let spec = pod_of(&job, "").unwrap()["spec"].clone();
    let env = container(&spec, "build")["env"].as_array().unwrap().clone();
    let price = env.iter().find(|entry| entry["name"] == "PRICE").unwrap();
    assert_eq!(price["value"], "$$(HOME) $$$$5");
    assert!(container(&spec, "helper").get("env").is_none());
}

#[rstest]
#[case("debian:12", "", Ok("debian:12"))]
#[case("debian:$TAG", "", Ok("debian:12"))]
#[case("", "image = \"alpine:$TAG\"", Ok("alpine:12"))]
#[case("", "", Err("the job names no image"))]
#[case("evil:1", "allowed_images = [\"debian:*\"]", Err("\"evil:1\" is not allowed"))]
#[case("debian:1", "allowed_images = [\"debian:*\"]", Ok("debian:1"))]
#[case("r/a/b:1", "allowed_images = [\"r/**/*:*\"]", Ok("r/a/b:1"))]
#[case("alpine:3", "image = \"alpine:3\"\nallowed_images = [\"x\"]", Ok("alpine:3"))]
#[case("helper:1", "allowed_images = [\"x\"]", Ok("helper:1"))]
fn k8s_10_k8s_11_which_image_runs(
    #[case] image: &str,
    #[case] toml: &str,
    #[case] expected: Result<&str, &str>,
) {
    let mut job = job();
    job.image.as_mut().unwrap().name = image.into();
    match (pod_of(&job, toml), expected) {
        (Ok(pod), Ok(image)) => assert_eq!(container(&pod["spec"], "build")["image"], image),
        (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
        (got, expected) => panic!("{got:?}, not {expected:?}"),
    }
}

#[rstest]
#[case(&[], "", Ok(None))]
#[case(&[], "pull_policy = \"always\"", Ok(Some("Always")))]
#[case(&[], "pull_policy = [\"never\", \"always\"]", Ok(Some("Never")))]
#[case(&["always"], "", Err("not allowed"))]
#[case(&["always"], "pull_policy = [\"if-not-present\", \"always\"]", Ok(Some("Always")))]
#[case(&["never"], "allowed_pull_policies = [\"never\"]\npull_policy = \"always\"", Ok(Some("Never")))]
#[case(&["sometimes"], "", Err("sometimes"))]
#[case(&[], "allowed_pull_policies = [\"never\"]\npull_policy = \"always\"", Err("runner's configuration"))]
fn k8s_13_which_pull_policy_comes_first(
    #[case] wanted: &[&str],
    #[case] toml: &str,
    #[case] expected: Result<Option<&str>, &str>,
) {
    let mut job = job();
    // The helper goes by the settings; here only the job's own image is asked about.
    job.image.as_mut().unwrap().pull_policies = wanted.iter().map(|&p| p.to_owned()).collect();
    match (pod_of(&job, toml), expected) {
        (Ok(pod), Ok(policy)) => {
            let found = container(&pod["spec"], "build").get("imagePullPolicy");
            assert_eq!(found.and_then(Value::as_str), policy);
        }
        (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
        (got, expected) => panic!("{got:?}, not {expected:?}"),
    }
}

#[rstest]
#[case::default("", json!({ "drop": ["NET_RAW"] }))]
#[case::cap_add("cap_add = [\"NET_RAW\", \"SYS_TIME\"]", json!({ "add": ["NET_RAW", "SYS_TIME"] }))]
#[case::drop_wins("cap_add = [\"A\"]\ncap_drop = [\"A\"]", json!({ "drop": ["A", "NET_RAW"] }))]
#[case::own_drop(
    "[build_container_security_context.capabilities]\ndrop = [\"ALL\"]",
    json!({ "drop": ["ALL"] })
)]
fn k8s_30_capabilities(#[case] toml: &str, #[case] expected: Value) {
    let spec = spec(toml);
    assert_eq!(container(&spec, "build")["securityContext"]["capabilities"], expected);
}

#[rstest]
#[case("1000", Some(json!(1000)), None)]
#[case("1000:1001", Some(json!(1000)), Some(json!(1001)))]
#[case("", None, None)]
fn k8s_32_the_jobs_user_runs_build_but_not_helper(
    #[case] user: &str,
    #[case] uid: Option<Value>,
    #[case] gid: Option<Value>,
) {
    let mut job = job();
    job.image.as_mut().unwrap().user = Some(user.into());
    let pod = pod_of(&job, "").unwrap();
    let context = &container(&pod["spec"], "build")["securityContext"];
    assert_eq!(context.get("runAsUser"), uid.as_ref());
    assert_eq!(context.get("runAsGroup"), gid.as_ref());
    assert!(container(&pod["spec"], "helper")["securityContext"].get("runAsUser").is_none());
}

#[rstest]
#[case("0")]
#[case("00")]
#[case("1000:0")]
#[case("root")]
#[case("-1")]
fn k8s_32_root_and_names_are_refused(#[case] user: &str) {
    let mut job = job();
    job.image.as_mut().unwrap().user = Some(user.into());
    assert!(pod_of(&job, "").is_err());
}

#[test]
fn k8s_32_settings_win_over_the_jobs_user() {
    let mut job = job();
    job.image.as_mut().unwrap().user = Some("1000".into());
    let pod = pod_of(&job, "[pod_security_context]\nrun_as_user = 5").unwrap();
    assert_eq!(container(&pod["spec"], "build")["securityContext"]["runAsUser"], 5);
}

#[test]
fn k8s_35_a_volume_at_the_builds_directory_takes_the_place_of_repo() {
    let spec = spec("[[volumes.empty_dir]]\nname = \"mine\"\nmount_path = \"/builds\"");
    let names: Vec<_> = spec["volumes"].as_array().unwrap().iter().map(|v| &v["name"]).collect();
    assert!(!names.contains(&&json!("repo")), "{names:?}");
}

#[test]
fn a_volume_over_the_runners_own_directories_is_refused() {
    let toml = "[[volumes.empty_dir]]\nname = \"x\"\nmount_path = \"/podwright/state\"";
    assert!(pod_of(&job(), toml).is_err());
}

#[test]
fn k8s_01_every_mistake_is_named_with_its_key() {
    let errors = resolve(
        r#"
        cpu_limit = "lots"
        service_memory_request = "1GiB"
        pull_policy = ["always", "sometimes"]
        host = "https://k8s"
        cert_file = "c.pem"
        [[volumes.pvc]]
        name = "x"
        [[volumes.empty_dir]]
        name = "y"
        mount_path = "/y"
        size_limit = "big"
        "#,
    )
    .unwrap_err();
    let keys: Vec<_> = errors.0.iter().map(|error| error.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "cert_file",
            "cpu_limit",
            "service_memory_request",
            "pull_policy",
            "volumes.pvc[0].mount_path",
            "volumes.empty_dir[0].size_limit",
        ]
    );
}

#[test]
fn k8s_02_a_pull_policy_of_the_wrong_type_fails_at_load() {
    assert!(toml::from_str::<RawSettings>("pull_policy = 3").is_err());
    assert!(toml::from_str::<RawSettings>("pull_policy = [1]").is_err());
}

#[test]
fn k8s_08_no_namespace_is_the_default_one_with_a_warning() {
    let settings = KubernetesSettings::resolve(&RawSettings::default()).unwrap();
    assert_eq!(settings.namespace, "default");
    assert!(settings.warnings.iter().any(|warning| warning.key == "namespace"));
}

/// Patches see a place for each container's environment, unless one of them has to do with it: the
/// pod is the same.
#[test]
fn k8s_46_the_environment_outlives_patches_and_can_be_patched() {
    let mut job = job();
    let flag = "FF_USE_ADVANCED_POD_SPEC_CONFIGURATION";
    let on = |key: &str, value: &str| Variable {
        key: key.into(),
        value: value.into(),
        public: true,
        raw: true,
        ..Variable::default()
    };
    job.variables.extend([on(flag, "true"), on("ODD", "a$b \"c\"\\ \n")]);
    job.services = vec![Image::named("debian:13")];
    let patch = |kind: &str, text: &str| {
        format!("[[pod_spec]]\npatch_type = {kind:?}\npatch = '''{text}'''\n")
    };
    let environments = |pod: &Value| -> Vec<Value> {
        let containers = pod["spec"]["containers"].as_array().unwrap();
        let named = |name: &str| containers.iter().find(|c| c["name"] == name).unwrap();
        ["build", "svc-0"].map(|name| named(name)["env"].clone()).into()
    };
    let plain = environments(&pod_of(&job, "").unwrap());
    let odd = |list: &Value| {
        let mut all = list.as_array().unwrap().iter();
        all.find(|entry| entry["name"] == "ODD").unwrap()["value"].clone()
    };
    assert_eq!(odd(&plain[0]), "a$$b \"c\"\\ \n");
    let elsewhere = [
        patch("merge", "hostNetwork: true"),
        patch("strategic", "containers: [{name: build, tty: true}, {name: first, image: a}]"),
        patch("json", r#"[{"op": "move", "from": "/containers/1", "path": "/containers/0"}]"#),
    ];
    let patched = pod_of(&job, &elsewhere.concat()).unwrap();
    assert_eq!(patched["spec"]["hostNetwork"], true);
    assert_eq!(environments(&patched), plain, "whatever moves around it");
    let own = patch("strategic", "containers: [{name: build, env: [{name: ODD, value: even}]}]");
    let patched = environments(&pod_of(&job, &own).unwrap());
    assert_eq!((odd(&patched[0]), &patched[1]), (json!("even"), &plain[1]));
    assert_eq!(patched[0].as_array().unwrap().len(), plain[0].as_array().unwrap().len());
}
