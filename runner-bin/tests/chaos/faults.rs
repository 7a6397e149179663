//! What a user sees of each kind of fault: `docs/faults.md`, made of runs of one job.
//!
//! The test fails when the page is stale; with `UPDATE_DOCS=1` it writes it again.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use runner_core::ids::JobId;
use runner_core::outcome::Outcome;
use runner_testkit::chaos::{ApiCall, Beat, End, Event, Fault, JobPlan, Part, Schedule, Script};
use runner_testkit::cluster::{Fault as Api, Pull};

use crate::laws;
use crate::run::{self, Setup};

/// One row.
struct Case {
    what: &'static str,
    schedule: Schedule,
    setup: Setup,
}

/// Writes at 5 s, 15 s and 30 s, and is done after 40 s.
fn script(end: End) -> Script {
    let beat = |wait, bytes| Beat { wait, bytes };
    let beats = vec![beat(5_000, 400), beat(10_000, 900), beat(15_000, 400), beat(10_000, 0)];
    Script { seed: 1, beats, end, stubborn: false }
}

fn job(script: Script) -> JobPlan {
    let (id, arrives) = (JobId(1), Duration::ZERO);
    JobPlan { id, arrives, script, after_script: None, timeout: Duration::from_secs(3600) }
}

fn case(what: &'static str, job: JobPlan) -> Case {
    let schedule = Schedule { seed: 1, managers: 1, jobs: vec![job], events: Vec::new() };
    Case { what, schedule, setup: Setup::default() }
}

fn ordinary(what: &'static str) -> Case {
    case(what, job(script(End::Exit(0))))
}

/// Rows that are made side by side.
const AT_ONCE: usize = 4;
const MINUTE: Duration = Duration::from_secs(60);
/// Longer than anybody waits for a pod.
const LONG: Duration = Duration::from_secs(400);

impl Case {
    /// At this second. The job runs from the first on.
    fn at(mut self, seconds: u64, fault: Fault) -> Self {
        self.schedule.events.push(Event { at: Duration::from_secs(seconds), fault });
        self
    }

    fn managers(mut self, managers: usize) -> Self {
        self.schedule.managers = managers;
        self
    }

    fn arrives(mut self, seconds: u64) -> Self {
        self.schedule.jobs[0].arrives = Duration::from_secs(seconds);
        self
    }

    fn api(self, seconds: u64, verb: &'static str, resource: &'static str, trouble: Api) -> Self {
        self.at(seconds, Fault::Api(ApiCall(verb, resource), trouble, 2)).arrives(5)
    }

    fn pull(mut self, failures: &[&str]) -> Self {
        let failures = failures.iter().map(|text| (*text).to_owned()).collect();
        self.setup.pull = Some(Pull { failures, ..Pull::default() });
        self
    }
}

fn of_disruptions() -> Vec<Case> {
    let finish = |case: Case| {
        let setup = Setup { disruption: Some("finish"), ..case.setup };
        Case { setup, ..case }
    };
    let endless = |what| {
        let script =
            Script { beats: vec![Beat { wait: 7_000_000, bytes: 1 }], ..script(End::Exit(0)) };
        let job = JobPlan { timeout: Duration::from_secs(600), ..job(script) };
        finish(case(what, job))
    };
    let stubborn = job(Script { stubborn: true, ..script(End::Exit(0)) });
    vec![
        ordinary("the node is drained").at(20, Fault::Drain(0)),
        case("the same, and the script ignores TERM", stubborn).at(20, Fault::Drain(0)),
        finish(ordinary("the node is drained, and jobs may finish")).at(20, Fault::Drain(0)),
        endless("the same, and the job does not end in the pod's grace").at(20, Fault::Drain(0)),
        finish(ordinary("somebody deletes the pod, and jobs may finish"))
            .at(20, Fault::DeletePod(0)),
    ]
}

fn of_the_job() -> Vec<Case> {
    let timed = |stubborn| {
        let script = Script { stubborn, ..script(End::Exit(0)) };
        JobPlan { timeout: Duration::from_secs(20), ..job(script) }
    };
    let after = JobPlan { after_script: Some(script(End::Exit(4))), ..job(script(End::Exit(0))) };
    let stubborn = job(Script { stubborn: true, ..script(End::Exit(0)) });
    vec![
        ordinary("nothing"),
        case("the script exits with 7", job(script(End::Exit(7)))),
        case("the script is ended by SIGSEGV", job(script(End::Signal(11)))),
        case("`after_script` exits with 4", after),
        case("the job takes longer than its timeout", timed(false)),
        case("the same, and the script ignores TERM", timed(true)),
        ordinary("the job is cancelled while it runs").at(20, Fault::Cancel(0)),
        case("the same, and the script ignores TERM", stubborn).at(20, Fault::Cancel(0)),
        ordinary("the job is cancelled while its pod waits for a node")
            .at(0, Fault::Unschedulable(LONG))
            .at(20, Fault::Cancel(0)),
        ordinary("the job is erased in GitLab while it runs").at(20, Fault::Abort(0)),
    ]
}

fn of_the_source() -> Vec<Case> {
    vec![
        ordinary("GitLab answers 502 for a minute while the job runs")
            .at(10, Fault::SourceAway(MINUTE)),
        ordinary("GitLab answers 502 for a minute when the job ends")
            .at(40, Fault::SourceAway(MINUTE)),
        ordinary("GitLab answers 502 for a minute when the job begins")
            .arrives(1)
            .at(1, Fault::SourceAway(MINUTE)),
        ordinary("GitLab answers nothing for a minute").at(10, Fault::SourceSilent(MINUTE)),
        ordinary("a proxy answers 403 for a minute").at(10, Fault::SourceForbids(MINUTE)),
        ordinary("every answer of GitLab takes 10 s").at(2, Fault::SourceSlow(MINUTE / 6)),
        ordinary("five answers of GitLab are lost").at(10, Fault::SourceLosesAnswers(5)),
        ordinary("the answer to the verdict is lost").at(39, Fault::SourceLosesAnswers(2)),
        ordinary("GitLab loses the end of the log").at(20, Fault::SourceLosesTrace(0, 300)),
        ordinary("GitLab says once that its copy of the log is not right")
            .at(20, Fault::SourceRejectsTrace(0)),
        ordinary("GitLab says twice that its copy of the log is not right")
            .at(20, Fault::SourceRejectsTrace(0))
            .at(21, Fault::SourceRejectsTrace(0)),
        ordinary("GitLab asks for patience before it takes the verdict")
            .at(20, Fault::SourceHesitates(0, 3)),
    ]
}

fn of_managers() -> Vec<Case> {
    vec![
        ordinary("the manager is killed and comes back").at(20, Fault::ReplaceManager(0)),
        ordinary("one of two managers is killed").managers(2).at(20, Fault::KillManager(0)),
        ordinary("the other one of two managers is killed")
            .managers(2)
            .at(20, Fault::KillManager(1)),
        ordinary("managers are killed and replaced three times")
            .at(8, Fault::ReplaceManager(0))
            .at(20, Fault::ReplaceManager(0))
            .at(33, Fault::ReplaceManager(0)),
        ordinary("the manager is upgraded (SIGTERM, another one runs)")
            .managers(2)
            .at(20, Fault::RetireManager(0))
            .at(22, Fault::RetireManager(0))
            .at(23, Fault::AddManager),
        ordinary("no manager runs for a minute")
            .at(20, Fault::KillManager(0))
            .at(80, Fault::AddManager),
        ordinary("the manager reaches nobody for a minute").at(10, Fault::CutOff(0, MINUTE)),
        ordinary("both of two managers reach nobody for a minute")
            .managers(2)
            .at(10, Fault::CutOff(0, MINUTE))
            .at(10, Fault::CutOff(1, MINUTE)),
        ordinary("two managers stand still for a minute, one after the other")
            .managers(2)
            .at(10, Fault::Freeze(0, MINUTE))
            .at(40, Fault::Freeze(1, MINUTE)),
        ordinary("all clocks jump an hour ahead").at(10, Fault::ClockJump(3600)),
        ordinary("all clocks jump an hour back").at(10, Fault::ClockJump(-3600)),
    ]
}

fn of_the_api() -> Vec<Case> {
    let busy = Api::TooManyRequests { retry_after: Duration::from_secs(5) };
    vec![
        ordinary("the API server is away for a minute while the job runs")
            .at(10, Fault::ApiAway(MINUTE)),
        ordinary("the API server is away for a minute when the job begins")
            .arrives(5)
            .at(3, Fault::ApiAway(MINUTE)),
        ordinary("the API server is away for a minute when the job ends")
            .at(38, Fault::ApiAway(MINUTE)),
        ordinary("the API server is restarted").at(10, Fault::ApiRestart),
        ordinary("watches cannot go on (410)").at(10, Fault::ExpireWatches),
        ordinary("creating the pod: 500").api(1, "create", "pods", Api::Internal),
        ordinary("creating the pod: 429").api(1, "create", "pods", busy),
        ordinary("creating the pod: the answer is lost").api(1, "create", "pods", Api::LoseAnswer),
        ordinary("creating the pod: it takes a minute").api(
            1,
            "create",
            "pods",
            Api::Delay(MINUTE),
        ),
        ordinary("writing the job record: 503").api(1, "create", "secrets", Api::Unavailable),
        ordinary("writing the job record: the answer is lost").api(
            1,
            "create",
            "secrets",
            Api::LoseAnswer,
        ),
        ordinary("deleting the pod: 500").api(1, "delete", "pods", Api::Internal),
        ordinary("deleting the job record: a conflict").api(1, "delete", "secrets", Api::Conflict),
        ordinary("the stream is refused twice").api(1, "get", "pods/exec", Api::Internal),
        ordinary("all streams break").at(10, Fault::DropStreams),
        ordinary("the stream breaks after 700 bytes").at(0, Fault::DropStreamAfter(700)).arrives(1),
        ordinary("all streams stall for a minute").at(10, Fault::StallStreams(MINUTE)),
    ]
}

fn of_pods() -> Vec<Case> {
    const NO_SUCH: &str = "failed to pull and unpack image \"build:1\": failed to resolve reference \
                           \"build:1\": build:1: not found";
    const AWAY: &str = "failed to pull and unpack image \"build:1\": failed to do request: dial tcp \
                        192.0.2.1:443: connect: connection refused";
    vec![
        ordinary("the pod is evicted").at(20, Fault::Evict(0)),
        ordinary("the build container has no memory left")
            .at(20, Fault::OutOfMemory(0, Part::Build)),
        ordinary("the helper container has no memory left")
            .at(20, Fault::OutOfMemory(0, Part::Helper)),
        ordinary("the helper's first process is killed")
            .at(20, Fault::KillContainer(0, Part::Helper)),
        ordinary("the build container's first process is killed")
            .at(20, Fault::KillContainer(0, Part::Build)),
        ordinary("somebody deletes the pod").at(20, Fault::DeletePod(0)),
        ordinary("the node is lost").at(20, Fault::LoseNode(MINUTE)),
        ordinary("no node has room for a minute").arrives(5).at(1, Fault::Unschedulable(MINUTE)),
        ordinary("no node has room for long").arrives(5).at(1, Fault::Unschedulable(LONG)),
        ordinary("the quota is used up for a minute").arrives(5).at(1, Fault::Quota(MINUTE)),
        ordinary("the quota is used up for long").arrives(5).at(1, Fault::Quota(LONG)),
        ordinary("a webhook refuses the pod").arrives(5).at(1, Fault::Webhook(MINUTE)),
        ordinary("the image does not exist").pull(&[NO_SUCH; 20]),
        ordinary("the registry is away once").pull(&[AWAY]),
        ordinary("the registry is away for long").pull(&[AWAY; 20]),
    ]
}

struct Row {
    what: &'static str,
    reason: &'static str,
    code: String,
    line: String,
}

fn row(case: Case) -> Row {
    let Case { what, schedule, setup } = case;
    // Its own: rows of the same seed have the same names.
    let work = crate::work_dir();
    let dir = work.path().to_owned();
    // The laws know jobs that could begin.
    let lawful = setup.pull.is_none();
    // A thread of its own: see `fixed`.
    let end = std::thread::Builder::new()
        .stack_size(8 << 20)
        .spawn(move || run::run_with(&schedule, &dir, &setup))
        .unwrap()
        .join()
        .unwrap_or_else(|_| panic!("{what}: it panicked"));
    let broken = laws::broken(&end);
    assert!(!lawful || broken.is_empty(), "{what}: {broken:#?}");
    let job = &end.jobs[0];
    let line = last_line(&job.trace);
    let Some((outcome, _)) = &job.verdict else {
        return Row { what, reason: "none is wanted", code: String::new(), line };
    };
    let code = match outcome {
        Outcome::Exited(code) => code.to_string(),
        Outcome::Infra(infra) => infra.exit_code.map(|code| code.to_string()).unwrap_or_default(),
        _ => String::new(),
    };
    let reason = match outcome.is_success() {
        true => "success",
        false => runner_gitlab::failure_reason(outcome).unwrap_or("none"),
    };
    Row { what, reason, code, line }
}

/// The last line of a log as a person sees it.
fn last_line(trace: &[u8]) -> String {
    let text = String::from_utf8_lossy(trace);
    let line = text.lines().last().unwrap_or_default();
    let line = line.get(32..).filter(|_| line.get(26..27) == Some("Z")).unwrap_or(line);
    let mut out = String::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once('\x1b') {
        out.push_str(before);
        let end = after.find(|c: char| c.is_ascii_alphabetic()).map_or(after.len(), |at| at + 1);
        rest = &after[end..];
    }
    out.push_str(rest);
    out.replace('|', "\\|")
}

fn page() -> String {
    let mut page = String::from(
        "# What goes wrong, and what its user sees\n\n\
         Made by `cargo test -p runner-bin --test chaos faults` (with `UPDATE_DOCS=1`), which runs one \
         job of 40 s\nfor each row: the real manager, executor, HTTP client, stream and agent, on the \
         simulated API server and a\nsource in memory. In every row the job's log is complete as far as \
         its pod lived, and nothing is left behind.\nThe reasons are GitLab's words; an older GitLab \
         gets the nearest that it knows.\n",
    );
    let chapters = [
        ("The job itself", of_the_job()),
        ("GitLab", of_the_source()),
        ("Managers", of_managers()),
        ("The API server and streams", of_the_api()),
        ("Pods, nodes and images", of_pods()),
        ("Pods that are taken away (`pod_disruption_policy`)", of_disruptions()),
    ];
    let mut kinds = 0;
    for (title, cases) in chapters {
        let _ = write!(
            page,
            "\n## {title}\n\n| What happens | Failure reason | Exit code | Last line of the log |\n\
             |---|---|---|---|\n"
        );
        kinds += cases.len();
        // A few at once: each has a thread of its own.
        let mut rows = Vec::new();
        let mut cases = cases.into_iter().peekable();
        while cases.peek().is_some() {
            let some: Vec<_> = cases.by_ref().take(AT_ONCE).collect();
            std::thread::scope(|scope| {
                let threads: Vec<_> =
                    some.into_iter().map(|case| scope.spawn(|| row(case))).collect();
                rows.extend(threads.into_iter().map(|thread| thread.join().unwrap()));
            });
        }
        for Row { what, reason, code, line } in rows {
            let _ = writeln!(page, "| {what} | {reason} | {code} | {line} |");
        }
    }
    assert!(kinds >= 50, "{kinds} kinds");
    page
}

#[test]
fn faults_and_what_users_see_of_them_are_what_the_page_says() {
    let page = page();
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/faults.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    for (line, (now, then)) in page.lines().zip(written.lines()).enumerate() {
        assert_eq!(now, then, "docs/faults.md, line {}: stale; UPDATE_DOCS=1 writes it", line + 1);
    }
    assert_eq!(page.lines().count(), written.lines().count(), "docs/faults.md is stale");
    crate::symptoms::check(&page, std::env::var_os("UPDATE_DOCS").is_some());
}
