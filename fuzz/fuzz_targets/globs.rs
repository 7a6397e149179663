//! Path patterns of jobs, against the obvious way to match them.
//!
//! Input: pattern and path, with a line feed between them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use runner_core::glob::Glob;

/// The obvious way takes time that grows fast with the pattern.
const LONGEST: usize = 24;

fuzz_target!(|text: &str| {
    let Some((pattern, path)) = text.split_once('\n') else { return };
    let Ok(glob) = Glob::new(pattern) else { return };
    let matches = glob.matches(path);
    if pattern.chars().count() > LONGEST || path.chars().count() > LONGEST {
        return;
    }
    let plain = spread(&pattern.chars().collect::<Vec<_>>());
    let path: Vec<char> = path.chars().collect();
    let expected = plain.iter().any(|pattern| naive(pattern, &path, true));
    assert_eq!(matches, expected, "{pattern:?} {path:?}");
});

/// All patterns without braces that this one stands for.
fn spread(pattern: &[char]) -> Vec<Vec<char>> {
    let mut at = 0;
    while at < pattern.len() {
        match pattern[at] {
            '\\' => at += 2,
            '[' => at = class_end(pattern, at) + 1,
            '{' => {
                let (parts, end) = parts(pattern, at);
                let with = |part: &[char]| [&pattern[..at], part, &pattern[end + 1..]].concat();
                return parts.iter().flat_map(|part| spread(&with(part))).collect();
            }
            _ => at += 1,
        }
    }
    vec![pattern.to_vec()]
}

/// What stands between the commas of the brace at `start`, and where it ends.
fn parts(pattern: &[char], start: usize) -> (Vec<Vec<char>>, usize) {
    let (mut parts, mut depth, mut at) = (vec![Vec::new()], 0, start);
    loop {
        let from = at;
        match pattern[at] {
            '\\' => at += 1,
            '[' => at = class_end(pattern, at),
            '{' => depth += 1,
            '}' if depth == 1 => return (parts, at),
            '}' => depth -= 1,
            ',' if depth == 1 => {
                parts.push(Vec::new());
                at += 1;
                continue;
            }
            _ => {}
        }
        if from > start {
            let part = parts.last_mut().expect("there is always one");
            part.extend_from_slice(&pattern[from..=at]);
        }
        at += 1;
    }
}

fn class_end(pattern: &[char], start: usize) -> usize {
    let mut at = start;
    while pattern[at] != ']' {
        at += if pattern[at] == '\\' { 2 } else { 1 };
    }
    at
}

fn naive(pattern: &[char], path: &[char], start: bool) -> bool {
    match pattern {
        [] => path.is_empty(),
        ['*', '*', '/', rest @ ..] if start => {
            naive(rest, path, true)
                || (0..path.len()).any(|at| path[at] == '/' && naive(rest, &path[at + 1..], true))
        }
        ['*', '*'] if start => true,
        // The slash before a last `**` is optional.
        ['/', '*', '*'] if path.is_empty() => true,
        ['*', ..] => {
            let rest = &pattern[pattern.iter().take_while(|char| **char == '*').count()..];
            let reach = path.iter().position(|char| *char == '/').unwrap_or(path.len());
            (0..=reach).any(|at| naive(rest, &path[at..], false))
        }
        ['?', rest @ ..] => {
            matches!(path, [char, after @ ..] if *char != '/' && naive(rest, after, false))
        }
        ['[', ..] => {
            let end = class_end(pattern, 0);
            matches!(path, [char, after @ ..]
                if *char != '/' && class(&pattern[1..end], *char) && naive(&pattern[end + 1..], after, false))
        }
        ['\\', wanted, rest @ ..] | [wanted, rest @ ..] => {
            matches!(path, [char, after @ ..] if char == wanted && naive(rest, after, *wanted == '/'))
        }
    }
}

fn class(text: &[char], char: char) -> bool {
    let (negated, mut text) = match text {
        ['^' | '!', rest @ ..] => (true, rest),
        text => (false, text),
    };
    let mut found = false;
    let next = |text: &mut &[char]| -> Option<(char, bool)> {
        match **text {
            ['\\', char, ref rest @ ..] => {
                *text = rest;
                Some((char, true))
            }
            [char, ref rest @ ..] => {
                *text = rest;
                Some((char, false))
            }
            [] => None,
        }
    };
    while let Some((low, _)) = next(&mut text) {
        let mut ahead = text;
        let mut high = low;
        if next(&mut ahead) == Some(('-', false))
            && let Some((end, _)) = next(&mut ahead)
        {
            (high, text) = (end, ahead);
        }
        found |= (low..=high).contains(&char);
    }
    negated != found
}
