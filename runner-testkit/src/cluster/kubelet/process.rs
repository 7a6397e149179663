//! Programs of containers: starting them, with or without namespaces of their own.
//!
//! Every program is started by a thread of its own. The thread takes on the namespaces that the
//! program shall have (which is per thread on Linux), starts it, and waits for it. The thread also is the
//! parent whose death kills the program (`PR_SET_PDEATHSIG`, by `setpriv` where there is one), so
//! that a test that is killed leaves nothing behind.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive,
    mount_change, mount_remount, unmount,
};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout};
use tokio::sync::oneshot;

/// The search path of containers that set none.
pub(in super::super) const DEFAULT_PATH: &str =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A file or directory of the host that a container sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Mount {
    pub(in super::super) host: PathBuf,
    /// Absolute, in the container.
    pub(in super::super) path: PathBuf,
    pub(in super::super) read_only: bool,
}

/// Where a program runs.
#[derive(Clone, Debug)]
pub(in super::super) enum Place {
    /// In new namespaces.
    New {
        /// An empty directory that becomes the mount point of the container's root.
        scratch: PathBuf,
        mounts: Vec<Mount>,
        read_only_root: bool,
    },
    /// In the namespaces of a running process.
    Of(u32),
    /// On the host.
    Host,
}

/// What is started.
#[derive(Clone, Debug)]
pub(in super::super) struct Program {
    pub(in super::super) argv: Vec<String>,
    pub(in super::super) env: Vec<(String, String)>,
    pub(in super::super) working_dir: PathBuf,
    pub(in super::super) stdin: bool,
    pub(in super::super) place: Place,
}

/// A running program.
#[derive(Debug)]
pub(in super::super) struct Process {
    /// On the host.
    pub(in super::super) pid: u32,
    pub(in super::super) stdin: Option<ChildStdin>,
    pub(in super::super) stdout: ChildStdout,
    pub(in super::super) stderr: ChildStderr,
    pub(in super::super) exit: oneshot::Receiver<ExitStatus>,
}

/// A program could not be started.
#[derive(Debug, thiserror::Error)]
pub(in super::super) enum StartError {
    /// It is not there; the text is what a container runtime says.
    #[error("{0}")]
    NotFound(String),
    #[error("{what}: {source}")]
    Io { what: &'static str, source: io::Error },
}

fn because(what: &'static str) -> impl Fn(io::Error) -> StartError {
    move |source| StartError::Io { what, source }
}

fn errno(what: &'static str) -> impl Fn(rustix::io::Errno) -> StartError {
    move |source| StartError::Io { what, source: source.into() }
}

/// The exit code that Kubernetes reports.
pub(in super::super) fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

struct Raw {
    pid: u32,
    stdin: Option<std::process::ChildStdin>,
    stdout: Option<std::process::ChildStdout>,
    stderr: Option<std::process::ChildStderr>,
    exit: oneshot::Receiver<ExitStatus>,
}

/// Starts a program.
pub(in super::super) async fn start(program: Program) -> Result<Process, StartError> {
    let (tx, rx) = oneshot::channel();
    std::thread::Builder::new()
        .name("sim-container".into())
        .spawn(move || run(&program, tx))
        .map_err(because("start a thread"))?;
    let raw: Raw = rx.await.map_err(|_| because("start")(io::Error::other("thread died")))??;
    let missing = || because("pipes")(io::Error::other("not piped"));
    Ok(Process {
        pid: raw.pid,
        stdin: raw.stdin.map(ChildStdin::from_std).transpose().map_err(because("stdin"))?,
        stdout: ChildStdout::from_std(raw.stdout.ok_or_else(missing)?)
            .map_err(because("stdout"))?,
        stderr: ChildStderr::from_std(raw.stderr.ok_or_else(missing)?)
            .map_err(because("stderr"))?,
        exit: raw.exit,
    })
}

/// The thread of one program: from its namespaces to its end.
fn run(program: &Program, tx: oneshot::Sender<Result<Raw, StartError>>) {
    let mut child = match enter(&program.place).and_then(|()| spawn(program)) {
        Ok(child) => child,
        Err(error) => {
            drop(tx.send(Err(error)));
            return;
        }
    };
    let (exit_tx, exit) = oneshot::channel();
    let raw = Raw {
        pid: child.id(),
        stdin: child.stdin.take(),
        stdout: child.stdout.take(),
        stderr: child.stderr.take(),
        exit,
    };
    if tx.send(Ok(raw)).is_err() {
        drop(child.kill());
    }
    if let Ok(status) = child.wait() {
        let _ = exit_tx.send(status);
    }
}

fn spawn(program: &Program) -> Result<std::process::Child, StartError> {
    let path = program.env.iter().find(|(k, _)| k == "PATH").map_or(DEFAULT_PATH, |(_, v)| v);
    let name = program.argv.first().map_or("", String::as_str);
    find_program(name, path, &program.working_dir).map_err(StartError::NotFound)?;
    let mut argv: Vec<String> = Vec::new();
    if !matches!(program.place, Place::Of(_))
        && let Some(setpriv) = tool("setpriv")
    {
        argv.extend([setpriv, "--pdeathsig".into(), "KILL".into(), "--".into()]);
    }
    if matches!(program.place, Place::New { .. })
        && let Some(mount) = tool("mount")
    {
        // Only a member of the process namespace can mount its own /proc.
        let script = "\"$0\" -t proc proc /proc && exec \"$@\"";
        argv.extend(["/bin/sh".into(), "-c".into(), script.into(), mount]);
    }
    argv.extend(program.argv.iter().cloned());
    let mut command = Command::new(&argv[0]);
    command
        .args(&argv[1..])
        .env_clear()
        .envs(program.env.iter().map(|(k, v)| (k, v)))
        .current_dir(&program.working_dir)
        .stdin(if program.stdin { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0);
    if !program.env.iter().any(|(k, _)| k == "PATH") {
        command.env("PATH", DEFAULT_PATH);
    }
    command.spawn().map_err(because("start the program"))
}

/// Whether the program is there, as the thread's root shows it; else a container runtime's words.
fn find_program(name: &str, path: &str, working_dir: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let runnable = |p: &Path| {
        fs::metadata(p).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0)
    };
    if name.is_empty() {
        return Err("exec failed: args must not be empty".into());
    }
    let start = "unable to start container process: exec:";
    if name.contains('/') {
        let full = working_dir.join(name);
        return match fs::metadata(&full) {
            Err(_) => Err(format!("{start} {name:?}: stat {name}: no such file or directory")),
            Ok(_) if !runnable(&full) => Err(format!("{start} {name:?}: permission denied")),
            Ok(_) => Ok(()),
        };
    }
    if path.split(':').any(|dir| runnable(&Path::new(dir).join(name))) {
        return Ok(());
    }
    Err(format!("{start} {name:?}: executable file not found in $PATH"))
}

fn tool(name: &str) -> Option<String> {
    DEFAULT_PATH
        .split(':')
        .map(|dir| Path::new(dir).join(name))
        .find(|p| p.is_file())
        .map(|p| p.to_string_lossy().into_owned())
}

fn enter(place: &Place) -> Result<(), StartError> {
    match place {
        Place::Host => Ok(()),
        Place::New { scratch, mounts, read_only_root } => {
            unshare(UnshareFlags::NEWNS | UnshareFlags::NEWPID)?;
            build_root(scratch, mounts, *read_only_root)
        }
        Place::Of(pid) => {
            // A thread that shares its root directory with others may not change mount namespaces.
            unshare(UnshareFlags::FS)?;
            for (file, kind) in
                [("pid", LinkNameSpaceType::ProcessID), ("mnt", LinkNameSpaceType::Mount)]
            {
                let space = File::open(format!("/proc/{pid}/ns/{file}"))
                    .map_err(because("open the container's namespace"))?;
                move_into_link_name_space(space.as_fd(), Some(kind))
                    .map_err(errno("enter the container's namespace"))?;
            }
            Ok(())
        }
    }
}

#[expect(deprecated, reason = "the replacement is unsafe for the flag FILES, which is not used")]
fn unshare(flags: UnshareFlags) -> Result<(), StartError> {
    rustix::thread::unshare(flags).map_err(errno("leave the host's namespaces"))
}

/// A copy-on-write view of the host's root with the container's mounts, as this thread's root.
fn build_root(scratch: &Path, mounts: &[Mount], read_only: bool) -> Result<(), StartError> {
    let none = MountFlags::empty();
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(errno("make mounts private"))?;
    // The upper directory must not lie under the lower one on the same file system.
    mount("tmpfs", scratch, "tmpfs", none, None).map_err(errno("mount a scratch file system"))?;
    let (upper, work, root) = (scratch.join("upper"), scratch.join("work"), scratch.join("root"));
    for dir in [&upper, &work, &root] {
        fs::create_dir(dir).map_err(because("make the root"))?;
    }
    let options = format!("lowerdir=/,upperdir={},workdir={}", upper.display(), work.display());
    let options = std::ffi::CString::new(options)
        .map_err(|_| because("make the root")(io::ErrorKind::InvalidInput.into()))?;
    mount("overlay", &root, "overlay", none, Some(options.as_c_str()))
        .map_err(errno("mount the root"))?;
    for (point, directory) in other_file_systems() {
        let inside = root.join(point.strip_prefix("/").unwrap_or(&point));
        // A mount point that the lower root does not have is not worth a failure.
        if directory == inside.is_dir() && inside.exists() {
            let _ = mount_bind_recursive(&point, &inside);
        }
    }
    build_dev(&root.join("dev"))?;
    // Without it a program that looks at devices sees none.
    let _ = mount_bind_recursive("/sys", root.join("sys"));
    let old = root.join(".old");
    fs::create_dir(&old).map_err(because("make the root"))?;
    rustix::process::pivot_root(&root, &old).map_err(errno("change the root"))?;
    rustix::process::chdir("/").map_err(errno("change the root"))?;
    for m in mounts {
        attach(m)?;
    }
    unmount("/.old", UnmountFlags::DETACH).map_err(errno("let go of the host's root"))?;
    drop(fs::remove_dir("/.old"));
    if read_only {
        mount_remount("/", MountFlags::BIND | MountFlags::RDONLY, "")
            .map_err(errno("make the root read-only"))?;
    }
    Ok(())
}

/// Mount points, other than the root, with files that containers may need (a checkout on a disk of its
/// own, a container engine's /etc/hosts), and whether they are directories.
fn other_file_systems() -> Vec<(PathBuf, bool)> {
    const SPECIAL: [&str; 5] = ["/proc", "/sys", "/dev", "/run", "/var/lib"];
    const DISKS: [&str; 9] =
        ["ext4", "ext3", "xfs", "btrfs", "virtiofs", "9p", "fuse", "nfs", "nfs4"];
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines()
        .filter_map(|line| {
            let (left, right) = line.split_once(" - ")?;
            let point = left.split(' ').nth(4)?;
            let disk = DISKS.contains(&right.split(' ').next()?);
            let special = SPECIAL.iter().any(|s| Path::new(point).starts_with(s));
            let path = PathBuf::from(point);
            (disk && !special && point != "/").then(|| (path.clone(), path.is_dir()))
        })
        .collect()
}

fn build_dev(dev: &Path) -> Result<(), StartError> {
    let fail = because("make /dev");
    mount("tmpfs", dev, "tmpfs", MountFlags::empty(), Some(c"mode=755"))
        .map_err(errno("make /dev"))?;
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        File::create(dev.join(name)).map_err(&fail)?;
        mount_bind(Path::new("/dev").join(name), dev.join(name)).map_err(errno("make /dev"))?;
    }
    for name in ["pts", "shm"] {
        fs::create_dir(dev.join(name)).map_err(&fail)?;
    }
    // Without it there are no terminals.
    let _ = mount_bind("/dev/pts", dev.join("pts"));
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        std::os::unix::fs::symlink(target, dev.join(name)).map_err(&fail)?;
    }
    fs::set_permissions(dev.join("shm"), std::os::unix::fs::PermissionsExt::from_mode(0o1777))
        .map_err(&fail)
}

fn attach(m: &Mount) -> Result<(), StartError> {
    let fail = because("make a mount point");
    let host = m.host.strip_prefix("/").unwrap_or(&m.host);
    let source = Path::new("/.old").join(host);
    if source.is_dir() {
        fs::create_dir_all(&m.path).map_err(&fail)?;
    } else {
        if let Some(parent) = m.path.parent() {
            fs::create_dir_all(parent).map_err(&fail)?;
        }
        if !m.path.exists() {
            File::create(&m.path).map_err(&fail)?;
        }
    }
    mount_bind_recursive(&source, &m.path).map_err(errno("mount a volume"))?;
    if m.read_only {
        mount_remount(&m.path, MountFlags::BIND | MountFlags::RDONLY, "")
            .map_err(errno("make a volume read-only"))?;
    }
    Ok(())
}

/// Whether this machine and user can have [`Place::New`]; found out by doing it.
pub(in super::super) async fn namespaces_work(scratch: &Path) -> Result<(), StartError> {
    let program = Program {
        argv: ["/bin/sh", "-c", "test $$ = 1 && test -d /proc/1"].map(Into::into).to_vec(),
        env: Vec::new(),
        working_dir: "/".into(),
        stdin: false,
        place: Place::New { scratch: scratch.into(), mounts: Vec::new(), read_only_root: false },
    };
    if tool("mount").is_none() {
        return Err(StartError::NotFound("there is no mount program".into()));
    }
    let process = start(program).await?;
    match process.exit.await {
        Ok(status) if status.success() => Ok(()),
        status => Err(because("try namespaces")(io::Error::other(format!("{status:?}")))),
    }
}
