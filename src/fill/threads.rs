//! (skeleton; signatures are final)
use std::num::NonZeroUsize;

/// What `threads: None` means: the process-wide setting, else `FASTINIT_NUM_THREADS`, else the available parallelism.
pub fn default_threads() -> NonZeroUsize {
    NonZeroUsize::MIN
}

/// Sets (or with `None` unsets) the process-wide number of threads.
pub fn set_default_threads(_threads: Option<NonZeroUsize>) {}
