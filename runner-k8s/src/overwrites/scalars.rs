//! Namespace, service account, token.

use std::sync::Arc;

use runner_core::plan::HeaderLine;
use runner_core::secret::Secret;

use super::{OverwriteError, Overwrites};
use crate::names::{is_dns_label, is_dns_subdomain};
use crate::settings::Gate;

const NAMESPACE: &str = "KUBERNETES_NAMESPACE_OVERWRITE";
const SERVICE_ACCOUNT: &str = "KUBERNETES_SERVICE_ACCOUNT_OVERWRITE";
const TOKEN: &str = "KUBERNETES_BEARER_TOKEN";

impl Overwrites<'_> {
    pub(super) fn scalars(&mut self) -> Result<(), OverwriteError> {
        let gates = Arc::clone(&self.settings.gates);
        if self.settings.namespace_per_job {
            if self.value(NAMESPACE)?.is_some() {
                self.remarks.push(HeaderLine::warning(format!(
                    "{NAMESPACE} has no effect: with namespace_per_job every job has its own"
                )));
            }
        } else if let Some(value) = self.scalar(NAMESPACE, "namespace", &gates.namespace)? {
            if !is_dns_label(&value) {
                return Err(self.refuse(NAMESPACE, &value, "is not the name of a namespace"));
            }
            self.settings.namespace = value;
        }
        let account = self.scalar(SERVICE_ACCOUNT, "service_account", &gates.service_account)?;
        if let Some(value) = account {
            if !is_dns_subdomain(&value) {
                let problem = "is not the name of a service account";
                return Err(self.refuse(SERVICE_ACCOUNT, &value, problem));
            }
            self.settings.service_account = value;
        }
        self.token(gates.bearer_token)
    }

    fn scalar(
        &mut self,
        variable: &str,
        key: &str,
        gate: &Gate,
    ) -> Result<Option<String>, OverwriteError> {
        let Some(value) = self.value(variable)? else { return Ok(None) };
        let setting = format!("{key}_overwrite_allowed");
        if !gate.is_open() {
            self.without_effect(variable, &setting);
            return Ok(None);
        }
        if !gate.admits(&value) {
            return Err(self.refuse(variable, &value, not_admitted(&setting, gate)));
        }
        self.accepted(variable, key, &value);
        Ok(Some(value))
    }

    fn token(&mut self, allowed: bool) -> Result<(), OverwriteError> {
        let Some(value) = self.value(TOKEN)? else { return Ok(()) };
        if !allowed {
            self.without_effect(TOKEN, "bearer_token_overwrite_allowed");
            return Ok(());
        }
        // Not a character of it: it may not be masked.
        self.remarks.push(HeaderLine::plain(format!("bearer_token is the job's own ({TOKEN})")));
        self.token = Some(Secret::new(value));
        Ok(())
    }
}

/// What is said when a gate does not let a value through.
pub(super) fn not_admitted(setting: &str, gate: &Gate) -> String {
    format!("is not allowed by this runner: {setting} allows what matches {:?}", gate.pattern())
}
