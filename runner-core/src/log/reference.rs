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

/// A byte, or `None` for a mask, which is no text to search in.
type Symbol = Option<u8>;

/// The whole input masked.
pub(crate) fn mask(phrases: &[&str], prefixes: &[&str], input: &[u8]) -> Vec<u8> {
    let symbols = mask_prefixes(prefixes, &mask_urls(&mask_phrases(phrases, input)));
    let text = symbols.into_iter().map(|symbol| symbol.map_or(MASK.to_vec(), |byte| vec![byte]));
    text.collect::<Vec<_>>().concat()
}

/// Mark every byte of every occurrence, then each unbroken run of marks is one mask.
fn mask_phrases(phrases: &[&str], input: &[u8]) -> Vec<Symbol> {
    let mut marked = vec![false; input.len()];
    for phrase in phrases.iter().map(|phrase| phrase.trim()).filter(|phrase| !phrase.is_empty()) {
        let unix = phrase.replace("\r\n", "\n");
        for form in [phrase.to_owned(), unix.replace('\n', "\r\n"), unix] {
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
            out.push(Some(input[at]));
        } else if at == 0 || !marked[at - 1] {
            out.push(None);
        }
    }
    out
}

/// Whether these symbols begin with this text, whatever its case.
fn begins(symbols: &[Symbol], text: &str) -> bool {
    let mut symbols = symbols.iter();
    text.bytes().all(|wanted| {
        symbols
            .next()
            .is_some_and(|symbol| symbol.is_some_and(|byte| byte.eq_ignore_ascii_case(&wanted)))
    })
}

fn mask_urls(input: &[Symbol]) -> Vec<Symbol> {
    let (mut out, mut at) = (Vec::new(), 0);
    while at < input.len() {
        let name = PARAMETERS.iter().find(|name| {
            matches!(input[at], Some(b'?' | b'&')) && begins(&input[at + 1..], &format!("{name}="))
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
            .take_while(|symbol| !matches!(symbol, Some(b'?' | b'&' | 0..=b' ' | 0x7f)))
            .count();
        if length > 0 {
            out.push(None);
        }
        at = value + length;
    }
    out
}

fn mask_prefixes(prefixes: &[&str], input: &[Symbol]) -> Vec<Symbol> {
    let (mut out, mut begin, mut at) = (Vec::new(), 0, 0);
    while at < input.len() {
        // `begin`: a prefix may not reach back into an earlier token.
        let after_prefix = prefixes.iter().filter(|prefix| !prefix.is_empty()).any(|prefix| {
            let prefix: Vec<_> = prefix.bytes().map(Some).collect();
            input[begin..at].ends_with(&prefix)
        });
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"._=-".contains(&byte);
        let length = input[at..].iter().take_while(|symbol| symbol.is_some_and(token)).count();
        if after_prefix && length > 0 {
            out.push(None);
            at += length;
            begin = at;
        } else {
            out.push(input[at]);
            at += 1;
        }
    }
    out
}
