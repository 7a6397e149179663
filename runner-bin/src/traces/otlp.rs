//! Spans as OTLP's JSON.

use serde_json::{Value, json};

use super::spans::{JobTrace, Span, SpanStatus};

/// The body of one request.
pub(super) fn body(resource: &[(String, String)], traces: &[JobTrace]) -> Value {
    let spans: Vec<Value> =
        traces.iter().flat_map(|trace| trace.spans.iter().map(|span| one(trace, span))).collect();
    let resource: Vec<Value> = resource
        .iter()
        .map(|(key, value)| attribute(key, json!({ "stringValue": value })))
        .collect();
    json!({ "resourceSpans": [{
        "resource": { "attributes": resource },
        "scopeSpans": [{
            "scope": { "name": "podwright", "version": crate::version::VERSION },
            "spans": spans,
        }],
    }] })
}

fn attribute(key: &str, value: Value) -> Value {
    json!({ "key": key, "value": value })
}

fn one(trace: &JobTrace, span: &Span) -> Value {
    let attributes: Vec<Value> = span
        .attributes
        .iter()
        .map(|(key, value)| attribute(key, json!({ "stringValue": value })))
        .collect();
    let mut out = json!({
        "traceId": format!("{:032x}", trace.id),
        "spanId": format!("{:016x}", span.id),
        "name": span.name,
        // INTERNAL
        "kind": 1,
        // 64 bit numbers are strings in protobuf's JSON.
        "startTimeUnixNano": span.began.as_nanosecond().to_string(),
        "endTimeUnixNano": span.ended.max(span.began).as_nanosecond().to_string(),
        "attributes": attributes,
    });
    if let Some(parent) = span.parent {
        out["parentSpanId"] = format!("{parent:016x}").into();
    }
    match &span.status {
        SpanStatus::Unset => {}
        SpanStatus::Ok => out["status"] = json!({ "code": 1 }),
        SpanStatus::Error(message) => out["status"] = json!({ "code": 2, "message": message }),
    }
    out
}
