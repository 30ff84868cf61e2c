//! The numbers of FORMAT.md, in the order of its sections. Whoever reads or writes an archive takes them from here.

// Section 2: conventions.

/// Bytes of a hash.
pub const HASH_BYTES: usize = 16;

// Section 3: layout.

/// First bytes of every archive.
pub const MAGIC: [u8; 8] = *b"\x8dMCWC\r\n\x1a";
/// The version that this code reads and writes.
pub const VERSION: u16 = 1;
/// The flag of a header that is coded.
pub const FLAG_CODED: u16 = 1;
/// Bytes before the header.
pub const PREAMBLE_BYTES: usize = 32;
/// Bytes of the preamble that its hash covers.
pub const HASHED_PREAMBLE_BYTES: usize = PREAMBLE_BYTES - HASH_BYTES;

// Section 4: header.

/// Coding: exact byte planes.
pub const CODING_PLANES: u32 = 0;
/// Coding: integer levels.
pub const CODING_LEVELS: u32 = 1;
/// Quantizer: one of two for each level, as the 8-state trellis says.
pub const QUANTIZER_TRELLIS: u32 = 1;
/// Transform: a DCT over the taps of each kernel.
pub const TRANSFORM_DCT: u32 = 1;
/// Layout: the tensor is the transpose of the matrix.
pub const LAYOUT_COLUMN_MAJOR: u32 = 1;
/// Bytes of an entry of the chunk table: a length and a hash.
pub const CHUNK_ENTRY_BYTES: usize = 4 + HASH_BYTES;
/// Longest name of a file.
pub const FILE_NAME_BYTES_MAX: usize = 1024;
/// Bytes of a file's raw stream that one chunk holds.
pub const RAW_CHUNK_BYTES: u64 = 1 << 20;
/// Most files.
pub const FILES_MAX: u64 = 4096;
/// Longest header, also after decoding.
pub const HEADER_BYTES_MAX: u64 = 64 << 20;
/// Longest chunk payload.
pub const CHUNK_BYTES_MAX: u32 = 4 << 20;
/// Most elements in a chunk.
pub const CHUNK_LEN_MAX: u64 = 1 << 18;
/// Most tables of an archive.
pub const TABLES_MAX: u64 = 65535;
/// Most tables that one frame may use for each quantizer.
pub const FRAME_TABLES_MAX: u64 = 64;
/// Most fields of a record.
pub const RECORD_FIELDS_MAX: u64 = 64;
/// Most rows, and most levels in a row.
pub const EXTENT_MAX: u64 = (1 << 31) - 1;
/// Most frames of one tensor.
pub const TENSOR_FRAMES_MAX: u64 = 16;
/// Most references from a frame to one that stands alone.
pub const REFERENCE_DEPTH_MAX: u64 = 16;
/// Most entries of a frame's side arrays together.
pub const SIDE_ENTRIES_MAX: u64 = 1 << 26;

// Section 5.1: levels.

/// Bits of a frame's `side` that have a meaning.
pub const SIDE_BITS: u32 = 9;
/// Most low bits of a level.
pub const LOW_BITS_MAX: u32 = 16;
/// Bound on the magnitude of a level, so that it is exact as a float.
pub const LEVEL_END: i32 = 1 << 24;
/// Smallest scale, 2^-100.
pub const SCALE_MIN: f32 = f32::from_bits((127 - 100) << 23);
/// Largest scale, 2^100.
pub const SCALE_MAX: f32 = f32::from_bits((127 + 100) << 23);
/// Steps of the exponents in one octave.
pub const EXPONENT_STEPS: i32 = 16;
/// Smallest sum of a row, a column and a tap exponent.
pub const EXPONENT_MIN: i32 = -3 * 128;
/// Largest sum of a row, a column and a tap exponent.
pub const EXPONENT_MAX: i32 = 3 * 127;

// Section 5.2: trellis.

/// Number of states; a column starts in state 0.
pub const TRELLIS_STATES: usize = 8;
/// The next state, by state and parity of the symbol.
pub const TRELLIS_NEXT: [[u8; 2]; TRELLIS_STATES] = [[0, 2], [5, 7], [1, 3], [6, 4], [2, 0], [4, 6], [3, 1], [7, 5]];

// Section 5.3: transform.

/// Most taps of a transform: its basis is their square.
pub const DCT_TAPS_MAX: u64 = 1024;

// Section 5.5: prediction.

/// Bits of a gain after the point.
pub const GAIN_BITS: u32 = 8;
/// A gain of 1.
pub const GAIN_ONE: i32 = 1 << GAIN_BITS;

// Section 6: planes payload.

/// A plane as it is.
pub const MODE_RAW: u8 = 0;
/// A plane of equal bytes.
pub const MODE_CONSTANT: u8 = 1;
/// A plane coded with a table of its own.
pub const MODE_RANS: u8 = 2;
/// A plane as literals and copies of earlier bytes.
pub const MODE_COPIES: u8 = 3;
/// A plane coded by what its own bytes have taught.
pub const MODE_ADAPTIVE: u8 = 4;
/// The same, where a reference's bytes choose the trees.
pub const MODE_GUIDED: u8 = 5;

// Section 6.1: copies.

/// Shortest copy.
pub const COPY_LEN_MIN: usize = 4;
/// Byte planes of a distance.
pub const DISTANCE_BYTES: usize = 3;

// Section 6.2: adaptive.

/// Most bits of the byte that chooses a tree.
pub const CONTEXT_BITS_MAX: u8 = 8;
/// A chance at first, in 1/65536.
pub const CHANCE_START: u16 = 1 << 15;
/// What a chance moves towards when the bit is a one.
pub const CHANCE_TARGET: i32 = 65535;
/// Bits of a rate after the point.
pub const RATE_BITS: u32 = 15;
/// How many times as many decisions the slow half of a chance takes to learn no slower.
pub const SLOW_LIMITS: u16 = 8;

// Section 7.1: lanes.

/// Most lanes in a chunk, as a power of two.
pub const LANES_LOG2_MAX: u8 = 8;
/// Bits of a word.
pub const WORD_BITS: u32 = 16;
/// The state that an encoder starts from, and so the one that a whole lane ends in.
pub const STATE_START: u32 = 1 << WORD_BITS;

// Section 7.2: tables.

/// Bits of precision of every table.
pub const PRECISION: u32 = 12;
/// What the frequencies of a table sum to.
pub const TOTAL: u32 = 1 << PRECISION;
/// Frequencies that the coarse form knows.
pub const STEPS: usize = 44;

// Annex A.

/// The float32 nearest to 2^(k/16), as bits.
pub const ROOTS: [u32; EXPONENT_STEPS as usize] = [
    0x3f800000, 0x3f85aac3, 0x3f8b95c2, 0x3f91c3d3, 0x3f9837f0, 0x3f9ef532, 0x3fa5fed7, 0x3fad583f, 0x3fb504f3,
    0x3fbd08a4, 0x3fc5672a, 0x3fce248c, 0x3fd744fd, 0x3fe0ccdf, 0x3feac0c7, 0x3ff5257d,
];
