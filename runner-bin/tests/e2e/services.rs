//! Containers beside the job's.

use runner_testkit::gitlab::{Image, JobSpec, Variable};

use crate::place::is_real;
use crate::world::{World, success, text};

/// An HTTP server that any image with a shell and perl (which git brings) can run.
const SERVER: &str = r#"use IO::Socket::INET;
my $s = IO::Socket::INET->new(LocalAddr => "0.0.0.0", LocalPort => $ENV{PORT}, Listen => 5, ReuseAddr => 1) or die;
while (my $c = $s->accept) { print $c "hello from the service $ENV{GREETING}\n"; close $c; }"#;
/// Waits for it and reads what it says. `$1` is the host.
const CLIENT: &str = r#"use IO::Socket::INET;
for (1..300) { if (my $c = IO::Socket::INET->new("$ARGV[0]:$ENV{PORT}")) { print <$c>; exit 0; } select undef, undef, undef, 0.1; }
exit 1;"#;

fn free_port() -> u16 {
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
