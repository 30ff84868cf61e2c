//! Interleaved-lane rANS: the portable decoder, and the types that every decoder shares.
//!
//! A chunk is a matrix of levels. Lane `l` of `L` holds columns `l`, `l + L`, `l + 2L`, ..., each run down
//! all its rows, so that in lockstep the lanes give neighbouring columns of one row. Each lane is a stream of
//! its own (32-bit state, 16-bit words, 12-bit tables) and is bit-compatible with `constriction`'s
//! `AnsCoder<u16, u32>` started at [`STATE_START`] (FORMAT.md, section 7.1).

use std::hint::select_unpredictable;

use crate::format::{PRECISION, STATE_START, TOTAL, WORD_BITS};
use crate::stages::trellis;

/// Slots in a table.
pub const SLOTS: usize = TOTAL as usize;
/// The low bits of a slot, a state or a frequency.
pub(crate) const SLOT_MASK: u32 = TOTAL - 1;

/// Lanes that walk at a time: enough to hide the latency of a step, few enough for the registers.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub(crate) const WALK: usize = 16;
/// Lanes that walk at a time: enough to hide the latency of a step, few enough for the registers.
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
pub(crate) const WALK: usize = 8;
/// Rows of a block.
pub(crate) const BLOCK: usize = 128;

/// The entropy-coded levels of one chunk.
#[derive(Clone, Copy, Debug)]
pub struct LaneChunk<'a> {
    /// Rows of the chunk.
    pub rows: usize,
    /// Columns of the chunk.
    pub cols: usize,
    /// First state of each lane.
    pub states: &'a [u32],
    /// End of each lane, in words; a lane begins where the one before it ends, the first at 0.
    pub ends: &'a [u32],
    /// The words, little-endian, in the order in which a decoder reads them. Bytes may follow the last lane's
    /// end; they are never part of a level.
    pub words: &'a [u8],
}

/// The tables of a frame, and the classes that choose one for each symbol of a chunk:
/// table `clamp(rows[r] + cols[c], 0, n - 1)`.
#[derive(Clone, Copy, Debug)]
pub struct Tables<'a> {
    /// `n` tables of [`SLOTS`] slots: level (8 bits) · frequency (12) · slot less cumulative (12).
    pub slots: &'a [u32],
    /// One class per row of the chunk.
    pub rows: &'a [i8],
    /// One class per column of the chunk.
    pub cols: &'a [i8],
}

/// Why a chunk does not decode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaneError {
    /// Lengths that do not fit each other; the text names them.
    Shape(&'static str),
    /// This lane used more or fewer words than it has, or did not end in [`STATE_START`].
    Corrupt {
        /// The lane.
        lane: usize,
    },
}

/// Scales of a chunk: one per column, in as many variants as there are distinct row scales.
#[derive(Clone, Debug)]
pub struct Scales {
    pub(super) variants: Vec<f32>,
    pub(super) row_start: Vec<usize>,
    pub(super) cols: usize,
}

#[expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "rows and columns of the chunk have scales, and a sum of a u8 and a u16 is no larger than the last one"
)]
impl Scales {
    /// The scale of row `r` and column `c` is `steps[rows[r] + cols[c]]`. `None` where that is outside `steps`.
    pub fn new(steps: &[f32], rows: &[u8], cols: &[u16]) -> Option<Self> {
        let last = usize::from(*rows.iter().max()?) + usize::from(*cols.iter().max()?);
        let steps = steps.get(..=last)?;
        let variant = |row: u8| cols.iter().map(move |&col| steps[usize::from(row) + usize::from(col)]);
        let (variants, row_start) = variants(rows.iter().copied(), variant);
        Some(Self { variants, row_start, cols: cols.len() })
    }

    /// A scale of 1 everywhere.
    pub fn ones(rows: usize, cols: usize) -> Self {
        Self { variants: vec![1.0; cols], row_start: vec![0; rows], cols }
    }

    /// The scales of a row, from column `col` on.
    pub fn from(&self, row: usize, col: usize) -> &[f32] {
        let start = self.row_start[row];
        &self.variants[start + col..start + self.cols]
    }

    /// Multiplies the levels of the whole chunk by their scales.
    pub fn apply(&self, levels: &mut [f32]) {
        for (row, levels) in levels.chunks_mut(self.cols).enumerate() {
            levels.iter_mut().zip(self.from(row, 0)).for_each(|(level, scale)| *level *= scale);
        }
    }
}

/// One `variant` for each distinct key of a row, one after another, and where that of each row begins.
#[expect(clippy::indexing_slicing, reason = "a byte has 256 values")]
fn variants<T, I: Iterator<Item = T>>(
    rows: impl Iterator<Item = u8>,
    variant: impl Fn(u8) -> I,
) -> (Vec<T>, Vec<usize>) {
    let mut values = Vec::new();
    let mut starts = [None; 256];
    let row_start = rows.map(|key| {
        *starts[usize::from(key)].get_or_insert_with(|| {
            let start = values.len();
            values.extend(variant(key));
            start
        })
    });
    let row_start = row_start.collect();
    (values, row_start)
}

/// Where the weights of a chunk go, row by row: each level is added to its prediction and multiplied by its scale. With
/// scales of 1 these are the levels themselves, as floats hold them exactly.
pub struct Weights<'a> {
    pub(super) out: &'a mut [f32],
    pub(super) scales: &'a Scales,
    pub(super) predictions: &'a [f32],
}

#[expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "rows and columns of the chunk; callers give as many weights as it has levels"
)]
impl<'a> Weights<'a> {
    /// For a chunk that has as many rows and columns as `scales`, and as many `predictions` unless there are none. Panics on
    /// the first level beyond `out`.
    pub fn new(out: &'a mut [f32], scales: &'a Scales, predictions: &'a [f32]) -> Self {
        Self { out, scales, predictions }
    }

    /// Takes the levels of a block from `row` and `col` on, row by row, `width` to a row. Blocks stay in the first cache
    /// between the entropy loop and this one.
    fn put(&mut self, row: usize, col: usize, width: usize, levels: &[i16]) {
        for (row, levels) in (row..).zip(levels.chunks_exact(width)) {
            let first = row * self.scales.cols + col;
            let mut predictions = self.predictions.get(first..).unwrap_or_default().iter();
            let weights = self.out[first..].iter_mut();
            for ((weight, &scale), &level) in weights.zip(self.scales.from(row, col)).zip(levels) {
                *weight = (predictions.next().unwrap_or(&0.0) + f32::from(level)) * scale;
            }
        }
    }
}

/// Decodes the next levels of `lanes`, as many as `chunk` has rows and columns, to `weights`. With a `trellis`, symbols are its indices, and the first half of the tables
/// serves quantizer 0, the second quantizer 1.
#[expect(
    clippy::arithmetic_side_effects,
    reason = "there is a lane; lanes and columns are fewer than the chunk has levels"
)]
pub fn walk_lanes(
    lanes: &mut Lanes,
    chunk: &LaneChunk,
    tables: &Tables,
    trellis: bool,
    weights: &mut Weights,
) -> Result<(), LaneError> {
    let decoder = Decoder::new(chunk, tables, trellis)?;
    let columns = if trellis { Decoder::columns::<true> } else { Decoder::columns::<false> };
    for group in (0..chunk.cols).step_by(lanes.len()) {
        let active = lanes.len().min(chunk.cols - group);
        let split = active / WALK * WALK;
        for lane in (0..split).step_by(WALK) {
            columns(&decoder, lanes, lane, group + lane, weights);
        }
        for lane in split..active {
            decoder.column(lanes, lane, group + lane, weights);
        }
    }
    Ok(())
}

/// Where each lane stands.
pub struct Lanes {
    pub(crate) state: Vec<u32>,
    /// Next word to read. Runs past the lane's end, even past `words`, where a lane is corrupt.
    pub(crate) word: Vec<u32>,
}

#[expect(clippy::indexing_slicing, reason = "`start` has made as many states, words and ends")]
impl Lanes {
    /// Before the first level of `chunk`.
    pub fn start(chunk: &LaneChunk) -> Result<Self, LaneError> {
        let require = |ok, what| if ok { Ok(()) } else { Err(LaneError::Shape(what)) };
        require(!chunk.states.is_empty() && chunk.states.len() == chunk.ends.len(), "states and ends")?;
        require(chunk.ends.is_sorted(), "ends")?;
        require(chunk.ends.last().is_some_and(|&end| end as usize <= chunk.words.len() / 2), "words")?;
        let starts = std::iter::once(0).chain(chunk.ends.iter().copied());
        Ok(Self { state: chunk.states.to_vec(), word: starts.take(chunk.ends.len()).collect() })
    }

    pub(crate) fn len(&self) -> usize {
        self.state.len()
    }

    /// Checks that all lanes of `chunk` have come to their ends.
    pub fn finish(&self, chunk: &LaneChunk) -> Result<(), LaneError> {
        let whole = |lane: &usize| self.state[*lane] == STATE_START && self.word[*lane] == chunk.ends[*lane];
        match (0..self.len()).find(|lane| !whole(lane)) {
            Some(lane) => Err(LaneError::Corrupt { lane }),
            None => Ok(()),
        }
    }
}

/// What a step needs besides the lane's own standing.
pub(crate) struct Decoder<'a> {
    pub(crate) slots: &'a [u32],
    /// For each distinct row class, the first slot of each column's table. Always that of a whole table.
    pub(crate) tables: Vec<u32>,
    /// Where in `tables` the columns of a row begin.
    pub(crate) row_start: Vec<usize>,
    /// Slots from a table of quantizer 0 to that of quantizer 1; 0 without a trellis.
    pub(crate) quantizer_slots: u32,
    words: &'a [[u8; 2]],
}

#[expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    reason = "`new` has proven that a table starts at each row and column; states, slots and words wrap to no harm"
)]
impl<'a> Decoder<'a> {
    /// Takes a chunk of which [`Lanes::start`] accepts the lanes.
    pub(crate) fn new(chunk: &LaneChunk<'a>, tables: &Tables<'a>, trellis: bool) -> Result<Self, LaneError> {
        if tables.rows.len() != chunk.rows || tables.cols.len() != chunk.cols {
            return Err(LaneError::Shape("classes"));
        }
        let quantizers = 1 + usize::from(trellis);
        if tables.slots.is_empty() || !tables.slots.len().is_multiple_of(quantizers * SLOTS) {
            return Err(LaneError::Shape("tables"));
        }
        let class_count = tables.slots.len() / SLOTS / quantizers;
        let last = class_count as i32 - 1;
        let first_slot = move |class: i32| class.clamp(0, last) as u32 * SLOTS as u32;
        let variant = |row: u8| {
            let row = i32::from(row as i8);
            tables.cols.iter().map(move |&col| first_slot(row + i32::from(col)))
        };
        let rows = tables.rows.iter().map(|&class| class as u8);
        let (first_slots, row_start) = variants(rows, variant);
        let quantizer_slots = if trellis { (class_count * SLOTS) as u32 } else { 0 };
        let words = chunk.words.as_chunks().0;
        Ok(Self { slots: tables.slots, tables: first_slots, row_start, quantizer_slots, words })
    }

    /// Runs several lanes from `lane` in lockstep down the columns from `col`.
    #[inline(never)]
    fn columns<const TRELLIS: bool>(&self, lanes: &mut Lanes, lane: usize, col: usize, weights: &mut Weights) {
        let mut state: [u32; WALK] = std::array::from_fn(|i| lanes.state[lane + i]);
        let mut word: [u32; WALK] = std::array::from_fn(|i| lanes.word[lane + i]);
        let mut trellis_state = [0; WALK];
        let mut block = [[0; WALK]; BLOCK];
        for (first_row, starts) in (0..).step_by(BLOCK).zip(self.row_start.chunks(BLOCK)) {
            for (levels, start) in block.iter_mut().zip(starts) {
                let tables: &[u32; WALK] = self.tables[start + col..].first_chunk().expect("so many columns");
                for i in 0..WALK {
                    levels[i] = if TRELLIS {
                        self.trellis_step(tables[i], &mut state[i], &mut word[i], &mut trellis_state[i])
                    } else {
                        self.step(tables[i], &mut state[i], &mut word[i])
                    };
                }
            }
            weights.put(first_row, col, WALK, block[..starts.len()].as_flattened());
        }
        lanes.state[lane..lane + WALK].copy_from_slice(&state);
        lanes.word[lane..lane + WALK].copy_from_slice(&word);
    }

    /// Runs one lane down the column `col`: for the lanes that are left over, so small rather than fast.
    pub(crate) fn column(&self, lanes: &mut Lanes, lane: usize, col: usize, weights: &mut Weights) {
        let (state, word) = (&mut lanes.state[lane], &mut lanes.word[lane]);
        let mut trellis_state = 0;
        let mut block = [0; BLOCK];
        for (first_row, starts) in (0..).step_by(BLOCK).zip(self.row_start.chunks(BLOCK)) {
            for (level, start) in block.iter_mut().zip(starts) {
                let table = self.tables[start + col];
                *level = if self.quantizer_slots > 0 {
                    self.trellis_step(table, state, word, &mut trellis_state)
                } else {
                    self.step(table, state, word)
                };
            }
            weights.put(first_row, col, 1, &block[..starts.len()]);
        }
    }

    /// One level of one lane under the trellis.
    #[inline(always)]
    fn trellis_step(&self, table: u32, state: &mut u32, word: &mut u32, trellis_state: &mut u8) -> i16 {
        let quantizer = trellis::quantizer(*trellis_state);
        let index = i32::from(self.step(table + u32::from(quantizer) * self.quantizer_slots, state, word));
        *trellis_state = trellis::next(*trellis_state, index);
        trellis::level(index, quantizer) as i16
    }

    /// One symbol of one lane. Without a branch on the refill, which no predictor can guess.
    #[inline(always)]
    fn step(&self, table: u32, state: &mut u32, word: &mut u32) -> i16 {
        let slot = self.slots[table as usize + *state as usize % SLOTS];
        let next = (slot >> PRECISION & SLOT_MASK) * (*state >> PRECISION) + (slot & SLOT_MASK);
        let refill = next < STATE_START;
        let refilled = next << WORD_BITS | self.word(*word);
        *state = select_unpredictable(refill, refilled, next);
        *word += u32::from(refill);
        (slot as i32 >> (2 * PRECISION)) as i16
    }

    /// Words past the end read as 0; [`Lanes::finish`] finds the lane that used one.
    #[inline(always)]
    fn word(&self, index: u32) -> u32 {
        u32::from(u16::from_le_bytes(self.words.get(index as usize).copied().unwrap_or_default()))
    }
}

#[cfg(all(test, feature = "encoder"))]
mod tests;
