//! What counts as the same where a GPU made it.

use mcwc::gpu::{cast, transform_tolerances};
use mcwc::tensor::DType;

/// Elements further apart than the contract allows.
pub fn differences(dtype: DType, expected: &[u8], found: &[u8]) -> usize {
    assert_eq!(expected.len(), found.len());
    let element_bytes = (dtype.bits() / 8) as usize;
    let elements = expected.chunks_exact(element_bytes).zip(found.chunks_exact(element_bytes));
    elements.filter(|(expected, found)| distance(dtype, expected, found) > u64::from(dtype.is_float())).count()
}

/// As [`differences`], of weights in kernels of so many taps under a transform, in a tensor that is the transpose of a matrix
/// of so many rows if it has any: made of elements of type `from`, and held to the tolerances for those.
pub fn transform_differences(
    [from, to]: [DType; 2],
    (taps, rows): (usize, Option<usize>),
    expected: &[u8],
    found: &[u8],
) -> usize {
    assert_eq!(expected.len(), found.len());
    let element_bytes = to.element_bytes();
    let floats = |bytes: &[u8]| -> Vec<f32> {
        let floats = cast(bytes, to, DType::F32).unwrap();
        floats.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
    };
    let [weights, made] = [expected, found].map(floats);
    let tolerances = transform_tolerances(&weights, from, taps, rows);
    let is_far = |&at: &usize| {
        let range = at * element_bytes..(at + 1) * element_bytes;
        // Where a sum is beyond the range, any value will do; elsewhere none that is no number.
        let is_close = tolerances[at].is_infinite() || (weights[at] - made[at]).abs() <= tolerances[at];
        distance(to, &expected[range.clone()], &found[range]) > 1 && !is_close
    };
    (0..weights.len()).filter(is_far).count()
}

/// Steps between two elements: units in the last place for floats. A float64 holds a widened float32, and counts as that.
fn distance(dtype: DType, a: &[u8], b: &[u8]) -> u64 {
    let ordered = |bytes: &[u8]| {
        let raw = bytes.iter().rev().fold(0u64, |value, &byte| value << 8 | u64::from(byte));
        let (raw, bits) = match dtype {
            DType::F64 if f64::from(f64::from_bits(raw) as f32).to_bits() != raw => return i64::MIN / 2,
            DType::F64 => (u64::from((f64::from_bits(raw) as f32).to_bits()), 32),
            _ => (raw, dtype.bits()),
        };
        let sign = 1 << (bits - 1);
        if dtype.is_float() && raw & sign != 0 { -((raw & !sign) as i64) } else { raw as i64 }
    };
    ordered(a).abs_diff(ordered(b))
}
