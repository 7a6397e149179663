//! Which of the managers that share a token this one is, to GitLab (`gitlab-api.md` 7.6).

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;
use sha2::{Digest, Sha256};
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
    let machine = machine_id();
    let id = machine.as_deref().map_or_else(random, of_machine);
    let options =
        std::fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&file);
    if let Err(error) = options.and_then(|mut file| file.write_all(id.as_bytes())) {
        // In a container with a read-only file system it is made anew at each start; one that follows from the machine
        // (in our chart: from the pod's uid) comes out the same.
        if machine.is_none() {
            warn!(%error, file = %file.display(), "the system id cannot be kept");
        }
    }
    Ok(id)
}

fn is_valid(id: &str) -> bool {
    let rest = id.strip_prefix("s_").or_else(|| id.strip_prefix("r_"));
    rest.is_some_and(|rest| {
        rest.len() == 12 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

fn machine_id() -> Option<String> {
    let read = |file: &str| std::fs::read_to_string(file).ok().map(|text| text.trim().to_owned());
    let id = read("/etc/machine-id").or_else(|| read("/var/lib/dbus/machine-id"))?;
    (!id.is_empty()).then_some(id)
}

/// `s_` and the beginning of HMAC-SHA256 with the machine's id as key: the same on one machine, and
/// the machine's id cannot be told from it.
fn of_machine(machine: &str) -> String {
    const BLOCK: usize = 64;
    let mut key = [0_u8; BLOCK];
    if machine.len() > BLOCK {
        key[..32].copy_from_slice(&Sha256::digest(machine.as_bytes()));
    } else {
        key[..machine.len()].copy_from_slice(machine.as_bytes());
    }
    let pad = |byte: u8| key.map(|other| other ^ byte);
    let inner = Sha256::new().chain_update(pad(0x36)).chain_update(b"gitlab-runner").finalize();
    let outer = Sha256::new().chain_update(pad(0x5c)).chain_update(inner).finalize();
    let digits: String = outer.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("s_{digits}")
}

/// `r_` and twelve characters. It needs to differ, not to be secret, so the standard library's random
/// state is enough.
pub(crate) fn random() -> String {
    let digits = format!("{:016x}", RandomState::new().build_hasher().finish());
    format!("r_{}", &digits[..12])
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{is_valid, of, of_machine, random};

    #[test]
    fn manager_35_the_system_id_is_made_once_and_kept_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config.toml");
        let first = of(&config).unwrap();
        assert!(is_valid(&first), "{first}");
        assert_eq!(of(&config).unwrap(), first);
        let file = dir.path().join(".runner_system_id");
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        for wrong in ["nonsense", "", "s_short", "x_0123456789ab", "s_0123456789a!"] {
            std::fs::write(&file, wrong).unwrap();
            assert!(is_valid(&of(&config).unwrap()));
        }
        std::fs::write(&file, "r_0123456789aB\n").unwrap();
        assert_eq!(of(&config).unwrap(), "r_0123456789aB");
    }

    #[test]
    fn manager_35_an_id_that_cannot_be_kept_is_still_one() {
        let id = of(std::path::Path::new("/nonexistent/config.toml")).unwrap();
        assert!(is_valid(&id));
    }

    #[test]
    fn manager_35_the_id_of_a_machine_is_its_hmac() {
        // echo -n gitlab-runner | openssl dgst -sha256 -hmac machine
        assert!(is_valid(&of_machine("machine")) && is_valid(&random()));
        assert_eq!(of_machine("machine"), "s_e992a88f4684");
        assert_ne!(of_machine("machine"), of_machine("other"));
        assert!(is_valid(&of_machine(&"x".repeat(100))));
    }
}
