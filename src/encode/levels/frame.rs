//! Levels of one tensor -> one frame: payloads of its chunks, and the header entry that describes them.

use crate::container::{FrameEntry, Side};
use crate::encode::portable::log2;
use crate::format::{CHUNK_LEN_MAX, CODING_LEVELS, GAIN_ONE, LAYOUT_COLUMN_MAJOR, QUANTIZER_TRELLIS, TRANSFORM_DCT};
use rayon::prelude::*;

use crate::encode::exact::frame::CodedFrame;
use crate::encode::exact::planes;
use crate::encode::levels::indices::Indices;
use crate::encode::levels::matrix::{Matrix, View};
use crate::encode::levels::model_fit::{CLASS_COUNT, Classes, VarianceModel};
use crate::encode::levels::quartets::Pruning;
use crate::encode::levels::table_sets::{Sharing, sparsity};
use crate::entropy::{EncoderTable, LANES, LevelChunk, encode_levels, lane_count};
use crate::error::Result;
use crate::stages::permute::Permutation;
use crate::stages::quantize::scale_at;

/// How the levels of a tensor are to be coded.
#[derive(Debug, Clone)]
pub struct LevelPlan {
    /// How the tensor is seen.
    pub matrix: Matrix,
    /// Step between levels, or `None` for integers that are levels already.
    pub scale: Option<f32>,
    /// Added to integers by the decoder.
    pub zero_point: i32,
    /// Bits that are stored as they are.
    pub low_bits: u32,
    /// Whether the tensor is the transpose of the matrix.
    pub column_major: bool,
    /// Whether levels are coefficients of a DCT over the taps.
    pub dct: bool,
    /// Whether levels are indices of the trellis' quantizers, and `scale` half of their step.
    pub trellis: bool,
    /// How sparse the weights are, by [`table_sets::sparsity`](super::table_sets::sparsity).
    pub sparsity: u8,
    /// Variance classes.
    pub classes: Classes,
    /// Exponents of rows, columns and taps, in sixteenths of an octave; empty where all are zero.
    pub exponents: [Vec<i8>; 3],
    /// Where each coded row belongs.
    pub row_permutation: Option<Permutation>,
    /// Where each coded column belongs.
    pub column_permutation: Option<Permutation>,
    /// What levels are predicted from; then those that are coded are residuals.
    pub prediction: Option<Prediction>,
    /// Most lanes of a chunk.
    pub lanes: usize,
    /// How quartets, the rows, are coded, if they are told apart.
    pub pruning: Option<Pruning>,
}

/// How the levels of a frame are predicted.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Prediction {
    /// The reference: 0 and a frame of this archive, or 1 and one of the base.
    pub reference: [u64; 2],
    /// Factor of the prediction, in 1/256, of rows without one of their own.
    pub gain: i32,
    /// Factor of each row; empty if all are `gain`.
    pub row_gain: Vec<i16>,
}

impl Prediction {
    /// The same levels, predicted.
    pub fn same(reference: [u64; 2]) -> Self {
        Prediction { reference, gain: GAIN_ONE, row_gain: Vec::new() }
    }

    /// Factor of a row.
    pub fn row_gain(&self, row: usize) -> i32 {
        self.row_gain.get(row).map_or(self.gain, |&gain| gain.into())
    }
}

impl LevelPlan {
    /// A plan for weights at one step, with classes from their variances. A trellis is used where it is `asked` for, unless
    /// levels are too large for it, or columns so short that it has no room: then the step is a finer one.
    pub fn new(view: &View, variances: &VarianceModel, step: f32, largest: Largest, asked: bool) -> Self {
        let matrix = view.matrix;
        let trellis = asked
            && largest.fits_trellis(step)
            && matrix.rows >= TRELLIS_ROWS_MIN
            && matrix.row_len() <= CHUNK_LEN_MAX as usize / 16;
        let step = if asked && !trellis { step * STEP_WITHOUT_TRELLIS } else { step };
        let low_bits = if trellis { 0 } else { largest.low_bits(step) };
        LevelPlan {
            matrix,
            scale: Some(if trellis { step / 2.0 } else { step }),
            zero_point: 0,
            low_bits,
            column_major: view.column_major,
            dct: view.basis.is_some(),
            trellis,
            sparsity: largest.sparsity,
            classes: variances.classes(step, low_bits),
            exponents: view.exponents.clone(),
            row_permutation: view.permutations[0].clone(),
            column_permutation: view.permutations[1].clone(),
            prediction: None,
            lanes: LANES,
            pruning: None,
        }
    }

    /// What it has in common with frames that share its tables. Residuals are zero as often as the prediction is good.
    pub fn sharing(&self) -> Sharing {
        let &LevelPlan { trellis, pruning, .. } = self;
        let predicted = self.prediction.is_some();
        let sparsity = if predicted || pruning.is_some() { 0 } else { self.sparsity };
        Sharing { sparsity, predicted, trellis, pruning }
    }

    /// Class of a weight of a row and a column.
    pub fn class(&self, row_class: i8, col_class: i8, weight: f32) -> usize {
        self.pruning.map_or_else(|| class_index(row_class, col_class), |pruning| pruning.class_of(weight))
    }

    /// Classes with one for each row, where class `first_class` is the first.
    fn row_classes(&self, first_class: usize) -> Classes {
        let row_class = |row: usize| self.classes.row_class(row).saturating_sub(first_class as i8);
        Classes { row: (0..self.matrix.rows).map(row_class).collect(), ..self.classes.clone() }
    }

    /// Rows of a chunk.
    pub fn chunk_rows(&self) -> usize {
        (chunk_len(self.matrix.row_len()) / self.matrix.row_len()).max(1)
    }

    /// Codes levels (under the trellis, indices), in coded order, with tables of which the first serves class
    /// `first_class`.
    ///
    /// # Errors
    /// `Argument` if a level is out of range.
    pub fn encode(&self, levels: &Indices, first_class: usize, tables: &[EncoderTable]) -> Result<CodedFrame> {
        let row_len = self.matrix.row_len();
        let classes = match self.pruning {
            Some(pruning) => pruning.stored_classes(levels)?,
            None => self.row_classes(first_class),
        };
        let col_class: Vec<i8> = (0..row_len).map(|col| classes.col_class(col, self.matrix.taps)).collect();
        let chunk_len = chunk_len(row_len);
        let chunk_rows = self.chunk_rows();
        let mut payloads = Vec::new();
        let side = self.side(&classes, &mut payloads);
        let chunks = classes.row.par_chunks(chunk_rows).enumerate().map(|(index, row_class)| {
            let first = index * chunk_rows * row_len;
            let rows = levels.range(first..first + row_class.len() * row_len)?;
            let pieces = rows.chunks(chunk_len).zip(col_class.chunks(chunk_len)).map(|(piece, col_class)| {
                let &LevelPlan { low_bits, trellis, lanes, .. } = self;
                let cols = col_class.len();
                let chunk = LevelChunk { levels: piece, cols, row_class, col_class, low_bits, trellis, lanes };
                encode_levels(&chunk, tables)
            });
            pieces.collect::<Result<Vec<_>>>()
        });
        payloads.extend(chunks.collect::<Result<Vec<_>>>()?.into_iter().flatten());
        let entry = FrameEntry {
            matrix: Some(
                [self.matrix.rows, self.matrix.columns, self.matrix.taps].map(|extent| extent as u64).to_vec(),
            ),
            tables: Some(vec![0, tables.len() as u64]),
            scale: self.scale,
            zero_point: (self.zero_point != 0).then_some(self.zero_point),
            low_bits: (self.low_bits != 0).then_some(self.low_bits),
            side: (side != 0).then_some(side),
            quantizer: self.trellis.then_some(QUANTIZER_TRELLIS),
            transform: self.dct.then_some(TRANSFORM_DCT),
            reference: self.prediction.as_ref().map(|prediction| prediction.reference.to_vec()),
            gain: self.prediction.as_ref().map(|prediction| prediction.gain).filter(|&gain| gain != GAIN_ONE),
            layout: self.column_major.then_some(LAYOUT_COLUMN_MAJOR),
            coding: CODING_LEVELS,
            chunk_len: chunk_len as u32,
            ..FrameEntry::default()
        };
        Ok(CodedFrame { entry, payloads })
    }

    /// Bits of the side chunk.
    pub fn side_bits(&self) -> f64 {
        let mut payloads = Vec::new();
        self.side(&self.row_classes(0), &mut payloads);
        payloads.iter().map(|payload| 8.0 * payload.len() as f64).sum()
    }

    /// Mean squared error to expect of a key frame, in units of 2^exponent: of a uniform quantizer, or a decibel less of the trellis'.
    pub fn squared_error(&self) -> f64 {
        let step = f64::from(self.scale.unwrap_or(1.0) * self.quantizer_step());
        step * step / 12.0 * if self.trellis { 0.79 } else { 1.0 }
    }

    /// Step of the quantizer, or of each of the trellis', in levels.
    pub fn quantizer_step(&self) -> f32 {
        if self.trellis { 2.0 } else { 1.0 }
    }

    /// Step of a row at column exponent 0.
    pub fn row_step(&self, row: usize) -> f32 {
        let exponent = self.exponents[0].get(row).map_or(0, |&exponent| i32::from(exponent));
        scale_at(self.scale.unwrap_or(1.0), exponent)
    }

    /// Appends the side chunk, if any array is needed, and tells which are in it.
    fn side(&self, classes: &Classes, payloads: &mut Vec<Vec<u8>>) -> u32 {
        let classes = [&classes.row, &classes.column, &classes.tap].map(Vec::as_slice);
        let exponents = self.exponents.each_ref().map(Vec::as_slice);
        let mut side = 0;
        let mut payload = Vec::new();
        for (which, array) in Side::BYTE_ARRAYS.into_iter().zip(classes.into_iter().chain(exponents)) {
            if array.iter().any(|&entry| entry != 0) {
                let bytes: Vec<u8> = array.iter().map(|&entry| entry as u8).collect();
                payload.extend(planes::encode_plane(&bytes));
                side |= which.bit();
            }
        }
        for (which, permutation) in
            [(Side::RowPermutation, &self.row_permutation), (Side::ColumnPermutation, &self.column_permutation)]
        {
            if let Some(permutation) = permutation {
                payload.extend(permutation.serialize());
                side |= which.bit();
            }
        }
        let row_gain =
            self.prediction.iter().flat_map(|prediction| &prediction.row_gain).map(|gain| gain.to_le_bytes());
        let planes: [Vec<u8>; 2] = row_gain.map(|[low, high]| (low, high)).unzip().into();
        if !planes[0].is_empty() {
            payload.extend(planes.iter().flat_map(|plane| planes::encode_plane(plane)));
            side |= Side::RowGain.bit();
        }
        if side != 0 {
            payloads.push(payload);
        }
        side
    }
}

/// Largest root of the mean square, in symbols, for tables to be precise enough; under the trellis, for what it saves to be more than
/// they lose.
const RMS_MAX: f32 = 16.0;
const TRELLIS_RMS_MAX: f32 = 40.0;
/// All but one symbol in ten thousand must be smaller; under the trellis, which saves more than some escapes cost, such a one may be larger
/// than a symbol can be.
const SYMBOL_MAX: f32 = 120.0;
const TRELLIS_SYMBOL_MAX: f32 = 200.0;
/// Weights are sparse from this sparsity on: half of them are zero.
const SPARSE: u8 = 2;
/// Step of a tensor without a trellis, relative to those under it: for errors of about the same size, as a bit takes as much from
/// either then.
const STEP_WITHOUT_TRELLIS: f32 = 0.9;
/// Fewest rows for which a trellis pays.
const TRELLIS_ROWS_MIN: usize = 8;

/// Class of a level, of its row's and its column's.
pub fn class_index(row_class: i8, col_class: i8) -> usize {
    (i32::from(row_class) + i32::from(col_class)).clamp(0, CLASS_COUNT as i32 - 1) as usize
}

/// Most symbols of a lane: their words can be counted in 16 bits, and GPUs, where a lane is a thread, need not wait for few long ones.
/// Some drivers end a thread's loops after 65535 rounds.
const LANE_LEN_MAX: usize = 1 << 15;

/// Elements in a chunk: whole rows where they fit, and lanes that are not too long. The same for any number of lanes, so
/// that frames of either kind can be predicted from each other.
pub fn chunk_len(row_len: usize) -> usize {
    let len_max = CHUNK_LEN_MAX as usize;
    if row_len > len_max {
        return len_max;
    }
    let columns_per_lane = row_len.div_ceil(lane_count(len_max, row_len, LANES));
    let rows = (len_max / row_len).min(LANE_LEN_MAX / columns_per_lane);
    rows.max(1) * row_len
}

/// How large the weights of a tensor get: what decides about low bits.
#[derive(Debug, Clone, Copy, Default)]
pub struct Largest {
    /// Root of the mean square.
    pub rms: f32,
    /// All but one weight in ten thousand are smaller; of sparse ones, all but one in two hundred.
    pub common: f32,
    /// The largest magnitude.
    pub max: f32,
    /// How many are zero.
    pub zeros: usize,
    /// How sparse that makes them, by [`table_sets::sparsity`](super::table_sets::sparsity).
    pub sparsity: u8,
}

impl Largest {
    /// Measures weights, all finite.
    pub fn of(mut weights: Vec<f32>) -> Self {
        let square: f64 = weights.iter().map(|&weight| f64::from(weight) * f64::from(weight)).sum();
        let rms = (square / weights.len().max(1) as f64).sqrt() as f32;
        weights.iter_mut().for_each(|weight| *weight = weight.abs());
        let zeros = weights.iter().filter(|&&weight| weight == 0.0).count();
        let sparsity = sparsity(zeros, weights.len());
        let rare = weights.len() / if sparsity >= SPARSE { 200 } else { 10_000 };
        let index = weights.len().saturating_sub(1 + rare);
        let common = match weights.get(index) {
            Some(_) => *weights.select_nth_unstable_by(index, f32::total_cmp).1,
            None => 0.0,
        };
        Largest { rms, common, max: weights.into_iter().fold(0.0, f32::max), zeros, sparsity }
    }

    /// Fewest low bits that keep symbols well inside a byte and their tables precise. Zeros have them too, so that those of sparse
    /// weights would be dear.
    fn low_bits(&self, scale: f32) -> u32 {
        let precise = if self.sparsity >= SPARSE { 0.0 } else { self.rms / scale / RMS_MAX };
        let excess = (self.common / scale / SYMBOL_MAX).max(precise);
        (log2(excess).ceil().max(0.0) as u32).min(16)
    }

    /// The finest step of sparse weights without low bits, which take more than they tell.
    pub fn sparse_step_min(&self) -> f32 {
        if self.sparsity >= SPARSE { self.common / SYMBOL_MAX / STEP_WITHOUT_TRELLIS } else { 0.0 }
    }

    /// Whether the trellis, which has no low bits, codes the levels of these weights well at this step.
    fn fits_trellis(&self, step: f32) -> bool {
        self.common <= step * TRELLIS_SYMBOL_MAX && self.rms <= step * TRELLIS_RMS_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_lane_is_too_long() {
        for row_len in (1..400).chain([1 << 16, 1 << 18, 1 << 20]) {
            let len = chunk_len(row_len);
            let columns = row_len.min(len);
            let columns_per_lane = columns.div_ceil(lane_count(len, columns, LANES));
            assert!(len <= CHUNK_LEN_MAX as usize && len / columns * columns_per_lane <= LANE_LEN_MAX, "{row_len}");
        }
    }
}
