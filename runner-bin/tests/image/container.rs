//! Images as `deploy/image/build` makes them, and containers of them. `runc` runs them, with the host's network.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::PATIENCE;

/// An unpacked image.
pub(crate) struct Image {
    bundle: PathBuf,
    /// What `umoci` made of the image's own settings.
    config: Value,
}

/// A container that was not started.
pub(crate) struct Container {
    config: Value,
    id: String,
}

/// A container that runs.
pub(crate) struct Running {
    child: Child,
    id: String,
    log: PathBuf,
    directory: tempfile::TempDir,
}

/// What a program said and how it ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
}

static NEXT: AtomicU32 = AtomicU32::new(0);

impl Image {
    /// `None`, and a word about it, where no images were built.
    #[expect(clippy::print_stderr, reason = "a test that was not run must say so")]
    pub(crate) fn named(name: &str) -> Option<Self> {
        let Some(directory) = std::env::var_os("PODWRIGHT_TEST_IMAGES") else {
            eprintln!("left out without PODWRIGHT_TEST_IMAGES (see `.ci/run image`)");
            return None;
        };
        let bundle = Path::new(&directory).join(name);
        let config = std::fs::read(bundle.join("config.json")).unwrap();
        Some(Self { config: serde_json::from_slice(&config).unwrap(), bundle })
    }

    /// A path in the image.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.bundle.join("rootfs").join(path.trim_start_matches('/'))
    }

    pub(crate) fn process(&self) -> &Value {
        &self.config["process"]
    }

    /// What `kubelet` is told by the charts: no capabilities, no way to get some.
    pub(crate) fn container(&self, uid: u32, gid: u32) -> Container {
        let mut config = self.config.clone();
        config["root"] = json!({ "path": self.bundle.join("rootfs"), "readonly": true });
        config["process"]["terminal"] = json!(false);
        config["process"]["user"] = json!({ "uid": uid, "gid": gid });
        config["process"]["noNewPrivileges"] = json!(true);
        config["process"]["capabilities"] = json!({});
        // The host's network, so that servers of the test are reached.
        config["linux"]["namespaces"] =
            json!([{ "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }]);
        config["linux"].as_object_mut().unwrap().remove("resources");
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Container { config, id: format!("podwright-{}-{number}", std::process::id()) }
    }
}

impl Container {
    pub(crate) fn args(mut self, args: &[&str]) -> Self {
        self.config["process"]["args"] = json!(args);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        let env = self.config["process"]["env"].as_array_mut().unwrap();
        env.push(json!(format!("{name}={value}")));
        self
    }

    /// A directory or file of the host, read-only.
    pub(crate) fn mount(self, from: &Path, to: &str) -> Self {
        self.add(json!({
            "destination": to, "source": from, "type": "bind", "options": ["rbind", "ro"],
        }))
    }

    /// A directory of the host that may be written, as an emptyDir outlives its container.
    pub(crate) fn mount_writable(self, from: &Path, to: &str) -> Self {
        self.add(json!({
            "destination": to, "source": from, "type": "bind", "options": ["rbind", "rw"],
        }))
    }

    /// An emptyDir.
    pub(crate) fn empty(self, at: &str) -> Self {
        self.add(json!({
            "destination": at, "source": "tmpfs", "type": "tmpfs",
            "options": ["nosuid", "nodev", "mode=1777"],
        }))
    }

    fn add(mut self, mount: Value) -> Self {
        let mounts = self.config["mounts"].as_array_mut().unwrap();
        mounts.retain(|other| other["type"] != "cgroup");
        mounts.push(mount);
        self
    }

    pub(crate) fn start(self) -> Running {
        let directory = tempfile::tempdir().unwrap();
        let config = serde_json::to_vec(&self.config).unwrap();
        std::fs::write(directory.path().join("config.json"), config).unwrap();
        let log = directory.path().join("log");
        let output = std::fs::File::create(&log).unwrap();
        let mut command = runc(&["run", "--bundle"]);
        command.arg(directory.path()).arg(&self.id).stdin(Stdio::null());
        let child = command.stdout(output.try_clone().unwrap()).stderr(output).spawn().unwrap();
        Running { child, id: self.id, log, directory }
    }

    /// Runs it to its end.
    pub(crate) async fn run(self) -> Done {
        let mut running = self.start();
        let code = running.end().await;
        Done { code, out: running.log() }
    }
}

fn runc(args: &[&str]) -> Command {
    let mut command = Command::new("runc");
    command.args(args);
    command
}

impl Running {
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    pub(crate) async fn says(&self, text: &str) {
        crate::until(&format!("{text:?} in the log"), || self.log().contains(text)).await;
    }

    /// Runs a program in it, as probes and hooks do.
    pub(crate) async fn exec(&self, args: &[&str]) -> Done {
        let mut command = runc(&["exec", &self.id]);
        command.args(args).stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = output.await.unwrap();
        let mut out = String::from_utf8_lossy(&output.stdout).into_owned();
        out += &String::from_utf8_lossy(&output.stderr);
        Done { code: output.status.code(), out }
    }

    /// A signal to its first process, which is how a kubelet ends it.
    pub(crate) fn signal(&self, name: &str) {
        assert!(runc(&["kill", &self.id, name]).status().unwrap().success());
    }

    pub(crate) async fn end(&mut self) -> Option<i32> {
        self.status().await.code()
    }

    async fn status(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the container does not end");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Running {
    #[expect(clippy::print_stderr, reason = "the container's log says why a test failed")]
    fn drop(&mut self) {
        // It may have ended; a test that failed must not leave it.
        drop(runc(&["delete", "--force", &self.id]).stderr(Stdio::null()).status());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("--- {} in {}\n{}", self.id, self.directory.path().display(), self.log());
        }
    }
}
