//! Verified payloads of chunks -> what `lanes.wgsl` binds, each place in it proven to lie inside.

use super::frame::ABSENT;
use crate::container::{Archive, Levels, Side};
use crate::entropy::{LevelPayload, Table};
use crate::error::{Error, Result};
use crate::format::CHUNK_ENTRY_BYTES;
use crate::reconstruct::SideArrays;

/// `NUMBERS_AT` of the shader.
pub(super) const NUMBERS_AT: usize = 512;
/// `INTERVALS_AT` of the shader.
pub(super) const INTERVALS_AT: usize = NUMBERS_AT + 64;
/// `TABLE_LEN` of the shader.
pub(super) const TABLE_LEN: usize = INTERVALS_AT + 256;

/// Bytes that words, chunks and tables of a batch may take, whatever the archive.
const CODED_BYTES_FREE: u64 = 8 << 20;
/// How many more for each byte that is stored or made. Frames that share chunks, or parts of their tables, could take a
/// thousand times as much; what tells of a chunk takes up to twice what is stored of it.
const CODED_BYTES_FACTOR: u64 = 4;

/// The contents of the buffers, but for the words of the lanes.
#[derive(Debug, Default)]
pub(super) struct Coded {
    pub lanes: Vec<[u32; Self::LANE_LEN]>,
    pub chunks: Vec<[u32; Self::CHUNK_LEN]>,
    pub classes: Vec<u8>,
    pub tables: Tables,
    /// Place and level.
    pub escapes: Vec<[u32; 2]>,
    /// Bytes of words that have been placed.
    words_bytes: u64,
}

/// Entropy models, as short as they are sent: `expand_tables` adds for each 16 slots which intervals they begin with.
#[derive(Debug, Default)]
pub(super) struct Tables {
    /// Where the intervals of each begin.
    pub starts: Vec<u32>,
    /// Frequency (12 bits), cumulative (12), symbol (8); in the order of their slots.
    pub intervals: Vec<u32>,
}

impl Tables {
    /// Appends tables, and gives the number of the first.
    pub fn push(&mut self, tables: &[Table]) -> u32 {
        let first = self.starts.len() as u32;
        for table in tables {
            self.starts.push(self.intervals.len() as u32);
            let mut cumulative = 0;
            for (symbol, frequency) in (table.first()..).zip(table.frequencies().iter().map(|&f| u32::from(f))) {
                if frequency > 0 {
                    self.intervals.push(frequency << 20 | cumulative << 8 | u32::from(symbol as u8));
                }
                cumulative += frequency;
            }
        }
        first
    }

    /// Bytes that they take when they have been expanded.
    pub fn expanded_bytes(&self) -> u64 {
        4 * (TABLE_LEN * self.starts.len()) as u64
    }

    /// What `expand_tables` makes of them, on the CPU: what the GPU is held to.
    #[cfg(not(target_arch = "wasm32"))]
    pub fn expanded(&self) -> Vec<u32> {
        use crate::format::TOTAL;
        let ends = self.starts.iter().skip(1).map(|&end| end as usize).chain([self.intervals.len()]);
        let mut expanded = Vec::with_capacity(TABLE_LEN * self.starts.len());
        for (&start, end) in self.starts.iter().zip(ends) {
            let intervals = &self.intervals[start as usize..end];
            let begins = |interval: &u32| interval >> 8 & (TOTAL - 1);
            let numbers: Vec<u8> = (0..TOTAL)
                .step_by(16)
                .map(|slot| (intervals.partition_point(|interval| begins(interval) <= slot) - 1) as u8)
                .collect();
            for &number in &numbers {
                let number = usize::from(number);
                expanded.extend([number, (number + 1).min(intervals.len() - 1)].map(|number| intervals[number]));
            }
            expanded.extend(numbers.as_chunks().0.iter().map(|&four| u32::from_le_bytes(four)));
            expanded.extend(intervals);
            expanded.resize(expanded.len().next_multiple_of(TABLE_LEN), intervals[intervals.len() - 1]);
        }
        expanded
    }
}

/// Where a chunk's levels go, and by which classes and tables they are coded.
#[derive(Debug, Clone, Copy)]
pub(super) struct LevelPlace {
    pub rows: u32,
    pub columns: u32,
    pub row_len: u32,
    pub level_at: u32,
    pub row_class_at: u32,
    pub column_class_at: u32,
    /// The first, and the number of classes.
    pub tables: [u32; 2],
}

/// Where the parts of a chunk's payload are to be written among the words, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WordPlaces {
    pub words_at: u64,
    pub low_at: u64,
}

impl Coded {
    /// Words of the shader's `Lane`.
    pub const LANE_LEN: usize = 4;
    /// Words of the shader's `Chunk`.
    pub const CHUNK_LEN: usize = 13;
    /// One that has not come.
    pub const NO_CHUNK: [u32; Self::CHUNK_LEN] = [u32::MAX; Self::CHUNK_LEN];

    /// Bytes of chunks, and of tables that have been expanded.
    pub fn bytes(&self) -> u64 {
        4 * self.chunks.as_flattened().len() as u64 + self.tables.expanded_bytes()
    }

    /// Appends the classes of a frame's rows and of its columns with their taps; gives where they are.
    pub fn push_classes(&mut self, levels: &Levels, side: &SideArrays) -> [u32; 2] {
        let rows = (0..levels.rows).map(|row| side.class(Side::RowClass, row));
        let taps = levels.taps;
        let column = |column| side.class(Side::ColumnClass, column / taps);
        let tap = |column| side.class(Side::TapClass, column % taps);
        let columns = (0..levels.row_len()).map(|index| column(index).saturating_add(tap(index)));
        let has_columns = levels.has(Side::ColumnClass) || levels.has(Side::TapClass);
        [self.push_array(levels.has(Side::RowClass), rows), self.push_array(has_columns, columns)]
    }

    fn push_array(&mut self, is_present: bool, classes: impl Iterator<Item = i8>) -> u32 {
        if !is_present {
            return ABSENT;
        }
        let at = self.classes.len() as u32;
        self.classes.extend(classes.map(|class| class as u8));
        at
    }

    /// Makes room for the words of chunk `index`, and describes its lanes. They end before `words_bytes_max` bytes.
    ///
    /// # Errors
    /// `Argument` if there is no room.
    pub fn push_chunk(
        &mut self,
        index: usize,
        place: LevelPlace,
        levels: &Levels,
        payload: &LevelPayload,
        words_bytes_max: u64,
    ) -> Result<WordPlaces> {
        let lanes = payload.lanes();
        let word_len = lanes.ends.last().copied().unwrap_or(0);
        let words_at = self.words_bytes;
        let low_at = (words_at + 2 * u64::from(word_len)).next_multiple_of(4);
        let end = (low_at + payload.low_bytes().len() as u64).next_multiple_of(4);
        let Some(chunk) = self.chunks.get_mut(index).filter(|chunk| **chunk == Self::NO_CHUNK && end < words_bytes_max)
        else {
            return Err(Error::argument("the payload is not that of the chunk, or has come before"));
        };
        self.words_bytes = end;
        let first_word = (words_at / 2) as u32;
        *chunk = [
            self.lanes.len() as u32,
            lanes.states.len() as u32,
            place.rows,
            place.columns,
            place.row_len,
            place.level_at,
            place.row_class_at,
            place.column_class_at,
            place.tables[0],
            place.tables[1],
            levels.trellis.into(),
            levels.low_bits,
            (low_at / 4) as u32,
        ];
        let starts = std::iter::once(0).chain(lanes.ends.iter().copied());
        for ((start, &end), &state) in starts.zip(lanes.ends).zip(lanes.states) {
            self.lanes.push([index as u32, first_word + start, first_word + end, state]);
        }
        for &(position, level) in &payload.escapes {
            let at = place.level_at + position / place.columns * place.row_len + position % place.columns;
            self.escapes.push([at, level as u32]);
        }
        Ok(WordPlaces { words_at, low_at })
    }
    /// Whether every place that the shader computes for chunk `index`, which came last, with so many escapes, lies in its buffer.
    pub fn lies_inside(&self, index: usize, escape_len: usize, words_bytes: u64, level_len: u64) -> bool {
        let [first_lane, lane_len, rows, columns, row_len, level_at, row_class_at, column_class_at, tables @ ..] =
            self.chunks[index].map(u64::from);
        let [first_table, class_len, trellis, low_bits, low_at] = tables;
        let words = words_bytes / 2;
        let own_lanes = self.lanes.get(first_lane as usize..).and_then(|lanes| lanes.get(..lane_len as usize));
        let lies = |&[chunk, word, end, _]: &[u32; Self::LANE_LEN]| {
            chunk as usize == index && word <= end && u64::from(end) < words
        };
        let class_end = |at: u64, len: u64| if at == u64::from(ABSENT) { 0 } else { at + len };
        let low_end = low_at + (rows * columns * low_bits).div_ceil(32);
        let mut escapes = self.escapes.iter().rev().take(escape_len);
        own_lanes.is_some_and(|lanes| !lanes.is_empty() && lanes.iter().all(lies))
            && (rows == 0 || level_at + (rows - 1) * row_len + columns <= level_len)
            && class_end(row_class_at, rows).max(class_end(column_class_at, columns)) <= self.classes.len() as u64
            && (1..=self.tables.starts.len() as u64).contains(&(first_table + class_len * (1 + trellis)))
            && 4 * low_end <= words_bytes
            && escapes.all(|&[at, _]| u64::from(at) < level_len)
    }
}

/// Most bytes that the words, chunks and tables of wanted frames may take.
pub(super) fn bytes_max(archive: &Archive, wanted: &[usize]) -> u64 {
    let stored: u64 = archive.chunks.iter().map(|chunk| CHUNK_ENTRY_BYTES as u64 + u64::from(chunk.bytes)).sum();
    let frames = wanted.iter().filter_map(|&frame| archive.frames.get(frame));
    let made: u64 = frames.map(|frame| frame.byte_len(frame.element_len)).sum();
    CODED_BYTES_FREE + CODED_BYTES_FACTOR * (stored + made)
}
