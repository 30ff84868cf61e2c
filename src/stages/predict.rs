//! Levels of a reference -> predictions (FORMAT.md, section 5.5).

use crate::container::GAIN_ONE;

/// What a level of the reference predicts, at a gain in 1/256.
pub fn prediction(reference: i32, gain: i32) -> i32 {
    ((i64::from(gain) * i64::from(reference) + 128) >> 8) as i32
}

/// Predicts a row of levels, in floats, which hold them exactly.
pub fn predict(reference: &[f32], gain: i32, predictions: &mut [f32]) {
    let pairs = predictions.iter_mut().zip(reference);
    match gain {
        GAIN_ONE => pairs.for_each(|(level, &reference)| *level = reference),
        _ => pairs.for_each(|(level, &reference)| *level = prediction(reference as i32, gain) as f32),
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
    fn predicts_rows() {
        let mut levels = [1.0; 3];
        predict(&[10.0, -10.0, 5.0], 256, &mut levels);
        assert_eq!(levels, [10.0, -10.0, 5.0]);
        predict(&[10.0, -10.0, 5.0], -128, &mut levels);
        assert_eq!(levels, [-5.0, 5.0, -2.0]);
    }
}
