//! Levels of a reference -> predictions (FORMAT.md, section 5.5).

use crate::container::GAIN_ONE;

/// What a level of the reference predicts, at a gain in 1/256.
pub fn prediction(reference: i32, gain: i32) -> i32 {
    ((i64::from(gain) * i64::from(reference) + 128) >> 8) as i32
}

/// Predicts a row of levels in floats, which hold levels, and in double precision their products with gains, exactly.
pub fn predict(reference: &[f32], gain: i32, predictions: &mut [f32]) {
    let factor = f64::from(gain) / f64::from(GAIN_ONE);
    let pairs = predictions.iter_mut().zip(reference);
    match gain {
        GAIN_ONE => pairs.for_each(|(level, &reference)| *level = reference),
        _ => pairs.for_each(|(level, &reference)| *level = (f64::from(reference) * factor + 0.5).floor() as f32),
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
        for gain in [256, 255, 257, -256, 128, 1, 0, -1, 700, i32::from(i16::MIN), i32::from(i16::MAX)] {
            let reference = [0, 1, -1, 2, -3, 127, -128, 1000, -32769, (1 << 24) - 1, 1 - (1 << 24)];
            let mut predictions = [7.0; 11];
            predict(&reference.map(|level| level as f32), gain, &mut predictions);
            assert_eq!(predictions, reference.map(|level| prediction(level, gain) as f32), "{gain}");
        }
    }
}
