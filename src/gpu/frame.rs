//! Frame of levels -> what the shader binds: parameters and side arrays, each proven to fit the others.
//!
//! [`LevelFrame`] is all that reconstruction needs to know, apart from how the levels were coded; [`LevelFrame::reconstruct`],
//! the stages of [`crate::reconstruct`], is the CPU twin of `reconstruct.wgsl`.

use crate::container::{Coding, Side};
use crate::error::{Error, Result};
use crate::format::EXPONENT_MIN;
use crate::reconstruct::{Elements, FrameDecoder, scales_of};
use crate::stages::permute::Permutation;
use crate::tensor::DType;

/// Bound on the elements of a frame, so that indices and their padding stay below 2^32 in the shader.
const ELEMENT_LEN_MAX: u64 = 1 << 31;
/// `ABSENT` of the shader.
const ABSENT: u32 = u32::MAX;

/// A frame of levels, as the stages after entropy decoding see it.
#[derive(Debug, Clone)]
pub struct LevelFrame<'a> {
    /// Element type of the tensor.
    pub dtype: DType,
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
    /// Whether the tensor is the transpose of the matrix.
    pub column_major: bool,
    /// Where each coded row belongs.
    pub row_permutation: Option<&'a Permutation>,
    /// Where each coded column (with its tap) belongs.
    pub column_permutation: Option<&'a Permutation>,
}

impl<'a> LevelFrame<'a> {
    /// The frame that `decoder` decodes the levels of.
    ///
    /// # Errors
    /// `Unsupported` for a frame of planes.
    pub fn new(decoder: &'a FrameDecoder) -> Result<Self> {
        let (Coding::Levels(levels), Some(shared)) = (&decoder.frame().coding, decoder.levels()) else {
            return Err(Error::unsupported("coding", "planes on the GPU"));
        };
        if levels.dct {
            return Err(Error::unsupported("transform", "on the GPU"));
        }
        let (scales, first_exponent) = shared.scales();
        let side = shared.side();
        let array = |array: Side| side.array(array);
        Ok(LevelFrame {
            dtype: decoder.frame().dtype,
            rows: levels.rows,
            columns: levels.columns,
            taps: levels.taps,
            scales,
            first_exponent,
            zero_point: levels.zero_point,
            row_exponent: array(Side::RowExponent),
            column_exponent: array(Side::ColumnExponent),
            tap_exponent: array(Side::TapExponent),
            column_major: levels.column_major,
            row_permutation: side.row_permutation.as_ref(),
            column_permutation: side.column_permutation.as_ref(),
        })
    }

    /// Levels in a row.
    pub fn row_len(&self) -> usize {
        self.columns * self.taps
    }

    /// Number of elements.
    pub fn element_len(&self) -> u64 {
        self.rows as u64 * self.columns as u64 * self.taps as u64
    }

    /// Bytes of the tensor.
    pub fn bytes(&self) -> u64 {
        self.element_len() * self.dtype.element_bytes() as u64
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
        let cast = self.cast()?;
        if fits && (cast.is_integer() || self.scales_cover_exponents()) {
            Ok(())
        } else {
            Err(Error::argument("the side arrays do not fit the frame"))
        }
    }

    /// Checks that `bytes` bytes can be this frame's packed levels, with or without their padding.
    ///
    /// # Errors
    /// As [`LevelFrame::check`]; `Argument` if they cannot.
    pub fn check_levels(&self, bytes: u64, level_bits: u32) -> Result<()> {
        self.check()?;
        let exact = self.element_len() * u64::from(level_bits / 8);
        if (exact..=exact.next_multiple_of(4)).contains(&bytes) {
            return Ok(());
        }
        Err(Error::argument(format!("the frame's levels take {exact} bytes, not {bytes}")))
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

    pub(super) fn cast(&self) -> Result<Cast> {
        let cast = match (self.dtype, self.dtype.bits()) {
            (DType::F32, _) => Cast::F32,
            (DType::F16, _) => Cast::F16,
            (DType::BF16, _) => Cast::Bf16,
            (DType::F64, _) => Cast::F64,
            (_, 8) => Cast::Integer8,
            (_, 16) => Cast::Integer16,
            _ => return Err(Error::unsupported("dtype", format!("{} on the GPU", self.dtype.name()))),
        };
        if cast.is_integer() == self.scales.is_empty() {
            Ok(cast)
        } else {
            Err(Error::argument("floats have scales, integers have none"))
        }
    }

    /// Bytes of the tensor from levels in coded order, on the CPU: what the GPU is held to.
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
        let places = self.column_permutation.map(Permutation::places);
        let &LevelFrame { dtype, zero_point, .. } = self;
        let mut rows_bytes = vec![0; self.bytes() as usize];
        Elements { dtype, cols: self.row_len(), places, zero_point }.write(&values, &mut rows_bytes);
        Ok(self.placed(&rows_bytes))
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

impl Cast {
    fn is_integer(self) -> bool {
        matches!(self, Cast::Integer8 | Cast::Integer16)
    }
}

/// The contents of the shader's `side` buffer, and where each array starts in it.
pub(super) struct SideWords {
    pub words: Vec<u32>,
    row_exponent_at: u32,
    column_exponent_at: u32,
    tap_exponent_at: u32,
    row_inverse_at: u32,
    column_inverse_at: u32,
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
            words: Vec::new(),
        };
        // A binding must not be empty.
        words.resize(words.len().max(1), 0);
        SideWords { words, ..side }
    }
}

fn push_exponents(exponents: &[i8], words: &mut Vec<u32>) -> u32 {
    if exponents.is_empty() {
        return ABSENT;
    }
    let first = words.len() as u32;
    let word = |four: &[i8]| four.iter().rev().fold(0, |word, &exponent| word << 8 | u32::from(exponent as u8));
    words.extend(exponents.chunks(4).map(word));
    first
}

fn push_inverse(permutation: Option<&Permutation>, words: &mut Vec<u32>) -> u32 {
    let Some(permutation) = permutation else { return ABSENT };
    let first = words.len() as u32;
    words.extend(permutation.inverse());
    first
}

/// The fields of the shader's `LevelFrame`, by name and in order.
pub(super) fn uniform_fields(
    frame: &LevelFrame,
    cast: Cast,
    side: &SideWords,
    level_bits: u32,
    dispatch_len: u32,
) -> [(&'static str, u32); 14] {
    [
        ("element_len", frame.element_len() as u32),
        ("row_len", frame.row_len() as u32),
        ("column_len", if frame.column_major { frame.rows as u32 } else { 0 }),
        ("taps", frame.taps as u32),
        ("level_bits", level_bits),
        ("element_cast", cast as u32),
        ("zero_point", frame.zero_point as u32),
        ("first_exponent", frame.first_exponent as u32),
        ("dispatch_len", dispatch_len),
        ("row_exponent_at", side.row_exponent_at),
        ("column_exponent_at", side.column_exponent_at),
        ("tap_exponent_at", side.tap_exponent_at),
        ("row_inverse_at", side.row_inverse_at),
        ("column_inverse_at", side.column_inverse_at),
    ]
}
