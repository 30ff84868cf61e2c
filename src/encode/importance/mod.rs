//! What is known of a tensor -> how fine its levels must be, relative to those of others.
//!
//! An error costs the outputs `importance · rows[r] · costs[c] · error²`. Bits are spent best where every level's error costs
//! the same, so a step goes as the inverse root of that product. Its row and column parts become exponents of the frame.

pub mod statistics;

use crate::encode::levels::feedback::Feedback;
use crate::encode::levels::matrix::View;
use crate::encode::levels::model_fit::TOLD_MAX;
use crate::encode::portable::{exp2, log2};
use statistics::WeightStatistics;

/// Sixteenths of an octave between exponents that are used: finer ones save less than they cost.
const EXPONENT_GRID: f64 = 4.0;
/// A row or column counts as at least this important, and at most its inverse.
const RELATIVE_MIN: f64 = 1.0 / 65536.0;

/// What errors of one tensor cost.
#[derive(Debug, Clone, Default)]
pub struct Importance {
    /// Distortion for each unit of squared error, if it is known.
    pub tensor: Option<f64>,
    /// Relative importance of each row; empty if all are equal.
    pub rows: Vec<f32>,
    /// Error feedback across the columns, and what their errors cost.
    pub feedback: Option<Feedback>,
    /// Whether there were moments that feedback could not follow.
    pub unused_moments: bool,
}

impl Importance {
    /// From statistics. Makes steps of `view` follow them.
    pub fn new(view: &mut View, statistics: &WeightStatistics, with_feedback: bool) -> Self {
        let moments = if view.column_major { &statistics.row_moments } else { &statistics.columns };
        let feedback = moments.as_ref().filter(|_| with_feedback).and_then(|moments| match &view.basis {
            Some(basis) => Feedback::new(&moments.transformed(basis)),
            None => Feedback::new(moments),
        });
        let unused_moments = with_feedback && statistics.has_moments() && feedback.is_none();
        let rows = if view.column_major { Vec::new() } else { statistics.rows.clone() };
        let taps = view.matrix.taps;
        let costs = feedback.as_ref().map_or(&[][..], |feedback| &feedback.costs);
        let mean = |cells: &mut dyn Iterator<Item = &f32>| {
            let (sum, len) = cells.fold((0.0, 0.0), |(sum, len), &cost| (sum + log2(f64::from(cost)), len + 1.0));
            exp2(sum / len)
        };
        let row = exponents(rows.iter().map(|&cost| f64::from(cost)));
        let column = exponents(costs.chunks(taps).map(|cells| mean(&mut cells.iter())));
        let tap_costs = (0..taps.min(costs.len())).map(|tap| mean(&mut costs[tap..].iter().step_by(taps)));
        view.exponents = [row, column, exponents(tap_costs)];
        Importance { tensor: statistics.importance, rows, feedback, unused_moments }
    }

    /// log2 of a typical error's cost for each unit of squared error, apart from the tensor's own importance, at a step of
    /// exponent 0.
    pub fn octaves(&self) -> f64 {
        let mean = |costs: &mut dyn Iterator<Item = f64>| {
            let (sum, len) = costs.fold((0.0, 0.0), |(sum, len), cost| (sum + log2(relative(cost)), len + 1.0));
            if len == 0.0 { 0.0 } else { sum / len }
        };
        let columns = self.feedback.iter().flat_map(|feedback| &feedback.costs);
        mean(&mut self.rows.iter().map(|&cost| cost.into())) + mean(&mut columns.map(|&cost| cost.into()))
    }
}

/// By how much a tensor is finer than uncalibrated, but for what is the same of all.
#[derive(Debug, Clone, Copy)]
pub struct Finer {
    /// Its weights.
    pub weights: f64,
    /// What it costs the outputs uncalibrated, relative to others.
    pub cost: f64,
    /// Octaves of its squared error.
    pub octaves: f64,
}

impl Finer {
    /// Mean octaves, each raised to the least.
    pub fn mean(tensors: &[Finer], least: f64) -> f64 {
        let total: f64 = tensors.iter().map(|tensor| tensor.weights).sum();
        tensors.iter().map(|tensor| tensor.weights * tensor.octaves.max(least)).sum::<f64>() / total
    }

    /// Octaves of a tensor that errs as much as uncalibrated, if all of them cost as much, each raised to the least.
    fn even(tensors: &[Finer], least: f64) -> f64 {
        let total: f64 = tensors.iter().map(|tensor| tensor.cost).sum();
        log2(total / tensors.iter().map(|tensor| tensor.cost * exp2(-tensor.octaves.max(least))).sum::<f64>())
    }
}

/// What octaves have to be raised to, so that at the same rate none is more than `most` coarser than uncalibrated.
pub fn least_at_equal_rate(tensors: &[Finer], most: f64) -> f64 {
    (0..LEAST_ROUNDS).fold(f64::NEG_INFINITY, |least, _| Finer::mean(tensors, least) - most)
}

/// What octaves have to be raised to, so that at the same cost to the outputs none is more than `most` coarser than uncalibrated.
pub fn least_at_equal_cost(tensors: &[Finer], most: f64) -> f64 {
    (0..LEAST_ROUNDS).fold(f64::NEG_INFINITY, |least, _| Finer::even(tensors, least) - most)
}

/// Each comes nearer by the share of the weights, or of the cost, that is raised.
const LEAST_ROUNDS: usize = 64;

fn relative(cost: f64) -> f64 {
    cost.clamp(RELATIVE_MIN, RELATIVE_MIN.recip())
}

/// Exponents of steps that go as the inverse root of these costs, with a geometric mean of about one; none for too many.
fn exponents(costs: impl Iterator<Item = f64>) -> Vec<i8> {
    let octaves: Vec<f64> = costs.map(|cost| -0.5 * log2(relative(cost))).collect();
    if octaves.len() > TOLD_MAX {
        return Vec::new();
    }
    let mean = octaves.iter().sum::<f64>() / octaves.len().max(1) as f64;
    let exponent = |octave: &f64| ((octave - mean) * 16.0 / EXPONENT_GRID).round() * EXPONENT_GRID;
    octaves.iter().map(|octave| exponent(octave).clamp(-124.0, 124.0) as i8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors(octaves: &[(f64, f64)]) -> Vec<Finer> {
        octaves.iter().map(|&(weights, octaves)| Finer { weights, cost: weights * exp2(octaves), octaves }).collect()
    }

    #[test]
    fn no_octaves_lie_further_below_than_they_may() {
        for octaves in [
            &[(1.0, 0.0), (1.0, 1.0)][..],
            &[(1.0, 10.0), (1.0, -10.0)],
            &[(9.0, -20.0), (1.0, 30.0)],
            &[(1.0, 4.0), (3.0, 0.0), (2.0, -6.0), (1.0, -40.0)],
        ] {
            let tensors = tensors(octaves);
            for (least, middle) in [
                (least_at_equal_rate(&tensors, 5.0), Finer::mean as fn(&[Finer], f64) -> f64),
                (least_at_equal_cost(&tensors, 5.0), Finer::even),
            ] {
                assert!((middle(&tensors, least) - least - 5.0).abs() < 0.01, "{octaves:?}: {least}");
            }
        }
    }

    #[test]
    fn errors_are_even_where_they_cost_as_much_as_uncalibrated() {
        let tensors = tensors(&[(1.0, 2.0), (3.0, -1.0)]);
        let even = Finer::even(&tensors, f64::NEG_INFINITY);
        let cost = |octaves: f64, cost: f64| cost * exp2(even - octaves);
        let calibrated: f64 = tensors.iter().map(|tensor| cost(tensor.octaves, tensor.cost)).sum();
        assert!((calibrated - tensors.iter().map(|tensor| tensor.cost).sum::<f64>()).abs() < 1e-9);
    }
}
