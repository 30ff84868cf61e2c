//! Levels <-> weights (FORMAT.md, section 5.1). WGSL twin: `quantize.wgsl`.
//!
//! Everything up to the scale of an element is integer arithmetic or exact; one float multiplication follows, then an
//! integer-only cast. A GPU may round the multiplication differently by one unit in the last place, and nothing else.

use crate::error::{Error, Result};
#[cfg(feature = "encoder")]
use crate::format::LEVEL_END;
use crate::format::{EXPONENT_STEPS, ROOTS, SCALE_MAX, SCALE_MIN};

/// Whether a scale may be used: positive and far enough from both ends that no weight overflows or turns subnormal.
pub fn is_scale(scale: f32) -> bool {
    (SCALE_MIN..=SCALE_MAX).contains(&scale)
}

/// `S(e)`: the step between levels at exponent `e`.
///
/// ```
/// use mcwc::stages::quantize::{scale_at, to_bf16, to_f16};
/// assert_eq!([0, 16, -32].map(|exponent| scale_at(0.5, exponent)), [0.5, 1.0, 0.125]);
/// assert_eq!([to_f16(-3.0 * 0.5), to_bf16(-3.0 * 0.5)], [0xbe00, 0xbfc0]);
/// ```
#[expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    reason = "a remainder is one of 16 roots, and octaves are clamped"
)]
pub fn scale_at(scale: f32, exponent: i32) -> f32 {
    let root = f32::from_bits(ROOTS[exponent.rem_euclid(EXPONENT_STEPS) as usize]);
    let octaves = exponent.div_euclid(EXPONENT_STEPS).clamp(-126, 127);
    // A power of two in f64 keeps the product exact; one rounding, of `scale * root`, has been made before.
    (f64::from(scale * root) * f64::from(f32::from_bits(((127 + octaves) as u32) << 23))) as f32
}

/// `S(e)` for every `e` between two exponents, first and last included.
///
/// # Errors
/// `Invalid` if one of them is out of the range of scales.
pub fn scales(scale: f32, first: i32, last: i32) -> Result<Vec<f32>> {
    let scales: Vec<f32> = (first..=last).map(|exponent| scale_at(scale, exponent)).collect();
    if scales.iter().all(|&scale| is_scale(scale)) {
        Ok(scales)
    } else {
        Err(Error::invalid("scale", "an exponent takes it out of range"))
    }
}

/// Bits of the f16 nearest to a finite float32, ties to even, saturating at the largest finite value.
#[expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "exponents have been compared; 16 bits remain"
)]
pub fn to_f16(weight: f32) -> u16 {
    let bits = weight.to_bits();
    let sign = bits >> 16 & 0x8000;
    let magnitude = bits & 0x7fff_ffff;
    let half = if magnitude < 113 << 23 {
        // Subnormal in f16: shift the whole significand so that its unit is 2^-24.
        let shift = 126 - (magnitude >> 23);
        if shift > 24 { 0 } else { round_shift(magnitude & 0x7f_ffff | 0x80_0000, shift) }
    } else {
        round_shift(magnitude - (112 << 23), 13).min(0x7bff)
    };
    (sign | half) as u16
}

/// Bits of the bf16 nearest to a finite float32, ties to even, saturating at the largest finite value.
#[expect(clippy::cast_possible_truncation, reason = "16 bits remain")]
pub fn to_bf16(weight: f32) -> u16 {
    let bits = weight.to_bits();
    (bits >> 16 & 0x8000 | round_shift(bits & 0x7fff_ffff, 16).min(0x7f7f)) as u16
}

/// `value / 2^shift`, ties to even; `shift` from 1 to 24.
#[expect(clippy::arithmetic_side_effects, reason = "31 bits and less than half of them more")]
fn round_shift(value: u32, shift: u32) -> u32 {
    let half_less_one = (1 << (shift - 1)) - 1;
    (value + half_less_one + (value >> shift & 1)) >> shift
}

/// The level nearest to a weight.
#[cfg(feature = "encoder")]
#[expect(clippy::cast_possible_truncation, reason = "clamped")]
pub fn quantize(weight: f32, inverse_scale: f32) -> i32 {
    let limit = (LEVEL_END - 1) as f32;
    (weight * inverse_scale).round_ties_even().clamp(-limit, limit) as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{EXPONENT_MAX, EXPONENT_MIN};
    use proptest::prelude::*;

    #[test]
    fn roots_are_the_nearest_floats() {
        for (k, &bits) in ROOTS.iter().enumerate() {
            assert_eq!(f32::from_bits(bits), (k as f64 / 16.0).exp2() as f32);
        }
    }

    #[test]
    fn whole_octaves_are_exact() {
        for octaves in -20..20 {
            assert_eq!(scale_at(0.37, 16 * octaves), 0.37 * (octaves as f32).exp2());
        }
    }

    #[test]
    fn refuses_scales_out_of_range() {
        assert!(scales(1.0, EXPONENT_MIN, EXPONENT_MAX).is_ok());
        assert!(scales(SCALE_MAX, 0, 1).is_err());
        assert!(scales(SCALE_MIN, -1, 0).is_err());
        assert!([0.0, -1.0, f32::NAN, f32::INFINITY, 1e-38].into_iter().all(|scale| !is_scale(scale)));
    }

    #[test]
    fn casts_saturate() {
        assert_eq!((to_f16(1e30), to_f16(-65520.0), to_bf16(-f32::MAX)), (0x7bff, 0xfbff, 0xff7f));
    }

    proptest! {
        #[test]
        fn casts_agree_with_the_half_crate(bits: u32) {
            let weight = f32::from_bits(bits);
            prop_assume!(weight.is_finite());
            let (f16, bf16) = (half::f16::from_f32(weight), half::bf16::from_f32(weight));
            if f16.is_finite() { prop_assert_eq!(to_f16(weight), f16.to_bits()); }
            if bf16.is_finite() { prop_assert_eq!(to_bf16(weight), bf16.to_bits()); }
        }

        #[test]
        fn small_weights_cast_to_subnormals(weight in -7e-5f32..7e-5) {
            prop_assert_eq!(to_f16(weight), half::f16::from_f32(weight).to_bits());
        }
    }
}
