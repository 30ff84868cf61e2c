//! How coarse the levels must be to meet a target.
//!
//! Errors are to cost the outputs the same wherever they are made. Without knowledge of what a tensor matters for, bits are
//! spent evenly, a few more on small tensors and on the output head of a language model: every tensor's step is a fraction of its
//! root mean square that depends on its length and place alone. Either way one number, the step, is left to find. Counting
//! symbols of a sample gives its rate almost exactly; bisection finds the step.

use rayon::prelude::*;

use crate::encode::coded::{CodedTensor, Lossy};
use crate::encode::cost::{Cost, Goal, STEP_MAX};
use crate::encode::levels::quantizer::{Sample, Tally};
use crate::encode::levels::table_sets::{SharedCosts, SharedCounts, Sharing};
use crate::encode::motion::candidates::{self, Candidate};
use crate::encode::options::{Options, Target};
use crate::encode::portable::{exp2, log2, pow};
use crate::encode::progress::{Counter, Progress, READING, map_in_parts};
use crate::encode::search::attempt::{Quantization, Quantized};
use crate::error::{Error, Result};

/// What is known of a model before it is quantized at any step.
pub struct StepSearch<'a> {
    lossy: &'a Lossy<'a>,
    options: &'a Options<'a>,
    candidates: Vec<Option<Candidate>>,
    samples: Samples<'a>,
}

impl<'a> StepSearch<'a> {
    /// Finds what resembles what, and takes samples.
    ///
    /// # Errors
    /// Whatever is wrong with the weights.
    pub fn new(lossy: &'a Lossy<'a>, options: &'a Options<'a>) -> Result<Self> {
        let candidates = candidates::candidates(lossy, options)?;
        Ok(StepSearch { lossy, options, candidates, samples: Samples::of(lossy, options)? })
    }

    /// Finds the quantization that meets the target closest, and codes all tensors with it. Everything but the coded tensors
    /// takes `other_bytes`.
    ///
    /// # Errors
    /// `Argument` if no quantization meets the target; whatever is wrong with the weights, the base, or the room for levels.
    pub fn closest(&self, other_bytes: u64) -> Result<Quantized> {
        let weight_count = self.samples.weight_count;
        let target = self.options.target;
        let goal = match target {
            Target::Bits(bits) if bits.is_finite() && bits > 0.0 => Goal::Rate(bits * weight_count as f64),
            Target::Quality(bound) if bound.is_finite() && bound > 0.0 => Goal::Distortion(bound),
            Target::Preset(preset) => self.lossy.goal(preset),
            Target::Bits(value) | Target::Quality(value) => {
                return Err(Error::argument(format!("{value} cannot be a target")));
            }
            Target::Size(bytes) => Goal::Size((bytes as f64 - other_bytes as f64) * 8.0),
            Target::Lossless => Goal::Size(0.0),
        };
        if weight_count == 0 {
            return self.coarsest();
        }
        let mut candidates = self.candidates.clone();
        let mut tried = Tried::new(goal);
        // A Gaussian's entropy and error at this step, so that the first guess is close.
        let mut step = match goal {
            Goal::Rate(bits) | Goal::Size(bits) => exp2(log2(4.13f64) - bits / weight_count as f64),
            Goal::Distortion(bound) | Goal::Uncalibrated(bound) => (12.0 * bound).sqrt(),
        };
        for _ in 0..QUANTIZATIONS_MAX {
            match self.samples.find_step(tried.aim, step, self.options) {
                Some(quantization) => {
                    step = quantization.step;
                    let quantized = Quantized::new(self.lossy, &quantization, &mut candidates, self.options)?;
                    let value = goal.of(quantized.cost);
                    if tried.take(step, value, quantized) {
                        break;
                    }
                }
                None => tried.too_low(),
            }
            if tried.aim.bound() == f64::INFINITY {
                break;
            }
        }
        tried.best.map(|(_, quantized)| quantized).ok_or_else(|| out_of_reach(target))
    }

    /// All tensors at the coarsest step, which takes the fewest bytes.
    ///
    /// # Errors
    /// Whatever is wrong with the weights, the base, or the room for levels.
    pub fn coarsest(&self) -> Result<Quantized> {
        let quantization = if self.samples.weight_count == 0 {
            Quantization { step: 1.0, costs: SharedCosts::default(), bits: Vec::new() }
        } else {
            self.samples.try_step(STEP_MAX, self.options).0
        };
        Quantized::new(self.lossy, &quantization, &mut self.candidates.clone(), self.options)
    }
}

/// What quantizations have come to, and what to aim at next.
struct Tried {
    goal: Goal,
    aim: Goal,
    best: Option<(f64, Quantized)>,
    /// The largest aim known to stay within the bound, and the smallest known to overshoot it.
    low: f64,
    high: f64,
    strides: Strides,
}

impl Tried {
    fn new(goal: Goal) -> Self {
        Tried { goal, aim: goal, best: None, low: 0.0, high: f64::INFINITY, strides: Strides::default() }
    }

    /// Takes in what a quantization came to; whether it cannot get better.
    fn take(&mut self, step: f64, value: f64, quantized: Quantized) -> bool {
        let bound = self.goal.bound();
        let within = value <= bound;
        if within && self.best.as_ref().is_none_or(|(most, _)| value > *most) {
            self.best = Some((value, quantized));
            if step <= self.goal.step_min() * 1.01 || step >= STEP_MAX * 0.99 || value >= bound * 0.998 {
                return true;
            }
        }
        // What a sample does not show (lanes, side arrays, feedback): aim lower or higher by as much.
        let stride = self.strides.next(within);
        let next = match self.goal {
            Goal::Rate(bound) | Goal::Size(bound) => self.aim.bound() + stride * (bound * 0.9995 - value),
            Goal::Distortion(bound) | Goal::Uncalibrated(bound) => {
                self.aim.bound() * pow(bound * 0.9995 / value, stride)
            }
        };
        if within {
            self.low = self.aim.bound().max(self.low);
        } else {
            self.high = self.aim.bound().min(self.high);
        }
        self.aim_at(next);
        false
    }

    /// No step meets the aim.
    fn too_low(&mut self) {
        self.low = self.aim.bound().max(self.low);
        self.aim_at(f64::NAN);
    }

    fn aim_at(&mut self, next: f64) {
        let inside = next > self.low && next < self.high;
        self.aim = self.aim.at(if inside { next } else { (self.low + self.high) / 2.0 });
    }
}

/// Strides of a search that double while they all go one way: the rate of a small model moves in leaps, so that its slope
/// says little.
#[derive(Default)]
struct Strides {
    last: Option<(bool, f64)>,
}

impl Strides {
    fn next(&mut self, direction: bool) -> f64 {
        let stride = self.last.filter(|last| last.0 == direction).map_or(1.0, |last| 2.0 * last.1);
        self.last = Some((direction, stride));
        stride
    }
}

/// Most quantizations of the whole model.
const QUANTIZATIONS_MAX: usize = 8;
/// Most steps that are tried on a sample.
const STEPS_MAX: usize = 20;

fn out_of_reach(target: Target) -> Error {
    match target {
        Target::Size(bytes) => Error::argument(format!("{bytes} bytes are too few")),
        Target::Quality(_) | Target::Preset(_) => Error::argument("so little error cannot be reached: use --lossless"),
        _ => Error::argument("so few bits cannot be reached: give more, or exclude fewer tensors"),
    }
}

/// Some columns of every tensor whose step is searched.
struct Samples<'a> {
    lossy: &'a Lossy<'a>,
    /// Of each such tensor, its index among the coded ones.
    tensors: Vec<(usize, Sample)>,
    weight_count: usize,
}

impl<'a> Samples<'a> {
    fn of(lossy: &'a Lossy<'a>, options: &Options) -> Result<Self> {
        let weight_count = lossy.searched_len();
        let stride_max = STRIDE_MAX.max(weight_count / SAMPLE_LEN_MAX);
        let stride = (weight_count / SAMPLE_LEN).clamp(1, stride_max);
        let searched = |index: &usize| lossy.coded[*index].base.is_none();
        let indices: Vec<usize> = (0..lossy.coded.len()).filter(searched).collect();
        let len = |&index: &usize| lossy.coded[index].view.matrix.len();
        let begun = Counter::new(READING, indices.iter().map(|index| len(index) as u64).sum());
        let tensors = map_in_parts(indices, len, |index| {
            (options.progress)(begun.begin(Some(lossy.name(index)), len(&index) as u64));
            let (matrix, weights) = (lossy.coded[index].view.matrix, lossy.weights(index)?);
            let at_once = (SAMPLE_LEN / matrix.row_len()).max(1);
            let mut sample = Sample { weights: Vec::new(), stride };
            for first in (0..matrix.rows).step_by(at_once) {
                let rows = weights.rows(first..matrix.rows.min(first + at_once))?;
                sample.weights.append(&mut Sample::of(&rows, matrix.row_len(), stride).weights);
            }
            sample.weights.shrink_to_fit();
            Ok((index, sample))
        })?;
        Ok(Samples { lossy, tensors, weight_count })
    }

    /// The coarsest step within a bound on distortion, or the finest within one on bits, sought from `guess` on.
    fn find_step(&self, goal: Goal, guess: f64, options: &Options) -> Option<Quantization> {
        let finest = log2(goal.step_min());
        let (mut fine, mut coarse) = (finest, log2(STEP_MAX));
        let mut octaves = log2(guess).clamp(fine, coarse);
        let (mut best, mut strides) = (None, Strides::default());
        for round in 0..STEPS_MAX {
            let done = round as f64 / STEPS_MAX as f64;
            (options.progress)(Progress { stage: "finding the step", done, tensor: None });
            let (quantization, cost) = self.try_step(exp2(octaves), options);
            let value = goal.of(cost);
            let within = value <= goal.bound();
            let close = within && (value >= goal.bound() * 0.9995 || goal.is_rate() && octaves <= finest);
            if within {
                best = Some(quantization);
            }
            let too_coarse = within == goal.is_rate();
            if too_coarse {
                coarse = octaves;
            } else {
                fine = octaves;
            }
            if close || coarse - fine < 1e-4 {
                break;
            }
            // The bracket catches what overshoots.
            let off = goal.at(goal.bound() * 0.9998).octaves_off(value, self.weight_count as f64);
            let next = octaves + strides.next(too_coarse) * off;
            octaves = if next > fine && next < coarse { next } else { (fine + coarse) / 2.0 };
        }
        best
    }

    /// What this step comes to, with tables that fit it.
    fn try_step(&self, step: f64, options: &Options) -> (Quantization, Cost) {
        // The first round's paths follow tables of Gaussians, the second's the tables that these paths make, by which it is
        // known what is no larger if it is exact.
        let costs = counts(&self.try_all(step, &SharedCosts::default(), options)).costs();
        let mut tried = self.try_all(step, &costs, options);
        let mut bits = vec![0.0; self.lossy.coded.len()];
        for tensor in &tried {
            bits[tensor.index] = tensor.bits(&costs);
        }
        let is_exact = |index: usize| self.lossy.is_exact(index, bits[index]);
        let exact = tried.iter().map(|tensor| tensor.index).filter(|&index| is_exact(index));
        let other_bits = exact.map(|index| self.lossy.exact_bits(index)).sum();
        tried.retain(|tensor| !is_exact(tensor.index));
        let counts = counts(&tried);
        let costs = counts.costs();
        let len: f64 = tried.iter().map(|tensor| tensor.len).sum();
        let fixed_bits: f64 = tried.iter().map(|tensor| tensor.fixed_bits).sum();
        let sampled = counts.total().max(1) as f64;
        let lossy_part = len / self.weight_count as f64;
        let distortion: f64 = tried.iter().map(|tensor| tensor.distortion).sum();
        let cost = Cost {
            bits: fixed_bits + counts.cost_bits(&costs) * len / sampled,
            other_bits,
            lossy_part,
            distortion: self.lossy.mean_distortion(distortion, len),
            uncalibrated: tried.iter().map(|tensor| self.lossy.coded[tensor.index].uncalibrated_cost).sum(),
        };
        (Quantization { step, costs, bits }, cost)
    }

    fn try_all(&self, step: f64, costs: &SharedCosts, options: &Options) -> Vec<TriedTensor> {
        let tried = |&(index, ref sample): &(usize, Sample)| {
            let coded: &CodedTensor = &self.lossy.coded[index];
            let (plan, len) = (coded.plan(step), coded.view.matrix.len() as f64);
            let sharing = plan.sharing();
            let tally = plan.sample(sample, coded.search(costs.of(sharing), options, sample.stride));
            let distortion = coded.distortion(&tally) * len / tally.counts.total() as f64;
            let low_bits = f64::from(plan.low_bits) * len;
            let pattern_bits = coded.quartets.as_ref().map_or(0.0, |quartets| quartets.bits(&tally.counts));
            let fixed_bits = low_bits + pattern_bits;
            TriedTensor { index, sharing, len, fixed_bits, distortion, tally }
        };
        self.tensors.par_iter().map(tried).collect()
    }
}

/// The symbols of all samples.
fn counts(tried: &[TriedTensor]) -> SharedCounts {
    let mut counts = SharedCounts::default();
    tried.iter().for_each(|tensor| counts.add(tensor.sharing, &tensor.tally.counts));
    counts
}

/// What quantizing the sample of a tensor came to.
struct TriedTensor {
    /// Which of the coded tensors.
    index: usize,
    sharing: Sharing,
    /// Weights of the tensor.
    len: f64,
    /// Low bits, and patterns of what was pruned, of the tensor.
    fixed_bits: f64,
    /// Of the tensor.
    distortion: f64,
    /// Of the sample.
    tally: Tally,
}

impl TriedTensor {
    /// Bits of the tensor.
    fn bits(&self, costs: &SharedCosts) -> f64 {
        let sampled = self.tally.counts.total().max(1) as f64;
        self.fixed_bits + self.tally.counts.cost_bits(costs.of(self.sharing)) * self.len / sampled
    }
}

/// Weights that are enough to judge a step by, and the fewest columns that are looked at of a model of usual size.
const SAMPLE_LEN: usize = 1 << 20;
const STRIDE_MAX: usize = 8;
/// Most weights that a sample of a large model has, about.
const SAMPLE_LEN_MAX: usize = 1 << 25;
