//! Threads: how many, who does what, and how to stop them.
//!
//! The work is cut into as many contiguous parts as there are threads, or taken in turns where it is not spread evenly; the
//! caller's thread works too. Threads are begun for one fill and end with it, so there is no pool that a forked process could
//! inherit broken. Where a thread cannot be begun, its part is done by the caller.

use super::Options;
use crate::error::{Error, Result};
use crate::simd::DefaultEnvironment;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// The process-wide setting; zero where there is none.
static SETTING: AtomicUsize = AtomicUsize::new(0);

/// What `threads: None` means: what [`set_default_threads`] was last given, else the environment variable `FASTINIT_NUM_THREADS`
/// (read at the first call), else as many as the process may run at once.
pub fn default_threads() -> NonZeroUsize {
    static AUTOMATIC: OnceLock<NonZeroUsize> = OnceLock::new();
    NonZeroUsize::new(SETTING.load(Ordering::Relaxed)).unwrap_or_else(|| {
        *AUTOMATIC.get_or_init(|| {
            let wanted = std::env::var("FASTINIT_NUM_THREADS").ok().and_then(|text| text.trim().parse().ok());
            wanted.or_else(|| thread::available_parallelism().ok()).unwrap_or(NonZeroUsize::MIN)
        })
    })
}

/// Sets the process-wide number of threads, or with `None` takes the setting back.
pub fn set_default_threads(threads: Option<NonZeroUsize>) {
    SETTING.store(threads.map_or(0, NonZeroUsize::get), Ordering::Relaxed);
}

/// Less work than this is not worth a thread: to begin one takes about as long as to store half a MiB.
const BYTES_PER_THREAD: usize = 512 << 10;

/// How often the caller looks for an interrupt while it waits for the others.
const POLL: Duration = Duration::from_millis(20);

/// Tells the code of a part whether to go on.
pub(crate) struct Pulse<'a> {
    stop: &'a AtomicBool,
    /// On the caller's thread alone.
    interrupt: Option<&'a (dyn Fn() -> bool + 'a)>,
}

impl Pulse<'_> {
    /// Whether the fill was given up. To be asked every millisecond or so.
    pub(crate) fn stopped(&self) -> bool {
        if self.interrupt.is_some_and(|interrupt| interrupt()) {
            self.stop.store(true, Ordering::Relaxed);
        }
        self.stop.load(Ordering::Relaxed)
    }
}

/// Calls `work` with contiguous parts of `0..length`, which begin at multiples of `grain`, on as many threads as the options and the
/// size (`bytes` in all) allow.
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
    let most = (bytes / BYTES_PER_THREAD).min(grains).max(1);
    let threads = how_many(most, options);
    let part = |i: usize| {
        let edge = |i: usize| (grains as u128 * i as u128 / threads as u128) as usize * grain;
        edge(i)..edge(i + 1).min(length)
    };
    on_threads(threads, options, |i, pulse| work(part(i), pulse))
}

/// Calls `work` with each number below `count`, in order, on at most so many threads: who is free takes the next. For
/// work that is not spread evenly.
///
/// # Errors
/// The first of `work`, after which no more is begun; or as [`in_parts`].
pub(crate) fn in_turns(
    count: usize,
    most: usize,
    options: &Options<'_>,
    work: impl Fn(usize, &Pulse<'_>) -> Result<()> + Sync,
) -> Result<()> {
    let next = AtomicUsize::new(0);
    let failure = OnceLock::new();
    on_threads(how_many(most.min(count).max(1), options), options, |_, pulse| {
        while failure.get().is_none() && !pulse.stopped() {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            if turn >= count {
                return;
            }
            if let Err(error) = work(turn, pulse) {
                failure.get_or_init(|| error);
            }
        }
    })?;
    failure.into_inner().map_or(Ok(()), Err)
}

/// How many threads the options allow, of at most so many.
fn how_many(most: usize, options: &Options<'_>) -> usize {
    if most == 1 { 1 } else { options.threads.unwrap_or_else(default_threads).get().min(most) }
}

/// Calls `work` with each number below `threads`, each on a thread of its own.
fn on_threads(threads: usize, options: &Options<'_>, work: impl Fn(usize, &Pulse<'_>) + Sync) -> Result<()> {
    let stop = AtomicBool::new(false);
    let own = Pulse { stop: &stop, interrupt: options.interrupt };
    let running = AtomicUsize::new(threads - 1);
    if threads == 1 {
        work(0, &own);
    } else {
        let caller = thread::current();
        thread::scope(|scope| {
            let mut left_over = vec![0];
            for i in 1..threads {
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
    }
    if stop.into_inner() { Err(Error::Interrupted) } else { Ok(()) }
}
