//! Payload of a chunk of levels -> its elements: entropy decoding, prediction, scaling, transform, cast.
//!
//! Levels are floats from the start, which hold them exactly: so the entropy loop itself adds them to their predictions and
//! scales them. Only what is rare, low bits and levels that might be out of range, takes a pass of its own.

use std::ops::Range;

use super::elements::Elements;
use super::side::SideArrays;
use crate::container::{Archive, Levels, Side};
use crate::entropy::LevelPayload;
use crate::entropy::lanes::{Scales, Tables, Weights};
use crate::error::{Error, Result};
use crate::format::{GAIN_ONE, LEVEL_END};
use crate::stages::permute::{Permutation, transpose};
use crate::stages::predict;
use crate::stages::transform::Basis;
use crate::tensor::DType;

/// No symbol makes a larger level, even under the trellis.
const SYMBOL_LEVEL_MAX: u64 = 257;
/// The largest magnitude of a level.
const LEVEL_MAX: u64 = LEVEL_END as u64 - 1;

/// What the chunks of a frame of levels share.
pub struct LevelDecoder {
    pub(super) levels: Levels,
    pub(super) side: SideArrays,
    scales: Vec<f32>,
    first_exponent: i32,
    /// No level of the held chunk is larger.
    pub(super) bound: u64,
    pub(super) scratch: Scratch,
}

/// What the decoder of one frame leaves to that of another of the same archive: its tables and its transform, as most frames
/// use the same ones and preparing them takes as long as decoding a small frame, and its memory.
#[derive(Default)]
pub struct Scratch {
    basis: Option<Basis>,
    /// Which of the archive's tables `slots` holds.
    tables: Range<usize>,
    slots: Vec<u32>,
    /// The levels of the held chunk, or weights on their way to elements; in coded order.
    pub(super) coded: Vec<f32>,
    /// Elements of a chunk row by row, as words so that they are aligned.
    rows: Vec<u64>,
}

/// A chunk to be decoded.
pub(super) struct CodedChunk<'a> {
    pub(super) rectangle: Rectangle,
    pub(super) payload: &'a [u8],
    pub(super) reference: Option<ReferenceLevels<'a>>,
}

/// The levels of the chunk that one is predicted from, which may be shorter. They become the predictions.
pub(super) struct ReferenceLevels<'a> {
    pub(super) levels: &'a mut Vec<f32>,
    /// No level is larger.
    pub(super) bound: u64,
}

/// The part of a frame's matrix that a chunk covers: whole rows, or columns of one row.
#[derive(Clone, Copy)]
pub(crate) struct Rectangle {
    pub(crate) first_row: usize,
    pub(crate) rows: usize,
    pub(crate) first_col: usize,
    pub(crate) cols: usize,
}

impl Rectangle {
    /// Of `len` elements from `first` on, whose numbers may be larger than those of rows and columns.
    #[expect(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        reason = "rows have levels; rows and columns are below 2^31"
    )]
    pub(crate) fn new(levels: &Levels, first: u64, len: u64) -> Self {
        let row_len = levels.row_len() as u64;
        let (rows, cols) = if len < row_len { (1, len) } else { (len / row_len, row_len) };
        Rectangle {
            first_row: (first / row_len) as usize,
            rows: rows as usize,
            first_col: (first % row_len) as usize,
            cols: cols as usize,
        }
    }

    /// Scales that leave levels as they are.
    pub(super) fn unscaled(&self) -> Scales {
        Scales::ones(self.rows, self.cols)
    }
}

impl LevelDecoder {
    pub(super) fn new(archive: &Archive, levels: &Levels, side: Option<&[u8]>, mut scratch: Scratch) -> Result<Self> {
        let side = SideArrays::of(levels, side)?;
        let (scales, first_exponent) = side.scales(levels.scale)?;
        let tables = levels.first_table..levels.first_table.saturating_add(levels.table_count);
        if scratch.tables != tables {
            scratch.slots.clear();
            let tables = archive.tables.get(tables.clone()).unwrap_or_default();
            tables.iter().for_each(|table| table.push_slots(&mut scratch.slots));
        }
        scratch.tables = tables;
        if levels.dct && scratch.basis.as_ref().is_none_or(|basis| basis.taps() != levels.taps) {
            scratch.basis = Some(Basis::new(levels.taps));
        }
        Ok(LevelDecoder { levels: levels.clone(), side, scales, first_exponent, bound: 0, scratch })
    }

    /// The side arrays.
    pub fn side(&self) -> &SideArrays {
        &self.side
    }

    pub(super) fn decode(&mut self, chunk: CodedChunk, dtype: DType, bytes: &mut [u8]) -> Result<()> {
        if !self.levels.column_major {
            return self.decode_rows(chunk, dtype, bytes);
        }
        let mut words = std::mem::take(&mut self.scratch.rows);
        words.resize(bytes.len().div_ceil(8), 0);
        let rows = bytemuck::cast_slice_mut(&mut words).get_mut(..bytes.len()).unwrap_or_default();
        let cols = chunk.rectangle.cols;
        let decoded = self.decode_rows(chunk, dtype, rows);
        match dtype.bits() {
            8 => transpose::<1>(rows, cols, bytes),
            16 => transpose::<2>(rows, cols, bytes),
            64 => transpose::<8>(rows, cols, bytes),
            _ => transpose::<4>(rows, cols, bytes),
        }
        self.scratch.rows = words;
        decoded
    }

    fn decode_rows(&mut self, chunk: CodedChunk, dtype: DType, bytes: &mut [u8]) -> Result<()> {
        let (rectangle, scales) = (chunk.rectangle, self.chunk_scales(&chunk.rectangle)?);
        let in_order = dtype == DType::F32 && self.side.column_permutation.is_none();
        if in_order && let Ok(weights) = bytemuck::try_cast_slice_mut(bytes) {
            self.decode_values(chunk, &scales, weights)?;
            self.basis().iter().for_each(|basis| basis.inverse(weights));
            return Ok(());
        }
        self.decode_coded(chunk, &scales)?;
        let mut coded = std::mem::take(&mut self.scratch.coded);
        self.basis().iter().for_each(|basis| basis.inverse(&mut coded));
        self.scratch.coded = coded;
        self.write_elements(&rectangle, dtype, bytes);
        Ok(())
    }

    fn basis(&self) -> Option<&Basis> {
        self.scratch.basis.as_ref().filter(|_| self.levels.dct)
    }

    /// [`LevelDecoder::decode_values`] into `self.scratch.coded`.
    pub(super) fn decode_coded(&mut self, chunk: CodedChunk, scales: &Scales) -> Result<()> {
        let mut coded = std::mem::take(&mut self.scratch.coded);
        coded.resize(chunk.rectangle.rows.saturating_mul(chunk.rectangle.cols), 0.0);
        let decoded = self.decode_values(chunk, scales, &mut coded);
        self.scratch.coded = coded;
        self.bound = decoded?;
        Ok(())
    }

    /// Entropy decoding, prediction and scaling: whatever `values` held, they become levels times scales. Gives a bound on
    /// the levels.
    #[expect(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        reason = "escapes are known to lie inside the chunk; bounds are below 2^25"
    )]
    fn decode_values(&self, chunk: CodedChunk, scales: &Scales, values: &mut [f32]) -> Result<u64> {
        let Levels { low_bits, trellis, .. } = self.levels;
        let CodedChunk { rectangle, payload, reference } = chunk;
        let payload = LevelPayload::parse(payload, rectangle.rows, rectangle.cols, low_bits)?;
        let (row_class, col_class) = self.classes(&rectangle);
        let tables = Tables { slots: &self.scratch.slots, rows: &row_class, cols: &col_class };
        let largest = payload.escapes.iter().map(|(_, level)| level.unsigned_abs()).max().unwrap_or(0);
        let mut bound = u64::from(largest).max(SYMBOL_LEVEL_MAX << low_bits);
        let predictions: &[f32] = match reference {
            Some(reference) => {
                reference.levels.resize(values.len(), 0.0);
                bound += self.predict(&rectangle, reference.bound, reference.levels)?;
                reference.levels
            }
            None => &[],
        };
        if low_bits == 0 && bound <= LEVEL_MAX {
            payload.decode(&tables, trellis, &mut Weights::new(values, scales, predictions))?;
            for &(at, residual) in &payload.escapes {
                let at = at as usize;
                let level = predictions.get(at).unwrap_or(&0.0) + residual as f32;
                values[at] = level * scales.from(at / rectangle.cols, at % rectangle.cols)[0];
            }
            return Ok(bound);
        }
        payload.decode(&tables, trellis, &mut Weights::new(values, &rectangle.unscaled(), &[]))?;
        for (residual, low) in values.iter_mut().zip(payload.low(low_bits)) {
            *residual = *residual * (1 << low_bits) as f32 + low as f32;
        }
        for &(at, residual) in &payload.escapes {
            values[at as usize] = residual as f32;
        }
        values.iter_mut().zip(predictions).for_each(|(value, prediction)| *value += prediction);
        check_levels(values)?;
        scales.apply(values);
        Ok(bound.min(LEVEL_MAX))
    }

    /// Takes the reference's levels, of which none is larger than `bound`, to the predictions of a chunk; gives a bound on them.
    #[expect(clippy::arithmetic_side_effects, reason = "16 bits of gain and 25 of level; the matrix has these rows")]
    fn predict(&self, rectangle: &Rectangle, bound: u64, levels: &mut [f32]) -> Result<u64> {
        let mut largest_gain = 0;
        for (row, levels) in levels.chunks_mut(rectangle.cols).enumerate() {
            let gain = self.side.row_gain.get(rectangle.first_row + row).map_or(self.levels.gain, |&gain| gain.into());
            largest_gain = largest_gain.max(gain.unsigned_abs());
            predict::predict(levels, bound, gain);
        }
        let bound = (u64::from(largest_gain) * bound).div_ceil(GAIN_ONE as u64);
        if bound > LEVEL_MAX {
            check_levels(levels)?;
        }
        Ok(bound.min(LEVEL_MAX))
    }

    /// Weights, or levels of integers, in `self.scratch.coded` to elements.
    fn write_elements(&self, rectangle: &Rectangle, dtype: DType, bytes: &mut [u8]) {
        let places = self.side.column_permutation.as_ref().map(Permutation::places);
        let zero_point = self.levels.zero_point;
        Elements { dtype, cols: rectangle.cols, places, zero_point }.write(&self.scratch.coded, bytes);
    }

    #[expect(clippy::arithmetic_side_effects, reason = "the rectangle lies inside the matrix, which has taps")]
    fn classes(&self, rectangle: &Rectangle) -> (Vec<i8>, Vec<i8>) {
        let taps = self.levels.taps;
        let row = |row| self.side.class(Side::RowClass, rectangle.first_row + row);
        let col = |col| {
            let col = rectangle.first_col + col;
            let column = self.side.class(Side::ColumnClass, col / taps);
            column.saturating_add(self.side.class(Side::TapClass, col % taps))
        };
        ((0..rectangle.rows).map(row).collect(), (0..rectangle.cols).map(col).collect())
    }

    #[expect(clippy::arithmetic_side_effects, reason = "the rectangle lies inside the matrix")]
    fn chunk_scales(&self, rectangle: &Rectangle) -> Result<Scales> {
        let &Rectangle { first_row, rows, first_col, cols } = rectangle;
        let arrays = [Side::RowExponent, Side::ColumnExponent, Side::TapExponent];
        let exponents = arrays.map(|array| self.side.array(array));
        let (rows, cols) = (first_row..first_row + rows, first_col..first_col + cols);
        scales_of(&self.scales, self.first_exponent, exponents, self.levels.taps, rows, cols)
    }
}

fn check_levels(levels: &[f32]) -> Result<()> {
    let inside = levels.iter().all(|level| level.abs() < LEVEL_END as f32);
    if inside { Ok(()) } else { Err(Error::invalid("level", "a prediction leads out of range")) }
}

/// The scales of a rectangle's weights; of integers, which have no `steps`, 1. There are exponents of rows, columns and taps
/// (empty: all 0), and `steps` begin with the scale of `first_exponent`.
#[expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "sums of a few bytes, and of no less than the first exponent; there are taps"
)]
pub(crate) fn scales_of(
    steps: &[f32],
    first_exponent: i32,
    exponents: [&[i8]; 3],
    taps: usize,
    rows: Range<usize>,
    cols: Range<usize>,
) -> Result<Scales> {
    if steps.is_empty() {
        return Ok(Scales::ones(rows.len(), cols.len()));
    }
    let [row_exponent, column_exponent, tap_exponent] = exponents;
    let get = |array: &[i8], index: usize| array.get(index).map_or(0, |&value| i32::from(value));
    // Of these rows alone: there may be as many chunks as rows.
    let least = rows.clone().map(|row| get(row_exponent, row)).min().unwrap_or(0);
    let rows: Vec<u8> = rows.map(|row| (get(row_exponent, row) - least) as u8).collect();
    let col =
        |col| (get(column_exponent, col / taps) + get(tap_exponent, col % taps) - (first_exponent - least)) as u16;
    let cols: Vec<u16> = cols.map(col).collect();
    Scales::new(steps, &rows, &cols).ok_or_else(|| Error::invalid("scale", "exponents out of range"))
}
