//! Which warm pods there are, which are missing and which are too many. Pure.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::shape::Shape;
use crate::settings::WarmPods;

/// Pauses after failures, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// A pod without a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Idle {
    pub(crate) name: String,
    pub(crate) uid: String,
}

/// How a pod looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    Starting,
    Ready,
    /// It has ended, or will never start.
    Bad,
}

#[derive(Debug)]
struct Member {
    pod: Idle,
    hash: String,
    born: Instant,
    look: Look,
}

/// The pods of one entry of the settings.
#[derive(Debug)]
struct Brood {
    settings: WarmPods,
    shape: Option<Arc<Shape>>,
    /// What the last job of this image asked for, if it was something else.
    other: Option<String>,
    members: Vec<Member>,
    /// Pods that are being made.
    coming: usize,
    failures: u32,
    not_before: Option<Instant>,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Deed {
    /// Make a pod of this shape for this entry.
    Create(usize, Arc<Shape>),
    /// Nobody may take it any more.
    Delete(Idle),
}

/// All warm pods of a manager.
#[derive(Debug)]
pub(crate) struct Pool {
    broods: Vec<Brood>,
    /// How long a pod may take to be ready.
    patience: Duration,
}

impl Pool {
    /// Nothing is there yet.
    pub(crate) fn new(
        settings: impl IntoIterator<Item = (WarmPods, Option<Shape>)>,
        patience: Duration,
    ) -> Self {
        let brood = |(settings, shape): (WarmPods, Option<Shape>)| Brood {
            settings,
            shape: shape.map(Arc::new),
            other: None,
            members: Vec::new(),
            coming: 0,
            failures: 0,
            not_before: None,
        };
        Self { broods: settings.into_iter().map(brood).collect(), patience }
    }

    /// A job wants a pod of this shape. When two jobs of an image in a row want another one than is
    /// kept, that one is kept from now on.
    pub(crate) fn wanted(&mut self, shape: &Shape) {
        let of_image = |brood: &&mut Brood| brood.settings.image == shape.image;
        for brood in self.broods.iter_mut().filter(of_image) {
            let kept = brood.shape.as_ref().is_some_and(|kept| kept.hash == shape.hash);
            if !kept && brood.other.as_ref() == Some(&shape.hash) {
                brood.shape = Some(Arc::new(shape.clone()));
            }
            let hash = || shape.hash.clone();
            let is_new = brood.shape.as_ref().is_none_or(|kept| kept.hash != shape.hash);
            brood.other = is_new.then(hash);
        }
    }

    /// Takes a ready pod of this shape, the oldest, for good.
    pub(crate) fn take(&mut self, hash: &str) -> Option<Idle> {
        self.broods.iter_mut().find_map(|brood| {
            let ready = |m: &Member| m.look == Look::Ready && m.hash == hash;
            let index = brood.members.iter().position(ready)?;
            Some(brood.members.remove(index).pod)
        })
    }

    /// A pod was made.
    pub(crate) fn created(&mut self, brood: usize, hash: String, pod: Idle, now: Instant) {
        let brood = &mut self.broods[brood];
        brood.coming -= 1;
        brood.members.push(Member { pod, hash, born: now, look: Look::Starting });
    }

    /// It was not.
    pub(crate) fn not_created(&mut self, brood: usize, now: Instant) {
        self.broods[brood].coming -= 1;
        self.broods[brood].failed(now);
    }

    /// A pod looks like this now.
    pub(crate) fn looks(&mut self, uid: &str, look: Look) {
        for brood in &mut self.broods {
            if let Some(member) = brood.members.iter_mut().find(|m| m.pod.uid == uid) {
                member.look = look;
                if look == Look::Ready {
                    brood.failures = 0;
                }
            }
        }
    }

    /// All pods that are known.
    pub(crate) fn pods(&self) -> Vec<Idle> {
        self.broods.iter().flat_map(|b| &b.members).map(|member| member.pod.clone()).collect()
    }

    /// What to do now, and when to ask again if nothing changes.
    pub(crate) fn deeds(&mut self, now: Instant, time: Timestamp) -> (Vec<Deed>, Option<Instant>) {
        let (mut deeds, mut again) = (Vec::new(), Vec::new());
        let patience = self.patience;
        for (index, brood) in self.broods.iter_mut().enumerate() {
            brood.tidy(now, time, patience, &mut deeds, &mut again);
            let Some(shape) = brood.shape.clone() else { continue };
            let missing = brood.count(time).saturating_sub(brood.members.len() + brood.coming);
            match brood.not_before.filter(|at| *at > now) {
                Some(at) if missing > 0 => again.push(at),
                Some(_) => {}
                None => {
                    brood.coming += missing;
                    deeds.extend((0..missing).map(|_| Deed::Create(index, Arc::clone(&shape))));
                }
            }
        }
        (deeds, again.into_iter().min())
    }

    /// Whether the numbers may change with the minute.
    pub(crate) fn varies(&self) -> bool {
        self.broods.iter().any(|brood| brood.settings.schedule.varies())
    }
}

impl Brood {
    fn count(&self, time: Timestamp) -> usize {
        match self.settings.schedule.applies(time) {
            true => self.settings.count as usize,
            false => 0,
        }
    }

    fn failed(&mut self, now: Instant) {
        let pause = FIRST_PAUSE * 2_u32.saturating_pow(self.failures.min(10));
        self.failures += 1;
        self.not_before = Some(now + pause.min(LONGEST_PAUSE));
    }

    /// Gives up what is bad, too old, of an old shape or too many.
    fn tidy(
        &mut self,
        now: Instant,
        time: Timestamp,
        patience: Duration,
        deeds: &mut Vec<Deed>,
        again: &mut Vec<Instant>,
    ) {
        let hash = self.shape.as_ref().map(|shape| shape.hash.clone());
        let (max_age, most) = (self.settings.max_age, self.count(time));
        let (mut failed, mut kept) = (false, 0);
        // The youngest stay longest.
        let members = std::mem::take(&mut self.members);
        for member in members.into_iter().rev() {
            let stuck = member.look == Look::Starting && member.born + patience <= now;
            let bad = member.look == Look::Bad || stuck;
            let old = member.born + max_age <= now || Some(&member.hash) != hash.as_ref();
            failed |= bad;
            if bad || old || kept >= most {
                deeds.push(Deed::Delete(member.pod));
                continue;
            }
            kept += 1;
            again.push(member.born + max_age);
            if member.look == Look::Starting {
                again.push(member.born + patience);
            }
            self.members.insert(0, member);
        }
        if failed {
            self.failed(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::Timestamp;
    use serde_json::json;
    use tokio::time::Instant;

    use super::{Deed, Idle, Look, Pool, Shape};
    use crate::schedule::Schedule;
    use crate::settings::WarmPods;

    const HOUR: Duration = Duration::from_secs(3600);

    fn shape(image: &str, more: &str) -> Shape {
        let agent = runner_core::layout::AGENT;
        let pod = json!({ "spec": { "more": more, "containers": [
            { "name": "helper", "command": [agent, "supervise"] },
            { "name": "build", "image": image, "command": [agent, "serve"] },
        ]}});
        Shape::of(&pod, &Default::default(), None).unwrap()
    }

    fn pool(periods: &[&str]) -> Pool {
        let periods: Vec<String> = periods.iter().map(|text| (*text).to_owned()).collect();
        let settings = WarmPods {
            image: "a".into(),
            count: 2,
            schedule: Schedule::parse(&periods, "UTC").unwrap(),
            max_age: HOUR,
        };
        Pool::new([(settings, Some(shape("a", "")))], Duration::from_secs(180))
    }

    fn noon() -> Timestamp {
        "2026-03-04T12:00:00Z".parse().unwrap()
    }

    /// Does everything; names of new pods go on from `next`.
    fn obey(pool: &mut Pool, now: Instant, next: &mut u32) -> (usize, Vec<String>) {
        let (mut made, mut deleted) = (0, Vec::new());
        for deed in pool.deeds(now, noon()).0 {
            match deed {
                Deed::Create(brood, shape) => {
                    let name = format!("warm-{next}");
                    let pod = Idle { uid: name.clone(), name };
                    pool.created(brood, shape.hash.clone(), pod, now);
                    (*next, made) = (*next + 1, made + 1);
                }
                Deed::Delete(pod) => deleted.push(pod.name),
            }
        }
        (made, deleted)
    }

    #[test]
    fn a_pod_is_taken_once_and_another_one_takes_its_place() {
        let (mut pool, now, mut next) = (pool(&[]), Instant::now(), 0);
        assert_eq!(obey(&mut pool, now, &mut next), (2, vec![]));
        let hash = shape("a", "").hash;
        assert_eq!(pool.take(&hash), None, "none is ready");
        pool.looks("warm-0", Look::Ready);
        assert_eq!(pool.take("another"), None);
        assert_eq!(pool.take(&hash).unwrap().name, "warm-0");
        assert_eq!(pool.take(&hash), None);
        assert_eq!(obey(&mut pool, now, &mut next), (1, vec![]));
    }

    #[test]
    fn a_pod_is_replaced_when_it_is_too_old_or_bad_and_failures_are_not_repeated_at_once() {
        let (mut pool, now, mut next) = (pool(&[]), Instant::now(), 0);
        obey(&mut pool, now, &mut next);
        pool.looks("warm-0", Look::Ready);
        pool.looks("warm-1", Look::Ready);
        assert_eq!(obey(&mut pool, now + HOUR, &mut next).0, 2, "all are too old");
        pool.looks("warm-2", Look::Bad);
        let (made, deleted) = obey(&mut pool, now + HOUR, &mut next);
        assert_eq!((made, deleted), (0, vec!["warm-2".to_owned()]));
        let (_, again) = pool.deeds(now + HOUR, noon());
        assert_eq!(again, Some(now + HOUR + Duration::from_secs(5)));
        assert_eq!(obey(&mut pool, now + HOUR + Duration::from_secs(5), &mut next).0, 1);
    }

    #[test]
    fn there_are_none_outside_of_the_schedule() {
        let (mut pool, now, mut next) = (pool(&["* 8-11 * * *"]), Instant::now(), 0);
        assert_eq!(obey(&mut pool, now, &mut next), (0, vec![]));
        assert!(pool.varies());
    }

    #[test]
    fn two_jobs_in_a_row_that_want_another_shape_change_it() {
        let (mut pool, now, mut next) = (pool(&[]), Instant::now(), 0);
        obey(&mut pool, now, &mut next);
        for shape in [shape("a", "x"), shape("a", "y"), shape("b", "x"), shape("a", "x")] {
            pool.wanted(&shape);
            assert_eq!(obey(&mut pool, now, &mut next), (0, vec![]));
        }
        pool.wanted(&shape("a", "x"));
        let (made, deleted) = obey(&mut pool, now, &mut next);
        assert_eq!((made, deleted.len()), (2, 2));
    }
}
