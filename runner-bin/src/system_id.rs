//! Which of the managers that share a token this one is, to GitLab (`gitlab-api.md` 7.6).

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::path::Path;

use anyhow::Context;
use tracing::warn;

/// The id kept beside the configuration, made if there is none.
///
/// # Errors
/// When the file is there and cannot be read.
pub(crate) fn of(config: &Path) -> anyhow::Result<String> {
    let file = config.with_file_name(".runner_system_id");
    match std::fs::read_to_string(&file) {
        Ok(text) if is_valid(text.trim()) => return Ok(text.trim().to_owned()),
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            return Err(error).with_context(|| format!("cannot read {}", file.display()));
        }
    }
    let id = random();
    if let Err(error) = std::fs::write(&file, &id) {
        // In a container with a read-only file system it is a new one at each start.
        warn!(%error, file = %file.display(), "the system id cannot be kept");
    }
    Ok(id)
}

fn is_valid(id: &str) -> bool {
    let rest = id.strip_prefix("s_").or_else(|| id.strip_prefix("r_"));
    rest.is_some_and(|rest| {
        rest.len() == 12 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// `r_` and twelve characters. It needs to differ, not to be secret, so the standard library's random
/// state is enough.
fn random() -> String {
    let digits = format!("{:016x}", RandomState::new().build_hasher().finish());
    format!("r_{}", &digits[..12])
}

#[cfg(test)]
mod tests {
    use super::{is_valid, of};

    #[test]
    fn manager_the_system_id_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config.toml");
        let first = of(&config).unwrap();
        assert!(is_valid(&first), "{first}");
        assert_eq!(of(&config).unwrap(), first);
        std::fs::write(dir.path().join(".runner_system_id"), "nonsense").unwrap();
        assert_ne!(of(&config).unwrap(), "nonsense");
    }
}
