//! Error feedback: what the errors of earlier columns ask of later ones.
//!
//! With `H = E[x xᵀ]` of a layer's inputs, an error `e` of one row of weights costs the outputs `e H eᵀ`. Factored as
//! `H = R Rᵀ`, R upper triangular, that is `Σ_m R_mm² (e_m + Σ_{j<m} e_j R_jm / R_mm)²`: if columns are quantized in order,
//! each can cancel what the errors before it did. This is GPTQ (arXiv 2210.17323) written as noise shaping; `R_mm²` is
//! what an error of column `m` still costs, so the best step of a column goes as `1 / R_mm`.

use nalgebra::{Cholesky, DMatrix};

use crate::encode::levels::moments::Moments;

/// Factors of one tensor's moments, scaled so that errors without any structure cost their squares.
#[derive(Debug, Clone)]
pub struct Feedback {
    /// For each [`BLOCK`] of columns, as many rows as columns so far: entry (j, m) is `R_jm / R_mm` for j < m, else 0.
    pub coefficients: Vec<DMatrix<f32>>,
    /// `R_mm²`.
    pub costs: Vec<f32>,
}

/// Columns whose feedback from earlier ones is computed as one matrix product.
pub const BLOCK: usize = 64;

/// Part of the mean square that is added to every square: moments of few samples are not to be trusted to the last.
const DAMPING: f64 = 0.1;
const DAMPING_MAX: f64 = 10.0;

impl Feedback {
    /// Factors `moments`; `None` if they are all zero, or too far from what moments can be.
    pub fn new(moments: &Moments) -> Option<Self> {
        let len = moments.len;
        let mean = (0..len).map(|index| f64::from(moments.get(index, index))).sum::<f64>() / len as f64;
        if mean <= 0.0 {
            return None;
        }
        let mut damping = DAMPING;
        while damping <= DAMPING_MAX {
            // Reversed, so that the usual lower factor becomes an upper one.
            let reversed = DMatrix::from_fn(len, len, |row, col| {
                let (row, col) = (len - 1 - row, len - 1 - col);
                let square = if row == col { damping } else { 0.0 };
                (f64::from(moments.get(row, col)) / mean + square) / (1.0 + damping)
            });
            if let Some(factor) = Cholesky::new(reversed) {
                let lower = factor.l_dirty();
                let upper = |row: usize, col: usize| lower[(len - 1 - row, len - 1 - col)];
                let coefficient = |row, col| if row < col { (upper(row, col) / upper(col, col)) as f32 } else { 0.0 };
                let block = |first: usize| {
                    let end = len.min(first + BLOCK);
                    DMatrix::from_fn(end, end - first, |row, at| coefficient(row, first + at))
                };
                let coefficients = (0..len).step_by(BLOCK).map(block).collect();
                let costs = (0..len).map(|index| (upper(index, index) * upper(index, index)) as f32).collect();
                return Some(Feedback { coefficients, costs });
            }
            damping *= 10.0;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Noise;

    fn moments(len: usize) -> Moments {
        let mut noise = Noise(3);
        let inputs: Vec<Vec<f32>> = (0..4 * len)
            .map(|_| {
                let common = noise.normal();
                (0..len).map(|index| noise.normal() + common * (index % 3) as f32).collect()
            })
            .collect();
        let mean = |i: usize, j: usize| inputs.iter().map(|x| x[i] * x[j]).sum::<f32>() / inputs.len() as f32;
        Moments::new(&(0..len * len).map(|at| mean(at / len, at % len)).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn costs_and_coefficients_make_up_the_quadratic_form() {
        let len = 150;
        let moments = moments(len);
        let feedback = Feedback::new(&moments).unwrap();
        let mut noise = Noise(4);
        let error: Vec<f32> = (0..len).map(|_| noise.normal()).collect();
        let trace = (0..len).map(|index| moments.get(index, index)).sum::<f32>() / len as f32;
        let damped = |i: usize, j: usize| {
            (moments.get(i, j) / trace + if i == j { DAMPING as f32 } else { 0.0 }) / (1.0 + DAMPING as f32)
        };
        let direct: f32 = (0..len * len).map(|at| error[at / len] * damped(at / len, at % len) * error[at % len]).sum();
        let shaped: f32 = (0..len)
            .map(|m| {
                let before: f32 = (0..m).map(|j| error[j] * feedback.coefficients[m / BLOCK][(j, m % BLOCK)]).sum();
                feedback.costs[m] * (error[m] + before).powi(2)
            })
            .sum();
        assert!((direct - shaped).abs() < 1e-3 * direct, "{direct} {shaped}");
    }

    #[test]
    fn moments_of_rank_one_are_factored_and_zeros_are_not() {
        let one = Moments::new(&[2.0; 25]).unwrap();
        assert!(Feedback::new(&one).is_some_and(|feedback| feedback.costs.iter().all(|cost| cost.is_finite())));
        assert!(Feedback::new(&Moments::new(&[0.0; 25]).unwrap()).is_none());
    }
}
