//! The lane decoder of [`super::lanes`] in WebAssembly's fixed-width SIMD.
//!
//! 16 lanes walk at a time, a block of rows each: fewer do not hide the latency of a step, more do not fit 16 vector
//! registers.
//! Two rows share one fetch of words, as a step uses at most one 16-bit word and a fetch brings two.

use super::lanes::{BLOCK, Decoder, LaneChunk, LaneError, Lanes, SLOT_MASK, Tables, WALK, Weights};
use crate::format::{PRECISION, STATE_START, TRELLIS_NEXT, WORD_BITS};
use core::arch::wasm32::*;
use std::borrow::Cow;
use std::hint::black_box;
use std::marker::PhantomData;
use std::ptr::with_exposed_provenance;

/// Bytes that a fetch may read past the last lane's end: the word by which a lane is seen to over-read, then
/// the fetch itself.
const PAD: usize = 2 + 4;

/// 16 values, four to a vector.
type Wide = [v128; 4];

/// One expression for each vector of a [`Wide`]. A loop would not always be unrolled, and its states would then
/// live in memory.
macro_rules! wide {
    ($i:ident => $value:expr) => {
        [wide!($i = 0, $value), wide!($i = 1, $value), wide!($i = 2, $value), wide!($i = 3, $value)]
    };
    ($i:ident = $n:literal, $value:expr) => {{
        const $i: usize = $n;
        $value
    }};
}

/// Where the weights of 16 columns go: scaling fills the time in which the walk waits for its tables.
struct WeightRows<'a> {
    /// From the next row's first column of the walk on.
    weights: &'a mut [f32],
    row_len: usize,
    /// From the walk's first column on.
    scales: &'a [f32],
    /// Where in `scales` those of each row begin.
    row_start: std::slice::Iter<'a, usize>,
    /// From the next row on, as `weights`; empty if levels are not predicted.
    predictions: &'a [f32],
}

impl<'a> WeightRows<'a> {
    fn new(&mut Weights { ref mut out, scales, predictions }: &'a mut Weights, row: usize, col: usize) -> Self {
        Self {
            weights: &mut out[row * scales.cols + col..],
            row_len: scales.cols,
            scales: &scales.variants[col..],
            row_start: scales.row_start[row..].iter(),
            predictions: predictions.get(row * scales.cols + col..).unwrap_or_default(),
        }
    }

    /// The next row, of levels of 32 bits.
    #[inline(always)]
    fn put(&mut self, levels: Wide) {
        let start = *self.row_start.next().expect("rows of the chunk");
        let scales = self.scales[start..].first_chunk::<WALK>().expect("16 columns").as_ptr().cast::<v128>();
        let weights = std::mem::take(&mut self.weights);
        let to = weights.first_chunk_mut::<WALK>().expect("16 columns").as_mut_ptr().cast::<v128>();
        let mut levels = wide!(I => f32x4_convert_i32x4(levels[I]));
        if let Some(predictions) = self.predictions.first_chunk::<WALK>() {
            let from = predictions.as_ptr().cast::<v128>();
            // SAFETY: `from` is 64 bytes, four vectors; a vector load needs no alignment.
            levels = wide!(I => f32x4_add(levels[I], unsafe { v128_load(from.add(I)) }));
            self.predictions = self.predictions.get(self.row_len..).unwrap_or_default();
        }
        // SAFETY: both are 64 bytes, four vectors; a vector load or store needs no alignment.
        let _ = wide!(I => unsafe { v128_store(to.add(I), f32x4_mul(levels[I], v128_load(scales.add(I)))) });
        self.weights = weights.get_mut(self.row_len..).unwrap_or_default();
    }
}

/// [`super::lanes::walk_lanes`]. Copies the words first unless at least 6 bytes follow the last lane's end.
pub fn walk_lanes(
    lanes: &mut Lanes,
    chunk: &LaneChunk,
    tables: &Tables,
    trellis: bool,
    weights: &mut Weights,
) -> Result<(), LaneError> {
    let decoder = Decoder::new(chunk, tables, trellis)?;
    let words = padded(chunk);
    let wide = WideDecoder::new(chunk, &decoder, &words);
    let walk = if trellis { WideDecoder::walk::<true> } else { WideDecoder::walk::<false> };
    let mut trellis_states = vec![[0; WALK]; lanes.len() / WALK];
    for group in (0..chunk.cols).step_by(lanes.len()) {
        let active = lanes.len().min(chunk.cols - group);
        let split = active / WALK * WALK;
        trellis_states.fill([0; WALK]);
        for block in (0..chunk.rows).step_by(BLOCK) {
            let rows = block..chunk.rows.min(block + BLOCK);
            for lane in (0..split).step_by(WALK) {
                let trellis_state = &mut trellis_states[lane / WALK];
                let to = WeightRows::new(weights, block, group + lane);
                walk(&wide, lanes, trellis_state, lane, rows.clone(), group + lane, to);
            }
        }
        for lane in split..active {
            decoder.column(lanes, lane, group + lane, weights);
        }
    }
    Ok(())
}

/// The words with at least [`PAD`] bytes after the last lane's end.
fn padded<'a>(chunk: &LaneChunk<'a>) -> Cow<'a, [u8]> {
    let end = words_len(chunk);
    if chunk.words.len() >= end + PAD {
        return Cow::Borrowed(chunk.words);
    }
    let mut words = chunk.words[..end].to_vec();
    words.resize(end + PAD, 0);
    Cow::Owned(words)
}

/// Bytes of all lanes.
fn words_len(chunk: &LaneChunk) -> usize {
    2 * chunk.ends.last().map_or(0, |&end| end as usize)
}

/// What 16 lanes need to walk. Addresses are `u32`, as only so do four fit a vector.
struct WideDecoder<'a> {
    /// [`Decoder::tables`] as addresses: from each, a whole table is readable.
    tables: Vec<u32>,
    row_start: &'a [usize],
    /// Bytes from a table of quantizer 0 to that of quantizer 1.
    quantizer_bytes: v128,
    /// Address of the first word.
    first: u32,
    /// Greatest address that a fetch may start from, one word past the last lane's end.
    limit: v128,
    /// [`STATE_START`], hidden from LLVM: it would turn `>= STATE_START` into `> STATE_START - 1`, which costs V8 twice as much.
    start: v128,
    /// What the addresses point into stays borrowed.
    memory: PhantomData<(&'a [u32], &'a [u8])>,
}

impl<'a> WideDecoder<'a> {
    fn new(chunk: &LaneChunk, decoder: &'a Decoder, words: &'a [u8]) -> Self {
        assert!(words.len() >= words_len(chunk) + PAD);
        let tables = decoder.slots.as_ptr().expose_provenance() as u32;
        let first = words.as_ptr().expose_provenance() as u32;
        Self {
            tables: decoder.tables.iter().map(|slot| tables + 4 * slot).collect(),
            row_start: &decoder.row_start,
            quantizer_bytes: u32x4_splat(4 * decoder.quantizer_slots),
            first,
            limit: u32x4_splat(first + words_len(chunk) as u32 + 2),
            start: u32x4_splat(black_box(STATE_START)),
            memory: PhantomData,
        }
    }

    /// Runs the 16 lanes from `lane` down `rows`, at most a block, of the columns from `col`.
    #[inline(never)]
    fn walk<const TRELLIS: bool>(
        &self,
        lanes: &mut Lanes,
        trellis_state: &mut [u8; WALK],
        lane: usize,
        rows: std::ops::Range<usize>,
        col: usize,
        mut to: WeightRows,
    ) {
        let word = load(lanes.word[lane..].first_chunk().expect("16 lanes"));
        let first = u32x4_splat(self.first);
        let mut standing = Standing {
            state: load(lanes.state[lane..].first_chunk().expect("16 lanes")),
            next: wide!(I => self.clamped(i32x4_add(first, i32x4_shl(word[I], 1)))),
            trellis: Trellis::<TRELLIS>::new(load_bytes(trellis_state)),
        };
        let (pairs, last) = self.row_start[rows].as_chunks::<2>();
        for starts in pairs {
            self.rows::<2, TRELLIS>(&mut standing, *starts, col, &mut to);
        }
        if let [start] = last {
            self.rows::<1, TRELLIS>(&mut standing, [*start], col, &mut to);
        }
        let word = wide!(I => u32x4_shr(i32x4_sub(standing.next[I], first), 1));
        store(standing.state, lanes.state[lane..].first_chunk_mut().expect("16 lanes"));
        store(word, lanes.word[lane..].first_chunk_mut().expect("16 lanes"));
        store_bytes(u8x16_shr(standing.trellis.doubled, 1), trellis_state);
    }

    /// `N` rows, one or two, whose tables begin at `starts`.
    #[inline(always)]
    fn rows<const N: usize, const TRELLIS: bool>(
        &self,
        standing: &mut Standing<TRELLIS>,
        starts: [usize; N],
        col: usize,
        to: &mut WeightRows,
    ) {
        let Standing { state, next, trellis } = standing;
        let tables = self.tables(starts[0] + col, trellis);
        // SAFETY: `next` is at most `limit`, and 4 bytes are readable from there: `words` was asserted to hold
        // them. It is at least the address of the first word, as it starts there or later and only grows.
        let first = wide!(I => self.step(state[I], unsafe { gather(next[I]) }, tables[I]));
        put(to, &first, trellis);
        if N == 1 {
            *state = wide!(I => first[I].state);
            *next = wide!(I => self.advanced(next[I], 1, first[I].kept));
            return;
        }
        let tables = self.tables(starts[N - 1] + col, trellis);
        let second = wide!(I => self.step(first[I].state, first[I].words, tables[I]));
        put(to, &second, trellis);
        *state = wide!(I => second[I].state);
        *next = wide!(I => self.advanced(next[I], 2, i32x4_add(first[I].kept, second[I].kept)));
    }

    /// Addresses of 16 neighbouring tables, each of the quantizer in force.
    #[inline(always)]
    fn tables<const TRELLIS: bool>(&self, start: usize, trellis: &Trellis<TRELLIS>) -> Wide {
        let tables = load(self.tables[start..].first_chunk().expect("16 columns"));
        if !TRELLIS {
            return tables;
        }
        let [low, high] = trellis.masks();
        let masks = [
            u16x8_shuffle::<0, 0, 1, 1, 2, 2, 3, 3>(low, low),
            u16x8_shuffle::<4, 4, 5, 5, 6, 6, 7, 7>(low, low),
            u16x8_shuffle::<0, 0, 1, 1, 2, 2, 3, 3>(high, high),
            u16x8_shuffle::<4, 4, 5, 5, 6, 6, 7, 7>(high, high),
        ];
        wide!(I => i32x4_add(tables[I], v128_and(masks[I], self.quantizer_bytes)))
    }

    /// One step of four lanes; one that refills takes the low half of its `words`.
    #[inline(always)]
    fn step(&self, state: v128, words: v128, table: v128) -> Step {
        let index = v128_and(i32x4_shl(state, 2), u32x4_splat(4 * SLOT_MASK));
        // SAFETY: `table` comes from `self.tables`, so a whole table is readable from there, and under the trellis
        // also from `quantizer_bytes` further on; `index` is a multiple of 4 below a table's size.
        let slot = unsafe { gather(i32x4_add(table, index)) };
        let low = u32x4_splat(SLOT_MASK);
        let frequency = v128_and(u32x4_shr(slot, PRECISION), low);
        let state = i32x4_add(i32x4_mul(frequency, u32x4_shr(state, PRECISION)), v128_and(slot, low));
        let kept = u32x4_ge(state, self.start);
        // Upper halves from the shifted state, lower ones from the words. A state that refills is never above
        // its refilled value, so that the maximum chooses.
        let refilled = i16x8_shuffle::<8, 1, 10, 3, 12, 5, 14, 7>(i32x4_shl(state, WORD_BITS), words);
        Step {
            state: u32x4_max(state, v128_andnot(refilled, kept)),
            symbol: i32x4_shr(slot, 2 * PRECISION),
            words: v128_bitselect(words, u32x4_shr(words, WORD_BITS), kept),
            kept,
        }
    }

    /// The address of the next word, `steps` steps on of which `-kept` used none.
    #[inline(always)]
    fn advanced(&self, next: v128, steps: i32, kept: v128) -> v128 {
        self.clamped(i32x4_add(next, i32x4_shl(i32x4_add(kept, i32x4_splat(steps)), 1)))
    }

    /// A lane that over-reads stops one word past the last lane's end, which is no lane's end.
    #[inline(always)]
    fn clamped(&self, next: v128) -> v128 {
        u32x4_min(next, self.limit)
    }
}

/// [`level`](crate::stages::trellis::level) of eight symbols of 16 bits; `quantizer` is 0 or all ones.
#[inline(always)]
fn trellis_level(symbol: v128, quantizer: v128) -> v128 {
    // The sign where quantizer 1 is in force, else 0.
    let nearer = i16x8_max(i16x8_min(symbol, u16x8_shr(quantizer, 15)), quantizer);
    i16x8_sub(i16x8_shl(symbol, 1), nearer)
}

/// 16 trellises; nothing where there is no `TRELLIS`.
#[derive(Clone, Copy)]
struct Trellis<const TRELLIS: bool> {
    /// Twice their states.
    doubled: v128,
    /// All ones where quantizer 1 is in force, else 0.
    quantizers: v128,
}

impl<const TRELLIS: bool> Trellis<TRELLIS> {
    fn new(states: v128) -> Self {
        Self { doubled: i8x16_shl(states, 1), quantizers: i8x16_neg(v128_and(states, u8x16_splat(1))) }
    }

    /// `quantizers`, 16 bits each.
    #[inline(always)]
    fn masks(&self) -> [v128; 2] {
        let q = self.quantizers;
        [
            u8x16_shuffle::<0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7>(q, q),
            u8x16_shuffle::<8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15>(q, q),
        ]
    }

    /// [`next`](crate::stages::trellis::next). The quantizer after it follows from the state before it alone, and so is ready before the symbol is.
    #[inline(always)]
    fn advance(&mut self, symbols: v128) {
        let index = v128_or(self.doubled, v128_and(symbols, u8x16_splat(1)));
        self.quantizers = u8x16_swizzle(load_bytes(&QUANTIZERS), self.doubled);
        self.doubled = u8x16_swizzle(load_bytes(&DOUBLED), index);
    }
}

/// For twice a state plus a parity, twice the next state.
const DOUBLED: [u8; WALK] = {
    let mut doubled = [0; WALK];
    let mut index = 0;
    while index < WALK {
        doubled[index] = 2 * TRELLIS_NEXT[index / 2][index % 2];
        index += 1;
    }
    doubled
};

/// For twice a state, all ones if quantizer 1 comes next, whatever the parity.
const QUANTIZERS: [u8; WALK] = {
    let mut quantizers = [0; WALK];
    let mut index = 0;
    while index < WALK {
        let [even, odd] = TRELLIS_NEXT[index / 2];
        assert!(even % 2 == odd % 2);
        quantizers[index] = 0u8.wrapping_sub(even % 2);
        index += 1;
    }
    quantizers
};

/// Where 16 lanes stand.
struct Standing<const TRELLIS: bool> {
    state: Wide,
    /// Address of each lane's next word, [clamped](WideDecoder::clamped).
    next: Wide,
    trellis: Trellis<TRELLIS>,
}

/// What one step of four lanes gives.
struct Step {
    state: v128,
    symbol: v128,
    /// The words that are left, the next one in the low half.
    words: v128,
    /// -1 where the lane did not refill, else 0.
    kept: v128,
}

/// The 4 bytes at each of four addresses.
///
/// # Safety
///
/// They are readable, in memory whose provenance is exposed.
#[inline(always)]
unsafe fn gather(addresses: v128) -> v128 {
    let pointer = |address: u32| with_exposed_provenance::<u32>(address as usize);
    // SAFETY: as the caller promises; these loads need no alignment.
    unsafe {
        let values = v128_load32_zero(pointer(u32x4_extract_lane::<0>(addresses)));
        let values = v128_load32_lane::<1>(values, pointer(u32x4_extract_lane::<1>(addresses)));
        let values = v128_load32_lane::<2>(values, pointer(u32x4_extract_lane::<2>(addresses)));
        v128_load32_lane::<3>(values, pointer(u32x4_extract_lane::<3>(addresses)))
    }
}

/// Puts the levels of a row.
#[inline(always)]
fn put<const TRELLIS: bool>(to: &mut WeightRows, steps: &[Step; 4], trellis: &mut Trellis<TRELLIS>) {
    let symbols = wide!(I => steps[I].symbol);
    if !TRELLIS {
        return to.put(symbols);
    }
    let [a, b, c, d] = symbols;
    let symbols = [i16x8_narrow_i32x4(a, b), i16x8_narrow_i32x4(c, d)];
    let masks = trellis.masks();
    let [low, high] = [trellis_level(symbols[0], masks[0]), trellis_level(symbols[1], masks[1])];
    to.put([
        i32x4_extend_low_i16x8(low),
        i32x4_extend_high_i16x8(low),
        i32x4_extend_low_i16x8(high),
        i32x4_extend_high_i16x8(high),
    ]);
    trellis.advance(i8x16_narrow_i16x8(symbols[0], symbols[1]));
}

#[inline(always)]
fn load_bytes(from: &[u8; WALK]) -> v128 {
    // SAFETY: `from` is 16 bytes, a vector; a vector load needs no alignment.
    unsafe { v128_load(from.as_ptr().cast()) }
}

#[inline(always)]
fn store_bytes(value: v128, to: &mut [u8; WALK]) {
    // SAFETY: as in `load_bytes`.
    unsafe { v128_store(to.as_mut_ptr().cast(), value) }
}

#[inline(always)]
fn load(from: &[u32; WALK]) -> Wide {
    let from = from.as_ptr().cast::<v128>();
    // SAFETY: `from` is 64 bytes, four vectors; a vector load needs no alignment.
    wide!(I => unsafe { v128_load(from.add(I)) })
}

#[inline(always)]
fn store(values: Wide, to: &mut [u32; WALK]) {
    let to = to.as_mut_ptr().cast::<v128>();
    // SAFETY: as in `load`.
    let _ = wide!(I => unsafe { v128_store(to.add(I), values[I]) });
}
