//! Azure Blob Storage: addresses, headers, credentials.

use std::time::Duration;

use http::Method;
use http::request::Parts;
use reqsign_azure_storage::{
    Credential, DefaultCredentialProvider, RequestSigner, StaticCredentialProvider,
    UserDelegationSasGrant, UserDelegationSasGranter, UserDelegationSasPermissions as Permissions,
};
use reqsign_core::{Context, Error, Granter, Result, Signer};

use crate::metadata;
use crate::names::in_path;
use crate::settings::AzureSettings;
use crate::store::{Ask, parts, whole_only};

pub(crate) struct Azure {
    settings: AzureSettings,
    login: Login,
}

/// How addresses are signed.
enum Login {
    /// With the account's key.
    Key { read: Signer<Credential>, write: Signer<Credential> },
    /// With a key that the account delegates for some hours; both sides keep what they were given
    /// until it expires.
    Delegated { granter: Granter<Credential>, addresses: UserDelegationSasGranter },
}

impl Azure {
    pub(crate) fn new(settings: AzureSettings, context: Context) -> Self {
        let login = match &settings.key {
            Some(key) => {
                let signer = |permissions: &str| {
                    let request = RequestSigner::new()
                        .with_service_sas_permissions(permissions)
                        .with_service_sas_protocol("https");
                    let key =
                        StaticCredentialProvider::new_shared_key(&settings.account, key.expose());
                    Signer::new(context.clone(), key, request)
                };
                Login::Key { read: signer("r"), write: signer("cw") }
            }
            None => {
                // Replaced for each object.
                let none =
                    UserDelegationSasGrant::for_container(&settings.container, Permissions::READ);
                let endpoint = format!("https://{}.{}", settings.account, settings.domain);
                let addresses = UserDelegationSasGranter::new(&settings.account, none)
                    .with_trusted_endpoint(endpoint);
                let whoever = DefaultCredentialProvider::new();
                Login::Delegated {
                    granter: Granter::new(context, whoever, addresses.clone()),
                    addresses,
                }
            }
        };
        Self { settings, login }
    }

    pub(crate) async fn sign(&self, object: &str, ask: &Ask<'_>, lasts: Duration) -> Result<Parts> {
        let AzureSettings { account, container, domain, .. } = &self.settings;
        let mut address = format!("https://{account}.{domain}/{container}/{}", in_path(object));
        let (method, headers) = match ask {
            Ask::Get => (Method::GET, Vec::new()),
            Ask::Head => (Method::HEAD, Vec::new()),
            Ask::Step(_) => return Err(whole_only()),
            Ask::Put { key } => {
                let mut headers = vec![("x-ms-blob-type", "BlockBlob".to_owned())];
                headers.extend(metadata::value(key).map(|key| ("x-ms-meta-cachekey", key)));
                (Method::PUT, headers)
            }
        };
        match &self.login {
            Login::Key { read, write } => {
                let signer = if method == Method::PUT { write } else { read };
                let mut parts = parts(method, &address, headers)?;
                signer.sign(&mut parts, Some(lasts)).await?;
                Ok(parts)
            }
            Login::Delegated { granter, addresses } => {
                let permissions = match method {
                    Method::PUT => Permissions::CREATE | Permissions::WRITE,
                    _ => Permissions::READ,
                };
                let grant = UserDelegationSasGrant::for_blob(container, object, permissions);
                let granter =
                    granter.clone().with_credential_granter(addresses.clone().with_grant(grant));
                let Credential::SasToken { token, .. } = granter.grant(Some(lasts)).await? else {
                    return Err(Error::unexpected("the account delegated something else"));
                };
                address.push('?');
                address.push_str(token.trim_start_matches('?'));
                parts(method, &address, headers)
            }
        }
    }
}
