//! OpenTelemetry's environment variables, as far as they concern traces.

use std::time::Duration;

use runner_core::secret::Secret;

/// Where traces go.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OtlpSettings {
    /// Whole URL.
    pub(super) endpoint: String,
    /// May hold credentials.
    pub(super) headers: Vec<(String, Secret)>,
    /// For one request. Default 10 s, OpenTelemetry's.
    pub(super) timeout: Duration,
    /// `service.name` and whatever else is said about this process.
    pub(super) resource: Vec<(String, String)>,
}

/// Why there are no traces although somebody wants them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OtlpError {
    #[error(
        "{variable} is {value:?}; traces are sent as http/json only. Set it to http/json and the \
         endpoint to the collector's HTTP port, usually 4318"
    )]
    Protocol { variable: &'static str, value: String },
    #[error("{variable} {value:?} is not a URL that begins with http:// or https://")]
    Endpoint { variable: &'static str, value: String },
}

impl OtlpSettings {
    /// What the environment says; `None`: nothing.
    pub(crate) fn of(variable: impl Fn(&str) -> Option<String>) -> Result<Option<Self>, OtlpError> {
        let get = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
        if get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let own = get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
            .map(|value| ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", value));
        let common = get("OTEL_EXPORTER_OTLP_ENDPOINT").map(|value| {
            let base = value.trim_end_matches('/');
            ("OTEL_EXPORTER_OTLP_ENDPOINT", format!("{base}/v1/traces"))
        });
        let Some((name, endpoint)) = own.or(common) else { return Ok(None) };
        if get("OTEL_TRACES_EXPORTER").is_some_and(|value| value.trim() == "none") {
            return Ok(None);
        }
        for name in ["OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"] {
            match get(name) {
                Some(value) if value.trim() != "http/json" => {
                    return Err(OtlpError::Protocol { variable: name, value });
                }
                Some(_) => break,
                None => {}
            }
        }
        if !(endpoint.starts_with("http://") || endpoint.starts_with("https://")) {
            return Err(OtlpError::Endpoint { variable: name, value: endpoint });
        }
        let either = |suffix: &str| {
            get(&format!("OTEL_EXPORTER_OTLP_TRACES_{suffix}"))
                .or_else(|| get(&format!("OTEL_EXPORTER_OTLP_{suffix}")))
        };
        let headers = pairs(&either("HEADERS").unwrap_or_default());
        let timeout = either("TIMEOUT").and_then(|value| value.trim().parse().ok());
        let mut resource = pairs(&get("OTEL_RESOURCE_ATTRIBUTES").unwrap_or_default());
        let service = get("OTEL_SERVICE_NAME");
        if service.is_some() || !resource.iter().any(|(key, _)| key == "service.name") {
            resource.retain(|(key, _)| key != "service.name");
            let service = service.unwrap_or_else(|| "podwright".to_owned());
            resource.insert(0, ("service.name".to_owned(), service));
        }
        Ok(Some(Self {
            endpoint,
            headers: headers.into_iter().map(|(key, value)| (key, Secret::new(value))).collect(),
            timeout: Duration::from_millis(timeout.unwrap_or(10_000)),
            resource,
        }))
    }
}

/// `key=value,key=value`, with percent signs in values.
fn pairs(text: &str) -> Vec<(String, String)> {
    let entries = text.split(',').filter_map(|entry| entry.split_once('='));
    entries.map(|(key, value)| (key.trim().to_owned(), decoded(value.trim()))).collect()
}

fn decoded(text: &str) -> String {
    let mut out = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).filter(|_| *first == b'%');
        let hex = hex.and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                rest = &tail[2..];
            }
            None => {
                out.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{OtlpError, OtlpSettings};

    fn of(variables: &[(&str, &str)]) -> Result<Option<OtlpSettings>, OtlpError> {
        OtlpSettings::of(|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn without_an_endpoint_there_are_no_traces() {
        assert_eq!(of(&[]), Ok(None));
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
        assert_eq!(of(&[endpoint, ("OTEL_SDK_DISABLED", "true")]), Ok(None));
        assert_eq!(of(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]), Ok(None));
    }

    #[test]
    fn the_variables_are_opentelemetrys() {
        let settings = of(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20x, b = c"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "250"),
            ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other,k8s.cluster.name=prod"),
            ("OTEL_SERVICE_NAME", "ci"),
        ]);
        let settings = settings.unwrap().unwrap();
        assert_eq!(settings.endpoint, "http://c:4318/v1/traces");
        assert_eq!(settings.headers[0].1.expose(), "Bearer x");
        assert_eq!(settings.headers[1].0, "b");
        assert_eq!(settings.timeout.as_millis(), 250);
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let resource = [pair("service.name", "ci"), pair("k8s.cluster.name", "prod")];
        assert_eq!(settings.resource, resource);
        assert!(!format!("{settings:?}").contains("Bearer"), "credentials do not print");
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://c/x");
        assert_eq!(of(&[own]).unwrap().unwrap().endpoint, "https://c/x");
    }

    #[test]
    fn what_cannot_work_is_refused_with_what_to_set() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317");
        let error = of(&[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]).unwrap_err();
        assert!(error.to_string().contains("4318"), "{error}");
        let error = of(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "c:4318")]).unwrap_err();
        assert!(error.to_string().contains("http://"), "{error}");
    }
}
