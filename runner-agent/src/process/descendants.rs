//! Ending everything that a job has started, wherever it hides.

use std::fs;
use std::io;

use rustix::process::{
    Pid, Signal, getpid, kill_process, kill_process_group, set_child_subreaper,
    test_kill_process_group,
};

/// Orphans of this process' descendants become its children, as if it were init, so that none can
/// escape by changing its session. (As PID 1 that is so anyway.)
///
/// # Errors
/// On kernels before 3.4.
pub fn become_reaper_of_descendants() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Sends a signal to a process group. A group without members is fine.
pub fn signal_group(group: Pid, signal: Signal) {
    // ESRCH: nobody left. EPERM: only processes of another user left, which only
    // `kill_everything` as root could reach.
    let _ = kill_process_group(group, signal);
}

/// Whether the group has no members left (zombies count as members until they are reaped).
pub fn group_is_empty(group: Pid) -> bool {
    test_kill_process_group(group) == Err(rustix::io::Errno::SRCH)
}

/// Kills every process that this one has started, directly or not.
///
/// As PID 1 of a container that is every other process in it, and the kernel does it in one step
/// that no fork can escape; unless somebody from outside has started a program here (a terminal, a
/// probe), whose family is spared: a person who looks into a job that failed shall see how it left
/// things. A job cannot pass for one, its processes all descend from this one. Elsewhere (tests, the local executor) it is all descendants as `/proc`
/// shows them, again and again until there are none, since one may fork while another is killed.
pub fn kill_everything() {
    if getpid().is_init() && !has_visitors() {
        // Group "1" means everybody but PID 1 itself.
        let _ = kill_process_group(Pid::INIT, Signal::KILL);
        return;
    }
    // A fork bomb can outrun this; a container's PID limit or the loop's own bound ends it. 200
    // rounds are far more than a chain of forks survives.
    for _ in 0..200 {
        let victims = descendants(getpid());
        if victims.is_empty() {
            return;
        }
        for victim in victims {
            let _ = kill_process(victim, Signal::KILL);
        }
    }
}

/// Whether a process in this container was started from outside of it: such a one has no parent.
pub fn has_visitors() -> bool {
    processes().iter().any(|(pid, parent, _)| *parent == 0 && *pid != 1)
}

/// All processes: id, parent, whether dead.
fn processes() -> Vec<(i32, i32, bool)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter_map(|pid| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // The name in parentheses may hold anything, even parentheses: look behind the last.
            let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
            let state = fields.next()?;
            let parent = fields.next()?.parse().ok()?;
            Some((pid, parent, state == "Z" || state == "X"))
        })
        .collect()
}

/// Living descendants of a process; zombies are not alive.
fn descendants(of: Pid) -> Vec<Pid> {
    let family = processes();
    let mut found = vec![of.as_raw_nonzero().get()];
    let mut next = 0;
    while next < found.len() {
        let parent = found[next];
        found.extend(family.iter().filter(|(_, of, _)| *of == parent).map(|(pid, ..)| *pid));
        next += 1;
    }
    found[1..]
        .iter()
        .filter(|pid| family.iter().any(|(other, _, dead)| other == *pid && !dead))
        .filter_map(|pid| Pid::from_raw(*pid))
        .collect()
}
