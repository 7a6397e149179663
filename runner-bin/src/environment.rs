//! Where things are on this machine, by GitLab Runner's conventions.

use std::path::PathBuf;

/// This machine's name.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// What the default places depend on.
#[derive(Clone, Debug, Default)]
struct Person {
    root: bool,
    home: Option<PathBuf>,
    current: Option<PathBuf>,
}

impl Person {
    fn this() -> Self {
        let root = rustix::process::geteuid().is_root();
        let home = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
        Self { root, home: home.or_else(home_in_passwd), current: std::env::current_dir().ok() }
    }

    fn directory(&self) -> PathBuf {
        match (self.root, &self.home, &self.current) {
            (true, _, _) => PathBuf::from("/etc/gitlab-runner"),
            (false, Some(home), _) => home.join(".gitlab-runner"),
            (false, None, Some(current)) => current.clone(),
            (false, None, None) => PathBuf::from("."),
        }
    }
}

/// The home directory that the system knows for this user.
fn home_in_passwd() -> Option<PathBuf> {
    let uid = rustix::process::geteuid().as_raw().to_string();
    let passwd = std::fs::read_to_string("/etc/passwd").ok()?;
    let home = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.get(2) == Some(&uid.as_str())).then(|| fields.get(5).copied())?
    })?;
    (!home.is_empty()).then(|| PathBuf::from(home))
}

/// `config.toml` where nothing else is said.
pub(crate) fn default_config() -> PathBuf {
    Person::this().directory().join("config.toml")
}

/// Where `<host>.crt` and the like are looked for. It does not follow `--config`.
pub(crate) fn certs_directory() -> PathBuf {
    Person::this().directory().join("certs")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::Person;

    #[test]
    fn manager_01_the_default_place_depends_on_who_runs_it() {
        let home = Some(PathBuf::from("/home/a"));
        let current = Some(PathBuf::from("/work"));
        let root = Person { root: true, home: home.clone(), current: current.clone() };
        assert_eq!(root.directory(), PathBuf::from("/etc/gitlab-runner"));
        let user = Person { root: false, home, current: current.clone() };
        assert_eq!(user.directory(), PathBuf::from("/home/a/.gitlab-runner"));
        let homeless = Person { root: false, home: None, current };
        assert_eq!(homeless.directory(), PathBuf::from("/work"));
    }
}
