//! Motion compensation: which frames are predicted, from what, and whether that saves bits.
//!
//! A tensor of a delta is predicted from the base's tensor of its name, on the grid of that tensor's levels. Within an
//! archive a tensor may be predicted from an earlier one of its shape that it resembles; what both take in real bits
//! decides.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::alignment::Orders;
use super::frame::{Frame, LevelPlan, Prediction};
use super::importance::Importance;
use super::indices::Indices;
use super::matrix::{Matrix, View};
use super::model_fit::{SymbolCosts, SymbolCounts, TableSet, VarianceModel};
use super::quantizer::{Search, Tally};
use super::rate::CodedTensor;
use super::statistics::WeightStatistics;
use super::{Model, Options};
use crate::container::{Coding, GAIN_ONE, REFERENCE_DEPTH_MAX, Side, Tensor};
use crate::decode::Reader;
use crate::error::Result;
use crate::stages::permute::Permutation;
use crate::stages::predict::prediction;
use crate::stages::transform::Basis;
use crate::tensor::TensorLocation;

/// A frame of the base that a tensor is predicted from.
pub struct BaseFrame {
    /// Its index in the base.
    pub frame: u64,
    /// Its step.
    pub scale: f32,
    /// Whether its step is half of its quantizer's.
    pub trellis: bool,
    /// Its levels in coded order.
    pub levels: Vec<i32>,
}

/// An earlier tensor that a tensor resembles.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Which of the coded tensors.
    pub reference: usize,
    /// References from here to a key frame.
    depth: usize,
    /// Regression on the reference, in units of both tensors' exponents: of all weights, or of each row.
    gains: Vec<f32>,
}

/// A coded tensor's levels, and what they came to.
pub struct Attempt {
    /// How they are coded.
    pub plan: LevelPlan,
    /// Levels, or indices under the trellis.
    pub indices: Indices,
    /// Their sum.
    pub tally: Tally,
    /// What they are predicted to be; empty in a key frame.
    prediction: Vec<i32>,
}

impl Attempt {
    /// Of a key frame.
    pub fn key(plan: LevelPlan, indices: Indices, tally: Tally) -> Self {
        Attempt { plan, indices, tally, prediction: Vec::new() }
    }

    /// What it takes, with more distortion turned into the bits that would take it back.
    fn cost_bits(&self, set: &TableSet, distortion: f64) -> f64 {
        let octaves = 0.5 * distortion.max(f64::MIN_POSITIVE).log2();
        self.tally.counts.cost_bits(set) + self.plan.side_bits() + octaves * self.indices.len() as f64
    }
}

/// How the base's tensor of this name sees `tensor`, and its levels; `None` if there is none that could predict it.
pub fn base_frame(
    base: &Reader<[u8]>,
    tensor: &TensorLocation,
    bytes: &[u8],
    orders: &Orders,
) -> Result<Option<(View, BaseFrame)>> {
    let archive = base.archive();
    let Some((_, frame)) = in_base(base, &tensor.name) else { return Ok(None) };
    let Coding::Levels(levels) = &archive.frames[frame].coding else { return Ok(None) };
    let Some(scale) = levels.scale else { return Ok(None) };
    let mut view = View::new(Matrix::of(&tensor.shape), levels.column_major);
    let same = view.column_major == levels.column_major
        && (view.matrix.columns, view.matrix.taps) == (levels.columns, levels.taps)
        && archive.frames[frame].chunk_len == super::frame::chunk_len(view.matrix.row_len()) as u64
        && orders.iter().flatten().all(|_| !levels.column_major && !levels.dct);
    if !same {
        return Ok(None);
    }
    let (trellis, rows) = (levels.trellis, view.matrix.rows);
    view.basis = levels.dct.then(|| Basis::new(levels.taps));
    let (decoder, levels) = base.levels(frame)?;
    let Some(side) = decoder.levels().map(|decoder| decoder.side()) else { return Ok(None) };
    let array = |side_array: Side| side.arrays[side_array as usize].clone();
    view.exponents = [Side::RowExponent, Side::ColumnExponent, Side::TapExponent].map(array);
    if !view.exponents[0].is_empty() {
        view.exponents[0].resize(rows, 0);
    }
    let Some(permutations) = combined([&side.row_permutation, &side.column_permutation], orders, view.matrix) else {
        return Ok(None);
    };
    view.permutations = permutations;
    let weights = view.weights(bytes, tensor.dtype);
    let residuals = residuals(&view, scale, &weights, &levels);
    let resembles = resembles(&self::residuals(&view, scale, &weights, &[]), &residuals);
    Ok(resembles.then_some((view, BaseFrame { frame: frame as u64, scale, trellis, levels })))
}

/// The base's tensor of this name, and its frame, if another frame may refer to it.
fn in_base<'b>(base: &'b Reader<[u8]>, name: &str) -> Option<(&'b Tensor, usize)> {
    let archive = base.archive();
    let tensor = archive.tensors.iter().find(|tensor| tensor.name == name)?;
    let frame = *tensor.frames.last()?;
    let depth = archive.references(frame).len() as u64;
    (depth < REFERENCE_DEPTH_MAX).then_some((tensor, frame))
}

/// The exact frame of a tensor, predicted from the base's tensor of its name; `None` if there is none of its kind.
///
/// # Errors
/// Whatever is wrong with the base.
pub fn predict_exact(base: &Reader<[u8]>, tensor: &TensorLocation, bytes: &[u8]) -> Result<Option<Frame>> {
    let Some((found, index)) = in_base(base, &tensor.name) else { return Ok(None) };
    let reference = &base.archive().frames[index];
    let Coding::Planes(fields) = &reference.coding else { return Ok(None) };
    let mut frame = super::frame::exact(bytes, tensor.dtype, tensor.record, Some(&base.tensor(&found.name)?));
    let record =
        frame.entry.record.as_ref().map(|record| record.iter().map(|&field| field as usize).collect::<Vec<_>>());
    let same_fields = record.map_or(fields.iter().all(|&field| field == 1), |record| record == *fields);
    let same =
        same_fields && reference.dtype == tensor.dtype && reference.chunk_len == u64::from(frame.entry.chunk_len);
    frame.entry.reference = Some(vec![1, index as u64]);
    Ok(same.then_some(frame))
}

/// The largest part of a tensor's energy that a base may leave: beyond it, little is saved, and a step of the tensor's own is
/// worth more.
const RESEMBLANCE: f64 = 0.5;

/// Where coded rows and columns belong: first from the base's coded order in its tensor's, then in this tensor's.
fn combined(base: [&Option<Permutation>; 2], orders: &Orders, matrix: Matrix) -> Option<[Option<Permutation>; 2]> {
    let mut combined = [None, None];
    for axis in 0..2 {
        let len = if axis == 0 { matrix.rows } else { matrix.row_len() };
        let base = base[axis].as_ref().map(|permutation| permutation.places());
        let order =
            orders[axis].as_ref().map(|order| if axis == 0 { order.clone() } else { with_taps(order, matrix.taps) });
        let order = order.as_deref();
        if base.is_none() && order.is_none() {
            continue;
        }
        let fits = base.is_none_or(|base| base.len() == len) && order.is_none_or(|order| order.len() == len);
        if !fits {
            return None;
        }
        let place = |coded: usize| {
            let place = base.map_or(coded as u32, |base| base[coded]);
            order.map_or(place, |order| order[place as usize])
        };
        combined[axis] = Some(Permutation::new((0..len).map(place).collect()).ok()?);
    }
    Some(combined)
}

/// The order of matrix columns under one of columns.
fn with_taps(order: &[u32], taps: usize) -> Vec<u32> {
    order.iter().flat_map(|&column| (0..taps as u32).map(move |tap| column * taps as u32 + tap)).collect()
}

/// Weights in steps of this size, less what is predicted.
fn residuals(view: &View, step: f32, weights: &[f32], prediction: &[i32]) -> Vec<f32> {
    let mut residuals = weights.to_vec();
    view.divide_by_exponents(&mut residuals);
    residuals.iter_mut().for_each(|residual| *residual /= step);
    residuals.iter_mut().zip(prediction).for_each(|(residual, &level)| *residual -= level as f32);
    residuals
}

/// Whether a prediction leaves little enough of the energy of weights.
fn resembles(weights: &[f32], residuals: &[f32]) -> bool {
    let energy = |values: &[f32]| values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>();
    energy(residuals) < RESEMBLANCE * energy(weights)
}

/// Earlier tensors that others resemble enough for a prediction to be tried.
pub fn candidates(model: &Model, options: &Options) -> Vec<Option<Candidate>> {
    let mut found: Vec<Option<Candidate>> = vec![None; model.coded.len()];
    if !options.prediction || options.key_interval < 2 || !options.layers.is_empty() {
        return found;
    }
    let weights = |coded: &CodedTensor| {
        let tensor = &model.tensors[model.framed[coded.frame]];
        let mut weights = coded.weights(model.bytes(tensor), tensor.dtype).into_owned();
        coded.view.divide_by_exponents(&mut weights);
        weights
    };
    let kind = |coded: &CodedTensor| (coded.view.matrix, coded.view.column_major, coded.view.basis.is_some());
    let alone = |index: usize| {
        let others = model.coded.iter().filter(|other| kind(other) == kind(&model.coded[index]));
        others.count() < 2 || model.coded[index].base.is_some()
    };
    let samples: Vec<Vec<f32>> = (model.coded.par_iter().enumerate())
        .map(|(index, coded)| if alone(index) { Vec::new() } else { sampled_rows(&weights(coded), coded.view.matrix) })
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
    for (index, (reference, depth)) in chosen(promises, options.key_interval) {
        let row_len = model.coded[index].view.matrix.row_len();
        let likeness = Likeness::of(&weights(&model.coded[index]), &weights(&model.coded[reference]), row_len);
        found[index] = Some(Candidate { reference, depth, gains: likeness.gains(row_len) });
    }
    found
}

/// The bits that predicting one tensor from another may save.
struct Promise {
    index: usize,
    reference: usize,
    bits: f64,
}

/// The best promises that leave no chain longer than the interval allows: tensors, with their references and their depths.
fn chosen(mut promises: Vec<Promise>, key_interval: usize) -> BTreeMap<usize, (usize, usize)> {
    promises.sort_by(|a, b| b.bits.total_cmp(&a.bits));
    let mut references: BTreeMap<usize, usize> = BTreeMap::new();
    let depth = |references: &BTreeMap<usize, usize>, index: usize| {
        std::iter::successors(Some(index), |index| references.get(index).copied()).count() - 1
    };
    for Promise { index, reference, .. } in promises {
        let leads_here = |other: usize| {
            std::iter::successors(Some(other), |other| references.get(other).copied()).any(|passed| passed == index)
        };
        let below = references.keys().copied().filter(|&other| leads_here(other));
        let height = below.map(|other| depth(&references, other)).max().unwrap_or(0);
        if !references.contains_key(&index) && depth(&references, reference) + 1 + height < key_interval {
            references.insert(index, reference);
        }
    }
    references.iter().map(|(&index, &reference)| (index, (reference, depth(&references, index)))).collect()
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

    fn gains(&self, row_len: usize) -> Vec<f32> {
        let gain = |[_, xy, yy]: [f64; 3]| if yy > 0.0 { (xy / yy) as f32 } else { 0.0 };
        if self.saved_bits(row_len).0 {
            self.rows.iter().map(|&row| gain(row)).collect()
        } else {
            vec![gain(self.total())]
        }
    }
}

/// What a prediction must save of a tensor's bits to be worth the time that a decoder spends on its reference; where the order
/// of units is free, nothing but bytes counts.
const SAVED_PART_MIN: f64 = 0.02;
/// Rows' gains are multiples of this, in 1/256: finer ones cost more than they save.
const GAIN_GRID: f32 = 16.0;

impl Candidate {
    /// The prediction of levels on one grid from levels on another.
    fn prediction(&self, frame: usize, plan: &LevelPlan, reference: &LevelPlan) -> Prediction {
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

/// What a bit is worth to a frame that is much like its reference, in squared steps of its quantizer: as much as the squared
/// error says, as nothing shrinks towards zero there.
const UNIFORM_LAMBDA: f32 = 0.0925;

/// Codes the tensors that can be predicted, and keeps what is smaller than the key frame in `attempts`. Tensors that the
/// base predicts have no key frame.
pub fn predict(
    model: &Model,
    candidates: &[Option<Candidate>],
    step: f64,
    attempts: &mut [Option<Attempt>],
    sets: &[TableSet; 2],
    options: &Options,
) {
    let depth = |index: usize| {
        let base = model.coded[index].base.as_ref().map(|_| 1);
        base.or(candidates[index].as_ref().map(|candidate| candidate.depth)).unwrap_or(0)
    };
    let mut kept = [1, 2].map(SymbolCounts::new);
    let mut tables = kept.each_ref().map(SymbolCounts::tables);
    for wave in 1.. {
        let indices: Vec<usize> = (0..attempts.len()).filter(|&index| depth(index) == wave).collect();
        if indices.is_empty() {
            break;
        }
        // Once with what tables are known, then with those that these symbols make.
        let mut counts = kept.clone();
        for (_, attempt) in attempt_all(model, candidates, step, attempts, &tables, &indices, options) {
            counts[usize::from(attempt.plan.trellis)].add_all(&attempt.tally.counts);
        }
        tables = counts.each_ref().map(SymbolCounts::tables);
        let tried = attempt_all(model, candidates, step, attempts, &tables, &indices, options);
        for (index, attempt) in tried {
            let set = usize::from(attempt.plan.trellis);
            let coded = &model.coded[index];
            let cost = |attempt: &Attempt, sets: &[TableSet; 2]| {
                let set = usize::from(attempt.plan.trellis);
                attempt.cost_bits(&sets[set], coded.distortion(&attempt.tally))
            };
            let worth = if options.unit_order_free { 0.0 } else { SAVED_PART_MIN };
            let saves = attempts[index].as_ref().is_none_or(|key| {
                let key_bits = key.tally.counts.cost_bits(&sets[usize::from(key.plan.trellis)]);
                cost(&attempt, &tables) + worth * key_bits < cost(key, sets)
            });
            if saves {
                kept[set].add_all(&attempt.tally.counts);
                attempts[index] = Some(attempt);
            }
        }
    }
}

/// What comes of predicting the tensors at `indices`, of those that have a prediction.
fn attempt_all(
    model: &Model,
    candidates: &[Option<Candidate>],
    step: f64,
    attempts: &[Option<Attempt>],
    tables: &[TableSet; 2],
    indices: &[usize],
    options: &Options,
) -> Vec<(usize, Attempt)> {
    let costs = tables.each_ref().map(SymbolCosts::new);
    let attempt = |&index: &usize| {
        let coded = &model.coded[index];
        let mut plan = coded.plan(step);
        let predicted = match (&coded.base, &candidates[index]) {
            (Some(base), _) => {
                plan.prediction = Some(Prediction::same([1, base.frame]));
                let mut levels = base.levels.clone();
                levels.resize(plan.matrix.len(), 0);
                levels
            }
            (None, Some(candidate)) => {
                let reference = attempts[candidate.reference].as_ref()?;
                let frame = model.coded[candidate.reference].frame;
                let motion = candidate.prediction(frame, &plan, &reference.plan);
                let levels = reference.plan.levels(&reference.indices, &reference.prediction);
                let row_len = plan.matrix.row_len();
                let predicted = levels.chunks(row_len).enumerate().flat_map(|(row, levels)| {
                    let gain = motion.row_gain(row);
                    levels.iter().map(move |&level| prediction(level, gain))
                });
                let predicted = predicted.collect();
                plan.prediction = Some(motion);
                predicted
            }
            (None, None) => return None,
        };
        let tensor = &model.tensors[model.framed[coded.frame]];
        let weights = coded.weights(model.bytes(tensor), tensor.dtype);
        let scale = plan.scale?;
        let residual = residuals(&coded.view, scale, &weights, &predicted);
        let resembles = resembles(&residuals(&coded.view, scale, &weights, &[]), &residual);
        let variances = VarianceModel::fit(&residual, plan.matrix);
        plan.classes = variances.classes(if plan.trellis { 2.0 } else { 1.0 }, plan.low_bits);
        let search = coded.search(&costs[usize::from(plan.trellis)], options, 1);
        // Every level that a small delta changes counts: what errors of the base hide of it, no rate makes up for.
        let lambda = match &coded.base {
            Some(_) => 0.0,
            None if !resembles => search.lambda,
            None if !plan.trellis => UNIFORM_LAMBDA,
            None => 4.0 * UNIFORM_LAMBDA,
        };
        let search = Search { prediction: &predicted, lambda, ..search };
        let (mut indices, mut tally) = plan.quantize(&weights, search);
        if coded.base.is_some() {
            let changes: Vec<f32> = indices.to_vec().into_iter().map(|index| index as f32).collect();
            plan.classes = VarianceModel::fit(&changes, plan.matrix).classes(1.0, plan.low_bits);
            (indices, tally) = plan.quantize(&weights, search);
        }
        Some((index, Attempt { plan, indices, tally, prediction: predicted }))
    };
    indices.par_iter().filter_map(attempt).collect()
}

/// What a tensor of a delta costs, seen as its base sees it.
pub fn importance(view: &mut View, statistics: &WeightStatistics, options: &Options) -> Importance {
    let exponents = view.exponents.clone();
    let importance = Importance::new(view, statistics, options.feedback);
    view.exponents = exponents;
    importance
}
