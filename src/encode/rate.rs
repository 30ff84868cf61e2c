//! How coarse the levels must be to meet a target.
//!
//! Without knowledge of what a tensor matters for, bits are spent evenly: every tensor's step is the same fraction of its
//! root mean square. Counting symbols gives the rate of a fraction almost exactly; bisection finds the fraction.

use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use super::frame::{Frame, Largest, LevelPlan};
use super::matrix::Matrix;
use super::model_fit::{SymbolCosts, SymbolCounts, TableSet, VarianceModel};
use super::{Model, Options, Target, to_f32};
use crate::error::{Error, Result};
use crate::tensor::TensorLocation;

/// A tensor that is coded with loss, and what about it does not depend on the step.
pub struct CodedTensor {
    /// Its frame.
    pub frame: usize,
    /// How it is seen.
    pub matrix: Matrix,
    variances: VarianceModel,
    largest: Largest,
    trellis: bool,
}

impl CodedTensor {
    /// Measures a tensor; `None` if it cannot be coded with loss (not finite, constant, or out of the range of scales).
    pub fn new(frame: usize, tensor: &TensorLocation, bytes: &[u8], trellis: bool) -> Option<Self> {
        let weights = to_f32(bytes, tensor.dtype);
        let first = *weights.first()?;
        if weights.iter().any(|weight| !weight.is_finite()) || weights.iter().all(|&weight| weight == first) {
            return None;
        }
        let largest = Largest::of(&weights);
        let fits = [STEP_MIN, STEP_MAX].into_iter().all(|step| largest.fits((largest.rms as f64 * step) as f32));
        let matrix = Matrix::of(&tensor.shape);
        fits.then(|| CodedTensor { frame, matrix, variances: VarianceModel::fit(&weights, matrix), largest, trellis })
    }

    /// How to code it when the step is this fraction of its root mean square.
    pub fn plan(&self, step: f64) -> LevelPlan {
        let step = (f64::from(self.largest.rms) * step) as f32;
        LevelPlan::new(self.matrix, &self.variances, step, self.largest, self.trellis)
    }
}

/// Smallest and largest fraction of the root mean square: about 16 bits and a tenth of a bit.
const STEP_MIN: f64 = 1.0 / 16384.0;
const STEP_MAX: f64 = 8.0;

/// One step for all tensors, and the tables that fit it.
pub struct Quantization {
    /// Fraction of each tensor's root mean square.
    pub step: f64,
    /// Tables of the frames without and with a trellis.
    pub sets: [TableSet; 2],
}

/// All lossy frames under the quantization that meets the target.
pub struct Quantized {
    /// Step and tables.
    pub quantization: Quantization,
    /// Frames and squared errors, in the order of the model's coded tensors.
    pub frames: Vec<(Frame, f64)>,
}

/// Counts finished parts of a stage, from any thread.
pub struct Counter {
    done: AtomicUsize,
    total: usize,
}

impl Counter {
    /// None of `total` done.
    pub fn new(total: usize) -> Self {
        Counter { done: AtomicUsize::new(0), total }
    }

    /// One more done; the part done so far.
    pub fn step(&self) -> f64 {
        (self.done.fetch_add(1, Ordering::Relaxed) + 1) as f64 / self.total.max(1) as f64
    }
}

/// Finds the finest quantization that meets the target, and codes all tensors with it. Everything but the coded tensors
/// takes `other_bytes`.
///
/// # Errors
/// `Argument` if no quantization meets the target.
pub fn search(model: &Model, other_bytes: u64, options: &Options) -> Result<Quantized> {
    let weight_count: usize = model.coded.iter().map(|coded| coded.matrix.len()).sum();
    let budget_bits = match options.target {
        Target::Bits(bits) if bits.is_finite() && bits > 0.0 => bits * weight_count as f64,
        Target::Bits(bits) => return Err(Error::argument(format!("{bits} is not a number of bits"))),
        Target::Size(bytes) => (bytes as f64 - other_bytes as f64) * 8.0,
        Target::Lossless => 0.0,
    };
    if model.coded.is_empty() {
        let quantization = Quantization { step: 0.0, sets: Default::default() };
        let fits = !matches!(options.target, Target::Size(bytes) if other_bytes > bytes);
        return if fits {
            Ok(Quantized { quantization, frames: Vec::new() })
        } else {
            Err(out_of_reach(options.target))
        };
    }
    let mut best: Option<(f64, Quantized)> = None;
    let mut aim = budget_bits;
    // A Gaussian's entropy at this step, so that the first guess is close.
    let mut step = (4.13f64.log2() - budget_bits / weight_count as f64).exp2();
    for _ in 0..8 {
        let Some(quantization) = find_step(model, aim, step, options) else { break };
        step = quantization.step;
        let frames = model.encode_coded(&quantization, options)?;
        let spent = frames.iter().map(|(frame, _)| frame_bits(frame)).sum::<f64>();
        if spent <= budget_bits && best.as_ref().is_none_or(|(most, _)| spent > *most) {
            best = Some((spent, Quantized { quantization, frames }));
            if step <= STEP_MIN * 1.01 || spent >= budget_bits * 0.999 {
                break;
            }
        }
        // Lanes, side arrays and rounding of tables come on top of the counted bits: aim lower by as much.
        aim += budget_bits * 0.9997 - spent;
    }
    best.map(|(_, quantized)| quantized).ok_or_else(|| out_of_reach(options.target))
}

fn out_of_reach(target: Target) -> Error {
    match target {
        Target::Size(bytes) => Error::argument(format!("{bytes} bytes are too few: the exact parts alone need more")),
        _ => Error::argument("so few bits cannot be reached: give more, or exclude fewer tensors"),
    }
}

/// A frame's payloads, and the hashes and lengths that the header keeps for them.
fn frame_bits(frame: &Frame) -> f64 {
    8.0 * (frame.bytes() + 20 * frame.payloads.len() as u64) as f64
}

/// A step whose counted bits are just within the budget, sought from `guess` on.
fn find_step(model: &Model, budget_bits: f64, guess: f64, options: &Options) -> Option<Quantization> {
    let weight_count: usize = model.coded.iter().map(|coded| coded.matrix.len()).sum();
    let (mut fine, mut coarse) = (STEP_MIN.log2(), STEP_MAX.log2());
    let mut octaves = guess.log2().clamp(fine, coarse);
    let mut best = None;
    const ROUNDS: usize = 20;
    for round in 0..ROUNDS {
        (options.progress)("finding the step", round as f64 / ROUNDS as f64);
        let (quantization, bits) = count(model, octaves.exp2());
        let within = bits <= budget_bits;
        let close = within && bits >= budget_bits * 0.9998;
        if within {
            coarse = octaves;
            best = Some(quantization);
        } else {
            fine = octaves;
        }
        if close || coarse - fine < 1e-4 {
            break;
        }
        // An octave is a bit for each weight at high rates, and less at low ones; the bracket catches what overshoots.
        let next = octaves + (bits - budget_bits * 0.9999) / weight_count as f64;
        octaves = if next > fine && next < coarse { next } else { (fine + coarse) / 2.0 };
    }
    best
}

/// Tables that fit this step, and the bits they take, both from a sample of the columns.
fn count(model: &Model, step: f64) -> (Quantization, f64) {
    let weight_count: usize = model.coded.iter().map(|coded| coded.matrix.len()).sum();
    let stride = (weight_count / SAMPLE_LEN).clamp(1, STRIDE_MAX);
    let mut sets = [1, 2].map(|quantizers| SymbolCounts::new(quantizers).tables());
    let mut bits = 0.0;
    // The first round's paths follow tables of Gaussians, the second's the tables that these paths make.
    for _ in 0..2 {
        let costs = sets.each_ref().map(SymbolCosts::new);
        let sample = |coded: &CodedTensor| {
            let tensor = &model.tensors[model.framed[coded.frame]];
            let weights = to_f32(model.bytes(tensor), tensor.dtype);
            let plan = coded.plan(step);
            let mut counts = empty_counts();
            let set = usize::from(plan.trellis);
            plan.count(&weights, &costs[set], stride, &mut counts[set]);
            (counts, f64::from(plan.low_bits) * weights.len() as f64)
        };
        let merge = |a: (Counts, f64), b: (Counts, f64)| {
            let [uniform, trellis] = a.0;
            ([uniform.merge(&b.0[0]), trellis.merge(&b.0[1])], a.1 + b.1)
        };
        let (counts, low_bits) = model.coded.par_iter().map(sample).reduce(|| (empty_counts(), 0.0), merge);
        sets = counts.each_ref().map(SymbolCounts::tables);
        let sampled_bits: f64 = counts.iter().zip(&sets).map(|(counts, set)| counts.cost_bits(set)).sum();
        let sampled = counts.iter().map(SymbolCounts::len).sum::<u64>() as f64;
        bits = low_bits + sampled_bits * weight_count as f64 / sampled;
    }
    (Quantization { step, sets }, bits)
}

/// Weights that are enough to judge a step by, and the fewest columns that are looked at.
const SAMPLE_LEN: usize = 1 << 20;
const STRIDE_MAX: usize = 8;

/// Counts of the frames without and with a trellis.
type Counts = [SymbolCounts; 2];

fn empty_counts() -> Counts {
    [1, 2].map(SymbolCounts::new)
}
