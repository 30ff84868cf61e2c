//! Bytes of a float tensor -> float32.

use crate::tensor::DType;

/// Elements as float32: exact for f32, f16 and bf16, rounded for f64. Empty for other types.
pub fn to_f32(bytes: &[u8], dtype: DType) -> Vec<f32> {
    match dtype {
        DType::F32 => bytes.as_chunks().0.iter().map(|&element| f32::from_le_bytes(element)).collect(),
        DType::F64 => bytes.as_chunks().0.iter().map(|&element| f64::from_le_bytes(element) as f32).collect(),
        DType::F16 => bytes.as_chunks().0.iter().map(|&element| from_f16(u16::from_le_bytes(element))).collect(),
        DType::BF16 => {
            let widen = |&element: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(element)) << 16);
            bytes.as_chunks().0.iter().map(widen).collect()
        }
        _ => Vec::new(),
    }
}

fn from_f16(bits: u16) -> f32 {
    let sign = u32::from(bits & 0x8000) << 16;
    let (exponent, mantissa) = (u32::from(bits >> 10 & 0x1f), u32::from(bits & 0x3ff));
    match exponent {
        // Subnormals are multiples of 2^-24, which float32 holds exactly.
        0 => f32::from_bits(sign | (mantissa as f32 * f32::from_bits(103 << 23)).to_bits()),
        31 => f32::from_bits(sign | 0x7f80_0000 | mantissa << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | mantissa << 13),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_f16_widens_exactly() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (from_f16(bits), half::f16::from_bits(bits).to_f32());
            assert!(ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan()), "{bits:#06x}");
        }
    }
}
