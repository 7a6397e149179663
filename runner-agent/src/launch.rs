//! From a script to a process that runs it: which program, with which text, with which files.
//!
//! Used in the build container for the job's scripts and in the helper for hooks. It owns neither
//! the process nor its output.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use runner_core::plan::{Directories, PlanVariable, Script, ScriptLanguage};
use runner_core::shell::{self, Composition, ENV_FILE, JobStatus, ShellKind, env_file};
use rustix::fs::{MemfdFlags, OFlags, memfd_create};

use crate::clock::now_ms;

/// Where shells are looked for, in GitLab Runner's order.
const SHELLS: [&str; 7] = [
    "/usr/local/bin/bash",
    "/usr/bin/bash",
    "/bin/bash",
    "/usr/local/bin/sh",
    "/usr/bin/sh",
    "/bin/sh",
    "/busybox/sh",
];
/// Where PowerShell's packages put it when it is not in `PATH`.
const POWERSHELL: &str = "/opt/microsoft/powershell/7/pwsh";

/// A script and what it sees.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Launch<'a> {
    /// The commands.
    pub(crate) script: &'a Script,
    /// The plan's variables.
    pub(crate) variables: &'a [PlanVariable],
    /// Where things lie; the commands begin in `project`.
    pub(crate) directories: &'a Directories,
    /// What `CI_JOB_STATUS` says.
    pub(crate) job_status: JobStatus,
    /// The shell for images that have none.
    pub(crate) bundled_shell: &'a Path,
}

/// A program that only has to be started. The file has to live until then.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) command: Command,
    /// Lines of `$GITLAB_ENV` that are no assignments.
    pub(crate) skipped: Vec<usize>,
    _text: fs::File,
}

impl Launch<'_> {
    /// Writes the files that the script expects and says how to start it.
    ///
    /// # Errors
    /// When the image lacks what the script needs, in words for the job's author.
    pub(crate) fn prepare(&self) -> Result<Ready, String> {
        if let Some(requirement) = &self.script.requires
            && in_path(&requirement.program).is_none()
        {
            return Err(requirement.message.clone());
        }
        let (program, shell) = self.program()?;
        write_file_variables(self.variables, self.directories)?;
        let env_path = Path::new(&self.directories.temp).join(ENV_FILE);
        let env_file = env_file::parse(&read_env_file(&env_path));
        let text = shell::compose(&Composition {
            shell,
            variables: self.variables,
            env_file: &env_file.assignments,
            directories: self.directories,
            job_status: self.job_status,
            script: self.script,
            began: i64::try_from(now_ms() / 1000).unwrap_or(i64::MAX),
        });
        // A memory file: any size, no place on a disk that may be read-only or full, and not open
        // to other users as a file in a shared directory would be.
        let text = memory_file(&text)
            .map_err(|error| format!("cannot make room for the script in memory: {error}"))?;
        let path = format!("/proc/self/fd/{}", text.as_raw_fd());
        let mut command = Command::new(program);
        match shell {
            ShellKind::PowerShell => command.args(powershell_arguments(&path)),
            _ => command.arg(path),
        };
        if Path::new(&self.directories.project).is_dir() {
            command.current_dir(&self.directories.project);
        }
        Ok(Ready { command, skipped: env_file.skipped, _text: text })
    }

    /// The shell of the image, else the one that came with the agent.
    fn program(&self) -> Result<(PathBuf, ShellKind), String> {
        if self.script.language == ScriptLanguage::PowerShell {
            let installed = || Some(PathBuf::from(POWERSHELL)).filter(|path| is_program(path));
            return match in_path("pwsh").or_else(installed) {
                Some(path) => Ok((path, ShellKind::PowerShell)),
                None => {
                    Err("the runner is set up for PowerShell (shell = \"pwsh\") and the job's \
                             image has no pwsh; use an image that has it"
                        .to_owned())
                }
            };
        }
        let path = find_shell(self.bundled_shell);
        path.as_deref().map(with_kind).ok_or_else(|| {
            format!(
                "shell not found: the image has none ({} were looked for) and none came with the \
                 agent",
                SHELLS.join(", ")
            )
        })
    }
}

/// bash is asked for more than what every `sh` has.
fn with_kind(path: &Path) -> (PathBuf, ShellKind) {
    let is_bash = path.file_name().is_some_and(|name| name == "bash");
    (path.to_owned(), if is_bash { ShellKind::Bash } else { ShellKind::Posix })
}

/// The shell of the image, else the one that came with the agent.
pub(crate) fn find_shell(bundled: &Path) -> Option<PathBuf> {
    first_program(SHELLS.iter().map(Path::new).chain([bundled])).map(Path::to_owned)
}

fn first_program<'p>(mut places: impl Iterator<Item = &'p Path>) -> Option<&'p Path> {
    places.find(|path| is_program(path))
}

/// `pwsh -File` wants a name that ends in `.ps1`, and `-Command -` reads line by line as if somebody
/// typed; so the text is read as a whole. `exit` in it is the program's.
fn powershell_arguments(path: &str) -> Vec<String> {
    let run = format!(". ([ScriptBlock]::Create([System.IO.File]::ReadAllText('{path}')))");
    let flags = "-NoProfile -NoLogo -NonInteractive -ExecutionPolicy Bypass -InputFormat text \
                 -OutputFormat text -Command";
    flags.split_whitespace().map(str::to_owned).chain([run]).collect()
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|directory| directory.join(program)).find(|p| is_program(p))
}

fn is_program(path: &Path) -> bool {
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file()
}

fn memory_file(text: &[u8]) -> io::Result<fs::File> {
    // Without CLOEXEC: the shell opens it through its own descriptor table.
    let mut file = fs::File::from(memfd_create("script", MemfdFlags::empty())?);
    file.write_all(text)?;
    Ok(file)
}

/// Writes the values of file variables where the shell expects them. By whoever runs the script:
/// the files belong to the job's user, who may have to `chmod` them (ssh insists on that for keys).
fn write_file_variables(
    variables: &[PlanVariable],
    directories: &Directories,
) -> Result<(), String> {
    for variable in variables.iter().filter(|variable| variable.file) {
        if variable.key.contains('/') || variable.key.is_empty() {
            continue;
        }
        let path = Path::new(&directories.temp).join(&variable.key);
        // What an earlier script put there, a link perhaps, goes first.
        let _ = fs::remove_file(&path);
        fs::File::create_new(&path)
            .and_then(|mut file| file.write_all(variable.value.expose().as_bytes()))
            .map_err(|error| {
                format!(
                    "cannot write the file variable {} to {}: {error}",
                    variable.key,
                    path.display()
                )
            })?;
    }
    Ok(())
}

/// What earlier stages wrote to `$GITLAB_ENV`. Only a regular file counts, and only so much of it:
/// the job may have put anything there.
fn read_env_file(path: &Path) -> Vec<u8> {
    const MOST: u64 = 1 << 20;
    let mut options = fs::OpenOptions::new();
    options.read(true).custom_flags(nonblocking_no_follow());
    let mut bytes = Vec::new();
    if let Ok(file) = options.open(path)
        && file.metadata().is_ok_and(|data| data.is_file())
        && file.take(MOST).read_to_end(&mut bytes).is_err()
    {
        bytes.clear();
    }
    bytes
}

fn nonblocking_no_follow() -> i32 {
    // Flags of open(2) fit an i32 on every Linux.
    (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use runner_core::shell::ShellKind;

    use super::{SHELLS, first_program, powershell_arguments, with_kind};

    #[test]
    fn stages_105_shells_are_looked_for_in_gitlab_runners_order_and_then_at_the_agents() {
        let root = tempfile::tempdir().unwrap();
        let place = |path: &str| root.path().join(path.trim_start_matches('/'));
        let add = |path: &str, mode: u32| {
            std::fs::create_dir_all(place(path).parent().unwrap()).unwrap();
            std::fs::write(place(path), "").unwrap();
            std::fs::set_permissions(place(path), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let found = || {
            let places: Vec<PathBuf> =
                SHELLS.iter().chain(&["/podwright/bin/sh"]).map(|path| place(path)).collect();
            first_program(places.iter().map(PathBuf::as_path)).map(with_kind)
        };
        assert_eq!(found(), None);
        // The other way round, so that each one is preferred to all before it.
        for path in ["/podwright/bin/sh", "/busybox/sh", "/bin/sh", "/usr/bin/sh"] {
            add(path, 0o755);
            assert_eq!(found().unwrap(), (place(path), ShellKind::Posix));
        }
        for path in ["/bin/bash", "/usr/bin/bash", "/usr/local/bin/bash"] {
            add(path, 0o755);
            assert_eq!(found().unwrap(), (place(path), ShellKind::Bash));
        }
    }

    #[test]
    fn stages_120_pwsh_reads_the_script_as_a_whole() {
        let arguments = powershell_arguments("/proc/self/fd/3");
        assert_eq!(arguments.first().map(String::as_str), Some("-NoProfile"));
        let command = arguments.iter().position(|argument| argument == "-Command").unwrap();
        assert_eq!(command + 2, arguments.len());
        assert!(arguments[command + 1].contains("ReadAllText('/proc/self/fd/3')"));
    }
}
