//! Threads: how many, what each does, and how they are interrupted.
//!
//! The work is split into one contiguous part for each thread, or, where its pieces take different times,
//! handed out piece by piece. The calling thread works too. Threads are started for one fill and end with it,
//! so a forked process cannot inherit a broken pool. If a thread cannot be started, the calling thread does
//! its part.

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
/// `FASTINIT_NUM_THREADS` (read at the first call), else the parallelism available to the process.
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

/// Calls `work` with contiguous parts of `0..length`, which begin at multiples of `grain`, on as many threads
/// as the options and the size (`bytes` in all) allow.
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
    let part = |i: usize| {
        let edge = |i: usize| (grains as u128 * i as u128 / threads as u128) as usize * grain;
        edge(i)..edge(i + 1).min(length)
    };
    on_threads(threads, options, |i, pulse| work(part(i), pulse))
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

/// Calls `work` with each number below `threads`, each on its own thread.
fn on_threads(threads: usize, options: &Options<'_>, work: impl Fn(usize, &Pulse<'_>) + Sync) -> Result<()> {
    let stop = AtomicBool::new(false);
    let own = Pulse { stop: &stop, interrupt: options.interrupt };
    if threads == 1 {
        work(0, &own);
        return if stop.into_inner() { Err(Error::Interrupted) } else { Ok(()) };
    }
    let others = threads_with_room(threads - 1);
    let running = AtomicUsize::new(others);
    let caller = thread::current();
    thread::scope(|scope| {
        let mut left_over: Vec<_> = (others + 1..threads).collect();
        left_over.push(0);
        for i in 1..=others {
            let (work, stop, running, caller) = (&work, &stop, &running, &caller);
            let body = move || {
                let _environment = DefaultEnvironment::enter();
                work(i, &Pulse { stop, interrupt: None });
                running.fetch_sub(1, Ordering::Release);
                caller.unpark();
            };
            if thread::Builder::new().spawn_scoped(scope, body).is_err() {
                running.fetch_sub(1, Ordering::Release);
                left_over.push(i);
            }
        }
        for i in left_over {
            work(i, &own);
        }
        while options.interrupt.is_some() && running.load(Ordering::Acquire) > 0 {
            thread::park_timeout(POLL);
            own.stopped();
        }
    });
    if stop.into_inner() { Err(Error::Interrupted) } else { Ok(()) }
}
