//! Transposed squares of elements, in registers of 128 bits, which every x86-64 and every AArch64 has.

#[cfg(target_arch = "aarch64")]
use std::arch::aarch64::*;
#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

#[cfg(target_arch = "x86_64")]
type Register = __m128i;
#[cfg(target_arch = "aarch64")]
type Register = uint8x16_t;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
type Register = [u8; 16];

/// The elements of two registers in turns, a first; `N` elements fit one register.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn interleave<const N: usize>(a: Register, b: Register) -> [Register; 2] {
    // SAFETY: every x86-64 has SSE2, and nothing here touches memory.
    #[allow(unused_unsafe, reason = "these intrinsics are safe in recent versions of Rust")]
    unsafe {
        match N {
            2 => [_mm_unpacklo_epi64(a, b), _mm_unpackhi_epi64(a, b)],
            4 => [_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b)],
            _ => [_mm_unpacklo_epi16(a, b), _mm_unpackhi_epi16(a, b)],
        }
    }
}

/// The elements of two registers in turns, a first; `N` elements fit one register.
#[cfg(target_arch = "aarch64")]
#[inline(always)]
fn interleave<const N: usize>(a: Register, b: Register) -> [Register; 2] {
    macro_rules! zip {
        ($to:ident, $low:ident, $high:ident, $from:ident) => {
            [$from($low($to(a), $to(b))), $from($high($to(a), $to(b)))]
        };
    }
    // SAFETY: every AArch64 has NEON, and nothing here touches memory.
    #[allow(unused_unsafe, reason = "these intrinsics are safe in recent versions of Rust")]
    unsafe {
        match N {
            2 => zip!(vreinterpretq_u64_u8, vzip1q_u64, vzip2q_u64, vreinterpretq_u8_u64),
            4 => zip!(vreinterpretq_u32_u8, vzip1q_u32, vzip2q_u32, vreinterpretq_u8_u32),
            _ => zip!(vreinterpretq_u16_u8, vzip1q_u16, vzip2q_u16, vreinterpretq_u8_u16),
        }
    }
}

/// The elements of two registers in turns, a first; `N` elements fit one register.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn interleave<const N: usize>(a: Register, b: Register) -> [Register; 2] {
    let size = 16 / N;
    let mut both = [[0; 16]; 2];
    for (i, byte) in both.as_flattened_mut().iter_mut().enumerate() {
        let from = i / (2 * size) * size + i % size;
        *byte = if i / size % 2 == 0 { a[from] } else { b[from] };
    }
    both
}

/// Transposes a square of `N` by `N` elements of `16 / N` bytes: the first element of all rows go to the first
/// column, and so on. Only the first `columns` columns are written.
///
/// # Safety
/// The rows must be valid for reading 16 bytes, the columns that are written for writing as many. Neither need
/// be aligned.
#[inline(always)]
pub(crate) unsafe fn transpose<const N: usize>(
    row: impl Fn(usize) -> *const u8,
    column: impl Fn(usize) -> *mut u8,
    columns: usize,
) {
    const { assert!(N == 2 || N == 4 || N == 8) };
    // SAFETY: the caller guarantees as many bytes.
    let mut registers: [Register; N] =
        std::array::from_fn(|i| unsafe { row(i).cast::<Register>().read_unaligned() });
    // Each step interleaves the first half of the registers with the second.
    let mut step = 1;
    while step < N {
        let from = registers;
        for i in 0..N / 2 {
            [registers[2 * i], registers[2 * i + 1]] = interleave::<N>(from[i], from[i + N / 2]);
        }
        step *= 2;
    }
    for (i, &register) in registers.iter().enumerate() {
        if i < columns {
            // SAFETY: as above.
            unsafe { column(i).cast::<Register>().write_unaligned(register) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Debug;

    fn rows_become_columns<T: Copy + Debug + PartialEq + From<u8>, const N: usize>() {
        assert_eq!(size_of::<[T; N]>(), 16);
        let from: [[T; N]; N] = std::array::from_fn(|i| std::array::from_fn(|j| T::from((N * i + j) as u8)));
        for columns in 1..=N {
            let mut to = [[T::from(255); N]; N];
            let start: *mut [T; N] = to.as_mut_ptr();
            // SAFETY: each row and column is an array of 16 bytes.
            unsafe {
                transpose::<N>(|i| from[i].as_ptr().cast(), |j| start.add(j).cast(), columns);
            }
            for (j, column) in to.iter().enumerate() {
                let expected =
                    if j < columns { std::array::from_fn(|i| from[i][j]) } else { [T::from(255); N] };
                assert_eq!(*column, expected);
            }
        }
    }

    #[test]
    fn rows_become_columns_in_every_size() {
        rows_become_columns::<u16, 8>();
        rows_become_columns::<u32, 4>();
        rows_become_columns::<u64, 2>();
    }
}
