//! Floats of which whole values repeat, as those of computed tables and pruned weights do: planes of their bytes cannot see it,
//! copies can.

use std::collections::HashSet;

use super::planes::{encode_elements, encode_plane};
use crate::tensor::DType;

/// Whether the same values occur again and again: what repeats less is not worth trying.
pub fn have_repeats(bytes: &[u8], dtype: DType) -> bool {
    let distinct: HashSet<_> = bytes.chunks_exact(dtype.element_bytes()).collect();
    REPEATS_MIN * distinct.len() * dtype.element_bytes() < bytes.len()
}

/// Whether exact floats take less in the raw stream, where they are bytes like others, than as planes.
pub fn are_smaller_raw(bytes: &[u8], dtype: DType) -> bool {
    (encode_plane(bytes).len() as f64) < RAW_PART * encode_elements(bytes, dtype).len() as f64
}

/// How often a value occurs.
const REPEATS_MIN: usize = 2;
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
            assert!(have_repeats(&weights, DType::F32) && are_smaller_raw(&weights, DType::F32));
        }
    }

    #[test]
    fn what_is_learned_keeps_its_planes() {
        let normals = bytes(Noise(3).normals(1 << 14, 0.1).into_iter());
        assert!(!have_repeats(&normals, DType::F32) && !are_smaller_raw(&normals, DType::F32));
    }
}
