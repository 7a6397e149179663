//! Tells programs that this process has started from those that came from outside.
//!
//! In `helper` the job's author may run commands, too (hooks, `GIT_SSH_COMMAND`), as the same user as the
//! supervisor. What comes in by its sockets has to come from elsewhere: a manager's relay was started
//! from outside of the container, the build container's program in another one.

use std::fs;

use rustix::process::{Pid, getpid};
use tokio::net::UnixStream;

/// Longest chain of parents that is followed: a PID namespace has no deeper ones in practice.
const DEEPEST: usize = 4096;

/// Whether who is at the other end of this connection was started by this process, or by somebody it has
/// started: such a one cannot have another ancestor, since orphans become children of this process.
///
/// One that has ended meanwhile counts as such, as nobody can tell any more; one in a process namespace
/// that cannot be seen from here does not.
pub(crate) fn is_own_child(connection: &UnixStream) -> bool {
    match connection.peer_cred().map(|peer| peer.pid()) {
        // Not of this namespace.
        Ok(None | Some(0)) => false,
        Ok(Some(pid)) => descends(pid, getpid()),
        Err(_) => true,
    }
}

fn descends(pid: i32, from: Pid) -> bool {
    let mut now = pid;
    for _ in 0..DEEPEST {
        if now == from.as_raw_nonzero().get() {
            // A connection of this process to itself is as little from outside.
            return true;
        }
        match parent(now) {
            // Started from outside of the namespace, or nobody.
            Some(0) => return false,
            Some(parent) => now = parent,
            None => return true,
        }
    }
    true
}

fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, even parentheses: look behind the last.
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use rustix::process::getpid;

    use super::{descends, parent};

    #[test]
    fn children_are_told_from_everybody_else() {
        // It lives until its input ends.
        let mut shell = Command::new("/bin/sh")
            .args(["-c", "read line"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let own = getpid();
        let id = i32::try_from(shell.id()).unwrap();
        assert!(descends(id, own));
        assert_eq!(parent(id), Some(own.as_raw_nonzero().get()));
        // Who started this program was not started by it, nor was init.
        assert!(!descends(parent(own.as_raw_nonzero().get()).unwrap(), own));
        assert!(!descends(1, own));
        drop(shell.stdin.take());
        shell.wait().unwrap();
        // It is gone, so nobody knows.
        assert!(descends(id, own));
    }
}
