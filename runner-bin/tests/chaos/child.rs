//! Each run in a process of its own.
//!
//! tokio's `select!` takes a part of its chance from a counter of the process: the same run would
//! go another way behind other runs. In a fresh process the counter begins where it always does, so
//! a seed that failed among thousands fails alone too.

use std::path::Path;
use std::process::{Command, Stdio};
use std::str::FromStr;

use runner_testkit::chaos::Schedule;
use serde::{Deserialize, Serialize};

use crate::{laws, run};

/// What the process is to run: a [`Part`].
const RUN: &str = "CHAOS_RUN";
/// Where it has its files, and leaves its answer.
const PLACE: &str = "CHAOS_PLACE";
const ANSWER: &str = "answer.json";

/// What came of a run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// Everything that does not hold, in words.
    pub(crate) broken: Vec<String>,
    /// What the run was like, so that two runs can be compared.
    pub(crate) digest: String,
}

/// A part of a seed's schedule: what is left of it after [`runner_testkit::chaos::shrink`].
///
/// As text: `SEED JOBS FAULTS MANAGERS 1,2,5 0,3`, the last two are the numbers of the jobs and the
/// places of the faults that are left, or `-` for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    seed: u64,
    size: (usize, usize),
    managers: usize,
    jobs: Vec<usize>,
    events: Vec<usize>,
}

impl Part {
    /// What part of the schedule with this many jobs and faults another one is.
    pub(crate) fn of(size: (usize, usize), schedule: &Schedule) -> Self {
        let whole = Schedule::new(schedule.seed, size.0, size.1);
        Self {
            seed: schedule.seed,
            size,
            managers: schedule.managers,
            jobs: places(&whole.jobs, &schedule.jobs),
            events: places(&whole.events, &schedule.events),
        }
    }

    pub(crate) fn schedule(&self) -> Schedule {
        let whole = Schedule::new(self.seed, self.size.0, self.size.1);
        Schedule {
            managers: self.managers,
            jobs: self.jobs.iter().filter_map(|at| whole.jobs.get(*at).cloned()).collect(),
            events: self.events.iter().filter_map(|at| whole.events.get(*at).cloned()).collect(),
            ..whole
        }
    }
}

/// Where in a list the things of a shorter one are, which are in the same order.
fn places<T: PartialEq>(whole: &[T], part: &[T]) -> Vec<usize> {
    let mut next = 0;
    part.iter()
        .filter_map(|thing| {
            let at = next + whole[next..].iter().position(|other| other == thing)?;
            next = at + 1;
            Some(at)
        })
        .collect()
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |places: &[usize]| match places {
            [] => "-".to_owned(),
            places => places.iter().map(usize::to_string).collect::<Vec<_>>().join(","),
        };
        let Self { seed, size: (jobs, faults), managers, .. } = self;
        let (left, events) = (list(&self.jobs), list(&self.events));
        write!(f, "{seed} {jobs} {faults} {managers} {left} {events}")
    }
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{RUN}={text:?} is not a part of a schedule");
        let [seed, jobs, faults, managers, left, events] =
            <[&str; 6]>::try_from(text.split(' ').collect::<Vec<_>>()).map_err(|_| wrong())?;
        let number = |text: &str| text.parse::<usize>().map_err(|_| wrong());
        let list = |text: &str| match text {
            "-" => Ok(Vec::new()),
            text => text.split(',').map(number).collect(),
        };
        Ok(Self {
            seed: seed.parse().map_err(|_| wrong())?,
            size: (number(jobs)?, number(faults)?),
            managers: number(managers)?,
            jobs: list(left)?,
            events: list(events)?,
        })
    }
}

/// Runs a part of a schedule in a process of its own.
pub(crate) fn run(part: &Part, place: &Path) -> Answer {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "child::a_process_runs_what_it_is_told", "--nocapture"]);
    child.env(RUN, part.to_string()).env(PLACE, place);
    // What the harness of the tests says there is of no interest; logs and panics go through.
    child.stdin(Stdio::null()).stdout(Stdio::null());
    let status = child.status().unwrap();
    let answer = std::fs::read(place.join(ANSWER)).ok();
    answer.and_then(|answer| serde_json::from_slice(&answer).ok()).unwrap_or_else(|| Answer {
        broken: vec![format!("it ended by itself ({status}) in a run of {part}")],
        digest: String::new(),
    })
}

#[test]
fn a_process_runs_what_it_is_told() {
    let Some(told) = std::env::var(RUN).ok() else {
        // Nothing: then what would be told must come over as it is.
        let whole = Schedule::new(7, 5, 40);
        let mut less = whole.clone();
        less.managers = 1;
        less.jobs.remove(2);
        less.events.retain(|event| event.at.as_millis() % 2 == 0);
        for schedule in [whole.clone(), less, Schedule { events: Vec::new(), ..whole }] {
            let part = Part::of((5, 40), &schedule);
            let over: Part = part.to_string().parse().unwrap();
            assert_eq!(over.schedule(), schedule, "{part}");
        }
        return;
    };
    crate::log();
    let schedule = told.parse::<Part>().unwrap().schedule();
    let place = std::env::var_os(PLACE).map(std::path::PathBuf::from);
    // Somebody who looks at one run gives no place.
    let (place, _own) = match place {
        Some(place) => (place, None),
        None => {
            let own = crate::work_dir();
            (own.path().to_owned(), Some(own))
        }
    };
    let files = place.join("run");
    std::fs::create_dir(&files).unwrap();
    // On a thread of its own: chance and clock are taken out of a thread.
    let thread = std::thread::Builder::new().stack_size(8 << 20).spawn(move || {
        let end = run::run(&schedule, &files);
        Answer { broken: laws::broken(&end), digest: crate::digest(&end) }
    });
    let answer = thread.unwrap().join();
    let answer = answer
        .unwrap_or_else(|_| Answer { broken: vec!["it panicked".into()], digest: String::new() });
    println!("{answer:#?}");
    std::fs::write(place.join(ANSWER), serde_json::to_vec(&answer).unwrap()).unwrap();
    assert!(std::env::var_os(PLACE).is_some() || answer.broken.is_empty(), "{told}");
}
