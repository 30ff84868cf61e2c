//! The lane decoder of [`super::lanes`] in WebAssembly's fixed-width SIMD.
//!
//! 16 lanes walk at a time: fewer do not hide the latency of a step, more do not fit 16 vector registers.
//! Two rows share one fetch of words, as a step uses at most one 16-bit word and a fetch brings two.

use super::lanes::{Decoder, LaneChunk, LaneError, Lanes, Levels, SLOTS, START, Sink, Tables, Weights};
use crate::stages::trellis;
use core::arch::wasm32::*;
use std::borrow::Cow;
use std::hint::black_box;
use std::marker::PhantomData;
use std::ptr::with_exposed_provenance;

/// Lanes that walk at a time.
const WALK: usize = 16;
/// Rows that 16 lanes walk before the next 16 take over: a row's neighbouring output is then still in cache.
const BLOCK: usize = 32;
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

/// A sink that also takes 16 levels of 32 bits.
pub trait WideSink: Sink {
    /// Takes the levels of `row`, columns `col .. col + 16`.
    fn put_wide(&mut self, row: usize, col: usize, levels: Wide);
}

impl WideSink for Levels<'_, i16> {
    #[inline(always)]
    fn put_wide(&mut self, row: usize, col: usize, [a, b, c, d]: Wide) {
        let out: &mut [i16; WALK] = self.at(row, col);
        let out = out.as_mut_ptr().cast::<v128>();
        // SAFETY: `out` is 32 bytes, two vectors.
        unsafe {
            v128_store(out, i16x8_narrow_i32x4(a, b));
            v128_store(out.add(1), i16x8_narrow_i32x4(c, d));
        }
    }
}

impl WideSink for Levels<'_, u8> {
    #[inline(always)]
    fn put_wide(&mut self, row: usize, col: usize, [a, b, c, d]: Wide) {
        // Symbols come sign-extended: only a signed narrowing keeps them.
        let bytes = i8x16_narrow_i16x8(i16x8_narrow_i32x4(a, b), i16x8_narrow_i32x4(c, d));
        let out: &mut [u8; WALK] = self.at(row, col);
        // SAFETY: `out` is 16 bytes.
        unsafe { v128_store(out.as_mut_ptr().cast(), bytes) }
    }
}

impl WideSink for Weights<'_> {
    #[inline(always)]
    fn put_wide(&mut self, row: usize, col: usize, levels: Wide) {
        let (out, scales): (&mut [f32; WALK], &[f32; WALK]) = self.at(row, col);
        let (out, scales) = (out.as_mut_ptr().cast::<v128>(), scales.as_ptr().cast::<v128>());
        // SAFETY: `out` and `scales` are 64 bytes each, four vectors.
        let _ = wide!(I => unsafe {
            let weights = f32x4_mul(f32x4_convert_i32x4(levels[I]), v128_load(scales.add(I)));
            v128_store(out.add(I), weights)
        });
    }
}

/// [`super::lanes::decode_lanes`]. Copies the words first unless at least 6 bytes follow the last lane's end.
pub fn decode_lanes<const TRELLIS: bool, S: WideSink>(
    chunk: &LaneChunk,
    tables: &Tables,
    sink: &mut S,
) -> Result<(), LaneError> {
    let mut lanes = Lanes::start(chunk, tables)?;
    let decoder = Decoder::new::<TRELLIS>(chunk, tables)?;
    let words = padded(chunk);
    let wide = WideDecoder::new(chunk, &decoder, &words);
    let mut trellis_states = vec![0; if TRELLIS { lanes.len() } else { 0 }];
    for group in (0..chunk.cols).step_by(lanes.len()) {
        let active = lanes.len().min(chunk.cols - group);
        let split = active / WALK * WALK;
        trellis_states.fill(0);
        for block in (0..chunk.rows).step_by(BLOCK) {
            let rows = block..chunk.rows.min(block + BLOCK);
            for lane in (0..split).step_by(WALK) {
                wide.walk::<TRELLIS, S>(&mut lanes, &mut trellis_states, lane, group + lane, rows.clone(), sink);
            }
        }
        for lane in split..active {
            decoder.column(&mut lanes, lane, group + lane, sink);
        }
    }
    lanes.finish(chunk)
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
    /// [`START`], hidden from LLVM: it would turn `>= START` into `> START - 1`, which costs V8 twice as much.
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
            start: u32x4_splat(black_box(START)),
            memory: PhantomData,
        }
    }

    /// Runs the 16 lanes from `lane` down `rows` of the columns from `col`.
    #[inline(never)]
    fn walk<const TRELLIS: bool, S: WideSink>(
        &self,
        lanes: &mut Lanes,
        trellis_states: &mut [u32],
        lane: usize,
        col: usize,
        rows: std::ops::Range<usize>,
        sink: &mut S,
    ) {
        let word = load(lanes.word[lane..].first_chunk().expect("16 lanes"));
        let first = u32x4_splat(self.first);
        let mut standing = Standing {
            state: load(lanes.state[lane..].first_chunk().expect("16 lanes")),
            next: wide!(I => self.clamped(i32x4_add(first, i32x4_shl(word[I], 1)))),
            trellis: trellis_states.get(lane..).and_then(<[u32]>::first_chunk).map_or([u32x4_splat(0); 4], load),
        };
        let mut row = rows.start;
        let (pairs, last) = self.row_start[rows].as_chunks();
        for starts in pairs {
            self.rows::<2, TRELLIS, S>(&mut standing, row, *starts, col, sink);
            row += 2;
        }
        if let [start] = *last {
            self.rows::<1, TRELLIS, S>(&mut standing, row, [start], col, sink);
        }
        let word = wide!(I => u32x4_shr(i32x4_sub(standing.next[I], first), 1));
        store(standing.state, lanes.state[lane..].first_chunk_mut().expect("16 lanes"));
        store(word, lanes.word[lane..].first_chunk_mut().expect("16 lanes"));
        if TRELLIS {
            store(standing.trellis, trellis_states[lane..].first_chunk_mut().expect("16 lanes"));
        }
    }

    /// `N` rows, one or two, whose tables begin at `starts`.
    #[inline(always)]
    fn rows<const N: usize, const TRELLIS: bool, S: WideSink>(
        &self,
        standing: &mut Standing,
        row: usize,
        starts: [usize; N],
        col: usize,
        sink: &mut S,
    ) {
        let Standing { state, next, trellis } = standing;
        let tables = self.tables(starts[0] + col);
        // SAFETY: `next` is at most `limit`, and 4 bytes are readable from there: `words` was asserted to hold
        // them. It is at least the address of the first word, as it starts there or later and only grows.
        let first = wide!(I => self.step::<TRELLIS>(state[I], unsafe { gather(next[I]) }, tables[I], trellis[I]));
        sink.put_wide(row, col, wide!(I => first[I].level));
        if N == 1 {
            *state = wide!(I => first[I].state);
            *trellis = wide!(I => first[I].trellis);
            *next = wide!(I => self.advanced(next[I], 1, first[I].kept));
            return;
        }
        let tables = self.tables(starts[N - 1] + col);
        let second = wide!(I => self.step::<TRELLIS>(first[I].state, first[I].words, tables[I], first[I].trellis));
        sink.put_wide(row + 1, col, wide!(I => second[I].level));
        *state = wide!(I => second[I].state);
        *trellis = wide!(I => second[I].trellis);
        *next = wide!(I => self.advanced(next[I], 2, i32x4_add(first[I].kept, second[I].kept)));
    }

    /// Addresses of 16 neighbouring tables.
    #[inline(always)]
    fn tables(&self, start: usize) -> Wide {
        load(self.tables[start..].first_chunk().expect("16 columns"))
    }

    /// One step of four lanes; one that refills takes the low half of its `words`.
    #[inline(always)]
    fn step<const TRELLIS: bool>(&self, state: v128, words: v128, table: v128, trellis: v128) -> Step {
        let index = v128_and(i32x4_shl(state, 2), u32x4_splat(4 * (SLOTS as u32 - 1)));
        // All ones where quantizer 1 is in force.
        let quantizer = i32x4_neg(v128_and(trellis, u32x4_splat(1)));
        let table = if TRELLIS { i32x4_add(table, v128_and(quantizer, self.quantizer_bytes)) } else { table };
        // SAFETY: `table` comes from `self.tables`, so a whole table is readable from there, and under the trellis
        // also from `quantizer_bytes` further on; `index` is a multiple of 4 below a table's size.
        let slot = unsafe { gather(i32x4_add(table, index)) };
        let low = u32x4_splat(0xfff);
        let frequency = v128_and(u32x4_shr(slot, 12), low);
        let state = i32x4_add(i32x4_mul(frequency, u32x4_shr(state, 12)), v128_and(slot, low));
        let kept = u32x4_ge(state, self.start);
        // Upper halves from the shifted state, lower ones from the words. A state that refills is never above
        // its refilled value, so that the maximum chooses.
        let refilled = i16x8_shuffle::<8, 1, 10, 3, 12, 5, 14, 7>(i32x4_shl(state, 16), words);
        let symbol = i32x4_shr(slot, 24);
        Step {
            state: u32x4_max(state, v128_andnot(refilled, kept)),
            level: if TRELLIS { trellis_level(symbol, quantizer) } else { symbol },
            trellis: if TRELLIS { trellis_next(trellis, symbol) } else { trellis },
            words: v128_bitselect(words, u32x4_shr(words, 16), kept),
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

/// [`trellis::level`] of four symbols; `quantizer` is 0 or all ones.
#[inline(always)]
fn trellis_level(symbol: v128, quantizer: v128) -> v128 {
    let sign = i32x4_max(i32x4_min(symbol, i32x4_splat(1)), i32x4_splat(-1));
    i32x4_sub(i32x4_shl(symbol, 1), v128_and(sign, quantizer))
}

/// [`trellis::next`] of four states and symbols.
#[inline(always)]
fn trellis_next(state: v128, symbol: v128) -> v128 {
    let [a, b, c, d, e, f, g, h] = trellis::NEXT;
    let next = u8x16(a[0], a[1], b[0], b[1], c[0], c[1], d[0], d[1], e[0], e[1], f[0], f[1], g[0], g[1], h[0], h[1]);
    // The upper bytes of each lane look up entry 0, which is 0.
    u8x16_swizzle(next, v128_or(i32x4_shl(state, 1), v128_and(symbol, u32x4_splat(1))))
}

/// Where 16 lanes stand.
struct Standing {
    state: Wide,
    /// Address of each lane's next word, [clamped](WideDecoder::clamped).
    next: Wide,
    /// State of each lane's trellis; unused without one.
    trellis: Wide,
}

/// What one step of four lanes gives.
struct Step {
    state: v128,
    level: v128,
    trellis: v128,
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
