//! One container from its image to its last end, restarts included.
//!
//! Reports every change of state to the pod's worker and takes orders from it; knows nothing of other
//! containers.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::BoxFuture;
use rustix::process::Signal;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::super::scripted::{ScriptedExec, ScriptedStart};
use super::super::settings::ImageSpec;
use super::super::shared::Shared;
use super::super::store::{now, unique};
use super::images::Need;
use super::log::Log;
use super::process::{self, Mount, Place, Process, Program, StartError};
use super::status::{End, State};
use super::{Running, hosts, spec, strays, volumes};

/// What a container is told.
#[derive(Clone, Debug)]
pub(super) enum Order {
    /// TERM, then KILL after this time; no restart.
    Stop(Duration),
    /// KILL now, with this reason for the end; restart rules hold.
    Kill(&'static str),
    /// KILL now and report nothing: the node is gone.
    Vanish,
}

/// What a container reports.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) index: usize,
    pub(super) state: State,
    pub(super) id: String,
    pub(super) restarts: u32,
    /// No further run will come.
    pub(super) done: bool,
}

/// Everything about one container.
pub(super) struct Container {
    pub(super) shared: Arc<Shared>,
    pub(super) pod: Arc<Value>,
    pub(super) spec: Value,
    pub(super) index: usize,
    pub(super) init: bool,
    pub(super) dir: PathBuf,
    pub(super) volumes: Arc<volumes::Volumes>,
    /// Bounded by the changes of state of one container, which the worker takes at once.
    pub(super) reports: mpsc::UnboundedSender<Report>,
    /// Bounded by the calls of whoever runs the simulation.
    pub(super) orders: mpsc::UnboundedReceiver<Order>,
}

/// Why the container's task ends early.
enum Stopped {
    /// Before the program ran.
    BeforeStart,
}

impl Container {
    fn text(&self, key: &str) -> &str {
        self.spec[key].as_str().unwrap_or_default()
    }

    fn marker(&self) -> String {
        let uid = self.pod["metadata"]["uid"].as_str().unwrap_or_default();
        format!("{}:{uid}:{}:", self.shared.id, self.text("name"))
    }

    fn report(&self, state: State, id: &str, restarts: u32, done: bool) {
        let report = Report { index: self.index, state, id: id.into(), restarts, done };
        // The worker may have ended, e.g. on a lost node; then nobody wants to know.
        drop(self.reports.send(report));
    }

    /// Runs the container to its last end.
    pub(super) async fn run(mut self) {
        let mut restarts = 0;
        let mut backoff = self.shared.settings.crash_backoff;
        loop {
            let image = match self.image(restarts).await {
                Ok(image) => image,
                Err(Stopped::BeforeStart) => return,
            };
            let id = format!("containerd://{:016x}{:016x}{:032x}", unique(), unique(), unique());
            let end = match self.once(&image, &id, restarts).await {
                Ok(Some(end)) => end,
                Ok(None) => return,
                Err(Stopped::BeforeStart) => return,
            };
            let (end, stopped) = end;
            let code = end.exit_code;
            let again = !stopped && self.restarts_after(code);
            self.report(State::Terminated(end), &id, restarts, !again);
            if !again {
                return;
            }
            if restarts > 0 {
                let pod = &self.pod["metadata"];
                let message = format!(
                    "back-off {}s restarting failed container={} pod={}_{}({})",
                    backoff.as_secs(),
                    self.text("name"),
                    pod["name"].as_str().unwrap_or_default(),
                    pod["namespace"].as_str().unwrap_or_default(),
                    pod["uid"].as_str().unwrap_or_default(),
                );
                let state = State::waiting("CrashLoopBackOff", &message);
                self.report(state, &id, restarts, false);
                if self.wait(backoff).await.is_err() {
                    return;
                }
                backoff = (backoff * 2).min(Duration::from_secs(300));
            }
            restarts += 1;
        }
    }

    /// Waits, unless the container is stopped; then its report has been made.
    async fn wait(&mut self, time: Duration) -> Result<(), Stopped> {
        tokio::select! {
            () = sleep(time) => Ok(()),
            () = stop_order(&mut self.orders) => Err(Stopped::BeforeStart),
        }
    }

    fn restarts_after(&self, code: i32) -> bool {
        for rule in self.spec["restartPolicyRules"].as_array().into_iter().flatten() {
            let listed = rule["exitCodes"]["values"]
                .as_array()
                .is_some_and(|v| v.iter().any(|n| n.as_i64() == Some(i64::from(code))));
            let hit = if rule["exitCodes"]["operator"] == "NotIn" { !listed } else { listed };
            if hit && rule["action"] == "Restart" {
                return true;
            }
        }
        let policy = self.spec["restartPolicy"]
            .as_str()
            .or(self.pod["spec"]["restartPolicy"].as_str())
            .unwrap_or("Always");
        match policy {
            "Never" => false,
            "OnFailure" => code != 0,
            // An init container that has succeeded is over.
            _ => !(self.init && code == 0),
        }
    }

    /// Gets the image onto the node.
    async fn image(&mut self, restarts: u32) -> Result<ImageSpec, Stopped> {
        let name = self.text("image").to_owned();
        let policy = self.text("imagePullPolicy").to_owned();
        let mut backoff = self.shared.settings.pull_backoff;
        loop {
            let need = self.shared.images.lock().need(&name, &policy);
            match need {
                Need::Present => break,
                Need::Refused { reason, message } => {
                    self.report(State::waiting(reason, &message), "", restarts, false);
                    stop_order(&mut self.orders).await;
                    return Err(Stopped::BeforeStart);
                }
                Need::Pull { delay, failure } => {
                    let began = Instant::now();
                    self.wait(delay).await?;
                    let Some(message) = failure else {
                        self.shared.images.lock().pulled(&name);
                        let took = began.elapsed();
                        let message = format!(
                            "Successfully pulled image {name:?} in {took:.3?} ({took:.3?} including waiting). Image size: 3623844 bytes."
                        );
                        let field = format!("spec.containers{{{}}}", self.text("name"));
                        self.shared.event_at(&self.pod, Some(&field), "Normal", "Pulled", &message);
                        break;
                    };
                    let state = State::waiting("ErrImagePull", &message);
                    self.report(state, "", restarts, false);
                    // The kubelet notices its own back-off on its next look at the pod.
                    self.wait(backoff / 10).await?;
                    let message =
                        format!("Back-off pulling image {name:?}: ErrImagePull: {message}");
                    let state = State::waiting("ImagePullBackOff", &message);
                    self.report(state, "", restarts, false);
                    self.wait(backoff).await?;
                    backoff = (backoff * 2).min(Duration::from_secs(300));
                }
            }
        }
        Ok(self.shared.images.lock().spec(&name).cloned().unwrap_or_default())
    }

    /// One run: how it ended and whether it was told to. `None` when nothing is to be reported.
    async fn once(
        &mut self,
        image: &ImageSpec,
        id: &str,
        restarts: u32,
    ) -> Result<Option<(End, bool)>, Stopped> {
        let name = self.text("name").to_owned();
        let program = match self.program(image, restarts) {
            Ok(program) => program,
            Err(message) => {
                let state = State::waiting("CreateContainerConfigError", &message);
                self.report(state, "", restarts, false);
                stop_order(&mut self.orders).await;
                return Err(Stopped::BeforeStart);
            }
        };
        if let Some(exec) = &image.exec {
            return Ok(self.scripted(exec.clone(), image, program, id, restarts).await);
        }
        let (env, working_dir) = (program.env.clone(), program.working_dir.clone());
        let plain = matches!(program.place, Place::Host);
        let mut process = match process::start(program).await {
            Ok(process) => process,
            Err(error) => {
                let why = match &error {
                    StartError::NotFound(_) => "OCI runtime create failed: runc create failed: ",
                    StartError::Io { .. } => "",
                };
                let end = End {
                    exit_code: 128,
                    reason: "StartError".into(),
                    message: format!(
                        "failed to create containerd task: failed to create shim task: {why}{error}"
                    ),
                    started: Some("1970-01-01T00:00:00Z".into()),
                    finished: Some(now()),
                };
                return Ok(Some((end, false)));
            }
        };
        let started = now();
        let log = Arc::new(Log::new());
        let uid = self.pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let mounts = self.mounts(image).unwrap_or_default();
        self.shared.running.lock().insert(
            (uid.clone(), name.clone()),
            Running {
                pid: process.pid,
                env,
                working_dir,
                mounts: if plain { mounts } else { Vec::new() },
                plain,
                log: log.clone(),
                stdin: Arc::new(tokio::sync::Mutex::new(
                    process.stdin.take().map(|stdin| Box::new(stdin) as _),
                )),
                exec: None,
            },
        );
        self.report(State::Running { since: started.clone() }, id, restarts, false);
        let (status, reason, stopped) = self.follow(&mut process, &log).await;
        self.shared.running.lock().remove(&(uid, name));
        log.close();
        self.shared.keep_log(&self.pod, self.text("name"), &log);
        let Some(status) = status else { return Ok(None) };
        let exit_code = process::exit_code(status);
        let reason = reason.unwrap_or(if exit_code == 0 { "Completed" } else { "Error" });
        let message = self.termination_message(&log, exit_code);
        let end = End {
            exit_code,
            reason: reason.into(),
            message,
            started: Some(started),
            finished: Some(now()),
        };
        Ok(Some((end, stopped)))
    }

    /// One run of a container that is no process: until its stand-in ends or it is told to.
    async fn scripted(
        &mut self,
        exec: ScriptedExec,
        image: &ImageSpec,
        program: Program,
        id: &str,
        restarts: u32,
    ) -> Option<(End, bool)> {
        let started = now();
        let uid = self.pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let key = (uid.clone(), self.text("name").to_owned());
        let log = Arc::new(Log::new());
        let (terminate, terminated) = watch::channel(false);
        let play = self.stand_in(image, &program, restarts, terminated);
        self.shared.running.lock().insert(
            key.clone(),
            Running {
                pid: 0,
                env: program.env,
                working_dir: program.working_dir,
                mounts: Vec::new(),
                plain: true,
                log: log.clone(),
                stdin: Arc::default(),
                exec: Some((exec, uid)),
            },
        );
        self.report(State::Running { since: started.clone() }, id, restarts, false);
        let end = self.until_end(play, &terminate).await;
        self.shared.running.lock().remove(&key);
        log.close();
        let (exit_code, reason, stopped) = end?;
        let end = End {
            exit_code,
            reason: reason.into(),
            message: self.termination_message(&log, exit_code),
            started: Some(started),
            finished: Some(now()),
        };
        Some((end, stopped))
    }

    fn stand_in(
        &self,
        image: &ImageSpec,
        program: &Program,
        restarts: u32,
        terminated: watch::Receiver<bool>,
    ) -> Option<BoxFuture<'static, i32>> {
        let play = image.program.clone()?;
        let text = |key: &str| self.pod["metadata"][key].as_str().unwrap_or_default().to_owned();
        let mounts = self.mounts(image).unwrap_or_default();
        let start = ScriptedStart::new(
            (text("uid"), text("name")),
            self.text("name").to_owned(),
            program.argv.clone(),
            restarts,
            terminated,
            self.dir.join("termination-log"),
            mounts.into_iter().map(|mount| (mount.path, mount.host)).collect(),
        );
        Some(Box::pin(async move { play.run(start).await }))
    }

    /// Exit code, reason and whether it was told to end; `None` when nothing is to be reported.
    async fn until_end(
        &mut self,
        mut play: Option<BoxFuture<'static, i32>>,
        terminate: &watch::Sender<bool>,
    ) -> Option<(i32, &'static str, bool)> {
        let mut kill_at: Option<Instant> = None;
        let ended = |code: i32, stopped| {
            Some((code, if code == 0 { "Completed" } else { "Error" }, stopped))
        };
        loop {
            tokio::select! {
                biased;
                order = self.orders.recv() => match order {
                    Some(Order::Stop(_)) if play.is_none() => return ended(0, true),
                    Some(Order::Stop(grace)) if grace.is_zero() => return ended(137, true),
                    Some(Order::Stop(grace)) => {
                        let at = Instant::now() + grace;
                        kill_at = Some(kill_at.map_or(at, |known| known.min(at)));
                        terminate.send_replace(true);
                    }
                    Some(Order::Kill(reason)) => return Some((137, reason, false)),
                    Some(Order::Vanish) | None => return None,
                },
                code = async {
                    match &mut play {
                        Some(play) => play.await,
                        None => std::future::pending().await,
                    }
                } => return ended(code, kill_at.is_some()),
                () = async { sleep_until(kill_at.unwrap_or_else(Instant::now)).await }, if kill_at.is_some() => {
                    return ended(137, true);
                }
            }
        }
    }

    /// Follows a running program and the orders about it.
    async fn follow(
        &mut self,
        process: &mut Process,
        log: &Arc<Log>,
    ) -> (Option<std::process::ExitStatus>, Option<&'static str>, bool) {
        let (mut reason, mut stopped, mut vanished) = (None, false, false);
        let mut kill_at: Option<Instant> = None;
        let pid = process.pid;
        let mut output =
            std::pin::pin!(copy(&mut process.stdout, &mut process.stderr, log.as_ref()));
        let mut copied = false;
        let status = loop {
            tokio::select! {
                () = &mut output, if !copied => copied = true,
                status = &mut process.exit => break status.ok(),
                order = self.orders.recv() => match order {
                    Some(Order::Stop(grace)) => {
                        stopped = true;
                        let at = Instant::now() + grace;
                        kill_at = Some(kill_at.map_or(at, |k| k.min(at)));
                        if grace.is_zero() {
                            strays::signal(pid, Signal::KILL);
                        } else if self.shared.namespaces || strays::catches_term(pid) {
                            // The kernel keeps a signal from a PID 1 that has no handler for it;
                            // without namespaces nobody else does.
                            strays::signal(pid, Signal::TERM);
                        }
                    }
                    Some(Order::Kill(why)) => {
                        reason = Some(why);
                        strays::signal(pid, Signal::KILL);
                    }
                    Some(Order::Vanish) | None => {
                        vanished = true;
                        stopped = true;
                        strays::signal(pid, Signal::KILL);
                    }
                },
                () = async { sleep_until(kill_at.unwrap_or_else(Instant::now)).await }, if kill_at.is_some() => {
                    kill_at = None;
                    strays::signal(pid, Signal::KILL);
                }
            }
        };
        if !self.shared.namespaces {
            // Whatever the program has left behind goes with it, as in a process namespace.
            strays::kill(&self.marker());
        }
        if !copied {
            // Everything that could write is dead; what it has written is in the pipe.
            drop(tokio::time::timeout(Duration::from_secs(2), output).await);
        }
        (if vanished { None } else { status }, reason, stopped)
    }

    fn mounts(&self, image: &ImageSpec) -> std::io::Result<Vec<Mount>> {
        let mut mounts = Vec::new();
        for (path, host) in &image.files {
            let host = host.canonicalize()?;
            mounts.push(Mount { host, path: path.clone(), read_only: true });
        }
        // Volumes hide what the image has at their paths.
        mounts.extend(volumes::mounts(&self.spec, &self.volumes, &self.pod)?);
        let path = self.spec["terminationMessagePath"].as_str().unwrap_or("/dev/termination-log");
        let file = self.dir.join("termination-log");
        mounts.push(Mount { host: file, path: path.into(), read_only: false });
        Ok(mounts)
    }

    fn program(&self, image: &ImageSpec, restarts: u32) -> Result<Program, String> {
        let io = |e: std::io::Error| e.to_string();
        fs::create_dir_all(&self.dir).map_err(io)?;
        fs::write(self.dir.join("termination-log"), "").map_err(io)?;
        let mut env = spec::environment(&self.shared, &self.pod, &self.spec, image)?;
        let mut argv = spec::argv(&self.spec, image, &env);
        if argv.is_empty() {
            return Err("no command specified".into());
        }
        let mut mounts = self.mounts(image).map_err(io)?;
        let dir = self.spec["workingDir"].as_str().unwrap_or(&image.working_dir);
        let mut working_dir = PathBuf::from(if dir.is_empty() { "/" } else { dir });
        env.push((strays::MARKER.into(), format!("{}{restarts}", self.marker())));
        let place = if self.shared.namespaces {
            let scratch = self.dir.join("scratch");
            fs::create_dir_all(&scratch).map_err(io)?;
            let hosts = self.dir.join("hosts");
            fs::write(&hosts, hosts::text(&self.pod)).map_err(io)?;
            if !mounts.iter().any(|mount| mount.path == Path::new("/etc/hosts")) {
                mounts.push(Mount { host: hosts, path: "/etc/hosts".into(), read_only: false });
            }
            let read_only_root = self.spec["securityContext"]["readOnlyRootFilesystem"] == true;
            Place::New { scratch, mounts, read_only_root }
        } else {
            let root = self.dir.parent().unwrap_or(&self.dir).join("root");
            spec::link_mounts(&root, &mounts).map_err(io)?;
            for text in argv.iter_mut().chain(env.iter_mut().map(|(_, v)| v)) {
                *text = spec::on_host(text, &mounts);
            }
            env.push(("PODWRIGHT_ROOT".into(), root.to_string_lossy().into_owned()));
            if dir.is_empty() {
                working_dir = root;
            } else {
                working_dir = spec::on_host(dir, &mounts).into();
                if !working_dir.is_dir() {
                    working_dir = root.join(dir.trim_start_matches('/'));
                    fs::create_dir_all(&working_dir).map_err(io)?;
                }
            }
            Place::Host
        };
        let stdin = self.spec["stdin"] == true;
        Ok(Program { argv, env, working_dir, stdin, place })
    }

    fn termination_message(&self, log: &Log, exit_code: i32) -> String {
        let bytes = fs::read(self.dir.join("termination-log")).unwrap_or_default();
        let from_log = self.text("terminationMessagePolicy") == "FallbackToLogsOnError";
        let bytes = if bytes.is_empty() && from_log && exit_code != 0 {
            log.tail(2048)
        } else {
            // The kubelet reads no more.
            bytes[..bytes.len().min(4096)].to_vec()
        };
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Waits for an order that ends a container which does not run.
async fn stop_order(orders: &mut mpsc::UnboundedReceiver<Order>) {
    while let Some(Order::Kill(_)) = orders.recv().await {}
}

async fn copy(
    stdout: &mut (impl AsyncRead + Unpin),
    stderr: &mut (impl AsyncRead + Unpin),
    log: &Log,
) {
    async fn one(from: &mut (impl AsyncRead + Unpin), error_stream: bool, log: &Log) {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(16 << 10);
            match from.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => log.append(error_stream, buffer.split().freeze()),
            }
        }
    }
    tokio::join!(one(stdout, false, log), one(stderr, true, log));
}
