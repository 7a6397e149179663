//! What a container has written, for `pods/log` and `pods/attach`.

use bytes::Bytes;
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::sync::watch;

/// Bytes kept of one container; a real kubelet rotates at 10 MiB.
const LIMIT: usize = 10 << 20;

/// The log of one run of a container.
#[derive(Debug)]
pub(in super::super) struct Log {
    inner: Mutex<Inner>,
    /// The end of what was written, and whether more can come.
    end: watch::Sender<(u64, bool)>,
}

#[derive(Debug, Default)]
struct Inner {
    chunks: Vec<Chunk>,
    kept: usize,
    written: u64,
}

#[derive(Clone, Debug)]
pub(in super::super) struct Chunk {
    /// Number of bytes before it.
    pub(in super::super) at: u64,
    pub(in super::super) error_stream: bool,
    /// When it was written.
    pub(in super::super) time: Timestamp,
    pub(in super::super) bytes: Bytes,
}

impl Log {
    pub(in super::super) fn new() -> Self {
        Log { inner: Mutex::default(), end: watch::Sender::new((0, false)) }
    }

    pub(super) fn append(&self, error_stream: bool, bytes: Bytes) {
        let mut inner = self.inner.lock();
        let at = inner.written;
        inner.written += bytes.len() as u64;
        inner.kept += bytes.len();
        let time = Timestamp::now();
        inner.chunks.push(Chunk { at, error_stream, time, bytes });
        while inner.kept > LIMIT && inner.chunks.len() > 1 {
            inner.kept -= inner.chunks.remove(0).bytes.len();
        }
        let written = inner.written;
        drop(inner);
        self.end.send_modify(|e| e.0 = written);
    }

    pub(super) fn close(&self) {
        self.end.send_modify(|e| e.1 = true);
    }

    pub(in super::super) fn end(&self) -> watch::Receiver<(u64, bool)> {
        self.end.subscribe()
    }

    /// The chunks from a position on.
    pub(in super::super) fn since(&self, at: u64) -> Vec<Chunk> {
        let inner = self.inner.lock();
        let from = inner.chunks.partition_point(|c| c.at < at);
        inner.chunks[from..].to_vec()
    }

    /// The last bytes, at most so many.
    pub(super) fn tail(&self, most: usize) -> Vec<u8> {
        let all: Vec<u8> = self.since(0).iter().flat_map(|c| c.bytes.to_vec()).collect();
        all[all.len().saturating_sub(most)..].to_vec()
    }
}
