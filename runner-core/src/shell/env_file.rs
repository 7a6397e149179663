//! What a job hands from one stage to the next by writing `NAME=value` lines to `$GITLAB_ENV`.
//!
//! GitLab Runner lets the shell `export` each line, so that an empty line or a name with a blank
//! ends that and every later stage, and a last line without a line end is lost. Here a line that is
//! no assignment is skipped and reported, and nothing is ever run.

/// One line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// A name that every shell takes.
    pub name: String,
    /// Everything behind the first `=`, byte by byte: no quotes, escapes or references are read.
    pub value: Vec<u8>,
}

/// What a file held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EnvFile {
    /// In order; a later one wins.
    pub assignments: Vec<Assignment>,
    /// Numbers (from 1) of lines that are neither blank nor an assignment, for a warning. The lines
    /// themselves may hold secrets and are not repeated. At most [`MAX_REPORTED`].
    pub skipped: Vec<usize>,
}

/// How many bad lines are reported: enough to find the mistake, and a bound for a file of garbage.
pub const MAX_REPORTED: usize = 10;

/// Reads the content of the file. White space around a line does not count (GitLab Runner's `read`
/// does the same); everything inside does.
#[must_use]
pub fn parse(content: &[u8]) -> EnvFile {
    let mut file = EnvFile::default();
    for (index, line) in content.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        let assignment = memchr::memchr(b'=', line)
            .and_then(|at| Some((std::str::from_utf8(&line[..at]).ok()?, &line[at + 1..])))
            .filter(|(name, _)| is_name(name));
        match assignment {
            Some((name, value)) => {
                file.assignments.push(Assignment { name: name.to_owned(), value: value.to_owned() })
            }
            None if file.skipped.len() < MAX_REPORTED => file.skipped.push(index + 1),
            None => {}
        }
    }
    file
}

/// Whether every shell takes this as a variable's name: letters, digits and `_`, no digit first.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Assignment, MAX_REPORTED, parse};

    #[test]
    fn stages_36_bad_lines_are_skipped_and_named_by_number() {
        let file =
            parse(b"A=1\n\n  B = x\nno assignment\nC='q' \"$A\" = \n=x\n1D=2\n\xff=3\nE=last");
        let assignment = |name: &str, value: &str| Assignment {
            name: name.to_owned(),
            value: value.as_bytes().to_owned(),
        };
        assert_eq!(
            file.assignments,
            [assignment("A", "1"), assignment("C", "'q' \"$A\" ="), assignment("E", "last")]
        );
        assert_eq!(file.skipped, [3, 4, 6, 7, 8]);
    }

    #[test]
    fn a_file_of_garbage_does_not_make_a_long_report() {
        assert_eq!(parse(&b"x\n".repeat(100_000)).skipped.len(), MAX_REPORTED);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(content: Vec<u8>) {
            let _ = parse(&content);
        }
    }
}
