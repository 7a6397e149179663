//! What ends a stage from outside, or keeps it from beginning.

use std::time::Duration;

use runner_core::outcome::{Infra, InfraKind, Outcome};
use runner_core::plan::Plan;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::attempt::Attempt;
use crate::clock::in_words;
use crate::companions::BUILD;
use crate::control::{Control, Wish};

/// Waits until it is certain that the agent of the build container will not come: its container has
/// ended, or the image's entry point has had its time.
pub(super) async fn never_comes(plan: &Plan, control: &Control) -> Outcome {
    let companions = &control.companions;
    let late = async {
        match plan.entrypoint {
            Some(patience) => {
                companions.started(BUILD).await;
                sleep(patience).await;
                patience
            }
            None => std::future::pending().await,
        }
    };
    let message = tokio::select! {
        status = companions.ended(BUILD) => match plan.entrypoint {
            Some(_) => format!(
                "the entry point of the job's image ended with exit status {status} and did not \
                 start the job's shell: with FF_KUBERNETES_HONOR_ENTRYPOINT it has to run its \
                 arguments, e.g. by `exec \"$@\"`"
            ),
            None => format!("the job's container ended with exit status {status}"),
        },
        patience = late => format!(
            "the entry point of the job's image has not started the job's shell within {}: \
             with FF_KUBERNETES_HONOR_ENTRYPOINT it has to run its arguments, e.g. by `exec \"$@\"`",
            in_words(patience)
        ),
    };
    Outcome::Infra(Infra::new(InfraKind::Configuration, message))
}

/// Waits until something ends the stage from outside.
pub(super) async fn interruption(
    job_deadline: Instant,
    stage_deadline: Option<(Instant, Duration)>,
    wishes: &mut watch::Receiver<Option<Wish>>,
    obeyed: Option<Wish>,
    obeys: bool,
) -> Attempt {
    let stage_time = async {
        match stage_deadline {
            Some((deadline, limit)) => {
                sleep_until(deadline).await;
                limit
            }
            None => std::future::pending().await,
        }
    };
    let wish = async {
        if obeys { next_wish(wishes, obeyed).await } else { std::future::pending().await }
    };
    tokio::select! {
        biased;
        () = sleep_until(job_deadline) => Attempt::JobTime,
        limit = stage_time => Attempt::StageTime(limit),
        wish = wish => Attempt::Wished(wish),
    }
}

/// Waits for a wish that has not been obeyed yet.
pub(super) async fn next_wish(
    wishes: &mut watch::Receiver<Option<Wish>>,
    obeyed: Option<Wish>,
) -> Wish {
    let fresh = |wish: &Option<Wish>| *wish > obeyed;
    match wishes.wait_for(fresh).await.map(|wish| *wish) {
        Ok(Some(wish)) => wish,
        // The sender lives as long as the supervisor.
        _ => std::future::pending().await,
    }
}
