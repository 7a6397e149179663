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
    use super::{Need, needs};
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
}
