//! Obeys the order to end that the kubelet gives a pod: its node is drained or shut down, a spot
//! instance is taken back, or somebody deleted it. What that means for the job stands in its plan
//! ([`Disruption`](runner_core::plan::Disruption)); when what is due is decided there, and what each
//! wish does to stages by the supervisor.
//!
//! ```text
//!   TERM ──► (finish: go on) ──► Interrupt: steps stop, saving ──► GiveUp: verdict ──► KILL
//!   0                            stops_after                        gives_up_after      grace
//! ```

use std::time::Duration;

use runner_core::log::Message;
use runner_core::outcome::{Infra, InfraKind, Outcome};
use runner_core::plan::OnDisruption;
use tokio::time::{Instant, sleep_until};

use crate::clock::in_words;
use crate::control::{Control, Disrupted, Wish};

/// Waits for the order to end and then for what follows from it. To be polled for as long as the
/// job runs; it never ends.
pub async fn obey_the_order_to_end(control: &Control) {
    let mut known = control.disruption();
    let mut said = false;
    loop {
        let disrupted = *known.borrow_and_update();
        let Some(since) = disrupted.since else {
            // The sender lives in `control`.
            let _ = known.changed().await;
            continue;
        };
        if !said {
            said = true;
            announce(control, &disrupted);
        }
        let due = [
            (disrupted.terms.stops_after(), Wish::Interrupt),
            (disrupted.terms.gives_up_after(), Wish::GiveUp),
        ];
        let now = Instant::now();
        for (after, wish) in due {
            if since + after <= now {
                control.wish(wish);
            }
        }
        let next = due.iter().map(|(after, _)| since + *after).find(|at| *at > now);
        let next = async {
            match next {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = next => {}
            // A manager says that there is less time.
            _ = known.changed() => {}
        }
    }
}

/// Says in the log what has happened, while the job runs.
fn announce(control: &Control, disrupted: &Disrupted) {
    let mut recorder = control.recorder.borrow_mut();
    if recorder.state().verdict.is_some() {
        return;
    }
    let grace = in_words(disrupted.terms.grace);
    let goes_on = match disrupted.terms.policy {
        OnDisruption::Stop => "the job is stopped".to_owned(),
        OnDisruption::Finish => {
            format!("the job may go on for {}", in_words(disrupted.terms.stops_after()))
        }
    };
    let line = format!(
        "The pod was told to end within {grace} (its node is drained or shut down, or somebody deleted it); {goes_on}."
    );
    // A disk that is full is noticed where the job writes, too.
    let _ = recorder.say(&Message::warning(line));
}

/// What a job comes to that the order to end has stopped.
pub(crate) fn stopped() -> Outcome {
    interrupted(
        "the pod was told to end (its node is drained or shut down, or somebody deleted it)",
    )
}

/// What a step comes to that failed while the containers beside it were ending: nobody can tell
/// whether it would have without that.
pub(crate) fn failed_beside_ending_services(how: &str, took: Duration) -> Outcome {
    interrupted(&format!(
        "{how}, {} after the pod and with it the job's services had been told to end",
        in_words(took)
    ))
}

fn interrupted(message: &str) -> Outcome {
    Outcome::Infra(Infra::new(InfraKind::Interrupted, message))
}
