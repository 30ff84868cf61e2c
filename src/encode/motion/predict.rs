//! Motion compensation: which frames are predicted, from what, and whether that saves bits.
//!
//! A tensor of a delta is predicted from the base's tensor of its name, on the grid of that tensor's levels. Within an
//! archive a tensor may be predicted from an earlier one of its shape that it resembles; what both take in real bits
//! decides.

use rayon::prelude::*;

use crate::container::{Coding, Side, Tensor};
use crate::decode::Reader;
use crate::encode::Options;
use crate::encode::align::alignment::Orders;
use crate::encode::importance::importance::Importance;
use crate::encode::importance::statistics::WeightStatistics;
use crate::encode::levels::frame::{Frame, LevelPlan, Prediction};
use crate::encode::levels::indices::Indices;
use crate::encode::levels::matrix::{Matrix, View};
use crate::encode::levels::model_fit::{SymbolCosts, SymbolCounts, TableSet, VarianceModel};
use crate::encode::levels::quantizer::{Search, Tally};
use crate::encode::motion::candidates::RESEMBLANCE;
use crate::encode::motion::references::References;
use crate::error::Result;
use crate::format::REFERENCE_DEPTH_MAX;
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
        && archive.frames[frame].chunk_len == crate::encode::levels::frame::chunk_len(view.matrix.row_len()) as u64
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
    let mut frame =
        crate::encode::levels::frame::exact(bytes, tensor.dtype, tensor.record, Some(&base.tensor(&found.name)?));
    let record =
        frame.entry.record.as_ref().map(|record| record.iter().map(|&field| field as usize).collect::<Vec<_>>());
    let same_fields = record.map_or(fields.iter().all(|&field| field == 1), |record| record == *fields);
    let same =
        same_fields && reference.dtype == tensor.dtype && reference.chunk_len == u64::from(frame.entry.chunk_len);
    frame.entry.reference = Some(vec![1, index as u64]);
    Ok(same.then_some(frame))
}

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

/// Whether a prediction leaves little enough of the energy of weights: if a base leaves more, little is saved, and a step of the
/// tensor's own is worth more.
fn resembles(weights: &[f32], residuals: &[f32]) -> bool {
    let energy = |values: &[f32]| values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>();
    energy(residuals) < RESEMBLANCE * energy(weights)
}

/// What a prediction must save of a tensor's bits to be worth the time that a decoder spends on its reference; where the order
/// of units is free, nothing but bytes counts.
const SAVED_PART_MIN: f64 = 0.02;
/// What a bit is worth to a frame that is much like its reference, in squared steps of the quantizer that it would have alone: as
/// much as the squared error says, as nothing shrinks towards zero there.
const UNIFORM_LAMBDA: f32 = 0.0925;

/// Codes the tensors that can be predicted, and keeps what is smaller than the key frame in `attempts`. Tensors that the
/// base predicts have no key frame.
pub fn predict(references: &References, attempts: &mut [Option<Attempt>], sets: &[TableSet; 2], options: &Options) {
    let model = references.model;
    let depth = |index: usize| {
        if model.coded[index].base.is_some() { 1 } else { references.chain(index).count() - 1 }
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
        for (_, attempt) in attempt_all(references, attempts, &tables, &indices, options) {
            counts[usize::from(attempt.plan.trellis)].add_all(&attempt.tally.counts);
        }
        tables = counts.each_ref().map(SymbolCounts::tables);
        let tried = attempt_all(references, attempts, &tables, &indices, options);
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
    references: &References,
    attempts: &[Option<Attempt>],
    tables: &[TableSet; 2],
    indices: &[usize],
    options: &Options,
) -> Vec<(usize, Attempt)> {
    let &References { model, candidates, .. } = references;
    let costs = tables.each_ref().map(SymbolCosts::new);
    let attempt = |&index: &usize| {
        let coded = &model.coded[index];
        let mut plan = references.plan(index);
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
        let variances = VarianceModel::fit(&residual, plan.matrix);
        plan.classes = variances.classes(plan.quantizer_step(), plan.low_bits);
        let search = coded.search(&costs[usize::from(plan.trellis)], options, 1);
        let lambda = match (&coded.base, &candidates[index]) {
            // Every level that a small delta changes counts: what errors of the base hide of it, no rate makes up for.
            (Some(_), _) => 0.0,
            (None, Some(candidate)) if candidate.resembles() => {
                let steps = plan.quantizer_step() / references.fineness(index) as f32;
                UNIFORM_LAMBDA * steps * steps
            }
            _ => search.lambda,
        };
        let pull = references.pull(index, &plan, &weights);
        let search = Search { prediction: &predicted, pull: &pull, lambda, ..search };
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
