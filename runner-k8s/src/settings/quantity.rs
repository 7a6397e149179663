//! Kubernetes quantities, as far as they have to be understood before the API server sees them.

/// A quantity of the Kubernetes API (`500m`, `1.5Gi`, `1e3`), in billionths, rounded up: the API
/// server's own precision. What is beyond its range counts as its largest number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity(i128);

/// Billionths in one.
const UNIT: i128 = 1_000_000_000;
/// The API server's largest number.
const MOST: i128 = (i64::MAX as i128) * UNIT;

/// Whether this is a quantity, by the grammar of the Kubernetes API.
#[must_use]
pub fn is_quantity(text: &str) -> bool {
    Quantity::parse(text).is_some()
}

/// Whether it is a quantity of nothing. GitLab Runner leaves those out.
pub(crate) fn is_zero(text: &str) -> bool {
    Quantity::parse(text) == Some(Quantity(0))
}

impl Quantity {
    /// Reads a quantity; `None`: it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let negative = text.starts_with('-');
        let text = text.strip_prefix(['+', '-']).unwrap_or(text);
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.len() + fraction.len() == 0 || fraction.contains('.') {
            return None;
        }
        let size = match suffix {
            "Ki" | "Mi" | "Gi" | "Ti" | "Pi" | "Ei" => {
                let power = "KMGTPE".find(&suffix[..1]).unwrap_or(0) + 1;
                binary(whole, fraction, 1_i128 << (10 * power))
            }
            _ => decimal(whole, fraction, exponent(suffix)?),
        };
        let size = size.min(MOST);
        Some(Self(if negative { -size } else { size }))
    }

    /// Whether it is less than nothing.
    #[must_use]
    pub fn is_negative(self) -> bool {
        self.0 < 0
    }
}

impl std::iter::Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        Self(all.fold(0, |sum, one| sum.saturating_add(one.0)))
    }
}

/// The power of ten that a suffix stands for.
fn exponent(suffix: &str) -> Option<i64> {
    Some(match suffix {
        "n" => -9,
        "u" => -6,
        "m" => -3,
        "" => 0,
        "k" => 3,
        "M" => 6,
        "G" => 9,
        "T" => 12,
        "P" => 15,
        "E" => 18,
        other => {
            let digits = other.strip_prefix(['e', 'E'])?;
            let bare = digits.strip_prefix(['+', '-']).unwrap_or(digits);
            if bare.is_empty() || !bare.chars().all(|c| c.is_ascii_digit()) {
                return None;
            }
            // Beyond that every number is nothing or too large.
            digits.parse().unwrap_or(if digits.starts_with('-') { -1000 } else { 1000 })
        }
    })
}

/// Digits as a number, at most about 10^37.
fn digits(text: &str) -> i128 {
    let text = text.trim_start_matches('0');
    if text.is_empty() { 0 } else { text.parse().unwrap_or(i128::MAX) }
}

fn decimal(whole: &str, fraction: &str, exponent: i64) -> i128 {
    // Of more digits only whether they are all zero could matter, and only below a billionth.
    let fraction = &fraction[..fraction.len().min(18)];
    let number = digits(&format!("{whole}{fraction}"));
    let power = exponent.saturating_add(9) - i64::try_from(fraction.len()).unwrap_or(0);
    if number == 0 {
        return 0;
    }
    let ten = |power: i64| 10_i128.checked_pow(u32::try_from(power).unwrap_or(u32::MAX));
    match power {
        0.. => ten(power).and_then(|factor| number.checked_mul(factor)).unwrap_or(MOST),
        _ => ten(-power).map_or(1, |divisor| ceil(number, divisor)),
    }
}

fn binary(whole: &str, fraction: &str, factor: i128) -> i128 {
    let fraction = &fraction[..fraction.len().min(18)];
    let tens = 10_i128.pow(u32::try_from(fraction.len()).unwrap_or(0));
    // At most 10^18 · 2^60.
    let part = digits(fraction) * factor;
    let part = (part / tens) * UNIT + ceil((part % tens) * UNIT, tens);
    digits(whole).saturating_mul(factor).saturating_mul(UNIT).saturating_add(part)
}

fn ceil(number: i128, divisor: i128) -> i128 {
    number / divisor + i128::from(number % divisor != 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Quantity, is_quantity, is_zero};

    #[test]
    fn quantities_are_told_from_other_text() {
        for good in ["1", "500m", "1.5Gi", ".5", "5.", "1e3", "1E-3", "+2", "100n", "2E", "64Mi"] {
            assert!(is_quantity(good), "{good}");
        }
        for bad in ["", "m", "1 Gi", "1GiB", "one", "1.2.3", "1e", "0x10", "-", "1gi", "."] {
            assert!(!is_quantity(bad), "{bad}");
        }
    }

    #[test]
    fn nothing_is_nothing_in_any_unit() {
        assert!(is_zero("0") && is_zero("0m") && is_zero("0.0Gi") && is_zero("0e99"));
        assert!(!is_zero("0.5") && !is_zero("x") && !is_zero("1n"));
    }

    #[test]
    fn k8s_22_quantities_compare_across_units() {
        let size = |text| Quantity::parse(text).unwrap();
        for (one, other) in [
            ("1", "1000m"),
            ("1.5", "1500m"),
            ("1Gi", "1024Mi"),
            ("0.5Ki", "512"),
            ("1e3", "1k"),
            ("1E3", "1k"),
            ("2E", "2e18"),
            ("0.1Ki", "102.4"),
            ("0.0000000001", "1n"),
            ("99999999999999999999999999999999999999999999", "9e99"),
        ] {
            assert_eq!(size(one), size(other), "{one} {other}");
        }
        for (less, more) in [("999m", "1"), ("1G", "1Gi"), ("1Gi", "1.0001Gi"), ("-1", "0")] {
            assert!(size(less) < size(more), "{less} {more}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "[-+0-9.eEinumkKMGTPx]{0,60}") {
            let _ = Quantity::parse(&text);
        }

        #[test]
        fn whole_numbers_compare_as_numbers(one: u32, other: u32) {
            let size = |number: u32| Quantity::parse(&format!("{number}Mi")).unwrap();
            prop_assert_eq!(size(one).cmp(&size(other)), one.cmp(&other));
        }
    }
}
