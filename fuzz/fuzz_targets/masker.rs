//! The masker against its plain reference, and against itself with the input cut elsewhere.
//!
//! Input: lines with masked values, each after `=`, and prefixes, each after `+`; then `--`; the rest is
//! the log. The first byte says how it is cut.

#![no_main]

use libfuzzer_sys::fuzz_target;
use runner_core::log::Masker;
use runner_core::plan::LogSettings;
use runner_core::secret::Secret;

#[path = "../../runner-core/src/log/reference.rs"]
mod reference;

fuzz_target!(|data: &[u8]| {
    let Some((&cut, data)) = data.split_first() else { return };
    let Some(end) = data.windows(3).position(|window| window == b"--\n") else { return };
    let (head, log) = (&data[..end], &data[end + 3..]);
    let Ok(head) = std::str::from_utf8(head) else { return };
    let (mut phrases, mut prefixes) = (Vec::new(), Vec::new());
    for line in head.lines() {
        match line.split_at_checked(1) {
            // `\` stands for a line feed, so that values of several lines are reachable.
            Some(("=", value)) => phrases.push(value.replace('\\', "\n")),
            Some(("+", prefix)) => prefixes.push(prefix.to_owned()),
            _ => return,
        }
    }
    // The reference is quadratic.
    if phrases.len() + prefixes.len() > 40 || log.len() > 4096 {
        return;
    }
    let settings = LogSettings {
        masks: phrases.iter().map(|phrase| Secret::from(phrase.as_str())).collect(),
        token_prefixes: prefixes.clone(),
        ..LogSettings::default()
    };
    let phrases: Vec<_> = phrases.iter().map(String::as_str).collect();
    let prefixes: Vec<_> = prefixes.iter().map(String::as_str).collect();
    let expected = reference::mask(&phrases, &prefixes, log);

    let cut = usize::from(cut) % (log.len() + 1);
    let pieces = [vec![log], vec![&log[..cut], &log[cut..]], log.chunks(cut + 1).collect()];
    for pieces in pieces {
        let (mut masker, mut out) = (Masker::new(&settings), Vec::new());
        pieces.iter().for_each(|piece| masker.push(piece, &mut out));
        masker.finish(&mut out);
        assert_eq!(
            String::from_utf8_lossy(&out),
            String::from_utf8_lossy(&expected),
            "cut {cut}, {phrases:?}, {prefixes:?}, {:?}",
            String::from_utf8_lossy(log)
        );
    }
});
