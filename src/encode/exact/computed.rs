//! Weights -> whether they were computed, and not learned: loss would do more harm there than its share, so they stay exact.

use crate::tensor::Shape;

/// Whether weights are ids and counts, or the filters of a transform.
pub fn are_computed(weights: &[f32], shape: &Shape) -> bool {
    are_ids(weights) || are_filters(weights, shape)
}

/// Whether weights are whole numbers beyond those that quantized ones have.
fn are_ids(weights: &[f32]) -> bool {
    weights.iter().all(|weight| weight.fract() == 0.0) && weights.iter().any(|weight| weight.abs() > ID_MIN)
}

/// From here on a whole number is an id, a count or a place.
const ID_MIN: f32 = 255.0;

/// Whether weights are filters of linear phase along some axis: the same forwards and backwards, but for one sign. Fourier and cosine
/// transforms are, with their windows, and wavelets; what is learned hardly ever is. Signals span a wider range than weights do: what
/// errors of such a filter let through of a loud band drowns a faint one, and the logarithm that often follows makes them alike.
fn are_filters(weights: &[f32], shape: &Shape) -> bool {
    let mut stride = weights.len();
    shape.0.iter().any(|&extent| {
        let len = extent as usize;
        stride /= len.max(1);
        (FILTER_LEN_MIN..=FILTER_LEN_MAX).contains(&len) && are_mirrored(weights, len, stride)
    })
}

/// Whether most of some filters of this length are mirror images of themselves, those that tell nothing left out. Elements of a filter lie `stride` apart.
fn are_mirrored(weights: &[f32], len: usize, stride: usize) -> bool {
    let count = weights.len() / len;
    let filter = |index: usize| {
        let first = index / stride * len * stride + index % stride;
        weights[first..].iter().step_by(stride).take(len).copied().collect::<Vec<_>>()
    };
    let seen = (0..count).step_by(count.div_ceil(FILTERS_SEEN).max(1));
    let told: Vec<Option<bool>> = seen.map(|index| is_mirrored(&filter(index))).collect();
    let mirrored = told.iter().filter(|&&told| told == Some(true)).count();
    2 * mirrored > told.iter().flatten().count() && TELLING_PART * mirrored >= told.len()
}

/// Whether a filter is its mirror image; `None` if it is short or constant.
fn is_mirrored(filter: &[f32]) -> Option<bool> {
    let first = filter.iter().position(|&weight| weight != 0.0)?;
    let last = filter.iter().rposition(|&weight| weight != 0.0)?;
    if last - first + 1 < FILTER_LEN_MIN || range(filter) == 0.0 {
        return None;
    }
    // Around the middle of what is not zero, or of a period, whose first element has no other.
    let parts = [&filter[first..=last], &filter[1..]];
    Some(parts.iter().any(|part| {
        let error_max = range(part) * MIRROR_ERROR_MAX;
        [1.0, -1.0].iter().any(|sign| {
            let mut pairs = part.iter().zip(part.iter().rev());
            pairs.all(|(weight, mirrored)| (weight - sign * mirrored).abs() <= error_max)
        })
    }))
}

fn range(weights: &[f32]) -> f32 {
    let bounds = [f32::INFINITY, f32::NEG_INFINITY];
    let [low, high] = weights.iter().fold(bounds, |[low, high], &weight| [low.min(weight), high.max(weight)]);
    high - low
}

/// Longer ones are not of a transform.
const FILTER_LEN_MAX: usize = 1 << 16;
/// Shorter filters are alike by chance.
const FILTER_LEN_MIN: usize = 8;
/// How many filters tell of the others.
const FILTERS_SEEN: usize = 64;
/// One in so many has to tell at least.
const TELLING_PART: usize = 8;
/// What the halves of a filter may differ by, as a part of its range: half types round it, and windows lie half a sample off.
const MIRROR_ERROR_MAX: f32 = 1.0 / 64.0;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Noise;
    use std::f32::consts::TAU;

    const LEN: usize = 64;

    /// Bins of a Fourier transform, cosines and then sines.
    fn fourier(window: impl Fn(f32) -> f32) -> Vec<f32> {
        let wave = |row: usize, at: usize| match (row / 33, (row % 33 * at) as f32 * TAU / LEN as f32) {
            (0, phase) => phase.cos(),
            (_, phase) => phase.sin(),
        };
        let cells = (0..66).flat_map(|row| (0..LEN).map(move |at| (row, at)));
        cells.map(|(row, at)| wave(row, at) * window(at as f32 / LEN as f32)).collect()
    }

    fn transposed(weights: &[f32], columns: usize) -> Vec<f32> {
        (0..weights.len())
            .map(|at| weights[at % (weights.len() / columns) * columns + at / (weights.len() / columns)])
            .collect()
    }

    fn shape(extents: &[u64]) -> Shape {
        Shape(extents.to_vec())
    }

    #[test]
    fn transforms_are_filters_along_any_axis() {
        for window in [|_| 1.0, |at: f32| 0.5 - 0.5 * (TAU * at).cos()] {
            let basis = fourier(window);
            assert!(are_filters(&basis, &shape(&[66, 1, LEN as u64])));
            assert!(are_filters(&transposed(&basis, LEN), &shape(&[1, LEN as u64, 1, 66])));
            let rounded: Vec<f32> = basis.iter().map(|weight| f32::from_bits(weight.to_bits() & 0xffff_0000)).collect();
            assert!(are_filters(&rounded, &shape(&[66, LEN as u64])));
        }
    }

    #[test]
    fn wavelets_of_any_length_are_filters() {
        let wavelet = |row: usize, at: usize| {
            let (half, place) = (10.0 + row as f32, at as f32 - 32.0);
            if place.abs() < half { (0.5 + 0.5 * (place / half * TAU / 2.0).cos()) * (0.3 * place).sin() } else { 0.0 }
        };
        let wavelets: Vec<f32> = (0..20 * LEN).map(|at| wavelet(at / LEN, at % LEN)).collect();
        assert!(are_filters(&wavelets, &shape(&[20, 1, 1, LEN as u64])));
    }

    #[test]
    fn what_is_learned_is_no_filter() {
        let mut random = Noise(1);
        let normals = random.normals(64 * LEN, 0.1);
        let smooth: Vec<f32> = normals
            .iter()
            .scan(0.0, |sum, weight| {
                *sum = 0.9 * *sum + weight;
                Some(*sum)
            })
            .collect();
        let pruned: Vec<f32> = normals.iter().map(|&weight| if weight.abs() < 0.2 { 0.0 } else { weight }).collect();
        let signs: Vec<f32> = normals.iter().map(|weight| 0.1f32.copysign(*weight)).collect();
        let even: Vec<f32> = normals.iter().map(|weight| 1.0 + 0.01 * weight).collect();
        for weights in [normals, smooth, pruned, signs, even, vec![0.0; 64 * LEN]] {
            assert!(!are_filters(&weights, &shape(&[64, LEN as u64])));
            assert!(!are_filters(&weights, &shape(&[8, 8, 64])));
            assert!(!are_filters(&weights, &shape(&[LEN as u64 * 16, 4])));
        }
    }
}
