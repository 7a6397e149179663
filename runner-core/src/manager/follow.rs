//! Follows one job from its start to the source's last acknowledgement.
//!
//! ```text
//!   JobHandle::event ──► on_event ──┐
//!   Courier::answer  ──► on_answer ─┼─► Rhythm::turn ──► Courier::{send, touch, finish}
//!   deadline, shutdown ─────────────┘              └──► JobHandle::follow (how much may come)
//! ```

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use super::asks::Asks;
use super::backoff::Backoff;
use super::courier::{Answer, Courier};
use super::observer::{JobLabel, JobUpdate, Observer};
use super::settings::RelaySettings;
use super::shares::Pieces;
use super::shutdown::Shutdown;
use super::trace_relay::{LastWords, TraceRelay};
use super::turn::{Rhythm, Sight, Turn};
use super::visit::{Lingering, Visit};
use super::voice::Voice;
use crate::cache::CacheStore;
use crate::causes::causes;
use crate::executor::{
    ExecutorError, ExecutorErrorKind, JobEnd, JobEvent, JobHandle, Remarks, Stop,
};
use crate::ids::Offset;
use crate::outcome::{Infra, InfraKind, Outcome, TimeLimit};
use crate::planner::STEP;
use crate::source::{
    Appended, Conclusion, Directive, Finished, JobSource, Reply, SourceError, SourceErrorKind,
};

/// How following a job ended.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Followed {
    /// The source has the verdict, or will never take it: the job may be removed.
    Concluded { outcome: Outcome, delivered: bool },
    /// The source wants no more of it: the job is to be removed at once.
    Aborted,
    /// Another manager has it.
    Superseded,
    /// This manager stops; the job goes on without it.
    LeftBehind,
}

/// One job being followed.
pub(super) struct Follower<'a> {
    handle: &'a mut dyn JobHandle,
    courier: Courier,
    asks: Asks,
    observer: &'a dyn Observer,
    label: &'a JobLabel,
    settings: &'a RelaySettings,
    voice: Voice,
    relay: TraceRelay,
    rhythm: Rhythm,
    backoff: Backoff,
    /// What the handle was told last.
    asked: Option<(Offset, Offset)>,
    finishing: bool,
    end: Option<JobEnd>,
    /// Since when the source has not taken the verdict.
    undelivered_since: Option<Instant>,
    /// How often in a row the source said that it stands elsewhere.
    elsewhere: u32,
    /// How often the source said that the trace is not the one described.
    rejections: u32,
    cancelled: bool,
    /// The manager has stopped the job.
    interrupted: bool,
    waiting_since: Option<Instant>,
    waiting_for: String,
    /// When the oldest byte came that the source does not have.
    unstored: Option<Instant>,
    /// Who may look into it.
    visit: Option<Visit>,
    lingering: Lingering,
}

/// After how many rejected traces the verdict goes without a checksum. GitLab Runner sends the whole
/// log again and again without end.
const MOST_REJECTIONS: u32 = 3;

/// After how many pieces in a row that the source wants elsewhere it is given time.
const MOST_DETOURS: u32 = 2;

impl<'a> Follower<'a> {
    pub(super) fn new(
        handle: &'a mut dyn JobHandle,
        source: Arc<dyn JobSource>,
        observer: &'a dyn Observer,
        label: &'a JobLabel,
        settings: &'a RelaySettings,
    ) -> Self {
        let courier = Courier::new(source, handle.ticket());
        let relay = TraceRelay::new(handle.remarks().before);
        Self {
            handle,
            courier,
            asks: Asks::new(None),
            observer,
            label,
            settings,
            voice: Voice::new(settings.timestamps),
            relay,
            rhythm: Rhythm::new(Instant::now(), settings),
            backoff: Backoff::new(Duration::from_secs(1), settings.longest_pause),
            asked: None,
            finishing: false,
            end: None,
            undelivered_since: None,
            elsewhere: 0,
            rejections: 0,
            cancelled: false,
            interrupted: false,
            waiting_since: None,
            waiting_for: String::new(),
            unstored: None,
            visit: None,
            lingering: Lingering::No,
        }
    }

    /// Answers what the job asks for its caches.
    pub(super) fn with_cache(mut self, store: Option<Arc<dyn CacheStore>>) -> Self {
        self.asks = Asks::new(store);
        self
    }

    /// Large pieces of trace have room among those of other jobs.
    pub(super) fn sharing(mut self, pieces: Pieces) -> Self {
        self.rhythm = self.rhythm.sharing(pieces);
        self
    }

    /// People may look into the job; it does not end while they do, within reason.
    pub(super) fn visited(&mut self, visit: Visit) {
        self.visit = Some(visit);
    }

    /// Follows the job to its end.
    pub(super) async fn run(mut self, shutdown: &mut Shutdown) -> Followed {
        let mut stop = shutdown.clone();
        loop {
            let wake = match self.step().await {
                Ok(wake) => wake,
                Err(followed) => return followed,
            };
            let ended = self.end.is_some() && !self.relay.needs_more();
            let result = tokio::select! {
                // The source first: its answers make room and carry the user's wish to cancel.
                biased;
                answer = self.courier.answer() => self.on_answer(answer).await,
                () = shutdown.leave() => Err(Followed::LeftBehind),
                () = stop.stop(), if !self.interrupted => self.interrupt().await,
                answer = self.asks.answer() => {
                    self.handle.answer(answer).await;
                    Ok(())
                }
                event = self.handle.event(), if !ended => self.on_event(event).await,
                () = self.lingering.over() => Ok(()),
                () = sleep_until(wake) => Ok(()),
            };
            if let Err(followed) = result {
                return followed;
            }
        }
    }

    fn is_draining(&self) -> bool {
        self.finishing || self.end.is_some()
    }

    /// Decides what to say, and how much trace may come. The result is when to look again.
    async fn step(&mut self) -> Result<Instant, Followed> {
        let now = Instant::now();
        let mut wake = now + self.settings.keep_alive;
        if let Some(since) = self.undelivered_since
            && now.duration_since(since) > self.settings.give_up
        {
            return Err(self.concluded(false));
        }
        let lingers = self.lingering.deadline(now);
        if let Some(until) = lingers {
            wake = wake.min(until);
        }
        if !self.courier.is_busy() {
            let sight = Sight {
                waiting: self.relay.waiting(),
                draining: self.is_draining(),
                more: self.finishing && (self.end.is_none() || self.relay.needs_more()),
                complete: self.relay.is_complete() && lingers.is_none(),
            };
            match self.rhythm.turn(now, sight) {
                Turn::Send => {
                    if let Some(piece) = self.relay.piece() {
                        self.courier.send(piece);
                    }
                }
                Turn::Touch => self.courier.touch(),
                Turn::Finish => self.report(),
                Turn::Wait(until) => wake = lingers.map_or(until, |linger| until.min(linger)),
            }
        }
        if let Some(since) = self.waiting_since {
            let due = since + self.settings.slow_start;
            if now >= due {
                self.waiting_since = None;
                self.say_what_it_waits_for().await?;
            } else {
                wake = wake.min(due);
            }
        }
        if self.end.is_none() || self.relay.needs_more() {
            self.ask().await;
        }
        Ok(wake)
    }

    /// Tells the handle how far the trace may come, when that has changed enough to matter.
    async fn ask(&mut self) {
        let window = self.rhythm.window(self.is_draining());
        let (from, until) =
            (self.relay.own_next(), self.relay.own_until(window).max(self.relay.own_next()));
        let enough = match self.asked {
            // A position that moved on its own is what the handle expects; a jump is not.
            Some((expected, asked)) => {
                from == expected && until.0.saturating_sub(asked.0) < window / 2 && until >= asked
            }
            None => false,
        };
        let shrunk = self.asked.is_some_and(|(expected, asked)| from == expected && until <= asked);
        if !enough && !shrunk {
            self.handle.follow(from, until).await;
            self.asked = Some((from, until));
        }
    }

    async fn on_event(&mut self, event: JobEvent) -> Result<(), Followed> {
        match event {
            JobEvent::Waiting { reason } => {
                debug!(reason, "job waits");
                self.waiting_since.get_or_insert_with(Instant::now);
                self.waiting_for.clone_from(&reason);
                self.tell(&JobUpdate::Waiting { reason });
            }
            JobEvent::Running => {
                self.waiting_since = None;
                self.tell(&JobUpdate::Running);
            }
            JobEvent::Reached(milestone) => self.tell(&JobUpdate::Reached(milestone)),
            JobEvent::StageStarted { name } => {
                if name.starts_with(STEP) {
                    self.rhythm.commands_begin();
                }
                self.tell(&JobUpdate::StageStarted { name });
            }
            JobEvent::StageFinished(report) => self.tell(&JobUpdate::StageFinished(report)),
            JobEvent::Trace { offset, bytes } => {
                self.waiting_since = None;
                self.unstored.get_or_insert_with(Instant::now);
                if self.relay.receive(offset, bytes) {
                    if let Some((expected, _)) = &mut self.asked {
                        *expected = self.relay.own_next();
                    }
                } else {
                    // A gap must not happen; ask again from where the trace ends here.
                    warn!(%offset, next = %self.relay.own_next(), "trace piece after a gap");
                    self.asked = None;
                }
            }
            JobEvent::Asked(ask) => self.asks.take(ask),
            JobEvent::Finishing => self.finishing = true,
            JobEvent::Ended(end) => self.on_end(end).await?,
            JobEvent::Superseded => return Err(Followed::Superseded),
        }
        Ok(())
    }

    async fn on_end(&mut self, mut end: JobEnd) -> Result<(), Followed> {
        if let Some(known) = &mut self.end {
            // The source wanted the trace again, and it cannot be had again.
            warn!("the trace cannot be fetched a second time; the verdict goes without a checksum");
            known.trace = None;
            self.relay.abandon();
            return Ok(());
        }
        if let Some(detail) = &end.detail {
            info!(outcome = ?end.outcome, detail, "job ended");
        }
        if self.interrupted && !end.outcome.is_success() {
            // Its processes were killed by us: that is not the script's failure.
            end.outcome = interrupted();
            end.explained = false;
        }
        let remarks = self.handle.remarks();
        if let Some(decided) = remarks.outcome {
            // An earlier manager has decided already; its words may be in the source.
            end.outcome = decided;
        }
        if let Some((at, after)) = remarks.after {
            self.relay.end_lost(at, after, LastWords::Placed);
            end.trace = None;
        } else if let Some(own) = end.trace {
            let mut after = match end.explained {
                true => Bytes::new(),
                false => self.voice.verdict(&end.outcome),
            };
            let out_of_time = matches!(end.outcome, Outcome::TimedOut(TimeLimit::Job(_)));
            if !out_of_time && let Some(words) = self.linger() {
                after = [words, after].concat().into();
            }
            if !after.is_empty() {
                self.note_last_words(own.length, after.clone(), &end.outcome).await?;
            }
            self.relay.end(own.length, after);
        } else {
            let at = self.relay.own_next();
            let after = self.voice.verdict(&end.outcome);
            let place = if self.relay.is_known() {
                self.note_last_words(at, after.clone(), &end.outcome).await?;
                LastWords::Placed
            } else {
                // Noted once the source has said where it stands.
                LastWords::Guessed
            };
            self.relay.end_lost(at, after, place);
        }
        self.end = Some(end);
        Ok(())
    }

    /// The job is over. If somebody is inside, it waits for them, and says so: the result.
    fn linger(&mut self) -> Option<Bytes> {
        // One that was stopped does not wait: who stopped it wants it to end.
        let visit = self.visit.as_ref().filter(|_| !self.interrupted && !self.cancelled)?;
        if visit.visitors.count() == 0 {
            return None;
        }
        let now = Instant::now();
        let rest = visit.deadline.map_or(Duration::MAX, |at| at.saturating_duration_since(now));
        let patience = visit.patience.min(rest);
        info!(?patience, "the job is over; waiting for a terminal to be closed");
        self.lingering = Lingering::Until(visit.visitors.clone(), now + patience);
        Some(self.voice.visited(patience))
    }

    /// Says in the trace what a slow job waits for, once, if nothing else is in it yet.
    async fn say_what_it_waits_for(&mut self) -> Result<(), Followed> {
        if !self.relay.is_untouched() || self.courier.is_busy() || self.end.is_some() {
            return Ok(());
        }
        let mut remarks = self.handle.remarks();
        if !remarks.before.is_empty() {
            return Ok(());
        }
        remarks.before = self.voice.waiting(&self.handle.place(), &self.waiting_for);
        let before = remarks.before.clone();
        match self.handle.remark(remarks).await {
            Ok(()) => self.relay.set_before(before),
            Err(error) if error.kind == ExecutorErrorKind::Superseded => {
                return Err(Followed::Superseded);
            }
            // Not worth a second try: the job will speak for itself soon.
            Err(error) => debug!(%error, "could not note what the job waits for"),
        }
        Ok(())
    }

    fn last_words(&self) -> Option<(Offset, Bytes, Outcome)> {
        let end = self.end.as_ref()?;
        Some((self.relay.own_end()?, self.relay.after(), end.outcome.clone()))
    }

    /// Notes what comes after the job's own trace, and where, before it is said.
    async fn note_last_words(
        &mut self,
        at: Offset,
        after: Bytes,
        outcome: &Outcome,
    ) -> Result<(), Followed> {
        let before = self.handle.remarks().before;
        let outcome = Some(outcome.clone());
        self.remark(Remarks { before, after: Some((at, after)), outcome }).await
    }

    /// Stores what is going to be said; gives up after a minute, because a cause in the log that a
    /// crash could garble is better than none.
    async fn remark(&mut self, remarks: Remarks) -> Result<(), Followed> {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(10));
        let give_up = Instant::now() + Duration::from_secs(60);
        loop {
            let Err(error) = self.handle.remark(remarks.clone()).await else { return Ok(()) };
            if error.kind == ExecutorErrorKind::Superseded {
                return Err(Followed::Superseded);
            }
            let next = Instant::now() + backoff.wait(error.retry_after);
            if next > give_up {
                warn!(%error, "could not note how the job ended; reporting it all the same");
                return Ok(());
            }
            sleep_until(next).await;
        }
    }

    async fn on_answer(&mut self, answer: Answer) -> Result<(), Followed> {
        let now = Instant::now();
        match answer {
            Answer::Piece { piece, result } => {
                let bytes: u64 = piece.chunks.iter().map(|chunk| chunk.len() as u64).sum();
                match result {
                    Ok(Appended::Stored(reply)) => {
                        self.relay.stored(bytes);
                        self.rhythm.sent(now, bytes);
                        self.backoff.reset();
                        self.undelivered_since = None;
                        self.elsewhere = 0;
                        let (chunks, from) = (piece.chunks, piece.from);
                        let lag = self.unstored.take().map_or(Duration::ZERO, |at| now - at);
                        if self.relay.waiting() > 0 {
                            // Came since then at the earliest; a little too good for what is left.
                            self.unstored = Some(now);
                        }
                        self.tell(&JobUpdate::TraceStored { chunks, from, lag });
                        self.on_reply(reply).await?;
                    }
                    Ok(Appended::Elsewhere { has, reply }) => {
                        debug!(from = %piece.from, %has, "the source stands elsewhere");
                        self.elsewhere += 1;
                        self.undelivered_since = None;
                        if piece.from == has || self.elsewhere > MOST_DETOURS {
                            // It names the place that was offered, or cannot make up its mind: only
                            // time can help.
                            self.rhythm.pause(now, self.backoff.wait(None));
                        }
                        let moved = self.relay.rewind(has);
                        self.rhythm.spoken(now);
                        if moved && let Some((at, after, end)) = self.last_words() {
                            self.note_last_words(at, after, &end).await?;
                        }
                        self.on_reply(reply).await?;
                    }
                    Err(error) => self.on_source_error(now, &error),
                }
            }
            Answer::Touch(Ok(reply)) => {
                self.rhythm.spoken(now);
                self.backoff.reset();
                self.on_reply(reply).await?;
            }
            Answer::Touch(Err(error)) => self.on_source_error(now, &error),
            Answer::Finish(Ok(Finished::Done)) => return Err(self.concluded(true)),
            Answer::Finish(Ok(Finished::Pending { interval })) => {
                self.rhythm.pause(now, interval.unwrap_or(self.rhythm.interval()));
            }
            Answer::Finish(Ok(Finished::TraceRejected)) => {
                self.rejections += 1;
                warn!(
                    times = self.rejections,
                    "the source says that its copy of the trace is not complete"
                );
                self.relay.rewind(Offset::ZERO);
                self.asked = None;
                self.rhythm.pause(now, self.rhythm.interval().min(self.backoff.wait(None)));
            }
            Answer::Finish(Err(error)) => self.on_source_error(now, &error),
        }
        Ok(())
    }

    fn on_source_error(&mut self, now: Instant, error: &SourceError) {
        let wait = self.backoff.wait(error.retry_after);
        match error.kind {
            SourceErrorKind::Unavailable => debug!(%error, ?wait, "the source did not answer"),
            _ => warn!(error = causes(error), ?wait, "the source did not take it"),
        }
        self.rhythm.pause(now, wait);
        if self.end.is_some() {
            self.undelivered_since.get_or_insert(now);
        }
    }

    async fn on_reply(&mut self, reply: Reply) -> Result<(), Followed> {
        if let Some(interval) = reply.interval {
            self.rhythm.set_interval(interval);
        }
        match reply.directive {
            Directive::Continue => Ok(()),
            Directive::Abort => Err(Followed::Aborted),
            Directive::Cancel => {
                self.lingering.end();
                if !self.cancelled && self.end.is_none() {
                    info!("job cancelled");
                    self.cancelled = true;
                    self.stop(Stop::Cancel).await?;
                }
                Ok(())
            }
        }
    }

    /// The manager is to stop its jobs before it ends.
    async fn interrupt(&mut self) -> Result<(), Followed> {
        self.interrupted = true;
        self.lingering.end();
        if self.end.is_some() {
            return Ok(());
        }
        info!("job stopped, because the manager was told to");
        self.stop(Stop::Abort).await
    }

    async fn stop(&mut self, stop: Stop) -> Result<(), Followed> {
        match self.handle.stop(stop).await {
            Err(ExecutorError { kind: ExecutorErrorKind::Superseded, .. }) => {
                Err(Followed::Superseded)
            }
            Err(error) => {
                debug!(%error, "could not tell the job to stop yet");
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Reports the verdict.
    fn report(&mut self) {
        let Some(end) = &self.end else { return };
        let own = end.trace.filter(|_| !self.relay.is_lost()).or_else(|| self.relay.own_seen());
        let trace =
            own.filter(|_| self.rejections < MOST_REJECTIONS).map(|own| self.relay.summary(own));
        self.courier.finish(Conclusion { outcome: end.outcome.clone(), trace });
    }

    fn concluded(&self, delivered: bool) -> Followed {
        let outcome = self.end.as_ref().map_or(Outcome::Unknown, |end| end.outcome.clone());
        self.tell(&JobUpdate::Concluded { outcome: outcome.clone(), delivered });
        Followed::Concluded { outcome, delivered }
    }

    fn tell(&self, update: &JobUpdate) {
        self.observer.update(self.label, update);
    }
}

/// How a job ends that was stopped because its manager was.
pub(super) fn interrupted() -> Outcome {
    Outcome::Infra(Infra::new(InfraKind::Interrupted, "aborted: the runner was told to stop"))
}
