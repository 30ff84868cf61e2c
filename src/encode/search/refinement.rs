//! Levels -> passes: a coarse frame that is usable at once, and frames that refine it.
//!
//! Every coarse level stands for a cell of fine ones, so that all passes together tell as much as the fine levels alone.

use crate::encode::coded::CodedTensor;
use crate::encode::levels::frame::{LevelPlan, Prediction, class_index};
use crate::encode::levels::indices::Indices;
use crate::encode::levels::model_fit::{SymbolCounts, VarianceModel};
use crate::encode::motion::predict::Attempt;
use crate::encode::portable::{exp2, log2};
use crate::encode::scratch::Scratch;
use crate::error::Result;
use crate::format::GAIN_ONE;
use crate::stages::predict::prediction;

/// One frame of a tensor: what it codes, and how often each symbol occurs in it.
pub struct Part {
    /// How it is coded. In a refinement, the reference is the archive's to fill in.
    pub plan: LevelPlan,
    /// Levels or residuals, or indices under the trellis.
    pub indices: Indices,
    /// Its symbols.
    pub counts: SymbolCounts,
}

impl Part {
    /// Of a frame of uniform levels.
    fn uniform(plan: LevelPlan, indices: Indices) -> Result<Self> {
        let (taps, row_len) = (plan.matrix.taps, plan.matrix.row_len());
        let counted = |first: usize, indices: &[i32]| {
            let mut counts = SymbolCounts::new(1);
            for (row, indices) in (first / row_len..).zip(indices.chunks(row_len)) {
                for (col, index) in indices.iter().enumerate() {
                    let class = class_index(plan.classes.row_class(row), plan.classes.col_class(col, taps));
                    counts.add(0, class, index >> plan.low_bits);
                }
            }
            counts
        };
        let mut counts = SymbolCounts::new(1);
        indices.for_each_piece(counted)?.iter().for_each(|piece| counts.add_all(piece));
        Ok(Part { plan, indices, counts })
    }
}

/// The frames of a tensor, coarse to fine: one, or as many as there are bits in `passes`.
///
/// # Errors
/// If levels cannot be read or kept.
pub fn parts(coded: &CodedTensor, attempt: Attempt, passes: &[f64], scratch: &Scratch) -> Result<Vec<Part>> {
    if passes.len() < 2 {
        return Ok(vec![Part { plan: attempt.plan, indices: attempt.indices, counts: attempt.tally.counts }]);
    }
    let mut refinements = Vec::new();
    let (mut levels, mut scale) = (attempt.indices, attempt.plan.scale.unwrap_or(1.0));
    for bits in passes.windows(2).rev() {
        let gain = gain(bits[1] - bits[0]);
        let residuals = levels.map(scratch, |level| level - prediction(cell(level, gain), gain))?;
        let plan = LevelPlan {
            scale: Some(scale),
            low_bits: 0,
            classes: VarianceModel::of_levels(&residuals, attempt.plan.matrix)?.classes(1.0, 0),
            prediction: Some(Prediction { gain, ..Prediction::default() }),
            ..attempt.plan.clone()
        };
        refinements.push(Part::uniform(plan, residuals)?);
        scale *= gain as f32 / GAIN_ONE as f32;
        levels = levels.map(scratch, |level| cell(level, gain))?;
    }
    let first = Part::uniform(coded.plan_at(scale), levels)?;
    Ok(std::iter::once(first).chain(refinements.into_iter().rev()).collect())
}

/// Steps of a pass in one of the pass before, in 1/256: a bit is a factor of two. An odd number of steps, if one is close,
/// makes all cells alike, which saves half a percent.
fn gain(bits: f64) -> i32 {
    let odd = 2.0 * (exp2(bits) / 2.0).floor() + 1.0;
    let steps = if (log2(odd) - bits).abs() < ODD_OCTAVES { odd } else { exp2(bits) };
    ((f64::from(GAIN_ONE) * steps).round() as i32).clamp(GAIN_ONE, i16::MAX.into())
}

/// How far a pass's rate may be from what was asked for, in bits.
const ODD_OCTAVES: f64 = 0.12;

/// The coarse level whose prediction is nearest.
fn cell(level: i32, gain: i32) -> i32 {
    (f64::from(level) * f64::from(GAIN_ONE) / f64::from(gain)).round() as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_predicts_its_levels_to_within_half_of_itself() {
        for bits in [0.5, 1.0, 1.5, 3.0] {
            let gain = gain(bits);
            for level in -2000..2000 {
                let residual = level - prediction(cell(level, gain), gain);
                assert!(f64::from(residual.abs()) <= bits.exp2() / 2.0 + 0.5, "{bits} {level} {residual}");
            }
        }
    }
}
