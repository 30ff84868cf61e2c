//! Which earlier tensor a tensor may be predicted from, found before anything is quantized.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::encode::base::RESEMBLANCE;
use crate::encode::coded::{CodedTensor, Lossy};
use crate::encode::coded_weights::CodedWeights;
use crate::encode::levels::frame::{LevelPlan, Prediction};
use crate::encode::levels::matrix::Matrix;
use crate::encode::levels::model_fit::TOLD_BY_MIN;
use crate::encode::options::Options;
use crate::encode::portable::log2;
use crate::encode::progress::map_in_parts;
use crate::error::Result;
use crate::format::GAIN_ONE;
use crate::tensor::SIDE_ENTRIES;

/// An earlier tensor that a tensor resembles.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Which of the coded tensors.
    pub reference: usize,
    /// Regression on the reference, in units of both tensors' exponents: of all weights, or of each row.
    pub gains: Vec<f32>,
    /// The part of the tensor's energy that the best prediction leaves.
    pub unexplained: f64,
}

/// Rows' gains are multiples of this, in 1/256: finer ones cost more than they save.
const GAIN_GRID: f32 = 16.0;

impl Candidate {
    /// Whether a prediction leaves little of the tensor's energy.
    pub fn resembles(&self) -> bool {
        self.unexplained < RESEMBLANCE
    }

    /// Gain of a row.
    pub fn gain(&self, row: usize) -> f32 {
        self.gains[row.min(self.gains.len() - 1)]
    }

    /// Mean of the squared gains.
    pub fn gain_energy(&self) -> f64 {
        self.gains.iter().map(|&gain| f64::from(gain) * f64::from(gain)).sum::<f64>() / self.gains.len() as f64
    }

    /// The prediction of levels on one grid from levels on another.
    pub fn prediction(&self, frame: usize, plan: &LevelPlan, reference: &LevelPlan) -> Prediction {
        let ratio = reference.scale.unwrap_or(1.0) / plan.scale.unwrap_or(1.0) * GAIN_ONE as f32;
        let gain = |gain: f32| gain.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
        let mut prediction = Prediction::same([0, frame as u64]);
        match self.gains[..] {
            [one] => prediction.gain = gain((one * ratio).round()).into(),
            _ => {
                let row = |row: &f32| gain((row * ratio / GAIN_GRID).round() * GAIN_GRID);
                prediction.row_gain = self.gains.iter().map(row).collect();
            }
        }
        prediction
    }
}

/// Earlier tensors that others resemble enough for a prediction to be tried.
///
/// # Errors
/// Whatever is wrong with reading the weights.
pub fn candidates(lossy: &Lossy, options: &Options) -> Result<Vec<Option<Candidate>>> {
    let mut found: Vec<Option<Candidate>> = vec![None; lossy.coded.len()];
    if !options.prediction || options.key_interval < 2 || !options.passes.is_empty() {
        return Ok(found);
    }
    let mut promises = Vec::new();
    // One kind after another, as rows of all tensors would be too many.
    for tensors in kinds(&lossy.coded, options.key_interval) {
        promises.append(&mut promises_among(lossy, &tensors)?);
    }
    promises.sort_by_key(|promise| promise.index);
    for (index, reference) in chosen(promises, options.key_interval) {
        let row_len = lossy.coded[index].view.matrix.row_len();
        let likeness = Likeness::of_tensors(lossy, index, reference)?;
        let (gains, unexplained) = (likeness.gains(row_len), likeness.unexplained(row_len));
        found[index] = Some(Candidate { reference, gains, unexplained });
    }
    Ok(found)
}

/// Tensors that look alike from outside, where there are several, and readers accept the side arrays of a chain of them.
fn kinds(coded: &[CodedTensor], key_interval: usize) -> Vec<Vec<usize>> {
    let kind = |coded: &CodedTensor| (coded.view.matrix, coded.view.column_major, coded.view.basis.is_some());
    let mut kinds: Vec<Vec<usize>> = Vec::new();
    let may_predict = |coded: &CodedTensor| coded.base.is_none() && chain_fits(coded.view.matrix, key_interval);
    for (index, tensor) in coded.iter().enumerate().filter(|(_, coded)| may_predict(coded)) {
        match kinds.iter_mut().find(|tensors| kind(&coded[tensors[0]]) == kind(tensor)) {
            Some(tensors) => tensors.push(index),
            None => kinds.push(vec![index]),
        }
    }
    kinds.retain(|tensors| tensors.len() > 1);
    kinds
}

/// Whether readers accept the side arrays of so many frames, each predicted from the one before: classes, exponents and permutations, and
/// gains of rows.
fn chain_fits(matrix: Matrix, frames: usize) -> bool {
    let entries = 4 * matrix.rows + 2 * matrix.columns + 2 * matrix.taps + matrix.row_len();
    (frames * entries) as u64 <= SIDE_ENTRIES
}

/// What tensors of one kind promise each other.
fn promises_among(lossy: &Lossy, tensors: &[usize]) -> Result<Vec<Promise>> {
    let Matrix { rows, .. } = lossy.coded[tensors[0]].view.matrix;
    let row_len = lossy.coded[tensors[0]].view.matrix.row_len();
    let len = |_: &usize| SAMPLED_ROWS * row_len;
    let samples = map_in_parts(tensors.iter().copied(), len, |index| sampled_rows(&lossy.weights(index)?, rows))?;
    let worth = SAVED_BITS_MIN.max(SAVED_RATE_MIN * (rows * row_len) as f64);
    let promised = (0..tensors.len()).into_par_iter().flat_map_iter(|at| {
        let promise = |earlier: usize| {
            let likeness = Likeness::of(&samples[at], &samples[earlier], row_len);
            let bits = likeness.saved_bits(row_len).1 * rows as f64 / likeness.rows.len() as f64;
            Promise { index: tensors[at], reference: tensors[earlier], bits }
        };
        let mut promises: Vec<Promise> = (0..at).map(promise).filter(|promise| promise.bits > worth).collect();
        promises.sort_by(|a, b| b.bits.total_cmp(&a.bits));
        promises.truncate(REFERENCES_TRIED);
        promises
    });
    Ok(promised.collect())
}

/// The bits that predicting one tensor from another may save.
struct Promise {
    index: usize,
    reference: usize,
    bits: f64,
}

/// The best promises that leave no chain longer than the interval allows: tensors, with their references.
fn chosen(mut promises: Vec<Promise>, key_interval: usize) -> BTreeMap<usize, usize> {
    promises.sort_by(|a, b| b.bits.total_cmp(&a.bits));
    let mut references: BTreeMap<usize, usize> = BTreeMap::new();
    for Promise { index, reference, .. } in promises {
        let chain = |from: usize| std::iter::successors(Some(from), |passed| references.get(passed).copied());
        let below = references.keys().filter(|&&other| chain(other).any(|passed| passed == index));
        let height = below.map(|&other| chain(other).count() - 1).max().unwrap_or(0);
        if !references.contains_key(&index) && chain(reference).count() + height < key_interval {
            references.insert(index, reference);
        }
    }
    references
}

/// References that are considered for each tensor.
const REFERENCES_TRIED: usize = 4;
/// What a prediction must promise to save to be tried: bits, and bits for each weight.
const SAVED_BITS_MIN: f64 = 256.0;
const SAVED_RATE_MIN: f64 = 0.002;
/// What a row's gain takes, in bits.
const GAIN_BITS: f64 = 5.0;
/// Rows that tell how two tensors compare.
const SAMPLED_ROWS: usize = 64;
/// Weights that are compared at once.
const READ_LEN: usize = 1 << 20;

fn sampled_rows(weights: &CodedWeights, rows: usize) -> Result<Vec<f32>> {
    let count = rows.min(SAMPLED_ROWS);
    let mut sampled = Vec::new();
    for index in 0..count {
        let row = index * rows / count;
        sampled.append(&mut weights.unit_rows(row..row + 1)?);
    }
    Ok(sampled)
}

/// Of each row: ⟨x, x⟩, ⟨x, y⟩ and ⟨y, y⟩ of weights and their reference.
struct Likeness {
    rows: Vec<[f64; 3]>,
}

impl Likeness {
    /// Of a tensor and its reference.
    fn of_tensors(lossy: &Lossy, index: usize, reference: usize) -> Result<Self> {
        let matrix = lossy.coded[index].view.matrix;
        let [weights, reference] = [lossy.weights(index)?, lossy.weights(reference)?];
        let mut rows = Vec::with_capacity(matrix.rows);
        let at_once = (READ_LEN / matrix.row_len()).max(1);
        for first in (0..matrix.rows).step_by(at_once) {
            let range = first..matrix.rows.min(first + at_once);
            let [weights, reference] = [weights.unit_rows(range.clone())?, reference.unit_rows(range)?];
            rows.append(&mut Likeness::of(&weights, &reference, matrix.row_len()).rows);
        }
        Ok(Likeness { rows })
    }

    fn of(weights: &[f32], reference: &[f32], row_len: usize) -> Self {
        let row = |(x, y): (&[f32], &[f32])| {
            let mut sums = [0.0; 3];
            for (&x, &y) in x.iter().zip(y) {
                let (x, y) = (f64::from(x), f64::from(y));
                sums = [sums[0] + x * x, sums[1] + x * y, sums[2] + y * y];
            }
            sums
        };
        Likeness { rows: weights.chunks(row_len).zip(reference.chunks(row_len)).map(row).collect() }
    }

    fn total(&self) -> [f64; 3] {
        self.rows.iter().fold([0.0; 3], |sum, row| std::array::from_fn(|i| sum[i] + row[i]))
    }

    /// Whether rows need gains of their own, and the bits that a prediction saves then (a Gaussian's).
    fn saved_bits(&self, row_len: usize) -> (bool, f64) {
        let saved = |[xx, xy, yy]: [f64; 3], len: f64| {
            let unexplained = 1.0 - xy * xy / (xx * yy).max(f64::MIN_POSITIVE);
            -0.5 * log2(unexplained.max(1e-6)) * len
        };
        let told = if row_len < TOLD_BY_MIN { &[] } else { &self.rows[..] };
        let rows: f64 = told.iter().map(|&row| (saved(row, row_len as f64) - GAIN_BITS).max(0.0)).sum();
        let together = saved(self.total(), (row_len * self.rows.len()) as f64);
        (rows > together, rows.max(together))
    }

    /// The part of the energy that a prediction by these gains leaves.
    fn unexplained(&self, row_len: usize) -> f64 {
        let left = |[xx, xy, yy]: [f64; 3]| xx - xy * xy / yy.max(f64::MIN_POSITIVE);
        let total = self.total();
        let sum = if self.saved_bits(row_len).0 { self.rows.iter().copied().map(left).sum() } else { left(total) };
        sum / total[0].max(f64::MIN_POSITIVE)
    }

    fn gains(&self, row_len: usize) -> Vec<f32> {
        let gain = |[_, xy, yy]: [f64; 3]| if yy > 0.0 { (xy / yy) as f32 } else { 0.0 };
        if self.saved_bits(row_len).0 {
            self.rows.iter().map(|&row| gain(row)).collect()
        } else {
            vec![gain(self.total())]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_of_long_rows_or_columns_are_not_sought() {
        let fits = |rows: usize, columns: usize, taps: usize| chain_fits(Matrix { rows, columns, taps }, 4);
        assert!(fits(1 << 18, 4096, 1) && fits(4096, 1 << 18, 1) && fits(512, 512, 9));
        assert!(!fits(1 << 19, 8, 1) && !fits(8, 1 << 19, 1) && !fits(8, 1 << 18, 4));
    }
}
