//! When a running job's trace is sent: the rhythm, without any I/O.
//!
//! The first bytes go at once, and so do the first of the job's own commands, which is what people wait
//! for; after that one piece per interval, as the source asks. A piece is
//! gathered for a moment when more is there than is fetched ahead. When the job is over there is no
//! rhythm any more: everything goes as fast as the source takes it.

use std::time::Duration;

use tokio::time::Instant;

use super::settings::{KeepAlivePace, RelaySettings};
use super::shares::{Pieces, Room};
use super::trace_relay::{AHEAD, PIECE};

/// How long a piece is gathered at most, once its turn has come.
const GATHER: Duration = Duration::from_millis(200);
/// The interval while the trace lags behind by whole pieces. GitLab Runner sends one piece per
/// interval whatever the lag; this drains 2 MiB/s and stays gentle.
const LAGGING: Duration = Duration::from_millis(500);

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Send a piece.
    Send,
    /// Nothing was sent for long: say that the job is alive.
    Touch,
    /// All is stored and the job is over: report the verdict.
    Finish,
    /// Nothing before this time, unless something happens.
    Wait(Instant),
}

/// What [`Rhythm::turn`] looks at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sight {
    /// Bytes that are here and not stored yet.
    pub(super) waiting: u64,
    /// The job is over, or about to be: no more rhythm.
    pub(super) draining: bool,
    /// More of the job's own trace is on its way: a piece may be gathered.
    pub(super) more: bool,
    /// The job is over and the source has all of its trace.
    pub(super) complete: bool,
}

/// The state of the rhythm.
#[derive(Debug)]
pub(super) struct Rhythm {
    interval: Duration,
    keep_alive: Duration,
    keep_alive_pace: KeepAlivePace,
    /// The source asked not to be spoken to before.
    not_before: Instant,
    next_piece: Instant,
    last_contact: Instant,
    gathering: Option<Instant>,
    pieces: Pieces,
    /// For what is fetched beyond [`AHEAD`], until the source has it: also while it cannot be reached.
    room: Option<Room>,
    /// The interval that is usual: a source that asks for more is not hurried.
    usual: Duration,
    hurry: Hurry,
}

/// Whether a piece may go before its turn: one for each job, so that no script costs more requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hurry {
    NotYet,
    Now,
    Over,
}

impl Rhythm {
    pub(super) fn new(now: Instant, settings: &RelaySettings) -> Self {
        Self {
            interval: settings.interval,
            keep_alive: settings.keep_alive,
            keep_alive_pace: settings.keep_alive_pace,
            not_before: now,
            next_piece: now,
            last_contact: now,
            gathering: None,
            pieces: Pieces::own(),
            room: None,
            usual: settings.interval,
            hurry: Hurry::NotYet,
        }
    }

    /// Large pieces have room among those of other jobs.
    pub(super) fn sharing(self, pieces: Pieces) -> Self {
        Self { pieces, ..self }
    }

    /// The job's own commands begin.
    pub(super) fn commands_begin(&mut self) {
        if self.hurry == Hurry::NotYet {
            self.hurry = Hurry::Now;
        }
    }

    /// What to do now, when nothing is under way.
    pub(super) fn turn(&mut self, now: Instant, sight: Sight) -> Turn {
        if now < self.not_before {
            return Turn::Wait(self.not_before);
        }
        if sight.draining {
            return if sight.more && sight.waiting < PIECE {
                self.gather(now)
            } else if sight.waiting > 0 {
                Turn::Send
            } else if sight.complete {
                Turn::Finish
            } else {
                self.touch_or_wait(now)
            };
        }
        if sight.waiting == 0 {
            return self.touch_or_wait(now);
        }
        if now < self.next_piece {
            if self.hurry != Hurry::Now || self.interval > self.usual {
                return Turn::Wait(self.next_piece);
            }
            // Title and command come a moment before what the command prints.
            let turn = self.gather(now);
            if turn == Turn::Send {
                self.hurry = Hurry::Over;
            }
            return turn;
        }
        if (AHEAD..PIECE).contains(&sight.waiting) { self.gather(now) } else { Turn::Send }
    }

    /// Waits for a fuller piece, but not for long.
    fn gather(&mut self, now: Instant) -> Turn {
        let deadline = *self.gathering.get_or_insert(now + GATHER);
        if now < deadline { Turn::Wait(deadline) } else { Turn::Send }
    }

    fn touch_or_wait(&self, now: Instant) -> Turn {
        let due = self.last_contact + self.keep_alive;
        if now >= due { Turn::Touch } else { Turn::Wait(due) }
    }

    /// How many bytes after what is stored may be fetched now.
    pub(super) fn window(&mut self, draining: bool) -> u64 {
        if !draining && self.gathering.is_none() {
            return AHEAD;
        }
        if self.room.is_none() {
            self.room = self.pieces.take();
        }
        if self.room.is_some() { PIECE } else { AHEAD }
    }

    /// The source asked for another interval.
    pub(super) fn set_interval(&mut self, interval: Duration) {
        const LONGEST: Duration = Duration::from_secs(15 * 60);
        self.interval = interval.min(LONGEST);
        if self.keep_alive_pace == KeepAlivePace::FollowsInterval {
            let (least, most) = (Duration::from_secs(30), Duration::from_secs(30 * 60));
            self.keep_alive = (self.interval * 4).clamp(least, most);
        }
    }

    /// A piece of this many bytes was dealt with.
    pub(super) fn sent(&mut self, now: Instant, bytes: u64) {
        let crowded = self.gathering.is_some() && self.room.is_none();
        (self.gathering, self.room) = (None, None);
        self.last_contact = now;
        // A piece that was small for want of room is as much of a lag.
        let full = if crowded { AHEAD } else { PIECE };
        let pause = if bytes >= full { self.interval.min(LAGGING) } else { self.interval };
        self.next_piece = now + pause;
    }

    /// The source was told something else.
    pub(super) fn spoken(&mut self, now: Instant) {
        self.last_contact = now;
    }

    /// The source did not take it; not again before `wait` has passed.
    pub(super) fn pause(&mut self, now: Instant, wait: Duration) {
        self.gathering = None;
        self.not_before = now + wait;
    }

    /// The interval in force.
    pub(super) fn interval(&self) -> Duration {
        self.interval
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{AHEAD, KeepAlivePace, PIECE, RelaySettings, Rhythm, Sight, Turn};

    const SECOND: Duration = Duration::from_secs(1);

    fn rhythm() -> (Rhythm, Instant) {
        let now = Instant::now();
        (Rhythm::new(now, &RelaySettings::default()), now)
    }

    fn running(waiting: u64) -> Sight {
        Sight { waiting, draining: false, more: false, complete: false }
    }

    #[test]
    fn the_first_bytes_go_at_once_and_the_next_after_the_interval() {
        let (mut rhythm, now) = rhythm();
        assert_eq!(rhythm.turn(now, running(10)), Turn::Send);
        rhythm.sent(now, 10);
        assert_eq!(rhythm.turn(now, running(10)), Turn::Wait(now + 3 * SECOND));
        assert_eq!(rhythm.turn(now + 3 * SECOND, running(10)), Turn::Send);
    }

    #[test]
    fn the_first_lines_of_the_script_do_not_wait_for_their_turn_unless_the_source_asks_for_time() {
        let (mut rhythm, now) = rhythm();
        assert_eq!(rhythm.turn(now, running(10)), Turn::Send);
        rhythm.commands_begin();
        // The header's answer comes after the script has begun.
        rhythm.sent(now, 10);
        let gathered = now + Duration::from_millis(200);
        assert_eq!(rhythm.turn(now, running(10)), Turn::Wait(gathered));
        assert_eq!(rhythm.turn(gathered, running(20)), Turn::Send);
        rhythm.sent(gathered, 20);
        rhythm.commands_begin();
        let next = Turn::Wait(gathered + 3 * SECOND);
        assert_eq!(rhythm.turn(gathered, running(10)), next, "one piece, and one script");

        let (mut rhythm, now) = self::rhythm();
        rhythm.set_interval(60 * SECOND);
        rhythm.sent(now, 10);
        rhythm.commands_begin();
        assert_eq!(rhythm.turn(now, running(10)), Turn::Wait(now + 60 * SECOND));
    }

    #[test]
    fn a_silent_job_is_kept_alive() {
        let (mut rhythm, now) = rhythm();
        assert_eq!(rhythm.turn(now, running(0)), Turn::Wait(now + 30 * SECOND));
        assert_eq!(rhythm.turn(now + 30 * SECOND, running(0)), Turn::Touch);
        rhythm.spoken(now + 30 * SECOND);
        assert_eq!(rhythm.turn(now + 31 * SECOND, running(0)), Turn::Wait(now + 60 * SECOND));
    }

    #[test]
    fn signs_of_life_may_follow_the_interval_that_the_source_asks_for() {
        let now = Instant::now();
        let settings = RelaySettings {
            keep_alive_pace: KeepAlivePace::FollowsInterval,
            ..RelaySettings::default()
        };
        let mut rhythm = Rhythm::new(now, &settings);
        for (interval, sign) in [(3, 30), (60, 240), (900, 1800)] {
            rhythm.set_interval(interval * SECOND);
            assert_eq!(rhythm.turn(now, running(0)), Turn::Wait(now + sign * SECOND));
        }
    }

    #[test]
    fn a_loud_job_is_gathered_for_a_moment_and_drained_faster_while_it_lags() {
        let (mut rhythm, now) = rhythm();
        assert_eq!(rhythm.window(false), AHEAD);
        let Turn::Wait(deadline) = rhythm.turn(now, running(AHEAD)) else { panic!() };
        assert_eq!(rhythm.window(false), PIECE);
        assert_eq!(rhythm.turn(deadline, running(AHEAD * 2)), Turn::Send);
        assert_eq!(rhythm.turn(now, running(PIECE)), Turn::Send);
        rhythm.sent(now, PIECE);
        let Turn::Wait(next) = rhythm.turn(now, running(1)) else { panic!() };
        assert!(next < now + SECOND);
    }

    #[test]
    fn at_the_end_nothing_waits_for_a_turn() {
        let (mut rhythm, now) = rhythm();
        rhythm.sent(now, 10);
        let end = |waiting, complete| Sight { waiting, draining: true, more: false, complete };
        assert_eq!(rhythm.turn(now, end(5, false)), Turn::Send);
        assert_eq!(rhythm.turn(now, end(0, true)), Turn::Finish);
        assert_eq!(rhythm.window(true), PIECE);
        rhythm.pause(now, SECOND);
        assert_eq!(rhythm.turn(now, end(5, false)), Turn::Wait(now + SECOND));
    }
}
