//! Each rule of the trace as a table. The numbers are those of the checklists.

use jiff::Timestamp;
use rstest::rstest;

use super::{DEFAULT_TOKEN_PREFIXES, Kind, LogPipeline, Masker, Stream, section_start};
use crate::outcome::TraceSummary;
use crate::plan::LogSettings;
use crate::secret::Secret;

pub(super) fn settings(masks: &[&str]) -> LogSettings {
    LogSettings {
        masks: masks.iter().map(|&mask| Secret::from(mask)).collect(),
        token_prefixes: DEFAULT_TOKEN_PREFIXES.map(str::to_owned).to_vec(),
        ..LogSettings::default()
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_788_266_096 + second).unwrap()
}

/// Pieces are separated by `|`; the result must be the same without the cuts.
fn masked(settings: &LogSettings, pieces: &str) -> String {
    let run = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut masker, mut out) = (Masker::new(settings), Vec::new());
        pieces.for_each(|piece| masker.push(piece, &mut out));
        masker.finish(&mut out);
        String::from_utf8(out).unwrap()
    };
    let whole = pieces.replace('|', "");
    let result = run(&mut pieces.split('|').map(str::as_bytes));
    assert_eq!(result, run(&mut [whole.as_bytes()].into_iter()), "in one piece");
    assert_eq!(result, run(&mut whole.as_bytes().chunks(1)), "byte by byte");
    result
}

#[rstest]
#[case::within_a_line(&["hunter22"], "x hunter22 y\n", "x [MASKED] y\n")]
#[case::across_writes(&["hunter22"], "x hun|ter|22 y", "x [MASKED] y")]
#[case::trimmed(&["  pass word\n"], "a pass word b", "a [MASKED] b")]
#[case::blank_ones_do_nothing(&["", " \n"], "a  b\n\n", "a  b\n\n")]
#[case::longest_first(&["secret", "secretive"], "secretive secret", "[MASKED] [MASKED]")]
#[case::longest_after_all_too_long(&["secret", "secretive"], "secreti|on", "[MASKED]ion")]
#[case::one_inside_the_other(&["bc", "abcd"], "abcd abcx", "[MASKED] a[MASKED]x")]
#[case::overlapping(&["abc", "cde"], "abcde cde abcd", "[MASKED] [MASKED] [MASKED]d")]
#[case::overlapping_with_itself(&["abab"], "ababab", "[MASKED]")]
#[case::adjacent(&["token-1", "token-2"], "token-1token-2", "[MASKED]")]
#[case::one_character(&["x"], "axbxx", "a[MASKED]b[MASKED]")]
#[case::several_lines(&["one\ntwo"], "a one\ntwo b", "a [MASKED] b")]
#[case::several_lines_on_a_terminal(&["one\ntwo"], "a one\r|\ntwo b", "a [MASKED] b")]
#[case::line_ends_the_other_way(&["one\r\ntwo"], "one\ntwo one\r\ntwo", "[MASKED] [MASKED]")]
#[case::a_part_at_the_end_is_none(&["hunter22"], "my hunter2", "my hunter2")]
#[case::bytes_that_are_no_text(&["gar\u{e7}on"], "a gar\u{e7}on b", "a [MASKED] b")]
fn api_53_masked_values(#[case] masks: &[&str], #[case] input: &str, #[case] expected: &str) {
    assert_eq!(masked(&settings(masks), input), expected);
}

#[rstest]
#[case("aab", "aa|ab", "a[MASKED]")]
#[case("aab", "a|a|a|b|", "a[MASKED]")]
#[case("ababac", "abab|abac", "ab[MASKED]")]
fn stages_28_a_value_that_repeats_its_own_beginning_is_found_across_writes(
    #[case] mask: &str,
    #[case] input: &str,
    #[case] expected: &str,
) {
    assert_eq!(masked(&settings(&[mask]), input), expected);
}

#[rstest]
#[case::usual("git clone https://x:glpat-a1_B.2=-@h", "git clone https://x:glpat-[MASKED]@h")]
#[case::inside_words("xxglrt-t1_abc xx", "xxglrt-[MASKED] xx")]
#[case::across_writes("gl|pat|-ab|cd e", "glpat-[MASKED] e")]
#[case::at_the_end("glpat-abc", "glpat-[MASKED]")]
#[case::nothing_after_it("the prefix is glpat- or glpat-\n", "the prefix is glpat- or glpat-\n")]
#[case::another_one_within("glpat-abcglrt-def", "glpat-[MASKED]")]
#[case::begun_twice("glglpat-abc", "glglpat-[MASKED]")]
#[case::cookie("_gitlab_session=abc; x", "_gitlab_session=[MASKED]; x")]
fn api_54_token_prefixes(#[case] input: &str, #[case] expected: &str) {
    assert_eq!(masked(&settings(&[]), input), expected);
}

#[test]
fn api_54_without_prefixes_tokens_stay() {
    assert_eq!(masked(&LogSettings::default(), "glpat-abc"), "glpat-abc");
}

#[test]
fn stages_29_any_number_of_prefixes_is_used() {
    let mut settings = settings(&[]);
    settings.token_prefixes.extend((0..200).map(|number| format!("c{number}-")));
    settings.token_prefixes.extend((0..50).map(|number| format!("custom-long-prefix-{number}:")));
    for prefix in settings.token_prefixes.clone() {
        assert_eq!(
            masked(&settings, &format!("a {prefix}S3cr3t b")),
            format!("a {prefix}[MASKED] b")
        );
    }
}

#[rstest]
#[case::each_name(
    "?private_token=a&authenticity_token=b&rss_token=c&x-amz-signature=d&x-amz-credential=e\
     &x-amz-security-token=f ",
    "?private_token=[MASKED]&authenticity_token=[MASKED]&rss_token=[MASKED]\
     &x-amz-signature=[MASKED]&x-amz-credential=[MASKED]&x-amz-security-token=[MASKED] "
)]
#[case::any_case("?X-Amz-sigNATure=dead|beef x", "?X-Amz-sigNATure=[MASKED] x")]
#[case::across_writes("?|pri|vate_token|=|a|b| c", "?private_token=[MASKED] c")]
#[case::until_white_space("?rss_token=a;b#c\tx", "?rss_token=[MASKED]\tx")]
#[case::until_a_control_character("?rss_token=a\u{1b}[0m", "?rss_token=[MASKED]\u{1b}[0m")]
#[case::until_the_next_mark("?rss_token=a?rss_token=b", "?rss_token=[MASKED]?rss_token=[MASKED]")]
#[case::empty("?private_token=&a=b", "?private_token=&a=b")]
#[case::other_names(
    "?token=a&xprivate_token=b&private_tokens=c",
    "?token=a&xprivate_token=b&private_tokens=c"
)]
#[case::no_mark("private_token=a", "private_token=a")]
#[case::begun_twice(
    "?x-amz-security?x-amz-security-token=a",
    "?x-amz-security?x-amz-security-token=[MASKED]"
)]
#[case::at_the_end("?private_token=ab", "?private_token=[MASKED]")]
fn api_55_url_parameters(#[case] input: &str, #[case] expected: &str) {
    assert_eq!(masked(&settings(&[]), input), expected);
}

/// Found by fuzzing: the search by candidates never saw such a prefix, the automaton did.
#[test]
fn a_mask_is_no_text_to_search_in() {
    let settings = LogSettings {
        token_prefixes: vec!["l[MAS".to_owned(), "D]x".to_owned()],
        ..settings(&["hunter22"])
    };
    assert_eq!(masked(&settings, "an l|hunter22xyz"), "an l[MASKED]xyz");
    assert_eq!(masked(&settings, "an ?rss_token=|abc D]xyz"), "an ?rss_token=[MASKED] D]x[MASKED]");
}

#[test]
fn the_masks_come_one_after_the_other() {
    let settings = settings(&["hunter22"]);
    assert_eq!(masked(&settings, "glpat-hunter22"), "glpat-[MASKED]");
    assert_eq!(masked(&settings, "glpat-ahunter22"), "glpat-[MASKED][MASKED]");
    assert_eq!(masked(&settings, "?private_token=xhunter22y z"), "?private_token=[MASKED] z");
    assert_eq!(masked(&settings, "?rss_token=glpat-ab"), "?rss_token=[MASKED]");
}

/// Writes the pieces to the job's output, one second apart, and closes.
fn stamped(pieces: &[&str]) -> String {
    let (mut pipeline, mut out) = (LogPipeline::new(&settings(&[])), Vec::new());
    for (second, piece) in (0..).zip(pieces) {
        pipeline.write(Stream::Job, Kind::Out, piece.as_bytes(), at(second), &mut out);
    }
    let summary = pipeline.close(at(pieces.len() as i64), &mut out);
    assert_eq!(summary, TraceSummary::of(&out));
    let text = String::from_utf8(out).unwrap();
    text.replace("2026-09-01T12:34:", "").replace(".000000Z ", " ")
}

#[rstest]
#[case::nothing(&[], "")]
#[case::lines(&["a\nb\n", "c\n"], "56 01O a\n56 01O b\n57 01O c\n")]
#[case::a_line_has_the_time_of_its_beginning(&["a\nb", "c\nd\n"], "56 01O a\n56 01O bc\n57 01O d\n")]
#[case::empty_lines(&["\n\n"], "56 01O \n56 01O \n")]
#[case::the_rest_at_the_end(&["a\nb"], "56 01O a\n56 01O b\n")]
#[case::crlf(&["a\r\nb\r\n"], "56 01O a\r\n56 01O b\r\n")]
#[case::crlf_cut_in_two(&["a\r", "\nb"], "56 01O a\r\n57 01O b\n")]
#[case::more_returns_before_a_line_feed(&["a\r\r\nb"], "56 01O a\r\r\n56 01O b\n")]
#[case::return_within(&["a\rb\n"], "56 01O a\r\n56 01O+b\n")]
#[case::return_at_the_end(&["a\r"], "56 01O a\r\n")]
#[case::progress_bar(&["10%\r", "20%\r", "done\n", "x\n"], "56 01O 10%\r\n57 01O+20%\r\n58 01O+done\n59 01O x\n")]
#[case::return_in_front(&["\r10%", "\r20%\n"], "56 01O \r10%\r\n57 01O+20%\n")]
#[case::only_returns(&["\r\r\r\n"], "56 01O \r\r\r\n")]
#[case::erase_stays_with_its_return(&["a\r\u{1b}[0K", "b\n"], "56 01O a\r\u{1b}[0K\n57 01O+b\n")]
#[case::erase_before_a_line_feed(&["a\r\u{1b}[0K\nb\n"], "56 01O a\r\u{1b}[0K\n56 01O b\n")]
#[case::another_sequence(&["a\r\u{1b}[2Kb\n"], "56 01O a\r\n56 01O+\u{1b}[2Kb\n")]
#[case::sequence_cut_short(&["a\r\u{1b}[0", "\n"], "56 01O a\r\n57 01O+\u{1b}[0\n")]
#[case::the_mask_ends_a_return(&["a\rglpat-x\n"], "56 01O a\r\n56 01O+glpat-[MASKED]\n")]
fn api_57_lines(#[case] pieces: &[&str], #[case] expected: &str) {
    assert_eq!(stamped(pieces), expected);
}

#[rstest]
#[case::just_fits(8192, 0)]
#[case::one_more(8193, 1)]
#[case::several(3 * 8192 + 7, 3)]
fn api_57_a_line_of_more_than_8_kib_is_split(#[case] length: usize, #[case] splits: usize) {
    let line = "x".repeat(length);
    let mut expected = String::from("56 01O ");
    for at in 0..=splits {
        expected += &line[at * 8192..length.min((at + 1) * 8192)];
        expected += if at < splits { "\n56 01O+" } else { "\n56 01O y\n" };
    }
    assert_eq!(stamped(&[&format!("{line}\ny\n")]), expected);
}

#[test]
fn a_split_does_not_cut_a_character() {
    let text = stamped(&[&format!("{}\u{20ac}y\n", "x".repeat(8190))]);
    assert_eq!(text, format!("56 01O {}\n56 01O+\u{20ac}y\n", "x".repeat(8190)));
}

#[test]
fn api_57_streams_have_their_own_lines_and_numbers() {
    let (mut pipeline, mut out) = (LogPipeline::new(&settings(&["hunter22"])), Vec::new());
    let pieces = [
        (Stream::Runner, Kind::Out, "a", "00O"),
        (Stream::Runner, Kind::Err, "b", "00E"),
        (Stream::Job, Kind::Out, "hunt", "01O"),
        (Stream::Job, Kind::Err, "er22", "01E"),
        (Stream::Service(0), Kind::Out, "c", "0fO"),
        (Stream::Service(7), Kind::Out, "d", "0fO"),
        (Stream::Service(7), Kind::Err, "e", "0fE"),
    ];
    for (stream, kind, piece, _) in pieces {
        pipeline.write(stream, kind, piece.as_bytes(), at(0), &mut out);
    }
    pipeline.close(at(1), &mut out);
    let expected: String = pieces
        .iter()
        .map(|(_, _, piece, id)| format!("2026-09-01T12:34:56.000000Z {id} {piece}\n"))
        .collect();
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

#[test]
fn api_57_without_time_stamps_only_possible_secrets_wait() {
    let settings = LogSettings { timestamps: false, ..settings(&["hunter22"]) };
    let (mut pipeline, mut out) = (LogPipeline::new(&settings), Vec::new());
    let mut step = |piece: &[u8], expected: &str| {
        out.clear();
        pipeline.write(Stream::Job, Kind::Out, piece, at(0), &mut out);
        assert_eq!(out, expected.as_bytes(), "after {piece:?}");
    };
    step(b"Password: ", "Password: ");
    step(b"\r", "\r");
    step(b"see glp", "see glp");
    step(b"at-abc", "at-[MASKED]");
    step(b" ?rss_tok", " ?rss_tok");
    step(b"en=abc", "en=[MASKED]");
    step(b" hunt", " ");
    step(b"ing hunter2", "hunting ");
    step(b"2", "[MASKED]");
    step(b"\xe2\x82", "");
    step(b"\xac", "\u{20ac}");
    step(b"hunt", "");
    out.clear();
    pipeline.end(Stream::Job, Kind::Out, at(0), &mut out);
    assert_eq!(out, b"hunt");
}

#[test]
fn api_58_a_section_marker_has_a_line_of_its_own() {
    let text = stamped(&[&section_start("get_sources", 7), "\u{1b}[0KGetting\n"]);
    assert_eq!(text, "56 01O section_start:7:get_sources\r\u{1b}[0K\n57 01O+\u{1b}[0KGetting\n");
}

#[rstest]
#[case::exceeded(20, "data before limit\ndata\n", "data before limit\nda")]
#[case::reached_exactly(5, "abcd\n", "abcd\n")]
#[case::cut_between_characters(4, "ab\u{20ac}\n", "ab")]
#[case::not_reached(6, "abcd\n", "abcd\n")]
#[case::none_at_all(0, "a", "")]
fn api_51_limit(#[case] limit: u64, #[case] input: &str, #[case] kept: &str) {
    let settings = LogSettings { timestamps: false, limit, ..LogSettings::default() };
    for size in 1..=input.len() {
        let (mut pipeline, mut out) = (LogPipeline::new(&settings), Vec::new());
        for piece in input.as_bytes().chunks(size) {
            pipeline.write(Stream::Job, Kind::Out, piece, at(0), &mut out);
        }
        pipeline.write(Stream::Runner, Kind::Out, b"", at(0), &mut out);
        let reached = input.len() as u64 >= limit;
        assert_eq!(pipeline.is_full(), reached);
        let notice = format!(
            "\n\u{1b}[33;1mJob's log exceeded limit of {limit} bytes.\nJob execution will continue \
             but no more output will be collected.\u{1b}[0;m\n"
        );
        let expected = if reached { format!("{kept}{notice}") } else { kept.to_owned() };
        assert_eq!(String::from_utf8(out.clone()).unwrap(), expected, "pieces of {size}");
        if reached {
            pipeline.write(Stream::Job, Kind::Out, b"more", at(0), &mut out);
        }
        assert_eq!(pipeline.close(at(0), &mut out), TraceSummary::of(&out));
        assert_eq!(out.len(), expected.len());
    }
}

#[test]
fn stages_31_the_limit_counts_headers_too() {
    let settings = LogSettings { limit: 40, ..LogSettings::default() };
    let (mut pipeline, mut out) = (LogPipeline::new(&settings), Vec::new());
    pipeline.write(Stream::Job, Kind::Out, b"123456789\n", at(0), &mut out);
    assert!(out.starts_with(b"2026-09-01T12:34:56.000000Z 01O 12345678\n\x1b[33;1m"), "{out:?}");
}

#[test]
fn api_52_a_character_survives_another_stream_in_between() {
    let settings = LogSettings { timestamps: false, ..LogSettings::default() };
    let (mut pipeline, mut out) = (LogPipeline::new(&settings), Vec::new());
    pipeline.write(Stream::Job, Kind::Out, b"\xe2\x82", at(0), &mut out);
    pipeline.write(Stream::Job, Kind::Err, b"x", at(0), &mut out);
    pipeline.write(Stream::Job, Kind::Out, b"\xac", at(0), &mut out);
    assert_eq!(out, "x\u{20ac}".as_bytes());
}

#[test]
fn masking_comes_before_repair() {
    let settings = LogSettings { timestamps: false, ..settings(&["hunter22"]) };
    let (mut pipeline, mut out) = (LogPipeline::new(&settings), Vec::new());
    pipeline.write(Stream::Job, Kind::Out, b"\xe2\x82hunter22\xffglpat-x\xff", at(0), &mut out);
    assert_eq!(out, "\u{fffd}[MASKED]\u{fffd}glpat-[MASKED]\u{fffd}".as_bytes());
}

#[test]
fn a_checkpoint_at_the_beginning_of_a_line_is_small_and_holds_no_secret() {
    let settings = settings(&["hunter22"]);
    let (mut pipeline, mut out) = (LogPipeline::new(&settings), Vec::new());
    pipeline.write(Stream::Job, Kind::Out, b"one\ntwo\n", at(0), &mut out);
    let json = serde_json::to_string(&pipeline.checkpoint()).unwrap();
    assert!(json.len() < 64, "{json}");
    pipeline.write(Stream::Job, Kind::Out, b"a hunter2", at(0), &mut out);
    let json = serde_json::to_string(&pipeline.checkpoint()).unwrap();
    assert!(json.len() < 256 && !json.contains("hun"), "{json}");
}

#[test]
fn a_checkpoint_of_other_settings_is_refused() {
    let (mut pipeline, mut out) = (LogPipeline::new(&settings(&["hunter22"])), Vec::new());
    pipeline.write(Stream::Job, Kind::Out, b"hunter2", at(0), &mut out);
    let checkpoint = pipeline.checkpoint();
    assert!(LogPipeline::resume(&settings(&["hunter22"]), &checkpoint).is_ok());
    assert!(LogPipeline::resume(&settings(&[]), &checkpoint).is_err());
    assert!(LogPipeline::resume(&settings(&["short"]), &checkpoint).is_err());
}
