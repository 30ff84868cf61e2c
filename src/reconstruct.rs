//! Chunks -> bytes of tensors: the CPU stages composed. What this computes is the normative result.
//!
//! [`FrameDecoder`] holds what all chunks of a frame share (tables, classes, scales, permutations). Levels are floats from
//! the start, which hold them exactly: so the entropy loop itself adds them to their predictions and scales them. Only what
//! is rare, low bits and levels that might be out of range, takes a pass of its own.

use std::ops::Range;

use crate::container::{Archive, Coding, Frame, GAIN_ONE, Levels, Side};
use crate::entropy::lanes::{Scales, Tables, Weights};
use crate::entropy::{Guide, LevelPayload, decode_plane, end};
use crate::error::{Error, Result};
use crate::stages::permute::{Permutation, transpose};
use crate::stages::transform::Basis;
use crate::stages::{planes, predict, quantize};
use crate::tensor::DType;

/// No symbol makes a larger level, even under the trellis.
const SYMBOL_LEVEL_MAX: u64 = 257;

/// Decodes the chunks of one frame, in any order.
pub struct FrameDecoder {
    index: usize,
    frame: Frame,
    coding: Decoding,
    /// The decoder of the frame that this one is predicted from.
    reference: Option<Box<FrameDecoder>>,
    /// The element chunk that a predicted frame finds here.
    held: Option<usize>,
}

enum Decoding {
    Planes(PlaneDecoder),
    Levels(Box<LevelDecoder>),
}

#[derive(Default)]
struct PlaneDecoder {
    /// One plane.
    plane: Vec<u8>,
    /// The elements of the held chunk.
    elements: Vec<u8>,
}

/// What the chunks of a frame of levels share.
pub struct LevelDecoder {
    levels: Levels,
    /// Which of the archive's tables `slots` holds.
    tables: Range<usize>,
    slots: Vec<u32>,
    side: SideArrays,
    scales: Vec<f32>,
    first_exponent: i32,
    basis: Option<Basis>,
    /// The levels of the held chunk, or weights on their way to elements; in coded order.
    coded: Vec<f32>,
    /// No level of the held chunk is larger.
    bound: u64,
    /// Elements of a chunk row by row, as words so that they are aligned.
    rows: Vec<u64>,
}

/// Where the bytes of a chunk belong in its tensor: runs of equal length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Length of a run.
    pub run_bytes: usize,
    /// Where each run begins.
    pub offsets: Vec<u64>,
}

/// The side arrays of a frame; absent ones are empty.
#[derive(Debug, Default, PartialEq)]
pub struct SideArrays {
    /// The six arrays of classes and exponents, indexed by [`Side`].
    pub arrays: [Vec<i8>; 6],
    /// Where each coded row belongs.
    pub row_permutation: Option<Permutation>,
    /// Where each coded column belongs.
    pub column_permutation: Option<Permutation>,
    /// Factor of each row's prediction, in 1/256.
    pub row_gain: Vec<i16>,
}

impl SideArrays {
    fn parse(levels: &Levels, mut payload: &[u8]) -> Result<Self> {
        let mut side = SideArrays::default();
        for array in Side::BYTE_ARRAYS.into_iter().filter(|&array| levels.has(array)) {
            let mut bytes = vec![0; levels.side_len(array)];
            decode_plane(&mut payload, &mut bytes, None)?;
            side.arrays[array as usize] = bytes.into_iter().map(|byte| byte as i8).collect();
        }
        for (which, slot) in
            [(Side::RowPermutation, &mut side.row_permutation), (Side::ColumnPermutation, &mut side.column_permutation)]
        {
            if levels.has(which) {
                *slot = Some(Permutation::parse(levels.side_len(which), &mut payload)?);
            }
        }
        if levels.has(Side::RowGain) {
            let mut planes = vec![0; 2 * levels.rows];
            let (low, high) = planes.split_at_mut(levels.rows);
            decode_plane(&mut payload, low, None)?;
            decode_plane(&mut payload, high, None)?;
            side.row_gain = low.iter().zip(high).map(|(&low, &mut high)| i16::from_le_bytes([low, high])).collect();
        }
        end(payload)?;
        Ok(side)
    }

    fn get(&self, array: Side, index: usize) -> i32 {
        self.arrays[array as usize].get(index).map_or(0, |&value| i32::from(value))
    }

    /// Smallest and largest sum of a row, a column and a tap exponent.
    fn exponent_range(&self) -> (i32, i32) {
        let range = |array: Side| {
            let values = self.arrays[array as usize].iter().map(|&value| i32::from(value));
            (values.clone().min().unwrap_or(0), values.max().unwrap_or(0))
        };
        let ranges = [range(Side::RowExponent), range(Side::ColumnExponent), range(Side::TapExponent)];
        ranges.into_iter().fold((0, 0), |sum, range| (sum.0 + range.0, sum.1 + range.1))
    }
}

/// A chunk to be decoded.
struct LevelChunk<'a> {
    rectangle: Rectangle,
    payload: &'a [u8],
    reference: Reference<'a>,
}

/// The part of a frame's matrix that a chunk covers: whole rows, or columns of one row.
#[derive(Clone, Copy)]
struct Rectangle {
    first_row: usize,
    rows: usize,
    first_col: usize,
    cols: usize,
}

impl Rectangle {
    /// Scales that leave levels as they are.
    fn unscaled(&self) -> Scales {
        Scales::ones(self.rows, self.cols)
    }
}

impl FrameDecoder {
    /// Prepares frame `index`; `side` is the verified payload of its side chunk, if it has one.
    ///
    /// # Errors
    /// `Argument` if the frame or its side payload is missing, `Invalid` if the payload breaks a rule.
    pub fn new(archive: &Archive, index: usize, side: Option<&[u8]>) -> Result<Self> {
        Self::after(None, archive, index, side)
    }

    /// As [`FrameDecoder::new`], with a decoder that is open already: of the frame's reference, if it has one; else one of
    /// the same archive that is done, for its tables and its memory. Most frames use the same tables, and preparing these
    /// takes as long as decoding a small frame.
    ///
    /// # Errors
    /// As [`FrameDecoder::new`].
    pub fn after(previous: Option<Self>, archive: &Archive, index: usize, side: Option<&[u8]>) -> Result<Self> {
        let frame = archive.frames.get(index).ok_or_else(|| Error::argument(format!("there is no frame {index}")))?;
        let (reference, done) = match previous {
            Some(previous) if frame.reference == Some(previous.index) => (Some(Box::new(previous)), None),
            // A reference is more like the next frame to be opened, perhaps itself a reference.
            Some(FrameDecoder { reference: Some(reference), .. }) => (None, Some(*reference)),
            other => (None, other),
        };
        let coding = match &frame.coding {
            Coding::Planes(_) => Decoding::Planes(PlaneDecoder::default()),
            Coding::Levels(levels) => {
                let done = done.and_then(|decoder| match decoder.coding {
                    Decoding::Levels(decoder) => Some(*decoder),
                    Decoding::Planes(_) => None,
                });
                Decoding::Levels(Box::new(LevelDecoder::new(done, archive, levels, side)?))
            }
        };
        Ok(FrameDecoder { index, frame: frame.clone(), coding, reference, held: None })
    }

    /// The frame's place in its archive.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The frame.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// Bytes that element chunk `index` decodes to.
    ///
    /// # Errors
    /// `Argument` if there is no such chunk.
    pub fn chunk_bytes(&self, index: usize) -> Result<usize> {
        let (_, len) = self.range(index)?;
        Ok(self.frame.byte_len(len) as usize)
    }

    /// Decodes the verified payload of element chunk `index` into `bytes`: rows in coded order, columns in the tensor's; if
    /// the frame is column-major, one column after another.
    ///
    /// # Errors
    /// `Invalid` if the payload breaks a rule, `Argument` if `bytes` has the wrong length or the chunk does not exist.
    pub fn decode(&mut self, index: usize, payload: &[u8], bytes: &mut [u8]) -> Result<()> {
        let (first, len) = self.range(index)?;
        if bytes.len() as u64 != self.frame.byte_len(len) {
            return Err(Error::argument(format!("chunk {index} does not decode to {} bytes", bytes.len())));
        }
        let reference = Reference::of(&self.frame, self.reference.as_deref_mut(), index)?;
        match &mut self.coding {
            Decoding::Planes(decoder) => {
                let Coding::Planes(record) = &self.frame.coding else { return Ok(()) };
                let reference = self.frame.reference.map(|_| reference.elements);
                decode_fields(payload, record, self.frame.dtype, reference, &mut decoder.plane, bytes)
            }
            Decoding::Levels(decoder) => {
                let rectangle = rectangle(&decoder.levels, first, len);
                decoder.decode(LevelChunk { rectangle, payload, reference }, self.frame.dtype, bytes)
            }
        }
    }

    /// Decodes the verified payload of element chunk `index` of one of the frames that this one is predicted from, directly
    /// or by way of others: what [`FrameDecoder::decode`] needs first, for every such frame that has the chunk, the farthest
    /// first. That one uses it up.
    ///
    /// # Errors
    /// As [`FrameDecoder::decode`]; `Argument` if this frame is not predicted from that one.
    pub fn decode_reference(&mut self, frame: usize, index: usize, payload: &[u8]) -> Result<()> {
        let Some(reference) = &mut self.reference else {
            return Err(Error::argument(format!("frame {frame} is no reference")));
        };
        if reference.index != frame {
            return reference.decode_reference(frame, index, payload);
        }
        reference.held = None;
        match &mut reference.coding {
            Decoding::Levels(_) => reference.decode_coded(index, payload)?,
            Decoding::Planes(decoder) => {
                let mut elements = std::mem::take(&mut decoder.elements);
                elements.resize(reference.chunk_bytes(index)?, 0);
                reference.decode(index, payload, &mut elements)?;
                if let Decoding::Planes(decoder) = &mut reference.coding {
                    decoder.elements = elements;
                }
            }
        }
        reference.held = Some(index);
        Ok(())
    }

    /// Where the bytes of element chunk `index` belong in the tensor, or `None` if chunks follow one another.
    pub fn places(&self, index: usize) -> Option<Places> {
        let Decoding::Levels(decoder) = &self.coding else { return None };
        let (first, len) = self.frame.chunk_range(index)?;
        let Rectangle { first_row, rows, cols, .. } = rectangle(&decoder.levels, first, len);
        let element_bytes = self.frame.dtype.bits() / 8;
        if decoder.levels.column_major {
            let column_bytes = decoder.levels.rows as u64 * element_bytes;
            let offset = |col: u64| col * column_bytes + first_row as u64 * element_bytes;
            let offsets = (0..cols as u64).map(offset).collect();
            return Some(Places { run_bytes: rows * element_bytes as usize, offsets });
        }
        let permutation = decoder.side.row_permutation.as_ref()?;
        let row_bytes = cols as u64 * element_bytes;
        let places = permutation.places().get(first_row..first_row + rows)?;
        let offsets = places.iter().map(|&place| u64::from(place) * row_bytes).collect();
        Some(Places { run_bytes: row_bytes as usize, offsets })
    }

    /// What the chunks of a frame of levels share; `None` for planes.
    pub fn levels(&self) -> Option<&LevelDecoder> {
        match &self.coding {
            Decoding::Levels(decoder) => Some(decoder),
            Decoding::Planes(_) => None,
        }
    }

    /// Decodes the levels of element chunk `index`, in coded order: what a GPU dequantizes.
    ///
    /// # Errors
    /// As [`FrameDecoder::decode`]; `Argument` for a frame of planes.
    pub fn decode_levels(&mut self, index: usize, payload: &[u8]) -> Result<Vec<i32>> {
        self.decode_coded(index, payload)?;
        Ok(self.levels().map_or_else(Vec::new, |decoder| decoder.coded.iter().map(|&level| level as i32).collect()))
    }

    /// Decodes the levels of element chunk `index` and keeps them.
    fn decode_coded(&mut self, index: usize, payload: &[u8]) -> Result<()> {
        let (first, len) = self.range(index)?;
        let reference = Reference::of(&self.frame, self.reference.as_deref_mut(), index)?;
        let Decoding::Levels(decoder) = &mut self.coding else {
            return Err(Error::argument("a frame of planes has no levels"));
        };
        let rectangle = rectangle(&decoder.levels, first, len);
        let scales = rectangle.unscaled();
        decoder.decode_coded(LevelChunk { rectangle, payload, reference }, &scales)
    }

    fn range(&self, index: usize) -> Result<(u64, u64)> {
        let range = self.frame.chunk_range(index);
        range.ok_or_else(|| Error::argument(format!("the frame has no chunk {index}")))
    }
}

/// What a chunk is predicted from: the same chunk of the reference, which may be shorter, or missing.
struct Reference<'a> {
    /// They become the predictions.
    levels: Option<&'a mut Vec<f32>>,
    /// No level is larger.
    bound: u64,
    elements: &'a [u8],
}

impl<'a> Reference<'a> {
    /// Takes what the reference's decoder holds.
    fn of(frame: &Frame, decoder: Option<&'a mut FrameDecoder>, index: usize) -> Result<Self> {
        let none = Reference { levels: None, bound: 0, elements: &[] };
        match decoder {
            Some(decoder) if index >= decoder.frame.chunk_count => Ok(none),
            Some(decoder) if decoder.held == Some(index) => {
                decoder.held = None;
                Ok(match &mut decoder.coding {
                    Decoding::Levels(decoder) => {
                        Reference { levels: Some(&mut decoder.coded), bound: decoder.bound, ..none }
                    }
                    Decoding::Planes(decoder) => Reference { elements: &decoder.elements, ..none },
                })
            }
            None if frame.reference.is_none() => Ok(none),
            _ => Err(Error::argument("the chunk of the frame's reference is needed first")),
        }
    }
}

/// Decodes the plane of each field of some records, and puts it in place. A predicted chunk has a reference: the bytes of the
/// same chunk of its frame, of which those that are missing count as zeros.
pub(crate) fn decode_fields(
    mut payload: &[u8],
    record: &[usize],
    dtype: DType,
    reference: Option<&[u8]>,
    plane: &mut Vec<u8>,
    records: &mut [u8],
) -> Result<()> {
    let reference = reference.map(|reference| planes::rotated(reference, dtype, records.len()));
    let record_bytes = record.iter().sum();
    let mut offset = 0;
    for &field in record {
        plane.resize(records.len() / record_bytes * field, 0);
        let guide = reference.as_ref().map(|reference| Guide { reference, record_bytes, offset, field });
        decode_plane(&mut payload, plane, guide.as_ref())?;
        planes::join_field(plane, field, offset, record_bytes, records);
        offset += field;
    }
    end(payload)?;
    if let Some(reference) = reference {
        planes::add_reference(records, &reference, dtype);
    }
    planes::unrotate(records, dtype);
    Ok(())
}

fn rectangle(levels: &Levels, first: u64, len: u64) -> Rectangle {
    let (first, len, row_len) = (first as usize, len as usize, levels.row_len());
    let (rows, cols) = if len < row_len { (1, len) } else { (len / row_len, row_len) };
    Rectangle { first_row: first / row_len, rows, first_col: first % row_len, cols }
}

impl LevelDecoder {
    fn new(previous: Option<Self>, archive: &Archive, levels: &Levels, side: Option<&[u8]>) -> Result<Self> {
        let side = match (levels.side != 0, side) {
            (true, Some(payload)) => SideArrays::parse(levels, payload)?,
            (true, None) => return Err(Error::argument("the frame's side chunk is needed first")),
            (false, _) => SideArrays::default(),
        };
        let (first_exponent, last_exponent) = side.exponent_range();
        let scales = match levels.scale {
            Some(scale) => quantize::scales(scale, first_exponent, last_exponent)?,
            None => Vec::new(),
        };
        let tables = levels.first_table..levels.first_table + levels.table_count;
        let (same_tables, mut slots, coded, rows) = match previous {
            Some(decoder) => (decoder.tables == tables, decoder.slots, decoder.coded, decoder.rows),
            None => Default::default(),
        };
        if !same_tables {
            slots.clear();
            archive.tables[tables.clone()].iter().for_each(|table| table.push_slots(&mut slots));
        }
        let basis = levels.dct.then(|| Basis::new(levels.taps));
        let levels = levels.clone();
        Ok(LevelDecoder { levels, tables, slots, side, scales, first_exponent, basis, coded, bound: 0, rows })
    }

    /// The side arrays.
    pub fn side(&self) -> &SideArrays {
        &self.side
    }

    /// `S(e)` from the smallest sum of exponents on, and that sum.
    pub fn scales(&self) -> (&[f32], i32) {
        (&self.scales, self.first_exponent)
    }

    fn decode(&mut self, chunk: LevelChunk, dtype: DType, bytes: &mut [u8]) -> Result<()> {
        if !self.levels.column_major {
            return self.decode_rows(chunk, dtype, bytes);
        }
        let mut words = std::mem::take(&mut self.rows);
        words.resize(bytes.len().div_ceil(8), 0);
        let rows = &mut bytemuck::cast_slice_mut(&mut words)[..bytes.len()];
        let cols = chunk.rectangle.cols;
        let decoded = self.decode_rows(chunk, dtype, rows);
        match dtype.bits() {
            8 => transpose::<1>(rows, cols, bytes),
            16 => transpose::<2>(rows, cols, bytes),
            64 => transpose::<8>(rows, cols, bytes),
            _ => transpose::<4>(rows, cols, bytes),
        }
        self.rows = words;
        decoded
    }

    fn decode_rows(&mut self, chunk: LevelChunk, dtype: DType, bytes: &mut [u8]) -> Result<()> {
        let (rectangle, scales) = (chunk.rectangle, self.chunk_scales(&chunk.rectangle)?);
        let in_order = dtype == DType::F32 && self.side.column_permutation.is_none();
        if in_order && let Ok(weights) = bytemuck::try_cast_slice_mut(bytes) {
            self.decode_values(chunk, &scales, weights)?;
            self.basis.iter().for_each(|basis| basis.inverse(weights));
            return Ok(());
        }
        self.decode_coded(chunk, &scales)?;
        self.basis.iter().for_each(|basis| basis.inverse(&mut self.coded));
        self.write_elements(&rectangle, dtype, bytes);
        Ok(())
    }

    /// [`LevelDecoder::decode_values`] into `self.coded`.
    fn decode_coded(&mut self, chunk: LevelChunk, scales: &Scales) -> Result<()> {
        let mut coded = std::mem::take(&mut self.coded);
        coded.resize(chunk.rectangle.rows * chunk.rectangle.cols, 0.0);
        let decoded = self.decode_values(chunk, scales, &mut coded);
        self.coded = coded;
        self.bound = decoded?;
        Ok(())
    }

    /// Entropy decoding, prediction and scaling: whatever `values` held, they become levels times scales. Gives a bound on
    /// the levels.
    fn decode_values(&self, chunk: LevelChunk, scales: &Scales, values: &mut [f32]) -> Result<u64> {
        let Levels { low_bits, trellis, .. } = self.levels;
        let LevelChunk { rectangle, payload, reference } = chunk;
        let payload = LevelPayload::parse(payload, rectangle.rows, rectangle.cols, low_bits)?;
        let (row_class, col_class) = self.classes(&rectangle);
        let tables = Tables { slots: &self.slots, rows: &row_class, cols: &col_class };
        let largest = payload.escapes.iter().map(|(_, level)| level.unsigned_abs()).max().unwrap_or(0);
        let mut bound = u64::from(largest).max(SYMBOL_LEVEL_MAX << low_bits);
        let predictions: &[f32] = match reference.levels {
            Some(levels) => {
                levels.resize(values.len(), 0.0);
                bound += self.predict(&rectangle, reference.bound, levels)?;
                levels
            }
            None => &[],
        };
        if low_bits == 0 && bound < quantize::LEVEL_END as u64 {
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
        Ok(bound)
    }

    /// Takes the reference's levels, of which none is larger than `bound`, to the predictions of a chunk; gives a bound on them.
    fn predict(&self, rectangle: &Rectangle, bound: u64, levels: &mut [f32]) -> Result<u64> {
        let mut largest_gain = 0;
        for (row, levels) in levels.chunks_mut(rectangle.cols).enumerate() {
            let gain = self.side.row_gain.get(rectangle.first_row + row).map_or(self.levels.gain, |&gain| gain.into());
            largest_gain = largest_gain.max(gain.unsigned_abs());
            predict::predict(levels, bound, gain);
        }
        let bound = (u64::from(largest_gain) * bound).div_ceil(GAIN_ONE as u64);
        if bound >= quantize::LEVEL_END as u64 {
            check_levels(levels)?;
        }
        Ok(bound)
    }

    /// Weights, or levels of integers, in `self.coded` to elements.
    fn write_elements(&self, rectangle: &Rectangle, dtype: DType, bytes: &mut [u8]) {
        let places = self.side.column_permutation.as_ref().map(Permutation::places);
        let zero_point = self.levels.zero_point;
        Elements { dtype, cols: rectangle.cols, places, zero_point }.write(&self.coded, bytes);
    }

    fn classes(&self, rectangle: &Rectangle) -> (Vec<i8>, Vec<i8>) {
        let row = |row| self.side.get(Side::RowClass, rectangle.first_row + row) as i8;
        let col = |col| {
            let (column, tap) = self.column_and_tap(rectangle.first_col + col);
            let class = self.side.get(Side::ColumnClass, column) + self.side.get(Side::TapClass, tap);
            class.clamp(i8::MIN.into(), i8::MAX.into()) as i8
        };
        ((0..rectangle.rows).map(row).collect(), (0..rectangle.cols).map(col).collect())
    }

    fn chunk_scales(&self, rectangle: &Rectangle) -> Result<Scales> {
        let &Rectangle { first_row, rows, first_col, cols } = rectangle;
        let arrays = [Side::RowExponent, Side::ColumnExponent, Side::TapExponent];
        let exponents = arrays.map(|array| self.side.arrays[array as usize].as_slice());
        let (rows, cols) = (first_row..first_row + rows, first_col..first_col + cols);
        scales_of(&self.scales, self.first_exponent, exponents, self.levels.taps, rows, cols)
    }

    fn column_and_tap(&self, col: usize) -> (usize, usize) {
        (col / self.levels.taps, col % self.levels.taps)
    }
}

fn check_levels(levels: &[f32]) -> Result<()> {
    let inside = levels.iter().all(|level| level.abs() < quantize::LEVEL_END as f32);
    if inside { Ok(()) } else { Err(Error::invalid("level", "a prediction leads out of range")) }
}

/// The scales of a rectangle's weights; of integers, which have no `steps`, 1. There are exponents of rows, columns and taps
/// (empty: all 0), and `steps` begin with the scale of `first_exponent`.
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
    let get = |array: usize, index: usize| exponents[array].get(index).map_or(0, |&value| i32::from(value));
    let least = exponents[0].iter().min().map_or(0, |&least| i32::from(least));
    let rows: Vec<u8> = rows.map(|row| (get(0, row) - least) as u8).collect();
    let col = |col| (get(1, col / taps) + get(2, col % taps) - (first_exponent - least)) as u16;
    let cols: Vec<u16> = cols.map(col).collect();
    Scales::new(steps, &rows, &cols).ok_or_else(|| Error::invalid("scale", "exponents out of range"))
}

/// Weights, or levels of integers -> elements, one row after another: un-permute the columns, cast.
pub(crate) struct Elements<'a> {
    pub(crate) dtype: DType,
    pub(crate) cols: usize,
    /// Where each coded column belongs.
    pub(crate) places: Option<&'a [u32]>,
    /// Added to the levels of integers.
    pub(crate) zero_point: i32,
}

impl Elements<'_> {
    /// Takes rows in coded order.
    pub(crate) fn write(&self, values: &[f32], bytes: &mut [u8]) {
        let element_bytes = (self.dtype.bits() / 8) as usize;
        let rows = values.chunks_exact(self.cols).zip(bytes.chunks_exact_mut(self.cols * element_bytes));
        for (values, elements) in rows {
            for (col, &value) in values.iter().enumerate() {
                let place = self.places.map_or(col, |places| places[col] as usize);
                let element = &mut elements[place * element_bytes..(place + 1) * element_bytes];
                match self.dtype {
                    DType::F32 => element.copy_from_slice(&value.to_le_bytes()),
                    DType::F16 => element.copy_from_slice(&quantize::to_f16(value).to_le_bytes()),
                    DType::BF16 => element.copy_from_slice(&quantize::to_bf16(value).to_le_bytes()),
                    DType::F64 => element.copy_from_slice(&f64::from(value).to_le_bytes()),
                    _ => {
                        let integer = (value as i32).wrapping_add(self.zero_point).to_le_bytes();
                        element.copy_from_slice(&integer[..element_bytes]);
                    }
                }
            }
        }
    }
}
