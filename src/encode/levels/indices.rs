//! The levels of a tensor in as few bytes as they need: a model has many, and most are small.

use std::ops::Range;

use rayon::prelude::*;

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
enum Piece {
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
}

impl Piece {
    fn new(indices: Vec<i32>) -> Self {
        let fits = |min: i32, max: i32| indices.iter().all(|index| (min..=max).contains(index));
        if fits(i8::MIN.into(), i8::MAX.into()) {
            Piece::I8(indices.into_iter().map(|index| index as i8).collect())
        } else if fits(i16::MIN.into(), i16::MAX.into()) {
            Piece::I16(indices.into_iter().map(|index| index as i16).collect())
        } else {
            Piece::I32(indices)
        }
    }

    fn push_to(&self, range: Range<usize>, indices: &mut Vec<i32>) {
        match self {
            Piece::I8(piece) => indices.extend(piece[range].iter().map(|&index| i32::from(index))),
            Piece::I16(piece) => indices.extend(piece[range].iter().map(|&index| i32::from(index))),
            Piece::I32(piece) => indices.extend_from_slice(&piece[range]),
        }
    }
}

impl Indices {
    /// `len` of them in pieces of `piece_len`: `fill` writes a piece, zeros at first, from any thread. Gives its results in
    /// order.
    pub fn filled<T: Send>(
        len: usize,
        piece_len: usize,
        fill: impl Fn(usize, &mut [i32]) -> T + Sync,
    ) -> (Self, Vec<T>) {
        let piece = |index: usize| {
            let mut indices = vec![0; piece_len.min(len - index * piece_len)];
            let filled = fill(index, &mut indices);
            (Piece::new(indices), filled)
        };
        let count = if len == 0 { 0 } else { len.div_ceil(piece_len) };
        let (pieces, filled) = (0..count).into_par_iter().map(piece).unzip();
        (Indices { pieces, piece_len, len }, filled)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Some of them.
    pub fn range(&self, range: Range<usize>) -> Vec<i32> {
        let mut indices = Vec::with_capacity(range.len());
        let first = range.start / self.piece_len.max(1);
        for (index, piece) in self.pieces.iter().enumerate().skip(first) {
            let start = index * self.piece_len;
            if start >= range.end {
                break;
            }
            let end = range.end.min(start + self.piece_len);
            piece.push_to(range.start.max(start) - start..end - start, &mut indices);
        }
        indices
    }

    /// All of them.
    pub fn to_vec(&self) -> Vec<i32> {
        self.range(0..self.len)
    }
}

impl From<&[i32]> for Indices {
    fn from(indices: &[i32]) -> Self {
        Indices::filled(indices.len(), indices.len(), |_, piece| piece.copy_from_slice(indices)).0
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
            let fill = |piece: usize, slots: &mut [i32]| slots.copy_from_slice(&indices[piece * piece_len..][..slots.len()]);
            let (filled, _) = Indices::filled(indices.len(), piece_len, fill);
            prop_assert_eq!(filled.len(), indices.len());
            prop_assert_eq!(&filled.to_vec(), &indices);
            prop_assert_eq!(&Indices::from(indices.as_slice()).to_vec(), &indices);
            let from = from.min(indices.len());
            let to = (from + len).min(indices.len());
            prop_assert_eq!(filled.range(from..to), &indices[from..to]);
        }
    }
}
