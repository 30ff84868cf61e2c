//! Weights, or levels of integers -> elements of a tensor: casts, and columns put where they belong.

use crate::stages::quantize;
use crate::tensor::DType;

/// One row after another.
pub(crate) struct Elements<'a> {
    pub(crate) dtype: DType,
    pub(crate) cols: usize,
    /// Where each coded column belongs.
    pub(crate) places: Option<&'a [u32]>,
    /// Added to the levels of integers.
    pub(crate) zero_point: i32,
}

impl Elements<'_> {
    /// Takes rows in coded order.
    #[expect(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::indexing_slicing,
        reason = "there is a place inside the row for each column; levels are exact as floats"
    )]
    pub(crate) fn write(&self, values: &[f32], bytes: &mut [u8]) {
        let element_bytes = self.dtype.element_bytes();
        let rows = values.chunks_exact(self.cols).zip(bytes.chunks_exact_mut(self.cols * element_bytes));
        for (values, elements) in rows {
            for (col, &value) in values.iter().enumerate() {
                let place = self.places.map_or(col, |places| places[col] as usize);
                let element = &mut elements[place * element_bytes..(place + 1) * element_bytes];
                match self.dtype {
                    DType::F32 => element.copy_from_slice(&value.to_le_bytes()),
                    DType::F16 => element.copy_from_slice(&quantize::to_f16(value).to_le_bytes()),
                    DType::BF16 => element.copy_from_slice(&quantize::to_bf16(value).to_le_bytes()),
                    DType::F64 => element.copy_from_slice(&f64::from(value).to_le_bytes()),
                    _ => {
                        let integer = (value as i32).wrapping_add(self.zero_point).to_le_bytes();
                        element.copy_from_slice(&integer[..element_bytes]);
                    }
                }
            }
        }
    }
}
