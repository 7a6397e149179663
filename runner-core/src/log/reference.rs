//! The masks' rules in the plainest words: whole input in, whole output out, quadratic, obvious.
//! Tests and the fuzz target hold the real thing against it.

const MASK: &[u8] = b"[MASKED]";

const PARAMETERS: [&str; 6] = [
    "private_token",
    "authenticity_token",
    "rss_token",
    "x-amz-signature",
    "x-amz-credential",
    "x-amz-security-token",
];

/// The whole input masked.
pub(crate) fn mask(phrases: &[&str], prefixes: &[&str], input: &[u8]) -> Vec<u8> {
    mask_prefixes(prefixes, &mask_urls(&mask_phrases(phrases, input)))
}

/// Mark every byte of every occurrence, then each unbroken run of marks is one mask.
fn mask_phrases(phrases: &[&str], input: &[u8]) -> Vec<u8> {
    let mut marked = vec![false; input.len()];
    for phrase in phrases.iter().map(|phrase| phrase.trim()).filter(|phrase| !phrase.is_empty()) {
        let unix = phrase.replace("\r\n", "\n");
        for form in [phrase.to_owned(), unix.replace('\n', "\r\n"), unix] {
            // The form with changed line ends only exists where there are several lines.
            if form != phrase && !phrase.contains('\n') {
                continue;
            }
            for at in 0..input.len() {
                if input[at..].starts_with(form.as_bytes()) {
                    marked[at..at + form.len()].fill(true);
                }
            }
        }
    }
    let mut out = Vec::new();
    for at in 0..input.len() {
        if !marked[at] {
            out.push(input[at]);
        } else if at == 0 || !marked[at - 1] {
            out.extend_from_slice(MASK);
        }
    }
    out
}

fn mask_urls(input: &[u8]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::new(), 0);
    while at < input.len() {
        let name = PARAMETERS.iter().find(|name| {
            let wanted = format!("{name}=");
            matches!(input[at], b'?' | b'&')
                && input[at + 1..]
                    .get(..wanted.len())
                    .is_some_and(|found| found.eq_ignore_ascii_case(wanted.as_bytes()))
        });
        let Some(name) = name else {
            out.push(input[at]);
            at += 1;
            continue;
        };
        let value = at + 1 + name.len() + 1;
        out.extend_from_slice(&input[at..value]);
        let length = input[value..]
            .iter()
            .take_while(|byte| !matches!(byte, b'?' | b'&' | 0..=b' ' | 0x7f))
            .count();
        if length > 0 {
            out.extend_from_slice(MASK);
        }
        at = value + length;
    }
    out
}

fn mask_prefixes(prefixes: &[&str], input: &[u8]) -> Vec<u8> {
    let (mut out, mut begin, mut at) = (Vec::new(), 0, 0);
    while at < input.len() {
        // `begin`: a prefix may not reach back into an earlier token.
        let after_prefix = prefixes
            .iter()
            .filter(|prefix| !prefix.is_empty())
            .any(|prefix| input[begin..at].ends_with(prefix.as_bytes()));
        let length = input[at..]
            .iter()
            .take_while(|&&byte| byte.is_ascii_alphanumeric() || b"._=-".contains(&byte))
            .count();
        if after_prefix && length > 0 {
            out.extend_from_slice(MASK);
            at += length;
            begin = at;
        } else {
            out.push(input[at]);
            at += 1;
        }
    }
    out
}
