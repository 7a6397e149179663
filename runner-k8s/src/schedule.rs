//! When something applies: cron expressions of five fields in a time zone. Pure.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// Times at which something applies. Without periods: always.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    periods: Vec<Cron>,
    zone: TimeZone,
}

/// Minutes that match: minute, hour, day of month, month, day of week (0 is Sunday, as is 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cron {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// As in every cron, days of month and of week are one condition where both are restricted.
    any_day: bool,
    any_weekday: bool,
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// What a period may look like, for messages.
pub(crate) const ALLOWED: &str = "five fields of cron, e.g. \"* 8-18 * * mon-fri\"";

impl Schedule {
    /// Reads periods and a zone's name (`Europe/Berlin`; empty: the manager's own).
    ///
    /// # Errors
    /// The period, or the zone, that is none.
    pub fn parse(periods: &[String], zone: &str) -> Result<Self, String> {
        let zone = match zone {
            "" | "Local" => TimeZone::system(),
            name => TimeZone::get(name).map_err(|_| name.to_owned())?,
        };
        let parse = |text: &String| Cron::parse(text).ok_or_else(|| text.clone());
        Ok(Self { periods: periods.iter().map(parse).collect::<Result<_, _>>()?, zone })
    }

    /// Whether this minute is one of its own.
    #[must_use]
    pub fn applies(&self, now: Timestamp) -> bool {
        if self.periods.is_empty() {
            return true;
        }
        let local = self.zone.to_datetime(now);
        self.periods.iter().any(|period| {
            let bit = |set: u64, value: i8| set & (1 << value) != 0;
            let day = bit(period.days, local.day());
            let weekday = bit(period.weekdays, local.date().weekday().to_sunday_zero_offset());
            let date = match (period.any_day, period.any_weekday) {
                (false, false) => day || weekday,
                _ => day && weekday,
            };
            bit(period.minutes, local.minute())
                && bit(period.hours, local.hour())
                && bit(period.months, local.month())
                && date
        })
    }

    /// Whether it may apply at one time and not at another.
    #[must_use]
    pub fn varies(&self) -> bool {
        !self.periods.is_empty()
    }
}

impl Cron {
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields[..] else { return None };
        let mut week = field(weekdays, 0, 7, &WEEKDAYS, 0)?;
        // Sunday has two numbers.
        week = (week | (week >> 7)) & 0x7f;
        Some(Self {
            minutes: field(minutes, 0, 59, &[], 0)?,
            hours: field(hours, 0, 23, &[], 0)?,
            days: field(days, 1, 31, &[], 0)?,
            months: field(months, 1, 12, &MONTHS, 1)?,
            weekdays: week,
            any_day: days.starts_with(['*', '?']),
            any_weekday: weekdays.starts_with(['*', '?']),
        })
    }
}

/// A list of `*`, `N`, `N-M`, each perhaps with `/STEP`, as a set of bits. `base`: the first name's
/// number.
fn field(text: &str, least: u64, most: u64, names: &[&str], base: u64) -> Option<u64> {
    let number = |text: &str| {
        let lower = text.to_ascii_lowercase();
        let named = names.iter().position(|name| *name == lower);
        let value = match named {
            Some(index) => index as u64 + base,
            None => text.parse().ok()?,
        };
        (least..=most).contains(&value).then_some(value)
    };
    let mut set = 0;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step.parse::<u64>().ok().filter(|s| *s > 0)?)),
            None => (part, None),
        };
        let (from, to) = match range {
            "*" | "?" => (least, most),
            _ => match range.split_once('-') {
                Some((from, to)) => (number(from)?, number(to)?),
                // `5/15` goes on to the end.
                None => (number(range)?, if step.is_some() { most } else { number(range)? }),
            },
        };
        if from > to {
            return None;
        }
        let step = usize::try_from(step.unwrap_or(1)).ok()?;
        (from..=to).step_by(step).for_each(|value| set |= 1 << value);
    }
    Some(set)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use rstest::rstest;

    use super::Schedule;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[rstest]
    #[case("* * * * *", true)]
    #[case("* 8-18 * * mon-fri", true)]
    #[case("* 8-18 * * sat,sun", false)]
    #[case("*/15 * * * *", true)]
    #[case("1-59/2 * * * *", false)]
    #[case("30 9 * * 3", true)]
    #[case("30 10 * * *", false)]
    #[case("* * 4 mar *", true)]
    #[case("* * 5 3 *", false)]
    // Both restricted: one is enough.
    #[case("* * 5 3 wed", true)]
    #[case("* * * * 7", false)]
    fn k8s_91_a_period_is_a_cron_expression(#[case] period: &str, #[case] expected: bool) {
        let schedule = Schedule::parse(&[period.to_owned()], "UTC").unwrap();
        // A Wednesday.
        assert_eq!(schedule.applies(at("2026-03-04T09:30:00Z")), expected);
    }

    #[test]
    fn k8s_91_periods_are_in_their_zone() {
        let periods = ["* 8-17 * * *".to_owned()];
        let schedule = Schedule::parse(&periods, "America/New_York").unwrap();
        assert!(!schedule.applies(at("2026-07-01T11:59:00Z")));
        assert!(schedule.applies(at("2026-07-01T12:00:00Z")), "8:00 in summer");
        assert!(!schedule.applies(at("2026-01-01T12:30:00Z")), "7:30 in winter");
    }

    #[rstest]
    #[case("* * * *")]
    #[case("60 * * * *")]
    #[case("* * 0 * *")]
    #[case("*/0 * * * *")]
    #[case("5-1 * * * *")]
    #[case("* * * foo *")]
    #[case("")]
    fn k8s_91_what_is_no_period_is_named(#[case] period: &str) {
        let result = Schedule::parse(&["* * * * *".into(), period.to_owned()], "");
        assert_eq!(result.unwrap_err(), period);
        assert_eq!(Schedule::parse(&[], "Nowhere/Town").unwrap_err(), "Nowhere/Town");
    }
}
