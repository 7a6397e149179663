//! Kubernetes quantities, as far as they have to be understood before the API server sees them.

/// Whether this is a quantity (`500m`, `1.5Gi`, `1e3`), by the grammar of the Kubernetes API.
pub fn is_quantity(text: &str) -> bool {
    split(text).is_some()
}

/// Whether it is a quantity of nothing. GitLab Runner leaves those out.
pub(crate) fn is_zero(text: &str) -> bool {
    split(text).is_some_and(|(number, _)| number.chars().all(|c| matches!(c, '0' | '.')))
}

fn split(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let digits = number.chars().filter(char::is_ascii_digit).count();
    let fits = digits > 0 && number.matches('.').count() <= 1;
    let exponent = |rest: &str| {
        let rest = rest.strip_prefix(['+', '-']).unwrap_or(rest);
        !rest.is_empty() && rest.chars().all(|c| c.is_ascii_digit())
    };
    let known = match suffix {
        "" | "n" | "u" | "m" | "k" | "M" | "G" | "T" | "P" | "E" => true,
        "Ki" | "Mi" | "Gi" | "Ti" | "Pi" | "Ei" => true,
        other => other.strip_prefix(['e', 'E']).is_some_and(exponent),
    };
    (fits && known).then_some((number, suffix))
}

#[cfg(test)]
mod tests {
    use super::{is_quantity, is_zero};

    #[test]
    fn quantities_are_told_from_other_text() {
        for good in ["1", "500m", "1.5Gi", ".5", "5.", "1e3", "1E-3", "+2", "100n", "2E", "64Mi"] {
            assert!(is_quantity(good), "{good}");
        }
        for bad in ["", "m", "1 Gi", "1GiB", "one", "1.2.3", "1e", "0x10", "-", "1gi"] {
            assert!(!is_quantity(bad), "{bad}");
        }
    }

    #[test]
    fn nothing_is_nothing_in_any_unit() {
        assert!(is_zero("0") && is_zero("0m") && is_zero("0.0Gi"));
        assert!(!is_zero("0.5") && !is_zero("x"));
    }
}
