//! The lane decoder held to constriction's, and to what it must refuse.

use super::*;
use crate::noise::Noise;
use constriction::stream::model::{ContiguousCategoricalEntropyModel, DecoderModel};
use constriction::stream::{Decode, Encode, stack::AnsCoder};

type Categorical = ContiguousCategoricalEntropyModel<u16, Vec<u16>, 12>;

/// A chunk that `constriction` wrote, and all that is needed to read it.
#[derive(Clone)]
struct Case {
    models: Vec<(i32, Categorical)>,
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

    fn model(&self, (row, col): (usize, usize), quantizer: u8) -> &(i32, Categorical) {
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
        let mut coder = AnsCoder::<u16, u32>::from_raw_parts(vec![], STATE_START);
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

fn decode_lanes(chunk: &LaneChunk, tables: &Tables, trellis: bool, weights: &mut Weights) -> Result<(), LaneError> {
    let mut lanes = Lanes::start(chunk)?;
    walk_lanes(&mut lanes, chunk, tables, trellis, weights)?;
    lanes.finish(chunk)
}

fn model(random: &mut Noise) -> (i32, Categorical) {
    let symbols = 2 + random.below(30);
    let mut frequencies = vec![1u16; symbols];
    for _ in symbols..SLOTS {
        let skewed = random.below(symbols).min(random.below(symbols)).min(random.below(symbols));
        frequencies[skewed] += 1;
    }
    let first = random.below(200) as i32 - 128;
    (first, Categorical::from_nonzero_fixed_point_probabilities(frequencies, false).expect("they add up to 4096"))
}

fn table(first: i32, model: &Categorical) -> Vec<u32> {
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
    let chunk = LaneChunk { rows: 1, cols: 1, states: &[STATE_START], ends: &[0], words: &[] };
    let shape = |chunk: LaneChunk, tables: Tables| {
        let (mut level, scales) = ([0.0], Scales::ones(1, 1));
        let result = decode_lanes(&chunk, &tables, false, &mut Weights::new(&mut level, &scales, &[]));
        matches!(result, Err(LaneError::Shape(_)))
    };
    assert!(shape(LaneChunk { states: &[], ends: &[], ..chunk }, tables));
    assert!(shape(LaneChunk { ends: &[0, 0], ..chunk }, tables));
    assert!(shape(LaneChunk { states: &[STATE_START; 2], ends: &[1, 0], words: &[0; 4], ..chunk }, tables));
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
