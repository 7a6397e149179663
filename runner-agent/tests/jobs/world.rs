//! A job, run by the agent program, and what came of it.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which clippy does not take for tests")]

use std::path::PathBuf;
use std::time::Duration;

use runner_core::executor::{Executor, JobEnd, JobEvent, JobHandle, JobRequest, Stop};
use runner_core::ids::{JobId, Offset};
use runner_core::job::{Job, Project, Step};
use runner_core::plan::Plan;
use runner_core::planner::{PlanSettings, Transfers, plan};
use runner_core::source::Ticket;
use runner_testkit::local::LocalExecutor;
use tokio::time::timeout;

/// Longer than any job here takes, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) executor: LocalExecutor,
    pub(crate) job: Job,
    pub(crate) settings: PlanSettings,
    /// Changes the plan after it was made.
    pub(crate) amend: fn(&mut Plan),
    /// A builds directory that outlives the job.
    pub(crate) builds: Option<PathBuf>,
    /// Removed with the world.
    _directory: tempfile::TempDir,
}

/// What came of a job.
pub(crate) struct Seen {
    pub(crate) trace: Vec<u8>,
    pub(crate) end: JobEnd,
}

impl Seen {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.trace).into_owned()
    }
}

impl World {
    /// A job with this script, without sources and without time stamps in its trace.
    pub(crate) fn new(script: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let agent = env!("CARGO_BIN_EXE_podwright-agent").to_owned();
        let job = Job {
            id: JobId(7),
            name: "test".to_owned(),
            project: Project { id: 1, name: "p".into(), path: "g/p".into(), ..Project::default() },
            sources: None,
            variables: Vec::new(),
            steps: vec![Step { name: "script".into(), script: lines(script) }],
            image: None,
            services: Vec::new(),
            artifacts: Vec::new(),
            dependencies: Vec::new(),
            caches: Vec::new(),
            registries: Vec::new(),
            timeout: Duration::from_secs(3600),
            features: Default::default(),
            url: None,
            ..Job::empty(JobId(0))
        };
        let mut settings = PlanSettings::default();
        settings.feature_flags.push(("FF_TIMESTAMPS".into(), false));
        settings.grace = Duration::from_secs(2);
        Self {
            executor: LocalExecutor::new(directory.path().join("jobs"), [agent]),
            job,
            settings,
            amend: |_| {},
            builds: None,
            _directory: directory,
        }
    }

    /// Lets the build container's program run as this user.
    pub(crate) fn builds_as(self, uid: u32) -> Self {
        self.wrapped(&format!(
            "[ \"$2\" = serve ] && exec setpriv --reuid {uid} --regid {uid} --clear-groups \"$@\""
        ))
    }

    /// Lets the helper's program find this `git` first.
    pub(crate) fn with_git(self, script: &str) -> Self {
        self.with_program("supervise", "git", script)
    }

    /// Lets the build container's program find this `step-runner` first: a stand-in, since no package
    /// registry has the real one.
    pub(crate) fn with_step_runner(self, script: &str) -> Self {
        self.with_program("serve", "step-runner", script)
    }

    fn with_program(self, role: &str, name: &str, script: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let programs = self._directory.path().join("programs");
        std::fs::create_dir(&programs).unwrap();
        let program = programs.join(name);
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let first = programs.display().to_string();
        self.wrapped(&format!("[ \"$2\" = {role} ] && export PATH=\"{first}:$PATH\""))
    }

    /// Lets the build container's program start when somebody writes to this pipe.
    pub(crate) fn serve_waits_for(self, pipe: &std::path::Path) -> Self {
        self.wrapped(&format!("[ \"$2\" = serve ] && read line < '{}'", pipe.display()))
    }

    /// Starts the agent's programs by a shell, behind this line.
    fn wrapped(mut self, line: &str) -> Self {
        use std::os::unix::fs::PermissionsExt;
        let wrapper = self._directory.path().join("wrapper");
        std::fs::write(&wrapper, format!("{line}\nexec \"$@\"\n")).unwrap();
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(self._directory.path(), open).unwrap();
        let agent = env!("CARGO_BIN_EXE_podwright-agent");
        let program = ["/bin/sh", wrapper.to_str().unwrap(), agent].map(str::to_owned);
        self.executor = LocalExecutor::new(self._directory.path().join("jobs"), program);
        self
    }

    pub(crate) fn after_script(mut self, script: &[&str]) -> Self {
        self.job.steps.push(Step { name: "after_script".into(), script: lines(script) });
        self
    }

    pub(crate) fn variable(mut self, key: &str, value: &str) -> Self {
        self.job.variables.push(runner_core::job::Variable {
            key: key.into(),
            value: value.into(),
            public: true,
            ..Default::default()
        });
        self
    }

    /// Reserves and starts the job.
    pub(crate) async fn start(&self) -> Box<dyn JobHandle> {
        let mut handle = self.reserve().await;
        handle.start().await.unwrap();
        handle
    }

    /// Writes the job down, and no more.
    pub(crate) async fn reserve(&self) -> Box<dyn JobHandle> {
        let ticket = Ticket("ticket".into());
        let mut plan = plan(&self.job, &self.settings, Transfers::default()).unwrap();
        (self.amend)(&mut plan);
        let request = JobRequest { job: &self.job, plan: &plan, ticket: &ticket, session: None };
        let handle = self.executor.reserve(request).await.unwrap();
        self.mount_builds();
        handle
    }

    /// Puts the builds directory that outlives the job in its place, once the job is written down.
    pub(crate) fn mount_builds(&self) {
        if let Some(builds) = &self.builds {
            let root = self.executor.directory(self.job.id).join("root");
            std::os::unix::fs::symlink(builds, root.join("builds")).unwrap();
        }
    }

    /// Runs the job to its end and removes it.
    pub(crate) async fn run(&self) -> Seen {
        let mut handle = self.start().await;
        let seen = follow(&mut *handle, Offset::ZERO).await;
        handle.dispose().await.unwrap();
        assert!(self.executor.leftovers().is_empty());
        seen
    }

    /// The pid file's process.
    pub(crate) fn pid(&self, role: &str) -> rustix::process::Pid {
        let path = self.executor.directory(self.job.id).join(format!("{role}.pid"));
        let pid = std::fs::read_to_string(path).unwrap();
        rustix::process::Pid::from_raw(pid.parse().unwrap()).unwrap()
    }
}

fn lines(script: &[&str]) -> Vec<String> {
    script.iter().map(|line| (*line).to_owned()).collect()
}

/// Follows a job from here to its end.
pub(crate) async fn follow(handle: &mut dyn JobHandle, from: Offset) -> Seen {
    handle.follow(from, Offset(u64::MAX)).await;
    let mut trace = Vec::new();
    let end = timeout(PATIENCE, async {
        loop {
            match handle.event().await {
                JobEvent::Trace { offset, bytes } => {
                    assert_eq!(offset.0, from.0 + trace.len() as u64, "no gap, nothing twice");
                    trace.extend_from_slice(&bytes);
                }
                JobEvent::Ended(end) => return end,
                _ => {}
            }
        }
    })
    .await
    .expect("the job ends in time");
    Seen { trace, end }
}

/// Reads events until the trace contains this text.
pub(crate) async fn wait_for(handle: &mut dyn JobHandle, text: &str) -> Vec<u8> {
    handle.follow(Offset::ZERO, Offset(u64::MAX)).await;
    let mut trace = Vec::new();
    timeout(PATIENCE, async {
        while !String::from_utf8_lossy(&trace).contains(text) {
            match handle.event().await {
                JobEvent::Trace { bytes, .. } => trace.extend_from_slice(&bytes),
                JobEvent::Ended(end) => panic!("ended before it said {text:?}: {end:?}"),
                _ => {}
            }
        }
    })
    .await
    .expect("the text comes in time");
    trace
}

/// Stops a job and follows it from the beginning to its end.
pub(crate) async fn stop(handle: &mut dyn JobHandle, how: Stop) -> Seen {
    handle.stop(how).await.unwrap();
    follow(handle, Offset::ZERO).await
}
