//! Residuals + prediction <-> levels (FORMAT.md, section 5.5).

use crate::container::GAIN_ONE;
use crate::error::{Error, Result};
use crate::stages::quantize::LEVEL_END;

/// What a level of the reference predicts, at a gain in 1/256.
pub fn prediction(reference: i32, gain: i32) -> i32 {
    ((i64::from(gain) * i64::from(reference) + 128) >> 8) as i32
}

/// Adds the prediction to a row of residuals. A reference may be shorter: it predicts zeros where it ends.
///
/// # Errors
/// `Invalid` if a level is out of range.
pub fn add(reference: &[i32], gain: i32, levels: &mut [i32]) -> Result<()> {
    let rows = levels.iter_mut().zip(reference);
    match gain {
        GAIN_ONE => rows.for_each(|(level, &reference)| *level += reference),
        _ => rows.for_each(|(level, &reference)| *level = level.saturating_add(prediction(reference, gain))),
    }
    let largest = levels.iter().fold(0u32, |largest, level| largest.max(level.unsigned_abs()));
    if largest < LEVEL_END as u32 { Ok(()) } else { Err(Error::invalid("level", "a prediction leads out of range")) }
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
    fn a_shorter_reference_predicts_zeros() {
        let mut levels = [1, 2, 3];
        add(&[10, -10], 512, &mut levels).unwrap();
        assert_eq!(levels, [21, -18, 3]);
    }

    #[test]
    fn refuses_levels_out_of_range() {
        for (level, gain) in [(1, 256), (0, 257), (-(1 << 25), 256), (0, i32::from(i16::MIN))] {
            let refused = add(&[(1 << 24) - 1], gain, &mut [level]);
            assert_eq!(refused.unwrap_err().code(), "invalid", "{level} {gain}");
        }
    }
}
