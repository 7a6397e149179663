//! Waiting for what pods need and somebody else makes: `resource_availability_check_max_attempts`.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::{Api, Client};
use runner_core::outcome::{Infra, InfraKind};

use crate::settings::KubernetesSettings;

/// Time between two looks: GitLab Runner's. A watch would be quicker, but roles for GitLab Runner
/// allow only `get` on these kinds.
const BETWEEN: Duration = Duration::from_secs(5);

/// Something that must be there before a pod is made.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Need {
    ServiceAccount(String),
    Secret(String),
}

/// What is looked for. The account is the configured one, as in GitLab Runner: an overwritten one is
/// the job's own risk.
fn needs(settings: &KubernetesSettings) -> Vec<Need> {
    if settings.availability_attempts == 0 {
        return Vec::new();
    }
    let account = Some(&settings.service_account).filter(|name| !name.is_empty());
    let secrets = settings.image_pull_secrets.iter().cloned().map(Need::Secret);
    account.cloned().map(Need::ServiceAccount).into_iter().chain(secrets).collect()
}

/// Waits until everything is there. At most `availability_attempts` times five seconds for each.
///
/// # Errors
/// When something is still not there.
pub(crate) async fn wait(client: &Client, settings: &KubernetesSettings) -> Result<(), Infra> {
    let namespace = &settings.namespace;
    for need in needs(settings) {
        let mut left = settings.availability_attempts;
        while let Err(error) = look(client, namespace, &need).await {
            if left == 0 {
                let (kind, name) = match &need {
                    Need::ServiceAccount(name) => ("ServiceAccount", name),
                    Need::Secret(name) => ("Secret", name),
                };
                let message = format!(
                    "timed out waiting for {kind}/{name} in namespace {namespace}: {error}"
                );
                return Err(Infra::new(InfraKind::System, message));
            }
            left -= 1;
            tokio::time::sleep(BETWEEN).await;
        }
    }
    Ok(())
}

async fn look(client: &Client, namespace: &str, need: &Need) -> kube::Result<()> {
    match need {
        Need::ServiceAccount(name) => {
            let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
            api.get_metadata(name).await.map(drop)
        }
        Need::Secret(name) => {
            let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
            // Only what it is called: its content is none of our business.
            api.get_metadata(name).await.map(drop)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use kube::Client;
    use kube::client::Body;
    use serde_json::json;
    use tokio::time::Instant;

    use super::{BETWEEN, Need, needs, wait};
    use crate::settings::{KubernetesSettings, RawSettings};

    #[test]
    fn k8s_54_what_is_looked_for_before_a_pod_is_made() {
        let mut raw = RawSettings {
            service_account: "builder".into(),
            image_pull_secrets: vec!["one".into(), "two".into()],
            ..RawSettings::default()
        };
        let of = |raw: &RawSettings| needs(&KubernetesSettings::resolve(raw).unwrap());
        assert_eq!(of(&raw), []);
        raw.resource_availability_check_max_attempts = -1;
        let secret = |name: &str| Need::Secret(name.into());
        let account = Need::ServiceAccount("builder".into());
        assert_eq!(of(&raw), [account, secret("one"), secret("two")]);
    }

    /// A server that has the account from the so-and-so-many'th question on; the answers it gave.
    fn server(from: usize) -> (Client, Arc<AtomicUsize>) {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let is_there = counter.fetch_add(1, Ordering::Relaxed) + 1 >= from;
            assert_eq!(request.uri().path(), "/api/v1/namespaces/ci/serviceaccounts/builder");
            let (code, body) = match is_there {
                true => (200, json!({ "metadata": { "name": "builder" } })),
                false => (
                    404,
                    json!({ "kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound",
                        "message": "serviceaccounts \"builder\" not found" }),
                ),
            };
            let body = Body::from(body.to_string().into_bytes());
            let answer = http::Response::builder().status(code).body(body).unwrap();
            async move { Ok::<_, std::convert::Infallible>(answer) }
        });
        (Client::new(service, "ci"), asked)
    }

    fn looking(attempts: i64) -> KubernetesSettings {
        KubernetesSettings::resolve(&RawSettings {
            namespace: "ci".into(),
            service_account: "builder".into(),
            resource_availability_check_max_attempts: attempts,
            ..RawSettings::default()
        })
        .unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn k8s_54_what_comes_later_is_waited_for() {
        let (client, asked) = server(3);
        let began = Instant::now();
        wait(&client, &looking(5)).await.unwrap();
        assert_eq!((asked.load(Ordering::Relaxed), began.elapsed()), (3, 2 * BETWEEN));
    }

    #[tokio::test(start_paused = true)]
    async fn k8s_54_what_never_comes_fails_the_job_with_its_name_and_without_the_setting_nobody_looks()
     {
        let (client, asked) = server(usize::MAX);
        let error = wait(&client, &looking(2)).await.unwrap_err();
        assert!(error.message.contains("ServiceAccount/builder in namespace ci"), "{error:?}");
        assert_eq!(asked.load(Ordering::Relaxed), 3, "once, and twice more");
        wait(&client, &looking(0)).await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 3);
    }
}
