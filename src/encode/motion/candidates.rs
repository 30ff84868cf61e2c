//! Which earlier tensor a tensor may be predicted from, found before anything is quantized.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::encode::levels::frame::{LevelPlan, Prediction};
use crate::encode::levels::matrix::Matrix;
use crate::encode::search::step::CodedTensor;
use crate::encode::{Model, Options};
use crate::format::GAIN_ONE;

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

/// The largest part of a tensor's energy that a prediction may leave for both to be much alike.
pub const RESEMBLANCE: f64 = 0.5;
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
pub fn candidates(model: &Model, options: &Options) -> Vec<Option<Candidate>> {
    let mut found: Vec<Option<Candidate>> = vec![None; model.coded.len()];
    if !options.prediction || options.key_interval < 2 || !options.layers.is_empty() {
        return found;
    }
    let kind = |coded: &CodedTensor| (coded.view.matrix, coded.view.column_major, coded.view.basis.is_some());
    let alone = |index: usize| {
        let others = model.coded.iter().filter(|other| kind(other) == kind(&model.coded[index]));
        others.count() < 2 || model.coded[index].base.is_some()
    };
    let samples: Vec<Vec<f32>> = (model.coded.par_iter().enumerate())
        .map(
            |(index, coded)| {
                if alone(index) { Vec::new() } else { sampled_rows(&model.unit_weights(coded), coded.view.matrix) }
            },
        )
        .collect();
    let promises: Vec<Promise> = (0..model.coded.len())
        .into_par_iter()
        .filter(|&index| !samples[index].is_empty())
        .flat_map_iter(|index| {
            let Matrix { rows, .. } = model.coded[index].view.matrix;
            let row_len = model.coded[index].view.matrix.row_len();
            let earlier = (0..index).filter(|&reference| {
                let possible = !samples[reference].is_empty();
                possible && kind(&model.coded[reference]) == kind(&model.coded[index])
            });
            let promise = |reference: usize| {
                let likeness = Likeness::of(&samples[index], &samples[reference], row_len);
                let bits = likeness.saved_bits(row_len).1 * rows as f64 / likeness.rows.len() as f64;
                Promise { index, reference, bits }
            };
            let worth = SAVED_BITS_MIN.max(SAVED_RATE_MIN * (rows * row_len) as f64);
            let mut promises: Vec<Promise> = earlier.map(promise).filter(|promise| promise.bits > worth).collect();
            promises.sort_by(|a, b| b.bits.total_cmp(&a.bits));
            promises.truncate(REFERENCES_TRIED);
            promises
        })
        .collect();
    for (index, reference) in chosen(promises, options.key_interval) {
        let row_len = model.coded[index].view.matrix.row_len();
        let [weights, earlier] = [index, reference].map(|which| model.unit_weights(&model.coded[which]));
        let likeness = Likeness::of(&weights, &earlier, row_len);
        let (gains, unexplained) = (likeness.gains(row_len), likeness.unexplained(row_len));
        found[index] = Some(Candidate { reference, gains, unexplained });
    }
    found
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

fn sampled_rows(weights: &[f32], matrix: Matrix) -> Vec<f32> {
    let count = matrix.rows.min(SAMPLED_ROWS);
    let row = |index: usize| index * matrix.rows / count * matrix.row_len();
    (0..count).flat_map(|index| &weights[row(index)..row(index) + matrix.row_len()]).copied().collect()
}

/// Of each row: ⟨x, x⟩, ⟨x, y⟩ and ⟨y, y⟩ of weights and their reference.
struct Likeness {
    rows: Vec<[f64; 3]>,
}

impl Likeness {
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
            -0.5 * unexplained.max(1e-6).log2() * len
        };
        let rows: f64 = self.rows.iter().map(|&row| (saved(row, row_len as f64) - GAIN_BITS).max(0.0)).sum();
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
