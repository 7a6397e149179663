//! A pod that is ready before there is a job for it: waits for a manager that brings the plan.
//!
//! ```text
//!   manager  Hello ──►            ◄── Refused (unassigned)
//!            Assign, Assign, … ──►    the plan lies in the state directory: from now on this is the
//!            Hello ──►            ◄── Welcome                      pod of that job and of no other
//! ```
//!
//! The plan comes over the stream, because whoever may read the namespace's objects must not read it;
//! it is written down before anything runs, so that a restarted supervisor goes on with the same job.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use runner_core::wire::{AgentCodec, AgentFrame, ManagerFrame, RefusalReason, Refused};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::codec::Framed;

use crate::session::version_objection;

/// The plan's file in the state directory.
pub const PLAN_FILE: &str = "plan.0";
/// Longest plan as it travels, compressed: what fits a job record.
const LONGEST_PLAN: usize = 1 << 20;
/// A manager that says nothing for this long is gone.
const SILENCE: Duration = Duration::from_secs(30);
/// Most managers at once: one, and what is left of connections that were cut.
const MOST_SESSIONS: usize = 16;

/// A manager's connection.
pub type ManagerStream = Framed<UnixStream, AgentCodec>;

/// Waits for a plan and keeps it. The first one that comes whole is the one. `None`: none came in
/// time.
///
/// # Errors
/// When it cannot be kept.
pub async fn wait_for_plan(
    listener: &UnixListener,
    directory: &Path,
    patience: Duration,
) -> io::Result<Option<ManagerStream>> {
    let give_up = Instant::now() + patience;
    let mut sessions = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if sessions.len() < MOST_SESSIONS => {
                if let Ok((stream, _)) = accepted {
                    sessions.spawn_local(assignment(Framed::new(stream, AgentCodec)));
                }
            }
            Some(ended) = sessions.join_next(), if !sessions.is_empty() => {
                if let Ok(Some((plan, manager))) = ended {
                    keep(directory, &plan)?;
                    return Ok(Some(manager));
                }
            }
            () = sleep_until(give_up) => return Ok(None),
        }
    }
}

/// One manager's plan. `None`: it did not bring one.
async fn assignment(mut manager: ManagerStream) -> Option<(Vec<u8>, ManagerStream)> {
    let mut plan = Vec::new();
    loop {
        match timeout(SILENCE, manager.next()).await {
            Ok(Some(Ok(ManagerFrame::Hello(hello)))) => {
                if let Some(refused) = version_objection(&hello) {
                    // Neither does the pod become its job's: a manager that can be talked to takes it.
                    manager.send(AgentFrame::Refused(refused)).await.ok()?;
                    return None;
                }
                let message = "this pod waits for its job".to_owned();
                let refused = Refused { reason: RefusalReason::Unassigned, message };
                manager.send(AgentFrame::Refused(refused)).await.ok()?;
            }
            Ok(Some(Ok(ManagerFrame::Assign(piece)))) => {
                plan.extend_from_slice(&piece.bytes);
                if plan.len() > LONGEST_PLAN {
                    return None;
                }
                if piece.last {
                    return Some((plan, manager));
                }
            }
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(_)) | None) | Err(_) => return None,
        }
    }
}

fn keep(directory: &Path, plan: &[u8]) -> io::Result<()> {
    let fresh = directory.join("plan.new");
    let mut options = fs::OpenOptions::new();
    let mut file = options.create(true).write(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(plan)?;
    fs::rename(&fresh, directory.join(PLAN_FILE))
}

#[cfg(test)]
mod tests {
    use runner_core::ids::{Epoch, JobId, Offset};
    use runner_core::wire::{AssignFrame, Hello, ManagerCodec, WIRE_VERSION};
    use tokio::task::LocalSet;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn hello(version: u32) -> ManagerFrame {
        let (job, epoch) = (JobId(7), Epoch(1));
        ManagerFrame::Hello(Hello { version, job, epoch, from: Offset::ZERO, until: Offset::ZERO })
    }

    async fn refusal(manager: &mut Framed<UnixStream, ManagerCodec>) -> Refused {
        match timeout(PATIENCE, manager.next()).await.unwrap().unwrap().unwrap() {
            AgentFrame::Refused(refused) => refused,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_waiting_pod_is_not_given_to_a_manager_whose_version_is_not_known() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("socket");
        let listener = UnixListener::bind(&socket).unwrap();
        let managers = async {
            let connect = || UnixStream::connect(&socket);
            let mut unknown = Framed::new(connect().await.unwrap(), ManagerCodec);
            unknown.send(hello(0)).await.unwrap();
            assert_eq!(refusal(&mut unknown).await.reason, RefusalReason::Version);
            // Whatever plan it has, nobody reads it.
            assert!(timeout(PATIENCE, unknown.next()).await.unwrap().is_none());

            let mut known = Framed::new(connect().await.unwrap(), ManagerCodec);
            known.send(hello(WIRE_VERSION)).await.unwrap();
            assert_eq!(refusal(&mut known).await.reason, RefusalReason::Unassigned);
            let bytes = bytes::Bytes::from_static(b"the plan");
            known.send(ManagerFrame::Assign(AssignFrame { last: true, bytes })).await.unwrap();
            known
        };
        let waiting = wait_for_plan(&listener, directory.path(), PATIENCE);
        let (waited, _known) =
            LocalSet::new().run_until(async { tokio::join!(waiting, managers) }).await;
        assert!(waited.unwrap().is_some());
        assert_eq!(fs::read(directory.path().join(PLAN_FILE)).unwrap(), b"the plan");
    }
}
