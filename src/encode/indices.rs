//! The levels of a tensor in two bytes each: a model has many, and most are small.

use std::ops::Range;

/// Levels, or indices under the trellis, in coded order.
#[derive(Debug, Clone, Default)]
pub struct Indices {
    /// All of them, as near as two bytes come.
    near: Vec<i16>,
    /// Places, ascending, and values of those that two bytes cannot hold.
    far: Vec<(usize, i32)>,
}

impl Indices {
    /// From `len` slots in pieces of `piece_len`: `fill` is called with each piece's number and writer, from any thread. Gives
    /// its results in order.
    pub fn filled<T: Send>(
        len: usize,
        piece_len: usize,
        fill: impl Fn(usize, &mut Piece) -> T + Sync,
    ) -> (Self, Vec<T>) {
        use rayon::prelude::*;
        let mut near = vec![0; len];
        let fill = |(index, near): (usize, &mut [i16])| {
            let mut piece = Piece { near, far: Vec::new() };
            let filled = fill(index, &mut piece);
            let mut far = piece.far;
            far.iter_mut().for_each(|(at, _)| *at += index * piece_len);
            far.sort_unstable();
            (far, filled)
        };
        let pieces: Vec<(Vec<(usize, i32)>, T)> = near.par_chunks_mut(piece_len.max(1)).enumerate().map(fill).collect();
        let (far, filled): (Vec<_>, Vec<T>) = pieces.into_iter().unzip();
        (Indices { near, far: far.concat() }, filled)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.near.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.near.is_empty()
    }

    /// Some of them.
    pub fn range(&self, range: Range<usize>) -> Vec<i32> {
        let mut indices: Vec<i32> = self.near[range.clone()].iter().map(|&near| near.into()).collect();
        let from = self.far.partition_point(|(at, _)| *at < range.start);
        for &(at, index) in self.far[from..].iter().take_while(|(at, _)| *at < range.end) {
            indices[at - range.start] = index;
        }
        indices
    }

    /// All of them.
    pub fn to_vec(&self) -> Vec<i32> {
        self.range(0..self.len())
    }
}

impl From<&[i32]> for Indices {
    fn from(indices: &[i32]) -> Self {
        let fill = |_, piece: &mut Piece| indices.iter().enumerate().for_each(|(at, &index)| piece.put(at, index));
        Indices::filled(indices.len(), indices.len(), fill).0
    }
}

/// Some neighbouring slots, each to be written once at most.
pub struct Piece<'a> {
    near: &'a mut [i16],
    far: Vec<(usize, i32)>,
}

impl Piece<'_> {
    /// Writes one.
    pub fn put(&mut self, at: usize, index: i32) {
        self.near[at] = index.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
        if i32::from(self.near[at]) != index {
            self.far.push((at, index));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_range_comes_back(
            indices in proptest::collection::vec(prop_oneof![-300i32..300, -70_000i32..70_000, any::<i32>()], 0..200),
            piece_len in 1usize..50,
            from in 0usize..200,
            len in 0usize..200,
        ) {
            let fill = |piece: usize, slots: &mut Piece| {
                let part = indices.iter().skip(piece * piece_len).take(piece_len).enumerate();
                part.collect::<Vec<_>>().into_iter().rev().for_each(|(at, &index)| slots.put(at, index));
            };
            let (filled, _) = Indices::filled(indices.len(), piece_len, fill);
            prop_assert_eq!(&filled.to_vec(), &indices);
            prop_assert_eq!(&Indices::from(indices.as_slice()).to_vec(), &indices);
            let from = from.min(indices.len());
            let to = (from + len).min(indices.len());
            prop_assert_eq!(filled.range(from..to), &indices[from..to]);
        }
    }
}
