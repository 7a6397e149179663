//! Waits until services take connections. A service shares the pod's network, so its ports are
//! localhost's.
//!
//! GitLab Runner has a shell in the helper run a program for it, with the port pasted into the
//! command, and takes everything but an exit status for success (better: here a port is a number, and
//! only a connection is success).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use runner_core::log::Message;
use runner_core::outcome::{Infra, InfraKind, Outcome};
use runner_core::plan::ServicePlan;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::context::{Context, StageFailure};
use crate::clock::in_words;

/// Longest time for one try: on localhost an answer takes no time, unless a full backlog eats it.
const TRY: Duration = Duration::from_secs(5);
/// Pauses between tries: short at first, since a service that is only just started needs moments.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

pub(super) async fn wait(context: &Context<'_>) -> Result<(), StageFailure> {
    let companions = &context.plan.companions;
    let mut waiting: FuturesUnordered<_> = companions
        .services
        .iter()
        .filter(|service| !service.ports.is_empty())
        .map(|service| async move {
            tokio::select! {
                // A port that answers counts even if the end of the container is known already.
                biased;
                () = all_answer(&service.ports) => Ok(service),
                status = context.control.companions.ended(&service.name) => Err((service, status)),
            }
        })
        .collect();
    if waiting.is_empty() {
        return Ok(());
    }
    let limit = companions.wait;
    let within = limit.map_or(String::new(), |limit| format!(" (for {} at most)", in_words(limit)));
    let line = format!("Waiting for services to be up and running{within}...");
    context.say(&Message::plain(line))?;
    let begun = Instant::now();
    let mut late: Vec<&ServicePlan> =
        companions.services.iter().filter(|service| !service.ports.is_empty()).collect();
    loop {
        let out_of_time = async {
            match limit {
                Some(limit) => sleep_until(begun + limit).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            next = waiting.next() => match next {
                None => return Ok(()),
                Some(Ok(ready)) => late.retain(|service| service.name != ready.name),
                Some(Err((service, status))) => return Err(ended(service, status)),
            },
            () = out_of_time => {
                for service in late {
                    context.say(&warning(service))?;
                }
                return Ok(());
            }
        }
    }
}

async fn all_answer(ports: &[u16]) {
    for port in ports {
        let mut pause = FIRST_PAUSE;
        while !answers(*port).await {
            // A port that nobody listens on yet has no event to wait for.
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Whether somebody takes connections, by either protocol.
async fn answers(port: u16) -> bool {
    let addresses = [
        SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
    ];
    for address in addresses {
        if matches!(timeout(TRY, connect(address)).await, Ok(Ok(_))) {
            return true;
        }
    }
    false
}

/// The own port is chosen before the connection: if it were the one that is dialled, which happens
/// with ports above 32768, the socket would connect to itself and keep the service from its port.
async fn connect(to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.bind(SocketAddr::new(to.ip(), 0))?;
    if socket.local_addr()?.port() == to.port() {
        return Err(std::io::ErrorKind::AddrInUse.into());
    }
    socket.connect(to).await
}

fn in_list(ports: &[u16]) -> String {
    ports.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}

/// GitLab Runner's words for it, from its other executors.
fn warning(service: &ServicePlan) -> Message {
    Message::warning(format_args!(
        "Service {} probably didn't start properly: nothing answers on port {}. With \
         CI_DEBUG_SERVICES: \"true\" its output is shown here.",
        service.title,
        in_list(&service.ports)
    ))
}

fn ended(service: &ServicePlan, status: i32) -> StageFailure {
    StageFailure(Outcome::Infra(Infra::new(
        InfraKind::System,
        format!(
            "the service {} ended with exit status {status} while the job waited for its port {}; \
             with CI_DEBUG_SERVICES: \"true\" its output is shown here",
            service.title,
            in_list(&service.ports)
        ),
    )))
}
