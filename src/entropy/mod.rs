//! Chunk payload <-> symbols (FORMAT.md, sections 6 and 7).
//!
//! Lanes are exactly constriction's `AnsCoder<u16, u32>`. The encoder uses it; decoding has a lean loop of its own
//! ([`lanes`], and its SIMD twin on wasm) that tests hold equal to constriction's decoder.
//!
//! ```
//! # #[cfg(feature = "encoder")] {
//! use mcwc::entropy::{EncoderTable, LevelChunk, Table, encode_levels};
//! let table = Table::new(-1, vec![1024; 4]).unwrap();
//! let chunk = LevelChunk {
//!     levels: &[1, 0, -1, 100],
//!     cols: 2,
//!     row_class: &[0, 0],
//!     col_class: &[0, 0],
//!     low_bits: 0,
//!     trellis: false,
//!     lanes: 16,
//! };
//! let payload = encode_levels(&chunk, &[EncoderTable::new(&table)]).unwrap();
//! // One lane (2^0) of no words, its first state, and one escape: 3 places on, the level 100 in zigzag.
//! assert_eq!(payload, [0, 0, 0, 0x00, 0x48, 0x00, 0x01, 1, 3, 200, 1]);
//! # }
//! ```

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod adaptive;
mod copies;
#[cfg(feature = "encoder")]
#[expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "an encoder's own levels, not bytes from outside"
)]
mod encode;
pub mod lanes;
mod planes;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
#[expect(unsafe_code, reason = "SIMD loads by address; the hot loop, and the only such module")]
#[expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "indices are of lanes, rows and columns that `Lanes::start` and `Decoder::new` have compared with the arrays"
)]
mod simd;
mod table;

pub use adaptive::Guide;
#[cfg(feature = "encoder")]
pub use adaptive::{Adaptation, context};
#[cfg(feature = "encoder")]
pub use encode::{
    Decision, EncoderTable, LANES, Learner, LevelChunk, adaptive_plane, constant_plane, encode_levels, lane_count,
    rans_plane, raw_plane,
};
pub(crate) use planes::decode_plane;
pub use planes::decode_planes;
pub use table::{Table, step};

use crate::error::{Error, Result};
use crate::fields::{parse_whole, take, take_array, take_bits, take_varint, unpack_bits};
use crate::format::{LANES_LOG2_MAX, LEVEL_END, STATE_START};
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
use lanes::walk_lanes;
use lanes::{LaneChunk, LaneError, Lanes, Scales, Tables, Weights};
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
use simd::walk_lanes;

/// Bytes that are decoded at a time where there is no need for all of their symbols.
const PART_LEN: usize = 1 << 15;

#[cold]
#[inline(never)]
fn lane_error(error: LaneError) -> Error {
    match error {
        LaneError::Shape(what) => Error::invalid("lanes", what),
        LaneError::Corrupt { lane } => Error::invalid("lanes", format!("lane {lane} does not end where it should")),
    }
}

/// The payload of a chunk of levels, split but not decoded.
pub struct LevelPayload<'a> {
    lanes: LanePayload<'a>,
    low: &'a [u8],
    /// Position in the chunk and level, ascending.
    pub escapes: Vec<(u32, i32)>,
}

impl<'a> LevelPayload<'a> {
    /// Splits the payload of a chunk of `rows` × `cols` levels.
    ///
    /// # Errors
    /// `Invalid` where the payload breaks a rule.
    pub fn parse(payload: &'a [u8], rows: usize, cols: usize, low_bits: u32) -> Result<Self> {
        Self::parse_with(payload, rows, cols, low_bits, LanePayload::parse)
    }

    #[expect(clippy::arithmetic_side_effects, reason = "a chunk has 2^18 levels at most")]
    fn parse_with(
        payload: &'a [u8],
        rows: usize,
        cols: usize,
        low_bits: u32,
        parse_lanes: impl FnOnce(&mut &'a [u8], usize, usize) -> Result<LanePayload<'a>>,
    ) -> Result<Self> {
        parse_whole(payload, |bytes| {
            let lanes = parse_lanes(bytes, rows, cols)?;
            let low = take_bits(bytes, rows * cols * low_bits as usize, "low")?;
            let escapes = parse_escapes(bytes, rows * cols)?;
            Ok(LevelPayload { lanes, low, escapes })
        })
    }

    /// Decodes the symbols to `weights`; low bits and escapes are the caller's.
    ///
    /// # Errors
    /// `Invalid` if a lane does not end where it should.
    pub(crate) fn decode(&self, tables: &Tables, trellis: bool, weights: &mut Weights) -> Result<()> {
        let LanePayload { rows, cols, .. } = self.lanes;
        self.lanes.decode(|lanes| walk_lanes(lanes, &self.lanes.chunk(rows, cols), tables, trellis, weights))
    }

    /// The stored low bits of each level, `low_bits` of them.
    pub fn low(&self, low_bits: u32) -> impl Iterator<Item = u32> {
        unpack_bits(self.low, low_bits)
    }
}

/// For the GPU, which decodes the words.
#[cfg(feature = "gpu")]
impl<'a> LevelPayload<'a> {
    /// As [`LevelPayload::parse`], of a payload from which the words have been cut out.
    ///
    /// # Errors
    /// As [`LevelPayload::parse`].
    #[cfg(target_arch = "wasm32")]
    pub(crate) fn parse_without_words(payload: &'a [u8], rows: usize, cols: usize, low_bits: u32) -> Result<Self> {
        Self::parse_with(payload, rows, cols, low_bits, |bytes, rows, cols| {
            LanePayload::parse_with(bytes, rows, cols, |_, _| Ok(&[]))
        })
    }

    /// The lanes.
    pub(crate) fn lanes(&self) -> LaneChunk<'_> {
        self.lanes.chunk(self.lanes.rows, self.lanes.cols)
    }

    /// The words of all lanes; none if they have been cut out.
    #[expect(clippy::arithmetic_side_effects, reason = "there are 256 lanes of 65535 words at most")]
    #[cfg(not(target_arch = "wasm32"))]
    pub(crate) fn words(&self) -> &'a [u8] {
        let end = self.lanes.ends.last().map_or(0, |&end| 2 * end as usize);
        self.lanes.words.get(..end).unwrap_or_default()
    }

    /// The bytes of the low bits.
    pub(crate) fn low_bytes(&self) -> &'a [u8] {
        self.low
    }
}

/// Lanes of a chunk, split into states, ends and words.
struct LanePayload<'a> {
    rows: usize,
    cols: usize,
    states: Vec<u32>,
    ends: Vec<u32>,
    words: &'a [u8],
}

impl<'a> LanePayload<'a> {
    fn parse(bytes: &mut &'a [u8], rows: usize, cols: usize) -> Result<Self> {
        Self::parse_with(bytes, rows, cols, |bytes, len| {
            // All that follows: the fast loop may look a few bytes past the last word.
            let words = *bytes;
            take(bytes, len, "words")?;
            Ok(words)
        })
    }

    #[expect(clippy::arithmetic_side_effects, reason = "there are 256 lanes of 65535 words at most")]
    fn parse_with(
        bytes: &mut &'a [u8],
        rows: usize,
        cols: usize,
        take_words: impl FnOnce(&mut &'a [u8], usize) -> Result<&'a [u8]>,
    ) -> Result<Self> {
        let [lanes_log2] = take_array(bytes, "lanes_log2")?;
        if lanes_log2 > LANES_LOG2_MAX {
            return Err(Error::invalid("lanes_log2", "more than 8"));
        }
        let lanes = 1usize << lanes_log2;
        let mut end = 0;
        let word_lens = take(bytes, 2 * lanes, "word_len")?.as_chunks().0.iter();
        let ends: Vec<u32> = word_lens
            .map(|&len| {
                end += u32::from(u16::from_le_bytes(len));
                end
            })
            .collect();
        let words = take_words(bytes, 2 * end as usize)?;
        let states: Vec<u32> =
            take(bytes, 4 * lanes, "state")?.as_chunks().0.iter().map(|&state| u32::from_le_bytes(state)).collect();
        if states.iter().any(|&state| state < STATE_START) {
            return Err(Error::invalid("state", "below 2^16"));
        }
        Ok(LanePayload { rows, cols, states, ends, words })
    }

    /// Lets all lanes walk from their first states to their ends.
    fn decode(&self, walk: impl FnOnce(&mut Lanes) -> std::result::Result<(), LaneError>) -> Result<()> {
        let chunk = self.chunk(self.rows, self.cols);
        let walked = Lanes::start(&chunk).and_then(|mut lanes| {
            walk(&mut lanes)?;
            lanes.finish(&chunk)
        });
        walked.map_err(lane_error)
    }

    /// Decodes the symbols of a single row, all with one table, to bytes. A row is like the matrix of one column a lane, whose
    /// longer runs are faster to decode; of its last row, a few columns may be missing.
    #[expect(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        reason = "there is a lane; symbols are bytes"
    )]
    fn decode_bytes(&self, slots: &[u32], bytes: &mut [u8]) -> Result<()> {
        let width = self.states.len();
        self.decode(|lanes| {
            let mut rest = bytes;
            while !rest.is_empty() {
                let cols = width.min(rest.len());
                let rows = (rest.len() / cols).min(PART_LEN / cols);
                let (part, next) = rest.split_at_mut(rows * cols);
                let tables = Tables { slots, rows: &vec![0; rows], cols: &vec![0; cols] };
                let (mut symbols, scales) = (vec![0.0; part.len()], Scales::ones(rows, cols));
                let mut weights = Weights::new(&mut symbols, &scales, &[]);
                walk_lanes(lanes, &self.chunk(rows, cols), &tables, false, &mut weights)?;
                part.iter_mut().zip(symbols).for_each(|(byte, symbol)| *byte = symbol as i32 as u8);
                rest = next;
            }
            Ok(())
        })
    }

    /// Lanes of so many rows and columns.
    fn chunk(&self, rows: usize, cols: usize) -> LaneChunk<'_> {
        LaneChunk { rows, cols, states: &self.states, ends: &self.ends, words: self.words }
    }
}

#[expect(clippy::arithmetic_side_effects, clippy::cast_possible_truncation, reason = "a chunk has 2^18 levels at most")]
fn parse_escapes(bytes: &mut &[u8], len: usize) -> Result<Vec<(u32, i32)>> {
    let count = take_varint(bytes, "escape_len")?;
    if count as usize > len {
        return Err(Error::invalid("escape_len", "more than there are levels"));
    }
    let mut escapes = Vec::with_capacity(count as usize);
    let mut next = 0u64;
    for _ in 0..count {
        let position = next + u64::from(take_varint(bytes, "escapes")?);
        let value = zigzag_decode(take_varint(bytes, "escapes")?);
        if position >= len as u64 || value.unsigned_abs() >= LEVEL_END as u32 {
            return Err(Error::invalid("escapes", "a position or a level is out of range"));
        }
        escapes.push((position as u32, value));
        next = position + 1;
    }
    Ok(escapes)
}

fn zigzag_decode(value: u32) -> i32 {
    (value >> 1) as i32 ^ ((value & 1) as i32).wrapping_neg()
}

#[cfg(feature = "encoder")]
fn zigzag_encode(value: i32) -> u32 {
    (value << 1 ^ value >> 31) as u32
}
