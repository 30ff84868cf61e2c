//! Elements, or records of fields <-> byte planes (FORMAT.md, section 5.6).
//!
//! Floats are rotated left by one bit first, so that the exponent fills the top plane and the sign, which is noise, joins
//! the low mantissa bits. That is also the zigzag form of the integers that number a type's floats from the smallest to the
//! largest: the residual of a predicted element is the difference of two such numbers.

use crate::tensor::DType;

/// Plane `plane` of `elements`: one byte of each, 0 being the least significant.
///
/// ```
/// use mcwc::{DType, stages::planes};
/// let elements = [1.0f32, -1.0].map(f32::to_le_bytes);
/// // 0x3f800000 and 0xbf800000, rotated: the exponent 127 on top, the sign at the bottom.
/// let planes = [0, 1, 2, 3].map(|plane| planes::split(elements.as_flattened(), DType::F32, plane));
/// assert_eq!(planes, [[0, 1], [0, 0], [0, 0], [127, 127]]);
/// ```
#[expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "elements have 8 planes at most; the low byte is meant"
)]
pub fn split(elements: &[u8], dtype: DType, plane: usize) -> Vec<u8> {
    let element = |bytes: &[u8]| {
        let value = load(bytes);
        (if dtype.is_float() { rotate(value, 1, dtype.bits()) } else { value } >> (8 * plane)) as u8
    };
    elements.chunks_exact(dtype.element_bytes()).map(element).collect()
}

/// The plane of field `field` of `records`: its bytes of each of them. `record` holds the length of every field.
#[expect(clippy::arithmetic_side_effects, clippy::indexing_slicing, reason = "the caller asks for one of the fields")]
pub fn split_field(records: &[u8], record: &[usize], field: usize) -> Vec<u8> {
    let offset: usize = record[..field].iter().sum();
    let fields = records.chunks_exact(record.iter().sum()).map(|bytes| &bytes[offset..offset + record[field]]);
    fields.flatten().copied().collect()
}

/// Puts a plane's bytes in their places: `field` bytes from `offset` on of every record.
#[expect(clippy::arithmetic_side_effects, reason = "fields lie inside their record")]
pub fn join_field(plane: &[u8], field: usize, offset: usize, record_bytes: usize, records: &mut [u8]) {
    for byte in 0..field {
        let places = records.iter_mut().skip(offset + byte).step_by(record_bytes);
        places.zip(plane.iter().skip(byte).step_by(field)).for_each(|(place, &byte)| *place = byte);
    }
}

/// Undoes the rotation of elements, once all their bytes are in place.
pub fn unrotate(elements: &mut [u8], dtype: DType) {
    match (dtype.is_float(), dtype.element_bytes()) {
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

/// The bytes of a reference as its predicted elements see them: floats rotated, zeros where it is too short.
pub fn rotated(reference: &[u8], dtype: DType, bytes: usize) -> Vec<u8> {
    let mut elements = reference.get(..bytes).unwrap_or(reference).to_vec();
    elements.resize(bytes, 0);
    if dtype.is_float() {
        for element in elements.chunks_exact_mut(dtype.element_bytes()) {
            store(rotate(load(element), 1, dtype.bits()), element);
        }
    }
    elements
}

/// Residuals -> elements, both rotated as their reference is.
#[expect(clippy::arithmetic_side_effects, reason = "elements have 8 bytes at most")]
pub fn add_reference(residuals: &mut [u8], reference: &[u8], dtype: DType) {
    let unused_bits = 64 - 8 * dtype.element_bytes();
    let elements = residuals.chunks_exact_mut(dtype.element_bytes());
    for (element, reference) in elements.zip(reference.chunks_exact(dtype.element_bytes())) {
        let (residual, reference) = (unzigzag(load(element)), load(reference));
        let sum = if dtype.is_float() {
            let number = unzigzag(reference).wrapping_add(residual) << unused_bits >> unused_bits;
            (number << 1 ^ number >> 63) as u64
        } else {
            reference.wrapping_add(residual as u64)
        };
        store(sum, element);
    }
}

/// Elements -> residuals; the reference is rotated.
#[expect(clippy::arithmetic_side_effects, reason = "elements have 8 bytes at most")]
pub fn residuals(elements: &[u8], reference: &[u8], dtype: DType) -> Vec<u8> {
    let unused_bits = 64 - 8 * dtype.element_bytes();
    let mut residuals = rotated(elements, dtype, elements.len());
    let number = |value| if dtype.is_float() { unzigzag(value) } else { value as i64 };
    let elements = residuals.chunks_exact_mut(dtype.element_bytes());
    for (element, reference) in elements.zip(reference.chunks_exact(dtype.element_bytes())) {
        let difference = number(load(element)).wrapping_sub(number(load(reference))) << unused_bits >> unused_bits;
        store((difference << 1 ^ difference >> 63) as u64, element);
    }
    residuals
}

fn load(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

fn store(value: u64, bytes: &mut [u8]) {
    bytes.iter_mut().zip(value.to_le_bytes()).for_each(|(place, byte)| *place = byte);
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ ((value & 1) as i64).wrapping_neg()
}

#[expect(clippy::arithmetic_side_effects, reason = "elements have 8 to 64 bits")]
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
            let mut joined = vec![0; elements.len()];
            for plane in 0..dtype.element_bytes() {
                join_field(&split(&elements, dtype, plane), 1, plane, dtype.element_bytes(), &mut joined);
            }
            unrotate(&mut joined, dtype);
            assert_eq!(joined, elements, "{dtype:?}");
        }
    }

    #[test]
    fn add_reference_inverts_residuals_for_every_dtype() {
        let noise = |factor: u32| (0..8 * 37u32).map(|i| (i.wrapping_mul(factor) >> 13) as u8).collect::<Vec<_>>();
        let (elements, other) = (noise(2654435761), noise(2246822519));
        for dtype in DType::ALL {
            for reference in [&other[..], &other[..8 * 20 + 3], &elements, &[]] {
                let reference = rotated(reference, dtype, elements.len());
                let mut sum = residuals(&elements, &reference, dtype);
                add_reference(&mut sum, &reference, dtype);
                unrotate(&mut sum, dtype);
                assert_eq!(sum, elements, "{dtype:?}");
            }
        }
    }

    #[test]
    fn residuals_count_the_floats_between() {
        let residual = |value: f32, reference: f32| {
            let reference = rotated(&reference.to_le_bytes(), DType::F32, 4);
            unzigzag(load(&residuals(&value.to_le_bytes(), &reference, DType::F32)))
        };
        let steps = [residual(1.0, 1.0f32.next_down()), residual(-1.0, (-1.0f32).next_up()), residual(0.0, -0.0)];
        assert_eq!(steps, [1, -1, 1]);
        assert_eq!(residual(f32::MIN_POSITIVE, -f32::MIN_POSITIVE), 2 * (1 << 23) + 1);
    }

    #[test]
    fn residuals_of_integers_wrap() {
        let residual =
            |value: u16, reference: u16| load(&residuals(&value.to_le_bytes(), &reference.to_le_bytes(), DType::U16));
        assert_eq!([residual(5, 5), residual(4, 5), residual(6, 5), residual(0, 65535)], [0, 1, 2, 2]);
    }

    #[test]
    fn join_field_inverts_split_field() {
        let records: Vec<u8> = (0..60).collect();
        for record in [vec![60], vec![1, 1, 18], vec![3, 4, 5], vec![1; 6], vec![1, 2]] {
            let mut joined = vec![0; records.len()];
            let mut offset = 0;
            for (index, &field) in record.iter().enumerate() {
                let plane = split_field(&records, &record, index);
                join_field(&plane, field, offset, record.iter().sum(), &mut joined);
                offset += field;
            }
            assert_eq!(joined, records, "{record:?}");
        }
        assert_eq!(split_field(&records, &[3, 17], 0), [0, 1, 2, 20, 21, 22, 40, 41, 42]);
    }

    #[test]
    fn the_top_plane_of_a_float_is_its_exponent() {
        assert_eq!(split(&(-1.5f32).to_le_bytes(), DType::F32, 3), [127]);
        assert_eq!(split(&0xbfc0u16.to_le_bytes(), DType::BF16, 1), [127]);
    }
}
