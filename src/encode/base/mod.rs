//! The base of a delta: how its tensors see those of the same names, and what it predicts of them.

pub mod cell_errors;
pub mod change;

use std::ops::Range;

use crate::container::{Coding, Frame, Levels, Side, Tensor};
use crate::encode::base::cell_errors::{CellErrors, ErrorCounts};
use crate::encode::coded_weights::CodedWeights;
use crate::encode::contents::Contents;
use crate::encode::exact::frame::{CodedFrame, predicted};
use crate::encode::levels::frame::chunk_len;
use crate::encode::levels::matrix::{Matrix, Orders, View};
use crate::encode::levels::model_fit::TOLD_MAX;
use crate::encode::levels::quartets::rows_of_four;
use crate::encode::options::Base;
use crate::error::Result;
use crate::format::REFERENCE_DEPTH_MAX;
use crate::reconstruct::FrameDecoder;
use crate::stages::permute::Permutation;
use crate::stages::transform::Basis;
use crate::tensor::{SIDE_ENTRIES, TensorLocation};

/// The largest part of a tensor's energy that a prediction may leave for both to be much alike: if a base leaves more, little is
/// saved, and a step of the tensor's own is worth more.
pub const RESEMBLANCE: f64 = 0.5;

/// A frame of the base that a tensor is predicted from.
#[derive(Debug, Clone)]
pub struct BaseFrame {
    /// Its index in the base.
    pub frame: usize,
    /// Its step.
    pub scale: f32,
    /// Whether its step is half of its quantizer's.
    pub trellis: bool,
    /// The weights that it was made of, if they are at hand.
    pub original: Option<Original>,
}

/// The weights that a frame of the base was made of.
#[derive(Debug, Clone)]
pub struct Original {
    /// Which of the tensors of the base's files.
    pub tensor: usize,
    /// How the base sees it.
    pub view: View,
    /// What the base's levels err by.
    pub errors: CellErrors,
}

impl BaseFrame {
    /// Step of its quantizer, in its levels.
    pub fn quantizer_step(&self) -> f32 {
        if self.trellis { 2.0 } else { 1.0 }
    }

    /// Its levels in some rows of a tensor, in coded order; zeros in rows that it lacks.
    ///
    /// # Errors
    /// Whatever is wrong with the base.
    pub fn levels(&self, base: &Base, rows: Range<usize>, row_len: usize) -> Result<Vec<i32>> {
        let mut decoder = base.frame(self.frame)?;
        let chunks = chunks_of(decoder.frame(), &rows, row_len);
        let mut levels = Vec::with_capacity(rows.len() * row_len);
        for chunk in chunks {
            levels.append(&mut base.chunk_levels(&mut decoder, chunk)?);
        }
        levels.resize(rows.len() * row_len, 0);
        Ok(levels)
    }
}

/// The chunks of a frame that hold these rows, which are those of whole chunks.
fn chunks_of(frame: &Frame, rows: &Range<usize>, row_len: usize) -> Range<usize> {
    let (first, end) = match frame.row_cut() {
        Some((_, pieces)) => (rows.start * pieces as usize, rows.end * pieces as usize),
        None => {
            let chunk_rows = frame.chunk_len as usize / row_len;
            (rows.start / chunk_rows, rows.end.div_ceil(chunk_rows))
        }
    };
    first.min(frame.chunk_count)..end.min(frame.chunk_count)
}

/// How the base's tensor of this name sees `tensor`; `None` if there is none that could predict it. The weights of the base are
/// among `originals`, if these are known.
///
/// # Errors
/// Whatever is wrong with the base, or with reading the tensor.
pub fn base_frame(
    base: &Base,
    contents: &Contents,
    tensor: &TensorLocation,
    orders: &Orders,
    originals: Option<&Contents>,
) -> Result<Option<(View, BaseFrame)>> {
    let archive = base.archive();
    let is_in_order = orders.iter().all(Option::is_none);
    let Some((_, index)) = in_base(base, &tensor.name, is_in_order) else { return Ok(None) };
    let Coding::Levels(levels) = &archive.frames[index].coding else { return Ok(None) };
    let Some(scale) = levels.scale else { return Ok(None) };
    let Some(mut view) = seen(Matrix::of(&tensor.shape), levels, is_in_order) else { return Ok(None) };
    if archive.frames[index].chunk_len != chunk_len(view.matrix.row_len()) as u64 {
        return Ok(None);
    }
    view.basis = levels.dct.then(|| Basis::new(levels.taps));
    let decoder = base.frame(index)?;
    if !look_alike(&decoder, orders, &mut view)? {
        return Ok(None);
    }
    let mut frame = BaseFrame { frame: index, scale, trellis: levels.trellis, original: None };
    if !resembles(base, &frame, &CodedWeights::new(contents, tensor, &view)?, &view)? {
        return Ok(None);
    }
    if let Some(originals) = originals {
        let mut seen = View { permutations: Default::default(), ..view.clone() };
        if look_alike(&decoder, &[None, None], &mut seen)? {
            frame.original = original(base, &frame, originals, tensor, seen)?;
        }
    }
    Ok(Some((view, frame)))
}

/// How levels of the base see a matrix; `None` if they cannot. One whose units move is seen row by row.
fn seen(matrix: Matrix, levels: &Levels, is_in_order: bool) -> Option<View> {
    let is_seen = |view: &View| {
        let same = (view.column_major, view.matrix.columns, view.matrix.taps);
        same == (levels.column_major, levels.columns, levels.taps)
    };
    let as_it_is = View::new(matrix, levels.column_major);
    if is_seen(&as_it_is) {
        return (is_in_order || !levels.column_major && !levels.dct).then_some(as_it_is);
    }
    let fours = View::new(rows_of_four(matrix).filter(|_| is_in_order)?, false);
    is_seen(&fours).then_some(fours)
}

/// The tensor that a frame of the base was made of: of the same name and shape, and no farther away than quantizing takes it.
fn original(
    base: &Base,
    frame: &BaseFrame,
    originals: &Contents,
    tensor: &TensorLocation,
    view: View,
) -> Result<Option<Original>> {
    let is_same = |original: &TensorLocation| {
        original.name == tensor.name && original.shape == tensor.shape && original.dtype.is_float()
    };
    let Some(index) = originals.tensors.iter().position(is_same) else { return Ok(None) };
    let weights = CodedWeights::new(originals, &originals.tensors[index], &view)?;
    let step = frame.quantizer_step();
    let (mut counts, mut squares) = (ErrorCounts::new(), 0.0);
    for_each_level(base, frame, &weights, &view, |weight, level| {
        let error = (weight - level as f32) / step;
        squares += f64::from(error * error);
        counts.add(error, level);
    })?;
    let fits = squares <= ORIGINAL_ERROR_MAX * view.matrix.len() as f64;
    Ok(fits.then(|| Original { tensor: index, view, errors: counts.distributions() }))
}

/// The largest mean square of what quantizing takes from weights, in squared steps: at low rates, a step of several deviations.
const ORIGINAL_ERROR_MAX: f64 = 0.5;

/// Makes a view one of the base's rows and columns; false if these do not fit.
fn look_alike(decoder: &FrameDecoder, orders: &Orders, view: &mut View) -> Result<bool> {
    let Some(side) = decoder.levels().map(|decoder| decoder.side()) else { return Ok(false) };
    let array = |side_array: Side| side.arrays[side_array as usize].clone();
    view.exponents = [Side::RowExponent, Side::ColumnExponent, Side::TapExponent].map(array);
    if !view.exponents[0].is_empty() {
        view.exponents[0].resize(view.matrix.rows, 0);
    }
    let combined = combined([&side.row_permutation, &side.column_permutation], orders, view.matrix);
    let fits = combined.is_some();
    view.permutations = combined.unwrap_or_default();
    Ok(fits)
}

/// Whether a prediction leaves little enough of the energy of weights.
fn resembles(base: &Base, frame: &BaseFrame, weights: &CodedWeights, view: &View) -> Result<bool> {
    let [mut before, mut after] = [0.0, 0.0];
    for_each_level(base, frame, weights, view, |weight, level| {
        before += f64::from(weight).powi(2);
        after += f64::from(weight - level as f32).powi(2);
    })?;
    Ok(after < RESEMBLANCE * before)
}

/// Visits every weight, in steps of the frame, and the frame's level in its place.
fn for_each_level(
    base: &Base,
    frame: &BaseFrame,
    weights: &CodedWeights,
    view: &View,
    mut visit: impl FnMut(f32, i32),
) -> Result<()> {
    let Matrix { rows, .. } = view.matrix;
    let row_len = view.matrix.row_len();
    let chunk_rows = (chunk_len(row_len) / row_len).max(1);
    for first in (0..rows).step_by(chunk_rows) {
        let range = first..rows.min(first + chunk_rows);
        let levels = frame.levels(base, range.clone(), row_len)?;
        weights
            .unit_rows(range)?
            .into_iter()
            .zip(levels)
            .for_each(|(weight, level)| visit(weight / frame.scale, level));
    }
    Ok(())
}

/// The base's tensor of this name, and its frame, if another frame may refer to it: readers bound how many do, and the side arrays
/// of all of them.
fn in_base<'b>(base: &'b Base, name: &str, is_in_order: bool) -> Option<(&'b Tensor, usize)> {
    let archive = base.archive();
    let tensor = archive.tensors.iter().find(|tensor| tensor.name == name)?;
    let frame = *tensor.frames.last()?;
    let references = archive.references(frame);
    let levels = |&index: &usize| match &archive.frames[index].coding {
        Coding::Levels(levels) => Some(levels),
        Coding::Planes(_) => None,
    };
    let entries: u64 = references.iter().chain([&frame]).filter_map(levels).map(|levels| levels.side_entries()).sum();
    let more = levels(&frame).map_or(0, |levels| side_entries_of_delta(levels, is_in_order));
    let fits = entries + more <= SIDE_ENTRIES;
    (fits && (references.len() as u64) < REFERENCE_DEPTH_MAX).then_some((tensor, frame))
}

/// Most entries of the side arrays of a frame that levels of the base predict: classes of its own, their exponents, and where units
/// have moved.
fn side_entries_of_delta(levels: &Levels, is_in_order: bool) -> u64 {
    let told = [levels.rows, levels.columns, levels.taps].into_iter().filter(|&extent| extent <= TOLD_MAX);
    let exponents =
        [Side::RowExponent, Side::ColumnExponent, Side::TapExponent].into_iter().filter(|&side| levels.has(side));
    let exponents = exponents.map(|side| levels.side_len(side));
    let moved = if is_in_order { 0 } else { levels.rows + levels.row_len() };
    (told.chain(exponents).sum::<usize>() + moved) as u64
}

/// Whether the base's tensor of this name is exact, and may predict another's bytes.
pub fn is_exact(base: &Base, name: &str) -> bool {
    in_base(base, name, true).is_some_and(|(_, frame)| matches!(base.archive().frames[frame].coding, Coding::Planes(_)))
}

/// The exact frame of a tensor, predicted from the base's tensor of its name; `None` if there is none of its kind.
///
/// # Errors
/// Whatever is wrong with the base.
pub fn predict_exact(base: &Base, tensor: &TensorLocation, bytes: &[u8]) -> Result<Option<CodedFrame>> {
    let Some((found, index)) = in_base(base, &tensor.name, true) else { return Ok(None) };
    let reference = &base.archive().frames[index];
    let Coding::Planes(fields) = &reference.coding else { return Ok(None) };
    let mut frame = predicted(bytes, tensor.dtype, tensor.record, &base.tensor(&found.name)?);
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
