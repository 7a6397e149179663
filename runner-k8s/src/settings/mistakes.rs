//! What is wrong with settings, collected so that all of it can be said at once.

use std::fmt;

use super::quantity::{Quantity, is_zero};

/// One mistake in the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsError {
    /// Key below `[runners.kubernetes]`, e.g. `volumes.nfs[0].server`.
    pub key: String,
    /// What it says; `None`: the key is missing or too much.
    pub value: Option<String>,
    /// What it may say, in words.
    pub allowed: String,
    /// The whole sentence without the key.
    pub message: String,
}

/// All mistakes in the settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct SettingsErrors(pub Vec<SettingsError>);

impl fmt::Display for SettingsErrors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(formatter, "{separator}[runners.kubernetes] {}: {}", error.key, error.message)?;
        }
        Ok(())
    }
}

/// Something odd in the settings that does no harm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsWarning {
    /// Key below `[runners.kubernetes]`.
    pub key: String,
    /// What is odd about it, as a sentence without the key.
    pub message: String,
    /// Whether the key is meant for GitLab Runner and does nothing here, on purpose.
    pub is_without_effect: bool,
}

impl fmt::Display for SettingsWarning {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.key, self.message)
    }
}

/// Collects mistakes, and what is odd but does no harm.
#[derive(Default)]
pub(super) struct Mistakes {
    pub(super) errors: Vec<SettingsError>,
    pub(super) warnings: Vec<SettingsWarning>,
}

const QUANTITY: &str = "a quantity such as 500m, 2 or 1Gi";

impl Mistakes {
    /// `value` is not among what is allowed.
    pub(super) fn value(&mut self, key: &str, value: impl fmt::Display, allowed: &str) {
        let value = value.to_string();
        let message = format!("{value:?} is not possible; allowed: {allowed}");
        let (key, allowed) = (key.to_owned(), allowed.to_owned());
        self.errors.push(SettingsError { key, value: Some(value), allowed, message });
    }

    /// A key is missing, or there are two of which only one may be.
    pub(super) fn rule(&mut self, key: &str, rule: &str) {
        let (key, rule) = (key.to_owned(), rule.to_owned());
        self.errors.push(SettingsError { key, value: None, allowed: rule.clone(), message: rule });
    }

    /// Something is odd, and what becomes of it.
    pub(super) fn warn(&mut self, key: &str, message: impl Into<String>) {
        let (key, message) = (key.to_owned(), message.into());
        self.warnings.push(SettingsWarning { key, message, is_without_effect: false });
    }

    /// The key does nothing here.
    pub(super) fn without_effect(&mut self, key: &str, why: &str) {
        let (key, message) = (key.to_owned(), format!("has no effect: {why}"));
        self.warnings.push(SettingsWarning { key, message, is_without_effect: true });
    }

    /// The one of these words that is meant; empty means none.
    pub(super) fn word(&mut self, key: &str, value: &str, allowed: &[&str]) {
        if !value.is_empty() && !allowed.contains(&value) {
            self.value(key, value, &allowed.join(", "));
        }
    }

    /// A key that must be set.
    pub(super) fn required(&mut self, key: &str, value: &str) {
        if value.is_empty() {
            self.rule(key, "must be set");
        }
    }

    /// A quantity as it is written; empty and zero are none.
    pub(super) fn quantity(&mut self, key: &str, text: &str) -> Option<String> {
        if text.is_empty() || is_zero(text) {
            return None;
        }
        match Quantity::parse(text) {
            Some(quantity) if !quantity.is_negative() => Some(text.to_owned()),
            _ => {
                self.value(key, text, QUANTITY);
                None
            }
        }
    }

    /// A number of seconds that must not be negative.
    pub(super) fn seconds(&mut self, key: &str, value: Option<i64>) -> Option<i64> {
        let value = value?;
        if value < 0 {
            self.value(key, value, "seconds, 0 or more");
            return None;
        }
        Some(value)
    }
}
