//! Google Cloud Storage: addresses, headers, credentials.

use std::time::Duration;

use http::Method;
use http::request::Parts;
use reqsign_core::{Context, Result, Signer};
use reqsign_google::{
    Credential, DefaultCredentialProvider, FileCredentialProvider, RequestSigner,
    StaticCredentialProvider,
};

use crate::metadata;
use crate::names::in_path;
use crate::settings::{GcsLogin, GcsSettings};
use crate::store::{Ask, parts, whole_only};

pub(crate) struct Gcs {
    settings: GcsSettings,
    /// Largest object; 0: any.
    limit: u64,
    signer: Signer<Credential>,
}

impl Gcs {
    pub(crate) fn new(settings: GcsSettings, limit: u64, context: Context) -> Self {
        let request = RequestSigner::new("storage");
        let signer = match &settings.login {
            GcsLogin::Default => Signer::new(context, DefaultCredentialProvider::new(), request),
            GcsLogin::File(path) => {
                Signer::new(context, FileCredentialProvider::new(path), request)
            }
            GcsLogin::Key { email, key } => {
                // As it stands in a TOML or environment variable, where line feeds are hard to write.
                let key = key.expose().replace("\\n", "\n");
                let file = account(email, &key);
                Signer::new(context, StaticCredentialProvider::new(file), request)
            }
        };
        Self { settings, limit, signer }
    }

    pub(crate) async fn sign(&self, object: &str, ask: &Ask<'_>, lasts: Duration) -> Result<Parts> {
        let GcsSettings { bucket, universe, .. } = &self.settings;
        let address = format!("https://storage.{universe}/{bucket}/{}", in_path(object));
        let (method, headers) = match ask {
            Ask::Get => (Method::GET, Vec::new()),
            Ask::Head => (Method::HEAD, Vec::new()),
            Ask::Step(_) => return Err(whole_only()),
            Ask::Put { key } => (Method::PUT, self.put_headers(key)),
        };
        let mut parts = parts(method, &address, headers)?;
        self.signer.sign(&mut parts, Some(lasts)).await?;
        Ok(parts)
    }

    fn put_headers(&self, key: &str) -> Vec<(&'static str, String)> {
        let mut headers = vec![("content-type", "application/octet-stream".to_owned())];
        if self.limit > 0 {
            headers.push(("x-goog-content-length-range", format!("0,{}", self.limit)));
        }
        headers.extend(metadata::value(key).map(|key| ("x-goog-meta-cachekey", key)));
        headers
    }
}

/// A file of credentials as Google hands them out.
fn account(email: &str, key: &str) -> String {
    serde_json::json!({ "type": "service_account", "client_email": email, "private_key": key })
        .to_string()
}
