//! Weights -> levels: the search for the ones of least distortion and rate.
//!
//! A chunk's columns are quantized one after another. Under the trellis each is a path of its own; with error feedback
//! each also cancels what the errors of the columns before it did to the outputs.

use std::ops::Range;

use nalgebra::{DMatrix, DVectorView};
use rayon::prelude::*;

use crate::encode::levels::feedback::{BLOCK, Feedback};
use crate::encode::levels::frame::LevelPlan;
use crate::encode::levels::indices::Indices;
use crate::encode::levels::model_fit::{SymbolCosts, SymbolCounts};
use crate::encode::levels::trellis::{Goal, PathFinder};
use crate::encode::scratch::Scratch;
use crate::error::Result;
use crate::stages::quantize::{quantize, scale_at};
use crate::stages::trellis;

/// What the search weighs against each other.
#[derive(Clone, Copy)]
pub struct Search<'a> {
    /// What symbols cost.
    pub costs: &'a SymbolCosts,
    /// What a bit is worth, in squared half steps of the trellis.
    pub lambda: f32,
    /// How columns make up for the errors of earlier ones.
    pub feedback: Option<&'a Feedback>,
    /// Relative importance of each row; empty if all are equal.
    pub rows: &'a [f32],
}

/// What some rows of a tensor are to become.
#[derive(Default)]
pub struct Aim {
    /// Their weights, in coded order.
    pub weights: Vec<f32>,
    /// What each level is predicted to be; empty in a key frame.
    pub prediction: Vec<i32>,
    /// By how many steps each level is drawn away from its weight; empty if none is.
    pub pull: Vec<f32>,
}

/// Every so many columns of a tensor, in coded order.
pub struct Sample {
    /// Their weights, row by row.
    pub weights: Vec<f32>,
    /// Every how many columns one is in it.
    pub stride: usize,
}

impl Sample {
    /// Of rows of this length.
    pub fn of(weights: &[f32], row_len: usize, stride: usize) -> Self {
        let rows = weights.chunks(row_len.max(1));
        Sample { weights: rows.flat_map(|row| row.iter().copied().step_by(stride)).collect(), stride }
    }
}

/// What a quantization came to.
#[derive(Clone)]
pub struct Tally {
    /// Its symbols.
    pub counts: SymbolCounts,
    /// Sum of squared errors of the weights.
    pub squared_error: f64,
    /// The same, each error weighted with what it costs the outputs.
    pub distortion: f64,
}

impl Tally {
    /// Nothing yet, for this many quantizers.
    pub fn new(quantizers: usize) -> Self {
        Tally { counts: SymbolCounts::new(quantizers), squared_error: 0.0, distortion: 0.0 }
    }

    fn add(&mut self, other: &Self) {
        self.counts.add_all(&other.counts);
        self.squared_error += other.squared_error;
        self.distortion += other.distortion;
    }
}

impl LevelPlan {
    /// Quantizes all rows, of which `aim` gives a chunk's at a time: levels, or indices under the trellis.
    ///
    /// # Errors
    /// The first error of `aim`; `Io` if there is no room for the levels.
    pub fn quantize(
        &self,
        search: Search,
        scratch: &Scratch,
        aim: impl Fn(Range<usize>) -> Result<Aim> + Sync,
    ) -> Result<(Indices, Tally)> {
        let (rows, row_len, chunk_rows) = (self.matrix.rows, self.matrix.row_len(), self.chunk_rows());
        let (indices, tallies) =
            Indices::filled(self.matrix.len(), chunk_rows * row_len, scratch, |chunk, indices| {
                let first = chunk * chunk_rows;
                let aim = aim(first..rows.min(first + chunk_rows))?;
                let mut quantizer = ChunkQuantizer::new(self, search, first, (0..row_len).collect(), &aim);
                quantizer.run(|row, col, index| indices[row * row_len + col] = index);
                Ok(quantizer.tally)
            })?;
        Ok((indices, self.sum(&tallies)))
    }

    /// What quantizing a sample comes to.
    pub fn sample(&self, sample: &Sample, search: Search) -> Tally {
        let cols: Vec<usize> = (0..self.matrix.row_len()).step_by(sample.stride).collect();
        let chunks = sample.weights.par_chunks(self.chunk_rows() * cols.len()).enumerate();
        let tallies = chunks.map(|(chunk, weights)| {
            let aim = Aim { weights: weights.to_vec(), ..Aim::default() };
            let mut quantizer = ChunkQuantizer::new(self, search, chunk * self.chunk_rows(), cols.clone(), &aim);
            quantizer.run(|_, _, _| ());
            quantizer.tally
        });
        self.sum(&tallies.collect::<Vec<_>>())
    }

    /// The levels that a decoder finds for the indices of whole chunks.
    pub fn levels(&self, mut indices: Vec<i32>) -> Vec<i32> {
        let row_len = self.matrix.row_len();
        for chunk in indices.chunks_mut(self.chunk_rows() * row_len).filter(|_| self.trellis) {
            let mut states = vec![0; row_len];
            for row in chunk.chunks_mut(row_len) {
                for (level, state) in row.iter_mut().zip(&mut states) {
                    let index = *level;
                    *level = trellis::level(index, trellis::quantizer(*state));
                    *state = trellis::next(*state, index);
                }
            }
        }
        indices
    }

    /// Of tallies in their order, so that the result does not depend on threads.
    fn sum(&self, tallies: &[Tally]) -> Tally {
        let mut sum = Tally::new(if self.trellis { 2 } else { 1 });
        tallies.iter().for_each(|tally| sum.add(tally));
        sum
    }
}

/// Quantizes the rows of one chunk.
struct ChunkQuantizer<'a> {
    plan: &'a LevelPlan,
    search: Search<'a>,
    aim: &'a Aim,
    /// The columns of the matrix that are looked at, those of the weights.
    cols: Vec<usize>,
    row_class: Vec<i8>,
    /// Step of each row at column exponent 0.
    row_step: Vec<f32>,
    /// What an error of each row costs, relative to the row's step.
    row_cost: Vec<f64>,
    finder: PathFinder<'a>,
    tally: Tally,
}

impl<'a> ChunkQuantizer<'a> {
    fn new(plan: &'a LevelPlan, search: Search<'a>, first_row: usize, cols: Vec<usize>, aim: &'a Aim) -> Self {
        let rows = first_row..first_row + aim.weights.len() / cols.len();
        let row_step: Vec<f32> = rows.clone().map(|row| plan.row_step(row)).collect();
        let row_cost = (row_step.iter().zip(rows.clone()))
            .map(|(&step, row)| {
                f64::from(step) * f64::from(step) * search.rows.get(row).map_or(1.0, |&cost| f64::from(cost))
            })
            .collect();
        ChunkQuantizer {
            plan,
            search,
            aim,
            cols,
            row_class: rows.map(|row| plan.classes.row_class(row)).collect(),
            row_step,
            row_cost,
            finder: PathFinder::new(search.costs, search.lambda),
            tally: Tally::new(if plan.trellis { 2 } else { 1 }),
        }
    }

    /// Gives `put` the index of every row and column that is looked at.
    fn run(&mut self, mut put: impl FnMut(usize, usize, i32)) {
        let (rows, row_len) = (self.row_step.len(), self.cols.len());
        let feedback = self.search.feedback;
        // In steps of their rows, column by column.
        let mut errors = DMatrix::<f32>::zeros(rows, if feedback.is_some() { row_len } else { 0 });
        let cols = std::mem::take(&mut self.cols);
        for (block, cols) in cols.chunks(BLOCK).enumerate() {
            let first = block * BLOCK;
            let weight = |row: usize, at: usize| self.aim.weights[row * row_len + first + at] / self.row_step[row];
            let weights = DMatrix::from_fn(rows, cols.len(), weight);
            let mut targets = weights.clone();
            let coefficients = feedback.map(|feedback| &feedback.coefficients[block]);
            if let Some(coefficients) = coefficients {
                targets.gemm(1.0, &errors.columns(0, cols[0]), &coefficients.rows(0, cols[0]), 1.0);
            }
            for (at, &col) in cols.iter().enumerate() {
                let mut target = targets.column_mut(at);
                if let Some(coefficients) = coefficients {
                    for before in cols[0]..col {
                        target.axpy(coefficients[(before, at)], &errors.column(before), 1.0);
                    }
                }
                let quantized = self.column(col, weights.column(at), targets.column(at), &mut put);
                let error = weights.column(at) - quantized;
                self.tally.squared_error += (error.iter().zip(&self.row_step))
                    .map(|(&error, &step)| f64::from(error * step) * f64::from(error * step))
                    .sum::<f64>();
                if feedback.is_some() {
                    errors.column_mut(col).copy_from(&error);
                }
            }
        }
    }

    /// Quantizes one column of weights, of which the levels are to meet the targets; gives what a decoder will find, in steps of
    /// the rows. Where a weight is zero, so is that.
    fn column(
        &mut self,
        col: usize,
        weights: DVectorView<f32>,
        target: DVectorView<f32>,
        put: &mut impl FnMut(usize, usize, i32),
    ) -> nalgebra::DVector<f32> {
        let [_, column_exponent, tap_exponent] = &self.plan.exponents;
        let taps = self.plan.matrix.taps;
        let at = |array: &[i8], index: usize| array.get(index).map_or(0, |&exponent| i32::from(exponent));
        let factor = scale_at(1.0, at(column_exponent, col / taps) + at(tap_exponent, col % taps));
        let inverse = factor.recip();
        let col_class = self.plan.classes.col_class(col, taps);
        let column_cost =
            f64::from(factor * factor) * self.search.feedback.map_or(1.0, |feedback| f64::from(feedback.costs[col]));
        let (Aim { prediction, pull, .. }, row_len) = (self.aim, self.plan.matrix.row_len());
        let predicted = |row: usize| prediction.get(row * row_len + col).copied().unwrap_or(0);
        let pulled = |row: usize| pull.get(row * row_len + col).copied().unwrap_or(0.0);
        let goal = |(row, (&target, &class)): (usize, (&f32, &i8))| Goal {
            residual: target * inverse + pulled(row) - predicted(row) as f32,
            class: self.plan.class(class, col_class, weights[row]),
            fixed: (weights[row] == 0.0).then(|| -predicted(row)).filter(|&index| index == 0 || !self.plan.trellis),
        };
        let goals = target.iter().zip(&self.row_class).enumerate().map(goal);
        let path: &[i32] = if self.plan.trellis {
            self.finder.column(goals)
        } else if !prediction.is_empty() && self.plan.low_bits == 0 {
            self.finder.cheapest(goals)
        } else {
            self.finder.nearest(goals.map(|goal| goal.fixed.unwrap_or_else(|| quantize(goal.residual, 1.0))))
        };
        let mut state = 0;
        let level = |(row, &index): (usize, &i32)| {
            let (quantizer, level) = if self.plan.trellis {
                let quantizer = trellis::quantizer(state);
                state = trellis::next(state, index);
                (quantizer, trellis::level(index, quantizer))
            } else {
                (0, index)
            };
            let class = self.plan.class(self.row_class[row], col_class, weights[row]);
            self.tally.counts.add(quantizer.into(), class, index >> self.plan.low_bits);
            put(row, col, index);
            let level = level + predicted(row);
            let error = f64::from(target[row] * inverse) - f64::from(level);
            self.tally.distortion += error * error * self.row_cost[row] * column_cost;
            level as f32 * factor
        };
        nalgebra::DVector::from_iterator(target.len(), path.iter().enumerate().map(level))
    }
}
