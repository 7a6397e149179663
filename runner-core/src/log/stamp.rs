//! The time in a line's header.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

/// Bytes of a formatted time: `2026-09-01T12:34:56.123456Z`.
pub(super) const LENGTH: usize = 27;

const MICROS: i64 = 1_000_000;

/// Formats times, and remembers the last one: most lines of a write share theirs, and the next
/// write's differs in the fraction only.
pub(super) struct Stamper {
    micros: i64,
    text: [u8; LENGTH],
}

impl Stamper {
    pub(super) fn new() -> Self {
        Self { micros: 0, text: *b"1970-01-01T00:00:00.000000Z" }
    }

    /// The time as text; `micros` since the Unix epoch, never before it.
    #[inline]
    pub(super) fn format(&mut self, micros: i64) -> &[u8; LENGTH] {
        if micros != self.micros {
            self.update(micros);
        }
        &self.text
    }

    fn update(&mut self, micros: i64) {
        if micros.div_euclid(MICROS) != self.micros.div_euclid(MICROS) {
            let time = date_time(micros);
            let date = [(0, i64::from(time.year()), 4), (5, time.month().into(), 2)];
            let rest =
                [(8, time.day()), (11, time.hour()), (14, time.minute()), (17, time.second())];
            let rest = rest.map(|(at, value)| (at, i64::from(value), 2));
            for (at, value, digits) in date.into_iter().chain(rest) {
                self.put(at, value, digits);
            }
        }
        self.put(20, micros.rem_euclid(MICROS), 6);
        self.micros = micros;
    }

    fn put(&mut self, at: usize, mut value: i64, digits: usize) {
        for place in self.text[at..at + digits].iter_mut().rev() {
            *place = b'0' + (value % 10) as u8;
            value /= 10;
        }
    }
}

/// Microseconds since the Unix epoch. A clock before it counts as the epoch: such a time is wrong
/// anyway, and years before 0 would not fit the header.
pub(super) fn micros(time: Timestamp) -> i64 {
    time.as_microsecond().max(0)
}

fn date_time(micros: i64) -> DateTime {
    Offset::UTC.to_datetime(Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use rstest::rstest;

    use super::{Stamper, micros};

    #[rstest]
    #[case("2026-09-01T12:34:56.123456Z", "2026-09-01T12:34:56.123456Z")]
    #[case("2026-09-01T12:34:56.123457Z", "2026-09-01T12:34:56.123457Z")]
    #[case("2026-09-01T12:34:56.1234569Z", "2026-09-01T12:34:56.123456Z")]
    #[case("2024-02-29T23:59:59Z", "2024-02-29T23:59:59.000000Z")]
    #[case("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000000Z")]
    #[case("1969-12-31T23:59:59Z", "1970-01-01T00:00:00.000000Z")]
    #[case("9999-12-30T00:00:00.5Z", "9999-12-30T00:00:00.500000Z")]
    fn api_57_the_time_always_has_six_digits(#[case] time: Timestamp, #[case] expected: &str) {
        let mut stamper = Stamper::new();
        assert_eq!(stamper.format(micros(time)), expected.as_bytes());
        // And again after another second, another fraction, and nothing at all.
        stamper.format(micros(time) + 61_000_001);
        stamper.format(micros(time) + 1);
        assert_eq!(stamper.format(micros(time)), expected.as_bytes());
        assert_eq!(stamper.format(micros(time)), expected.as_bytes());
    }
}
