//! What payloads are written in: bytes, numbers, and bit fields of one width, least significant first.

use crate::error::{Error, Result};

/// Splits `len` bytes off the front.
pub(crate) fn take<'a>(bytes: &mut &'a [u8], len: usize, field: &'static str) -> Result<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(len).ok_or_else(|| ends_early(field))?;
    *bytes = rest;
    Ok(taken)
}

pub(crate) fn take_array<const N: usize>(bytes: &mut &[u8], field: &'static str) -> Result<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>().ok_or_else(|| ends_early(field))?;
    *bytes = rest;
    Ok(*taken)
}

pub(crate) fn take_varint(bytes: &mut &[u8], field: &'static str) -> Result<u32> {
    let mut value = 0u64;
    for shift in (0..35).step_by(7) {
        let [byte] = take_array(bytes, field)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            let shortest = byte != 0 || shift == 0;
            return u32::try_from(value).ok().filter(|_| shortest).ok_or(Error::invalid(field, "not a varint"));
        }
    }
    Err(Error::invalid(field, "not a varint"))
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits are meant")]
pub(crate) fn put_varint(mut value: u32, bytes: &mut Vec<u8>) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Parses a payload, after which nothing may follow. Errors say how many bytes were understood.
pub(crate) fn parse_whole<'a, T>(payload: &'a [u8], parse: impl FnOnce(&mut &'a [u8]) -> Result<T>) -> Result<T> {
    let mut rest = payload;
    let parsed = match parse(&mut rest) {
        Ok(_) if !rest.is_empty() => Err(Error::invalid("chunk", "bytes follow its end")),
        parsed => parsed,
    };
    parsed.map_err(|error| error.at(payload, rest))
}

fn ends_early(field: &'static str) -> Error {
    Error::invalid(field, "the chunk ends early")
}

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
