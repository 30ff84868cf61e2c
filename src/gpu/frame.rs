//! Frame of levels -> what `reconstruct.wgsl` binds: parameters and side arrays, each proven to fit the others.
//!
//! [`LevelFrame`] is all that reconstruction needs to know, apart from how the levels were coded; [`LevelFrame::reconstruct`],
//! the stages of [`crate::reconstruct`], is the shader's CPU twin.

use super::cast::cast;
use crate::container::{Archive, Coding, Frame, Levels, Side};
use crate::error::{Error, Result};
use crate::format::{DCT_TAPS_MAX, EXPONENT_MIN};
use crate::reconstruct::{Elements, SideArrays, scales_of};
use crate::stages::permute::Permutation;
use crate::stages::transform::{self, Basis};
use crate::tensor::DType;

/// Bound on the elements of a frame, so that indices and their padding stay below 2^32 in the shader.
const ELEMENT_LEN_MAX: u64 = 1 << 31;
/// `ABSENT` of the shader.
pub(super) const ABSENT: u32 = u32::MAX;

/// A frame of levels, as the stages after entropy decoding see it.
#[derive(Debug, Clone)]
pub struct LevelFrame<'a> {
    /// Element type of the archive's tensor.
    pub dtype: DType,
    /// Element type of what is made: that one, or f32 or f16.
    pub output: DType,
    /// Where its levels begin in the buffer.
    pub level_at: u32,
    /// Rows of the matrix.
    pub rows: usize,
    /// Columns of the matrix, without the taps.
    pub columns: usize,
    /// Taps of each column.
    pub taps: usize,
    /// `S(e)` from `first_exponent` on; empty for integers.
    pub scales: &'a [f32],
    /// The sum of exponents that the first scale is for.
    pub first_exponent: i32,
    /// Added to the levels of integers.
    pub zero_point: i32,
    /// One exponent per coded row; empty: all 0.
    pub row_exponent: &'a [i8],
    /// One exponent per coded column; empty: all 0.
    pub column_exponent: &'a [i8],
    /// One exponent per tap; empty: all 0.
    pub tap_exponent: &'a [i8],
    /// Whether levels are coefficients of a DCT over the taps.
    pub dct: bool,
    /// Whether the tensor is the transpose of the matrix.
    pub column_major: bool,
    /// Where each coded row belongs.
    pub row_permutation: Option<&'a Permutation>,
    /// Where each coded column (with its tap) belongs.
    pub column_permutation: Option<&'a Permutation>,
}

impl<'a> LevelFrame<'a> {
    /// A frame of which the first level is `level_at` in the buffer, as elements of `dtype`, or of its own type. `scales`
    /// begin with that of an exponent.
    pub(super) fn of(
        frame: &Frame,
        levels: &Levels,
        side: &'a SideArrays,
        (scales, first_exponent): (&'a [f32], i32),
        level_at: u32,
        output: Option<DType>,
    ) -> Self {
        let array = |array: Side| side.array(array);
        LevelFrame {
            dtype: frame.dtype,
            output: output.unwrap_or(frame.dtype),
            rows: levels.rows,
            columns: levels.columns,
            taps: levels.taps,
            level_at,
            scales,
            first_exponent,
            zero_point: levels.zero_point,
            row_exponent: array(Side::RowExponent),
            column_exponent: array(Side::ColumnExponent),
            tap_exponent: array(Side::TapExponent),
            dct: levels.dct,
            column_major: levels.column_major,
            row_permutation: side.row_permutation.as_ref(),
            column_permutation: side.column_permutation.as_ref(),
        }
    }

    /// Levels in a row.
    pub fn row_len(&self) -> usize {
        self.columns * self.taps
    }

    /// Number of elements.
    pub fn element_len(&self) -> u64 {
        self.rows as u64 * self.columns as u64 * self.taps as u64
    }

    /// Bytes of what is made.
    pub fn bytes(&self) -> u64 {
        self.element_len() * self.output.element_bytes() as u64
    }

    /// Proves that no index which the shader computes from these fields leaves its array.
    ///
    /// # Errors
    /// `Unsupported` if a GPU cannot take such a frame, `Argument` if the fields contradict each other.
    pub fn check(&self) -> Result<()> {
        let cells = [self.columns, self.taps].iter().try_fold(self.rows as u64, |len, &n| len.checked_mul(n as u64));
        if !cells.is_some_and(|len| (1..=ELEMENT_LEN_MAX).contains(&len)) {
            return Err(Error::unsupported("matrix", "its number of elements on the GPU"));
        }
        let lens = [
            (self.row_exponent.len(), self.rows),
            (self.column_exponent.len(), self.columns),
            (self.tap_exponent.len(), self.taps),
            (self.row_permutation.map_or(0, |p| p.places().len()), self.rows),
            (self.column_permutation.map_or(0, |p| p.places().len()), self.row_len()),
        ];
        let fits = lens.iter().all(|&(len, expected)| len == 0 || len == expected);
        self.casts()?;
        let is_kernel = self.column_permutation.is_none() && self.taps as u64 <= DCT_TAPS_MAX;
        if self.dct && (self.scales.is_empty() || !is_kernel) {
            return Err(Error::argument(
                "a transform is of floats in kernels of at most 1024 taps, which are not permuted",
            ));
        }
        if fits && (self.scales.is_empty() || self.scales_cover_exponents()) {
            Ok(())
        } else {
            Err(Error::argument("the side arrays do not fit the frame"))
        }
    }

    /// `is_plain` of the shader.
    fn is_plain(&self, (cast, value): (Cast, Value)) -> bool {
        let is_float = matches!(cast, Cast::F32 | Cast::F16 | Cast::Bf16) && value == Value::Weight;
        let is_whole = self.row_len().is_multiple_of(4) && self.level_at.is_multiple_of(4);
        is_float && is_whole && !self.column_major && self.column_permutation.is_none() && !self.dct
    }

    fn scales_cover_exponents(&self) -> bool {
        let range = |array: &[i8]| {
            let values = array.iter().map(|&value| i64::from(value));
            (values.clone().min().unwrap_or(0), values.max().unwrap_or(0))
        };
        let ranges = [range(self.row_exponent), range(self.column_exponent), range(self.tap_exponent)];
        let (least, most) = ranges.iter().fold((0, 0), |sum, range| (sum.0 + range.0, sum.1 + range.1));
        let first = i64::from(self.first_exponent);
        (EXPONENT_MIN.into()..=least).contains(&first) && most - first < self.scales.len() as i64
    }

    /// What the elements are to be, and which values they are to have.
    pub(super) fn casts(&self) -> Result<(Cast, Value)> {
        let unsupported = || Error::unsupported("dtype", format!("{} as {}", self.dtype.name(), self.output.name()));
        let own = match (self.dtype, self.dtype.bits()) {
            (DType::F32, _) => Cast::F32,
            (DType::F16, _) => Cast::F16,
            (DType::BF16, _) => Cast::Bf16,
            (DType::F64, _) => Cast::F64,
            (_, 8) => Cast::Integer8,
            (_, 16) => Cast::Integer16,
            _ => return Err(unsupported()),
        };
        if self.dtype.is_float() == self.scales.is_empty() {
            return Err(Error::argument("floats have scales, integers have none"));
        }
        if self.output == self.dtype {
            return Ok((own, Value::Weight));
        }
        let value = match self.dtype {
            DType::F32 | DType::F64 => Value::Weight,
            DType::F16 => Value::F16,
            DType::BF16 => Value::Bf16,
            DType::I8 | DType::I16 => Value::Signed,
            DType::U8 | DType::U16 | DType::Bool => Value::Unsigned,
            _ => return Err(unsupported()),
        };
        match self.output {
            DType::F32 => Ok((Cast::F32, value)),
            DType::F16 => Ok((Cast::F16, value)),
            _ => Err(unsupported()),
        }
    }

    /// What is made of levels in coded order, on the CPU: what the GPU is held to.
    ///
    /// # Errors
    /// As [`LevelFrame::check`]; `Argument` if there is not one level for each element.
    pub fn reconstruct(&self, levels: &[i32]) -> Result<Vec<u8>> {
        self.check()?;
        if levels.len() as u64 != self.element_len() {
            return Err(Error::argument("one level for each element is needed"));
        }
        let exponents = [self.row_exponent, self.column_exponent, self.tap_exponent];
        let (rows, cols) = (0..self.rows, 0..self.row_len());
        let scales = scales_of(self.scales, self.first_exponent, exponents, self.taps, rows, cols)?;
        let mut values: Vec<f32> = levels.iter().map(|&level| level as f32).collect();
        scales.apply(&mut values);
        if self.dct {
            Basis::new(self.taps).inverse(&mut values);
        }
        let places = self.column_permutation.map(Permutation::places);
        let &LevelFrame { dtype, zero_point, .. } = self;
        let mut rows_bytes = vec![0; levels.len() * dtype.element_bytes()];
        Elements { dtype, cols: self.row_len(), places, zero_point }.write(&values, &mut rows_bytes);
        let bytes = self.placed(&rows_bytes);
        if self.output == dtype { Ok(bytes) } else { cast(&bytes, dtype, self.output) }
    }

    /// Rows in coded order, put where they belong.
    fn placed(&self, rows: &[u8]) -> Vec<u8> {
        let element_bytes = self.dtype.element_bytes();
        let mut bytes = vec![0; rows.len()];
        for (index, element) in rows.chunks_exact(element_bytes).enumerate() {
            let (row, column) = (index / self.row_len(), index % self.row_len());
            let row = self.row_permutation.map_or(row, |permutation| permutation.places()[row] as usize);
            let place = if self.column_major { column * self.rows + row } else { row * self.row_len() + column };
            bytes[place * element_bytes..(place + 1) * element_bytes].copy_from_slice(element);
        }
        bytes
    }
}

/// What the chunks of a frame that a GPU takes hold.
///
/// # Errors
/// `Unsupported` for planes.
pub fn levels_of(frame: &Frame) -> Result<&Levels> {
    match &frame.coding {
        Coding::Levels(levels) => Ok(levels),
        Coding::Planes(_) => Err(Error::unsupported("coding", "planes on the GPU")),
    }
}

/// Most products that the sums of transforms take in a batch: a second of a weak device, which systems take away after two.
const TRANSFORM_PRODUCTS_MAX: u64 = 1 << 32;

/// Checks that transforms do not keep the device for too long.
///
/// # Errors
/// `Unsupported` if they do.
pub(super) fn check_transforms(archive: &Archive, wanted: &[usize]) -> Result<()> {
    let products = wanted.iter().filter_map(|&frame| archive.frames.get(frame)).map(|frame| match &frame.coding {
        Coding::Levels(levels) if levels.dct => frame.element_len.saturating_mul(levels.taps as u64),
        _ => 0,
    });
    if products.fold(0, u64::saturating_add) > TRANSFORM_PRODUCTS_MAX {
        return Err(Error::unsupported("transform", "of so many weights and taps on the GPU"));
    }
    Ok(())
}

/// The `CAST_` constants of the shader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Cast {
    F32 = 0,
    F16 = 1,
    Bf16 = 2,
    F64 = 3,
    Integer8 = 4,
    Integer16 = 5,
}

/// The `VALUE_` constants of the shader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Value {
    Weight = 0,
    F16 = 1,
    Bf16 = 2,
    Signed = 3,
    Unsigned = 4,
}

/// The contents of the shader's `side` buffer, and where each array starts in it.
pub(super) struct SideWords {
    pub words: Vec<u32>,
    row_exponent_at: u32,
    column_exponent_at: u32,
    tap_exponent_at: u32,
    row_inverse_at: u32,
    column_inverse_at: u32,
    basis_at: u32,
}

impl SideWords {
    /// The arrays of a checked frame.
    pub fn new(frame: &LevelFrame) -> Self {
        let mut words: Vec<u32> = frame.scales.iter().map(|scale| scale.to_bits()).collect();
        let side = SideWords {
            row_exponent_at: push_exponents(frame.row_exponent, &mut words),
            column_exponent_at: push_exponents(frame.column_exponent, &mut words),
            tap_exponent_at: push_exponents(frame.tap_exponent, &mut words),
            row_inverse_at: push_inverse(frame.row_permutation, &mut words),
            column_inverse_at: push_inverse(frame.column_permutation, &mut words),
            basis_at: push_basis(frame, &mut words),
            words: Vec::new(),
        };
        SideWords { words, ..side }
    }
}

fn push_exponents(exponents: &[i8], words: &mut Vec<u32>) -> u32 {
    if exponents.is_empty() {
        return ABSENT;
    }
    let first = words.len() as u32;
    words.extend(bytemuck::cast_slice(exponents).chunks(4).map(word_of));
    first
}

/// Up to four bytes, the first lowest.
pub(super) fn word_of(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |word, &byte| word << 8 | u32::from(byte))
}

fn push_inverse(permutation: Option<&Permutation>, words: &mut Vec<u32>) -> u32 {
    let Some(permutation) = permutation else { return ABSENT };
    let first = words.len() as u32;
    words.extend(permutation.inverse());
    first
}

fn push_basis(frame: &LevelFrame, words: &mut Vec<u32>) -> u32 {
    if !frame.dct {
        return ABSENT;
    }
    let first = words.len() as u32;
    words.extend(transform::entries(frame.taps).into_iter().map(f32::to_bits));
    first
}

/// The fields of the shader's `LevelFrame`, by name and in order.
pub(super) fn uniform_fields(
    frame: &LevelFrame,
    (cast, value): (Cast, Value),
    side: &SideWords,
) -> [(&'static str, u32); 17] {
    [
        ("element_len", frame.element_len() as u32),
        ("row_len", frame.row_len() as u32),
        ("column_len", if frame.column_major { frame.rows as u32 } else { 0 }),
        ("taps", frame.taps as u32),
        ("level_at", frame.level_at),
        ("element_cast", cast as u32),
        ("value", value as u32),
        ("integer_bits", frame.dtype.bits() as u32),
        ("zero_point", frame.zero_point as u32),
        ("first_exponent", frame.first_exponent as u32),
        ("row_exponent_at", side.row_exponent_at),
        ("column_exponent_at", side.column_exponent_at),
        ("tap_exponent_at", side.tap_exponent_at),
        ("row_inverse_at", side.row_inverse_at),
        ("column_inverse_at", side.column_inverse_at),
        ("basis_at", side.basis_at),
        ("is_plain", frame.is_plain((cast, value)).into()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, gpu::self_test};

    #[test]
    fn transforms_of_too_many_products_are_left_to_the_cpu() {
        let mut archive = Archive::parse(self_test::ARCHIVE, &Limits::default()).unwrap();
        let taps = |frame: &Frame| match &frame.coding {
            Coding::Levels(levels) if levels.dct => Some(levels.taps as u64),
            _ => None,
        };
        let (frame, taps) =
            archive.frames.iter().map(taps).enumerate().find_map(|(at, taps)| Some((at, taps?))).unwrap();
        archive.frames[frame].element_len = TRANSFORM_PRODUCTS_MAX / taps;
        assert!(check_transforms(&archive, &[frame]).is_ok());
        assert!(matches!(check_transforms(&archive, &[frame, frame]), Err(Error::Unsupported { .. })));
    }
}
