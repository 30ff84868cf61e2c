//! Interleaved-lane rANS: the portable decoder, and the types that every decoder shares.
//!
//! A chunk is a matrix of levels. Lane `l` of `L` holds columns `l`, `l + L`, `l + 2L`, ..., each run down
//! all its rows, so that in lockstep the lanes give neighbouring columns of one row. Each lane is a stream of
//! its own (32-bit state, 16-bit words, 12-bit tables) and is bit-compatible with `constriction`'s
//! `AnsCoder<u16, u32>` started at [`START`].

use std::hint::select_unpredictable;

/// Slots in a table.
pub const SLOTS: usize = 1 << 12;
/// The state that an encoder starts from, and so the one that a whole lane ends in.
pub const START: u32 = 1 << 16;

/// Lanes that the portable decoder walks at a time: enough to hide latency, few enough for registers.
const WALK: usize = 8;

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
    /// This lane used more or fewer words than it has, or did not end in [`START`].
    Corrupt {
        /// The lane.
        lane: usize,
    },
}

/// Takes levels as they are decoded: `N` neighbouring columns of one row at a time, each level once.
pub trait Sink {
    /// Takes the levels of `row`, columns `col .. col + N`.
    fn put<const N: usize>(&mut self, row: usize, col: usize, levels: [i8; N]);
}

/// Keeps the levels themselves, row by row.
pub struct Levels<'a> {
    out: &'a mut [i8],
    cols: usize,
}

impl<'a> Levels<'a> {
    /// A sink for a chunk of `cols` columns. Panics on the first level beyond `out`.
    pub fn new(out: &'a mut [i8], cols: usize) -> Self {
        Self { out, cols }
    }

    /// The place of `N` levels.
    #[inline(always)]
    pub fn at<const N: usize>(&mut self, row: usize, col: usize) -> &mut [i8; N] {
        let start = row * self.cols + col;
        self.out[start..start + N].as_mut_array().expect("the slice has N elements")
    }
}

impl Sink for Levels<'_> {
    #[inline(always)]
    fn put<const N: usize>(&mut self, row: usize, col: usize, levels: [i8; N]) {
        *self.at(row, col) = levels;
    }
}

/// Scales of a chunk: one per column, in as many versions ("planes") as there are distinct row scales.
#[derive(Clone, Debug)]
pub struct Scales {
    planes: Vec<f32>,
    row_start: Vec<usize>,
    cols: usize,
}

impl Scales {
    /// The scale of row `r` and column `c` is `steps[rows[r] + cols[c]]`; rows are below 256.
    pub fn new(steps: &[f32], rows: &[u16], cols: &[u16]) -> Self {
        let mut planes = Vec::new();
        let mut start = [None; 256];
        let mut row_start = Vec::with_capacity(rows.len());
        for &row in rows {
            let first = *start[usize::from(row)].get_or_insert_with(|| {
                planes.extend(cols.iter().map(|&col| steps[usize::from(row + col)]));
                planes.len() - cols.len()
            });
            row_start.push(first);
        }
        Self { planes, row_start, cols: cols.len() }
    }

    /// The scales of `N` neighbouring columns.
    #[inline(always)]
    pub fn at<const N: usize>(&self, row: usize, col: usize) -> &[f32; N] {
        let start = self.row_start[row] + col;
        self.planes[start..start + N].as_array().expect("the slice has N elements")
    }
}

/// Multiplies each level by its scale and keeps the weights, row by row.
pub struct Weights<'a> {
    out: &'a mut [f32],
    scales: &'a Scales,
}

impl<'a> Weights<'a> {
    /// A sink for a chunk that has as many rows and columns as `scales`. Panics on the first level beyond `out`.
    pub fn new(out: &'a mut [f32], scales: &'a Scales) -> Self {
        Self { out, scales }
    }

    /// The place of `N` weights, and their scales.
    #[inline(always)]
    pub fn at<const N: usize>(&mut self, row: usize, col: usize) -> (&mut [f32; N], &[f32; N]) {
        let start = row * self.scales.cols + col;
        let out = self.out[start..start + N].as_mut_array().expect("the slice has N elements");
        (out, self.scales.at(row, col))
    }
}

impl Sink for Weights<'_> {
    #[inline(always)]
    fn put<const N: usize>(&mut self, row: usize, col: usize, levels: [i8; N]) {
        let (out, scales) = self.at::<N>(row, col);
        for i in 0..N {
            out[i] = f32::from(levels[i]) * scales[i];
        }
    }
}

/// Decodes all levels of `chunk` into `sink`.
pub fn decode_lanes<S: Sink>(chunk: &LaneChunk, tables: &Tables, sink: &mut S) -> Result<(), LaneError> {
    let mut lanes = Lanes::start(chunk, tables)?;
    let decoder = Decoder::new(chunk, tables);
    for group in (0..chunk.cols).step_by(lanes.len()) {
        let active = lanes.len().min(chunk.cols - group);
        decoder.walk(&mut lanes, group, 0..active, sink);
    }
    lanes.finish(chunk)
}

/// Where each lane stands.
pub(crate) struct Lanes {
    pub(crate) state: Vec<u32>,
    /// Next word to read. Runs past the lane's end, even past `words`, where a lane is corrupt.
    pub(crate) word: Vec<u32>,
}

impl Lanes {
    pub(crate) fn start(chunk: &LaneChunk, tables: &Tables) -> Result<Self, LaneError> {
        let require = |ok, what| if ok { Ok(()) } else { Err(LaneError::Shape(what)) };
        require(!chunk.states.is_empty() && chunk.states.len() == chunk.ends.len(), "states and ends")?;
        require(chunk.ends.is_sorted(), "ends")?;
        require(chunk.ends.last().is_some_and(|&end| end as usize <= chunk.words.len() / 2), "words")?;
        require(tables.rows.len() == chunk.rows && tables.cols.len() == chunk.cols, "classes")?;
        require(!tables.slots.is_empty() && tables.slots.len().is_multiple_of(SLOTS), "tables")?;
        let starts = std::iter::once(0).chain(chunk.ends.iter().copied());
        Ok(Self { state: chunk.states.to_vec(), word: starts.take(chunk.ends.len()).collect() })
    }

    pub(crate) fn len(&self) -> usize {
        self.state.len()
    }

    pub(crate) fn finish(&self, chunk: &LaneChunk) -> Result<(), LaneError> {
        let whole = |lane: &usize| self.state[*lane] == START && self.word[*lane] == chunk.ends[*lane];
        match (0..self.len()).find(|lane| !whole(lane)) {
            Some(lane) => Err(LaneError::Corrupt { lane }),
            None => Ok(()),
        }
    }
}

/// What a step needs besides the lane's own standing.
pub(crate) struct Decoder<'a> {
    tables: &'a [[u32; SLOTS]],
    row_class: &'a [i8],
    col_class: &'a [i8],
    words: &'a [[u8; 2]],
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(chunk: &LaneChunk<'a>, tables: &Tables<'a>) -> Self {
        Self {
            tables: tables.slots.as_chunks().0,
            row_class: tables.rows,
            col_class: tables.cols,
            words: chunk.words.as_chunks().0,
        }
    }

    /// Runs the lanes `range`, whose columns begin at `group`, down all rows.
    pub(crate) fn walk<S: Sink>(&self, lanes: &mut Lanes, group: usize, range: std::ops::Range<usize>, sink: &mut S) {
        let split = range.start + range.len() / WALK * WALK;
        for lane in (range.start..split).step_by(WALK) {
            self.columns::<WALK, S>(lanes, lane, group + lane, sink);
        }
        for lane in split..range.end {
            self.columns::<1, S>(lanes, lane, group + lane, sink);
        }
    }

    /// Runs `N` lanes from `lane` in lockstep down the columns from `col`.
    #[inline(never)]
    fn columns<const N: usize, S: Sink>(&self, lanes: &mut Lanes, lane: usize, col: usize, sink: &mut S) {
        let mut state: [u32; N] = std::array::from_fn(|i| lanes.state[lane + i]);
        let mut word: [u32; N] = std::array::from_fn(|i| lanes.word[lane + i]);
        let class: [i32; N] = std::array::from_fn(|i| i32::from(self.col_class[col + i]));
        for (row, &row_class) in self.row_class.iter().enumerate() {
            let mut levels = [0; N];
            for i in 0..N {
                let table = self.table(i32::from(row_class) + class[i]);
                levels[i] = self.step(table, &mut state[i], &mut word[i]);
            }
            sink.put(row, col, levels);
        }
        lanes.state[lane..lane + N].copy_from_slice(&state);
        lanes.word[lane..lane + N].copy_from_slice(&word);
    }

    #[inline(always)]
    fn table(&self, class: i32) -> &'a [u32; SLOTS] {
        &self.tables[class.clamp(0, self.tables.len() as i32 - 1) as usize]
    }

    /// One symbol of one lane. Without a branch on the refill, which no predictor can guess.
    #[inline(always)]
    fn step(&self, table: &[u32; SLOTS], state: &mut u32, word: &mut u32) -> i8 {
        let slot = table[*state as usize % SLOTS];
        let next = (slot >> 12 & 0xfff) * (*state >> 12) + (slot & 0xfff);
        let refill = next < START;
        let refilled = next << 16 | self.word(*word);
        *state = select_unpredictable(refill, refilled, next);
        *word += u32::from(refill);
        (slot as i32 >> 24) as i8
    }

    /// Words past the end read as 0; [`Lanes::finish`] finds the lane that used one.
    #[inline(always)]
    fn word(&self, index: u32) -> u32 {
        u32::from(u16::from_le_bytes(self.words.get(index as usize).copied().unwrap_or_default()))
    }
}
