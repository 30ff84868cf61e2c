//! Symbols -> chunk payload: each lane is written by constriction's `AnsCoder<u16, u32>`.

mod coder;
mod learner;

use std::borrow::Borrow;
use std::num::NonZeroU16;

use constriction::stream::model::{EncoderModel, EntropyModel};
use constriction::stream::stack::SmallAnsCoder;
use constriction::stream::{Code, Encode};

use self::coder::DecisionCoder;
pub use self::learner::{Decision, Learner};
use super::adaptive::{Adaptation, Guide, context};
use super::{Table, zigzag_encode};
use crate::error::{Error, Result};
use crate::fields::{pack_bits, put_varint};
use crate::format::{
    LEVEL_END, MODE_ADAPTIVE, MODE_CONSTANT, MODE_GUIDED, MODE_RANS, MODE_RAW, PRECISION, STATE_START,
};
use crate::stages::trellis;

/// A [`Table`] as constriction's encoder sees it: cumulative and frequency by symbol, as a byte.
pub struct EncoderTable {
    intervals: [(u16, u16); 256],
    first: i16,
    last: i16,
}

impl EncoderTable {
    /// The intervals of a table.
    pub fn new(table: &Table) -> Self {
        let mut intervals = [(0, 0); 256];
        let mut cumulative = 0;
        for (symbol, &frequency) in (table.first()..).zip(table.frequencies()) {
            intervals[usize::from(symbol as u8)] = (cumulative, frequency);
            cumulative += frequency;
        }
        EncoderTable { intervals, first: table.first(), last: table.last() }
    }

    /// The symbol to code in place of `value`, and whether it is that value. With `parity`, it has the value's parity.
    fn nearest(&self, value: i32, parity: bool) -> (u8, bool) {
        let possible = |symbol: i32| self.intervals[usize::from(symbol as u8)].1 > 0;
        let clamped = value.clamp(i32::from(self.first), i32::from(self.last));
        if clamped == value && possible(clamped) {
            return (value as u8, true);
        }
        let stands_in = |symbol: &i32| possible(*symbol) && (!parity || (symbol ^ value) & 1 == 0);
        let symbol = (i32::from(self.first)..=i32::from(self.last)).find(stands_in);
        (symbol.expect("both ends of a table are possible, and the trellis' tables have both parities") as u8, false)
    }
}

impl EntropyModel<{ PRECISION as usize }> for EncoderTable {
    type Symbol = u8;
    type Probability = u16;
}

impl EncoderModel<{ PRECISION as usize }> for EncoderTable {
    fn left_cumulative_and_probability(&self, symbol: impl Borrow<u8>) -> Option<(u16, NonZeroU16)> {
        let (cumulative, frequency) = self.intervals[usize::from(*symbol.borrow())];
        Some((cumulative, NonZeroU16::new(frequency)?))
    }
}

/// A rectangle of levels to be coded as one chunk, row-major.
pub struct LevelChunk<'a> {
    /// The levels.
    pub levels: &'a [i32],
    /// Levels in a row.
    pub cols: usize,
    /// Class of each row.
    pub row_class: &'a [i8],
    /// Class of each column, taps included.
    pub col_class: &'a [i8],
    /// The frame's low bits.
    pub low_bits: u32,
    /// Whether the levels are indices under the trellis; then the second half of the tables serves quantizer 1.
    pub trellis: bool,
    /// Most lanes, a power of two.
    pub lanes: usize,
}

/// Payload of a chunk of levels. Levels that a table cannot code become escapes.
///
/// # Errors
/// `Argument` if a level is out of the format's range.
pub fn encode_levels(chunk: &LevelChunk, tables: &[EncoderTable]) -> Result<Vec<u8>> {
    let class_count = tables.len() / (1 + usize::from(chunk.trellis));
    let mut states = vec![0; chunk.cols];
    let mut symbols = Vec::with_capacity(chunk.levels.len());
    let mut table_of = Vec::with_capacity(chunk.levels.len());
    let mut escapes = Vec::new();
    for (i, &index) in chunk.levels.iter().enumerate() {
        let class = i32::from(chunk.row_class[i / chunk.cols]) + i32::from(chunk.col_class[i % chunk.cols]);
        let mut table = class.clamp(0, class_count as i32 - 1) as usize;
        let mut level = index;
        if chunk.trellis {
            let state = &mut states[i % chunk.cols];
            let quantizer = trellis::quantizer(*state);
            table += usize::from(quantizer) * class_count;
            level = trellis::level(index, quantizer);
            *state = trellis::next(*state, index);
        }
        if level.unsigned_abs() >= LEVEL_END as u32 {
            return Err(Error::argument(format!("level {level} is out of range")));
        }
        let (symbol, exact) = tables[table].nearest(index >> chunk.low_bits, chunk.trellis);
        symbols.push(symbol);
        table_of.push(table as u8);
        if !exact {
            escapes.push((i, level));
        }
    }
    let table_of = |i: usize| &tables[usize::from(table_of[i])];
    let mut payload = Vec::new();
    encode_lanes(&symbols, chunk.cols, lane_count(symbols.len(), chunk.cols, chunk.lanes), table_of, &mut payload);
    payload.extend(pack_bits(chunk.levels.iter().map(|&level| level as u32), chunk.low_bits));
    put_varint(escapes.len() as u32, &mut payload);
    let mut next = 0;
    for (position, level) in escapes {
        put_varint((position - next) as u32, &mut payload);
        put_varint(zigzag_encode(level), &mut payload);
        next = position + 1;
    }
    Ok(payload)
}

/// The most lanes that a CPU walks at once.
pub const LANES: usize = 16;

/// Lanes of a chunk, at most so many: as many as keep their states and lengths below half a per cent or so, or twice that where more
/// than 64 are asked for, and no idle ones.
pub fn lane_count(symbol_len: usize, cols: usize, lanes_max: usize) -> usize {
    let lane_len = if lanes_max > 64 { 1024 } else { 2048 };
    let by_len = (symbol_len / lane_len).clamp(1, lanes_max);
    1 << by_len.ilog2().min(cols.max(1).ilog2())
}

/// Appends the lanes of a row-major matrix of symbols.
fn encode_lanes<'t>(
    symbols: &[u8],
    cols: usize,
    lane_count: usize,
    model: impl Fn(usize) -> &'t EncoderTable,
    payload: &mut Vec<u8>,
) {
    let rows = symbols.len() / cols.max(1);
    let lanes: Vec<(u32, Vec<u16>)> = (0..lane_count)
        .map(|lane| {
            let mut coder = SmallAnsCoder::from_raw_parts(Vec::new(), STATE_START);
            for col in (lane..cols).step_by(lane_count).rev() {
                for i in (0..rows).rev().map(|row| row * cols + col) {
                    coder
                        .encode_symbol(symbols[i], model(i))
                        .expect("symbols without a frequency have been made escapes");
                }
            }
            let state = coder.state();
            let (mut words, _) = coder.into_raw_parts();
            words.reverse();
            (state, words)
        })
        .collect();
    payload.push(lane_count.ilog2() as u8);
    lanes.iter().for_each(|(_, words)| payload.extend((words.len() as u16).to_le_bytes()));
    for word in lanes.iter().flat_map(|(_, words)| words) {
        payload.extend(word.to_le_bytes());
    }
    lanes.iter().for_each(|(state, _)| payload.extend(state.to_le_bytes()));
}

/// Bytes of a part at least: the model goes through all parts but the last a second time.
const PART_BYTES_MIN: usize = 1 << 14;

/// Bytes of a part, whose decisions are in memory at once: as many as let these, and the models at the starts of all parts, take about the
/// least.
fn part_bytes(plane_len: usize, context_bits: u8) -> usize {
    let model_bytes = (size_of::<[u16; 4]>() << (8 + context_bits)) as u64;
    let decisions_bytes = 8 * size_of::<Decision>() as u64;
    let thriftiest = (plane_len as u64 * model_bytes / decisions_bytes).isqrt();
    PART_BYTES_MIN.max(thriftiest as usize)
}

/// A plane coded as its bytes teach, guided if there is a guide. Decisions are coded from the last to the first: the model is kept at
/// the start of every part, and goes through the parts again from there.
pub fn adaptive_plane(plane: &[u8], adaptation: Adaptation, guide: Option<&Guide>) -> Vec<u8> {
    let part_bytes = part_bytes(plane.len(), adaptation.context_bits);
    let part = |index: usize| index * part_bytes..plane.len().min((index + 1) * part_bytes);
    let contexts = |at: usize| (plane[at], context(plane, at, adaptation.distance, guide));
    let last = plane.len().saturating_sub(1) / part_bytes;
    let mut model = Learner::new(adaptation);
    let mut starts = Vec::with_capacity(last + 1);
    for index in 0..last {
        starts.push(model.clone());
        part(index).map(contexts).for_each(|(byte, context)| model.learn(byte, context, |_| ()));
    }
    starts.push(model);
    let mut coder = DecisionCoder::default();
    let mut decisions = vec![[Decision::default(); 8]; plane.len().min(part_bytes)];
    for (index, mut model) in starts.into_iter().enumerate().rev() {
        for ((byte, context), decisions) in part(index).map(contexts).zip(&mut decisions) {
            let mut decisions = decisions.iter_mut();
            model.learn(byte, context, |decision| {
                if let Some(next) = decisions.next() {
                    *next = decision;
                }
            });
        }
        let coded = &decisions[..part(index).len()];
        coded.as_flattened().iter().rev().for_each(|&decision| coder.push(decision));
    }
    let (state, words) = coder.finish();
    let mode = if guide.is_some() { MODE_GUIDED } else { MODE_ADAPTIVE };
    let mut payload = vec![mode, adaptation.limit, adaptation.distance, adaptation.context_bits];
    payload.extend(state.to_le_bytes());
    payload.extend(words.iter().rev().flat_map(|word| word.to_le_bytes()));
    payload
}

/// A plane as it is.
pub fn raw_plane(plane: &[u8]) -> Vec<u8> {
    [&[MODE_RAW], plane].concat()
}

/// A plane of `byte` throughout.
pub fn constant_plane(byte: u8) -> Vec<u8> {
    vec![MODE_CONSTANT, byte]
}

/// A plane coded with `table`, in which each of its bytes must be possible.
pub fn rans_plane(plane: &[u8], table: &Table) -> Vec<u8> {
    let mut payload = vec![MODE_RANS];
    table.serialize(&mut payload);
    let model = EncoderTable::new(table);
    encode_lanes(plane, plane.len(), lane_count(plane.len(), plane.len(), LANES), |_| &model, &mut payload);
    payload
}
