//! Floats of which whole values repeat, as those of computed tables and pruned weights do: planes of their bytes cannot see it,
//! copies can.

use std::collections::{BTreeMap, HashSet};

use super::planes::{encode_elements, encode_plane};
use crate::encode::portable::log2;
use crate::tensor::DType;

/// Whether the same values occur again and again: what repeats less is not worth trying.
pub fn have_repeats(bytes: &[u8], dtype: DType) -> bool {
    REPEATS_MIN * distinct_len(bytes, dtype) * dtype.element_bytes() < bytes.len()
}

fn distinct_len(bytes: &[u8], dtype: DType) -> usize {
    bytes.chunks_exact(dtype.element_bytes()).collect::<HashSet<_>>().len()
}

/// Whether floats take less in the raw stream, where they are bytes like others, than as planes; and, if they may be coded with loss,
/// less than the bytes that they take then. `adaptive`: whether long planes may adapt.
pub fn are_smaller_raw(bytes: &[u8], dtype: DType, lossy_bytes: Option<f64>, adaptive: bool) -> bool {
    let lossy_bytes = lossy_bytes.unwrap_or(f64::INFINITY);
    if lossy_bytes < (NEW_VALUE_BYTES * distinct_len(bytes, dtype)) as f64 {
        return false;
    }
    let least = encode_plane(bytes).len() as f64 / RAW_PART;
    least < lossy_bytes && least < encode_elements(bytes, dtype, adaptive).len() as f64
}

/// What values take with a mean relative squared error, or with so many bits for each if that is less, about: by how often each
/// level occurs.
pub fn lossy_bytes(values: &[f32], error: f64, bits_max: f64) -> f64 {
    let squares = values.iter().map(|&value| f64::from(value) * f64::from(value));
    let step = (12.0 * error * squares.sum::<f64>() / values.len().max(1) as f64).sqrt();
    let mut counts = BTreeMap::new();
    for &value in values {
        *counts.entry((f64::from(value) / step).round() as i32).or_insert(0u32) += 1;
    }
    let bits = |&count: &u32| f64::from(count) * log2(values.len() as f64 / f64::from(count));
    counts.values().map(bits).sum::<f64>().min(bits_max * values.len() as f64) / 8.0
}

/// How often a value occurs.
const REPEATS_MIN: usize = 2;
/// What a value takes at least where it first occurs.
const NEW_VALUE_BYTES: usize = 2;
/// What must be saved: a frame can be predicted, is read by itself, and its planes are decoded faster than copies.
const RAW_PART: f64 = 0.9;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Noise;

    fn bytes(values: impl Iterator<Item = f32>) -> Vec<u8> {
        values.flat_map(f32::to_le_bytes).collect()
    }

    #[test]
    fn few_values_and_mostly_zeros_are_smaller_as_bytes() {
        let mut random = Noise(4);
        let palette = random.normals(64, 0.1);
        let palette = bytes((0..1 << 15).map(|_| palette[random.below(64)]));
        let pruned: Vec<f32> = random
            .normals(1 << 15, 0.1)
            .into_iter()
            .map(|weight| if weight.abs() < 0.2 { 0.0 } else { weight })
            .collect();
        for weights in [palette, bytes(pruned.into_iter())] {
            assert!(have_repeats(&weights, DType::F32) && are_smaller_raw(&weights, DType::F32, None, false));
        }
    }

    #[test]
    fn what_is_learned_keeps_its_planes() {
        let normals = bytes(Noise(3).normals(1 << 14, 0.1).into_iter());
        assert!(!have_repeats(&normals, DType::F32) && !are_smaller_raw(&normals, DType::F32, None, false));
    }
}
