//! Output of the pod's other containers, for the trace: services with `CI_DEBUG_SERVICES`, and what
//! an image's entry point prints.
//!
//! The agent cannot see it, so the manager follows the containers' logs and hands them in; the agent
//! masks and stamps them like everything else. Each follower starts at the log's beginning, whoever
//! follows: the agent knows by the lines' times what it has already.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use kube::Client;
use kube::client::Body;
use runner_core::wire::{MAX_TRACE, OutputFrame};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::{debug, warn};

use super::events::EventListener;
use crate::watch::{PodSight, PodWatch};

/// Pauses between tries: a log can be read some moments after its container has started.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Longest time stamp: 35 bytes with nanoseconds and an offset.
const LONGEST_STAMP: usize = 40;

/// The followers of a session.
#[derive(Default)]
pub(super) struct Listeners {
    /// Where they put what they read, and where it comes out. One piece: what has no taker stays in
    /// the API server.
    channel: Option<(mpsc::Sender<OutputFrame>, mpsc::Receiver<OutputFrame>)>,
    /// End with it.
    tasks: JoinSet<()>,
}

impl Listeners {
    /// Starts one.
    pub(super) fn add(&mut self, listener: Listener) {
        let (sender, _) = self.channel.get_or_insert_with(|| mpsc::channel(1));
        self.tasks.spawn(listener.run(sender.clone()));
    }

    /// The same for what is said about the pod.
    pub(super) fn add_events(&mut self, listener: EventListener) {
        let (sender, _) = self.channel.get_or_insert_with(|| mpsc::channel(1));
        self.tasks.spawn(listener.run(sender.clone()));
    }

    /// The next piece. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<OutputFrame> {
        match &mut self.channel {
            Some((_, receiver)) => receiver.recv().await,
            None => std::future::pending().await,
        }
    }
}

/// Whose log is followed.
pub(super) struct Listener {
    pub(super) client: Client,
    pub(super) namespace: String,
    pub(super) pod: String,
    pub(super) container: String,
    /// For the container's end.
    pub(super) watch: PodWatch,
    /// No more than this is read: what a trace may have at most.
    pub(super) limit: u64,
}

enum Read {
    /// All there is, or all that is wanted.
    Done,
    Again,
    Forbidden,
}

impl Listener {
    /// Until the container has ended and all is handed on, or nobody listens any more.
    pub(super) async fn run(self, out: mpsc::Sender<OutputFrame>) {
        let mut pause = FIRST_PAUSE;
        loop {
            let over = !self.is_running();
            match self.read(&out).await {
                Read::Done => return,
                // The log of a container that had ended before has nothing more to say.
                Read::Again if over => return,
                Read::Again => {}
                Read::Forbidden => {
                    warn!(
                        pod = self.pod,
                        "containers' output cannot be shown: the role lacks get on pods/log"
                    );
                    let text = "the runner's role does not allow it to read this output\n";
                    let frame = OutputFrame {
                        container: self.container,
                        time: i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX),
                        begins: true,
                        bytes: Bytes::from_static(text.as_bytes()),
                    };
                    // Nobody listens any more: fine.
                    let _ = out.send(frame).await;
                    return;
                }
            }
            // A log that ended although its container runs: the server went away.
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn is_running(&self) -> bool {
        match &*self.watch.borrow() {
            PodSight::Unseen => true,
            PodSight::Seen(pod) => {
                pod.container(&self.container).is_some_and(|c| c.state.terminated.is_none())
            }
            PodSight::Gone(_) => false,
        }
    }

    async fn read(&self, out: &mpsc::Sender<OutputFrame>) -> Read {
        let Self { namespace, pod, container, limit, .. } = self;
        let url = format!(
            "/api/v1/namespaces/{namespace}/pods/{pod}/log?container={container}&follow=true\
             &timestamps=true"
        );
        let Ok(request) = http::Request::get(url).body(Body::empty()) else { return Read::Done };
        let answer = match self.client.send(request).await {
            Ok(answer) => answer,
            Err(error) => {
                debug!(%error, "a container's log cannot be opened");
                return Read::Again;
            }
        };
        match answer.status().as_u16() {
            200 => {}
            401 | 403 => return Read::Forbidden,
            // Not started yet, says the server's cache; or the server has trouble.
            _ => return Read::Again,
        }
        let mut body = answer.into_body();
        let mut lines = Lines::default();
        let mut read = 0;
        while let Some(Ok(frame)) = body.frame().await {
            let Ok(bytes) = frame.into_data() else { continue };
            read += bytes.len() as u64;
            for Piece { time, begins, bytes } in lines.take(bytes) {
                let frame = OutputFrame { container: container.clone(), time, begins, bytes };
                if out.send(frame).await.is_err() {
                    return Read::Done;
                }
            }
            if read > *limit {
                return Read::Done;
            }
        }
        Read::Again
    }
}

/// A piece of one line.
#[derive(Debug, PartialEq)]
struct Piece {
    time: i64,
    begins: bool,
    bytes: Bytes,
}

/// Takes a log with time stamps apart. The same log gives the same times, whatever pieces it comes in.
#[derive(Debug, Default)]
struct Lines {
    /// The beginning of a stamp that has not come whole.
    stamp: BytesMut,
    time: i64,
    in_line: bool,
    /// The line's first piece is still to come.
    begins: bool,
}

impl Lines {
    fn take(&mut self, mut bytes: Bytes) -> Vec<Piece> {
        let mut out = Vec::new();
        while !bytes.is_empty() {
            if !self.in_line {
                let end = bytes.iter().position(|byte| matches!(byte, b' ' | b'\n'));
                let whole = end.is_some() || self.stamp.len() + bytes.len() > LONGEST_STAMP;
                // The space behind the stamp belongs to it, a line feed does not.
                let length = end.map_or(bytes.len(), |end| end + usize::from(bytes[end] == b' '));
                self.stamp.extend_from_slice(&bytes.split_to(length));
                if !whole {
                    break;
                }
                (self.in_line, self.begins) = (true, true);
                if let Some(unstamped) = self.begin() {
                    out.push(self.piece(unstamped));
                }
            }
            let end = bytes.iter().position(|byte| *byte == b'\n').map(|end| end + 1);
            self.in_line = end.is_none();
            let mut line = bytes.split_to(end.unwrap_or(bytes.len()));
            while !line.is_empty() {
                let bytes = line.split_to(line.len().min(MAX_TRACE));
                out.push(self.piece(bytes));
            }
        }
        out
    }

    fn piece(&mut self, bytes: Bytes) -> Piece {
        Piece { time: self.time, begins: std::mem::take(&mut self.begins), bytes }
    }

    /// Reads the stamp. Text that is none belongs to the line. Several lines may have one stamp
    /// (CRI-O gives all that come at once the same), and clocks may be set back; what is handed on
    /// grows with every line.
    fn begin(&mut self) -> Option<Bytes> {
        let text = self.stamp.split().freeze();
        let stamp = std::str::from_utf8(&text).ok().and_then(|text| text.trim_end().parse().ok());
        let time = stamp.and_then(|at: Timestamp| i64::try_from(at.as_nanosecond()).ok());
        self.time = time.unwrap_or(i64::MIN).max(self.time + 1);
        (time.is_none() && !text.is_empty()).then_some(text)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{Lines, Piece};

    const LOG: &[u8] = b"2026-01-02T03:04:05.000000006Z one\n\
        2026-01-02T03:04:05.000000006Z two words\n\
        2026-01-02T03:04:05.000000006Z \n\
        2026-01-02T03:04:04Z back\n\
        no stamp at all, and a line that is longer than any\n";

    /// Time and text of whole lines.
    fn lines(pieces: impl IntoIterator<Item = Piece>) -> Vec<(i64, String)> {
        let mut out: Vec<(i64, String)> = Vec::new();
        for Piece { time, begins, bytes } in pieces {
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            match out.last_mut() {
                Some(last) if !begins => {
                    assert_eq!(last.0, time);
                    last.1.push_str(&text);
                }
                _ => out.push((time, text)),
            }
        }
        out
    }

    #[test]
    fn lines_have_times_of_their_own_however_they_come() {
        let first = 1_767_323_045_000_000_006;
        let texts = [
            "one\n",
            "two words\n",
            "\n",
            "back\n",
            "no stamp at all, and a line that is longer than any\n",
        ];
        let expected: Vec<_> = (first..).zip(texts.map(str::to_owned)).collect();
        for size in [1, 2, 7, 35, 36, 40, LOG.len()] {
            let mut parser = Lines::default();
            let pieces =
                LOG.chunks(size).flat_map(|piece| parser.take(Bytes::copy_from_slice(piece)));
            assert_eq!(lines(pieces.collect::<Vec<_>>()), expected, "in pieces of {size}");
        }
    }
}
