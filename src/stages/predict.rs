//! Levels of a reference -> predictions (FORMAT.md, section 5.5).

use crate::format::{GAIN_BITS, GAIN_ONE};

/// What a level of the reference predicts, at a gain in 1/256.
#[expect(clippy::arithmetic_side_effects, clippy::cast_possible_truncation, reason = "16 bits of gain and 25 of level")]
pub fn prediction(reference: i32, gain: i32) -> i32 {
    ((i64::from(gain) * i64::from(reference) + i64::from(GAIN_ONE / 2)) >> GAIN_BITS) as i32
}

/// Takes a row of levels, none of them larger than `bound`, to what they predict, in floats: single precision holds the levels
/// exactly, and double precision, or single where they are small, their products with gains.
#[expect(
    clippy::cast_possible_truncation,
    reason = "double precision holds the products, and a level is exact as a float"
)]
pub fn predict(levels: &mut [f32], bound: u64, gain: i32) {
    let factor = gain as f32 / GAIN_ONE as f32;
    if gain == GAIN_ONE {
        return;
    }
    if bound.saturating_mul(gain.unsigned_abs().into()) < 1 << 23 {
        let (fours, rest) = levels.as_chunks_mut();
        fours.iter_mut().for_each(|levels| *levels = predict_four(*levels, factor));
        rest.iter_mut().for_each(|level| *level = predict_four([*level; 4], factor)[0]);
    } else {
        let wide = |level: f32| (f64::from(level) * f64::from(factor) + 0.5).floor() as f32;
        levels.iter_mut().for_each(|level| *level = wide(*level));
    }
}

/// Predictions in single precision. A compiler that looks for the smallest code leaves such arrays in pieces.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
fn predict_four(levels: [f32; 4], factor: f32) -> [f32; 4] {
    use core::arch::wasm32::{f32x4_add, f32x4_floor, f32x4_mul, f32x4_splat};
    let scaled = f32x4_mul(bytemuck::cast(levels), f32x4_splat(factor));
    bytemuck::cast(f32x4_floor(f32x4_add(scaled, f32x4_splat(0.5))))
}

/// Predictions in single precision.
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
fn predict_four(levels: [f32; 4], factor: f32) -> [f32; 4] {
    levels.map(|level| (level * factor + 0.5).floor())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_to_the_nearest_level_and_ties_upwards() {
        let of = |gain| [-3, -1, 0, 1, 2, 3].map(|level| prediction(level, gain));
        assert_eq!(of(256), [-3, -1, 0, 1, 2, 3]);
        assert_eq!(of(128), [-1, 0, 0, 1, 1, 2]);
        assert_eq!(of(-256), [3, 1, 0, -1, -2, -3]);
        assert_eq!(of(768), [-9, -3, 0, 3, 6, 9]);
        assert_eq!(prediction(-(1 << 24) + 1, i16::MIN.into()), ((1 << 24) - 1) << 7);
    }

    #[test]
    fn floats_predict_what_integers_do() {
        for gain in [256, 255, 257, -256, 128, 1, 0, -1, 700, -12345, i32::from(i16::MIN), i32::from(i16::MAX)] {
            for level in [0i32, 1, -1, 2, -3, 127, -128, 255, -256, 257, 1000, -32769, (1 << 24) - 1, 1 - (1 << 24)] {
                let mut levels = [level as f32; 10];
                predict(&mut levels, level.unsigned_abs().into(), gain);
                assert_eq!(levels, [prediction(level, gain) as f32; 10], "{level} at {gain}");
            }
        }
    }
}
