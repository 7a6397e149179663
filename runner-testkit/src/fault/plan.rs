//! Which connection is hurt how and where: pure, so that a seed means the same on every machine.

use std::ops::Range;
use std::time::Duration;

/// Which way bytes flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the client, through the proxy, to the server.
    ToServer,
    /// From the server, through the proxy, to the client.
    ToClient,
}

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Both ends see an orderly end of the stream (FIN), wherever in a message that may be.
    Close,
    /// Both ends get a reset (RST); bytes on their way are lost.
    Reset,
    /// Nothing passes any more in either direction, while both ends stay connected: what a dead
    /// middlebox looks like.
    Stall {
        /// For how long. `None`: for ever.
        lasting: Option<Duration>,
    },
    /// From here on at most so many bytes per second pass in this direction.
    Slow {
        /// Bytes per second, at least 1.
        rate: u64,
    },
    /// The receiver in this direction sees the end of the stream; the other direction goes on.
    HalfClose,
}

/// What is done to connections as they come. Made by [`FaultPlan::none`], [`FaultPlan::each`] or
/// [`FaultPlan::random`].
#[derive(Clone, Debug)]
pub struct FaultPlan {
    kind: Kind,
    skip: u64,
    pub(super) times: u64,
}

#[derive(Clone, Debug)]
enum Kind {
    None,
    Each { fault: Fault, direction: Direction, at: u64 },
    Random { seed: u64, probability: f64, within: Range<u64>, faults: Vec<Fault> },
}

/// What will happen to one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fate {
    pub(super) direction: Direction,
    pub(super) at: u64,
    pub(super) fault: Fault,
}

impl FaultPlan {
    /// Everything passes.
    #[must_use]
    pub fn none() -> Self {
        Self { kind: Kind::None, skip: 0, times: u64::MAX }
    }

    /// The same fault for each connection, before its first byte to the client unless
    /// [`at`](Self::at) says otherwise.
    #[must_use]
    pub fn each(fault: Fault) -> Self {
        Self {
            kind: Kind::Each { fault, direction: Direction::ToClient, at: 0 },
            skip: 0,
            times: u64::MAX,
        }
    }

    /// Resets at random: each connection, in the order of acceptance, draws from `seed` whether,
    /// where and how it is hurt, so a run with the same order of connections is hurt the same.
    ///
    /// Defaults: probability 1, within the first 64 KiB, [`Fault::Reset`] only.
    #[must_use]
    pub fn random(seed: u64) -> Self {
        Self {
            kind: Kind::Random {
                seed,
                probability: 1.0,
                within: 0..64 * 1024,
                faults: vec![Fault::Reset],
            },
            skip: 0,
            times: u64::MAX,
        }
    }

    /// Exactly so many bytes pass in this direction before the fault. Only for [`each`](Self::each).
    #[must_use]
    pub fn at(mut self, to: Direction, bytes: u64) -> Self {
        if let Kind::Each { direction, at, .. } = &mut self.kind {
            (*direction, *at) = (to, bytes);
        }
        self
    }

    /// How likely a connection is to be hurt, 0 to 1. Only for [`random`](Self::random).
    #[must_use]
    pub fn probability(mut self, chance: f64) -> Self {
        if let Kind::Random { probability, .. } = &mut self.kind {
            *probability = chance;
        }
        self
    }

    /// The range of byte counts to draw from. Only for [`random`](Self::random).
    #[must_use]
    pub fn within(mut self, bytes: Range<u64>) -> Self {
        if let Kind::Random { within, .. } = &mut self.kind {
            *within = bytes;
        }
        self
    }

    /// The faults to draw from; none means no fault. Only for [`random`](Self::random).
    #[must_use]
    pub fn of(mut self, choice: impl IntoIterator<Item = Fault>) -> Self {
        if let Kind::Random { faults, .. } = &mut self.kind {
            *faults = choice.into_iter().collect();
        }
        self
    }

    /// Leaves the next `connections` alone.
    #[must_use]
    pub fn skip(mut self, connections: u64) -> Self {
        self.skip = connections;
        self
    }

    /// Stops after so many faults that really happened. Default: no end.
    #[must_use]
    pub fn times(mut self, faults: u64) -> Self {
        self.times = faults;
        self
    }

    /// What happens to the `nth` connection since the plan was set.
    pub(super) fn fate(&self, nth: u64) -> Option<Fate> {
        let nth = nth.checked_sub(self.skip)?;
        match &self.kind {
            Kind::None => None,
            Kind::Each { fault, direction, at } => {
                Some(Fate { direction: *direction, at: *at, fault: *fault })
            }
            Kind::Random { seed, probability, within, faults } => {
                let mut dice = Dice::new(*seed, nth);
                // All four are drawn each time, so that changing one setting leaves the others be.
                let (chance, way, place, which) =
                    (dice.roll(), dice.roll(), dice.roll(), dice.roll());
                // The upper 53 bits, as a fraction: what an f64 holds without rounding.
                let hurt = ((chance >> 11) as f64 / (1_u64 << 53) as f64) < *probability;
                if !hurt || faults.is_empty() {
                    return None;
                }
                let span = within.end.saturating_sub(within.start).max(1);
                Some(Fate {
                    direction: if way & 1 == 0 { Direction::ToServer } else { Direction::ToClient },
                    at: within.start + place % span,
                    fault: faults[(which % faults.len() as u64) as usize],
                })
            }
        }
    }
}

/// SplitMix64: small, well spread, and the same everywhere.
struct Dice(u64);

impl Dice {
    fn new(seed: u64, nth: u64) -> Self {
        let mut dice = Self(seed);
        dice.0 = dice.roll() ^ nth.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        dice
    }

    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fates(plan: &FaultPlan) -> Vec<Option<Fate>> {
        (0..1000).map(|nth| plan.fate(nth)).collect()
    }

    #[test]
    fn the_same_seed_hurts_the_same_connections_at_the_same_bytes() {
        let plan = |seed| FaultPlan::random(seed).probability(0.3).of([Fault::Reset, Fault::Close]);
        assert_eq!(fates(&plan(7)), fates(&plan(7)));
        assert_ne!(fates(&plan(7)), fates(&plan(8)));
    }

    #[test]
    fn about_the_given_share_of_connections_is_hurt_within_the_range() {
        let plan = FaultPlan::random(1).probability(0.3).within(10..20);
        let hurt: Vec<_> = fates(&plan).into_iter().flatten().collect();
        assert!((250..350).contains(&hurt.len()), "{}", hurt.len());
        assert!(hurt.iter().all(|fate| (10..20).contains(&fate.at)));
        assert!(hurt.iter().any(|fate| fate.direction == Direction::ToServer));
        assert!(hurt.iter().any(|fate| fate.direction == Direction::ToClient));
    }

    #[test]
    fn skipped_connections_are_left_alone() {
        let plan = FaultPlan::each(Fault::Close).skip(2);
        assert_eq!((plan.fate(0), plan.fate(1)), (None, None));
        assert!(plan.fate(2).is_some());
    }
}
