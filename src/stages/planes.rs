//! Elements <-> byte planes (FORMAT.md, section 5.6).
//!
//! Floats are rotated left by one bit first, so that the exponent fills the top plane and the sign, which is noise, joins
//! the low mantissa bits.

use crate::tensor::DType;

/// Plane `plane` of `elements`: one byte of each, 0 being the least significant.
pub fn split(elements: &[u8], dtype: DType, plane: usize) -> Vec<u8> {
    let element = |bytes: &[u8]| {
        let value = bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte));
        (if dtype.is_float() { rotate(value, 1, dtype.bits()) } else { value } >> (8 * plane)) as u8
    };
    elements.chunks_exact(element_bytes(dtype)).map(element).collect()
}

/// Puts all planes of some elements, one after another from the least significant, back together.
pub fn join(planes: &[u8], dtype: DType, elements: &mut [u8]) {
    let element_bytes = element_bytes(dtype);
    let len = elements.len() / element_bytes;
    for (plane, bytes) in planes.chunks_exact(len.max(1)).enumerate() {
        let places = elements.iter_mut().skip(plane).step_by(element_bytes);
        places.zip(bytes).for_each(|(place, &byte)| *place = byte);
    }
    match (dtype.is_float(), element_bytes) {
        (false, _) => {}
        (true, 2) => elements.as_chunks_mut().0.iter_mut().for_each(|element| {
            *element = u16::from_le_bytes(*element).rotate_right(1).to_le_bytes();
        }),
        (true, 4) => elements.as_chunks_mut().0.iter_mut().for_each(|element| {
            *element = u32::from_le_bytes(*element).rotate_right(1).to_le_bytes();
        }),
        (true, _) => elements.as_chunks_mut().0.iter_mut().for_each(|element| {
            *element = u64::from_le_bytes(*element).rotate_right(1).to_le_bytes();
        }),
    }
}

fn element_bytes(dtype: DType) -> usize {
    (dtype.bits() as usize).div_ceil(8)
}

fn rotate(value: u64, left: u64, bits: u64) -> u64 {
    (value << left | value >> (bits - left)) & (u64::MAX >> (64 - bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn join_inverts_split_for_every_dtype() {
        let elements: Vec<u8> = (0..8 * 37u32).map(|i| (i.wrapping_mul(2654435761) >> 13) as u8).collect();
        for dtype in DType::ALL {
            let planes: Vec<u8> = (0..element_bytes(dtype)).flat_map(|plane| split(&elements, dtype, plane)).collect();
            let mut joined = vec![0; elements.len()];
            join(&planes, dtype, &mut joined);
            assert_eq!(joined, elements, "{dtype:?}");
        }
    }

    #[test]
    fn the_top_plane_of_a_float_is_its_exponent() {
        assert_eq!(split(&(-1.5f32).to_le_bytes(), DType::F32, 3), [127]);
        assert_eq!(split(&0xbfc0u16.to_le_bytes(), DType::BF16, 1), [127]);
    }
}
