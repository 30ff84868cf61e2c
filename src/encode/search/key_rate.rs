//! Levels of predicted frames -> about the bits that they would take as key frames.
//!
//! Under the trellis, levels that were found with a prediction are not a path without it. A key frame of the same step is
//! searched for them instead, as for weights, on a sample of the columns.

use crate::encode::levels::frame::{Largest, LevelPlan};
use crate::encode::levels::matrix::{Matrix, View};
use crate::encode::levels::model_fit::{SymbolCosts, SymbolCounts, VarianceModel};
use crate::encode::levels::quantizer::{Sample, Search, Tally};
use crate::encode::options::LAMBDA;
use crate::entropy::{LANES, lane_count};

/// A frame as it would be without its prediction.
pub struct KeyFrame {
    counts: SymbolCounts,
    /// Elements for each that was counted.
    scale: f64,
    trellis: bool,
    /// Bits that do not depend on tables.
    fixed_bits: f64,
}

impl KeyFrame {
    /// Of levels in coded order; with a `trellis`, they count half steps.
    pub fn new(matrix: Matrix, exponents: &[Vec<i8>; 3], trellis: bool, levels: &[i32]) -> Self {
        let weights: Vec<f32> = levels.iter().map(|&level| level as f32).collect();
        let view = View { matrix, ..View::new(matrix, false) };
        let step = if trellis { 2.0 } else { 1.0 };
        let variances = VarianceModel::fit(&weights, matrix);
        let mut plan = LevelPlan::new(&view, &variances, step, Largest::of(weights.clone()), trellis);
        let stride = if plan.trellis { (weights.len() / SAMPLE_LEN).clamp(1, STRIDE_MAX) } else { 1 };
        let mut counts = Tally::new(if plan.trellis { 2 } else { 1 }).counts;
        let sample = Sample::of(&weights, matrix.row_len(), stride);
        // First with tables of Gaussians, then with those that these symbols make.
        for _ in 0..2 {
            let costs = SymbolCosts::new(&counts.tables());
            let search = Search { costs: &costs, lambda: LAMBDA, feedback: None, rows: &[] };
            counts = plan.sample(&sample, search).counts;
        }
        let chunk_len = (plan.chunk_rows() * matrix.row_len()).min(weights.len());
        let lanes = lane_count(chunk_len, matrix.row_len(), LANES) * weights.len().div_ceil(chunk_len.max(1));
        plan.exponents.clone_from(exponents);
        let low_bits = f64::from(plan.low_bits) * weights.len() as f64;
        KeyFrame {
            scale: weights.len() as f64 / counts.total().max(1) as f64,
            counts,
            trellis: plan.trellis,
            fixed_bits: low_bits + plan.side_bits() + LANE_BITS * lanes as f64,
        }
    }
}

/// Weights that are enough to judge a frame by, and the fewest columns that are looked at.
const SAMPLE_LEN: usize = 1 << 18;
const STRIDE_MAX: usize = 8;
/// A lane's word count and first state, less what the state says of the symbols.
const LANE_BITS: f64 = 40.0;

/// About the bits of each frame, with tables that serve all of them.
pub fn key_bits(frames: &[&KeyFrame]) -> Vec<f64> {
    let mut counts = [1, 2].map(SymbolCounts::new);
    frames.iter().for_each(|frame| counts[usize::from(frame.trellis)].add_all(&frame.counts));
    let costs = counts.each_ref().map(|counts| SymbolCosts::new(&counts.tables()));
    let bits =
        |frame: &&KeyFrame| frame.scale * frame.counts.cost_bits(&costs[usize::from(frame.trellis)]) + frame.fixed_bits;
    frames.iter().map(bits).collect()
}
