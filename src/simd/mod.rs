//! (skeleton)

/// Which instructions the kernels use. All levels give the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// One lane at a time: the definition.
    Scalar,
    /// 128-bit NEON (AArch64).
    Neon,
    /// 256-bit AVX2 with FMA and F16C.
    Avx2,
    /// 512-bit AVX-512 (F, BW, CD, DQ, VL).
    Avx512,
}

impl Level {
    /// The level in use.
    pub fn current() -> Level {
        Level::Scalar
    }
    /// The levels this machine can run, lowest first.
    pub fn available() -> &'static [Level] {
        &[Level::Scalar]
    }
    /// "scalar", "neon", "avx2", "avx512".
    pub fn name(self) -> &'static str {
        "scalar"
    }
}
