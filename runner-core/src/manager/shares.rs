//! What all jobs of a manager share, so that a thousand that come at once do not need a thousand times what one
//! needs for a moment.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};

/// Jobs that are planned and written down, or started, at once. For that a job is in memory as its payload, plan, record
/// and requests, with a connection of its own. Kubernetes promises an answer to a write within a second for 99 of
/// 100: so a thousand jobs are written down in about half of the minute after which GitLab gives a job that
/// nobody acknowledged to somebody else. Usually an answer takes some milliseconds, and nobody waits.
const STARTS: usize = 32;
/// After this time a start makes room for another one and goes on beside it: one cluster that is slow, or waits for
/// something that is missing, must not hold up the jobs of others.
const TURN: Duration = Duration::from_secs(2);
/// Pieces of trace of up to 1 MiB that are fetched ahead of their sending: 32 MiB. Gathering one takes 200 ms, so
/// these are more than 100 MiB/s. The other jobs send smaller pieces meanwhile.
const PIECES: usize = 32;

/// The shares of a manager; clones are the same ones.
#[derive(Clone, Debug)]
pub(super) struct Shares {
    starts: Arc<Semaphore>,
    pieces: Pieces,
}

impl Default for Shares {
    fn default() -> Self {
        Self {
            starts: Arc::new(Semaphore::new(STARTS)),
            pieces: Pieces(Arc::new(Semaphore::new(PIECES))),
        }
    }
}

/// Room for large pieces of trace.
#[derive(Clone, Debug)]
pub(super) struct Pieces(Arc<Semaphore>);

/// The room for one piece; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Room(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

/// The right to start a job beside others.
#[derive(Debug)]
pub(super) struct StartTurn {
    permit: OwnedSemaphorePermit,
    until: Instant,
}

impl Shares {
    /// Waits for a turn, first come, first served. Nobody keeps one for longer than [`TURN`].
    pub(super) async fn start_turn(&self) -> StartTurn {
        let permit = Arc::clone(&self.starts).acquire_owned().await;
        let permit = permit.expect("this semaphore is never closed");
        StartTurn { permit, until: Instant::now() + TURN }
    }

    pub(super) fn pieces(&self) -> Pieces {
        self.pieces.clone()
    }
}

impl StartTurn {
    /// Does something in this turn, and after the turn is over without it.
    pub(super) async fn spend<T>(self, work: impl Future<Output = T>) -> T {
        let Self { permit, until } = self;
        let mut work = pin!(work);
        tokio::select! {
            biased;
            done = &mut work => return done,
            () = sleep_until(until) => drop(permit),
        }
        work.await
    }
}

impl Pieces {
    /// Room for pieces of one follower that shares with nobody.
    pub(super) fn own() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }

    /// Room for one piece, if there is any now.
    pub(super) fn take(&self) -> Option<Room> {
        Arc::clone(&self.0).try_acquire_owned().ok().map(Room)
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use tokio::time::{Instant, timeout};

    use super::{PIECES, STARTS, Shares, TURN};

    #[tokio::test(start_paused = true)]
    async fn a_start_that_takes_long_makes_room_for_the_next_and_goes_on() {
        let shares = Shares::default();
        let began = Instant::now();
        let mut slow = Vec::new();
        for _ in 0..STARTS {
            let turn = shares.start_turn().await;
            slow.push(tokio::spawn(turn.spend(tokio::time::sleep(Duration::from_secs(60)))));
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        shares.start_turn().await.spend(async {}).await;
        assert_eq!(began.elapsed().as_secs(), TURN.as_secs());
        for start in slow {
            start.await.unwrap();
        }
        assert_eq!(began.elapsed().as_secs(), 60);
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_start_at_once_than_there_are_turns() {
        let shares = Shares::default();
        let mut turns = Vec::new();
        for _ in 0..STARTS {
            turns.push(shares.start_turn().await);
        }
        let next = timeout(TURN / 2, shares.start_turn()).await;
        assert!(next.is_err(), "there are {STARTS}");
        turns.pop();
        drop(shares.start_turn().await);
        // One that is given up gives its place back.
        let turn = shares.start_turn().await;
        drop(timeout(TURN / 2, turn.spend(pending::<()>())).await);
        drop(shares.start_turn().await);
    }

    #[test]
    fn large_pieces_are_bounded_over_all_jobs() {
        let pieces = Shares::default().pieces();
        let mut rooms: Vec<_> = (0..PIECES).map(|_| pieces.take().unwrap()).collect();
        assert!(pieces.clone().take().is_none());
        rooms.pop();
        assert!(pieces.take().is_some());
    }
}
