//! The proxy itself: two pumps per connection, each of which knows at which byte it must act.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::plan::Fate;
use super::{Direction, Fault, FaultPlan, LoopbackPort, reset_when_closed};

/// A TCP proxy in front of one server that breaks connections as its [`FaultPlan`] says.
///
/// Dropping it closes its port and all its connections.
#[derive(Debug)]
pub struct FaultProxy {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    /// Present while it listens: how to end that, and the task that does it.
    listening: Mutex<Option<(DropGuard, JoinHandle<()>)>>,
    stop: DropGuard,
}

/// What a [`FaultProxy`] has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FaultCounts {
    /// Connections accepted.
    pub connections: u64,
    /// Of those: the server could not be reached, so the client was reset.
    pub unreachable: u64,
    /// [`Fault::Close`].
    pub closed: u64,
    /// [`Fault::Reset`].
    pub reset: u64,
    /// [`Fault::Stall`].
    pub stalled: u64,
    /// [`Fault::Slow`].
    pub slowed: u64,
    /// [`Fault::HalfClose`].
    pub half_closed: u64,
    /// Bytes passed on to the server.
    pub to_server: u64,
    /// Bytes passed on to the client.
    pub to_client: u64,
}

impl FaultCounts {
    /// All faults together.
    #[must_use]
    pub fn faults(&self) -> u64 {
        self.closed + self.reset + self.stalled + self.slowed + self.half_closed
    }
}

#[derive(Debug)]
struct Shared {
    port: LoopbackPort,
    target: SocketAddr,
    state: Mutex<State>,
    /// Commands to all open connections; a connection looks at what came after it was opened.
    now: watch::Sender<(u64, Option<Fault>)>,
}

#[derive(Debug)]
struct State {
    plan: FaultPlan,
    /// Connections since the plan was set.
    seen: u64,
    counts: FaultCounts,
}

impl FaultProxy {
    /// Starts a proxy on a free loopback port; at first everything passes.
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start(target: SocketAddr) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            port: LoopbackPort::reserve()?,
            target,
            state: Mutex::new(State {
                plan: FaultPlan::none(),
                seen: 0,
                counts: FaultCounts::default(),
            }),
            now: watch::Sender::new((0, None)),
        });
        let proxy = Self {
            shared,
            tasks: TaskTracker::new(),
            listening: Mutex::new(None),
            stop: CancellationToken::new().drop_guard(),
        };
        proxy.come_back()?;
        Ok(proxy)
    }

    /// Where clients connect to.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.shared.port.addr()
    }

    /// Takes a new plan for the connections that come from now on.
    pub fn set(&self, plan: FaultPlan) {
        let mut state = self.shared.state.lock();
        state.plan = plan;
        state.seen = 0;
    }

    /// Does this to all open connections now ([`Fault::Slow`] and [`Fault::HalfClose`]: in both
    /// directions), whatever the plan says.
    pub fn hurt_open(&self, fault: Fault) {
        self.shared.now.send_modify(|(turn, now)| (*turn, *now) = (*turn + 1, Some(fault)));
    }

    /// Refuses new connections until [`come_back`](Self::come_back). Open ones are left alone.
    pub async fn go_away(&self) {
        let listening = self.listening.lock().take();
        if let Some((until, task)) = listening {
            drop(until);
            // Until the accept loop has dropped its listener the kernel still takes connections.
            let _ = task.await;
        }
    }

    /// Listens again.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn come_back(&self) -> io::Result<()> {
        let mut listening = self.listening.lock();
        if listening.is_none() {
            let listener = self.shared.port.listen()?;
            let until = CancellationToken::new();
            let task = self.tasks.spawn(accept(
                self.shared.clone(),
                listener,
                until.clone(),
                self.stop.token().child_token(),
                self.tasks.clone(),
            ));
            *listening = Some((until.drop_guard(), task));
        }
        Ok(())
    }

    /// What it has done so far.
    #[must_use]
    pub fn counts(&self) -> FaultCounts {
        self.shared.state.lock().counts
    }
}

/// After an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

async fn accept(
    shared: Arc<Shared>,
    listener: TcpListener,
    until: CancellationToken,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    loop {
        let client = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = until.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => client,
                // The client has gone, or there are no file descriptors, and then asking again at
                // once would only burn the processor.
                Err(_) => {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
        };
        let (fate, commands) = {
            let mut state = shared.state.lock();
            state.counts.connections += 1;
            let fate = state.plan.fate(state.seen);
            state.seen += 1;
            (fate, shared.now.subscribe())
        };
        let (shared, stop) = (shared.clone(), stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = connection(&shared, client, fate, commands) => {}
            }
        });
    }
}

/// How a connection ends before its time.
enum Ending {
    Close,
    Reset,
    /// One side broke it: the other side is told.
    Broken,
}

async fn connection(
    shared: &Shared,
    mut client: TcpStream,
    fate: Option<Fate>,
    commands: watch::Receiver<(u64, Option<Fault>)>,
) {
    let Ok(mut server) = TcpStream::connect(shared.target).await else {
        shared.state.lock().counts.unreachable += 1;
        reset_when_closed(&client);
        return;
    };
    // Small messages must not wait for acknowledgements: the proxy would look slow unasked.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let stalled = watch::Sender::new(false);
    let ending = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let pump = |direction, from, to| Pump {
            shared,
            direction,
            from,
            to,
            fate: fate.filter(|fate| fate.direction == direction),
            commands: commands.clone(),
            stalled: stalled.clone(),
            rate: None,
            passed: 0,
        };
        let up = pump(Direction::ToServer, from_client, to_server);
        let down = pump(Direction::ToClient, from_server, to_client);
        let mut ends = commands.clone();
        tokio::select! {
            biased;
            ending = ended_by_command(shared, &mut ends) => Some(ending),
            done = async { tokio::try_join!(up.run(), down.run()) } => done.err(),
        }
    };
    match ending {
        Some(Ending::Reset | Ending::Broken) => {
            reset_when_closed(&client);
            reset_when_closed(&server);
        }
        Some(Ending::Close) => {
            // Said before the sockets close: with unread bytes in them, closing alone is a reset.
            let _ = tokio::join!(client.shutdown(), server.shutdown());
        }
        None => {}
    }
}

/// Waits for a command that ends the connection; the others are the pumps' business.
async fn ended_by_command(
    shared: &Shared,
    commands: &mut watch::Receiver<(u64, Option<Fault>)>,
) -> Ending {
    loop {
        if commands.changed().await.is_err() {
            return Ending::Reset;
        }
        let fault = commands.borrow_and_update().1;
        let mut state = shared.state.lock();
        match fault {
            Some(Fault::Reset) => {
                state.counts.reset += 1;
                return Ending::Reset;
            }
            Some(Fault::Close) => {
                state.counts.closed += 1;
                return Ending::Close;
            }
            _ => {}
        }
    }
}

struct Pump<'a> {
    shared: &'a Shared,
    direction: Direction,
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    fate: Option<Fate>,
    commands: watch::Receiver<(u64, Option<Fault>)>,
    /// Shared by both pumps of a connection.
    stalled: watch::Sender<bool>,
    rate: Option<u64>,
    passed: u64,
}

/// What a pump does next.
enum Next {
    Read(usize),
    /// As the plan says, if it has faults left.
    Planned(Fault),
    /// As [`FaultProxy::hurt_open`] says.
    Ordered(Fault),
    Ended,
}

impl Pump<'_> {
    async fn run(mut self) -> Result<(), Ending> {
        // Bounds what the proxy holds of one direction.
        let mut buffer = vec![0; 16 * 1024];
        let mut stall = self.stalled.subscribe();
        loop {
            // The sender lives in `self`, so this wait cannot fail.
            let _ = stall.wait_for(|stalled| !stalled).await;
            let room = match (self.fate, self.rate) {
                (Some(fate), _) if fate.at <= self.passed => 0,
                (Some(fate), _) => usize::try_from(fate.at - self.passed).unwrap_or(usize::MAX),
                // A tenth of a second's worth, so that slow means steady and not in bursts.
                (None, Some(rate)) => usize::try_from((rate / 10).max(1)).unwrap_or(usize::MAX),
                (None, None) => usize::MAX,
            }
            .min(buffer.len());
            let next = if room == 0 {
                self.fate.take().map_or(Next::Ended, |fate| Next::Planned(fate.fault))
            } else {
                tokio::select! {
                    biased;
                    changed = self.commands.changed() => match changed {
                        Ok(()) => match self.commands.borrow_and_update().1 {
                            Some(fault @ (Fault::Slow { .. } | Fault::HalfClose)) => Next::Ordered(fault),
                            // Both pumps hear it; one of them stalls the connection.
                            Some(fault @ Fault::Stall { .. })
                                if self.direction == Direction::ToClient => Next::Ordered(fault),
                            _ => continue,
                        },
                        Err(_) => Next::Ended,
                    },
                    read = self.from.read(&mut buffer[..room]) => match read {
                        Ok(0) => Next::Ended,
                        Ok(n) => Next::Read(n),
                        Err(_) => return Err(Ending::Broken),
                    },
                }
            };
            match next {
                Next::Read(n) => {
                    // The connection may have stalled while the read was waiting.
                    let _ = stall.wait_for(|stalled| !stalled).await;
                    self.pass(&buffer[..n]).await?;
                }
                Next::Planned(fault) => {
                    if self.spend() && self.act(fault).await? {
                        return Ok(());
                    }
                }
                Next::Ordered(fault) => {
                    if self.act(fault).await? {
                        return Ok(());
                    }
                }
                Next::Ended => {
                    let _ = self.to.shutdown().await;
                    return Ok(());
                }
            }
        }
    }

    async fn pass(&mut self, bytes: &[u8]) -> Result<(), Ending> {
        if let Some(rate) = self.rate {
            tokio::time::sleep(Duration::from_secs_f64(bytes.len() as f64 / rate as f64)).await;
        }
        self.to.write_all(bytes).await.map_err(|_| Ending::Broken)?;
        let n = bytes.len() as u64;
        self.passed += n;
        let counts = &mut self.shared.state.lock().counts;
        match self.direction {
            Direction::ToServer => counts.to_server += n,
            Direction::ToClient => counts.to_client += n,
        }
        Ok(())
    }

    /// Takes one of the plan's faults, if there is one left.
    fn spend(&self) -> bool {
        let times = &mut self.shared.state.lock().plan.times;
        let left = *times > 0;
        *times = times.saturating_sub(1);
        left
    }

    /// Does it. Returns whether this direction has ended.
    async fn act(&mut self, fault: Fault) -> Result<bool, Ending> {
        {
            let counts = &mut self.shared.state.lock().counts;
            *match fault {
                Fault::Close => &mut counts.closed,
                Fault::Reset => &mut counts.reset,
                Fault::Stall { .. } => &mut counts.stalled,
                Fault::Slow { .. } => &mut counts.slowed,
                Fault::HalfClose => &mut counts.half_closed,
            } += 1;
        }
        match fault {
            Fault::Close => Err(Ending::Close),
            Fault::Reset => Err(Ending::Reset),
            Fault::Stall { lasting } => {
                self.stalled.send_replace(true);
                match lasting {
                    Some(lasting) => tokio::time::sleep(lasting).await,
                    None => std::future::pending().await,
                }
                self.stalled.send_replace(false);
                Ok(false)
            }
            Fault::Slow { rate } => {
                self.rate = Some(rate.max(1));
                Ok(false)
            }
            Fault::HalfClose => {
                let _ = self.to.shutdown().await;
                Ok(true)
            }
        }
    }
}

#[cfg(test)]
mod tests;
