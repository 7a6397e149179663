//! The faults' page turned round, by what one sees: the part of `docs/troubleshooting.md` between its two marks.
//!
//! A fault that makes a job fail needs a row in [`ADVICE`], and a row that no fault leads to is stale; either fails the
//! test of `faults`.

use std::fmt::Write as _;
use std::path::PathBuf;

const BEGIN: &str =
    "<!-- Made of the faults' table, by the test that makes faults.md: do not edit. -->\n";
const END: &str = "<!-- The end of what is made. -->\n";

/// How the last line goes on after `ERROR: Job failed: ` or `ERROR: Job failed (system failure): `, with `…` for what differs,
/// and what to do then.
const ADVICE: [(&str, &str); 14] = [
    (
        "command terminated with exit code …",
        "the job's own: the line above it is the command's. `allow_failure: exit_codes` and `retry: exit_codes` know the number",
    ),
    (
        "command terminated by signal …",
        "the job's own: signal 11 is a crash of the program, 9 somebody's `kill` (memory is named as such, below)",
    ),
    (
        "execution took longer than …",
        "the job's timeout is the lesser of the project's, the job's `timeout:` and the runner's; GitLab shows it beside the job",
    ),
    ("canceled", "somebody (or `interruptible:`) cancelled it in GitLab"),
    (
        "the job was evicted from its node …",
        "requests that are too small for what the job needs (`memory_request`, `ephemeral_storage_request`), or a node that was drained: `pod_disruption_policy = \"finish\"` lets jobs go on for the pod's grace; `retry: when: runner_system_failure`",
    ),
    (
        "the job's container used more memory than it may and was killed; …",
        "`memory_limit` of the runner, or `KUBERNETES_MEMORY_LIMIT` of the job as far as the runner's `memory_limit_overwrite_max_allowed` goes",
    ),
    (
        "the build container is gone: …",
        "something killed the container's first process or its runtime; the node's log (`kubectl describe node`) says what",
    ),
    (
        "the job's pod was deleted by someone while the job ran on node …",
        "the API server's audit log says who: often a clean-up of the namespace, or a person",
    ),
    (
        "the node … that the job ran on was tainted or lost",
        "spot machines and upgrades of nodes; `retry: when: runner_system_failure`, or a `node_selector` for machines that stay",
    ),
    (
        "the job did not start in time; it waited for …",
        "the line names what was missing. A larger cluster, smaller requests, or a longer `poll_timeout`",
    ),
    (
        "the namespace's quota leaves no room for the job: …",
        "`kubectl describe quota`; a `limit` of the runner that fits it, so that jobs wait in GitLab instead",
    ),
    (
        "a policy of the cluster does not allow the job's pod: …",
        "the words after the colon are the policy's; `podwright pod preview` shows the pod that is refused, without a cluster",
    ),
    (
        "an image for the job's container could not be pulled: … not found",
        "the name or the tag is wrong, or the registry hides it from who has no login (`DOCKER_AUTH_CONFIG`, `image_pull_secrets`); it is not tried again",
    ),
    (
        "an image for the job's container could not be pulled: … connection refused",
        "the registry was away three times; the job may be retried as it is. A cache of images near the cluster helps",
    ),
];

/// A row of the faults' page.
struct Fault<'a> {
    what: &'a str,
    reason: &'a str,
    line: &'a str,
}

/// Fails when `docs/troubleshooting.md` does not say what `faults`, the text of `docs/faults.md`, leads to; writes it
/// where `update` says so.
pub(crate) fn check(faults: &str, update: bool) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../docs/troubleshooting.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).expect("the page has the mark that begins");
    let (written, after) = rest.split_once(END).expect("the page has the mark that ends");
    let made = made(faults);
    if update {
        std::fs::write(&path, [before, BEGIN, &made, END, after].concat()).unwrap();
        return;
    }
    assert_eq!(written, made, "docs/troubleshooting.md is stale; UPDATE_DOCS=1 writes it");
}

/// The text between the marks.
fn made(faults: &str) -> String {
    let rows: Vec<(&str, Fault<'_>)> = rows(faults);
    let mut text = String::from(
        "\n## The job failed, and its log ends with\n\n`ERROR: Job failed: ` or `ERROR: Job failed (system failure): `, and then\n\n\
         | Words | GitLab's reason | What happened | What to do |\n|---|---|---|---|\n",
    );
    let mut explained = Vec::new();
    for (words, advice) in ADVICE {
        let of_it = || rows.iter().map(|(_, row)| row).filter(|row| fits(row.line, words));
        let mut reasons: Vec<_> = of_it().map(|row| row.reason).collect();
        reasons.dedup();
        // A row that begins so speaks of the one above it in the faults' table.
        let what: Vec<_> =
            of_it().map(|row| row.what).filter(|what| !what.starts_with("the same")).collect();
        assert!(!what.is_empty(), "no fault ends with `{words}`: its row is stale");
        explained.extend(of_it().map(|row| row.what));
        let _ = writeln!(
            text,
            "| `{words}` | {} | {} | {advice} |",
            reasons.join(", "),
            what.join("; ")
        );
    }
    text.push_str(
        "\n## The log stands still, or the job starts late, and then it goes on\n\nThe job itself runs on in its pod, or waits, and \
         nothing has to be done. It is what was seen of\n\n",
    );
    for (chapter, Fault { what, reason, line }) in &rows {
        if *reason == "success" && *chapter != "The job itself" {
            let _ = writeln!(text, "* {what}");
        } else if line.starts_with("ERROR") {
            assert!(
                explained.contains(what),
                "`{what}` fails a job, and ADVICE does not say what to do about `{line}`"
            );
        }
    }
    text.push('\n');
    text
}

/// Whether the last line of a log is one of `words`.
fn fits(line: &str, words: &str) -> bool {
    let Some((_, said)) =
        line.strip_prefix("ERROR: Job failed").and_then(|rest| rest.split_once(": "))
    else {
        return false;
    };
    match words.split_once('…') {
        Some((begin, end)) => said.starts_with(begin) && said.ends_with(end.trim_start()),
        None => said == words,
    }
}

/// The rows of the page with their chapters.
fn rows(faults: &str) -> Vec<(&str, Fault<'_>)> {
    let mut chapter = "";
    let mut rows = Vec::new();
    for line in faults.lines() {
        if let Some(title) = line.strip_prefix("## ") {
            chapter = title;
        }
        let cells: Vec<_> = line.split(" | ").collect();
        if let [what, reason, _, last] = cells[..]
            && what != "| What happens"
        {
            let what = what.trim_start_matches("| ");
            rows.push((chapter, Fault { what, reason, line: last.trim_end_matches(" |") }));
        }
    }
    assert!(rows.len() >= 50, "{} rows: is the table another one now?", rows.len());
    rows
}
