//! Levels <-> the bytes in which a GPU takes them: two's complement, 8, 16 or 32 bits each. WGSL twin: `pack.wgsl`.
//!
//! Whoever entropy-decodes packs chunk by chunk, in coded order; the packed levels of a frame follow one another without
//! gaps, padded with zeros to whole 32-bit words.

/// The widths that levels are packed at.
pub const LEVEL_BITS: [u32; 3] = [8, 16, 32];

/// The fewest bits that hold every level.
pub fn level_bits(levels: &[i32]) -> u32 {
    // A value and its complement need the same bits, so the union of all bits serves both signs.
    let union = levels.iter().fold(0, |union, &level| union | (level ^ level >> 31));
    match union {
        0..0x80 => 8,
        0x80..0x8000 => 16,
        _ => 32,
    }
}

/// Appends levels at one of [`LEVEL_BITS`]; returns whether all fit. If not, the caller starts again with more bits.
///
/// ```
/// let mut packed = Vec::new();
/// assert!(mcwc::stages::pack::pack(&[1, -1, 300], 16, &mut packed));
/// assert_eq!(packed, [1, 0, 0xff, 0xff, 0x2c, 0x01]);
/// ```
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "the low bits are meant; whether they are all is told")]
pub fn pack(levels: &[i32], bits: u32, packed: &mut Vec<u8>) -> bool {
    match bits {
        8 => packed.extend(levels.iter().map(|&level| level as u8)),
        16 => packed.extend(levels.iter().flat_map(|&level| (level as u16).to_le_bytes())),
        _ => packed.extend(levels.iter().flat_map(|&level| level.to_le_bytes())),
    }
    level_bits(levels) <= bits
}

/// Bytes that a frame's packed levels take, with the padding; `None` on overflow.
pub fn packed_bytes(level_len: u64, bits: u32) -> Option<u64> {
    level_len.checked_mul(u64::from(bits / 8))?.checked_next_multiple_of(4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The levels back from their packed form, without the padding's zeros.
    fn unpack(packed: &[u8], bits: u32, level_len: usize) -> Vec<i32> {
        let level = |bytes: &[u8]| {
            let unsigned = bytes.iter().rev().fold(0, |value, &byte| value << 8 | i32::from(byte));
            unsigned << (32 - bits) >> (32 - bits)
        };
        packed.chunks_exact(bits as usize / 8).take(level_len).map(level).collect()
    }

    #[test]
    fn widths_change_where_twos_complement_ends() {
        let cases = [(0, 8), (127, 8), (-128, 8), (128, 16), (-129, 16), (32767, 16), (-32768, 16), (32768, 32)];
        for (level, bits) in cases {
            assert_eq!(level_bits(&[0, level]), bits, "{level}");
        }
        assert_eq!(level_bits(&[]), 8);
    }

    proptest! {
        #[test]
        fn unpack_inverts_pack(levels in proptest::collection::vec(-40_000i32..40_000, 0..40), shift in 0u32..12) {
            let levels: Vec<i32> = levels.iter().map(|level| level >> shift).collect();
            for bits in LEVEL_BITS {
                let mut packed = Vec::new();
                let fits = pack(&levels, bits, &mut packed);
                prop_assert_eq!(fits, unpack(&packed, bits, levels.len()) == levels);
                packed.resize(packed_bytes(levels.len() as u64, bits).unwrap() as usize, 0);
                prop_assert!(!fits || unpack(&packed, bits, levels.len()) == levels);
            }
        }
    }
}
