//! What a container's program is called with: command, arguments and environment, with references
//! resolved as a kubelet does, and with mount paths replaced where there are no namespaces.

use std::path::Path;

use serde_json::Value;

use super::super::kinds::{CONFIG_MAPS, SECRETS};
use super::super::settings::ImageSpec;
use super::super::shared::Shared;
use super::process::{DEFAULT_PATH, Mount};
use super::volumes::contents;

/// A container's environment, or the message of `CreateContainerConfigError`.
pub(super) fn environment(
    shared: &Shared,
    pod: &Value,
    container: &Value,
    image: &ImageSpec,
) -> Result<Vec<(String, String)>, String> {
    let namespace = pod["metadata"]["namespace"].as_str().unwrap_or("");
    let name = pod["metadata"]["name"].as_str().unwrap_or("");
    let mut env: Vec<(String, String)> = vec![("PATH".into(), DEFAULT_PATH.into())];
    let set = |env: &mut Vec<(String, String)>, key: &str, value: String| {
        env.retain(|(k, _)| k != key);
        env.push((key.into(), value));
    };
    set(&mut env, "HOSTNAME", name.into());
    set(&mut env, "HOME", "/root".into());
    for (key, value) in &image.env {
        set(&mut env, key, value.clone());
    }
    let lookup = |source: &Value, kind| -> Result<Option<_>, String> {
        let wanted = source["name"].as_str().unwrap_or("");
        match shared.store.get(kind, namespace, wanted) {
            Some(object) => Ok(Some(contents(&object))),
            None if source["optional"] == true => Ok(None),
            None => {
                let kind: &super::super::kinds::Kind = kind;
                Err(format!("{} {wanted:?} not found", kind.kind.to_lowercase()))
            }
        }
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    for from in container["envFrom"].as_array().into_iter().flatten() {
        let prefix = from["prefix"].as_str().unwrap_or("");
        let (source, kind) = if from["secretRef"].is_object() {
            (&from["secretRef"], &SECRETS)
        } else {
            (&from["configMapRef"], &CONFIG_MAPS)
        };
        for (key, bytes) in lookup(source, kind)?.into_iter().flatten() {
            set(&mut env, &format!("{prefix}{key}"), text(&bytes));
        }
    }
    for entry in container["env"].as_array().into_iter().flatten() {
        let key = entry["name"].as_str().unwrap_or_default();
        let from = &entry["valueFrom"];
        let value = if let Some(path) = from["fieldRef"]["fieldPath"].as_str() {
            field(pod, path)
        } else if from["secretKeyRef"].is_object() || from["configMapKeyRef"].is_object() {
            let (source, kind) = if from["secretKeyRef"].is_object() {
                (&from["secretKeyRef"], &SECRETS)
            } else {
                (&from["configMapKeyRef"], &CONFIG_MAPS)
            };
            let item = source["key"].as_str().unwrap_or("");
            match lookup(source, kind)?.and_then(|all| all.get(item).map(|b| text(b))) {
                Some(value) => value,
                None if source["optional"] == true => continue,
                None => {
                    let holder = source["name"].as_str().unwrap_or("");
                    return Err(format!(
                        "couldn't find key {item} in {} {namespace}/{holder}",
                        kind.kind
                    ));
                }
            }
        } else {
            expand(entry["value"].as_str().unwrap_or_default(), &env)
        };
        set(&mut env, key, value);
    }
    Ok(env)
}

/// The program and its arguments.
pub(super) fn argv(container: &Value, image: &ImageSpec, env: &[(String, String)]) -> Vec<String> {
    let list = |key: &str| -> Option<Vec<String>> {
        let items = container[key].as_array().filter(|a| !a.is_empty())?;
        Some(items.iter().map(|v| expand(v.as_str().unwrap_or_default(), env)).collect())
    };
    let (command, args) = (list("command"), list("args"));
    let mut argv = command.clone().unwrap_or_else(|| image.entrypoint.clone());
    // The image's CMD belongs to its ENTRYPOINT only.
    argv.extend(
        args.unwrap_or_else(|| if command.is_some() { Vec::new() } else { image.cmd.clone() }),
    );
    argv
}

/// Replaces `$(NAME)`; `$$(NAME)` stays as `$(NAME)`, unknown names stay as they are.
fn expand(text: &str, env: &[(String, String)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        if let Some(after) = tail.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = tail.strip_prefix('(').and_then(|t| t.split_once(')')) {
            match env.iter().find(|(k, _)| k == name) {
                Some((_, value)) => out.push_str(value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = after;
        } else {
            out.push('$');
            rest = tail;
        }
    }
    out.push_str(rest);
    out
}

/// A field of the pod as the downward API gives it.
pub(super) fn field(pod: &Value, path: &str) -> String {
    if let Some((base, key)) = path.strip_suffix("']").and_then(|p| p.split_once("['")) {
        let at = base.split('.').fold(pod, |at, key| &at[key]);
        return at[key].as_str().unwrap_or_default().into();
    }
    let at = path.split('.').fold(pod, |at, key| &at[key]);
    match at {
        Value::Object(map) => {
            map.iter().map(|(k, v)| format!("{k}={v}\n")).collect::<String>().trim_end().into()
        }
        Value::String(text) => text.clone(),
        _ => String::new(),
    }
}

/// Replaces mount paths by host directories in a text: where a path begins (at the start or
/// after a character that no path has) and a mount path is a whole prefix of it.
pub(super) fn on_host(text: &str, mounts: &[Mount]) -> String {
    let in_path = |c: char| c.is_alphanumeric() || "/._-+@~".contains(c);
    let mut out = String::with_capacity(text.len());
    let mut before = None;
    let mut rest = text;
    'next: while let Some(c) = rest.chars().next() {
        if c == '/' && !before.is_some_and(in_path) {
            // The innermost mount wins.
            for mount in mounts.iter().rev() {
                let Some(path) = mount.path.to_str().filter(|p| *p != "/") else { continue };
                let Some(tail) = rest.strip_prefix(path) else { continue };
                if !tail.chars().next().is_some_and(|c| c != '/' && in_path(c)) {
                    out.push_str(&mount.host.to_string_lossy());
                    before = path.chars().next_back();
                    rest = tail;
                    continue 'next;
                }
            }
        }
        out.push(c);
        before = Some(c);
        rest = &rest[c.len_utf8()..];
    }
    out
}

/// Makes every mount path of a container findable below `root` under its own name.
pub(super) fn link_mounts(root: &Path, mounts: &[Mount]) -> std::io::Result<()> {
    std::fs::create_dir_all(root)?;
    for mount in mounts {
        let link = root.join(mount.path.strip_prefix("/").unwrap_or(&mount.path));
        if let Some(parent) = link.parent() {
            std::fs::create_dir_all(parent)?;
        }
        // Another container of the pod was there first; volumes at the same path are nearly
        // always the same volume, and where not, the texts above are still right.
        if std::fs::symlink_metadata(&link).is_err() {
            std::os::unix::fs::symlink(&mount.host, &link)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn plain_mode_replaces_whole_mount_paths_only() {
        let mount = |path: &str, host: &str| Mount {
            host: host.into(),
            path: path.into(),
            read_only: false,
        };
        let mounts = [mount("/v", "/h/1"), mount("/v/deep", "/h/2")];
        for (text, expected) in [
            ("/v", "/h/1"),
            ("/v/x", "/h/1/x"),
            ("--dir=/v/deep/y", "--dir=/h/2/y"),
            ("/vx /a/v /v", "/vx /a/v /h/1"),
            ("cat '/v/a':/v/deep", "cat '/h/1/a':/h/2"),
            ("http://host/v", "http://host/v"),
        ] {
            assert_eq!(on_host(text, &mounts), expected, "{text}");
        }
    }

    #[test]
    fn variables_in_arguments_are_expanded_as_a_kubelet_does() {
        let env = [("A".to_owned(), "1".to_owned())];
        assert_eq!(expand("$(A) $$(A) $(B) $A $", &env), "1 $(A) $(B) $A $");
        let image = ImageSpec {
            entrypoint: vec!["entry".into()],
            cmd: vec!["cmd".into()],
            ..ImageSpec::default()
        };
        let cases = [
            (json!({}), vec!["entry", "cmd"]),
            (json!({"args": ["x"]}), vec!["entry", "x"]),
            (json!({"command": ["c"]}), vec!["c"]),
            (json!({"command": ["c"], "args": ["$(A)"]}), vec!["c", "1"]),
        ];
        for (container, expected) in cases {
            assert_eq!(argv(&container, &image, &env), expected);
        }
    }
}
