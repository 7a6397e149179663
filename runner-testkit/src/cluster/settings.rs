//! What a simulated cluster is told before it starts, and what it is told about images.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::rbac::Rule;
use super::scripted::{ScriptedExec, ScriptedProgram};

/// How containers are kept apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// [`Isolation::Namespaces`] where the machine allows it, else [`Isolation::Plain`].
    #[default]
    Auto,
    /// Each container has its own mount and process namespace over a copy-on-write view of the
    /// host's file system: mount paths are real, PID 1 is the container's program and takes
    /// everything with it. Needs root on Linux with overlayfs.
    Namespaces,
    /// Containers are process trees on the host. Mount paths that stand in command, arguments and
    /// environment are replaced by the host directories behind them, and `PODWRIGHT_ROOT` names
    /// a directory in which every mount path of the pod is found under its own name.
    Plain,
}

/// Settings of a [`Cluster`](super::Cluster).
#[derive(Clone, Debug)]
pub struct ClusterSettings {
    /// The namespace of the jobs. It exists from the start, as does `default`.
    pub namespace: String,
    /// How containers are kept apart.
    pub isolation: Isolation,
    /// What the service account of [`Cluster::token`](super::Cluster::token) may do in
    /// [`ClusterSettings::namespace`]. Default: [`Rule::least_privilege`].
    pub rules: Vec<Rule>,
    /// What it may do everywhere, as a `ClusterRole` says. Default: nothing.
    pub cluster_rules: Vec<Rule>,
    /// Time a pod waits for a node. Default: none.
    pub schedule_delay: Duration,
    /// First back-off before a failed container is started again; doubles, as a kubelet's does.
    /// A container's first restart is immediate. Default: 10 s, as a kubelet.
    pub crash_backoff: Duration,
    /// First back-off after a failed image pull; doubles. Default: 10 s, as a kubelet.
    pub pull_backoff: Duration,
    /// How often an idle watch that asked for bookmarks gets one. Default: 60 s, about what a real
    /// server does.
    pub bookmark_interval: Duration,
    /// How many changes a watch can go back; older resource versions are answered with 410.
    pub history: usize,
    /// Where pods keep their directories. Default: a new directory under the system's temporary
    /// one, removed on drop.
    pub work_dir: Option<PathBuf>,
    /// CPUs of the one node: a pod whose requests sum up to more is not scheduled. Pods do not
    /// compete for them.
    pub node_cpus: u32,
    /// Labels of the one node, for node selectors.
    pub node_labels: Vec<(String, String)>,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        ClusterSettings {
            namespace: "ci".into(),
            isolation: Isolation::Auto,
            rules: Rule::least_privilege(),
            cluster_rules: Vec::new(),
            schedule_delay: Duration::ZERO,
            crash_backoff: Duration::from_secs(10),
            pull_backoff: Duration::from_secs(10),
            bookmark_interval: Duration::from_secs(60),
            history: 4096,
            work_dir: None,
            node_cpus: 64,
            node_labels: vec![
                ("kubernetes.io/os".into(), "linux".into()),
                ("kubernetes.io/hostname".into(), super::NODE.into()),
            ],
        }
    }
}

/// What the cluster knows about an image. Its file system is the host's; only its settings differ.
#[derive(Clone, Debug, Default)]
pub struct ImageSpec {
    /// Host directory that an image *volume* of this image shows, read-only.
    pub volume: Option<PathBuf>,
    /// Files and directories of the image that the host does not have at that path: path in the
    /// container, path on the host. Read-only, and in plain mode only found as mount paths are.
    pub files: Vec<(PathBuf, PathBuf)>,
    /// The image's `ENV`.
    pub env: Vec<(String, String)>,
    /// The image's `ENTRYPOINT`.
    pub entrypoint: Vec<String>,
    /// The image's `CMD`.
    pub cmd: Vec<String>,
    /// The image's `WORKDIR`; empty means `/`.
    pub working_dir: String,
    /// How a pull goes.
    pub pull: Pull,
    /// A stand-in for the programs in containers of this image. Default: none, programs are real.
    pub exec: Option<ScriptedExec>,
    /// With [`ImageSpec::exec`]: a stand-in for the container's own program. Default: none, the
    /// container runs until it is told to stop.
    pub program: Option<ScriptedProgram>,
}

/// How a pull of an image goes. An image is on the node after its first successful pull.
#[derive(Clone, Debug, Default)]
pub struct Pull {
    /// The image is on the node from the start, so that `IfNotPresent` and `Never` do not pull.
    pub present: bool,
    /// Time a pull takes.
    pub delay: Duration,
    /// Messages of the pulls that fail, one for each, first to last; then pulls succeed.
    pub failures: Vec<String>,
}

impl ImageSpec {
    /// An image that is on the node and has no settings.
    #[must_use]
    pub fn present() -> Self {
        ImageSpec { pull: Pull { present: true, ..Pull::default() }, ..ImageSpec::default() }
    }

    /// The agent's image, made of this program, which must obey the agent's command line when it is
    /// called `podwright-agent`. `dir` is a new or empty directory for it.
    ///
    /// # Errors
    /// When the program cannot be put there.
    pub fn agent(dir: &Path, program: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(dir)?;
        let inside = dir.join("podwright-agent");
        // Debug builds are large; only another file system needs a copy.
        if std::fs::hard_link(program, &inside).is_err() {
            std::fs::copy(program, &inside)?;
        }
        Ok(Self::volume(dir))
    }

    /// An image that is on the node and whose containers are no processes.
    #[must_use]
    pub fn scripted(exec: ScriptedExec) -> Self {
        ImageSpec { exec: Some(exec), ..ImageSpec::present() }
    }

    /// An image that is on the node and shows this host directory where it is mounted as a volume.
    #[must_use]
    pub fn volume(dir: impl Into<PathBuf>) -> Self {
        ImageSpec { volume: Some(dir.into()), ..ImageSpec::present() }
    }
}
