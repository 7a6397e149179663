//! What this container has used so far, by its own control group.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Peaks and sums of one container; `None`: the kernel does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Most memory at once, in bytes.
    pub peak_memory: Option<u64>,
    /// As much as it may have, in bytes; `None` also where there is no limit.
    pub memory_limit: Option<u64>,
    /// Processor time of all its processes.
    pub cpu: Option<Duration>,
    /// How many of its processes were killed because of that limit.
    pub oom_kills: Option<u64>,
}

impl Usage {
    /// Of the container that this process is process 1 of, as Kubernetes makes them. Of any other
    /// process nothing is said: its control group may be the whole machine's.
    pub fn of_this_container() -> Self {
        if std::process::id() != 1 {
            return Self::default();
        }
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self::below(Path::new("/sys/fs/cgroup"), &groups)
    }

    fn below(root: &Path, groups: &str) -> Self {
        if root.join("memory.max").exists() {
            // Not there in the root group, so this one is the container's.
            Self::version_2(root)
        } else if groups.contains("kubepods") {
            Self::version_1(root)
        } else {
            Self::default()
        }
    }

    fn version_2(root: &Path) -> Self {
        Self {
            // Since Linux 5.19.
            peak_memory: number(root, "memory.peak"),
            memory_limit: number(root, "memory.max"),
            cpu: field(root, "cpu.stat", "usage_usec").map(Duration::from_micros),
            oom_kills: field(root, "memory.events", "oom_kill"),
        }
    }

    fn version_1(root: &Path) -> Self {
        let cpu = ["cpuacct/cpuacct.usage", "cpu,cpuacct/cpuacct.usage"];
        Self {
            peak_memory: number(root, "memory/memory.max_usage_in_bytes"),
            // "No limit" is a number close to the largest one.
            memory_limit: number(root, "memory/memory.limit_in_bytes")
                .filter(|limit| *limit < 1 << 62),
            cpu: cpu.into_iter().find_map(|file| number(root, file)).map(Duration::from_nanos),
            oom_kills: field(root, "memory/memory.oom_control", "oom_kill"),
        }
    }
}

fn number(root: &Path, file: &str) -> Option<u64> {
    read(root, file)?.trim().parse().ok()
}

fn read(root: &Path, file: &str) -> Option<String> {
    fs::read_to_string(root.join(file)).ok()
}

/// The number behind a name at the beginning of a line.
fn field(root: &Path, file: &str, name: &str) -> Option<u64> {
    read(root, file)?.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::Usage;

    const KUBERNETES: &str = "4:memory:/kubepods/burstable/pod1/abc\n";

    fn of(groups: &str, files: &[(&str, &str)]) -> Usage {
        let root = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        Usage::below(root.path(), groups)
    }

    #[test]
    fn both_versions_of_control_groups_are_read() {
        let expected = Usage {
            peak_memory: Some(4096),
            memory_limit: Some(8192),
            cpu: Some(Duration::from_millis(2500)),
            oom_kills: Some(1),
        };
        let second = of(
            "0::/\n",
            &[
                ("memory.peak", "4096\n"),
                ("memory.max", "8192\n"),
                ("cpu.stat", "usage_usec 2500000\nuser_usec 1\n"),
                ("memory.events", "low 0\noom 1\noom_kill 1\noom_group_kill 0\n"),
            ],
        );
        let first = of(
            KUBERNETES,
            &[
                ("memory/memory.max_usage_in_bytes", "4096\n"),
                ("memory/memory.limit_in_bytes", "8192\n"),
                ("memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"),
                ("cpuacct/cpuacct.usage", "2500000000\n"),
            ],
        );
        assert_eq!((second, first), (expected, expected));
    }

    #[test]
    fn what_the_kernel_does_not_say_is_not_made_up() {
        assert_eq!(of(KUBERNETES, &[]), Usage::default());
        let machine =
            [("memory/memory.max_usage_in_bytes", "4096\n"), ("cpu.stat", "usage_usec 1\n")];
        assert_eq!(of("4:memory:/\n0::/\n", &machine), Usage::default());
        let unlimited = of("0::/", &[("memory.max", "max\n")]);
        assert_eq!(unlimited.memory_limit, None);
        let unlimited =
            of(KUBERNETES, &[("memory/memory.limit_in_bytes", "9223372036854771712\n")]);
        assert_eq!(unlimited.memory_limit, None);
    }
}
