//! Errors for Sentry (`sentry_dsn`, `SENTRY_DSN`): each line of level error goes there as an event, in an envelope of its
//! own. No library: what is needed of Sentry's is one POST.
//!
//! Never in anybody's way: an event that does not fit into the queue, or that Sentry does not take, is dropped.

use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use reqwest::Url;
use runner_core::secret::Secret;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{Event, Level, Subscriber, warn};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::lines::{Fields, gather};
use crate::environment;
use crate::version::{BRANCH, BUILT_AT, REVISION, VERSION};

/// Events that may wait, of a kilobyte or so each. More errors than that at once say nothing new.
const QUEUE: usize = 64;
/// For one of them.
const PATIENCE: Duration = Duration::from_secs(10);
/// For the last ones, when the process ends.
const LAST: Duration = Duration::from_secs(3);

/// Where errors go, as long as they do.
static OUTBOX: Mutex<Option<Outbox>> = Mutex::new(None);

struct Outbox {
    dsn: Dsn,
    queue: mpsc::Sender<Report>,
    task: JoinHandle<()>,
}

/// Where a project's events go, and the key by which it is known.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Dsn {
    endpoint: Url,
    key: Secret,
}

impl Dsn {
    /// From `https://KEY@HOST/PROJECT`; there may be a path before the project.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut url =
            Url::parse(text).ok().filter(|url| ["http", "https"].contains(&url.scheme()))?;
        let key = Some(url.username()).filter(|key| !key.is_empty()).map(Secret::new)?;
        let (path, project) = url.path().trim_end_matches('/').rsplit_once('/')?;
        if project.is_empty() {
            return None;
        }
        let path = format!("{path}/api/{project}/envelope/");
        url.set_username("").ok()?;
        url.set_password(None).ok()?;
        url.set_query(None);
        url.set_path(&path);
        Some(Self { endpoint: url, key })
    }
}

/// What is sent.
#[derive(Debug)]
struct Report {
    time: Timestamp,
    target: &'static str,
    fields: Fields,
}

impl Report {
    fn event(self, id: &str) -> Value {
        let extra: Map<String, Value> = self.fields.values.into_iter().collect();
        json!({
            "event_id": id,
            "timestamp": self.time.to_string(),
            "platform": "other",
            "level": "error",
            "logger": self.target,
            "logentry": { "formatted": self.fields.message },
            "release": format!("podwright@{VERSION}"),
            "server_name": environment::host_name(),
            "tags": {
                "version": VERSION, "revision": REVISION, "branch": BRANCH, "built": BUILT_AT,
                "os": std::env::consts::OS, "arch": std::env::consts::ARCH,
                "hostname": environment::host_name(),
            },
            "extra": extra,
        })
    }

    /// Header, header of the item, item: three lines.
    fn envelope(self) -> String {
        let mut bytes = [0; 16];
        // Without them the events have one number, and Sentry keeps the first.
        let _ = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty());
        let id = format!("{:032x}", u128::from_be_bytes(bytes));
        let time = self.time;
        let event = self.event(&id).to_string();
        let head = json!({ "event_id": id, "sent_at": time.to_string() });
        let item =
            json!({ "type": "event", "content_type": "application/json", "length": event.len() });
        format!("{head}\n{item}\n{event}\n")
    }
}

/// Sends errors there from now on; `None`: nowhere. To be called where there is a runtime.
pub(crate) fn report_to(dsn: Option<Dsn>) {
    let mut outbox = OUTBOX.lock();
    if outbox.as_ref().map(|outbox| &outbox.dsn) == dsn.as_ref() {
        return;
    }
    // The task of the one before ends with what it has.
    *outbox = dsn.map(|dsn| {
        let (queue, reports) = mpsc::channel(QUEUE);
        let task = tokio::spawn(send(dsn.clone(), reports));
        Outbox { dsn, queue, task }
    });
}

/// Sends what waits, for some seconds at most, and nothing after that.
pub(crate) async fn finish() {
    let Some(Outbox { queue, task, .. }) = OUTBOX.lock().take() else { return };
    drop(queue);
    // What is not sent by then is in the log.
    let _ = timeout(LAST, task).await;
}

async fn send(dsn: Dsn, mut reports: mpsc::Receiver<Report>) {
    let client = match reqwest::Client::builder().timeout(PATIENCE).build() {
        Ok(client) => client,
        Err(error) => {
            warn!(%error, "Sentry failure: errors are not sent");
            return;
        }
    };
    let auth = format!(
        "Sentry sentry_version=7, sentry_client=podwright/{VERSION}, sentry_key={}",
        dsn.key.expose()
    );
    let mut failing = false;
    while let Some(report) = reports.recv().await {
        let request = client
            .post(dsn.endpoint.clone())
            .header("X-Sentry-Auth", &auth)
            .header(reqwest::header::CONTENT_TYPE, "application/x-sentry-envelope")
            .body(report.envelope());
        let answer = request.send().await.and_then(reqwest::Response::error_for_status);
        // Said once, until it works again. The address in the error has no key in it.
        if let Err(error) = &answer
            && !failing
        {
            warn!(%error, "Sentry failure: an error was not sent, and no more is said of others");
        }
        failing = answer.is_err();
    }
}

/// Takes errors from the log.
pub(super) struct Reports;

impl<S> Layer<S> for Reports
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if *event.metadata().level() != Level::ERROR {
            return;
        }
        if let Some(outbox) = OUTBOX.lock().as_ref() {
            let fields = gather(event, &context);
            let target = event.metadata().target();
            let report = Report { time: Timestamp::now(), target, fields };
            // Full: see above.
            let _ = outbox.queue.try_send(report);
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::{Dsn, Fields, Report};

    #[rstest]
    #[case("https://abc@o1.sentry.example/42", Some("https://o1.sentry.example/api/42/envelope/"))]
    #[case("http://abc:old@s:9000/a/b/7/", Some("http://s:9000/a/b/api/7/envelope/"))]
    #[case("https://sentry.example/42", None)]
    #[case("https://abc@sentry.example/", None)]
    #[case("abc", None)]
    #[case("ftp://abc@sentry.example/1", None)]
    fn manager_10_a_dsn_is_an_address_and_a_key(#[case] text: &str, #[case] to: Option<&str>) {
        let dsn = Dsn::parse(text);
        assert_eq!(dsn.as_ref().map(|dsn| dsn.endpoint.as_str()), to);
        assert!(dsn.is_none_or(|dsn| dsn.key.expose() == "abc"));
    }

    #[test]
    fn manager_10_an_envelope_has_three_lines_and_the_events_length() {
        let fields = Fields {
            message: "it broke\nbadly".to_owned(),
            values: vec![("job".to_owned(), 7.into())],
        };
        let time = "2026-01-02T03:04:05Z".parse().unwrap();
        let text = Report { time, target: "runner_bin::run", fields }.envelope();
        let lines: Vec<&str> = text.lines().collect();
        let [head, item, event] = lines[..] else { panic!("{text}") };
        let parse = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        assert_eq!(parse(item)["length"], event.len());
        let (head, event) = (parse(head), parse(event));
        assert_eq!(head["event_id"], event["event_id"]);
        assert_eq!(event["event_id"].as_str().unwrap().len(), 32);
        assert_eq!(event["logentry"]["formatted"], "it broke\nbadly");
        assert_eq!((&event["extra"]["job"], &event["level"]), (&7.into(), &"error".into()));
    }
}
