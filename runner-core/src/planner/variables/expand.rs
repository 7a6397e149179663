//! `$NAME` and `${NAME}` in text.

use std::borrow::Cow;

/// Longest text that [`expand`] makes, and longest sum of all variables of a job, in bytes. A
/// payload is at most some ten MB; what is longer than this refers to a large value many times.
/// It bounds what one job can make a manager hold, too.
pub const MAX_EXPANDED: usize = 128 << 20;

/// The text would be longer than [`MAX_EXPANDED`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the text is longer than {MAX_EXPANDED} bytes once references are replaced")]
pub struct TooLong;

/// Replaces references by what `lookup` says; what it does not know becomes empty.
///
/// One pass: text that was inserted is not looked at again. `$$` is a `$`; the shell's special
/// parameters (`$*`, `$1`, …) become empty; anything between `${` and `}` is a name, so the shell's
/// `${A:-b}` is a variable that nobody has; a `$` before anything else stays.
///
/// # Errors
/// When the result would be longer than [`MAX_EXPANDED`].
pub fn expand<'v>(
    text: &str,
    lookup: impl Fn(&str) -> Option<Cow<'v, str>>,
) -> Result<String, TooLong> {
    expand_within(text, lookup, MAX_EXPANDED)
}

pub(super) fn expand_within<'v>(
    text: &str,
    lookup: impl Fn(&str) -> Option<Cow<'v, str>>,
    limit: usize,
) -> Result<String, TooLong> {
    let mut out = String::with_capacity(text.len().min(limit));
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        put(&mut out, &rest[..at], limit)?;
        rest = &rest[at + 1..];
        let (reference, used) = reference(rest);
        match reference {
            Reference::Dollar => put(&mut out, "$", limit)?,
            Reference::Nothing => {}
            Reference::Name(name) => {
                if let Some(value) = lookup(name) {
                    put(&mut out, &value, limit)?;
                }
            }
        }
        rest = &rest[used..];
    }
    put(&mut out, rest, limit)?;
    Ok(out)
}

fn put(out: &mut String, piece: &str, limit: usize) -> Result<(), TooLong> {
    if out.len() + piece.len() > limit {
        return Err(TooLong);
    }
    out.push_str(piece);
    Ok(())
}

enum Reference<'t> {
    Dollar,
    Nothing,
    Name(&'t str),
}

/// What stands behind a `$`, and how many bytes of `text` it takes.
fn reference(text: &str) -> (Reference<'_>, usize) {
    let bytes = text.as_bytes();
    match bytes.first() {
        Some(b'{') => match text.find('}') {
            // Only the bracket is lost; what follows is ordinary text.
            None => (Reference::Nothing, 1),
            Some(1) => (Reference::Nothing, 2),
            Some(end) => (named(&text[1..end]), end + 1),
        },
        Some(byte) if is_special(*byte) => (named(&text[..1]), 1),
        Some(byte) if is_word(*byte) => {
            let end = bytes.iter().position(|byte| !is_word(*byte)).unwrap_or(bytes.len());
            (Reference::Name(&text[..end]), end)
        }
        _ => (Reference::Dollar, 0),
    }
}

fn named(name: &str) -> Reference<'_> {
    match name.as_bytes() {
        b"$" => Reference::Dollar,
        // `$-` is special to the scanner but has a name: a variable called `-`.
        [byte] if is_special(*byte) && *byte != b'-' => Reference::Nothing,
        _ => Reference::Name(name),
    }
}

fn is_special(byte: u8) -> bool {
    matches!(byte, b'*' | b'#' | b'$' | b'@' | b'!' | b'?' | b'-' | b'0'..=b'9')
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;

    use super::{TooLong, expand, expand_within};

    fn lookup(name: &str) -> Option<Cow<'static, str>> {
        match name {
            "A" => Some("1".into()),
            "NESTED" => Some("$A".into()),
            "A:-b" => None,
            "-" => Some("dash".into()),
            "LONG" => Some("x".repeat(1000).into()),
            _ => None,
        }
    }

    #[test]
    fn stages_33_references_row_by_row() {
        for (text, expected) in [
            ("a $A b", "a 1 b"),
            ("${A}b", "1b"),
            ("$Ab", ""),
            ("$UNKNOWN.", "."),
            ("${A:-b}x", "x"),
            ("$$A", "$A"),
            ("${$}A", "$A"),
            ("$*$#$@$!$?$0$9", ""),
            ("${*}${0}", ""),
            ("$1A", "A"),
            ("$-", "dash"),
            ("${-}", "dash"),
            ("$/x $( $", "$/x $( $"),
            ("x${}y", "xy"),
            ("x${A", "xA"),
            ("${", ""),
            ("%A%", "%A%"),
            ("$NESTED", "$A"),
            ("ü$Aü${A}", "ü1ü1"),
            ("$ü", "$ü"),
        ] {
            assert_eq!(expand(text, lookup).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn references_that_blow_up_are_refused_and_not_built() {
        assert_eq!(expand_within(&"$LONG".repeat(100), lookup, 50_000), Err(TooLong));
    }

    proptest! {
        #[test]
        fn any_text_is_expanded_without_a_panic(text in "[${}A-C*üx\\-0-9 ]{0,40}") {
            prop_assert!(expand(&text, lookup).is_ok());
        }

        #[test]
        fn any_unicode_is_expanded_without_a_panic(text: String) {
            prop_assert!(expand(&text, lookup).is_ok());
        }

        #[test]
        fn what_was_inserted_is_not_looked_at_again(value: String, before in "[a-z ]*", after in "[ .-]?") {
            let text = format!("{before}${{V}}{after}");
            let expanded = expand(&text, |name| (name == "V").then(|| Cow::from(&value))).unwrap();
            prop_assert_eq!(expanded, format!("{before}{value}{after}"));
        }

        #[test]
        fn text_without_a_dollar_stays(text in "[^$]*") {
            prop_assert_eq!(expand(&text, lookup).unwrap(), text);
        }
    }
}
