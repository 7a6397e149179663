//! Which job a payload is about, even when the rest of it cannot be read.

use std::cell::RefCell;
use std::fmt;

use runner_core::ids::JobId;
use runner_core::secret::Secret;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

/// What it takes to tell GitLab anything about a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The job.
    pub id: JobId,
    /// Its token.
    pub token: Secret,
}

/// Finds `id` and `token` at the top level of whatever prefix of `bytes` is JSON: the text may be cut
/// off, nested too deep, or wrong from some point on. Nothing is built of what lies between, so this
/// needs neither the memory nor the stack that a full reading would.
pub(super) fn find(bytes: &[u8]) -> Option<Identity> {
    let found = RefCell::new(Found::default());
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    // An error only says where the readable part ends.
    let _ = deserializer.deserialize_map(Search(&found));
    let Found { id, token } = found.into_inner();
    Some(Identity { id: id?, token: token? })
}

#[derive(Default)]
struct Found {
    id: Option<JobId>,
    token: Option<Secret>,
}

/// Keeps what it finds outside of itself, so that it survives the error that ends the search.
struct Search<'a>(&'a RefCell<Found>);

impl<'de> Visitor<'de> for Search<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a job")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "id" => {
                    let id = job_id(&map.next_value()?);
                    self.0.borrow_mut().id = id;
                }
                "token" => {
                    let OptionalText(token) = map.next_value()?;
                    self.0.borrow_mut().token = token.filter(|token| !token.is_empty());
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// A positive number, or a string that holds one.
fn job_id(value: &Value) -> Option<JobId> {
    let number = value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())?;
    (number > 0).then_some(JobId(number))
}

/// A string; any other value is none.
struct OptionalText(Option<Secret>);

impl<'de> Deserialize<'de> for OptionalText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match Value::deserialize(deserializer)? {
            Value::String(text) => Some(Secret::new(text)),
            _ => None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::find;

    fn found(bytes: &[u8]) -> Option<(u64, String)> {
        find(bytes).map(|identity| (identity.id.0, identity.token.expose().to_owned()))
    }

    #[rstest]
    #[case(r#"{"id":7,"token":"t"}"#)]
    #[case(r#"{"id":"7","token":"t"}"#)]
    #[case(r#"{"token":"t","x":[{"id":9}],"id":7}"#)]
    #[case(r#"{"id":7,"token":"t","variables":[{"key":"a","val"#)]
    #[case(r#"{"id":7,"token":"t","variables":nonsense}"#)]
    #[case(r#"{"id":7,"token":"t"} and more"#)]
    #[case(r#"{"id":7,"token":"t","#)]
    fn api_22_id_and_token_are_found_in_what_is_readable(#[case] text: &str) {
        assert_eq!(found(text.as_bytes()), Some((7, "t".into())));
    }

    #[rstest]
    #[case("")]
    #[case("null")]
    #[case("[1]")]
    #[case("<html>")]
    #[case(r#"{"id":7}"#)]
    #[case(r#"{"token":"t"}"#)]
    #[case(r#"{"id":0,"token":"t"}"#)]
    #[case(r#"{"id":-1,"token":"t"}"#)]
    #[case(r#"{"id":1.5,"token":"t"}"#)]
    #[case(r#"{"id":99999999999999999999,"token":"t"}"#)]
    #[case(r#"{"id":7,"token":""}"#)]
    #[case(r#"{"id":7,"token":null}"#)]
    #[case(r#"{"id":7,"token":["t"]}"#)]
    #[case(r#"{"id":7,"tok"#)]
    fn api_22_what_names_no_job_is_nothing(#[case] text: &str) {
        assert_eq!(found(text.as_bytes()), None);
    }

    #[test]
    fn api_22_depth_does_not_matter() {
        let mut text = br#"{"id":7,"token":"t","x":"#.to_vec();
        text.extend(std::iter::repeat_n(b'[', 1_000_000));
        assert_eq!(found(&text), Some((7, "t".into())));
    }
}
