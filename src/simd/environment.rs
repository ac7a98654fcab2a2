//! The floating-point environment of the kernels.
//!
//! It rounds to nearest even and keeps subnormal numbers. Other libraries switch on flush-to-zero for a whole
//! thread, for speed; the values of a fill must not depend on that.

/// While it lives, the calling thread has the default floating-point environment; its own is restored on
/// drop.
#[derive(Debug)]
pub struct DefaultEnvironment {
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    before: Register,
}

#[cfg(target_arch = "x86_64")]
type Register = u32;
#[cfg(target_arch = "aarch64")]
type Register = u64;

/// All exceptions masked, round to nearest, no flush-to-zero, no denormals-are-zero: the value at the start
/// of a program.
#[cfg(target_arch = "x86_64")]
const DEFAULT: Register = 0x1f80;
#[cfg(target_arch = "aarch64")]
const DEFAULT: Register = 0;

impl DefaultEnvironment {
    /// Sets the default environment.
    pub fn enter() -> DefaultEnvironment {
        #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
        {
            let before = read();
            if before != DEFAULT {
                write(DEFAULT);
            }
            DefaultEnvironment { before }
        }
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        DefaultEnvironment {}
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
impl Drop for DefaultEnvironment {
    fn drop(&mut self) {
        if self.before != DEFAULT {
            write(self.before);
        }
    }
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
fn read() -> Register {
    let mut mxcsr: u32 = 0;
    // SAFETY: SSE is part of x86-64; the instruction writes four bytes to a local variable. The status flags,
    // which record exceptions, are masked out for the comparison with the default.
    unsafe { std::arch::asm!("stmxcsr [{}]", in(reg) &mut mxcsr, options(nostack, preserves_flags)) };
    mxcsr & !0x3f
}

#[cfg(all(target_arch = "x86_64", not(miri)))]
fn write(mxcsr: Register) {
    // SAFETY: loads the default, which Rust code assumes, or the value that the thread had before.
    unsafe { std::arch::asm!("ldmxcsr [{}]", in(reg) &mxcsr, options(nostack, preserves_flags)) };
}

#[cfg(all(target_arch = "aarch64", not(miri)))]
fn read() -> Register {
    let fpcr: u64;
    // SAFETY: reads a register that user code may read.
    unsafe { std::arch::asm!("mrs {}, fpcr", out(reg) fpcr, options(nomem, nostack, preserves_flags)) };
    fpcr
}

#[cfg(all(target_arch = "aarch64", not(miri)))]
fn write(fpcr: Register) {
    // SAFETY: writes the default, which Rust code assumes, or the value that the thread had before.
    unsafe { std::arch::asm!("msr fpcr, {}", in(reg) fpcr, options(nomem, nostack, preserves_flags)) };
}

#[cfg(all(miri, any(target_arch = "x86_64", target_arch = "aarch64")))]
fn read() -> Register {
    DEFAULT
}

#[cfg(all(miri, any(target_arch = "x86_64", target_arch = "aarch64")))]
fn write(_: Register) {}
