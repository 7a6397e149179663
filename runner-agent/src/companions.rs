//! What the supervisor knows of the other containers of its pod: a manager tells it. It owns how far
//! their output is in the trace; who waits for what is the stages' business.
//!
//! Without a manager nothing is known, and whoever waits goes by deadlines alone.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;

use runner_core::log::Stream;
use runner_core::plan::{POD_EVENTS, Plan};
use runner_core::wire::{ContainerFrame, ContainerState, OutputFrame};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::recorder::Recorder;

/// The build container, by the executors' agreement.
pub const BUILD: &str = "build";
const GREY: &str = "\x1b[0;90m";
const RESET: &str = "\x1b[0;m";

/// How far a container's output is in the trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heard {
    /// The last line, by its time.
    pub time: i64,
    /// How many bytes of it.
    pub bytes: u64,
    /// Whether it has ended.
    pub ended: bool,
}

/// The other containers. Only those that the plan names are listened to, which bounds it.
#[derive(Debug)]
pub struct Companions {
    states: watch::Sender<BTreeMap<String, ContainerState>>,
    known: Vec<Known>,
}

#[derive(Debug)]
struct Known {
    name: String,
    /// Before each line, where the lines are not the job's own.
    prefix: Option<String>,
    /// How many bytes of the line that comes now have come in this session.
    position: RefCell<u64>,
}

impl Companions {
    /// Of this plan.
    pub fn new(plan: &Plan) -> Self {
        let known = |name: &str, prefix| Known {
            name: name.to_owned(),
            prefix,
            position: RefCell::default(),
        };
        let services = plan.companions.services.iter().map(|service| {
            known(&service.name, Some(format!("{GREY}[service:{}] ", service.title)))
        });
        let events = plan.companions.events;
        let events = events.then(|| known(POD_EVENTS, Some(format!("{GREY}[pod] "))));
        let known = std::iter::once(known(BUILD, None)).chain(services).chain(events).collect();
        Self { states: watch::Sender::default(), known }
    }

    /// Takes in what a manager sees. An end stays an end: frames of a manager that knows less come
    /// later.
    pub fn saw(&self, frame: ContainerFrame) {
        if !self.known.iter().any(|known| known.name == frame.name) {
            return;
        }
        self.states.send_if_modified(|states| {
            let before = states.get(&frame.name).copied();
            if before == Some(frame.state) || matches!(before, Some(ContainerState::Ended(_))) {
                return false;
            }
            states.insert(frame.name, frame.state);
            true
        });
    }

    /// Waits until this container runs, or has run. Cancel safe.
    pub async fn started(&self, name: &str) {
        self.wait(|states| states.contains_key(name).then_some(())).await;
    }

    /// Waits for this container's end; the result is its exit status. Cancel safe.
    pub async fn ended(&self, name: &str) -> i32 {
        let status = |states: &BTreeMap<_, _>| match states.get(name) {
            Some(ContainerState::Ended(status)) => Some(*status),
            _ => None,
        };
        self.wait(status).await
    }

    async fn wait<T>(&self, find: impl Fn(&BTreeMap<String, ContainerState>) -> Option<T>) -> T {
        let mut states = self.states.subscribe();
        loop {
            if let Some(found) = find(&states.borrow_and_update()) {
                return found;
            }
            // The sender lives in `self`.
            let _ = states.changed().await;
        }
    }

    /// Writes a piece of a container's output into the trace, unless it is there already: a manager
    /// reads a container's log from its beginning in each session.
    ///
    /// # Errors
    /// When it cannot be kept.
    pub fn print(&self, frame: &OutputFrame, recorder: &RefCell<Recorder>) -> io::Result<()> {
        let found = self.known.iter().position(|known| known.name == frame.container);
        let Some(index) = found else { return Ok(()) };
        let known = &self.known[index];
        let mut recorder = recorder.borrow_mut();
        if recorder.state().verdict.is_some() {
            // The trace is complete, and its checksum is out.
            return Ok(());
        }
        let heard = recorder.state().heard.get(&known.name).copied().unwrap_or_default();
        let mut position = known.position.borrow_mut();
        if frame.begins {
            *position = 0;
        }
        let start = *position;
        *position += frame.bytes.len() as u64;
        let is_new = frame.time > heard.time;
        let fresh = match frame.time.cmp(&heard.time) {
            std::cmp::Ordering::Less => return Ok(()),
            std::cmp::Ordering::Greater => &frame.bytes[..],
            // At most the piece's length, so it fits.
            std::cmp::Ordering::Equal => {
                let done = heard.bytes.saturating_sub(start).min(frame.bytes.len() as u64);
                &frame.bytes[done as usize..]
            }
        };
        if fresh.is_empty() {
            return Ok(());
        }
        let (prefix, suffix) = match &known.prefix {
            Some(prefix) => (prefix.as_str(), RESET),
            None => ("", ""),
        };
        let mut out = Vec::with_capacity(fresh.len() + prefix.len() + suffix.len() + 1);
        if is_new {
            if heard.bytes > 0 && !heard.ended {
                // The rest of the line before was lost with the container's log.
                out.extend_from_slice(suffix.as_bytes());
                out.push(b'\n');
            }
            out.extend_from_slice(prefix.as_bytes());
        }
        let line = fresh.strip_suffix(b"\n");
        out.extend_from_slice(line.unwrap_or(fresh));
        if line.is_some() {
            out.extend_from_slice(suffix.as_bytes());
            out.push(b'\n');
        }
        let heard = Heard { time: frame.time, bytes: *position, ended: line.is_some() };
        // A pod has some ten containers.
        let stream = Stream::Service(index as u16);
        recorder.companion_output(stream, &out, &known.name, heard)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use runner_core::ids::JobId;
    use runner_core::job::Job;
    use runner_core::outcome::Outcome;
    use runner_core::plan::ServicePlan;
    use runner_core::planner::{PlanSettings, Transfers, plan};

    use super::*;

    fn known() -> (Plan, Companions) {
        let mut settings = PlanSettings::default();
        settings.feature_flags.push(("FF_TIMESTAMPS".into(), false));
        let mut plan = plan(&Job::empty(JobId(1)), &settings, Transfers::default()).unwrap();
        let service = ServicePlan { name: "db".into(), title: "pg-db".into(), ports: vec![] };
        plan.companions.services.push(service);
        let companions = Companions::new(&plan);
        (plan, companions)
    }

    fn piece(time: i64, begins: bool, bytes: &'static str) -> OutputFrame {
        OutputFrame {
            container: "db".into(),
            time,
            begins,
            bytes: Bytes::from_static(bytes.as_bytes()),
        }
    }

    fn text(directory: &std::path::Path) -> String {
        let path = directory.join(runner_core::layout::SPOOL);
        String::from_utf8(std::fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn a_line_that_comes_again_from_its_beginning_is_there_once_also_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let (plan, companions) = known();
        let recorder = RefCell::new(Recorder::open(directory.path(), &plan.log).unwrap());
        for frame in [piece(5, true, "one\n"), piece(6, true, "tw")] {
            companions.print(&frame, &recorder).unwrap();
        }
        // Another manager, and another supervisor, begin with the first line.
        let (plan, companions) = known();
        let recorder = RefCell::new(Recorder::open(directory.path(), &plan.log).unwrap());
        for frame in [piece(5, true, "one\n"), piece(6, true, "t"), piece(6, false, "wo\n")] {
            companions.print(&frame, &recorder).unwrap();
        }
        let lines = text(directory.path());
        assert_eq!(lines.matches("[service:pg-db] one").count(), 1, "{lines}");
        assert_eq!(lines.matches("[service:pg-db] two").count(), 1, "{lines}");
    }

    #[test]
    fn k8s_81_what_is_said_of_the_pod_is_there_once_where_the_plan_wants_it() {
        for wanted in [false, true] {
            let directory = tempfile::tempdir().unwrap();
            let (mut plan, _) = known();
            plan.companions.events = wanted;
            let companions = Companions::new(&plan);
            let recorder = RefCell::new(Recorder::open(directory.path(), &plan.log).unwrap());
            for time in [7, 7, 5] {
                let event = piece(time, true, "Normal  Pulled  image\n");
                let event = OutputFrame { container: POD_EVENTS.into(), ..event };
                companions.print(&event, &recorder).unwrap();
            }
            let lines = text(directory.path());
            let found = lines.matches("\x1b[0;90m[pod] Normal  Pulled  image\x1b[0;m").count();
            assert_eq!(found, usize::from(wanted), "{lines}");
        }
    }

    #[test]
    fn what_comes_after_the_verdict_is_not_in_the_trace() {
        let directory = tempfile::tempdir().unwrap();
        let (plan, companions) = known();
        let recorder = RefCell::new(Recorder::open(directory.path(), &plan.log).unwrap());
        let verdict = recorder.borrow_mut().conclude(Outcome::Exited(0)).unwrap();
        companions.print(&piece(5, true, "late\n"), &recorder).unwrap();
        assert_eq!(recorder.borrow().state().trace, verdict.trace);
    }

    #[test]
    fn an_end_stays_an_end_and_strangers_are_nobody() {
        let (_, companions) = known();
        let frame = |name: &str, state| ContainerFrame { name: name.into(), state };
        companions.saw(frame("db", ContainerState::Ended(3)));
        companions.saw(frame("db", ContainerState::Running));
        companions.saw(frame("stranger", ContainerState::Running));
        assert_eq!(companions.states.borrow().len(), 1);
        assert_eq!(companions.states.borrow()["db"], ContainerState::Ended(3));
    }
}
