//! Where in the file a key stands, so that a message can name the line.

use toml::de::{DeTable, DeValue};

/// One step of a path such as `runners[0].kubernetes.image`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A key of a table.
    Key(String),
    /// An element of a list.
    Index(usize),
}

/// The line (from 1) on which the value at this path begins; `None` when there is no such value.
pub(crate) fn line_of(text: &str, path: &[Step]) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let mut steps = path.iter();
    let Some(Step::Key(first)) = steps.next() else { return None };
    let (key, value) = document.get_ref().get_key_value(first.as_str())?;
    let (mut at, mut value) = (key.span().start, value);
    for step in steps {
        match (step, value.get_ref()) {
            (Step::Key(name), DeValue::Table(table)) => {
                let (key, inner) = table.get_key_value(name.as_str())?;
                (at, value) = (key.span().start, inner);
            }
            (Step::Index(index), DeValue::Array(list)) => {
                let inner = list.get(*index)?;
                (at, value) = (inner.span().start, inner);
            }
            _ => return None,
        }
    }
    Some(text[..at.min(text.len())].matches('\n').count() + 1)
}

/// Reads a dotted path as serde tells it: `runners.0.kubernetes.image` or `runners[0].kubernetes`.
pub(crate) fn parse_path(path: &str) -> Vec<Step> {
    path.split(['.', '['])
        .map(|part| part.trim_end_matches(']'))
        .filter(|part| !part.is_empty() && *part != "?")
        .map(|part| part.parse().map_or_else(|_| Step::Key(part.to_owned()), Step::Index))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{line_of, parse_path};

    const FILE: &str = "concurrent = 1\n\n[[runners]]\nname = \"a\"\n[[runners]]\n  name = \"b\"\n  \
                        [runners.kubernetes]\n  imgae = \"x\"\n";

    #[test]
    fn keys_are_found_on_their_lines() {
        assert_eq!(line_of(FILE, &parse_path("concurrent")), Some(1));
        assert_eq!(line_of(FILE, &parse_path("runners[0].name")), Some(4));
        assert_eq!(line_of(FILE, &parse_path("runners.1.name")), Some(6));
        assert_eq!(line_of(FILE, &parse_path("runners[1].kubernetes.imgae")), Some(8));
        assert_eq!(line_of(FILE, &parse_path("runners[2].name")), None);
    }
}
