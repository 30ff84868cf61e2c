//! How coarse the levels must be to meet a target.
//!
//! Errors are to cost the outputs the same wherever they are made. Without knowledge of what a tensor matters for, bits are
//! spent evenly, a few more on small tensors: every tensor's step is a fraction of its root mean square that depends on its
//! length alone. Either way one number, the step, is left to find. Counting symbols of a sample gives its rate almost exactly; bisection finds the step.

use std::borrow::Cow;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;

use crate::encode::importance::importance::Importance;
use crate::encode::importance::statistics::WeightStatistics;
use crate::encode::levels::frame::{Frame, Largest, LevelPlan};
use crate::encode::levels::matrix::{Matrix, View};
use crate::encode::levels::model_fit::{SymbolCosts, SymbolCounts, TableSet, VarianceModel};
use crate::encode::levels::quantizer::{Search, Tally};
use crate::encode::motion::candidates;
use crate::encode::motion::predict::{self, BaseFrame};
use crate::encode::{Model, Options, Target, to_f32};
use crate::error::{Error, Result};
use crate::stages::quantize::is_scale;
use crate::stages::transform::Basis;
use crate::tensor::{DType, TensorLocation};

/// A tensor that is coded with loss, and what about it does not depend on the step.
pub struct CodedTensor {
    /// Its frame.
    pub frame: usize,
    /// How it is seen.
    pub view: View,
    /// Its weights in coded order, where they are slow to come by.
    transformed: Option<Vec<f32>>,
    /// What its errors cost.
    pub importance: Importance,
    variances: VarianceModel,
    largest: Largest,
    trellis: bool,
    /// Its step where the step of the model is 1.
    unit: f64,
    /// What a unit of weighted squared error costs the outputs.
    cost: f64,
    /// The base's frame that it is predicted from; then the step is that frame's.
    pub base: Option<BaseFrame>,
}

impl CodedTensor {
    /// Measures a tensor; `None` if it cannot be coded with loss (not finite, constant, or out of the range of scales).
    pub fn new(
        frame: usize,
        tensor: &TensorLocation,
        bytes: &[u8],
        statistics: WeightStatistics,
        base: Option<(View, BaseFrame)>,
        by_column: bool,
        options: &Options,
    ) -> Option<Self> {
        let weights = to_f32(bytes, tensor.dtype);
        let first = *weights.first()?;
        if weights.iter().any(|weight| !weight.is_finite()) || weights.iter().all(|&weight| weight == first) {
            return None;
        }
        let transposed = by_column || options.feedback && statistics.row_moments.is_some();
        let (mut view, base) = match base {
            Some((view, base)) => (view, Some(base)),
            None => (View::new(Matrix::of(&tensor.shape), transposed), None),
        };
        let importance = if base.is_some() {
            predict::importance(&mut view, &statistics, options)
        } else {
            if options.transform {
                view.basis = chosen_basis(&weights, view.matrix);
            }
            Importance::new(&mut view, &statistics, options.feedback)
        };
        // Large, like the statistics.
        drop((weights, statistics));
        let mut weights = view.weights(bytes, tensor.dtype).into_owned();
        let transformed = view.basis.is_some().then(|| weights.clone());
        view.divide_by_exponents(&mut weights);
        let variances = VarianceModel::fit(&weights, view.matrix);
        let largest = Largest::of(weights);
        let (unit, cost) = (largest.rms.into(), 1.0);
        let coded = CodedTensor {
            frame,
            view,
            transformed,
            importance,
            variances,
            largest,
            trellis: options.trellis && options.layers.is_empty(),
            unit,
            cost,
            base,
        };
        coded.steps().into_iter().all(is_scale).then_some(coded)
    }

    /// Its weights in coded order, transformed.
    pub fn weights<'b>(&'b self, bytes: &'b [u8], dtype: DType) -> Cow<'b, [f32]> {
        match &self.transformed {
            Some(weights) => Cow::Borrowed(weights),
            None => self.view.weights(bytes, dtype),
        }
    }

    /// Mean square of its weights, in units of 2^exponent.
    pub fn energy(&self) -> f64 {
        f64::from(self.largest.rms).powi(2)
    }

    /// The finest and the coarsest step.
    fn steps(&self) -> [f32; 2] {
        let rms = f64::from(self.largest.rms);
        let fine = (rms * STEP_MIN).max(f64::from(self.largest.max) / LEVEL_MAX);
        [fine, fine.max(rms * STEP_MAX)].map(|step| step as f32)
    }

    /// How to code it at this step of the model.
    pub fn plan(&self, step: f64) -> LevelPlan {
        if let Some(base) = &self.base {
            return LevelPlan::new(&self.view, &self.variances, base.scale, Largest::default(), false);
        }
        let [fine, coarse] = self.steps();
        let step = ((self.unit * step) as f32).clamp(fine, coarse);
        LevelPlan::new(&self.view, &self.variances, step, self.largest, self.trellis)
    }

    /// How to code it without a trellis at this step of its own.
    pub fn plan_at(&self, step: f32) -> LevelPlan {
        LevelPlan::new(&self.view, &self.variances, step, self.largest, false)
    }

    /// What quantizing it weighs against each other.
    pub fn search<'a>(&'a self, costs: &'a SymbolCosts, options: &Options, stride: usize) -> Search<'a> {
        let feedback = self.importance.feedback.as_ref().filter(|_| stride == 1);
        Search {
            costs,
            lambda: options.lambda,
            feedback,
            rows: &self.importance.rows,
            stride,
            prediction: &[],
            pull: &[],
        }
    }

    /// A tally's distortion in units of the model's.
    pub fn distortion(&self, tally: &Tally) -> f64 {
        tally.distortion * self.cost
    }
}

/// Sets units and costs. Where importance is unknown, a tensor's relative error counts as much as that of the others on
/// average; where nothing is known, the distortion is the mean of the relative squared errors.
pub fn balance(coded: &mut [CodedTensor]) {
    let len: f64 = coded.iter().map(|coded| coded.view.matrix.len() as f64).sum();
    let mut known = (0.0, 0.0);
    for coded in coded.iter() {
        if let Some(importance) = coded.importance.tensor.filter(|&importance| importance > 0.0) {
            let weights = coded.view.matrix.len() as f64;
            known = (known.0 + weights * (importance * coded.energy()).log2(), known.1 + weights);
        }
    }
    let typical = if known.1 > 0.0 { (known.0 / known.1).exp2() } else { 1.0 / len };
    let octaves = |coded: &CodedTensor| (coded.view.matrix.len() as f64).log2();
    let typical_octaves = coded.iter().map(|coded| coded.view.matrix.len() as f64 * octaves(coded)).sum::<f64>() / len;
    for coded in coded.iter_mut() {
        let relative = coded.importance.tensor.map_or(1.0, |importance| importance * coded.energy() / typical);
        coded.cost = relative * typical / coded.energy();
        let smaller = if known.1 > 0.0 { 0.0 } else { (typical_octaves - octaves(coded)).max(0.0) };
        let octaves = relative.max(RELATIVE_MIN).log2() + coded.importance.octaves() + SIZE_EXPONENT * smaller;
        coded.unit = f64::from(coded.largest.rms) * (-0.5 * octaves).exp2();
    }
}

/// Where nothing is known, the squared error of a tensor goes with its length to this power, up to the typical length. Layers
/// pass on relative errors whatever their size, which asks for 1; evenly spent bits would be 0. At 1/2 the outputs of three models
/// err by a third to a half less than at 0, and a small language model's by an eighth more.
const SIZE_EXPONENT: f64 = 0.5;

/// A tensor counts as at least this important, compared to a typical one: what cannot be seen to matter may matter yet.
const RELATIVE_MIN: f64 = 1.0 / 4096.0;

/// A transform over the taps, where it makes the variances of the matrix more uneven.
fn chosen_basis(weights: &[f32], matrix: Matrix) -> Option<Basis> {
    if !(TRANSFORM_TAPS_MIN..=TRANSFORM_TAPS_MAX).contains(&matrix.taps) || matrix.row_len() > TRANSFORM_ROW_MAX {
        return None;
    }
    let basis = Basis::new(matrix.taps);
    let mut coefficients = weights.to_vec();
    basis.forward(&mut coefficients);
    let octaves = |weights: &[f32]| VarianceModel::fit(weights, matrix).mean;
    (octaves(&coefficients) + TRANSFORM_OCTAVES_MIN < octaves(weights)).then_some(basis)
}

/// Shorter kernels have nothing to gain.
const TRANSFORM_TAPS_MIN: usize = 8;
const TRANSFORM_TAPS_MAX: usize = 1024;
const TRANSFORM_ROW_MAX: usize = 1 << 18;
/// What a transform must save, in bits for each weight.
const TRANSFORM_OCTAVES_MIN: f32 = 0.02;

/// Smallest and largest fraction of the root mean square: about 16 bits and a tenth of a bit.
const STEP_MIN: f64 = 1.0 / 16384.0;
const STEP_MAX: f64 = 8.0;
/// Largest level at the finest step: half of what the format allows, because the trellis counts half steps.
const LEVEL_MAX: f64 = (1 << 22) as f64;

/// One step for all tensors, and the tables that fit it.
pub struct Quantization {
    /// Fraction of each tensor's unit.
    pub step: f64,
    /// Tables of the frames without and with a trellis.
    pub sets: [TableSet; 2],
}

/// All lossy frames under the quantization that meets the target.
pub struct Quantized {
    /// Tables of the key frames without and with a trellis, then of the predicted ones.
    pub sets: [TableSet; 4],
    /// Frames, coarse to fine, and squared errors, in the order of the model's coded tensors.
    pub frames: Vec<(Vec<Frame>, f64)>,
    /// What the errors cost the outputs.
    pub distortion: f64,
}

impl Quantized {
    /// Bits of all frames, or of those alone whose step is searched.
    fn bits(&self, model: &Model, all: bool) -> f64 {
        let counted = self.frames.iter().zip(&model.coded).filter(|(_, coded)| all || coded.base.is_none());
        counted.flat_map(|((frames, _), _)| frames).map(frame_bits).sum()
    }
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

    /// One more done; the part done so far, all of it if some is done again.
    pub fn step(&self) -> f64 {
        let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
        (done as f64 / self.total.max(1) as f64).min(1.0)
    }
}

/// What a step is judged by.
#[derive(Clone, Copy)]
enum Goal {
    /// Bits of all frames, at most.
    Bits(f64),
    /// Distortion, at most.
    Distortion(f64),
}

impl Goal {
    fn of(self, bits: f64, distortion: f64) -> f64 {
        match self {
            Goal::Bits(_) => bits,
            Goal::Distortion(_) => distortion,
        }
    }

    fn bound(self) -> f64 {
        match self {
            Goal::Bits(bound) | Goal::Distortion(bound) => bound,
        }
    }

    /// The same for another bound.
    fn at(self, bound: f64) -> Self {
        match self {
            Goal::Bits(_) => Goal::Bits(bound),
            Goal::Distortion(_) => Goal::Distortion(bound),
        }
    }

    /// By how many octaves the step may grow if this is what it came to.
    fn octaves_off(self, value: f64, weights: f64) -> f64 {
        match self {
            // An octave is a bit for each weight at high rates, and less at low ones.
            Goal::Bits(bound) => (value - bound) / weights,
            Goal::Distortion(bound) => 0.5 * (bound / value).log2(),
        }
    }
}

/// Finds the quantization that meets the target closest, and codes all tensors with it. Everything but the coded tensors
/// takes `other_bytes`.
///
/// # Errors
/// `Argument` if no quantization meets the target.
pub fn search(model: &Model, other_bytes: u64, options: &Options) -> Result<Quantized> {
    let weight_count = model.searched_len();
    let goal = match options.target {
        Target::Bits(bits) if bits.is_finite() && bits > 0.0 => Goal::Bits(bits * weight_count as f64),
        Target::Quality(bound) if bound.is_finite() && bound > 0.0 => Goal::Distortion(bound),
        Target::Bits(value) | Target::Quality(value) => {
            return Err(Error::argument(format!("{value} cannot be a target")));
        }
        Target::Size(bytes) => Goal::Bits((bytes as f64 - other_bytes as f64) * 8.0),
        Target::Lossless => Goal::Bits(0.0),
    };
    let mut candidates = candidates::candidates(model, options);
    if weight_count == 0 {
        let quantization = Quantization { step: 1.0, sets: [1, 2].map(|count| SymbolCounts::new(count).tables()) };
        let quantized = model.encode_coded(&quantization, &mut candidates, options)?;
        let other_bytes = other_bytes + (quantized.bits(model, true) / 8.0) as u64;
        let fits = !matches!(options.target, Target::Size(bytes) if other_bytes > bytes);
        return if fits { Ok(quantized) } else { Err(out_of_reach(options.target)) };
    }
    let mut best: Option<(f64, Quantized)> = None;
    let mut aim = goal;
    // A Gaussian's entropy and error at this step, so that the first guess is close.
    let mut step = match goal {
        Goal::Bits(bits) => (4.13f64.log2() - bits / weight_count as f64).exp2(),
        Goal::Distortion(bound) => (12.0 * bound).sqrt(),
    };
    // The largest aim known to stay within the bound, and the smallest known to overshoot it.
    let (mut low, mut high) = (0.0, f64::INFINITY);
    let mut strides = Strides::default();
    for _ in 0..ROUNDS {
        let mut next = f64::NAN;
        if let Some(quantization) = find_step(model, aim, step, options) {
            step = quantization.step;
            let quantized = model.encode_coded(&quantization, &mut candidates, options)?;
            let whole = matches!(options.target, Target::Size(_));
            let value = goal.of(quantized.bits(model, whole), quantized.distortion);
            let within = value <= goal.bound();
            if within && best.as_ref().is_none_or(|(most, _)| value > *most) {
                best = Some((value, quantized));
                if step <= STEP_MIN * 1.01 || step >= STEP_MAX * 0.99 || value >= goal.bound() * 0.998 {
                    break;
                }
            }
            // What a sample does not show (lanes, side arrays, feedback): aim lower or higher by as much.
            let stride = strides.next(within);
            next = match goal {
                Goal::Bits(bound) => aim.bound() + stride * (bound * 0.9995 - value),
                Goal::Distortion(bound) => aim.bound() * (bound * 0.9995 / value).powf(stride),
            };
            if within { low = aim.bound().max(low) } else { high = aim.bound().min(high) }
        } else {
            low = aim.bound().max(low);
        }
        aim = aim.at(if next > low && next < high { next } else { (low + high) / 2.0 });
        if aim.bound() == f64::INFINITY {
            break;
        }
    }
    best.map(|(_, quantized)| quantized).ok_or_else(|| out_of_reach(options.target))
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
const ROUNDS: usize = 8;

fn out_of_reach(target: Target) -> Error {
    match target {
        Target::Size(bytes) => Error::argument(format!("{bytes} bytes are too few: the exact parts alone need more")),
        Target::Quality(_) => Error::argument("so little error cannot be reached: use --lossless"),
        _ => Error::argument("so few bits cannot be reached: give more, or exclude fewer tensors"),
    }
}

/// A frame's payloads, and the hashes and lengths that the header keeps for them.
fn frame_bits(frame: &Frame) -> f64 {
    8.0 * (frame.bytes() + 20 * frame.payloads.len() as u64) as f64
}

/// The coarsest step within a bound on distortion, or the finest within one on bits, by a sample, sought from `guess` on.
fn find_step(model: &Model, goal: Goal, guess: f64, options: &Options) -> Option<Quantization> {
    let weight_count = model.searched_len();
    let (mut fine, mut coarse) = (STEP_MIN.log2(), STEP_MAX.log2());
    let mut octaves = guess.log2().clamp(fine, coarse);
    let (mut best, mut strides) = (None, Strides::default());
    const ROUNDS: usize = 20;
    for round in 0..ROUNDS {
        (options.progress)("finding the step", round as f64 / ROUNDS as f64);
        let (quantization, bits, distortion) = sample(model, octaves.exp2(), options);
        let value = goal.of(bits, distortion);
        let within = value <= goal.bound();
        let close = within && value >= goal.bound() * 0.9995;
        if within {
            best = Some(quantization);
        }
        let too_coarse = within == matches!(goal, Goal::Bits(_));
        if too_coarse {
            coarse = octaves;
        } else {
            fine = octaves;
        }
        if close || coarse - fine < 1e-4 {
            break;
        }
        // The bracket catches what overshoots.
        let next =
            octaves + strides.next(too_coarse) * goal.at(goal.bound() * 0.9998).octaves_off(value, weight_count as f64);
        octaves = if next > fine && next < coarse { next } else { (fine + coarse) / 2.0 };
    }
    best
}

/// Tables that fit this step, the bits they take, and the distortion, all from a sample of the columns.
fn sample(model: &Model, step: f64, options: &Options) -> (Quantization, f64, f64) {
    let weight_count = model.searched_len();
    let stride = (weight_count / SAMPLE_LEN).clamp(1, STRIDE_MAX);
    let mut sets = [1, 2].map(|quantizers| Tally::new(quantizers).counts.tables());
    let (mut bits, mut distortion) = (0.0, 0.0);
    // The first round's paths follow tables of Gaussians, the second's the tables that these paths make.
    for _ in 0..2 {
        let costs = sets.each_ref().map(SymbolCosts::new);
        let sampled = |coded: &CodedTensor| {
            let tensor = &model.tensors[model.framed[coded.frame]];
            let plan = coded.plan(step);
            let set = usize::from(plan.trellis);
            let weights = coded.weights(model.bytes(tensor), tensor.dtype);
            let tally = plan.sample(&weights, coded.search(&costs[set], options, stride));
            let part = tally.counts.len() as f64 / weights.len() as f64;
            (set, f64::from(plan.low_bits) * weights.len() as f64, coded.distortion(&tally) / part, tally)
        };
        let searched = model.coded.par_iter().filter(|coded| coded.base.is_none());
        let samples: Vec<(usize, f64, f64, Tally)> = searched.map(sampled).collect();
        let mut counts = [1, 2].map(|quantizers| Tally::new(quantizers).counts);
        (bits, distortion) = (0.0, 0.0);
        for (set, low_bits, tensor_distortion, tally) in &samples {
            counts[*set].add_all(&tally.counts);
            bits += low_bits;
            distortion += tensor_distortion;
        }
        sets = counts.each_ref().map(|counts| counts.tables());
        let sampled_bits: f64 = counts.iter().zip(&sets).map(|(counts, set)| counts.cost_bits(set)).sum();
        let sampled = counts.iter().map(|counts| counts.len()).sum::<u64>() as f64;
        bits += sampled_bits * weight_count as f64 / sampled;
    }
    (Quantization { step, sets }, bits, distortion)
}

/// Weights that are enough to judge a step by, and the fewest columns that are looked at.
const SAMPLE_LEN: usize = 1 << 20;
const STRIDE_MAX: usize = 8;
