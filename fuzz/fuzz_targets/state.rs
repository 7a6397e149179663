//! What a supervisor finds when it is started again: plan, journal and spool, damaged in any way. It goes
//! on or says why it cannot; it never panics, and what it says counts is in the spool.
//!
//! The first byte says which of them the rest is; the others are as they should be.

#![no_main]

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use runner_agent::plan_file;
use runner_agent::recorder::Recorder;
use runner_core::ids::JobId;
use runner_core::job::Job;
use runner_core::layout;
use runner_core::log::Message;
use runner_core::plan::Plan;
use runner_core::planner::{PlanSettings, Transfers, plan};

static PLAN: LazyLock<Plan> = LazyLock::new(|| {
    plan(&Job::empty(JobId(7)), &PlanSettings::default(), Transfers::default())
        .expect("an empty job can be planned")
});

/// A record as the journal has it: nobody guesses a checksum.
fn record(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("inputs are short").to_be_bytes();
    [&length, &crc32fast::hash(body).to_be_bytes(), body].concat()
}

fn go_on(directory: &Path) {
    let Ok(mut recorder) = Recorder::open(directory, &PLAN.log) else { return };
    let before = recorder.state().trace.length;
    let spool = directory.join(layout::SPOOL);
    let length = || fs::metadata(&spool).expect("the spool is there").len();
    assert_eq!(length(), before.0, "what does not count is cut off");
    recorder.say(&Message::plain("it goes on")).expect("there is room");
    assert!(length() >= recorder.state().trace.length.0);
}

fuzz_target!(|data: &[u8]| {
    let Some((&which, rest)) = data.split_first() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, bytes: &[u8]| {
        fs::write(directory.path().join(name), bytes).expect("a file can be written");
    };
    match which % 4 {
        0 => write("plan.0", rest),
        1 => write(layout::JOURNAL, rest),
        2 => write(layout::JOURNAL, &record(rest)),
        _ => {
            let (first, second) = rest.split_at(rest.len() / 2);
            write(layout::JOURNAL, &[record(first), record(second)].concat());
            write(layout::SPOOL, rest);
        }
    }
    if which % 4 == 0 {
        if let Ok(plan) = plan_file::read(directory.path(), Some("/root")) {
            let again = Plan::from_json(&plan.to_json()).expect("what was written can be read");
            assert_eq!(again, plan);
        }
        return;
    }
    go_on(directory.path());
});
