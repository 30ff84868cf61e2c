//! What a fine-tune changed, apart from what the base's levels err by.
//!
//! A delta would code the base's errors again, which are larger than most changes. With the base's own weights at hand, levels move by
//! the change alone: of those that change by a part of a step, that part moves by a whole one, so that the moves have the mean of
//! the changes. Those move whose errors take it best, which are as good as random otherwise.

use std::ops::Range;

use crate::encode::base::BaseFrame;
use crate::encode::base::cell_errors::CellErrors;
use crate::encode::coded_weights::CodedWeights;
use crate::encode::levels::matrix::View;
use crate::error::Result;

/// How the weights of a tensor differ from those that its base was made of.
pub struct Change<'a> {
    /// The base's own weights.
    pub originals: CodedWeights<'a>,
    /// What its levels err by.
    pub errors: &'a CellErrors,
    /// How the tensor is seen.
    pub view: &'a View,
    /// The base's frame.
    pub frame: &'a BaseFrame,
}

impl Change<'_> {
    /// By how many steps the levels of some rows are drawn away from their weights: to the base's levels and the moves of the change.
    ///
    /// # Errors
    /// Whatever is wrong with reading the base's weights.
    pub fn pull(&self, rows: Range<usize>, weights: &[f32], levels: &[i32]) -> Result<Vec<f32>> {
        let mut pull = weights.to_vec();
        self.view.divide_by_exponents(rows.start, &mut pull);
        let originals = self.originals.unit_rows(rows)?;
        let (scale, step) = (self.frame.scale, self.frame.quantizer_step());
        for ((pull, original), &level) in pull.iter_mut().zip(originals).zip(levels) {
            let (weight, original) = (*pull / scale, original / scale);
            let (error, change) = ((original - level as f32) / step, (weight - original) / step);
            let chance = self.errors.part_below(error, level) - 0.5;
            let moves =
                if change.abs() > LARGE { (step * (change + error)).round() / step } else { (change + chance).round() };
            *pull = step * moves - (weight - level as f32);
        }
        Ok(pull)
    }
}

/// From this part of a step on a change goes to the nearest level: moves by chance would err by more than a standalone archive.
/// At a third, twenty times the change of a short fine-tune is as good as one; at a half it errs half as much again.
const LARGE: f32 = 1.0 / 3.0;
