//! Threads: how many, what each does, and how they are interrupted.
//!
//! The work is handed out piece by piece, so that a thread on a slow or busy core does less of it. The calling
//! thread works too. Threads are started for one fill and end with it, so a forked process cannot inherit a
//! broken pool. If a thread cannot be started, the others do its work.

use super::Options;
use super::limits::threads_with_room;
use crate::error::{Error, Result};
use crate::simd::DefaultEnvironment;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

/// The process-wide limit; zero for none.
static SETTING: AtomicUsize = AtomicUsize::new(0);

/// The default thread limit: that of the last [`set_default_threads`], else the environment variable
/// `FASTINIT_NUM_THREADS`, else the processors to which the process is bound, but no more than the CPU quota of
/// its control groups, rounded down. The environment and the system are asked at the first call.
pub fn default_threads() -> NonZeroUsize {
    static AUTOMATIC: OnceLock<NonZeroUsize> = OnceLock::new();
    NonZeroUsize::new(SETTING.load(Ordering::Relaxed)).unwrap_or_else(|| {
        *AUTOMATIC.get_or_init(|| {
            let wanted = std::env::var("FASTINIT_NUM_THREADS").ok().and_then(|text| text.trim().parse().ok());
            wanted.or_else(|| thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
        })
    })
}

/// Sets the default thread limit of the process; `None` removes it.
pub fn set_default_threads(threads: Option<NonZeroUsize>) {
    SETTING.store(threads.map_or(0, NonZeroUsize::get), Ordering::Relaxed);
}

/// Less work than this is not worth a thread: starting one takes about as long as writing 512 KiB.
pub(super) const BYTES_PER_THREAD: usize = 512 << 10;

/// How often the calling thread checks for an interrupt while it waits for the others.
const POLL: Duration = Duration::from_millis(20);

/// Tells a part of the work whether to go on.
pub(crate) struct Pulse<'a> {
    stop: &'a AtomicBool,
    /// Only on the caller's thread.
    interrupt: Option<&'a (dyn Fn() -> bool + 'a)>,
}

impl Pulse<'_> {
    /// Whether the fill was interrupted. Must be called about every millisecond.
    pub(crate) fn stopped(&self) -> bool {
        if self.interrupt.is_some_and(|interrupt| interrupt()) {
            self.stop.store(true, Ordering::Relaxed);
        }
        self.stop.load(Ordering::Relaxed)
    }
}

/// Elements that are at least this many bytes apart may each be the first one on their page.
pub(super) const FAR: usize = 4096;

/// Checks a pulse after every 64 places that may each be the first one on their page. The first write to a
/// huge page takes up to milliseconds where the system must find and zero it.
pub(crate) struct Countdown<'a> {
    pulse: &'a Pulse<'a>,
    left: usize,
}

impl<'a> Countdown<'a> {
    const PLACES: usize = 64;

    pub(crate) fn new(pulse: &'a Pulse<'a>) -> Countdown<'a> {
        Countdown { pulse, left: Self::PLACES }
    }

    /// Counts `places` more; returns whether to go on.
    pub(crate) fn goes_on(&mut self, places: usize) -> bool {
        if self.left > places {
            self.left -= places;
            return true;
        }
        self.left = Self::PLACES;
        !self.pulse.stopped()
    }
}

/// The bytes of a piece. A huge page, so that two threads seldom write to the same one for the first time: each
/// would get and zero a page of its own, and one of the two is thrown away.
const PIECE: usize = 2 << 20;

/// Calls `work` with contiguous parts of `0..length`, which begin at multiples of `grain`, on as many threads
/// as the options and the size (`bytes` in all) allow. A thread that is done with a part takes the next one.
///
/// # Errors
/// [`Error::Interrupted`] where the options' `interrupt` returned true.
pub(super) fn in_parts(
    length: usize,
    grain: usize,
    bytes: usize,
    options: &Options<'_>,
    work: impl Fn(Range<usize>, &Pulse<'_>) + Sync,
) -> Result<()> {
    let grains = length.div_ceil(grain);
    let threads = how_many((bytes / BYTES_PER_THREAD).min(grains), options);
    if bytes <= PIECE && threads == 1 {
        return on_threads(1, options, |_, pulse| work(0..length, pulse));
    }
    let piece = PIECE as u128 * length as u128 / (bytes as u128 * grain as u128);
    let part = (piece as usize).clamp(1, grains.div_ceil(threads)) * grain;
    in_turns(length.div_ceil(part), &mut vec![(); threads], options, |i, (), pulse| {
        work(i * part..length.min((i + 1) * part), pulse);
        Ok(())
    })
}

/// Calls `work` with each number below `count` once, on as many threads as there are `workers`. Each thread
/// uses one of the workers and takes the next number when it is done with the last. For pieces of work that
/// take different times.
///
/// # Errors
/// The first error of `work`, after which no more numbers are taken; otherwise as [`in_parts`].
pub(crate) fn in_turns<W: Send>(
    count: usize,
    workers: &mut [W],
    options: &Options<'_>,
    work: impl Fn(usize, &mut W, &Pulse<'_>) -> Result<()> + Sync,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failure = OnceLock::new();
    let workers: Vec<_> = workers.iter_mut().map(Mutex::new).collect();
    on_threads(workers.len().min(count).max(1), options, |i, pulse| {
        let mut worker = workers[i].lock().unwrap_or_else(PoisonError::into_inner);
        while failure.get().is_none() && !pulse.stopped() {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            if turn >= count {
                return;
            }
            if let Err(error) = work(turn, &mut worker, pulse) {
                failure.get_or_init(|| error);
            }
        }
    })?;
    failure.into_inner().map_or(Ok(()), Err)
}

/// The number of threads to use: at most `most` and the limit of the options, but at least one.
pub(crate) fn how_many(most: usize, options: &Options<'_>) -> usize {
    if most <= 1 { 1 } else { options.threads.unwrap_or_else(default_threads).get().min(most) }
}

/// Calls `work` with numbers below `threads`, each on its own thread: always with 0, on the calling thread, and
/// with the others as far as threads can be started.
fn on_threads(threads: usize, options: &Options<'_>, work: impl Fn(usize, &Pulse<'_>) + Sync) -> Result<()> {
    let stop = AtomicBool::new(false);
    let own = Pulse { stop: &stop, interrupt: options.interrupt };
    let others = if threads > 1 { threads_with_room(threads - 1) } else { 0 };
    if others == 0 {
        work(0, &own);
        return if stop.into_inner() { Err(Error::Interrupted) } else { Ok(()) };
    }
    let running = AtomicUsize::new(0);
    let caller = thread::current();
    thread::scope(|scope| {
        for i in 1..=others {
            let (work, stop, running, caller) = (&work, &stop, &running, &caller);
            let body = move || {
                let _environment = DefaultEnvironment::enter();
                work(i, &Pulse { stop, interrupt: None });
                running.fetch_sub(1, Ordering::Release);
                caller.unpark();
            };
            running.fetch_add(1, Ordering::Relaxed);
            if thread::Builder::new().spawn_scoped(scope, body).is_err() {
                running.fetch_sub(1, Ordering::Relaxed);
                break;
            }
        }
        work(0, &own);
        while options.interrupt.is_some() && running.load(Ordering::Acquire) > 0 {
            thread::park_timeout(POLL);
            own.stopped();
        }
    });
    if stop.into_inner() { Err(Error::Interrupted) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn on(threads: usize) -> Options<'static> {
        Options { threads: NonZeroUsize::new(threads), ..Options::default() }
    }

    #[test]
    fn parts_are_everything_once_and_begin_at_grains() {
        for length in [1, 4095, 4096, 100_000, (1 << 22) - 1, (1 << 22) + 4097] {
            for (grain, size) in [(1, 4), (4096, 2), (4096, 8), (300, 4), (1 << 21, 4)] {
                for threads in [1, 2, 3, 16] {
                    let parts = Mutex::new(vec![]);
                    in_parts(length, grain, length * size, &on(threads), |part, _| {
                        parts.lock().unwrap().push(part);
                    })
                    .unwrap();
                    let mut parts = parts.into_inner().unwrap();
                    parts.sort_by_key(|part| part.start);
                    let what = format!("{length} by {grain} of {size} bytes on {threads} threads: {parts:?}");
                    assert_eq!((parts[0].start, parts[parts.len() - 1].end), (0, length), "{what}");
                    assert!(parts.windows(2).all(|pair| pair[0].end == pair[1].start), "{what}");
                    let most = (PIECE / size).max(grain);
                    assert!(
                        parts.iter().all(|p| p.start % grain == 0 && (1..=most).contains(&p.len())),
                        "{what}"
                    );
                }
            }
        }
    }

    #[test]
    fn no_work_is_no_error() {
        in_parts(0, 1, 0, &on(4), |part, _| assert!(part.is_empty())).unwrap();
    }

    /// The thread with the first part is so slow that all others are done before it goes on.
    #[test]
    fn others_do_the_work_of_a_slow_thread() {
        let count = 8;
        let done = AtomicUsize::new(0);
        let begun = Instant::now();
        in_parts(count * PIECE, PIECE, count * PIECE, &on(2), |part, _| {
            while part.start == 0 && done.load(Ordering::Relaxed) < count - 1 {
                assert!(begun.elapsed() < Duration::from_secs(60), "the others waited");
                thread::yield_now();
            }
            done.fetch_add(1, Ordering::Relaxed);
        })
        .unwrap();
        assert_eq!(done.into_inner(), count);
    }

    #[test]
    fn an_interrupt_ends_the_work_of_all_threads() {
        let parts = AtomicUsize::new(0);
        let interrupt = || parts.load(Ordering::Relaxed) > 2;
        let options = Options { interrupt: Some(&interrupt), ..on(3) };
        let result = in_parts(1000 * PIECE, PIECE, 1000 * PIECE, &options, |_, _| {
            parts.fetch_add(1, Ordering::Relaxed);
            thread::sleep(Duration::from_millis(1));
        });
        assert_eq!(result, Err(Error::Interrupted));
        assert!(parts.into_inner() < 1000);
    }
}
