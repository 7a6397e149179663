//! Finds processes of containers where no process namespace holds them together.
//!
//! Each container's program starts with a marker in its environment, which its descendants
//! inherit. A program that clears its environment is still found through its parents.

use std::collections::{HashMap, HashSet};
use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// Name of the marker variable.
pub(in super::super) const MARKER: &str = "PODWRIGHT_SIM";

/// Processes with a marker that begins so, and all their descendants.
pub(in super::super) fn find(marker: &str) -> Vec<u32> {
    let wanted = format!("{MARKER}={marker}");
    let mut parents = HashMap::new();
    let mut found = HashSet::new();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in pids.filter_map(|e| e.file_name().to_str()?.parse::<u32>().ok()) {
        let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        // After the name, which is in parentheses and can hold anything: state, parent.
        let mut rest = stat.rsplit(") ").next().unwrap_or("").split(' ');
        let (state, parent) = (rest.next().unwrap_or("Z"), rest.next().unwrap_or("0"));
        if state == "Z" || state == "X" {
            continue;
        }
        parents.insert(pid, parent.parse::<u32>().unwrap_or(0));
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        if environment.split(|&b| b == 0).any(|v| v.starts_with(wanted.as_bytes())) {
            found.insert(pid);
        }
    }
    loop {
        let more: Vec<u32> = parents
            .iter()
            .filter(|(pid, parent)| !found.contains(pid) && found.contains(parent))
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            break;
        }
        found.extend(more);
    }
    found.into_iter().collect()
}

/// Kills them all, also those that are started meanwhile.
pub(in super::super) fn kill(marker: &str) {
    // Ends when nothing is found; a fork bomb is bounded by the rounds.
    for _ in 0..100 {
        let found = find(marker);
        if found.is_empty() {
            return;
        }
        for pid in found {
            signal(pid, Signal::KILL);
        }
        std::thread::yield_now();
    }
}

/// Whether a process has a handler for TERM.
pub(in super::super) fn catches_term(pid: u32) -> bool {
    const TERM: u64 = 1 << (15 - 1);
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|l| l.strip_prefix("SigCgt:"));
    caught.and_then(|c| u64::from_str_radix(c.trim(), 16).ok()).is_some_and(|c| c & TERM != 0)
}

/// Sends a signal to one process, if it is still there.
pub(in super::super) fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may have ended.
        let _ = kill_process(pid, signal);
    }
}
