//! Fused multiply-adds of single numbers, rounded once on every platform. The C library of MinGW, which Rust calls
//! where no instruction is certain to be there, rounds twice (mingw-w64 bug 848), so there it is done in integers.

const IS_WRONG: bool = cfg!(all(windows, target_env = "gnu"));

/// `a * b + c`, rounded once.
#[inline(always)]
pub(crate) fn fma_f32(a: f32, b: f32, c: f32) -> f32 {
    if IS_WRONG { by_parts_f32(a, b, c) } else { a.mul_add(b, c) }
}

/// `a * b + c`, rounded once.
#[inline(always)]
pub(crate) fn fma_f64(a: f64, b: f64, c: f64) -> f64 {
    if IS_WRONG { by_parts_f64(a, b, c) } else { a.mul_add(b, c) }
}

/// The product is exact in double precision. The sum is rounded to odd, so that rounding it again is right.
fn by_parts_f32(a: f32, b: f32, c: f32) -> f32 {
    let (product, c) = (f64::from(a) * f64::from(b), f64::from(c));
    let sum = product + c;
    let from_c = sum - product;
    let rest = (product - (sum - from_c)) + (c - from_c);
    let is_odd = sum.to_bits() & 1 == 1;
    if rest == 0.0 || !rest.is_finite() || is_odd {
        return sum as f32;
    }
    let away = (rest > 0.0) == (sum > 0.0);
    f64::from_bits(if away { sum.to_bits() + 1 } else { sum.to_bits() - 1 }) as f32
}

/// The sum in 128 bits, in which everything below the last bit only sets that bit.
fn by_parts_f64(a: f64, b: f64, c: f64) -> f64 {
    if a == 0.0 || b == 0.0 || !a.is_finite() || !b.is_finite() {
        return a * b + c;
    }
    if !c.is_finite() {
        return c;
    }
    let ((sign_a, a, power_a), (sign_b, b, power_b)) = (parts(a), parts(b));
    let (sign_c, c, power_c) = parts(c);
    let mut high = aligned(sign_a != sign_b, a * b, power_a + power_b);
    let mut low = aligned(sign_c, c, power_c);
    if low.1 != 0 && (low.2, low.1) > (high.2, high.1) {
        (high, low) = (low, high);
    }
    let (negative, high, power) = high;
    let distance = power - low.2;
    let kept = if low.1 == 0 || distance > 127 { 0 } else { low.1 >> distance };
    let is_exact = low.1 == 0 || (distance < 128 && kept << distance == low.1);
    let low_bits = kept | u128::from(!is_exact);
    let sum = if negative == low.0 { high + low_bits } else { high - low_bits };
    rounded(negative && sum != 0, sum, power)
}

/// Sign, digits and power of two of a finite number.
fn parts(x: f64) -> (bool, u128, i32) {
    let bits = x.to_bits();
    let (exponent, digits) = ((bits >> 52 & 0x7ff) as i32, u128::from(bits & ((1 << 52) - 1)));
    if exponent == 0 {
        (bits >> 63 == 1, digits, -1074)
    } else {
        (bits >> 63 == 1, digits | 1 << 52, exponent - 1075)
    }
}

/// The same number with the greatest digit in bit 125, which leaves room for a sum; zero stays.
fn aligned(negative: bool, digits: u128, power: i32) -> (bool, u128, i32) {
    if digits == 0 {
        return (negative, 0, power);
    }
    let shift = digits.leading_zeros() as i32 - 2;
    (negative, digits << shift, power - shift)
}

/// The double nearest to digits times a power of two; of two, the even one.
fn rounded(negative: bool, digits: u128, power: i32) -> f64 {
    let length = 128 - digits.leading_zeros() as i32;
    let last = (power + length - 53).max(-1074);
    let shift = last - power;
    let number = if shift <= 0 {
        digits << -shift
    } else if shift > 127 {
        0
    } else {
        let (whole, rest, half) = (digits >> shift, digits & ((1_u128 << shift) - 1), 1_u128 << (shift - 1));
        whole + u128::from(rest > half || (rest == half && whole & 1 == 1))
    } as u64;
    // A carry out of the digits makes the exponent greater by one, as it should.
    let hidden = 1 << 52;
    let bits = if number < hidden { number } else { (((last + 1075) as u64) << 52) + (number - hidden) };
    f64::from_bits(bits.min(f64::INFINITY.to_bits()) | u64::from(negative) << 63)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::PhiloxStream;
    use rand_core::Rng;

    /// Numbers of which every product and sum has all that matters: near powers, halves, zero, the ends.
    #[test]
    fn parts_give_what_is_rounded_once() {
        let mut words = PhiloxStream::new(crate::Key::new(1));
        let special = [0.0, -0.0, 1.0, f64::MIN_POSITIVE, 5e-324, f64::MAX, f64::INFINITY, f64::NAN, 1e-160];
        for turn in 0..2_000_000_u32 {
            let [a, b, c] = [0; 3].map(|_| {
                let word = words.next_u64();
                // Of each eight numbers some are any, some near one with few digits, and one is special.
                match word >> 61 {
                    0 => special[(word % special.len() as u64) as usize],
                    1 => f64::from_bits(word << 3),
                    2 => f64::from_bits(word << 3 & !0 << 30 | 1 << 62),
                    _ => f64::from_bits(word & (1 << 63 | !0 >> 12) | (990 + (word >> 52 & 63)) << 52),
                }
            });
            let (found, right) = (by_parts_f64(a, b, c), libm::fma(a, b, c));
            assert!(
                found.to_bits() == right.to_bits() || found.is_nan() && right.is_nan(),
                "{turn}: {a:e} {b:e} {c:e}"
            );
            let (a, b, c) = (a as f32, b as f32, c as f32);
            let (found, right) = (by_parts_f32(a, b, c), libm::fmaf(a, b, c));
            assert!(
                found.to_bits() == right.to_bits() || found.is_nan() && right.is_nan(),
                "{turn}: {a:e} {b:e} {c:e}"
            );
        }
    }
}
