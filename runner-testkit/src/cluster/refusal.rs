//! The answers by which the API server says no: `Status` objects with the codes, reasons and details
//! of a real one.

use std::time::Duration;

use serde_json::{Value, json};

use super::kinds::Kind;

/// An error answer.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) code: u16,
    pub(super) body: Body,
    pub(super) retry_after: Option<Duration>,
}

/// How the answer is written. Real servers answer some things in plain text.
#[derive(Clone, Debug)]
pub(super) enum Body {
    Status(Value),
    Text(String),
}

impl Refusal {
    fn status(code: u16, reason: &str, message: impl Into<String>, details: Option<Value>) -> Self {
        let mut status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": message.into(), "reason": reason,
        });
        if let Some(details) = details {
            status["details"] = details;
        }
        status["code"] = code.into();
        Refusal { code, body: Body::Status(status), retry_after: None }
    }

    pub(super) fn text(code: u16, message: impl Into<String>) -> Self {
        Refusal { code, body: Body::Text(message.into()), retry_after: None }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::status(400, "BadRequest", message, None)
    }

    pub(super) fn unauthorized() -> Self {
        Self::status(401, "Unauthorized", "Unauthorized", None)
    }

    pub(super) fn no_resource() -> Self {
        let message = "the server could not find the requested resource";
        Self::status(404, "NotFound", message, Some(json!({})))
    }

    pub(super) fn method() -> Self {
        let message = "the server does not allow this method on the requested resource";
        Self::status(405, "MethodNotAllowed", message, Some(json!({})))
    }

    pub(super) fn not_found(resource: &str, group: &str, name: &str) -> Self {
        let message = format!("{} {name:?} not found", qualified(resource, group));
        Self::status(404, "NotFound", message, Some(details(resource, group, name)))
    }

    pub(super) fn exists(kind: &Kind, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", qualified(kind.resource, kind.group));
        let details = details(kind.resource, kind.group, name);
        Self::status(409, "AlreadyExists", message, Some(details))
    }

    pub(super) fn modified(kind: &Kind, name: &str) -> Self {
        Self::conflict(
            kind.resource,
            kind.group,
            name,
            "the object has been modified; please apply your changes to the latest version and try again",
        )
    }

    /// An update of a kind that must say which version it replaces.
    pub(super) fn unversioned(kind: &Kind, name: &str) -> Self {
        let target = qualified(kind.resource, kind.group);
        let (field, why) =
            ("metadata.resourceVersion", "Invalid value: 0: must be specified for an update");
        let message = format!("{target} {name:?} is invalid: {field}: {why}");
        let mut details = details(kind.resource, kind.group, name);
        details["causes"] =
            json!([{"reason": "FieldValueInvalid", "message": why, "field": field}]);
        Self::status(422, "Invalid", message, Some(details))
    }

    /// A conflict; deletions name the kind where updates name the resource.
    pub(super) fn conflict(what: &str, group: &str, name: &str, why: &str) -> Self {
        let target = qualified(what, group);
        let message = format!("Operation cannot be fulfilled on {target} {name:?}: {why}");
        Self::status(409, "Conflict", message, Some(details(what, group, name)))
    }

    pub(super) fn forbidden(resource: &str, group: &str, name: &str, why: &str) -> Self {
        let mut message = qualified(resource, group);
        if !name.is_empty() {
            message.push_str(&format!(" {name:?}"));
        }
        message.push_str(&format!(" is forbidden: {why}"));
        Self::status(403, "Forbidden", message, Some(details(resource, group, name)))
    }

    pub(super) fn webhook(name: &str, why: &str) -> Self {
        let message = format!("admission webhook {name:?} denied the request: {why}");
        // A webhook's denial carries neither reason nor details unless the webhook gives them.
        let mut refusal = Self::status(400, "", message, None);
        if let Body::Status(status) = &mut refusal.body
            && let Some(map) = status.as_object_mut()
        {
            map.remove("reason");
        }
        refusal
    }

    pub(super) fn invalid(kind: &Kind, name: &str, causes: &[Cause]) -> Self {
        let each: Vec<String> =
            causes.iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
        let list = if each.len() == 1 { each[0].clone() } else { format!("[{}]", each.join(", ")) };
        let message = format!("{} {name:?} is invalid: {list}", kind.kind);
        let mut details = details(kind.kind, kind.group, name);
        details["causes"] = causes
            .iter()
            .map(|c| json!({"reason": c.reason, "message": c.message, "field": c.field}))
            .collect();
        Self::status(422, "Invalid", message, Some(details))
    }

    pub(super) fn too_large_version(asked: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        let details = json!({
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        });
        let mut refusal = Self::status(504, "Timeout", message, Some(details));
        refusal.retry_after = Some(Duration::from_secs(1));
        refusal
    }

    pub(super) fn expired(asked: u64, oldest: u64) -> Self {
        let message = format!("too old resource version: {asked} ({oldest})");
        Self::status(410, "Expired", message, None)
    }

    pub(super) fn too_large() -> Self {
        let message = "Request entity too large: limit is 3145728";
        Self::status(413, "RequestEntityTooLarge", message, None)
    }

    pub(super) fn too_many(retry_after: Duration) -> Self {
        let message =
            "the server has received too many requests and has asked us to try again later";
        let details = json!({"retryAfterSeconds": retry_after.as_secs()});
        let mut refusal = Self::status(429, "TooManyRequests", message, Some(details));
        refusal.retry_after = Some(retry_after);
        refusal
    }

    pub(super) fn internal(why: &str) -> Self {
        let details = json!({"causes": [{"message": why}]});
        Self::status(500, "InternalError", format!("Internal error occurred: {why}"), Some(details))
    }

    pub(super) fn unavailable() -> Self {
        let message = "the server is currently unable to handle the request";
        Self::status(503, "ServiceUnavailable", message, None)
    }

    /// The `Status` object, also for plain texts.
    pub(super) fn object(&self) -> Value {
        match &self.body {
            Body::Status(status) => status.clone(),
            Body::Text(text) => json!({"kind": "Status", "apiVersion": "v1", "message": text}),
        }
    }
}

/// One thing that is wrong with an object.
#[derive(Clone, Debug)]
pub(super) struct Cause {
    pub(super) reason: &'static str,
    pub(super) field: String,
    pub(super) message: String,
}

impl Cause {
    pub(super) fn required(field: impl Into<String>, more: &str) -> Self {
        let message = if more.is_empty() {
            "Required value".into()
        } else {
            format!("Required value: {more}")
        };
        Cause { reason: "FieldValueRequired", field: field.into(), message }
    }

    pub(super) fn invalid(field: impl Into<String>, value: &str, why: &str) -> Self {
        let message = format!("Invalid value: {value:?}: {why}");
        Cause { reason: "FieldValueInvalid", field: field.into(), message }
    }

    pub(super) fn duplicate(field: impl Into<String>, value: &str) -> Self {
        let message = format!("Duplicate value: {value:?}");
        Cause { reason: "FieldValueDuplicate", field: field.into(), message }
    }

    pub(super) fn not_found(field: impl Into<String>, value: &str) -> Self {
        let message = format!("Not found: {value:?}");
        Cause { reason: "FieldValueNotFound", field: field.into(), message }
    }

    pub(super) fn unsupported(field: impl Into<String>, value: &str, known: &[&str]) -> Self {
        let known: Vec<String> = known.iter().map(|k| format!("{k:?}")).collect();
        let message =
            format!("Unsupported value: {value:?}: supported values: {}", known.join(", "));
        Cause { reason: "FieldValueNotSupported", field: field.into(), message }
    }

    pub(super) fn too_long(field: impl Into<String>, limit: usize) -> Self {
        let message = format!("Too long: may not be more than {limit} bytes");
        Cause { reason: "FieldValueTooLong", field: field.into(), message }
    }
}

fn qualified(resource: &str, group: &str) -> String {
    if group.is_empty() { resource.into() } else { format!("{resource}.{group}") }
}

fn details(kind: &str, group: &str, name: &str) -> Value {
    let mut details = json!({});
    if !name.is_empty() {
        details["name"] = name.into();
    }
    if !group.is_empty() {
        details["group"] = group.into();
    }
    details["kind"] = kind.into();
    details
}
