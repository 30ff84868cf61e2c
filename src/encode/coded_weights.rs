//! Weights of a tensor in the order in which they are coded, read a few rows at a time.

use std::borrow::Cow;
use std::ops::Range;

use crate::encode::contents::Contents;
use crate::encode::levels::matrix::View;
use crate::encode::levels::weights::to_f32;
use crate::error::Result;
use crate::tensor::TensorLocation;

/// Weights in coded order, read as they are needed; all at once if rows are not in place.
pub struct CodedWeights<'a> {
    contents: &'a Contents<'a>,
    tensor: &'a TensorLocation,
    view: &'a View,
    moved: Option<Vec<f32>>,
}

impl<'a> CodedWeights<'a> {
    /// The weights of a tensor under a view.
    ///
    /// # Errors
    /// Whatever is wrong with reading them.
    pub fn new(contents: &'a Contents<'a>, tensor: &'a TensorLocation, view: &'a View) -> Result<Self> {
        let moved = if view.has_rows_in_place() { None } else { Some(view.coded(all_weights(contents, tensor)?)) };
        Ok(CodedWeights { contents, tensor, view, moved })
    }

    /// Some rows, transformed.
    ///
    /// # Errors
    /// Whatever is wrong with reading them.
    pub fn rows(&self, rows: Range<usize>) -> Result<Cow<'_, [f32]>> {
        let row_len = self.view.matrix.row_len();
        let range = rows.start * row_len..rows.end * row_len;
        match &self.moved {
            Some(weights) => Ok(Cow::Borrowed(&weights[range])),
            None => Ok(Cow::Owned(self.view.coded(read_weights(self.contents, self.tensor, range)?))),
        }
    }

    /// Some rows, in units of 2^exponent.
    ///
    /// # Errors
    /// Whatever is wrong with reading them.
    pub fn unit_rows(&self, rows: Range<usize>) -> Result<Vec<f32>> {
        let first_row = rows.start;
        let mut weights = self.rows(rows)?.into_owned();
        self.view.divide_by_exponents(first_row, &mut weights);
        Ok(weights)
    }

    /// All of them, in units of 2^exponent.
    ///
    /// # Errors
    /// Whatever is wrong with reading them.
    pub fn into_units(self) -> Result<Vec<f32>> {
        let mut weights = match self.moved {
            Some(weights) => weights,
            None => self.view.coded(all_weights(self.contents, self.tensor)?),
        };
        self.view.divide_by_exponents(0, &mut weights);
        Ok(weights)
    }
}

/// Elements that are read at once.
const READ_LEN: usize = 1 << 20;

/// All weights of a tensor, in its order.
///
/// # Errors
/// Whatever is wrong with reading them.
pub fn all_weights(contents: &Contents, tensor: &TensorLocation) -> Result<Vec<f32>> {
    let len = tensor.shape.element_len().unwrap_or(0) as usize;
    let mut weights = Vec::with_capacity(len);
    for first in (0..len).step_by(READ_LEN) {
        weights.extend(read_weights(contents, tensor, first..len.min(first + READ_LEN))?);
    }
    Ok(weights)
}

fn read_weights(contents: &Contents, tensor: &TensorLocation, range: Range<usize>) -> Result<Vec<f32>> {
    let element_bytes = tensor.dtype.bits() / 8;
    let range = range.start as u64 * element_bytes..range.end as u64 * element_bytes;
    let bytes = contents.read(tensor, range)?;
    Ok(to_f32(&bytes, tensor.dtype))
}
