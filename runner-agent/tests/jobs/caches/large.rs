//! Archives that are sent in parts and come back in pieces.

use super::*;

/// A script that makes a file of so many bytes that do not compress.
fn noise(bytes: u64) -> String {
    format!("mkdir -p v; head -c {bytes} /dev/urandom > v/noise; sha256sum v/noise")
}

/// A job whose cache is not compressed, which takes long in a debug build.
fn stored(script: &str) -> World {
    world(&[script], &[cache(&["v"])]).variable("CACHE_COMPRESSION_LEVEL", "fastest")
}

/// What `sha256sum` has printed.
fn digest(seen: &Seen) -> String {
    let text = seen.text();
    let end = text.find("  v/noise").unwrap_or_else(|| panic!("{text}"));
    text[end - 64..end].to_owned()
}

#[tokio::test]
async fn stages_78_a_large_archive_is_sent_in_parts_and_lies_nowhere_as_a_whole() {
    let server = ObjectServer::start().await.unwrap();
    let seen = run(&stored(&noise(20 << 20)), &server).await;
    assert!(seen.text().contains("Created cache"), "{}", seen.text());
    let mut sent = server.requests();
    sent.retain(|line| !line.starts_with("GET "));
    let part = |number| format!("PUT project/1/key?partNumber={number}&uploadId=upload-1");
    let begin = "POST project/1/key?uploads".to_owned();
    let finish = "POST project/1/key?uploadId=upload-1".to_owned();
    // Two are sent at once.
    sent[1..4].sort();
    assert_eq!(sent, [begin, part(1), part(2), part(3), finish]);
    let object = server.object("project/1/key").unwrap();
    assert_eq!(object.headers["x-test-meta-cachekey"], "key");
    assert_eq!(object.headers["content-type"], "application/octet-stream");
    assert_eq!(server.unfinished(), 0);

    let pull = Cache { policy: "pull".into(), ..cache(&["v"]) };
    let next = run(&world(&["sha256sum v/noise"], &[pull]), &server).await;
    assert_eq!(digest(&next), digest(&seen));
}

#[tokio::test]
async fn stages_78_a_part_that_was_lost_is_sent_again_and_nothing_is_packed_again() {
    let server = ObjectServer::start().await.unwrap();
    let world = stored(&noise(20 << 20));
    let mut handle = reserve(&world, Some(&server)).await;
    handle.start().await.unwrap();
    handle.follow(Offset::ZERO, Offset(u64::MAX)).await;
    let mut has_failed = false;
    let end = loop {
        match timeout(PATIENCE, handle.event()).await.unwrap() {
            JobEvent::Asked(ask) => {
                let request = ask.cache.unwrap();
                if matches!(request.action, CacheAction::Part { .. }) && !has_failed {
                    has_failed = true;
                    server.fail_with([503, 503]);
                }
                let transfer = Some(server.sign(&request).await.unwrap());
                handle.answer(AnswerFrame { id: ask.id, transfer, refused: String::new() }).await;
            }
            JobEvent::Ended(end) => break end,
            _ => {}
        }
    };
    handle.dispose().await.unwrap();
    assert!(end.outcome.is_success());
    let requests = server.requests();
    let count = |what: &str| requests.iter().filter(|line| line.contains(what)).count();
    assert_eq!((count("?uploads"), count("?partNumber")), (1, 5), "{requests:?}");
    assert!(server.object("project/1/key").is_some());
}

#[tokio::test]
async fn stages_78_what_was_sent_in_vain_is_thrown_away() {
    let server = ObjectServer::start().await.unwrap();
    let mut small = stored(&noise(20 << 20));
    small.settings.cache_limit = 12 << 20;
    let seen = run(&small, &server).await;
    assert!(seen.text().contains(" is too big (Limit is set to 12582912)."), "{}", seen.text());
    assert!(server.names().is_empty());
    assert_eq!(server.unfinished(), 0);
    assert!(server.requests().iter().any(|line| line.starts_with("DELETE ")));
}

#[tokio::test]
async fn stages_78_pieces_of_a_large_archive_come_side_by_side_and_each_is_tried_again() {
    let server = ObjectServer::start().await.unwrap();
    let seen = run(&stored(&noise(20 << 20)), &server).await;
    server.requests();
    let pull = Cache { policy: "pull".into(), ..cache(&["v"]) };
    // The first of two pieces comes; the other one has to be asked for three times.
    server.answer_later(1, [503, 503]);
    let next = run(&world(&["sha256sum v/noise"], &[pull]), &server).await;
    assert_eq!(digest(&next), digest(&seen));
    assert_eq!(server.requests(), vec!["GET project/1/key"; 2 + 2]);
}

#[tokio::test]
async fn stages_78_pieces_of_an_archive_that_is_replaced_meanwhile_are_not_mixed() {
    let server = ObjectServer::start().await.unwrap();
    let seen = run(&stored(&noise(20 << 20)), &server).await;
    server.requests();
    let pull = Cache { policy: "pull".into(), ..cache(&["v"]) };
    // Whoever asks for the second piece is told that the object is another one now: all of it is fetched again.
    server.answer_later(1, [412]);
    let next = run(&world(&["sha256sum v/noise"], &[pull]), &server).await;
    assert_eq!(digest(&next), digest(&seen));
    assert_eq!(server.requests().len(), 2 + 2);
}
