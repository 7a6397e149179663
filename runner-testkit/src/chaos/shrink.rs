//! Makes a failing schedule small.

use super::schedule::Schedule;

/// The smallest schedule that still fails, found by leaving out faults, jobs and managers in pieces
/// of halving size. `fails` is asked at most `tries` times.
pub fn shrink(
    schedule: Schedule,
    mut tries: usize,
    mut fails: impl FnMut(&Schedule) -> bool,
) -> Schedule {
    let mut best = schedule;
    loop {
        let before = best.clone();
        best = without(best, &mut tries, &mut fails, |schedule| &mut schedule.events);
        best = without(best, &mut tries, &mut fails, |schedule| &mut schedule.jobs);
        while best.managers > 1 && tries > 0 {
            let fewer = Schedule { managers: best.managers - 1, ..best.clone() };
            tries -= 1;
            match fails(&fewer) {
                true => best = fewer,
                false => break,
            }
        }
        if best == before || tries == 0 {
            return best;
        }
    }
}

/// Leaves out as many elements of a list as it can.
fn without<T>(
    mut best: Schedule,
    tries: &mut usize,
    fails: &mut impl FnMut(&Schedule) -> bool,
    list: impl Fn(&mut Schedule) -> &mut Vec<T>,
) -> Schedule {
    let mut size = list(&mut best).len();
    while size > 0 {
        let mut at = 0;
        while at < list(&mut best).len() {
            if *tries == 0 {
                return best;
            }
            *tries -= 1;
            let mut smaller = best.clone();
            let end = (at + size).min(list(&mut smaller).len());
            list(&mut smaller).drain(at..end);
            match fails(&smaller) {
                true => best = smaller,
                false => at += size,
            }
        }
        size /= 2;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::super::fault::Fault;
    use super::super::schedule::Schedule;
    use super::shrink;

    #[test]
    fn what_does_not_matter_is_left_out() {
        let culprit = |schedule: &Schedule| {
            schedule.jobs.iter().any(|job| job.id.0 == 13)
                && schedule.events.iter().any(|event| matches!(event.fault, Fault::ApiRestart))
        };
        let seed = (0..).find(|seed| culprit(&Schedule::new(*seed, 20, 60))).unwrap();
        let small = shrink(Schedule::new(seed, 20, 60), 1000, culprit);
        assert_eq!((small.jobs.len(), small.events.len(), small.managers), (1, 1, 1));
    }
}
