//! The levels of a tensor in as few bytes as they need: a model has many, and most are small.

use std::ops::Range;

use rayon::prelude::*;

use crate::encode::scratch::{Kept, Scratch};
use crate::error::Result;

/// Levels, or indices under the trellis, in coded order.
#[derive(Debug, Clone, Default)]
pub struct Indices {
    pieces: Vec<Piece>,
    /// Length of every piece but the last.
    piece_len: usize,
    len: usize,
}

/// Neighbouring indices, all of one width.
#[derive(Debug, Clone)]
struct Piece {
    width: usize,
    kept: Kept,
}

impl Piece {
    fn new(indices: &[i32], scratch: &Scratch) -> Result<Self> {
        let fits = |min: i32, max: i32| indices.iter().all(|index| (min..=max).contains(index));
        let (width, bytes) = if fits(i8::MIN.into(), i8::MAX.into()) {
            (1, indices.iter().map(|&index| index as u8).collect())
        } else if fits(i16::MIN.into(), i16::MAX.into()) {
            (2, indices.iter().flat_map(|&index| (index as i16).to_le_bytes()).collect())
        } else {
            (4, indices.iter().flat_map(|index| index.to_le_bytes()).collect())
        };
        Ok(Piece { width, kept: scratch.keep(bytes)? })
    }

    fn push_to(&self, range: Range<usize>, indices: &mut Vec<i32>) -> Result<()> {
        let bytes = self.kept.read(range.start * self.width..range.end * self.width)?;
        match self.width {
            1 => indices.extend(bytes.iter().map(|&index| i32::from(index as i8))),
            2 => indices.extend(bytes.as_chunks().0.iter().map(|&index| i32::from(i16::from_le_bytes(index)))),
            _ => indices.extend(bytes.as_chunks().0.iter().map(|&index| i32::from_le_bytes(index))),
        }
        Ok(())
    }
}

impl Indices {
    /// `len` of them in pieces of `piece_len`: `fill` writes a piece, zeros at first, from any thread. Gives its results in
    /// order.
    ///
    /// # Errors
    /// The first error of `fill`; `Io` if there is no room for them.
    pub fn filled<T: Send>(
        len: usize,
        piece_len: usize,
        scratch: &Scratch,
        fill: impl Fn(usize, &mut [i32]) -> Result<T> + Sync,
    ) -> Result<(Self, Vec<T>)> {
        let piece = |index: usize| {
            let mut indices = vec![0; piece_len.min(len - index * piece_len)];
            let filled = fill(index, &mut indices)?;
            Ok((Piece::new(&indices, scratch)?, filled))
        };
        let count = if len == 0 { 0 } else { len.div_ceil(piece_len) };
        let pieces = (0..count).into_par_iter().map(piece).collect::<Result<Vec<_>>>()?;
        let (pieces, filled) = pieces.into_iter().unzip();
        Ok((Indices { pieces, piece_len, len }, filled))
    }

    /// Indices that are bytes already, in two's complement.
    pub fn of_bytes(indices: Vec<u8>) -> Self {
        let len = indices.len();
        Indices { pieces: vec![Piece { width: 1, kept: Kept::Memory(indices) }], piece_len: len, len }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The same in other levels.
    ///
    /// # Errors
    /// `Io` if they cannot be read or kept.
    pub fn map(&self, scratch: &Scratch, level: impl Fn(i32) -> i32 + Sync) -> Result<Self> {
        let fill = |piece: usize, mapped: &mut [i32]| {
            let first = piece * self.piece_len;
            let indices = self.range(first..first + mapped.len())?;
            mapped.iter_mut().zip(indices).for_each(|(mapped, index)| *mapped = level(index));
            Ok(())
        };
        Ok(Indices::filled(self.len, self.piece_len, scratch, fill)?.0)
    }

    /// The same as floats.
    ///
    /// # Errors
    /// `Io` if they cannot be read.
    pub fn to_floats(&self) -> Result<Vec<f32>> {
        let mut floats = vec![0.0; self.len];
        floats.par_chunks_mut(self.piece_len.max(1)).enumerate().try_for_each(|(piece, floats)| {
            let first = piece * self.piece_len;
            let indices = self.range(first..first + floats.len())?;
            floats.iter_mut().zip(indices).for_each(|(float, index)| *float = index as f32);
            Ok(())
        })?;
        Ok(floats)
    }

    /// What `visit` makes of every piece: of the place of its first index, and of its indices.
    ///
    /// # Errors
    /// `Io` if they cannot be read.
    pub fn for_each_piece<T: Send>(&self, visit: impl Fn(usize, &[i32]) -> T + Sync) -> Result<Vec<T>> {
        let piece = |index: usize| {
            let first = index * self.piece_len;
            Ok(visit(first, &self.range(first..self.len.min(first + self.piece_len))?))
        };
        (0..self.pieces.len()).into_par_iter().map(piece).collect()
    }

    /// Some of them.
    ///
    /// # Errors
    /// `Io` if they cannot be read.
    pub fn range(&self, range: Range<usize>) -> Result<Vec<i32>> {
        let mut indices = Vec::with_capacity(range.len());
        let first = range.start / self.piece_len.max(1);
        for (index, piece) in self.pieces.iter().enumerate().skip(first) {
            let start = index * self.piece_len;
            if start >= range.end {
                break;
            }
            let end = range.end.min(start + self.piece_len);
            piece.push_to(range.start.max(start) - start..end - start, &mut indices)?;
        }
        Ok(indices)
    }
}

impl From<&[i32]> for Indices {
    fn from(indices: &[i32]) -> Self {
        let kept = Kept::Memory(indices.iter().flat_map(|index| index.to_le_bytes()).collect());
        Indices { pieces: vec![Piece { width: 4, kept }], piece_len: indices.len(), len: indices.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_range_comes_back(
            indices in proptest::collection::vec(
                prop_oneof![40 => -128i32..128, 3 => -300i32..300, 1 => -70_000i32..70_000, 1 => any::<i32>()], 0..200,
            ),
            piece_len in 1usize..50,
            from in 0usize..200,
            len in 0usize..200,
        ) {
            let fill = |piece: usize, slots: &mut [i32]| {
                slots.copy_from_slice(&indices[piece * piece_len..][..slots.len()]);
                Ok(())
            };
            let (filled, _) = Indices::filled(indices.len(), piece_len, &Scratch::memory(), fill).unwrap();
            prop_assert_eq!(filled.len(), indices.len());
            let from = from.min(indices.len());
            let to = (from + len).min(indices.len());
            for range in [from..to, 0..indices.len()] {
                prop_assert_eq!(&filled.range(range.clone()).unwrap(), &indices[range.clone()]);
                prop_assert_eq!(&Indices::from(indices.as_slice()).range(range.clone()).unwrap(), &indices[range]);
            }
        }
    }
}
