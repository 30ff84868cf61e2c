//! Shapes -> the matrices that frames code.

use crate::format::CHUNK_LEN_MAX;
use crate::stages::permute::{Permutation, transpose};
use crate::stages::quantize::scale_at;
use crate::stages::transform::Basis;
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

/// What lies at each place along the first two axes of a tensor whose units have moved; `None` where nothing moves.
pub type Orders = [Option<Vec<u32>>; 2];

/// How the weights of a tensor are seen before they become levels: transposed, transformed, and in steps that differ.
#[derive(Debug, Clone)]
pub struct View {
    /// The matrix.
    pub matrix: Matrix,
    /// Whether the tensor is its transpose.
    pub column_major: bool,
    /// The transform over taps, if there is one.
    pub basis: Option<Basis>,
    /// Where each coded row, and each coded column, belongs.
    pub permutations: [Option<Permutation>; 2],
    /// Exponents of rows, columns and taps, in sixteenths of an octave; empty where all are zero.
    pub exponents: [Vec<i8>; 3],
}

impl View {
    /// The matrix as it is, or, if it has no taps and rows of a chunk's length at most, transposed.
    pub fn new(Matrix { rows, columns, taps }: Matrix, transposed: bool) -> Self {
        let column_major = transposed && taps == 1 && rows as u64 <= CHUNK_LEN_MAX;
        let (rows, columns) = if column_major { (columns, rows) } else { (rows, columns) };
        View {
            matrix: Matrix { rows, columns, taps },
            column_major,
            basis: None,
            permutations: Default::default(),
            exponents: Default::default(),
        }
    }

    /// Whether its rows and columns are those of a matrix, or of its transpose.
    pub fn is_of(&self, matrix: Matrix) -> bool {
        self.matrix == View::new(matrix, self.column_major).matrix
    }

    /// The places of coded rows and columns, where these lie in another order.
    pub fn orders(&self) -> Orders {
        self.permutations.each_ref().map(|permutation| Some(permutation.as_ref()?.places().to_vec()))
    }

    /// Whether rows of the tensor are rows of the matrix, in order.
    pub fn has_rows_in_place(&self) -> bool {
        !self.column_major && self.permutations.iter().all(Option::is_none)
    }

    /// Weights from the tensor's order in coded order, transformed: all of them, or, if rows are in place, some rows.
    pub fn coded(&self, mut weights: Vec<f32>) -> Vec<f32> {
        if self.column_major {
            let mut rows = vec![0.0; weights.len()];
            transpose::<4>(bytemuck::cast_slice(&weights), self.matrix.rows, bytemuck::cast_slice_mut(&mut rows));
            weights = rows;
        }
        if self.permutations.iter().any(Option::is_some) {
            weights = self.permuted(&weights);
        }
        if let Some(basis) = &self.basis {
            basis.forward(&mut weights);
        }
        weights
    }

    /// Weights from the matrix' own order in coded order.
    fn permuted(&self, weights: &[f32]) -> Vec<f32> {
        let row_len = self.matrix.row_len();
        let [rows, columns] = self.permutations.each_ref().map(|p| p.as_ref().map(Permutation::places));
        let place = |places: Option<&[u32]>, coded: usize| places.map_or(coded, |places| places[coded] as usize);
        let row = |row: usize| {
            let weights = &weights[place(rows, row) * row_len..][..row_len];
            (0..row_len).map(move |col| weights[place(columns, col)])
        };
        (0..self.matrix.rows).flat_map(row).collect()
    }

    /// Takes coded weights, from a row on, into units of 2^exponent.
    pub fn divide_by_exponents(&self, first_row: usize, weights: &mut [f32]) {
        if self.exponents.iter().all(Vec::is_empty) {
            return;
        }
        let at = |array: &[i8], index: usize| array.get(index).map_or(0, |&exponent| i32::from(exponent));
        let [row, column, tap] = &self.exponents;
        let exponent = |j: usize| at(column, j / self.matrix.taps) + at(tap, j % self.matrix.taps);
        let inverses: Vec<f32> = (0..self.matrix.row_len()).map(|j| scale_at(1.0, -exponent(j))).collect();
        for (index, weights) in weights.chunks_mut(self.matrix.row_len()).enumerate() {
            let inverse = scale_at(1.0, -at(row, first_row + index));
            weights.iter_mut().zip(&inverses).for_each(|(weight, column)| *weight *= inverse * column);
        }
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
