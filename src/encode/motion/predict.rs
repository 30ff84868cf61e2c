//! Motion compensation: which frames are predicted, and whether that saves bits.
//!
//! A tensor of a delta is predicted from the base's tensor of its name, on the grid of that tensor's levels. Within an
//! archive a tensor may be predicted from an earlier one of its shape that it resembles; what both take in real bits
//! decides.

use std::ops::Range;

use rayon::prelude::*;

use crate::encode::base::BaseFrame;
use crate::encode::coded::CodedTensor;
use crate::encode::coded_weights::CodedWeights;
use crate::encode::levels::frame::{LevelPlan, Prediction};
use crate::encode::levels::indices::Indices;
use crate::encode::levels::model_fit::VarianceModel;
use crate::encode::levels::quantizer::{Aim, Search, Tally};
use crate::encode::levels::table_sets::{SharedCosts, SharedCounts};
use crate::encode::motion::references::References;
use crate::encode::options::{Base, Options};
use crate::encode::portable::log2;
use crate::encode::progress::map_in_parts;
use crate::encode::scratch::Scratch;
use crate::error::{Error, Result};
use crate::stages::predict::prediction;

/// A coded tensor's levels, and what they came to.
pub struct Attempt {
    /// How they are coded.
    pub plan: LevelPlan,
    /// Levels, or indices under the trellis.
    pub indices: Indices,
    /// Their sum.
    pub tally: Tally,
}

impl Attempt {
    /// What its symbols take.
    fn symbol_bits(&self, costs: &SharedCosts) -> f64 {
        self.tally.counts.cost_bits(costs.of(self.plan.sharing()))
    }

    /// What it takes, with more distortion turned into the bits that would take it back.
    fn cost_bits(&self, costs: &SharedCosts, distortion: f64) -> f64 {
        let octaves = 0.5 * log2(distortion.max(f64::MIN_POSITIVE));
        self.symbol_bits(costs) + self.plan.side_bits() + octaves * self.indices.len() as f64
    }
}

/// What a prediction must save of a tensor's bits to be worth the time that a decoder spends on its reference; where the order
/// of units is free, nothing but bytes counts.
const SAVED_PART_MIN: f64 = 0.02;
/// What a bit is worth to a frame that is much like its reference, in squared steps of the quantizer that it would have alone: as
/// much as the squared error says, as nothing shrinks towards zero there.
const UNIFORM_LAMBDA: f32 = 0.0925;

/// Where tensors that are predicted find what they are predicted from, and put their levels.
pub struct Motion<'a> {
    /// What may be predicted from what.
    pub references: &'a References<'a>,
    /// The options.
    pub options: &'a Options<'a>,
    /// Room for levels.
    pub scratch: &'a Scratch,
}

impl Motion<'_> {
    /// Codes the tensors that can be predicted, and keeps what is smaller than the key frame in `attempts`. Tensors that the
    /// base predicts have no key frame.
    ///
    /// # Errors
    /// Whatever is wrong with the weights, the base, or the room for levels.
    pub fn predict(&self, attempts: &mut [Option<Attempt>], key_costs: &SharedCosts) -> Result<()> {
        let mut kept = SharedCounts::default();
        let mut costs = SharedCosts::default();
        for wave in 1.. {
            let indices: Vec<usize> = (0..attempts.len()).filter(|&index| self.depth(index) == wave).collect();
            if indices.is_empty() {
                break;
            }
            // Once with what tables are known, then with those that these symbols make.
            let mut counts = kept.clone();
            for (_, attempt) in self.attempt_all(attempts, &costs, &indices)? {
                counts.add(attempt.plan.sharing(), &attempt.tally.counts);
            }
            costs = counts.costs();
            for (index, attempt) in self.attempt_all(attempts, &costs, &indices)? {
                if self.saves(index, &attempt, &costs, attempts[index].as_ref(), key_costs) {
                    kept.add(attempt.plan.sharing(), &attempt.tally.counts);
                    attempts[index] = Some(attempt);
                }
            }
        }
        Ok(())
    }

    /// Predictions on the way to a tensor.
    fn depth(&self, index: usize) -> usize {
        let References { lossy, .. } = self.references;
        if lossy.coded[index].base.is_some() { 1 } else { self.references.chain(index).count() - 1 }
    }

    /// Whether a predicted frame is worth it.
    fn saves(
        &self,
        index: usize,
        attempt: &Attempt,
        costs: &SharedCosts,
        key: Option<&Attempt>,
        key_costs: &SharedCosts,
    ) -> bool {
        let Some(key) = key else { return true };
        let coded = &self.references.lossy.coded[index];
        let cost = |attempt: &Attempt, costs| attempt.cost_bits(costs, coded.distortion(&attempt.tally));
        let worth = if self.options.unit_order_free { 0.0 } else { SAVED_PART_MIN };
        cost(attempt, costs) + worth * key.symbol_bits(key_costs) < cost(key, key_costs)
    }

    /// What comes of predicting the tensors at `indices`, of those that have a prediction.
    fn attempt_all(
        &self,
        attempts: &[Option<Attempt>],
        costs: &SharedCosts,
        indices: &[usize],
    ) -> Result<Vec<(usize, Attempt)>> {
        let len = |&index: &usize| self.references.lossy.coded[index].view.matrix.len();
        let attempts = map_in_parts(indices.iter().copied(), len, |index| {
            Ok(self.attempt(index, attempts, costs)?.map(|attempt| (index, attempt)))
        })?;
        Ok(attempts.into_iter().flatten().collect())
    }

    /// The levels of a tensor with its prediction, if it has one.
    fn attempt(&self, index: usize, attempts: &[Option<Attempt>], costs: &SharedCosts) -> Result<Option<Attempt>> {
        let &References { lossy, candidates, .. } = self.references;
        let coded = &lossy.coded[index];
        let mut plan = self.references.predicted_plan(index);
        let Some(predicted) = self.predicted(index, &mut plan, attempts) else { return Ok(None) };
        plan.classes = self.residual_variances(index, &plan, &predicted)?.classes(plan.quantizer_step(), plan.low_bits);
        let search = coded.search(costs.of(plan.sharing()), self.options, 1);
        let lambda = match (&coded.base, &candidates[index]) {
            // Every level that a small delta changes counts: what errors of the base hide of it, no rate makes up for.
            (Some(_), _) => 0.0,
            (None, Some(candidate)) if candidate.resembles() => {
                let steps = plan.quantizer_step() / self.references.fineness(index) as f32;
                UNIFORM_LAMBDA * steps * steps
            }
            _ => search.lambda,
        };
        // A level that makes up for the errors of others would be coded though nothing changed.
        let keeps_errors = coded.base.as_ref().is_some_and(|base| base.original.is_some());
        let feedback = search.feedback.filter(|_| !keeps_errors);
        let search = Search { lambda, feedback, ..search };
        let weights = lossy.weights(index)?;
        let (mut indices, mut tally) = self.quantize(index, &plan, search, &weights, &predicted)?;
        if coded.base.is_some() {
            plan.classes = VarianceModel::of_levels(&indices, plan.matrix)?.classes(1.0, plan.low_bits);
            (indices, tally) = self.quantize(index, &plan, search, &weights, &predicted)?;
        }
        Ok(Some(Attempt { plan, indices, tally }))
    }

    /// Quantizes a tensor whose levels are predicted.
    fn quantize(
        &self,
        index: usize,
        plan: &LevelPlan,
        search: Search,
        weights: &CodedWeights,
        predicted: &Predicted,
    ) -> Result<(Indices, Tally)> {
        let pull = self.references.pull(index, plan)?;
        let change = self.references.lossy.change(index)?;
        plan.quantize(search, self.scratch, |rows| {
            let weights = weights.rows(rows.clone())?.into_owned();
            let prediction = predicted.rows(rows.clone(), plan)?;
            let pull = match &change {
                Some(change) => change.pull(rows, &weights, &prediction)?,
                None => pull.rows(rows, &weights)?,
            };
            Ok(Aim { prediction, pull, weights })
        })
    }

    /// What a tensor is predicted from, which its plan learns too; `None` if there is nothing.
    fn predicted<'s>(
        &'s self,
        index: usize,
        plan: &mut LevelPlan,
        attempts: &'s [Option<Attempt>],
    ) -> Option<Predicted<'s>> {
        let &References { lossy, candidates, .. } = self.references;
        match (&lossy.coded[index], &candidates[index]) {
            (CodedTensor { base: Some(frame), .. }, _) => {
                plan.prediction = Some(Prediction::same([1, frame.frame as u64]));
                Some(Predicted::Base(self.options.base?, frame))
            }
            (_, Some(candidate)) => {
                let chain = Chain { references: self.references, attempts };
                let reference = attempts[candidate.reference].as_ref()?;
                let frame = lossy.coded[candidate.reference].frame;
                plan.prediction = Some(candidate.prediction(frame, plan, &reference.plan));
                Some(Predicted::Earlier(chain, candidate.reference))
            }
            _ => None,
        }
    }

    /// The variances of what a prediction leaves, in steps.
    fn residual_variances(&self, index: usize, plan: &LevelPlan, predicted: &Predicted) -> Result<VarianceModel> {
        let scale = plan.scale.unwrap_or(1.0);
        let mut residuals = self.references.lossy.weights(index)?.into_units()?;
        let chunk_len = plan.chunk_rows() * plan.matrix.row_len();
        residuals.par_chunks_mut(chunk_len).enumerate().try_for_each(|(chunk, residuals)| {
            let first = chunk * plan.chunk_rows();
            let rows = first..first + residuals.len() / plan.matrix.row_len();
            let prediction = predicted.rows(rows, plan)?;
            for (residual, level) in residuals.iter_mut().zip(prediction) {
                *residual = *residual / scale - level as f32;
            }
            Ok(())
        })?;
        Ok(VarianceModel::fit(&residuals, plan.matrix))
    }
}

/// What levels are predicted from.
enum Predicted<'a> {
    /// A frame of the base.
    Base(&'a Base<'a>, &'a BaseFrame),
    /// An earlier tensor.
    Earlier(Chain<'a>, usize),
}

impl Predicted<'_> {
    /// The prediction of the levels of a chunk's rows.
    fn rows(&self, rows: Range<usize>, plan: &LevelPlan) -> Result<Vec<i32>> {
        let row_len = plan.matrix.row_len();
        match (self, &plan.prediction) {
            (Predicted::Base(base, frame), _) => frame.levels(base, rows, row_len),
            (Predicted::Earlier(chain, reference), Some(motion)) => {
                let mut levels = chain.levels(*reference, rows.clone())?;
                for (row, levels) in rows.zip(levels.chunks_mut(row_len)) {
                    let gain = motion.row_gain(row);
                    levels.iter_mut().for_each(|level| *level = prediction(*level, gain));
                }
                Ok(levels)
            }
            (Predicted::Earlier(..), None) => Err(Error::argument("a prediction has no gain")),
        }
    }
}

/// Tensors that are predicted one from another, and their levels.
#[derive(Clone, Copy)]
struct Chain<'a> {
    references: &'a References<'a>,
    attempts: &'a [Option<Attempt>],
}

impl Chain<'_> {
    /// The levels of a chunk's rows, which are those that a decoder finds.
    fn levels(&self, index: usize, rows: Range<usize>) -> Result<Vec<i32>> {
        let attempt = self.attempts[index].as_ref();
        let Attempt { plan, indices, .. } = attempt.ok_or_else(|| Error::argument("a reference was not quantized"))?;
        let row_len = plan.matrix.row_len();
        let mut levels = plan.levels(indices.range(rows.start * row_len..rows.end * row_len)?);
        if let (Some(_), Some(candidate)) = (&plan.prediction, &self.references.candidates[index]) {
            let prediction = Predicted::Earlier(*self, candidate.reference).rows(rows, plan)?;
            levels.iter_mut().zip(prediction).for_each(|(level, prediction)| *level += prediction);
        }
        Ok(levels)
    }
}
