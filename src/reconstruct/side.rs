//! Side payload -> the classes, exponents, permutations and gains of a frame's rows, columns and taps (FORMAT.md,
//! section 5.1).

use crate::container::{Levels, Side};
use crate::entropy::decode_plane;
use crate::error::{Error, Result};
use crate::fields::parse_whole;
use crate::stages::permute::Permutation;
use crate::stages::quantize;

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
    /// Those of a frame; `side` is the verified payload of its side chunk, if it has one.
    ///
    /// # Errors
    /// `Invalid` if the payload breaks a rule, `Argument` if it is missing.
    pub(crate) fn of(levels: &Levels, side: Option<&[u8]>) -> Result<Self> {
        match (levels.side != 0, side) {
            (true, Some(payload)) => Self::parse(levels, payload),
            (true, None) => Err(Error::argument("the frame's side chunk is needed first")),
            (false, _) => Ok(Self::default()),
        }
    }

    fn parse(levels: &Levels, payload: &[u8]) -> Result<Self> {
        parse_whole(payload, |payload| Self::parse_front(levels, payload))
    }

    fn parse_front(levels: &Levels, payload: &mut &[u8]) -> Result<Self> {
        let mut side = SideArrays::default();
        for (array, values) in Side::BYTE_ARRAYS.into_iter().zip(&mut side.arrays) {
            if levels.has(array) {
                let mut bytes = vec![0u8; levels.side_len(array)];
                decode_plane(payload, &mut bytes, None)?;
                *values = bytes.into_iter().map(|byte| byte as i8).collect();
            }
        }
        for (which, slot) in
            [(Side::RowPermutation, &mut side.row_permutation), (Side::ColumnPermutation, &mut side.column_permutation)]
        {
            if levels.has(which) {
                *slot = Some(Permutation::parse(levels.side_len(which), payload)?);
            }
        }
        if levels.has(Side::RowGain) {
            let [mut low, mut high] = [vec![0; levels.rows], vec![0; levels.rows]];
            decode_plane(payload, &mut low, None)?;
            decode_plane(payload, &mut high, None)?;
            side.row_gain = low.into_iter().zip(high).map(|(low, high)| i16::from_le_bytes([low, high])).collect();
        }
        Ok(side)
    }

    /// One of the six arrays of classes and exponents.
    pub fn array(&self, array: Side) -> &[i8] {
        self.arrays.get(array as usize).map_or(&[], Vec::as_slice)
    }

    /// The class of a row, a column or a tap.
    pub(crate) fn class(&self, array: Side, index: usize) -> i8 {
        self.array(array).get(index).copied().unwrap_or(0)
    }

    /// `S(e)` from the smallest sum of exponents on, and that sum; integers have no scales.
    pub(crate) fn scales(&self, scale: Option<f32>) -> Result<(Vec<f32>, i32)> {
        let (first, last) = self.exponent_range();
        Ok((scale.map_or(Ok(Vec::new()), |scale| quantize::scales(scale, first, last))?, first))
    }

    /// Smallest and largest sum of a row, a column and a tap exponent.
    fn exponent_range(&self) -> (i32, i32) {
        let ranges = [Side::RowExponent, Side::ColumnExponent, Side::TapExponent].map(|array| {
            let values = self.array(array).iter().map(|&value| i32::from(value));
            (values.clone().min().unwrap_or(0), values.max().unwrap_or(0))
        });
        ranges
            .into_iter()
            .fold((0, 0), |sum: (i32, i32), range| (sum.0.wrapping_add(range.0), sum.1.wrapping_add(range.1)))
    }
}
