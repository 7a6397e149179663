//! Whose turn it is to ask for a job: the rules, without any I/O.
//!
//! Every runner has a time at which it is due, one interval after the last. When a place for a job
//! is free, that runner among those that are due asks which asked longest ago; so nobody starves,
//! whoever has the longer queue. A request keeps a place free only while it may still bring a job. GitLab holds a request
//! back when there is nothing, and what it holds back it answers without a job: after
//! [`HELD_BACK`] the place is for others. (GitLab Runner keeps it, so that with few places its
//! runners wait for each other for 50 s at a time.)
//!
//! Places are counted over all runners (`concurrent`) and for each token (`limit`); requests for each
//! token, however many runners share it.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::backoff::Backoff;
use super::observer::{RequestCounts, RunnerUpdate};
use super::requests::{AdaptiveLimit, RequestEnd};
use super::runner::{AfterJob, RequestPace, Runner};
use crate::ids::SourceId;
use crate::source::NextPoll;

/// After this time a request counts as held back. A GitLab that has something to say says it within
/// a second or two.
const HELD_BACK: Duration = Duration::from_secs(2);
/// A source that says "ask again" at once, each time, is not asked more often than this.
const AT_ONCE: Duration = Duration::from_millis(200);
/// The longest pause after failures, unless the source asks for more.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A runner, for as long as the manager knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct LineId(pub(super) u64);

/// A request for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PollId(u64);

/// What the rules have to know about a runner.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) source: SourceId,
    /// 0: no limit.
    pub(super) limit: usize,
    pub(super) request_concurrency: usize,
    pub(super) pace: RequestPace,
    pub(super) after_job: AfterJob,
    pub(super) interval: Duration,
}

impl Terms {
    pub(super) fn of(runner: &Runner) -> Self {
        Self {
            source: runner.source.id(),
            limit: runner.limit,
            request_concurrency: runner.request_concurrency.max(1),
            pace: runner.request_pace,
            after_job: runner.after_job,
            interval: runner.check_interval,
        }
    }
}

/// What a request came to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Answer {
    Job {
        throttled: bool,
    },
    Nothing {
        next: NextPoll,
        throttled: bool,
    },
    /// The source did not answer, or not usefully.
    Failed {
        retry_after: Option<Duration>,
    },
    /// It does not want this runner: at the usual pace, or when it says so.
    Refused {
        retry_after: Option<Duration>,
    },
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// This runner asks for a job.
    Poll(PollId, LineId),
    /// Nothing before this time, unless something happens.
    Wait(Option<Instant>),
}

/// The state behind the rules.
#[derive(Debug)]
pub(super) struct Dispatch {
    concurrent: usize,
    /// Places taken by jobs, and by requests that may bring one.
    busy: usize,
    lines: Vec<Line>,
    tokens: HashMap<SourceId, Token>,
    polls: HashMap<PollId, Poll>,
    next_poll: u64,
    news: Vec<(LineId, RunnerUpdate)>,
}

#[derive(Debug)]
struct Line {
    id: LineId,
    terms: Terms,
    due: Instant,
    /// When it asked last.
    asked: Option<Instant>,
    backoff: Backoff,
    /// It waits because of a failure.
    resting: bool,
    /// It is known which jobs it has already.
    settled: bool,
}

/// What all runners of one token share.
#[derive(Debug, Default)]
struct Token {
    places: usize,
    /// Jobs that other managers have.
    elsewhere: usize,
    requests: usize,
    adaptive: AdaptiveLimit,
}

#[derive(Debug)]
struct Poll {
    line: LineId,
    terms: Terms,
    started: Instant,
    keeps_place: bool,
}

impl Terms {
    fn allows_requests(&self, token: &Token) -> usize {
        match self.pace {
            RequestPace::Adaptive => token.adaptive.used(self.request_concurrency),
            RequestPace::Fixed => self.request_concurrency,
        }
    }

    /// Time from one request to the next; never none at all.
    fn pause(&self) -> Duration {
        self.interval.max(Duration::from_millis(1))
    }

    fn has_room(&self, token: Option<&Token>) -> bool {
        self.limit == 0 || token.is_none_or(|token| token.places + token.elsewhere < self.limit)
    }
}

impl Dispatch {
    /// `concurrent` 0: as many as come.
    pub(super) fn new(concurrent: usize) -> Self {
        Self {
            concurrent: no_limit(concurrent),
            busy: 0,
            lines: Vec::new(),
            tokens: HashMap::new(),
            polls: HashMap::new(),
            next_poll: 0,
            news: Vec::new(),
        }
    }

    /// These runners, in this order, and no others. What is known of a runner stays; one that was
    /// waiting because of failures is due again. Nobody has to wait longer than before: a
    /// configuration that changes every second must not put anybody's turn off for ever.
    pub(super) fn set(&mut self, concurrent: usize, lines: Vec<(LineId, Terms)>, now: Instant) {
        self.concurrent = no_limit(concurrent);
        let count = u32::try_from(lines.len().max(1)).unwrap_or(u32::MAX);
        let mut old = std::mem::take(&mut self.lines);
        for (index, (id, terms)) in (0..).zip(lines) {
            // Spread over the interval, so that they do not all ask at the same moment.
            let first = now + terms.interval * index / count;
            let backoff = Backoff::new(terms.interval, terms.interval.max(LONGEST_PAUSE));
            let known = old.iter().position(|line| line.id == id).map(|at| old.swap_remove(at));
            self.lines.push(match known {
                Some(line) => {
                    let due = if line.resting { first } else { now + terms.pause() };
                    let due = due.min(line.due);
                    Line { terms, backoff, due, resting: false, ..line }
                }
                None => Line {
                    id,
                    terms,
                    backoff,
                    due: first,
                    asked: None,
                    resting: false,
                    settled: false,
                },
            });
        }
        self.forget_idle_tokens();
    }

    /// It is known which jobs this runner has already, so that it may ask for more.
    pub(super) fn settle(&mut self, id: LineId) {
        if let Some(line) = self.lines.iter_mut().find(|line| line.id == id) {
            line.settled = true;
        }
    }

    /// The opposite: it has another executor now.
    pub(super) fn unsettle(&mut self, id: LineId) {
        if let Some(line) = self.lines.iter_mut().find(|line| line.id == id) {
            line.settled = false;
        }
    }

    /// Other managers have so many jobs of this source: its limit counts them too.
    pub(super) fn elsewhere(&mut self, source: &SourceId, jobs: usize) {
        if jobs > 0 || self.tokens.contains_key(source) {
            self.tokens.entry(source.clone()).or_default().elsewhere = jobs;
        }
    }

    /// What to do now. To be called again until it says to wait.
    pub(super) fn next(&mut self, now: Instant) -> Step {
        self.release_held_back(now);
        let mut best: Option<((Option<Instant>, Instant), usize)> = None;
        let mut wake: Option<Instant> = self
            .polls
            .values()
            .filter(|poll| poll.keeps_place)
            .map(|poll| poll.started + HELD_BACK)
            .min();
        for at in 0..self.lines.len() {
            let line = &self.lines[at];
            if !line.settled {
                continue;
            }
            if line.due <= now && self.busy < self.concurrent && self.exceeds_requests(at) {
                let line = &mut self.lines[at];
                line.due = now + line.terms.pause();
                self.news.push((line.id, RunnerUpdate::TooManyRequests));
            }
            let line = &self.lines[at];
            if line.due > now {
                wake = Some(wake.map_or(line.due, |wake| wake.min(line.due)));
                continue;
            }
            let token = self.tokens.get(&line.terms.source);
            let room = line.terms.has_room(token);
            if !room && token.is_some_and(|token| token.elsewhere > 0) {
                // Nobody tells when another manager's job ends: looked at in the runner's rhythm.
                let again = now + line.terms.pause();
                wake = Some(wake.map_or(again, |wake| wake.min(again)));
            }
            let turn = (line.asked, line.due);
            if room && best.is_none_or(|(best, _)| turn < best) {
                best = Some((turn, at));
            }
        }
        match best.filter(|_| self.busy < self.concurrent) {
            Some((_, at)) => self.start(at, now),
            None => Step::Wait(wake),
        }
    }

    fn exceeds_requests(&self, at: usize) -> bool {
        let terms = &self.lines[at].terms;
        let token = self.tokens.get(&terms.source);
        token.is_some_and(|token| token.requests >= terms.allows_requests(token))
    }

    fn start(&mut self, at: usize, now: Instant) -> Step {
        let line = &mut self.lines[at];
        line.asked = Some(now);
        // Kept in step with the interval, but what was missed is not made up for.
        line.due += line.terms.pause();
        if line.due <= now {
            line.due = now + line.terms.pause();
        }
        let (id, terms) = (line.id, line.terms.clone());
        let token = self.tokens.entry(terms.source.clone()).or_default();
        token.requests += 1;
        token.places += 1;
        self.busy += 1;
        self.next_poll += 1;
        let poll = PollId(self.next_poll);
        self.polls.insert(poll, Poll { line: id, terms, started: now, keeps_place: true });
        self.news.push((id, RunnerUpdate::Asking));
        self.report_requests(poll);
        Step::Poll(poll, id)
    }

    fn release_held_back(&mut self, now: Instant) {
        for poll in self.polls.values_mut() {
            if poll.keeps_place && now >= poll.started + HELD_BACK {
                poll.keeps_place = false;
                self.busy -= 1;
                if let Some(token) = self.tokens.get_mut(&poll.terms.source) {
                    token.places -= 1;
                }
            }
        }
    }

    /// What a request came to. For a job: whether there is a place for it; if not,
    /// [`claim`](Dispatch::claim) one later.
    pub(super) fn answered(&mut self, id: PollId, answer: Answer, now: Instant) -> bool {
        let Some(poll) = self.polls.remove(&id) else { return false };
        let hard = poll.terms.request_concurrency;
        if let Some(token) = self.tokens.get_mut(&poll.terms.source) {
            token.requests -= 1;
            token.adaptive.adapt(
                match answer {
                    Answer::Job { throttled: true } | Answer::Nothing { throttled: true, .. } => {
                        RequestEnd::Throttled
                    }
                    Answer::Failed { .. } => RequestEnd::Throttled,
                    Answer::Job { .. } => RequestEnd::Job,
                    Answer::Nothing { .. } | Answer::Refused { .. } => RequestEnd::Empty,
                },
                hard,
            );
        }
        let is_job = matches!(answer, Answer::Job { .. });
        if poll.keeps_place && !is_job {
            self.free(&poll.terms.source);
        }
        if let Some(line) = self.lines.iter_mut().find(|line| line.id == poll.line) {
            match answer {
                Answer::Job { .. } if line.terms.after_job == AfterJob::WaitForTurn => {}
                Answer::Job { .. } => line.due = now,
                Answer::Nothing { next: NextPoll::Now, .. } => {
                    line.due = now.max(poll.started + AT_ONCE);
                }
                // Turns that came meanwhile were let pass; what ended the wait may be a job.
                Answer::Nothing { .. } => {
                    let earliest = poll.started + line.terms.pause();
                    line.due = line.due.min(earliest.max(now));
                }
                Answer::Failed { retry_after } => {
                    line.due = line.due.max(now + line.backoff.wait(retry_after));
                }
                Answer::Refused { retry_after } => {
                    line.due = line.due.max(now + retry_after.unwrap_or_default());
                    self.news.push((line.id, RunnerUpdate::Refused { left_alone: retry_after }));
                }
            }
            line.resting = matches!(answer, Answer::Failed { .. } | Answer::Refused { .. });
            if !matches!(answer, Answer::Failed { .. }) {
                line.backoff.reset();
            }
        }
        self.report(poll.line, &poll.terms);
        is_job && (poll.keeps_place || self.claim(&poll.terms))
    }

    /// Takes a place if there is one.
    pub(super) fn claim(&mut self, terms: &Terms) -> bool {
        if self.busy >= self.concurrent || !terms.has_room(self.tokens.get(&terms.source)) {
            return false;
        }
        self.take(&terms.source);
        true
    }

    /// Takes a place even when there is none: the job runs already.
    pub(super) fn take(&mut self, source: &SourceId) {
        self.busy += 1;
        self.tokens.entry(source.clone()).or_default().places += 1;
    }

    /// Gives a job's place back.
    pub(super) fn free(&mut self, source: &SourceId) {
        self.busy -= 1;
        if let Some(token) = self.tokens.get_mut(source) {
            token.places -= 1;
        }
        self.forget_idle_tokens();
    }

    /// A removed runner's token is kept for as long as it has jobs.
    fn forget_idle_tokens(&mut self) {
        let lines = &self.lines;
        self.tokens.retain(|source, token| {
            token.places > 0
                || token.requests > 0
                || lines.iter().any(|line| line.terms.source == *source)
        });
    }

    /// What happened since the last call, for the observer.
    pub(super) fn news(&mut self) -> Vec<(LineId, RunnerUpdate)> {
        std::mem::take(&mut self.news)
    }

    fn report_requests(&mut self, poll: PollId) {
        if let Some(poll) = self.polls.get(&poll) {
            let (line, terms) = (poll.line, poll.terms.clone());
            self.report(line, &terms);
        }
    }

    fn report(&mut self, line: LineId, terms: &Terms) {
        let Some(token) = self.tokens.get(&terms.source) else { return };
        let counts = RequestCounts {
            under_way: token.requests,
            hard_limit: terms.request_concurrency,
            adaptive_limit: token.adaptive.value(),
            used_limit: terms.allows_requests(token),
        };
        self.news.push((line, RunnerUpdate::Requests(counts)));
    }
}

fn no_limit(concurrent: usize) -> usize {
    if concurrent == 0 { usize::MAX } else { concurrent }
}
