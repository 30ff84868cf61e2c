//! Bit fields of one width, least significant first.

use super::take;
use crate::error::{Error, Result};

/// The fields of `width` bits in `bytes`; none if `width` is 0.
#[expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "fields have 32 bits at most, and the low bits are meant"
)]
pub fn unpack_bits(bytes: &[u8], width: u32) -> impl Iterator<Item = u32> {
    let mut bytes = bytes.iter();
    let (mut pending, mut pending_bits) = (0u64, 0);
    std::iter::from_fn(move || {
        while pending_bits < width {
            pending |= u64::from(*bytes.next()?) << pending_bits;
            pending_bits += 8;
        }
        let field = (pending & ((1 << width) - 1)) as u32;
        pending >>= width;
        pending_bits -= width;
        (width > 0).then_some(field)
    })
}

/// Splits off the bytes of a field of `bit_len` bits, which zeros pad.
///
/// # Errors
/// `Invalid` if there are too few bytes, or the padding has a one.
#[expect(clippy::arithmetic_side_effects, reason = "a remainder of 8")]
pub(crate) fn take_bits<'a>(bytes: &mut &'a [u8], bit_len: usize, field: &'static str) -> Result<&'a [u8]> {
    let taken = take(bytes, bit_len.div_ceil(8), field)?;
    let padding = taken.last().map_or(0, |&last| u32::from(last) >> ((bit_len + 7) % 8 + 1));
    if padding == 0 { Ok(taken) } else { Err(Error::invalid(field, "padded with more than zeros")) }
}

/// Packs the low `width` bits of each value; the last byte is padded with zeros.
#[expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "fields have 32 bits at most, and the low bits are meant"
)]
pub fn pack_bits(values: impl Iterator<Item = u32>, width: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut pending, mut pending_bits) = (0u64, 0);
    for value in values {
        pending |= (u64::from(value) & ((1 << width) - 1)) << pending_bits;
        pending_bits += width;
        while pending_bits >= 8 {
            bytes.push(pending as u8);
            pending >>= 8;
            pending_bits -= 8;
        }
    }
    if pending_bits > 0 {
        bytes.push(pending as u8);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn unpack_inverts_pack(width in 1u32..=16, values in proptest::collection::vec(any::<u32>(), 0..100)) {
            let values: Vec<u32> = values.into_iter().map(|value| value & ((1 << width) - 1)).collect();
            let packed = pack_bits(values.iter().copied(), width);
            prop_assert_eq!(packed.len(), (values.len() * width as usize).div_ceil(8));
            prop_assert_eq!(unpack_bits(&packed, width).take(values.len()).collect::<Vec<_>>(), values);
        }
    }
}
