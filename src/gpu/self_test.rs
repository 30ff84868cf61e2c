//! What a device must reconstruct exactly before it is trusted.

use super::error::gpu_error;
use super::frame::LevelFrame;
use crate::error::Result;
use crate::stages::pack;
use crate::stages::permute::Permutation;
use crate::tensor::DType;

/// A small frame that uses every array of the shader, all of whose weights are exact.
pub(super) struct SelfTest {
    scales: Vec<f32>,
    row_permutation: Permutation,
    column_permutation: Permutation,
}

impl SelfTest {
    const ROWS: usize = 3;
    const COLUMNS: usize = 2;
    const TAPS: usize = 3;
    pub(super) const LEVELS: [i32; 18] = [0, 1, -1, 127, -128, 2, 3, -3, 5, -5, 7, -7, 11, -11, 13, -13, 64, -64];

    pub(super) fn new() -> Result<Self> {
        Ok(SelfTest {
            scales: (0..5).map(|octave| f32::from(1u8 << octave)).collect(),
            row_permutation: Permutation::new(vec![2, 0, 1])?,
            column_permutation: Permutation::new(vec![4, 2, 0, 5, 1, 3])?,
        })
    }

    pub(super) fn frame(&self) -> LevelFrame<'_> {
        LevelFrame {
            dtype: DType::F32,
            rows: Self::ROWS,
            columns: Self::COLUMNS,
            taps: Self::TAPS,
            scales: &self.scales,
            first_exponent: -2,
            zero_point: 0,
            row_exponent: &[0, -1, 1],
            column_exponent: &[0, 1],
            tap_exponent: &[0, -1, 0],
            column_major: false,
            row_permutation: Some(&self.row_permutation),
            column_permutation: Some(&self.column_permutation),
        }
    }

    pub(super) fn packed(&self) -> Vec<u8> {
        let mut packed = Vec::new();
        let fits = pack::pack(&Self::LEVELS, 8, &mut packed);
        debug_assert!(fits, "the levels are bytes");
        packed
    }

    pub(super) fn compare(&self, bytes: &[u8]) -> Result<()> {
        let expected = self.frame().reconstruct(&Self::LEVELS)?;
        if bytes == expected { Ok(()) } else { Err(gpu_error("the self-test gave wrong values")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn self_test_notices_a_wrong_value() {
        let test = SelfTest::new().unwrap();
        let mut bytes = test.frame().reconstruct(&SelfTest::LEVELS).unwrap();
        assert!(test.compare(&bytes).is_ok());
        bytes[7] ^= 1;
        assert!(matches!(test.compare(&bytes), Err(Error::Gpu(_))));
    }
}
