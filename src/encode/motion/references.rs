//! What references give for the tensors that are predicted from them.
//!
//! A reference whose levels lie between its own weights and those of its followers leaves them smaller residuals. Its step is
//! finer in return, so that it errs no more than a tensor alone. For two Gaussian tensors both together save as much as coding
//! their sum and their difference would, and their errors stay of one size and independent of each other.

use std::ops::Range;

use crate::encode::coded::Lossy;
use crate::encode::coded_weights::CodedWeights;
use crate::encode::levels::frame::LevelPlan;
use crate::encode::levels::matrix::View;
use crate::encode::motion::candidates::Candidate;
use crate::error::Result;

/// What is coded together, at one step of the model.
pub struct References<'a> {
    /// Whose tensors they are.
    pub lossy: &'a Lossy<'a>,
    /// For each coded tensor, what it may be predicted from.
    pub candidates: &'a [Option<Candidate>],
    step: f64,
    /// For each tensor, those that it meets.
    followers: Vec<Vec<Follower<'a>>>,
    /// Step of each tensor, relative to that of one alone: the same for a key frame and all that follow it, so that levels
    /// predict levels.
    fineness: Vec<f64>,
}

/// A tensor that resembles its reference.
struct Follower<'a> {
    index: usize,
    candidate: &'a Candidate,
    /// How much of the way to it the reference goes.
    part: f64,
}

impl<'a> References<'a> {
    /// How far references go at this step of the model.
    pub fn new(lossy: &'a Lossy<'a>, candidates: &'a [Option<Candidate>], step: f64) -> Self {
        // Where columns make up for errors of earlier ones, they would take back what those gave.
        let meets = |candidate: &&Candidate| {
            candidate.resembles() && lossy.coded[candidate.reference].importance.feedback.is_none()
        };
        let mut followers: Vec<Vec<Follower>> = candidates.iter().map(|_| Vec::new()).collect();
        for (index, candidate) in candidates.iter().enumerate() {
            if let Some(candidate) = candidate.as_ref().filter(meets) {
                followers[candidate.reference].push(Follower { index, candidate, part: 0.0 });
            }
        }
        let mut meet = |reference: usize| {
            if followers[reference].is_empty() {
                return 0.0;
            }
            let count = followers[reference].len() as f64;
            let error = lossy.coded[reference].plan(step).squared_error();
            let given = followers[reference].iter_mut().map(|Follower { index, candidate, part }| {
                let way = candidate.unexplained * lossy.coded[*index].energy() / candidate.gain_energy();
                *part = self::part(way / error, count);
                *part * *part * way / error
            });
            given.sum()
        };
        let given: Vec<f64> = (0..candidates.len()).map(&mut meet).collect();
        let mut references = References { lossy, candidates, step, followers, fineness: Vec::new() };
        let fineness = |index: usize| (1.0 - references.chain(index).last().map_or(0.0, |key| given[key])).sqrt();
        references.fineness = (0..candidates.len()).map(fineness).collect();
        references
    }

    /// A tensor, its reference, the reference of that, and so on to a key frame.
    pub fn chain(&self, index: usize) -> impl Iterator<Item = usize> {
        let reference = |&index: &usize| self.candidates[index].as_ref().map(|candidate| candidate.reference);
        std::iter::successors(Some(index), reference)
    }

    /// Step of a tensor, relative to that of one alone.
    pub fn fineness(&self, index: usize) -> f64 {
        self.fineness[index]
    }

    /// How to code a tensor without a prediction.
    pub fn plan(&self, index: usize) -> LevelPlan {
        self.lossy.coded[index].plan(self.step * self.fineness[index])
    }

    /// How to code a tensor with a prediction.
    pub fn predicted_plan(&self, index: usize) -> LevelPlan {
        self.lossy.coded[index].predicted_plan(self.step * self.fineness[index])
    }

    /// What draws the levels of a tensor to those of its followers.
    ///
    /// # Errors
    /// Whatever is wrong with reading their weights.
    pub fn pull(&self, index: usize, plan: &LevelPlan) -> Result<Pull<'_>> {
        let scale = f64::from(plan.scale.unwrap_or(1.0));
        let steps = |follower: &Follower| (follower.part / follower.candidate.gain_energy() / scale) as f32;
        let followers = self.followers[index]
            .iter()
            .map(|follower| Ok((steps(follower), follower.candidate, self.lossy.weights(follower.index)?)));
        let followers = followers.collect::<Result<_>>()?;
        let view = &self.lossy.coded[index].view;
        Ok(Pull { view, most: PULL_MAX * plan.quantizer_step(), followers })
    }
}

/// What draws the levels of a reference to those of its followers.
pub struct Pull<'a> {
    view: &'a View,
    most: f32,
    /// Steps of the reference for each unit of difference, and the follower.
    followers: Vec<(f32, &'a Candidate, CodedWeights<'a>)>,
}

impl Pull<'_> {
    /// By how many steps the weights of some rows, in coded order, are drawn towards those of the followers; empty if there is
    /// none.
    ///
    /// # Errors
    /// Whatever is wrong with reading the followers' weights.
    pub fn rows(&self, rows: Range<usize>, weights: &[f32]) -> Result<Vec<f32>> {
        if self.followers.is_empty() {
            return Ok(Vec::new());
        }
        let row_len = self.view.matrix.row_len();
        let mut pull = weights.to_vec();
        self.view.divide_by_exponents(rows.start, &mut pull);
        for (row, pull) in rows.clone().zip(pull.chunks_mut(row_len)) {
            let away: f32 =
                self.followers.iter().map(|(steps, candidate, _)| steps * candidate.gain(row).powi(2)).sum();
            pull.iter_mut().for_each(|pull| *pull *= -away);
        }
        for (steps, candidate, theirs) in &self.followers {
            let theirs = theirs.unit_rows(rows.clone())?;
            for ((row, pull), theirs) in rows.clone().zip(pull.chunks_mut(row_len)).zip(theirs.chunks(row_len)) {
                let towards = steps * candidate.gain(row);
                pull.iter_mut().zip(theirs).for_each(|(pull, theirs)| *pull += towards * theirs);
            }
        }
        pull.iter_mut().for_each(|pull| *pull = pull.clamp(-self.most, self.most));
        Ok(pull)
    }
}

/// The farthest that a weight is drawn, in steps: three deviations of what is drawn farthest. What differs by more in single
/// weights is no noise.
const PULL_MAX: f32 = 0.5;

/// How much of the way to each of its followers a reference goes. `ratio` is the mean square of that way, in those of the error
/// of a tensor alone. A reference of error 1 that goes the part a to each of k followers is left 1 - k a² ratio for its levels,
/// and their residuals have a mean square of 1 + ratio (1 - 2 a): the sum of the rates is least where
/// a (1 + ratio) + (k - 2) a² ratio = 1, or in the middle of all, whose followers take no bits.
fn part(ratio: f64, followers: f64) -> f64 {
    let linear = 1.0 + ratio;
    let root = (linear * linear + 4.0 * (followers - 2.0) * ratio).sqrt();
    (2.0 / (linear + root)).min(1.0 / (1.0 + followers))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bits of a reference and its followers, less those of the reference alone.
    fn bits(ratio: f64, followers: f64, part: f64) -> f64 {
        let own = -0.5 * (1.0 - followers * part * part * ratio).log2();
        own + followers * 0.5 * (1.0 + ratio * (1.0 - 2.0 * part)).max(1.0).log2()
    }

    #[test]
    fn no_other_part_saves_more() {
        for (ratio, followers) in [(0.1, 1.0), (1.9, 1.0), (2.4, 1.0), (30.0, 1.0), (2.4, 2.0), (8.0, 3.0), (0.5, 7.0)]
        {
            let best = part(ratio, followers);
            for other in [0.0, 0.5 * best, 0.9 * best, (1.0 / (1.0 + followers)).min(1.1 * best)] {
                let (best, other) = (bits(ratio, followers, best), bits(ratio, followers, other));
                assert!(best <= other + 1e-12, "{ratio} {followers}: {best} {other}");
            }
        }
    }

    #[test]
    fn two_tensors_cost_what_their_sum_and_difference_cost() {
        let (ratio, signal) = (2.4, 1e6);
        let rate = |variance: f64| 0.5 * variance.log2();
        let alone = rate(signal);
        let together = alone + bits(ratio, 1.0, part(ratio, 1.0));
        let transformed = rate(2.0 * signal) + rate(0.5 * ratio);
        assert!((together - transformed).abs() < 1e-3, "{together} {transformed}");
    }
}
