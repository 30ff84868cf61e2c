//! Elements of one type -> f32 or f16: what the shader's `value` does, for tensors that the CPU decodes.

use crate::error::{Error, Result};
use crate::stages::quantize::to_f16;
use crate::tensor::DType;

/// The elements as `to`, which is f32 or f16. To f16 rounds to nearest, ties to even; what is finite stays finite.
///
/// # Errors
/// `Argument` if these elements cannot be had as that type.
pub fn cast(bytes: &[u8], from: DType, to: DType) -> Result<Vec<u8>> {
    let values = values(bytes, from).filter(|_| matches!(to, DType::F32 | DType::F16));
    let values = values.ok_or_else(|| Error::argument(format!("{} cannot be had as {}", from.name(), to.name())))?;
    Ok(match to {
        DType::F32 => values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        _ => values.iter().flat_map(|&value| half(value).to_le_bytes()).collect(),
    })
}

/// Their values, if each is a float.
fn values(bytes: &[u8], dtype: DType) -> Option<Vec<f32>> {
    let words = || bytes.as_chunks::<2>().0.iter().map(|&bytes| u16::from_le_bytes(bytes));
    Some(match dtype {
        DType::F32 => bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect(),
        DType::F64 => bytes.as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes) as f32).collect(),
        DType::F16 => words().map(from_f16).collect(),
        DType::BF16 => words().map(|bits| f32::from_bits(u32::from(bits) << 16)).collect(),
        DType::I8 => bytes.iter().map(|&byte| f32::from(byte as i8)).collect(),
        DType::U8 | DType::Bool => bytes.iter().map(|&byte| f32::from(byte)).collect(),
        DType::I16 => words().map(|bits| f32::from(bits as i16)).collect(),
        DType::U16 => words().map(f32::from).collect(),
        _ => return None,
    })
}

fn from_f16(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let magnitude = u32::from(bits & 0x7fff);
    let value = match magnitude {
        // A multiple of 2^-24.
        0..0x400 => (magnitude as f32 / (1 << 24) as f32).to_bits(),
        0x400..0x7c00 => (magnitude << 13) + (112 << 23),
        // Infinite, or not a number.
        _ => magnitude << 13 | 0xff << 23,
    };
    f32::from_bits(sign | value)
}

fn half(value: f32) -> u16 {
    let sign = (value.to_bits() >> 16 & 0x8000) as u16;
    if value.is_nan() {
        sign | 0x7e00
    } else if value.is_infinite() {
        sign | 0x7c00
    } else {
        to_f16(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_agree_with_the_half_crate() {
        for bits in 0..=u16::MAX {
            let (value, theirs) = (from_f16(bits), half::f16::from_bits(bits));
            assert!(value.to_bits() == theirs.to_f32().to_bits() || value.is_nan() && theirs.is_nan(), "{bits:x}");
            assert!(half(value) == bits || value.is_nan() && half::f16::from_bits(half(value)).is_nan(), "{bits:x}");
        }
        assert_eq!([half(1e9), half(-1e-9)], [0x7bff, 0x8000]);
    }

    #[test]
    fn integers_are_their_values() {
        let floats = |bytes: &[u8], from| -> Vec<f32> {
            cast(bytes, from, DType::F32)
                .unwrap()
                .as_chunks()
                .0
                .iter()
                .map(|&bytes| f32::from_le_bytes(bytes))
                .collect()
        };
        assert_eq!(floats(&[255, 3], DType::I8), [-1.0, 3.0]);
        assert_eq!(floats(&[255, 1], DType::Bool), [255.0, 1.0]);
        assert_eq!(floats(&[255, 255], DType::I16), [-1.0]);
        assert_eq!(floats(&[255, 255], DType::U16), [65535.0]);
        assert!(matches!(cast(&[0; 8], DType::I64, DType::F32), Err(Error::Argument(_))));
        assert!(matches!(cast(&[0; 4], DType::F32, DType::I8), Err(Error::Argument(_))));
    }
}
