//! When to ping, and when to give up. Pure: it is told the time.

use tokio::time::Instant;

use super::error::Silence;
use super::target::Patience;

/// What the driver knows about the connection when it asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Situation {
    /// Bytes of ours wait for the other side to read.
    pub(super) unsent: bool,
    /// We do not read, because the consumer does not take what is there.
    pub(super) paused: bool,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// Send a ping, then ask again.
    Ping,
    /// Nothing before this time.
    Wait(Instant),
    /// Give up.
    GiveUp(Silence),
}

#[derive(Debug)]
pub(super) struct Keepalive {
    patience: Patience,
    /// Since when the connection's silence counts: the last sign of life, or the end of a time
    /// in which none could come.
    heard: Instant,
    /// The same for the command's output.
    agent: Instant,
    pinged: Instant,
    before: Situation,
}

impl Keepalive {
    pub(super) fn new(patience: Patience, now: Instant) -> Self {
        Self { patience, heard: now, agent: now, pinged: now, before: Situation::default() }
    }

    /// Something came, if only a pong.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard = now;
    }

    /// The command wrote something.
    pub(super) fn heard_agent(&mut self, now: Instant) {
        self.heard = now;
        self.agent = now;
    }

    pub(super) fn check(&mut self, now: Instant, situation: Situation) -> Check {
        let Patience { ping, pong, agent, .. } = self.patience;
        let before = std::mem::replace(&mut self.before, situation);
        if before.paused && !situation.paused {
            (self.heard, self.agent) = (now, now);
        }
        if before.unsent && !situation.unsent {
            self.heard = now;
        }
        if situation.paused {
            // Neither pongs nor beats can be seen. Pings still keep middle boxes awake.
            return self.ping_or(now, now + ping);
        }
        if now >= self.agent + agent {
            return Check::GiveUp(Silence::Agent(agent));
        }
        let mut next = self.agent + agent;
        if !situation.unsent {
            if now >= self.heard + pong {
                return Check::GiveUp(Silence::Connection(pong));
            }
            next = next.min(self.heard + pong);
        }
        self.ping_or(now, next)
    }

    /// A ping is due `ping` after the last sign of life, and again every `ping`.
    fn ping_or(&mut self, now: Instant, next: Instant) -> Check {
        let due = self.heard.max(self.pinged) + self.patience.ping;
        if now < due {
            return Check::Wait(next.min(due));
        }
        self.pinged = now;
        Check::Ping
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::{Check, Keepalive, Situation};
    use crate::stream::error::Silence;
    use crate::stream::target::Patience;

    const FINE: Situation = Situation { unsent: false, paused: false };
    const UNSENT: Situation = Situation { unsent: true, paused: false };
    const PAUSED: Situation = Situation { unsent: false, paused: true };

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn pings_go_out_every_15_s_of_silence_and_60_s_without_an_answer_are_the_end() {
        let start = Instant::now();
        let mut keepalive =
            Keepalive::new(Patience { agent: s(600), ..Patience::default() }, start);
        assert_eq!(keepalive.check(start, FINE), Check::Wait(start + s(15)));
        assert_eq!(keepalive.check(start + s(15), FINE), Check::Ping);
        assert_eq!(keepalive.check(start + s(15), FINE), Check::Wait(start + s(30)));
        assert_eq!(keepalive.check(start + s(30), FINE), Check::Ping);
        keepalive.heard(start + s(31));
        assert_eq!(keepalive.check(start + s(31), FINE), Check::Wait(start + s(46)));
        let silence = Check::GiveUp(Silence::Connection(s(60)));
        assert_eq!(keepalive.check(start + s(91), FINE), silence);
    }

    #[test]
    fn pongs_do_not_hide_a_relay_that_hangs() {
        let start = Instant::now();
        let mut keepalive = Keepalive::new(Patience::default(), start);
        keepalive.heard(start + s(59));
        assert_eq!(keepalive.check(start + s(59), FINE), Check::Wait(start + s(60)));
        let silence = Check::GiveUp(Silence::Agent(s(60)));
        assert_eq!(keepalive.check(start + s(60), FINE), silence);
    }

    #[test]
    fn a_pong_is_not_missed_while_input_is_in_flight() {
        let start = Instant::now();
        let mut keepalive =
            Keepalive::new(Patience { agent: s(600), ..Patience::default() }, start);
        keepalive.check(start, UNSENT);
        assert_eq!(keepalive.check(start + s(100), UNSENT), Check::Ping);
        assert_eq!(keepalive.check(start + s(101), FINE), Check::Wait(start + s(116)));
        assert!(matches!(keepalive.check(start + s(161), FINE), Check::GiveUp(_)));
    }

    #[test]
    fn a_slow_consumer_is_not_the_other_sides_silence() {
        let start = Instant::now();
        let mut keepalive = Keepalive::new(Patience::default(), start);
        keepalive.check(start, PAUSED);
        assert_eq!(keepalive.check(start + s(500), PAUSED), Check::Ping);
        assert_eq!(keepalive.check(start + s(501), FINE), Check::Wait(start + s(516)));
        assert!(matches!(keepalive.check(start + s(561), FINE), Check::GiveUp(_)));
    }
}
