//! (skeleton; signatures are final)
use crate::error::Result;
use std::mem::MaybeUninit;

/// Memory for a result: aligned to 64 bytes, uninitialized, freed on drop. `Send + Sync`.
#[derive(Debug)]
pub struct Buffer;

impl Buffer {
    /// Room for `bytes` bytes; zero is allowed.
    pub fn new(_bytes: usize) -> Result<Buffer> {
        todo!()
    }
    /// Its first byte (dangling, but aligned, where there are none).
    pub fn as_ptr(&self) -> *mut u8 {
        todo!()
    }
    /// Its size in bytes.
    pub fn len(&self) -> usize {
        todo!()
    }
    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The first `len` elements; fails (None) if they do not fit.
    pub fn as_uninit_slice<T>(&mut self) -> &mut [MaybeUninit<T>] {
        todo!()
    }
}
