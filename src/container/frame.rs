//! A frame as its checked header describes it: which elements each chunk holds, and how (FORMAT.md, sections 4 and 5).

use crate::tensor::DType;

/// The side arrays of a frame, in the order in which the side chunk holds them; the discriminant is the bit in `side`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are FORMAT.md's")]
pub enum Side {
    RowClass = 0,
    ColumnClass = 1,
    TapClass = 2,
    RowExponent = 3,
    ColumnExponent = 4,
    TapExponent = 5,
    RowPermutation = 6,
    ColumnPermutation = 7,
    RowGain = 8,
}

impl Side {
    /// The arrays of one i8 per row, column or tap.
    pub const BYTE_ARRAYS: [Side; 6] =
        [Side::RowClass, Side::ColumnClass, Side::TapClass, Side::RowExponent, Side::ColumnExponent, Side::TapExponent];

    /// Its bit in a frame's `side` field.
    pub const fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// A frame whose fields have been checked against each other and against its tensor.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Element type of the tensors that use it.
    pub dtype: DType,
    /// Number of elements; of bytes for the 4-bit types.
    pub element_len: u64,
    /// Elements in a chunk.
    pub chunk_len: u64,
    /// The side chunk, if any.
    pub side_chunk: Option<usize>,
    /// First element chunk.
    pub first_chunk: usize,
    /// Number of element chunks.
    pub chunk_count: usize,
    /// The frame that it is predicted from.
    pub reference: Option<usize>,
    /// What the chunks hold.
    pub coding: Coding,
}

/// What the chunks of a frame hold.
#[derive(Debug, Clone)]
pub enum Coding {
    /// Records of fields of this many bytes, plane by plane. An element of several bytes is a record too.
    Planes(Vec<usize>),
    /// Quantized integers.
    Levels(Levels),
}

/// The fields of a frame of levels.
#[derive(Debug, Clone)]
pub struct Levels {
    /// Rows of the matrix.
    pub rows: usize,
    /// Columns of the matrix, without the taps.
    pub columns: usize,
    /// Kernel taps of each column; 1 if there are none.
    pub taps: usize,
    /// First table in the header's set.
    pub first_table: usize,
    /// Number of tables.
    pub table_count: usize,
    /// `None` for integers.
    pub scale: Option<f32>,
    /// Added to integers.
    pub zero_point: i32,
    /// Raw low bits of each level.
    pub low_bits: u32,
    /// Bits of [`Side`].
    pub side: u32,
    /// Factor of the prediction in every row without one of its own, in 1/256.
    pub gain: i32,
    /// Whether levels follow the trellis.
    pub trellis: bool,
    /// Whether the tensor is the transpose of the matrix.
    pub column_major: bool,
    /// Whether levels are coefficients of a DCT over the taps.
    pub dct: bool,
}

impl Levels {
    /// Whether a chunk's elements lie apart in the tensor.
    pub fn is_scattered(&self) -> bool {
        self.column_major || self.has(Side::RowPermutation)
    }

    /// Levels in a row: columns times taps.
    #[expect(clippy::arithmetic_side_effects, reason = "checked: no more than EXTENT_MAX")]
    pub fn row_len(&self) -> usize {
        self.columns * self.taps
    }

    /// Entries of a side array.
    pub fn side_len(&self, side: Side) -> usize {
        match side {
            Side::RowClass | Side::RowExponent | Side::RowPermutation | Side::RowGain => self.rows,
            Side::ColumnClass | Side::ColumnExponent => self.columns,
            Side::TapClass | Side::TapExponent => self.taps,
            Side::ColumnPermutation => self.row_len(),
        }
    }

    /// Entries of all side arrays together.
    #[expect(clippy::arithmetic_side_effects, reason = "at most nine lengths below 2^31")]
    pub fn side_entries(&self) -> u64 {
        let arrays = |sides: &[Side]| {
            let stored = sides.iter().fold(0, |stored, side| stored | side.bit()) & self.side;
            u64::from(stored.count_ones())
        };
        arrays(&[Side::RowClass, Side::RowExponent, Side::RowPermutation, Side::RowGain]) * self.rows as u64
            + arrays(&[Side::ColumnClass, Side::ColumnExponent]) * self.columns as u64
            + arrays(&[Side::TapClass, Side::TapExponent]) * self.taps as u64
            + arrays(&[Side::ColumnPermutation]) * self.row_len() as u64
    }

    /// Whether a side array is stored.
    pub fn has(&self, side: Side) -> bool {
        self.side & side.bit() != 0
    }
}

impl Frame {
    /// Whether this chunk of the archive is the frame's, its side chunk or one of its elements.
    pub(super) fn has_chunk(&self, index: usize) -> bool {
        let place = index.checked_sub(self.first_chunk);
        self.side_chunk == Some(index) || place.is_some_and(|place| place < self.chunk_count)
    }

    /// Where element chunk `index` is among the archive's chunks.
    pub fn chunk(&self, index: usize) -> Option<usize> {
        self.first_chunk.checked_add(index).filter(|_| index < self.chunk_count)
    }

    /// Elements of element chunk `index`: first and count.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "of a chunk that exists: no more than there are elements, and one chunk"
    )]
    pub fn chunk_range(&self, index: usize) -> Option<(u64, u64)> {
        if index >= self.chunk_count {
            return None;
        }
        let index = index as u64;
        let (first, end) = match self.row_cut() {
            Some((row_len, pieces)) => {
                let (row, piece) = (index / pieces, index % pieces);
                let first = row * row_len + piece * self.chunk_len;
                (first, (first + self.chunk_len).min((row + 1) * row_len))
            }
            None => (index * self.chunk_len, ((index + 1) * self.chunk_len).min(self.element_len)),
        };
        Some((first, end - first))
    }

    /// Length of a row and chunks in it, where chunks are parts of rows.
    pub fn row_cut(&self) -> Option<(u64, u64)> {
        let Coding::Levels(levels) = &self.coding else { return None };
        let row_len = levels.row_len() as u64;
        (self.chunk_len < row_len).then(|| (row_len, row_len.div_ceil(self.chunk_len)))
    }

    /// Bytes that `element_len` elements of this frame take.
    #[expect(clippy::arithmetic_side_effects, reason = "of some of its elements, which are bytes of a file")]
    pub fn byte_len(&self, element_len: u64) -> u64 {
        element_len * self.dtype.element_bytes() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_of_cut_rows_end_with_their_rows() {
        let levels = Levels {
            rows: 3,
            columns: 5,
            taps: 2,
            first_table: 0,
            table_count: 1,
            scale: Some(1.0),
            zero_point: 0,
            low_bits: 0,
            side: 0,
            gain: 0,
            trellis: false,
            column_major: false,
            dct: false,
        };
        let frame = |chunk_len: u64, chunk_count: usize| Frame {
            dtype: DType::F32,
            element_len: 30,
            chunk_len,
            side_chunk: Some(7),
            first_chunk: 8,
            chunk_count,
            reference: None,
            coding: Coding::Levels(levels.clone()),
        };
        let ranges =
            |frame: Frame| (0..=frame.chunk_count).map_while(|index| frame.chunk_range(index)).collect::<Vec<_>>();
        let cut = [(0, 4), (4, 4), (8, 2), (10, 4), (14, 4), (18, 2), (20, 4), (24, 4), (28, 2)];
        assert_eq!(ranges(frame(4, 9)), cut);
        assert_eq!(ranges(frame(20, 2)), [(0, 20), (20, 10)]);
        assert_eq!(ranges(frame(10, 3)), [(0, 10), (10, 10), (20, 10)]);
        assert_eq!(frame(4, 9).row_cut(), Some((10, 3)));
        assert_eq!(frame(10, 3).row_cut(), None);
        let own = |index: &usize| frame(10, 3).has_chunk(*index);
        assert!((0..20).filter(own).eq(7..11));
        assert_eq!((0..5).map_while(|index| frame(10, 3).chunk(index)).collect::<Vec<_>>(), [8, 9, 10]);
    }
}
