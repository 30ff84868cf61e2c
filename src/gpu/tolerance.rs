//! Weights under a transform -> how far those of a GPU may be from the CPU's (FORMAT.md, section 5.3).
//!
//! A tap is a sum of as many products as a kernel has taps, and a device may fuse its multiplications and additions, or order
//! them in its own way. Whatever it does, no product is rounded more than `taps + 1` times, by 2^-24 of its size, and their
//! sizes add up to no more than the kernel's Euclidean norm, as the basis is orthonormal. Up to 24 taps that proves the format's
//! bound; beyond, roundings would all have to point one way to break it.

use crate::tensor::DType;

/// For each weight of a tensor of kernels, how far it may be from what the CPU makes of it, in `dtype` or cast from that: 2^-16 of
/// the largest of its kernel, and a unit in the last place.
///
/// The tensor is the transpose of a matrix of so many rows if it has any.
pub fn transform_tolerances(weights: &[f32], dtype: DType, taps: usize, rows: Option<usize>) -> Vec<f32> {
    let kernel = |index: usize| match rows {
        Some(rows) => index / (taps * rows) * rows + index % rows,
        None => index / taps,
    };
    let mut largest = vec![0.0f32; weights.len() / taps];
    for (index, weight) in weights.iter().enumerate() {
        largest[kernel(index)] = largest[kernel(index)].max(weight.abs());
    }
    // A GPU may give any value where a sum is out of range; casts to 16 bits saturate there.
    let most = match dtype {
        DType::F16 => 65504.0,
        DType::BF16 => f32::from_bits(0x7f7f_0000),
        _ => f32::MAX,
    };
    largest.iter_mut().filter(|largest| **largest >= most).for_each(|largest| *largest = f32::INFINITY);
    let unit = |weight: f32| match dtype {
        DType::F16 => weight.abs().max(1.0 / f32::from(1u16 << 14)) / f32::from(1u16 << 10),
        DType::BF16 => weight.abs() / f32::from(1u16 << 7),
        _ => weight.abs() * f32::EPSILON,
    };
    let tolerance = |(index, &weight)| largest[kernel(index)] / (1 << 16) as f32 + unit(weight);
    weights.iter().enumerate().map(tolerance).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_lie_together_or_across_the_rows() {
        let largest = |rows| -> Vec<f32> {
            let tolerances = transform_tolerances(&[3.0, 2.0, 5.0, 0.0], DType::F32, 2, rows);
            tolerances.iter().map(|tolerance| (tolerance * 65536.0).round()).collect()
        };
        assert_eq!(largest(None), [3.0, 3.0, 5.0, 5.0]);
        assert_eq!(largest(Some(2)), [5.0, 2.0, 5.0, 2.0]);
    }

    #[test]
    fn sums_out_of_range_may_be_anything() {
        for (dtype, most) in [(DType::F16, 65504.0), (DType::BF16, 3.3895314e38), (DType::F32, f32::INFINITY)] {
            let tolerances = transform_tolerances(&[1.0, most, 1.0, 1.0], dtype, 2, None);
            let are_finite: Vec<bool> = tolerances.iter().map(|tolerance| tolerance.is_finite()).collect();
            assert_eq!(are_finite, [false, false, true, true], "{dtype:?}");
        }
    }

    #[test]
    fn types_of_fewer_bits_add_their_unit() {
        let tolerance = |dtype| transform_tolerances(&[1.0, 0.0], dtype, 2, None)[0] - 1.0 / 65536.0;
        let units = [DType::F32, DType::F16, DType::BF16].map(tolerance);
        assert_eq!(units, [0.5f32.powi(23), 0.5f32.powi(10), 0.5f32.powi(7)]);
    }
}
