//! Second moments of what the columns of a matrix are multiplied with.

use crate::stages::permute::transpose;
use crate::stages::transform::Basis;

/// Second moments `E[x xᵀ]` of inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// Number of inputs.
    pub len: usize,
    /// Rows of the lower triangle, one after another.
    lower: Vec<f32>,
}

impl Moments {
    /// Of inputs in another order, each of as many taps as there are inputs for each place; `None` if these do not fit.
    pub fn permuted(&self, order: &[u32]) -> Option<Self> {
        let taps = self.len / order.len().max(1);
        if taps * order.len() != self.len {
            return None;
        }
        let place = |input: usize| order[input / taps] as usize * taps + input % taps;
        Some(Moments::from_fn(self.len, |i, j| self.get(place(i), place(j))))
    }

    /// The moments of what is multiplied with coefficients instead of taps.
    pub fn transformed(&self, basis: &Basis) -> Self {
        let mut values: Vec<f32> = (0..self.len * self.len).map(|at| self.get(at / self.len, at % self.len)).collect();
        for _ in 0..2 {
            basis.forward(&mut values);
            let mut transposed = vec![0.0; values.len()];
            transpose::<4>(bytemuck::cast_slice(&values), self.len, bytemuck::cast_slice_mut(&mut transposed));
            values = transposed;
        }
        Moments::symmetric(self.len, &values)
    }

    /// From `len × len` values, if no square is negative.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn new(values: &[f32]) -> std::result::Result<Self, String> {
        let len = values.len().isqrt();
        if (0..len).any(|index| values[index * len + index] < 0.0) {
            return Err("a square on the diagonal is negative".into());
        }
        Ok(Moments::symmetric(len, values))
    }

    /// Of two values that should be one, the mean.
    fn symmetric(len: usize, values: &[f32]) -> Self {
        Moments::from_fn(len, |i, j| 0.5 * values[i * len + j] + 0.5 * values[j * len + i])
    }

    /// From `value` of every pair of inputs.
    pub fn from_fn(len: usize, value: impl Fn(usize, usize) -> f32) -> Self {
        let mut lower = Vec::with_capacity(len * (len + 1) / 2);
        (0..len).for_each(|i| lower.extend((0..=i).map(|j| value(i, j))));
        Moments { len, lower }
    }

    /// `E[x_i x_j]`.
    pub fn get(&self, i: usize, j: usize) -> f32 {
        let (i, j) = (i.max(j), i.min(j));
        self.lower[i * (i + 1) / 2 + j]
    }
}
