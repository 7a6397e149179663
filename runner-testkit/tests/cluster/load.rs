//! Many pods at once.

use futures_util::future::join_all;
use http::Method;
use rstest::rstest;
use runner_testkit::cluster::Isolation;
use serde_json::json;

use crate::support::{IMAGE, Sim, pod, settings};

#[rstest]
#[tokio::test]
async fn sixty_pods_at_once_all_come_to_their_own_end(
    #[values(Isolation::Auto, Isolation::Plain)] isolation: Isolation,
) {
    let sim = Sim::start(settings(isolation));
    let one = async |n: usize| {
        let name = format!("p{n}");
        let mut pod = pod(
            &name,
            &format!("while [ ! -e /v/go ]; do sleep 0.05; done; cat /v/go; exit {}", n % 3),
        );
        let mount = json!([{"name": "v", "mountPath": "/v"}]);
        pod["spec"]["volumes"] = json!([{"name": "v", "emptyDir": {}}]);
        pod["spec"]["containers"][0]["volumeMounts"] = mount.clone();
        let svc = json!({
            "name": "svc", "image": IMAGE, "command": ["sh", "-c", "sleep 1000"], "volumeMounts": mount,
        });
        pod["spec"]["containers"].as_array_mut().unwrap().push(svc);
        sim.create(&pod).await;
        let both = |p: &serde_json::Value| {
            let all = p["status"]["containerStatuses"].as_array();
            all.is_some_and(|a| a.iter().all(|c| c["state"]["running"].is_object()))
        };
        sim.until(&name, both).await;
        let script = format!("echo go {n} > /v/tmp; mv /v/tmp /v/go");
        let came = sim.exec(&name, "svc", &script).await.read().await;
        assert_eq!(came.status.unwrap()["status"], "Success");
        let ended = |p: &serde_json::Value| {
            p["status"]["containerStatuses"][0]["state"]["terminated"].is_object()
        };
        let seen = sim.until(&name, ended).await;
        let code = &seen["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"];
        assert_eq!(*code, n % 3);
        let log = sim.path(&format!("pods/{name}/log?container=main"));
        assert_eq!(sim.call(Method::GET, &log, None).await.1, format!("go {n}\n"));
        let path = sim.path(&format!("pods/{name}?gracePeriodSeconds=0"));
        assert_eq!(sim.call(Method::DELETE, &path, None).await.0, 200);
    };
    join_all((0..60).map(one)).await;
    assert!(sim.cluster.pods().is_empty());
}
