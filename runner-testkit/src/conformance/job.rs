//! The jobs that the kit runs.

use runner_core::ids::JobId;
use runner_core::job::{Job, Step};
use runner_core::plan::Plan;
use runner_core::planner::{PlanSettings, Transfers, plan};
use runner_core::source::Ticket;

/// Lines of [`talks`].
pub(super) const LINES: usize = 4000;

/// A job, its plan and its ticket.
pub(super) struct Work {
    pub(super) job: Job,
    pub(super) plan: Plan,
    pub(super) ticket: Ticket,
}

impl Work {
    /// # Panics
    /// When the planner refuses one of the kit's own jobs, which would be the kit's mistake.
    pub(super) fn new(job: Job) -> Self {
        let settings = PlanSettings { runner_name: "conformance".to_owned(), ..Default::default() };
        let plan = plan(&job, &settings, Transfers::default()).expect("a plain job can be planned");
        let ticket = Ticket(format!("ticket of job {}", job.id).into());
        Self { job, plan, ticket }
    }

    pub(super) fn script(id: u64, lines: &[&str]) -> Self {
        Self::new(job(id, lines))
    }
}

pub(super) fn job(id: u64, lines: &[&str]) -> Job {
    Job::new(JobId(id), "conformance", lines.iter().copied())
}

/// A job that says numbered lines, about 150 KB, then exits with `status`.
pub(super) fn talks(id: u64, status: i32) -> Work {
    let count = format!(
        "i=0; while [ $i -lt {LINES} ]; do echo \"said line $i. The rest makes it longer.\"; i=$((i+1)); done"
    );
    Work::script(id, &[&count, &format!("exit {status}")])
}

/// A job that says `it runs` and then goes on for ten minutes, with an `after_script`.
pub(super) fn lingers(id: u64) -> Work {
    let mut job = job(id, &["echo it ''runs", "sleep 600"]);
    job.steps.push(Step::new("after_script", ["echo after ''script"]));
    Work::new(job)
}

/// The numbers of the lines that [`talks`] says, as they appear in a trace.
pub(super) fn numbers(trace: &[u8]) -> Vec<usize> {
    let text = String::from_utf8_lossy(trace);
    let after = text.split("said line ").skip(1);
    after.filter_map(|rest| rest.split_once('.')?.0.parse().ok()).collect()
}

/// What is wrong with those numbers. `None`: nothing.
pub(super) fn disorder(numbers: &[usize]) -> Option<String> {
    let wrong = (0..).zip(numbers).find(|(wanted, found)| wanted != *found);
    match wrong {
        Some((wanted, found)) => {
            Some(format!("where line {wanted} should be, there is line {found}"))
        }
        None if numbers.len() != LINES => {
            Some(format!("the job said {LINES} lines, the trace has the first {}", numbers.len()))
        }
        None => None,
    }
}
