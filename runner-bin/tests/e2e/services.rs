//! Containers beside the job's.

use runner_testkit::gitlab::{Image, JobSpec, Variable};

use crate::place::is_real;
use crate::world::{PATIENCE, World, failure, success, text};

/// An HTTP server that any image with a shell and perl (which git brings) can run.
const SERVER: &str = r#"use IO::Socket::INET;
my $s = IO::Socket::INET->new(LocalAddr => "0.0.0.0", LocalPort => $ENV{PORT}, Listen => 5, ReuseAddr => 1) or die;
$SIG{PIPE} = 'IGNORE';
while (my $c = $s->accept) { print $c "hello from the service $ENV{GREETING}\n"; close $c; }"#;
/// Waits for it and reads what it says. `$1` is the host.
const CLIENT: &str = r#"use IO::Socket::INET;
for (1..300) { if (my $c = IO::Socket::INET->new("$ARGV[0]:$ENV{PORT}")) { print <$c>; exit 0; } select undef, undef, undef, 0.1; }
exit 1;"#;

pub(crate) fn free_port() -> u16 {
    // In the simulated cluster all pods share this machine's network.
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn spec(image: &str) -> JobSpec {
    let service = Image::new(image)
        .alias("db my-db")
        .entrypoint(["perl", "-e", SERVER])
        .variable("GREETING", "of today");
    JobSpec::new("test")
        .service(service)
        .variable("PORT", free_port().to_string())
        .with(Variable::new("CLIENT", CLIENT).raw())
}

#[tokio::test]
async fn a_service_is_reachable_on_localhost_and_has_its_own_variables() {
    let world = World::new().await;
    let spec = spec(&world.settings.image).script(["perl -e \"$CLIENT\" 127.0.0.1"]);
    let end = world.run_one(spec).await;
    success(&end);
    assert!(text(&end).contains("hello from the service of today"), "{}", text(&end));
}

/// Aliases are lines of the pod's `/etc/hosts`. Without namespaces the simulated cluster has no such
/// file for a pod; there it shows that the pod asks for it.
#[tokio::test]
async fn a_service_is_reachable_by_its_aliases() {
    let world = World::new().await;
    let has_hosts = is_real() || world.cluster().has_namespaces();
    let hosts = ["db", "my-db"].map(|host| format!("perl -e \"$CLIENT\" {host}"));
    let script: Vec<String> = if has_hosts { hosts.into() } else { vec!["sleep 1".into()] };
    let job = world.gitlab.enqueue(spec(&world.settings.image).script(script));
    let manager = world.manager("s_first0000000").await;
    if !is_real() {
        let pod = world.pod().await;
        let pod = world.cluster().pod(&pod).unwrap();
        let hosts = &pod["spec"]["hostAliases"][0];
        assert_eq!(hosts["ip"], "127.0.0.1");
        let names = hosts["hostnames"].as_array().unwrap();
        assert!(["db", "my-db"].iter().all(|name| names.contains(&(*name).into())), "{names:?}");
    }
    let end = job.wait_finished(crate::world::PATIENCE).await.unwrap();
    manager.drain().await;
    success(&end);
    if has_hosts {
        assert_eq!(text(&end).matches("hello from the service of today\n").count(), 2);
    }
    world.check().await;
}

/// A service whose port is checked, and a job that counts on it.
fn checked(world: &World, program: &str) -> JobSpec {
    let port = free_port().to_string();
    let service = Image::new(&world.settings.image)
        .alias("db")
        .entrypoint(["sh", "-c", program, "service", SERVER])
        .variable("HEALTHCHECK_TCP_PORT", port.clone());
    JobSpec::new("test").service(service).variable("PORT", port)
}

/// One try and no waiting: that is the runner's business.
const ONCE: &str = r#"perl -MIO::Socket::INET -e 'my $c = IO::Socket::INET->new("127.0.0.1:$ENV{PORT}") or die "nobody there"; print <$c>'"#;

#[tokio::test]
async fn k8s_41_a_job_begins_when_the_checked_port_of_its_service_answers() {
    let world = World::new().await;
    let spec = checked(&world, "sleep 1; exec perl -e \"$1\"").script([ONCE]);
    let end = world.run_one(spec).await;
    success(&end);
    assert!(text(&end).contains("hello from the service"), "{}", text(&end));
    assert!(text(&end).contains("Waiting for services to be up and running..."), "{}", text(&end));
}

#[tokio::test]
async fn k8s_41_a_service_that_ends_while_it_is_waited_for_fails_the_job_with_its_name() {
    let world = World::new().await;
    let end = world.run_one(checked(&world, "exit 3").script(["echo never"])).await;
    failure(&end, "runner_system_failure");
    let text = text(&end);
    assert!(text.contains("-db ended with exit status 3 while the job waited for"), "{text}");
    assert!(!text.contains("never\n"), "{text}");
}

/// GitLab Runner's other executors say so; on Kubernetes it waits for ever.
#[tokio::test]
async fn k8s_41_a_service_that_takes_too_long_gets_a_warning_and_the_job_goes_on() {
    let mut world = World::new().await;
    world.settings.wait_for_services_timeout = 1;
    let end = world.run_one(checked(&world, "sleep 1000").script(["echo goes on"])).await;
    success(&end);
    let text = text(&end);
    assert!(text.contains("-db probably didn't start properly"), "{text}");
    assert!(text.contains("goes on\n"), "{text}");
}

/// It becomes a number or the job's failure; GitLab Runner pastes it into a shell's command.
#[tokio::test]
async fn k8s_41_a_port_that_is_none_is_refused() {
    let world = World::new().await;
    let service = Image::new(&world.settings.image)
        .variable("HEALTHCHECK_TCP_PORT", "1'; touch /tmp/owned; '");
    let end = world.run_one(JobSpec::new("test").service(service).script(["echo never"])).await;
    failure(&end, "runner_configuration_error");
    assert!(text(&end).contains("it must be a port, 1 to 65535"), "{}", text(&end));
}

#[tokio::test]
async fn k8s_42_a_service_that_ends_while_the_script_runs_does_not_end_the_job() {
    let world = World::new().await;
    let service = Image::new(&world.settings.image).entrypoint(["sh", "-c", "exit 1"]);
    let spec = JobSpec::new("test").service(service).script(["sleep 2; echo done"]);
    success(&world.run_one(spec).await);
}

/// A service that counts, a secret of the job in its output.
fn talking(world: &World) -> JobSpec {
    let program = "for i in $(seq 1 40); do echo \"line $i of $PASSWORD\"; sleep 0.1; done; \
                   printf 'no line feed'; sleep 1000";
    let service = Image::new(&world.settings.image)
        .alias("db second")
        .entrypoint(["sh", "-c", program])
        .variable("PASSWORD", "$JOB_PASSWORD");
    JobSpec::new("test")
        .service(service)
        .with(Variable::new("JOB_PASSWORD", "s3cr3t-of-the-job").masked())
        .variable("CI_DEBUG_SERVICES", "true")
}

fn lines_of_service(trace: &str) -> Vec<String> {
    let lines = trace.lines().filter_map(|line| line.split_once("-db-second] "));
    lines.map(|(_, line)| line.trim_end_matches("\u{1b}[0;m").to_owned()).collect()
}

#[tokio::test]
async fn k8s_43_the_output_of_services_is_in_the_jobs_log_masked_and_with_their_name() {
    let world = World::new().await;
    let end = world.run_one(talking(&world).script(["sleep 5; echo done"])).await;
    success(&end);
    let text = text(&end);
    assert!(text.contains("0fO \u{1b}[0;90m[service:"), "{text}");
    let expected: Vec<String> = (1..=40).map(|i| format!("line {i} of [MASKED]")).collect();
    assert_eq!(lines_of_service(&text)[..40], expected, "{text}");
    assert!(!text.contains("s3cr3t"), "{text}");
}

#[tokio::test]
async fn k8s_43_no_line_of_a_service_is_lost_or_doubled_when_another_manager_takes_over() {
    let world = World::new().await;
    let job = world.gitlab.enqueue(talking(&world).script(["sleep 10; echo done"]));
    let first = world.manager("s_first0000000").await;
    job.wait_trace("line 10 of", PATIENCE).await.unwrap();
    first.vanish();
    let second = world.manager("s_second000000").await;
    let end = job.wait_finished(PATIENCE).await.unwrap();
    second.drain().await;
    success(&end);
    let expected: Vec<String> = (1..=40).map(|i| format!("line {i} of [MASKED]")).collect();
    let lines = lines_of_service(&text(&end));
    assert_eq!(lines[..40], expected, "{}", text(&end));
    assert!(lines.len() <= 41, "{lines:?}");
    world.check().await;
}

#[tokio::test]
async fn the_output_of_services_is_not_shown_without_being_asked_for() {
    let world = World::new().await;
    let spec = talking(&world).variable("CI_DEBUG_SERVICES", "false").script(["sleep 1"]);
    let end = world.run_one(spec).await;
    success(&end);
    assert!(!text(&end).contains("[service:"), "{}", text(&end));
}
