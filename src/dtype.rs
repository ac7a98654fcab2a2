//! The four floating-point formats that can be filled, and the two half formats as plain bits.
//!
//! `float16` and `bfloat16` have no stable Rust type; here they are transparent wrappers of their 16 bits, so
//! that an array of them can be viewed as `u16` (and, in Python, as `numpy.float16` or `ml_dtypes.bfloat16`).
#![forbid(unsafe_code)]

use std::fmt;

/// The format of the elements of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dtype {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary64.
    F64,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32: 8 exponent bits, 7 stored fraction bits.
    Bf16,
}

impl Dtype {
    /// The name that NumPy and the frameworks use: `"float32"`, `"float64"`, `"float16"` or `"bfloat16"`.
    pub const fn name(self) -> &'static str {
        match self {
            Dtype::F32 => "float32",
            Dtype::F64 => "float64",
            Dtype::F16 => "float16",
            Dtype::Bf16 => "bfloat16",
        }
    }

    /// Bytes per element.
    pub const fn size(self) -> usize {
        match self {
            Dtype::F32 => 4,
            Dtype::F64 => 8,
            Dtype::F16 | Dtype::Bf16 => 2,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The 16 bits of an IEEE 754 binary16 number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct F16(pub u16);

/// The 16 bits of a bfloat16 number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Bf16(pub u16);

impl F16 {
    /// `x` rounded once, to nearest even; beyond 65519.996 it is infinite, and a NaN stays a NaN.
    pub const fn from_f32(x: f32) -> F16 {
        let bits = x.to_bits();
        let sign = (bits >> 16) as u16 & 0x8000;
        let magnitude = bits & 0x7fff_ffff;
        let half = if magnitude > 0x7f80_0000 {
            0x7e00
        } else if magnitude >= 0x4780_0000 {
            // 2^16 and above, including infinity.
            0x7c00
        } else if magnitude >= 0x3880_0000 {
            // A normal number of binary16: re-bias the exponent (127 - 15 = 112) and round away 13 bits.
            // A carry out of the fraction goes into the exponent, as it should, up to infinity.
            let rebiased = magnitude - (112 << 23);
            ((rebiased + 0x0fff + ((rebiased >> 13) & 1)) >> 13) as u16
        } else if magnitude > 0x3300_0000 {
            // Subnormal in binary16, whose unit is 2^-24: shift the significand into place and round.
            let shift = 126 - (magnitude >> 23);
            let significand = (magnitude & 0x007f_ffff) | 0x0080_0000;
            let floor = significand >> shift;
            let rest = significand & ((1 << shift) - 1);
            let tie = 1 << (shift - 1);
            (floor + (rest > tie || (rest == tie && floor & 1 == 1)) as u32) as u16
        } else {
            // At most 2^-25, half the unit: to even, which is zero.
            0
        };
        F16(sign | half)
    }

    /// The same number as an `f32`: exact.
    pub const fn to_f32(self) -> f32 {
        let sign = (self.0 as u32 & 0x8000) << 16;
        let exponent = (self.0 as u32 >> 10) & 0x1f;
        let fraction = self.0 as u32 & 0x3ff;
        let magnitude = match (exponent, fraction) {
            (0, 0) => 0,
            (0, _) => {
                // Subnormal: fraction * 2^-24, normalized.
                let shift = fraction.leading_zeros() - 21;
                ((113 - shift) << 23) | ((fraction << (shift + 13)) & 0x007f_ffff)
            }
            (31, _) => 0x7f80_0000 | (fraction << 13),
            _ => ((exponent + 112) << 23) | (fraction << 13),
        };
        f32::from_bits(sign | magnitude)
    }
}

impl Bf16 {
    /// `x` rounded once, to nearest even; a NaN stays a NaN.
    pub const fn from_f32(x: f32) -> Bf16 {
        let bits = x.to_bits();
        if bits & 0x7fff_ffff > 0x7f80_0000 {
            return Bf16((bits >> 16) as u16 | 0x0040);
        }
        Bf16(((bits + 0x7fff + ((bits >> 16) & 1)) >> 16) as u16)
    }

    /// The same number as an `f32`: exact.
    pub const fn to_f32(self) -> f32 {
        f32::from_bits((self.0 as u32) << 16)
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
    impl Sealed for super::F16 {}
    impl Sealed for super::Bf16 {}
}

/// A type of element that can be filled: `f32`, `f64`, [`F16`] or [`Bf16`]. Sealed.
pub trait Element: sealed::Sealed + Copy + Default + PartialEq + fmt::Debug + Send + Sync + 'static {
    /// The format.
    const DTYPE: Dtype;

    /// `x` in this format, rounded to nearest even. For the half types it is rounded to `f32` first, so that
    /// a half constant is the `f32` constant rounded, like every other half value.
    fn from_f64(x: f64) -> Self;

    /// The same number as an `f64`: exact.
    fn to_f64(self) -> f64;

    /// The bits of the number, in the low part.
    fn to_bits(self) -> u64;
}

impl Element for f32 {
    const DTYPE: Dtype = Dtype::F32;
    fn from_f64(x: f64) -> Self {
        x as f32
    }
    fn to_f64(self) -> f64 {
        self as f64
    }
    fn to_bits(self) -> u64 {
        f32::to_bits(self) as u64
    }
}

impl Element for f64 {
    const DTYPE: Dtype = Dtype::F64;
    fn from_f64(x: f64) -> Self {
        x
    }
    fn to_f64(self) -> f64 {
        self
    }
    fn to_bits(self) -> u64 {
        f64::to_bits(self)
    }
}

impl Element for F16 {
    const DTYPE: Dtype = Dtype::F16;
    fn from_f64(x: f64) -> Self {
        F16::from_f32(x as f32)
    }
    fn to_f64(self) -> f64 {
        self.to_f32() as f64
    }
    fn to_bits(self) -> u64 {
        self.0 as u64
    }
}

impl Element for Bf16 {
    const DTYPE: Dtype = Dtype::Bf16;
    fn from_f64(x: f64) -> Self {
        Bf16::from_f32(x as f32)
    }
    fn to_f64(self) -> f64 {
        self.to_f32() as f64
    }
    fn to_bits(self) -> u64 {
        self.0 as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_agree_with_an_independent_library() {
        // Every f16 and bf16, each f32 half-way between two neighbours, and the f32 on either side of that.
        for bits in 0..=u16::MAX {
            let f16 = half::f16::from_bits(bits);
            let bf16 = half::bf16::from_bits(bits);
            if !f16.is_nan() {
                assert_eq!(F16(bits).to_f32().to_bits(), f16.to_f32().to_bits());
            }
            if !bf16.is_nan() {
                assert_eq!(Bf16(bits).to_f32().to_bits(), bf16.to_f32().to_bits());
            }
            for x in [f16.to_f32(), bf16.to_f32()] {
                for step in [0, 1, 0x0fff, 0x1000, 0x1001, 0x7fff, 0x8000, 0x8001] {
                    let y = f32::from_bits(x.to_bits().wrapping_add(step));
                    if y.is_nan() {
                        assert!(F16::from_f32(y).to_f32().is_nan() && Bf16::from_f32(y).to_f32().is_nan());
                    } else {
                        assert_eq!(F16::from_f32(y).0, half::f16::from_f32(y).to_bits(), "{y:e}");
                        assert_eq!(Bf16::from_f32(y).0, half::bf16::from_f32(y).to_bits(), "{y:e}");
                    }
                }
            }
        }
    }
}
