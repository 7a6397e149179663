//! The program of a build container without processes: it speaks the real link with the real
//! supervisor, and its scripts are [`Script`]s.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use runner_agent::link::{
    FromServe, LinkCodec, LinkError, Order, Piece, RunId, RunState, ToServe, Urge, Window,
};
use runner_agent::process::ExitStatus;
use runner_testkit::chaos::{End, Script, text};
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::codec::Framed;

/// Longest piece of output, what a pipe gives at once.
const PIECE: usize = 16 << 10;

type Connection = Framed<DuplexStream, LinkCodec<ToServe>>;

/// A build container.
#[derive(Default)]
pub(crate) struct Serve {
    token: Option<String>,
    run: Option<Run>,
}

struct Run {
    id: RunId,
    script: Script,
    /// The beat that comes next, and when.
    beat: usize,
    due: Instant,
    /// Bytes written by beats that are over.
    written: usize,
    /// Bytes that the beat still has to write.
    left: usize,
    window: Window,
    status: Option<ExitStatus>,
    told: bool,
    grace: Duration,
    kill_at: Option<Instant>,
}

impl Serve {
    /// Serves for as long as it is polled. `door`: where the supervisor waits.
    pub(crate) async fn run(mut self, door: mpsc::UnboundedSender<DuplexStream>) {
        loop {
            let (near, far) = tokio::io::duplex(64 << 10);
            if door.send(far).is_err() {
                return;
            }
            let connection = Framed::new(near, LinkCodec::from_supervisor());
            // Lost, or not let in: it tries again, as the real one does.
            drop(self.speak(connection).await);
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn speak(&mut self, mut connection: Connection) -> Result<(), LinkError> {
        let run = self.run.as_ref().map(|run| RunState { run: run.id, from: run.window.start() });
        let hello = FromServe::Hello { token: self.token.clone(), run };
        connection.send(Piece::Word(hello)).await?;
        let mut welcome = false;
        if let Some(run) = &mut self.run {
            run.told = false;
        }
        loop {
            let due = match &self.run {
                Some(run) => run.wakes(),
                None => None,
            };
            let wake = async {
                match due {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                heard = connection.next() => match heard {
                    Some(Ok(Piece::Word(word))) => {
                        welcome |= matches!(word, ToServe::Welcome { .. });
                        self.on_word(word, &mut connection).await?;
                    }
                    Some(Ok(Piece::Output { .. })) | None => return Ok(()),
                    Some(Err(error)) => return Err(error),
                },
                () = wake, if welcome => {
                    if let Some(run) = &mut self.run
                        && let Some((offset, bytes)) = run.proceed()
                    {
                        connection.send(Piece::<FromServe>::Output { offset, bytes }).await?;
                    }
                }
            }
            if welcome {
                self.tell_end(&mut connection).await?;
            }
        }
    }

    async fn on_word(&mut self, word: ToServe, to: &mut Connection) -> Result<(), LinkError> {
        match word {
            ToServe::Welcome { token, from } => {
                self.token = Some(token);
                if let Some(run) = &mut self.run {
                    run.window.acknowledge(from);
                    for (offset, bytes) in run.window.pieces() {
                        to.send(Piece::<FromServe>::Output { offset, bytes }).await?;
                    }
                }
            }
            ToServe::Run(order) => self.run = Run::new(&order),
            ToServe::Ack { offset } => {
                if let Some(run) = &mut self.run {
                    run.window.acknowledge(offset);
                }
            }
            ToServe::End(urge) => {
                if let Some(run) = &mut self.run {
                    run.end(urge);
                }
            }
        }
        Ok(())
    }

    async fn tell_end(&mut self, connection: &mut Connection) -> Result<(), LinkError> {
        let Some(run) = &mut self.run else { return Ok(()) };
        let Some(status) = run.status.filter(|_| !run.told) else { return Ok(()) };
        run.told = true;
        let (id, length) = (run.id, run.window.end());
        connection
            .send(Piece::Word(FromServe::Exited {
                run: id,
                status,
                length,
                usage: runner_agent::usage::Usage::default(),
            }))
            .await
    }
}

impl Run {
    fn new(order: &Order) -> Option<Self> {
        let script = order.script.commands.iter().find_map(|line| Script::parse(line))?;
        let wait = script.beats.first().map_or(0, |beat| beat.wait);
        Some(Self {
            id: order.run,
            due: Instant::now() + Duration::from_millis(wait),
            script,
            beat: 0,
            written: 0,
            left: 0,
            window: Window::default(),
            status: None,
            told: false,
            grace: order.grace,
            kill_at: None,
        })
    }

    /// When something is to be done; `None` while the supervisor has to take output first.
    fn wakes(&self) -> Option<Instant> {
        if self.status.is_some() {
            return None;
        }
        let next = match self.left {
            0 => Some(self.due),
            _ => self.window.has_room().then(Instant::now),
        };
        next.into_iter().chain(self.kill_at).min()
    }

    /// Goes on with the script; the result is a piece of output.
    fn proceed(&mut self) -> Option<(u64, Bytes)> {
        if self.kill_at.is_some_and(|at| Instant::now() >= at) {
            self.status = Some(ExitStatus::Signalled(9));
            return None;
        }
        if self.left == 0 {
            if Instant::now() < self.due {
                return None;
            }
            let Some(beat) = self.script.beats.get(self.beat) else {
                self.status = Some(match self.script.end {
                    End::Exit(code) => ExitStatus::Exited(code),
                    End::Signal(signal) => ExitStatus::Signalled(signal),
                });
                return None;
            };
            self.left = beat.bytes;
            self.beat += 1;
            let next = self.script.beats.get(self.beat).map_or(0, |beat| beat.wait);
            self.due = Instant::now() + Duration::from_millis(next);
        }
        if self.left == 0 || !self.window.has_room() {
            return None;
        }
        let count = self.left.min(PIECE);
        let bytes = Bytes::from(text(self.script.seed, self.written, count));
        self.written += count;
        self.left -= count;
        Some((self.window.push(bytes.clone()), bytes))
    }

    fn end(&mut self, urge: Urge) {
        match urge {
            _ if self.status.is_some() => {}
            Urge::Kill => self.status = Some(ExitStatus::Signalled(9)),
            Urge::Stop if self.script.stubborn => {
                self.kill_at.get_or_insert(Instant::now() + self.grace);
            }
            Urge::Stop => self.status = Some(ExitStatus::Signalled(15)),
        }
    }
}
