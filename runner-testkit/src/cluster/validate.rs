//! Defaults and the rules that a client can run into, with the answers of a real server.

use std::collections::HashSet;

use base64::Engine as _;
use serde_json::{Value, json};

use super::kinds::{CONFIG_MAPS, Kind, PODS, SECRETS};
use super::refusal::{Cause, Refusal};

const MAX_DATA: usize = 1 << 20;

/// Checks an object that is to be created or updated and fills in the defaults.
pub(super) fn admit(kind: &'static Kind, name: &str, object: &mut Value) -> Result<(), Refusal> {
    check_meta(kind, name, object)?;
    if kind == &SECRETS {
        return secret(name, object);
    }
    if kind == &CONFIG_MAPS {
        let size: usize = ["data", "binaryData"]
            .iter()
            .flat_map(|k| object[*k].as_object().into_iter().flatten())
            .map(|(k, v)| k.len() + v.as_str().map_or(0, str::len))
            .sum();
        if size > MAX_DATA {
            return Err(Refusal::invalid(kind, name, &[Cause::too_long("", MAX_DATA)]));
        }
    }
    if kind == &PODS {
        defaults(object);
        pod(name, object)?;
    }
    Ok(())
}

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

fn is_label(text: &str, most: usize) -> bool {
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    text.len() <= most
        && edge(text.chars().next())
        && edge(text.chars().next_back())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(|part| is_label(part, 253))
}

fn check_meta(kind: &'static Kind, name: &str, object: &Value) -> Result<(), Refusal> {
    let mut causes = Vec::new();
    if name.is_empty() {
        causes.push(Cause::required("metadata.name", "name or generateName is required"));
    } else if !is_subdomain(name) {
        causes.push(Cause::invalid("metadata.name", name, SUBDOMAIN));
    }
    for (_, value) in object["metadata"]["labels"].as_object().into_iter().flatten() {
        let value = value.as_str().unwrap_or_default();
        let edge = |c: Option<char>| c.is_none_or(|c| c.is_ascii_alphanumeric());
        let fine = value.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
            && edge(value.chars().next())
            && edge(value.chars().next_back());
        if value.len() > 63 {
            let why = "must be no more than 63 bytes";
            causes.push(Cause::invalid("metadata.labels", value, why));
        } else if !fine {
            causes.push(Cause::invalid("metadata.labels", value, LABEL_VALUE));
        }
    }
    if causes.is_empty() { Ok(()) } else { Err(Refusal::invalid(kind, name, &causes)) }
}

fn secret(name: &str, object: &mut Value) -> Result<(), Refusal> {
    let base64 = &base64::engine::general_purpose::STANDARD;
    let text = object.as_object_mut().and_then(|o| o.remove("stringData"));
    for (key, value) in text.as_ref().and_then(Value::as_object).into_iter().flatten() {
        if !object["data"].is_object() {
            object["data"] = json!({});
        }
        object["data"][key] = base64.encode(value.as_str().unwrap_or_default()).into();
    }
    if object["type"].as_str().is_none_or(str::is_empty) {
        object["type"] = "Opaque".into();
    }
    let mut size = 0;
    for (_, value) in object["data"].as_object().into_iter().flatten() {
        match base64.decode(value.as_str().unwrap_or_default()) {
            Ok(bytes) => size += bytes.len(),
            Err(error) => {
                let at = match error {
                    base64::DecodeError::InvalidByte(at, _) => at,
                    _ => 0,
                };
                return Err(Refusal::bad_request(format!(
                    "Secret in version \"v1\" cannot be handled as a Secret: illegal base64 data at input byte {at}"
                )));
            }
        }
    }
    if size > MAX_DATA {
        let causes = [Cause::too_long("data", MAX_DATA)];
        return Err(Refusal::invalid(&SECRETS, name, &causes));
    }
    let docker = ".dockerconfigjson";
    if object["type"] == "kubernetes.io/dockerconfigjson" && object["data"][docker].is_null() {
        let causes = [Cause::required(format!("data[{docker}]"), "")];
        return Err(Refusal::invalid(&SECRETS, name, &causes));
    }
    Ok(())
}

fn default(object: &mut Value, key: &str, value: impl Into<Value>) {
    if object[key].is_null() {
        object[key] = value.into();
    }
}

fn defaults(object: &mut Value) {
    let spec = &mut object["spec"];
    if !spec.is_object() {
        *spec = json!({});
    }
    default(spec, "restartPolicy", "Always");
    default(spec, "terminationGracePeriodSeconds", 30);
    default(spec, "dnsPolicy", "ClusterFirst");
    default(spec, "schedulerName", "default-scheduler");
    default(spec, "securityContext", json!({}));
    default(spec, "enableServiceLinks", true);
    default(spec, "preemptionPolicy", "PreemptLowerPriority");
    default(spec, "priority", 0);
    let account = spec["serviceAccountName"].as_str().unwrap_or("default").to_owned();
    spec["serviceAccountName"] = account.as_str().into();
    spec["serviceAccount"] = account.into();
    let not = |key: &str| json!({"effect": "NoExecute", "key": key, "operator": "Exists", "tolerationSeconds": 300});
    if !spec["tolerations"].is_array() {
        spec["tolerations"] =
            json!([not("node.kubernetes.io/not-ready"), not("node.kubernetes.io/unreachable")]);
    }
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            if !container.is_object() {
                continue;
            }
            let image = container["image"].as_str().unwrap_or_default();
            let last = image.rsplit('/').next().unwrap_or_default();
            let latest = !image.contains('@') && (!last.contains(':') || last.ends_with(":latest"));
            default(container, "imagePullPolicy", if latest { "Always" } else { "IfNotPresent" });
            default(container, "terminationMessagePath", "/dev/termination-log");
            default(container, "terminationMessagePolicy", "File");
            default(container, "resources", json!({}));
        }
    }
    object["status"] = json!({"phase": "Pending", "qosClass": "BestEffort"});
}

fn pod(name: &str, object: &Value) -> Result<(), Refusal> {
    let spec = &object["spec"];
    for (key, what) in
        [("containers", "Container"), ("initContainers", "Container"), ("volumes", "Volume")]
    {
        if let Some(found) = Some(&spec[key]).filter(|v| !v.is_array() && !v.is_null()) {
            let kind = match found {
                Value::String(_) => "string",
                Value::Number(_) => "number",
                Value::Bool(_) => "bool",
                _ => "object",
            };
            return Err(Refusal::bad_request(format!(
                "Pod in version \"v1\" cannot be handled as a Pod: json: cannot unmarshal {kind} into Go struct field PodSpec.spec.{key} of type []v1.{what}"
            )));
        }
    }
    let mut causes = Vec::new();
    let mut volumes = HashSet::new();
    for (i, volume) in spec["volumes"].as_array().into_iter().flatten().enumerate() {
        let at = format!("spec.volumes[{i}].name");
        match volume["name"].as_str().unwrap_or_default() {
            "" => causes.push(Cause::required(at, "")),
            name if !is_label(name, 63) => causes.push(Cause::invalid(at, name, LABEL)),
            name if !volumes.insert(name) => causes.push(Cause::duplicate(at, name)),
            _ => {}
        }
    }
    let empty = spec["containers"].as_array().is_none_or(Vec::is_empty);
    if empty {
        causes.push(Cause::required("spec.containers", ""));
    }
    let mut names = HashSet::new();
    for list in ["containers", "initContainers"] {
        for (i, container) in spec[list].as_array().into_iter().flatten().enumerate() {
            let at = format!("spec.{list}[{i}]");
            match container["name"].as_str().unwrap_or_default() {
                "" => causes.push(Cause::required(format!("{at}.name"), "")),
                name if !is_label(name, 63) => {
                    causes.push(Cause::invalid(format!("{at}.name"), name, LABEL));
                }
                name if !names.insert(name) => {
                    causes.push(Cause::duplicate(format!("{at}.name"), name));
                }
                _ => {}
            }
            if container["image"].as_str().is_none_or(str::is_empty) {
                causes.push(Cause::required(format!("{at}.image"), ""));
            }
            mounts(&at, container, &volumes, &mut causes);
            let policies = ["Always", "IfNotPresent", "Never"];
            let policy = container["imagePullPolicy"].as_str().unwrap_or_default();
            if !policies.contains(&policy) {
                let at = format!("{at}.imagePullPolicy");
                causes.push(Cause::unsupported(at, policy, &policies));
            }
        }
    }
    let policies = ["Always", "OnFailure", "Never"];
    let policy = spec["restartPolicy"].as_str().unwrap_or_default();
    if !policies.contains(&policy) {
        causes.push(Cause::unsupported("spec.restartPolicy", policy, &policies));
    }
    if causes.is_empty() { Ok(()) } else { Err(Refusal::invalid(&PODS, name, &causes)) }
}

fn mounts(at: &str, container: &Value, volumes: &HashSet<&str>, causes: &mut Vec<Cause>) {
    let mut paths = HashSet::new();
    for (m, mount) in container["volumeMounts"].as_array().into_iter().flatten().enumerate() {
        let volume = mount["name"].as_str().unwrap_or_default();
        let path = mount["mountPath"].as_str().unwrap_or_default();
        if volume.is_empty() {
            causes.push(Cause::required(format!("{at}.volumeMounts[{m}].name"), ""));
        } else if !volumes.contains(volume) {
            causes.push(Cause::not_found(format!("{at}.volumeMounts[{m}].name"), volume));
        }
        if path.is_empty() {
            causes.push(Cause::required(format!("{at}.volumeMounts[{m}].mountPath"), ""));
        } else if !paths.insert(path) {
            let why = "must be unique";
            causes.push(Cause::invalid(format!("{at}.volumeMounts[{m}].mountPath"), path, why));
        }
    }
}
