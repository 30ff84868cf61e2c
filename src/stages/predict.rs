//! Levels of a reference -> predictions (FORMAT.md, section 5.5).

use crate::container::GAIN_ONE;

/// What a level of the reference predicts, at a gain in 1/256.
pub fn prediction(reference: i32, gain: i32) -> i32 {
    ((i64::from(gain) * i64::from(reference) + 128) >> 8) as i32
}

/// Predicts a row of levels, none of them larger than `bound`, in floats: single precision holds the levels exactly, and
/// double precision, or single where they are small, their products with gains.
pub fn predict(reference: &[f32], bound: u64, gain: i32, predictions: &mut [f32]) {
    let factor = gain as f32 / GAIN_ONE as f32;
    let wide = |level: f32| (f64::from(level) * f64::from(factor) + 0.5).floor() as f32;
    let pairs = predictions.iter_mut().zip(reference);
    if gain == GAIN_ONE {
        pairs.for_each(|(prediction, &level)| *prediction = level);
    } else if bound * u64::from(gain.unsigned_abs()) < 1 << 23 {
        pairs.for_each(|(prediction, &level)| *prediction = (level * factor + 0.5).floor());
    } else {
        pairs.for_each(|(prediction, &level)| *prediction = wide(level));
    }
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
                let mut predictions = [7.0];
                predict(&[level as f32], level.unsigned_abs().into(), gain, &mut predictions);
                assert_eq!(predictions, [prediction(level, gain) as f32], "{level} at {gain}");
            }
        }
    }
}
