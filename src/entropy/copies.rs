//! Bytes with repeats: literals, and copies of what came before (FORMAT.md, section 6.1).

use super::planes::decode_coded_plane;
use crate::error::{Error, Result};
use crate::fields::take_varint;
use crate::format::COPY_LEN_MIN;

/// Decodes the data of a plane of mode copies.
#[expect(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "a copy begins and ends inside the plane")]
pub(super) fn decode_copies(payload: &mut &[u8], plane: &mut [u8]) -> Result<()> {
    let mut lens = [0; 4];
    for len in &mut lens {
        *len = take_varint(payload, "copies")? as usize;
    }
    let [literal_len, sequence_len, literal_lens, copy_lens] = lens;
    // What can make up the plane and be used up: a length is a byte, and another one for 128 bytes or more of the plane.
    let filled = sequence_len.saturating_mul(COPY_LEN_MIN).saturating_add(literal_len);
    let varints = sequence_len..=sequence_len.saturating_add(plane.len() / 128);
    if filled > plane.len() || !varints.contains(&literal_lens) || !varints.contains(&copy_lens) {
        return Err(invalid());
    }
    let literals = decode_bytes(payload, literal_len)?;
    let (literal_lens, copy_lens) = (decode_bytes(payload, literal_lens)?, decode_bytes(payload, copy_lens)?);
    let low = decode_bytes(payload, sequence_len)?;
    let middle = decode_bytes(payload, sequence_len)?;
    let high = decode_bytes(payload, sequence_len)?;
    let (mut literals, mut literal_lens, mut copy_lens) = (&literals[..], &literal_lens[..], &copy_lens[..]);
    let mut end = 0;
    for ((&low, &middle), &high) in low.iter().zip(&middle).zip(&high) {
        let literal_len = take_varint(&mut literal_lens, "copies")? as usize;
        let copy_len = (take_varint(&mut copy_lens, "copies")? as usize).saturating_add(COPY_LEN_MIN);
        end = put_literals(&mut literals, literal_len, plane, end)?;
        let distance = (u32::from_le_bytes([low, middle, high, 0]) as usize).saturating_add(1);
        let place = end..end.saturating_add(copy_len);
        if distance > end || place.end > plane.len() {
            return Err(invalid());
        }
        end = place.end;
        // Byte by byte, because a copy may overlap itself.
        place.for_each(|to| plane[to] = plane[to - distance]);
    }
    let rest = literals.len();
    end = put_literals(&mut literals, rest, plane, end)?;
    if end == plane.len() && literal_lens.is_empty() && copy_lens.is_empty() { Ok(()) } else { Err(invalid()) }
}

fn put_literals(literals: &mut &[u8], len: usize, plane: &mut [u8], start: usize) -> Result<usize> {
    let (taken, rest) = literals.split_at_checked(len).ok_or_else(invalid)?;
    let end = start.saturating_add(len);
    plane.get_mut(start..end).ok_or_else(invalid)?.copy_from_slice(taken);
    *literals = rest;
    Ok(end)
}

fn decode_bytes(payload: &mut &[u8], len: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    decode_coded_plane(payload, &mut bytes, None)?;
    Ok(bytes)
}

fn invalid() -> Error {
    Error::invalid("copies", "they do not make up the plane")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::put_varint;

    #[test]
    fn lengths_that_cannot_fill_the_plane_are_refused_before_memory_is_taken() {
        let all = 1 << 31;
        for lens in [[17, 0, 0, 0], [all, 0, 0, 0], [0, 5, 5, 5], [0, all, all, all], [16, 0, all, 0], [16, 0, 0, all]]
        {
            let mut payload = Vec::new();
            lens.iter().for_each(|&len| put_varint(len, &mut payload));
            // Nothing follows: what is looked for first is seen to be missing.
            let error = decode_copies(&mut payload.as_slice(), &mut [0; 16]).unwrap_err();
            assert!(error.to_string().contains("they do not make up the plane"), "{lens:?}: {error}");
        }
    }
}
