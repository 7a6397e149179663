//! Takes chance and the wall clock out of a thread.
//!
//! Hash maps, `select!` and ids take their randomness from the system once for each thread. On a
//! thread that has called [`fix`] the system's answers follow from a seed, and the wall clock
//! follows the runtime's, which is paused. So the same seed is the same run, down to the order in
//! which things happen that are ready at the same time. Other threads are not touched.

use std::cell::Cell;

use tokio::time::Instant;

/// 2026-01-01.
const EPOCH: i64 = 1_767_225_600;

thread_local! {
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
    static BEGIN: Cell<Option<Instant>> = const { Cell::new(None) };
    static SKEW: Cell<i64> = const { Cell::new(0) };
}

/// Fixes this thread. To be called before anything else happens on it.
pub(crate) fn fix(seed: u64) {
    SEED.set(Some(seed));
    // It takes its seed from the thread's number too. Used for the jitter of retries.
    fastrand::seed(seed);
}

/// The wall clock follows the runtime's from now on.
pub(crate) fn fix_clock() {
    BEGIN.set(Some(Instant::now()));
}

/// The wall clock jumps.
pub(crate) fn jump(seconds: i64) {
    SKEW.set(SKEW.get() + seconds);
}

/// The time of the wall clock, where it is fixed.
fn wall() -> Option<(i64, i64)> {
    let begin = BEGIN.try_with(Cell::get).ok()??;
    let since = begin.elapsed();
    // A run takes hours, not ages.
    let seconds = EPOCH + SKEW.get() + since.as_secs() as i64;
    Some((seconds, i64::from(since.subsec_nanos())))
}

#[repr(C)]
pub(crate) struct TimeSpec {
    seconds: i64,
    nanoseconds: i64,
}

/// C's `getrandom`, in the place of the C library's.
///
/// # Safety
/// As C's: `buffer` must be good for `length` bytes.
#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "the only way to make hash maps and tokio's select! repeatable")]
pub(crate) unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    // SAFETY: the caller promises that the buffer is good for so many bytes; they are written
    // before they are read.
    let bytes = unsafe {
        std::ptr::write_bytes(buffer, 0, length);
        std::slice::from_raw_parts_mut(buffer, length)
    };
    let seed = SEED.try_with(Cell::get).ok().flatten();
    let Some(seed) = seed else {
        let mut at = 0;
        while at < length {
            match rustix::rand::getrandom(&mut bytes[at..], rustix::rand::GetRandomFlags::empty()) {
                Ok(count) => at += count,
                Err(_) => return -1,
            }
        }
        return length as isize;
    };
    let mut random = runner_testkit::chaos::Random::new(seed);
    SEED.set(Some(random.next()));
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&random.next().to_le_bytes()[..chunk.len()]);
    }
    length as isize
}

/// C's `clock_gettime`, in the place of the C library's.
///
/// # Safety
/// As C's: `time` must be good to write to.
#[unsafe(no_mangle)]
#[expect(unsafe_code, reason = "the only way to a wall clock that is paused")]
pub(crate) unsafe extern "C" fn clock_gettime(clock: i32, time: *mut TimeSpec) -> i32 {
    const REALTIME: i32 = 0;
    let fixed = (clock == REALTIME).then(wall).flatten();
    let (seconds, nanoseconds) = match fixed {
        Some(fixed) => fixed,
        None => {
            let id = match clock {
                REALTIME => rustix::time::ClockId::Realtime,
                2 => rustix::time::ClockId::ProcessCPUTime,
                3 => rustix::time::ClockId::ThreadCPUTime,
                7 => rustix::time::ClockId::Boottime,
                _ => rustix::time::ClockId::Monotonic,
            };
            let now = rustix::time::clock_gettime(id);
            (now.tv_sec, now.tv_nsec)
        }
    };
    // SAFETY: the caller promises that the pointer is good to write to.
    unsafe { time.write(TimeSpec { seconds, nanoseconds }) };
    0
}
