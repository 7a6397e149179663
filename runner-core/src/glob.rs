//! Path patterns as GitLab Runner understands them: those of Go's doublestar, version 4.
//!
//! | Pattern | Matches |
//! |---|---|
//! | `?` | one character but `/` |
//! | `*` | any number of them |
//! | `**` as a whole path component | any number of components, none included; `a/**` also matches `a` |
//! | `[a-c]`, `[^a-c]`, `[!a-c]` | one character of the class, or not of it; never `/` |
//! | `{a,b/c}` | either; may be nested |
//! | `\x` | `x` itself |
//!
//! A pattern is compiled to a small automaton, so matching takes time in proportion to the lengths
//! of pattern and path whatever the pattern: patterns come from jobs.

/// Most plain patterns that one pattern with braces may stand for.
const MOST_ALTERNATIVES: usize = 1024;
/// Longest pattern, in characters.
const LONGEST: usize = 16 * 1024;

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Glob {
    alternatives: Vec<Vec<Step>>,
}

/// Why a pattern cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GlobError {
    /// A `[` without a proper end, or with an empty or open range.
    #[error("`[` in the pattern begins no character class; write `\\[` for the character itself")]
    Class,
    /// A `{` without an end.
    #[error("`{{` in the pattern has no `}}`; write `\\{{` for the character itself")]
    Brace,
    /// A `\` at the end.
    #[error("the pattern ends with `\\`; write `\\\\` for the character itself")]
    Escape,
    /// Longer than 16,384 characters or more than 1,024 alternatives.
    #[error("the pattern is too long or stands for more than {MOST_ALTERNATIVES} alternatives")]
    TooLarge,
}

/// One step of the automaton.
#[derive(Clone, Debug)]
enum Step {
    /// This character.
    Char(char),
    /// Any character but `/`.
    Any,
    /// Any number of characters but `/`.
    Star,
    /// One of a class.
    Class { negated: bool, ranges: Vec<(char, char)> },
    /// Any number of whole components, each with its `/`.
    Components,
    /// The `/` before a last `**`; the path may also end before it. [`Step::Everything`] follows.
    Rest,
    /// Anything at all. Always the last step.
    Everything,
}

/// A character of the pattern and whether it stands for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    char: char,
    literal: bool,
}

impl Glob {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// When it is malformed or too large.
    pub fn new(pattern: &str) -> Result<Self, GlobError> {
        let marks = marks(pattern)?;
        let mut alternatives = Vec::new();
        let mut pending = vec![marks];
        while let Some(marks) = pending.pop() {
            match first_brace(&marks)? {
                None => alternatives.push(compile(&marks)?),
                Some(brace) => {
                    for part in &brace.parts {
                        let mut plain = marks[..brace.start].to_vec();
                        plain.extend_from_slice(&marks[part.0..part.1]);
                        plain.extend_from_slice(&marks[brace.end + 1..]);
                        pending.push(plain);
                    }
                }
            }
            if alternatives.len() + pending.len() > MOST_ALTERNATIVES {
                return Err(GlobError::TooLarge);
            }
        }
        Ok(Self { alternatives })
    }

    /// Whether the whole path matches.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        self.alternatives.iter().any(|steps| run(steps, path))
    }
}

/// The leading path components of a pattern that hold nothing special, without a trailing `/`: a
/// walk for matches can begin there. Empty when the first component is special already.
#[must_use]
pub fn static_prefix(pattern: &str) -> &str {
    let special = pattern.find(['*', '?', '[', '{', '\\']).unwrap_or(pattern.len());
    if special == pattern.len() {
        return pattern;
    }
    pattern[..special].rfind('/').map_or("", |slash| &pattern[..slash])
}

fn marks(pattern: &str) -> Result<Vec<Mark>, GlobError> {
    let mut marks = Vec::new();
    let mut chars = pattern.chars();
    while let Some(char) = chars.next() {
        marks.push(match char {
            '\\' => Mark { char: chars.next().ok_or(GlobError::Escape)?, literal: true },
            _ => Mark { char, literal: false },
        });
        if marks.len() > LONGEST {
            return Err(GlobError::TooLarge);
        }
    }
    Ok(marks)
}

struct Brace {
    start: usize,
    end: usize,
    parts: Vec<(usize, usize)>,
}

/// The first `{…}` outside of a class, with its parts.
fn first_brace(marks: &[Mark]) -> Result<Option<Brace>, GlobError> {
    let special = |at: usize, char: char| marks[at] == Mark { char, literal: false };
    let mut at = 0;
    while at < marks.len() && !special(at, '{') {
        at = if special(at, '[') { class_end(marks, at)? + 1 } else { at + 1 };
    }
    if at >= marks.len() {
        return Ok(None);
    }
    let (start, mut depth, mut begin, mut parts) = (at, 0, at + 1, Vec::new());
    while at < marks.len() {
        if special(at, '[') {
            at = class_end(marks, at)?;
        } else if special(at, '{') {
            depth += 1;
        } else if special(at, ',') && depth == 1 {
            parts.push((begin, at));
            begin = at + 1;
        } else if special(at, '}') {
            depth -= 1;
            if depth == 0 {
                parts.push((begin, at));
                return Ok(Some(Brace { start, end: at, parts }));
            }
        }
        at += 1;
    }
    Err(GlobError::Brace)
}

/// Where the class that begins at `start` ends.
fn class_end(marks: &[Mark], start: usize) -> Result<usize, GlobError> {
    marks[start..]
        .iter()
        .position(|mark| *mark == Mark { char: ']', literal: false })
        .map(|length| start + length)
        .ok_or(GlobError::Class)
}

fn compile(marks: &[Mark]) -> Result<Vec<Step>, GlobError> {
    let special = |at: usize, char: char| marks.get(at) == Some(&Mark { char, literal: false });
    let slash = |at: usize| marks.get(at).is_some_and(|mark| mark.char == '/');
    let mut steps = Vec::new();
    let mut at = 0;
    while at < marks.len() {
        if special(at, '*') {
            let mut end = at;
            while special(end, '*') {
                end += 1;
            }
            let alone = end - at == 2 && (at == 0 || slash(at - 1));
            if alone && slash(end) {
                steps.push(Step::Components);
                at = end + 1;
                continue;
            }
            if alone && end == marks.len() {
                // Not what `Components` has swallowed.
                let after_slash = matches!(steps.last(), Some(Step::Char('/')));
                if after_slash && special(at - 1, '/') {
                    // The `/` before it is optional: `a/**` matches `a`. An escaped one is not.
                    steps.pop();
                    steps.push(Step::Rest);
                }
                steps.push(Step::Everything);
            } else {
                steps.push(Step::Star);
            }
            at = end;
        } else if special(at, '[') {
            let end = class_end(marks, at)?;
            steps.push(class(&marks[at + 1..end])?);
            at = end + 1;
        } else {
            steps.push(if special(at, '?') { Step::Any } else { Step::Char(marks[at].char) });
            at += 1;
        }
    }
    Ok(steps)
}

fn class(mut marks: &[Mark]) -> Result<Step, GlobError> {
    let is = |mark: &Mark, char: char| *mark == Mark { char, literal: false };
    let negated = marks.first().is_some_and(|mark| is(mark, '^') || is(mark, '!'));
    if negated {
        marks = &marks[1..];
    }
    let mut ranges = Vec::new();
    while let Some((low, rest)) = marks.split_first() {
        if is(low, '-') {
            return Err(GlobError::Class);
        }
        marks = rest;
        let mut high = low;
        if let [dash, end, rest @ ..] = marks
            && is(dash, '-')
        {
            if is(end, '-') {
                return Err(GlobError::Class);
            }
            (high, marks) = (end, rest);
        }
        ranges.push((low.char, high.char));
    }
    if ranges.is_empty() { Err(GlobError::Class) } else { Ok(Step::Class { negated, ranges }) }
}

/// Runs the automaton: all steps that can be reached are followed at once.
fn run(steps: &[Step], path: &str) -> bool {
    let mut now = vec![false; steps.len() + 1];
    let mut next = now.clone();
    reach(steps, &mut now, 0);
    for char in path.chars() {
        next.fill(false);
        for (at, step) in steps.iter().enumerate().filter(|(at, _)| now[*at]) {
            match step {
                Step::Char(wanted) if *wanted == char => reach(steps, &mut next, at + 1),
                Step::Any if char != '/' => reach(steps, &mut next, at + 1),
                Step::Star if char != '/' => reach(steps, &mut next, at),
                Step::Class { negated, ranges }
                    if char != '/'
                        && *negated
                            != ranges.iter().any(|(low, high)| (low..=high).contains(&&char)) =>
                {
                    reach(steps, &mut next, at + 1);
                }
                // Inside a component this step stays; at a `/` a new component may begin.
                Step::Components => {
                    next[at] = true;
                    if char == '/' {
                        reach(steps, &mut next, at + 1);
                    }
                }
                Step::Everything => reach(steps, &mut next, at),
                Step::Rest if char == '/' => reach(steps, &mut next, at + 1),
                _ => {}
            }
        }
        std::mem::swap(&mut now, &mut next);
    }
    now[steps.len()]
}

/// Marks a step as reached, and what follows it without a character.
fn reach(steps: &[Step], reached: &mut [bool], mut at: usize) {
    loop {
        reached[at] = true;
        match steps.get(at) {
            Some(Step::Star | Step::Components | Step::Everything) => at += 1,
            // Over the `Everything` that follows, to the end.
            Some(Step::Rest) => at += 2,
            _ => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::{Glob, GlobError, static_prefix};

    #[rstest]
    #[case("abc", "abc", true)]
    #[case("", "", true)]
    #[case("*", "", true)]
    #[case("*", "abc", true)]
    #[case("*", "a/b", false)]
    #[case("a*/b", "a/b", true)]
    #[case("a*b*c*d*e*/f", "axbxcxdxexxx/f", true)]
    #[case("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false)]
    #[case("a?c", "abc", true)]
    #[case("a?c", "a/c", false)]
    #[case("a?c", "aéc", true)]
    #[case("[日本]x", "本x", true)]
    #[case("ab[c]", "abc", true)]
    #[case("ab[b-d]", "abc", true)]
    #[case("ab[^b-d]", "abc", false)]
    #[case("ab[!e-g]", "abc", true)]
    #[case("a[^a]b", "a/b", false)]
    #[case("a[\\]]b", "a]b", true)]
    #[case("a\\*b", "a*b", true)]
    #[case("a\\*b", "axb", false)]
    #[case("**", "", true)]
    #[case("**", "a/b/c", true)]
    #[case("a/**", "a", true)]
    #[case("a/**", "a/", true)]
    #[case("a/**", "a/b/c", true)]
    #[case("a/**", "ab", false)]
    #[case("a\\/**", "a/b", true)]
    #[case("a\\/**", "a", false)]
    #[case("**/c", "c", true)]
    #[case("**/c", "a/b/c", true)]
    #[case("**/c", "a/bc", false)]
    #[case("a/**/c", "a/c", true)]
    #[case("a/**/c", "a/x/y/c", true)]
    #[case("a/**/c", "ac", false)]
    #[case("a/**/**/c", "a/c", true)]
    #[case("**/*.txt", "x/y.txt", true)]
    #[case("**/*.txt", "y.txt", true)]
    #[case("a**", "ab", true)]
    #[case("a**", "a/b", false)]
    #[case("**a", "xa", true)]
    #[case("***/c", "x/c", true)]
    #[case("***/c", "x/y/c", false)]
    #[case("{a,b}", "b", true)]
    #[case("{a,b/c}/d", "b/c/d", true)]
    #[case("{a,{b,c}x}y", "cxy", true)]
    #[case("{,a}b", "b", true)]
    #[case("{**/x,y}", "a/b/x", true)]
    #[case("{a/**,z}/c", "a/q/c", true)]
    #[case("a{,/**}", "a/b", true)]
    #[case("[{]x", "{x", true)]
    #[case("a}b", "a}b", true)]
    #[case(".*", ".hidden", true)]
    #[case("*", ".hidden", true)]
    fn patterns_match_as_in_doublestar(
        #[case] pattern: &str,
        #[case] path: &str,
        #[case] expected: bool,
    ) {
        assert_eq!(Glob::new(pattern).unwrap().matches(path), expected);
    }

    #[rstest]
    #[case("[", GlobError::Class)]
    #[case("[]a]", GlobError::Class)]
    #[case("[-x]", GlobError::Class)]
    #[case("[a-]", GlobError::Class)]
    #[case("{a", GlobError::Brace)]
    #[case("a\\", GlobError::Escape)]
    #[case("{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}{a,b}", GlobError::TooLarge)]
    fn malformed_patterns_are_refused(#[case] pattern: &str, #[case] error: GlobError) {
        assert_eq!(Glob::new(pattern).unwrap_err(), error);
    }

    #[rstest]
    #[case("a/b/*.txt", "a/b")]
    #[case("a/b", "a/b")]
    #[case("*.txt", "")]
    #[case("a*/b", "")]
    #[case("a/b?/c", "a")]
    fn the_walk_begins_below_what_is_fixed(#[case] pattern: &str, #[case] prefix: &str) {
        assert_eq!(static_prefix(pattern), prefix);
    }

    #[test]
    fn a_hostile_pattern_takes_no_longer_than_others() {
        let glob = Glob::new(&"*a".repeat(200)).unwrap();
        assert!(!glob.matches(&"a".repeat(150)));
        let glob = Glob::new(&"**/".repeat(200)).unwrap();
        assert!(glob.matches(&"a/".repeat(150)));
    }

    /// The obvious way to match, exponential and simple.
    fn naive(pattern: &[u8], path: &[u8], start: bool) -> bool {
        match pattern {
            [] => path.is_empty(),
            [b'*', b'*', b'/', rest @ ..] if start => {
                naive(rest, path, true)
                    || (0..path.len())
                        .any(|at| path[at] == b'/' && naive(rest, &path[at + 1..], true))
            }
            [b'*', b'*'] if start => true,
            [b'/', b'*', b'*'] if path.is_empty() => true,
            [b'*', rest @ ..] => {
                let reach = path.iter().position(|byte| *byte == b'/').unwrap_or(path.len());
                let rest = &rest[rest.iter().take_while(|byte| **byte == b'*').count()..];
                (0..=reach).any(|at| naive(rest, &path[at..], false))
            }
            [b'?', rest @ ..] => {
                matches!(path, [byte, after @ ..] if *byte != b'/' && naive(rest, after, false))
            }
            [wanted, rest @ ..] => {
                matches!(path, [byte, after @ ..] if byte == wanted && naive(rest, after, *wanted == b'/'))
            }
        }
    }

    proptest! {
        #[test]
        fn the_automaton_agrees_with_the_obvious_way(
            pattern in "[ab/*?]{0,8}",
            path in "[ab/]{0,8}",
        ) {
            // Three and more stars are one; the naive matcher knows only one and two.
            prop_assume!(!pattern.contains("***"));
            let expected = naive(pattern.as_bytes(), path.as_bytes(), true);
            prop_assert_eq!(Glob::new(&pattern).unwrap().matches(&path), expected);
        }

        #[test]
        fn no_pattern_panics(pattern in ".{0,40}", path in ".{0,40}") {
            if let Ok(glob) = Glob::new(&pattern) {
                let _ = glob.matches(&path);
            }
        }
    }
}
