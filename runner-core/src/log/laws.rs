//! What holds for every input, however it is cut, wherever the supervisor is killed.

use jiff::Timestamp;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::reference;
use super::rules::settings;
use super::{Checkpoint, Kind, LogPipeline, Masker, Stream};
use crate::outcome::TraceSummary;
use crate::plan::LogSettings;
use crate::secret::Secret;

/// Pieces that masks are made of, so that near misses and overlaps are frequent.
const PIECES: [&str; 30] = [
    "a",
    "b",
    "ab",
    "ba",
    "aab",
    "abab",
    "\n",
    "\r",
    "\r\n",
    "?",
    "&",
    "gl",
    "pat-",
    "glpat-",
    "glrt-",
    "-",
    "private_token=",
    "RSS_token=",
    "x-amz-",
    "signature=",
    " ",
    "hunter22",
    "secret-value-1",
    "secret-value-2",
    "secret",
    "\u{20ac}",
    "\x1b[0K",
    "[MASKED]",
    "c0",
    "xxxxxxxxxxxxxxxxxxxxxxx",
];

fn masks() -> impl Strategy<Value = Vec<String>> {
    let mask = prop::collection::vec(select(&PIECES[..]), 1..5).prop_map(|parts| parts.concat());
    prop::collection::vec(mask, 0..6)
}

/// Text that likes to contain masks, parts of them, and bytes that are no text.
fn input(masks: &[String]) -> impl Strategy<Value = Vec<u8>> + use<> {
    let mut pieces: Vec<Vec<u8>> = PIECES.iter().map(|piece| piece.as_bytes().to_vec()).collect();
    pieces.extend(masks.iter().map(|mask| mask.clone().into_bytes()));
    pieces.extend([b"\xff".to_vec(), b"\xe2\x82".to_vec(), b"\xac".to_vec()]);
    // Longer than a window of the sampling search.
    pieces.push(
        b"an ordinary line of a log, with nothing to hide in it whatsoever: 200 OK\n".to_vec(),
    );
    prop::collection::vec(select(pieces), 0..40).prop_map(|pieces| pieces.concat())
}

fn case() -> impl Strategy<Value = (Vec<String>, Vec<u8>)> {
    masks().prop_flat_map(|masks| (Just(masks.clone()), input(&masks)))
}

fn cut<'a>(input: &'a [u8], cuts: &[Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
    places.extend([0, input.len()]);
    places.sort_unstable();
    places.windows(2).map(|pair| &input[pair[0]..pair[1]]).collect()
}

fn with_masks(masks: &[String]) -> LogSettings {
    let masks: Vec<_> = masks.iter().map(String::as_str).collect();
    settings(&masks)
}

fn now() -> Timestamp {
    Timestamp::from_second(1_788_266_096).unwrap()
}

/// A write to one of three streams.
type Write = (u8, Vec<u8>);

fn write(pipeline: &mut LogPipeline, (stream, bytes): &Write, out: &mut Vec<u8>) {
    let (stream, kind) = match stream {
        0 => (Stream::Job, Kind::Out),
        1 => (Stream::Job, Kind::Err),
        _ => (Stream::Runner, Kind::Out),
    };
    pipeline.write(stream, kind, bytes, now(), out);
}

fn writes() -> impl Strategy<Value = (LogSettings, Vec<Write>)> {
    (masks(), any::<bool>(), prop_oneof![Just(4 << 20), 0..2000_u64]).prop_flat_map(
        |(masks, timestamps, limit)| {
            let settings = LogSettings { timestamps, limit, ..with_masks(&masks) };
            (Just(settings), prop::collection::vec((0..3_u8, input(&masks)), 0..8))
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn the_masker_does_what_the_reference_says(
        (masks, input) in case(),
        cuts in prop::collection::vec(any::<Index>(), 0..6),
    ) {
        let settings = with_masks(&masks);
        let phrases: Vec<_> = masks.iter().map(String::as_str).collect();
        let expected = reference::mask(&phrases, &super::DEFAULT_TOKEN_PREFIXES, &input);
        for pieces in [vec![&input[..]], cut(&input, &cuts), input.chunks(1).collect()] {
            let (mut masker, mut out) = (Masker::new(&settings), Vec::new());
            pieces.iter().for_each(|piece| masker.push(piece, &mut out));
            masker.finish(&mut out);
            prop_assert_eq!(
                String::from_utf8_lossy(&out), String::from_utf8_lossy(&expected), "{:?}", pieces
            );
        }
    }

    #[test]
    fn short_and_many_prefixes_are_masked_too(
        prefixes in prop::collection::vec(select(vec!["a", "ab", "gl", "c0", "secret", "]", " [MAS", "a[MASKED]", "glpat-glrt-"]), 0..5),
        many in any::<bool>(),
        (masks, input) in case(),
    ) {
        let mut prefixes: Vec<_> = prefixes.into_iter().map(str::to_owned).collect();
        if many {
            prefixes.extend((0..90).map(|number| format!("c{number}")));
        }
        let settings = LogSettings { token_prefixes: prefixes.clone(), ..with_masks(&masks) };
        let phrases: Vec<_> = masks.iter().map(String::as_str).collect();
        let wanted: Vec<_> = prefixes.iter().map(String::as_str).collect();
        let expected = reference::mask(&phrases, &wanted, &input);
        for size in [1, 7, usize::MAX] {
            let (mut masker, mut out) = (Masker::new(&settings), Vec::new());
            input.chunks(size).for_each(|piece| masker.push(piece, &mut out));
            masker.finish(&mut out);
            prop_assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&expected));
        }
    }

    #[test]
    fn a_trace_does_not_depend_on_how_its_input_was_cut(
        (settings, writes) in writes(),
        cuts in prop::collection::vec(any::<Index>(), 0..6),
    ) {
        let (mut whole, mut expected) = (LogPipeline::new(&settings), Vec::new());
        let (mut pieces, mut out) = (LogPipeline::new(&settings), Vec::new());
        let (mut bytes, mut singly) = (LogPipeline::new(&settings), Vec::new());
        for (stream, input) in &writes {
            write(&mut whole, &(*stream, input.clone()), &mut expected);
            for piece in cut(input, &cuts) {
                write(&mut pieces, &(*stream, piece.to_vec()), &mut out);
            }
            for &byte in input {
                write(&mut bytes, &(*stream, vec![byte]), &mut singly);
            }
            // Also on the way: nothing is held back longer for having come in one piece.
            prop_assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&expected));
            prop_assert_eq!(String::from_utf8_lossy(&singly), String::from_utf8_lossy(&expected));
        }
        let summary = whole.close(now(), &mut expected);
        pieces.close(now(), &mut out);
        bytes.close(now(), &mut singly);
        prop_assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&expected));
        prop_assert_eq!(String::from_utf8_lossy(&singly), String::from_utf8_lossy(&expected));
        prop_assert_eq!(summary, TraceSummary::of(&expected));
        prop_assert!(std::str::from_utf8(&expected).is_ok());
    }

    #[test]
    fn a_restarted_pipeline_makes_the_same_trace(
        (settings, writes) in writes(),
        cuts in prop::collection::vec(any::<Index>(), 0..6),
    ) {
        let (mut undisturbed, mut expected) = (LogPipeline::new(&settings), Vec::new());
        let (mut disturbed, mut out) = (LogPipeline::new(&settings), Vec::new());
        for (stream, input) in &writes {
            for piece in cut(input, &cuts) {
                let piece = (*stream, piece.to_vec());
                write(&mut undisturbed, &piece, &mut expected);
                write(&mut disturbed, &piece, &mut out);
                let json = serde_json::to_string(&disturbed.checkpoint()).unwrap();
                let checkpoint: Checkpoint = serde_json::from_str(&json).unwrap();
                disturbed = LogPipeline::resume(&settings, &checkpoint).unwrap();
                prop_assert_eq!(disturbed.checkpoint(), checkpoint);
            }
        }
        let summary = undisturbed.close(now(), &mut expected);
        prop_assert_eq!(disturbed.close(now(), &mut out), summary);
        prop_assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(&expected));
    }

    #[test]
    fn no_masked_value_is_ever_in_a_trace(
        masks in prop::collection::vec("[klmno]{4,12}", 1..5),
        texts in prop::collection::vec("[klmno \\n]{0,9}", 0..40),
        which in prop::collection::vec((any::<Index>(), any::<Index>()), 0..10),
        size in 1..40_usize,
        timestamps in any::<bool>(),
    ) {
        let settings = LogSettings {
            masks: masks.iter().map(|mask| Secret::from(mask.as_str())).collect(),
            timestamps,
            ..settings(&[])
        };
        let mut texts = texts;
        for (mask, place) in which {
            let place = place.index(texts.len() + 1);
            texts.insert(place, mask.get(&masks).clone());
        }
        let (mut pipeline, mut out) = (LogPipeline::new(&settings), Vec::new());
        for piece in texts.concat().as_bytes().chunks(size) {
            pipeline.write(Stream::Job, Kind::Out, piece, now(), &mut out);
        }
        pipeline.close(now(), &mut out);
        let text = String::from_utf8(out).unwrap();
        for mask in &masks {
            prop_assert!(!text.contains(mask.as_str()), "{mask} in {text:?}");
        }
    }

    #[test]
    fn a_damaged_checkpoint_is_refused_or_harmless(
        (settings, writes) in writes(),
        at in any::<Index>(),
        byte in any::<u8>(),
    ) {
        let (mut pipeline, mut out) = (LogPipeline::new(&settings), Vec::new());
        writes.iter().for_each(|piece| write(&mut pipeline, piece, &mut out));
        let mut json = serde_json::to_vec(&pipeline.checkpoint()).unwrap();
        let place = at.index(json.len());
        json[place] = byte;
        let resumed = serde_json::from_slice::<Checkpoint>(&json)
            .ok()
            .and_then(|checkpoint| LogPipeline::resume(&settings, &checkpoint).ok());
        if let Some(mut pipeline) = resumed {
            for piece in &writes {
                write(&mut pipeline, piece, &mut out);
            }
            pipeline.close(now(), &mut out);
        }
    }
}
