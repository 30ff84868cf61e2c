//! Shapes -> the matrices that frames code.

use crate::tensor::Shape;

/// Rows (outputs), columns (inputs) and taps (kernel positions) of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Matrix {
    /// Rows.
    pub rows: usize,
    /// Columns, without the taps.
    pub columns: usize,
    /// Taps; 1 if there are none.
    pub taps: usize,
}

impl Matrix {
    /// `[n]` is one row, `[out, in]` a matrix, `[out, in, kernel…]` a convolution; leading axes of 1 are skipped.
    pub fn of(shape: &Shape) -> Self {
        let extents: Vec<usize> = shape.0.iter().map(|&extent| extent as usize).collect();
        let ones = extents.iter().take_while(|&&extent| extent == 1).count();
        match &extents[ones.min(extents.len().saturating_sub(2))..] {
            [] => Matrix { rows: 1, columns: 1, taps: 1 },
            [len] => Matrix { rows: 1, columns: *len, taps: 1 },
            [rows, columns, kernel @ ..] => Matrix { rows: *rows, columns: *columns, taps: kernel.iter().product() },
        }
    }

    /// Elements in a row.
    pub fn row_len(&self) -> usize {
        self.columns * self.taps
    }

    /// Elements.
    pub fn len(&self) -> usize {
        self.rows * self.row_len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_factor_as_the_format_page_says() {
        let matrix = |extents: &[u64]| {
            let Matrix { rows, columns, taps } = Matrix::of(&Shape(extents.to_vec()));
            (rows, columns, taps)
        };
        assert_eq!(matrix(&[]), (1, 1, 1));
        assert_eq!(matrix(&[7]), (1, 7, 1));
        assert_eq!(matrix(&[3, 5]), (3, 5, 1));
        assert_eq!(matrix(&[3, 5, 2, 2]), (3, 5, 4));
        assert_eq!(matrix(&[1, 577, 768]), (577, 768, 1));
        assert_eq!(matrix(&[1, 1, 9]), (1, 9, 1));
    }
}
