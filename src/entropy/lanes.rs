//! Interleaved-lane rANS: the portable decoder, and the types that every decoder shares.
//!
//! A chunk is a matrix of levels. Lane `l` of `L` holds columns `l`, `l + L`, `l + 2L`, ..., each run down
//! all its rows, so that in lockstep the lanes give neighbouring columns of one row. Each lane is a stream of
//! its own (32-bit state, 16-bit words, 12-bit tables) and is bit-compatible with `constriction`'s
//! `AnsCoder<u16, u32>` started at [`START`] (FORMAT.md, section 7.1).

use std::hint::select_unpredictable;

use crate::stages::trellis;

/// Slots in a table.
pub const SLOTS: usize = 1 << 12;
/// The state that an encoder starts from, and so the one that a whole lane ends in.
pub const START: u32 = 1 << 16;

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
    /// This lane used more or fewer words than it has, or did not end in [`START`].
    Corrupt {
        /// The lane.
        lane: usize,
    },
}

/// Scales of a chunk: one per column, in as many versions ("planes") as there are distinct row scales.
#[derive(Clone, Debug)]
pub struct Scales {
    pub(super) planes: Vec<f32>,
    pub(super) row_start: Vec<usize>,
    pub(super) cols: usize,
}

impl Scales {
    /// The scale of row `r` and column `c` is `steps[rows[r] + cols[c]]`. `None` where that is outside `steps`.
    pub fn new(steps: &[f32], rows: &[u8], cols: &[u16]) -> Option<Self> {
        let last = usize::from(*rows.iter().max()?) + usize::from(*cols.iter().max()?);
        let steps = steps.get(..=last)?;
        let plane = |row: u8| cols.iter().map(move |&col| steps[usize::from(row) + usize::from(col)]);
        let (values, row_start) = planes(rows.iter().copied(), plane);
        Some(Self { planes: values, row_start, cols: cols.len() })
    }

    /// A scale of 1 everywhere.
    pub fn ones(rows: usize, cols: usize) -> Self {
        Self { planes: vec![1.0; cols], row_start: vec![0; rows], cols }
    }

    /// The scales of a row, from column `col` on.
    pub fn from(&self, row: usize, col: usize) -> &[f32] {
        let start = self.row_start[row];
        &self.planes[start + col..start + self.cols]
    }

    /// Multiplies the levels of the whole chunk by their scales.
    pub fn apply(&self, levels: &mut [f32]) {
        for (row, levels) in levels.chunks_mut(self.cols).enumerate() {
            levels.iter_mut().zip(self.from(row, 0)).for_each(|(level, scale)| *level *= scale);
        }
    }
}

/// One `plane` for each distinct key, one after another, and where the plane of each row begins.
pub(crate) fn planes<T, I: Iterator<Item = T>>(
    rows: impl Iterator<Item = u8>,
    plane: impl Fn(u8) -> I,
) -> (Vec<T>, Vec<usize>) {
    let mut values = Vec::new();
    let mut starts = [None; 256];
    let row_start = rows.map(|key| {
        *starts[usize::from(key)].get_or_insert_with(|| {
            let start = values.len();
            values.extend(plane(key));
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

/// Decodes all levels of `chunk` to `weights`. With a `trellis`, symbols are its indices, and the first half of the tables
/// serves quantizer 0, the second quantizer 1.
pub fn decode_lanes(chunk: &LaneChunk, tables: &Tables, trellis: bool, weights: &mut Weights) -> Result<(), LaneError> {
    let mut lanes = Lanes::start(chunk, tables)?;
    let decoder = Decoder::new(chunk, tables, trellis)?;
    let columns = if trellis { Decoder::columns::<true> } else { Decoder::columns::<false> };
    for group in (0..chunk.cols).step_by(lanes.len()) {
        let active = lanes.len().min(chunk.cols - group);
        let split = active / WALK * WALK;
        for lane in (0..split).step_by(WALK) {
            columns(&decoder, &mut lanes, lane, group + lane, weights);
        }
        for lane in split..active {
            decoder.column(&mut lanes, lane, group + lane, weights);
        }
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
    pub(crate) slots: &'a [u32],
    /// For each distinct row class, the first slot of each column's table. Always that of a whole table.
    pub(crate) tables: Vec<u32>,
    /// Where in `tables` the columns of a row begin.
    pub(crate) row_start: Vec<usize>,
    /// Slots from a table of quantizer 0 to that of quantizer 1; 0 without a trellis.
    pub(crate) quantizer_slots: u32,
    words: &'a [[u8; 2]],
}

impl<'a> Decoder<'a> {
    /// Takes what [`Lanes::start`] accepts.
    pub(crate) fn new(chunk: &LaneChunk<'a>, tables: &Tables<'a>, trellis: bool) -> Result<Self, LaneError> {
        let quantizers = 1 + usize::from(trellis);
        if tables.slots.is_empty() || !tables.slots.len().is_multiple_of(quantizers * SLOTS) {
            return Err(LaneError::Shape("tables"));
        }
        let class_count = tables.slots.len() / SLOTS / quantizers;
        let last = class_count as i32 - 1;
        let first_slot = move |class: i32| class.clamp(0, last) as u32 * SLOTS as u32;
        let plane = |row: u8| {
            let row = i32::from(row as i8);
            tables.cols.iter().map(move |&col| first_slot(row + i32::from(col)))
        };
        let rows = tables.rows.iter().map(|&class| class as u8);
        let (first_slots, row_start) = planes(rows, plane);
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
        let next = (slot >> 12 & 0xfff) * (*state >> 12) + (slot & 0xfff);
        let refill = next < START;
        let refilled = next << 16 | self.word(*word);
        *state = select_unpredictable(refill, refilled, next);
        *word += u32::from(refill);
        (slot as i32 >> 24) as i16
    }

    /// Words past the end read as 0; [`Lanes::finish`] finds the lane that used one.
    #[inline(always)]
    fn word(&self, index: u32) -> u32 {
        u32::from(u16::from_le_bytes(self.words.get(index as usize).copied().unwrap_or_default()))
    }
}

#[cfg(all(test, feature = "encoder"))]
mod tests {
    use super::*;
    use crate::noise::Noise;
    use constriction::stream::model::{ContiguousCategoricalEntropyModel, DecoderModel};
    use constriction::stream::{Decode, Encode, stack::AnsCoder};

    type Model = ContiguousCategoricalEntropyModel<u16, Vec<u16>, 12>;

    /// A chunk that `constriction` wrote, and all that is needed to read it.
    #[derive(Clone)]
    struct Case {
        models: Vec<(i32, Model)>,
        slots: Vec<u32>,
        row_class: Vec<i8>,
        col_class: Vec<i8>,
        /// Row, column, quantizer and symbol, column by column.
        symbols: Vec<(usize, usize, u8, usize)>,
        levels: Vec<i16>,
        lanes: Vec<Vec<u16>>,
        states: Vec<u32>,
        trellis: bool,
    }

    impl Case {
        fn new(random: &mut Noise, rows: usize, cols: usize, lanes: usize) -> Self {
            let trellis = random.below(2) == 1;
            let sets = 1 + usize::from(trellis);
            let models: Vec<_> = (0..sets * (1 + random.below(5))).map(|_| model(random)).collect();
            let slots = models.iter().flat_map(|(first, model)| table(*first, model)).collect();
            let mut class = || random.below(13) as i8 - 4;
            let row_class = (0..rows).map(|_| class()).collect();
            let col_class = (0..cols).map(|_| class()).collect();
            let mut case = Self {
                models,
                slots,
                row_class,
                col_class,
                symbols: vec![],
                levels: vec![0; rows * cols],
                lanes: vec![],
                states: vec![],
                trellis,
            };
            case.draw(random);
            for lane in 0..lanes {
                case.write_lane(lane, lanes);
            }
            case
        }

        fn model(&self, (row, col): (usize, usize), quantizer: u8) -> &(i32, Model) {
            let class = i32::from(self.row_class[row]) + i32::from(self.col_class[col]);
            let class_count = self.models.len() / (1 + usize::from(self.trellis));
            let class = class.clamp(0, class_count as i32 - 1) as usize;
            &self.models[class + usize::from(quantizer) * class_count]
        }

        /// The level of a symbol, and the state after it.
        fn quantize(&self, state: u8, symbol: i32) -> (i16, u8) {
            if self.trellis {
                let level = trellis::level(symbol, trellis::quantizer(state));
                (level as i16, trellis::next(state, symbol))
            } else {
                (symbol as i16, 0)
            }
        }

        /// Draws symbols down each column, and so the levels.
        fn draw(&mut self, random: &mut Noise) {
            let cols = self.col_class.len();
            for col in 0..cols {
                let mut state = 0;
                for row in 0..self.row_class.len() {
                    let quantizer = trellis::quantizer(state);
                    let (first, model) = self.model((row, col), quantizer);
                    let symbol = model.quantile_function(random.below(SLOTS) as u16).0;
                    let (level, next) = self.quantize(state, first + symbol as i32);
                    self.symbols.push((row, col, quantizer, symbol));
                    self.levels[row * cols + col] = level;
                    state = next;
                }
            }
        }

        fn write_lane(&mut self, lane: usize, lanes: usize) {
            let mut coder = AnsCoder::<u16, u32>::from_raw_parts(vec![], START);
            let of_lane = self.symbols.iter().rev().filter(|(_, col, ..)| col % lanes == lane);
            for &(row, col, quantizer, symbol) in of_lane {
                coder.encode_symbol(symbol, &self.model((row, col), quantizer).1).expect("the symbol is in the model");
            }
            let (mut words, state) = coder.into_raw_parts();
            words.reverse();
            self.lanes.push(words);
            self.states.push(state);
        }

        /// What `constriction` reads.
        fn reference(&self) -> Vec<i16> {
            let mut levels = vec![0; self.levels.len()];
            for (lane, words) in self.lanes.iter().enumerate() {
                let words: Vec<u16> = words.iter().rev().copied().collect();
                let mut coder = AnsCoder::<u16, u32>::from_raw_parts(words, self.states[lane]);
                for col in (lane..self.col_class.len()).step_by(self.lanes.len()) {
                    let mut state = 0;
                    for row in 0..self.row_class.len() {
                        let (first, model) = self.model((row, col), trellis::quantizer(state));
                        let symbol = coder.decode_symbol(model).expect("the stream is whole");
                        let (level, next) = self.quantize(state, first + symbol as i32);
                        levels[row * self.col_class.len() + col] = level;
                        state = next;
                    }
                }
            }
            levels
        }

        /// Runs `decode` with the chunk's bytes as a file would hold them.
        fn decode(&self) -> Result<Vec<i16>, LaneError> {
            let words: Vec<u8> = self.lanes.iter().flatten().flat_map(|word| word.to_le_bytes()).collect();
            let mut end = 0;
            let mut ends = Vec::new();
            for lane in &self.lanes {
                end += lane.len() as u32;
                ends.push(end);
            }
            let (rows, cols) = (self.row_class.len(), self.col_class.len());
            let chunk = LaneChunk { rows, cols, states: &self.states, ends: &ends, words: &words };
            let tables = Tables { slots: &self.slots, rows: &self.row_class, cols: &self.col_class };
            let mut levels = vec![0.0; self.levels.len()];
            let scales = Scales::ones(rows, cols);
            decode_lanes(&chunk, &tables, self.trellis, &mut Weights::new(&mut levels, &scales, &[]))?;
            Ok(levels.into_iter().map(|level| level as i16).collect())
        }
    }

    fn model(random: &mut Noise) -> (i32, Model) {
        let symbols = 2 + random.below(30);
        let mut frequencies = vec![1u16; symbols];
        for _ in symbols..SLOTS {
            let skewed = random.below(symbols).min(random.below(symbols)).min(random.below(symbols));
            frequencies[skewed] += 1;
        }
        let first = random.below(200) as i32 - 128;
        (first, Model::from_nonzero_fixed_point_probabilities(frequencies, false).expect("they add up to 4096"))
    }

    fn table(first: i32, model: &Model) -> Vec<u32> {
        let slot = |slot: usize| {
            let (symbol, start, frequency) = model.quantile_function(slot as u16);
            let level = (first + symbol as i32) as u8;
            u32::from(level) << 24 | u32::from(frequency.get()) << 12 | (slot as u32 - u32::from(start))
        };
        (0..SLOTS).map(slot).collect()
    }

    fn cases() -> impl Iterator<Item = (Noise, Case)> {
        (0..60).map(|seed| {
            let mut random = Noise(seed);
            let (rows, cols) = (1 + random.below(70), 1 + random.below(150));
            let lanes = 1 << random.below(9);
            let case = Case::new(&mut random, rows, cols, lanes);
            (random, case)
        })
    }

    #[test]
    fn reads_what_constriction_reads() {
        for (_, case) in cases() {
            assert_eq!(case.reference(), case.levels);
            assert_eq!(case.decode().as_ref(), Ok(&case.levels));
        }
    }

    #[test]
    fn rejects_a_lane_that_has_a_word_too_many() {
        for (mut random, mut case) in cases() {
            let lane = random.below(case.lanes.len());
            case.lanes[lane].push(random.below(1 << 16) as u16);
            assert_eq!(case.decode(), Err(LaneError::Corrupt { lane }));
        }
    }

    #[test]
    fn rejects_a_lane_that_lacks_a_word() {
        for (mut random, mut case) in cases() {
            let lane = random.below(case.lanes.len());
            if case.lanes[lane].pop().is_some() {
                assert_eq!(case.decode(), Err(LaneError::Corrupt { lane }));
            }
        }
    }

    #[test]
    fn rejects_a_changed_first_state() {
        for (mut random, mut case) in cases() {
            let lane = random.below(case.lanes.len());
            case.states[lane] ^= 1 << random.below(32);
            assert_eq!(case.decode(), Err(LaneError::Corrupt { lane }));
        }
    }

    #[test]
    fn survives_any_words_and_states() {
        for (mut random, mut case) in cases() {
            for lane in &mut case.lanes {
                lane.iter_mut().for_each(|word| *word = random.below(1 << 16) as u16);
                lane.truncate(random.below(lane.len() + 1));
            }
            case.states.iter_mut().for_each(|state| *state = random.below(1 << 32) as u32);
            assert!(matches!(case.decode(), Err(LaneError::Corrupt { .. })));
        }
    }

    #[test]
    fn rejects_lengths_that_do_not_fit() {
        let slots = [1 << 12; SLOTS];
        let tables = Tables { slots: &slots, rows: &[0], cols: &[0] };
        let chunk = LaneChunk { rows: 1, cols: 1, states: &[START], ends: &[0], words: &[] };
        let shape = |chunk: LaneChunk, tables: Tables| {
            let (mut level, scales) = ([0.0], Scales::ones(1, 1));
            let result = decode_lanes(&chunk, &tables, false, &mut Weights::new(&mut level, &scales, &[]));
            matches!(result, Err(LaneError::Shape(_)))
        };
        assert!(shape(LaneChunk { states: &[], ends: &[], ..chunk }, tables));
        assert!(shape(LaneChunk { ends: &[0, 0], ..chunk }, tables));
        assert!(shape(LaneChunk { states: &[START; 2], ends: &[1, 0], words: &[0; 4], ..chunk }, tables));
        assert!(shape(LaneChunk { ends: &[1], words: &[0], ..chunk }, tables));
        assert!(shape(chunk, Tables { rows: &[], ..tables }));
        assert!(shape(chunk, Tables { cols: &[0, 0], ..tables }));
        assert!(shape(chunk, Tables { slots: &slots[1..], ..tables }));
        assert!(shape(chunk, Tables { slots: &[], ..tables }));
    }

    #[test]
    fn scales_each_weight() {
        let steps: Vec<f32> = (0..9).map(|step| (step as f32).exp2()).collect();
        let scales = Scales::new(&steps, &[4, 0, 4], &[0, 1, 4]).expect("all are inside");
        let mut out = [0.0; 9];
        let mut sink = Weights::new(&mut out, &scales, &[]);
        sink.put(0, 0, 3, &[1, -2, 3, 1, -2, 3, 1, -2, 3]);
        assert_eq!(out, [16.0, -64.0, 768.0, 1.0, -4.0, 48.0, 16.0, -64.0, 768.0]);
        let mut out = [1.0; 9];
        Weights::new(&mut out, &scales, &[1.0; 9]).put(1, 1, 2, &[-2, 3, -2, 3]);
        assert_eq!(out, [1.0, 1.0, 1.0, 1.0, -2.0, 64.0, 1.0, -32.0, 1024.0]);
        assert!(Scales::new(&steps, &[5], &[4]).is_none());
    }
}
