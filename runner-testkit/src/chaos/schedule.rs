//! What happens in a run, and when: it follows from a seed, and can be made smaller.

use std::time::Duration;

use runner_core::ids::JobId;

use super::fault::Fault;
use super::random::Random;
use super::script::{Beat, End, Script};

/// A run.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// Where it comes from. Chances beyond the schedule (which of two things that are ready happens
    /// first) follow from it too.
    pub seed: u64,
    /// How many managers there are at the beginning.
    pub managers: usize,
    /// The jobs, by number.
    pub jobs: Vec<JobPlan>,
    /// What goes wrong, in order.
    pub events: Vec<Event>,
}

/// A job of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct JobPlan {
    /// Its number.
    pub id: JobId,
    /// When it comes into the queue.
    pub arrives: Duration,
    /// What it does.
    pub script: Script,
    /// What it does after that, whatever became of it.
    pub after_script: Option<Script>,
    /// Its own time limit.
    pub timeout: Duration,
}

/// A fault and its time.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When, since the beginning.
    pub at: Duration,
    /// What.
    pub fault: Fault,
}

impl Schedule {
    /// The run of this seed, with so many jobs and up to so many faults.
    #[must_use]
    pub fn new(seed: u64, jobs: usize, faults: usize) -> Self {
        let mut random = Random::new(seed);
        let managers = 1 + random.next() as usize % 3;
        let jobs = (1..=jobs as u64).map(|id| job(JobId(id), &mut random)).collect();
        let count = random.next() as usize % (faults + 1);
        let mut events: Vec<_> = (0..count)
            .map(|_| Event { at: random.millis(0..300_000), fault: Fault::any(&mut random) })
            .collect();
        events.sort_by_key(|event| event.at);
        Self { seed, managers, jobs, events }
    }
}

fn job(id: JobId, random: &mut Random) -> JobPlan {
    let arrives = random.millis(0..120_000);
    let script = script(random, 150_000);
    let after_script = random.percent(25).then(|| self::script(random, 5_000));
    // One in ten takes longer than it may.
    let timeout = match random.percent(10) {
        true => script.takes() / 2 + Duration::from_secs(10),
        false => Duration::from_secs(3600),
    };
    JobPlan { id, arrives, script, after_script, timeout }
}

fn script(random: &mut Random, most: u64) -> Script {
    let seed = random.next();
    let beats = 1 + random.next() % 6;
    let beats = (0..beats)
        .map(|_| Beat {
            wait: random.within(0..most / 3),
            bytes: match random.next() % 10 {
                0 => 0,
                1 => random.within(10_000..100_000) as usize,
                _ => random.within(1..2_000) as usize,
            },
        })
        .collect();
    let end = match random.next() % 10 {
        0 | 1 => End::Exit(1 + (random.next() % 125) as i32),
        2 => End::Signal(*random.pick(&[9, 11, 15])),
        _ => End::Exit(0),
    };
    Script { seed, beats, end, stubborn: random.percent(10) }
}

#[cfg(test)]
mod tests {
    use super::Schedule;

    #[test]
    fn a_seed_is_a_schedule() {
        assert_eq!(Schedule::new(7, 20, 30), Schedule::new(7, 20, 30));
        assert_ne!(Schedule::new(7, 20, 30), Schedule::new(8, 20, 30));
        assert!(Schedule::new(7, 20, 30).events.is_sorted_by_key(|event| event.at));
    }
}
