//! Tensors that may be coded with loss: what about them does not depend on the step.

mod balance;

use std::sync::OnceLock;

use crate::encode::base::change::Change;
use crate::encode::base::{self, BaseFrame, Original};
use crate::encode::coded_weights::{CodedWeights, all_weights};
use crate::encode::contents::Contents;
use crate::encode::cost::{Goal, STEP_MAX, STEP_MIN};
use crate::encode::exact::computed::are_computed;
use crate::encode::exact::frame::{KeptFrame, exact};
use crate::encode::fixed::exact_frame;
use crate::encode::importance::Importance;
use crate::encode::importance::statistics::{Inputs, WeightStatistics};
use crate::encode::levels::frame::{Largest, LevelPlan};
use crate::encode::levels::matrix::{Matrix, View};
use crate::encode::levels::model_fit::{SymbolCosts, VarianceModel};
use crate::encode::levels::quantizer::{Search, Tally};
use crate::encode::levels::quartets::Quartets;
use crate::encode::levels::trellis::LEVEL_MAX;
use crate::encode::options::{Options, Preset, Target};
use crate::encode::portable::log2;
use crate::encode::scratch::Scratch;
use crate::error::Result;
use crate::stages::quantize::is_scale;
use crate::stages::transform::Basis;
use crate::tensor::{Shape, TensorLocation};

pub use balance::random_error_max;

/// The tensors of a model that may be coded with loss.
pub struct Lossy<'a> {
    /// Where their weights are.
    pub contents: &'a Contents<'a>,
    /// The tensors, in the order of their frames.
    pub coded: Vec<CodedTensor>,
    /// The files that the base was made of.
    originals: Option<Contents<'a>>,
    /// The exact frames of those for which they were asked for.
    exact: Vec<OnceLock<KeptFrame>>,
    scratch: Scratch,
    inputs: Inputs,
}

impl<'a> Lossy<'a> {
    /// Of tensors that were measured, in any order.
    ///
    /// # Errors
    /// `Io` if there is no room for exact frames.
    pub fn new(
        contents: &'a Contents<'a>,
        originals: Option<Contents<'a>>,
        mut coded: Vec<CodedTensor>,
        inputs: Inputs,
        options: &Options,
    ) -> Result<Self> {
        coded.sort_by_key(|coded| coded.frame);
        balance::balance(&mut coded, inputs, options.target);
        let exact = coded.iter().map(|_| OnceLock::new()).collect();
        Ok(Lossy { contents, coded, originals, exact, scratch: Scratch::new(options.scratch)?, inputs })
    }

    /// What a preset asks for.
    pub fn goal(&self, preset: Preset) -> Goal {
        if self.errs_as_uncalibrated(Target::Preset(preset)) {
            Goal::Uncalibrated(preset.of_weights())
        } else if self.is_calibrated() {
            Goal::Distortion(preset.of_outputs())
        } else {
            Goal::Distortion(preset.of_weights())
        }
    }

    /// Whether the outputs are to err as much as they would uncalibrated.
    pub fn errs_as_uncalibrated(&self, target: Target) -> bool {
        matches!(target, Target::Preset(_)) && self.inputs != Inputs::Samples && self.is_calibrated()
    }

    /// Whether it is known of any tensor what its errors cost.
    pub fn is_calibrated(&self) -> bool {
        self.coded.iter().any(|coded| coded.importance.tensor.is_some_and(|importance| importance > 0.0))
    }

    /// A tensor's name.
    pub fn name(&self, index: usize) -> &str {
        &self.contents.tensor(self.coded[index].frame).name
    }

    /// The distortion of so many weights that are coded with loss: where it is unknown what errors cost, the mean over them.
    pub fn mean_distortion(&self, distortion: f64, weights: f64) -> f64 {
        let all: f64 = self.coded.iter().map(|coded| coded.view.matrix.len() as f64).sum();
        if self.is_calibrated() || weights == 0.0 { distortion } else { distortion * all / weights }
    }

    /// Bits of a tensor's exact frame: as far as a part of it tells, until the frame was asked for.
    pub fn exact_bits(&self, index: usize) -> f64 {
        self.exact[index].get().map_or(self.coded[index].exact_bits, KeptFrame::bits)
    }

    /// Whether a tensor is exact where it would take so many bits with loss.
    pub fn is_exact(&self, index: usize, bits: f64) -> bool {
        self.exact_bits(index) <= bits
    }

    /// A tensor's exact frame, which is coded once.
    ///
    /// # Errors
    /// Whatever is wrong with the tensor, the base, or the room for it.
    pub fn exact_frame(&self, index: usize, options: &Options) -> Result<&KeptFrame> {
        if let Some(frame) = self.exact[index].get() {
            return Ok(frame);
        }
        let frame = exact_frame(self.contents, self.contents.tensor(self.coded[index].frame), &self.scratch, options)?;
        Ok(self.exact[index].get_or_init(|| frame))
    }

    /// Whether the base's weights were given, and are those of no tensor that the base predicts.
    pub fn lacks_all_originals(&self) -> bool {
        let mut based = self.coded.iter().filter_map(|coded| coded.base.as_ref()).peekable();
        self.originals.is_some() && based.peek().is_some() && based.all(|base| base.original.is_none())
    }

    /// What differs between a tensor and the weights that its base was made of, if these are known.
    ///
    /// # Errors
    /// Whatever is wrong with reading the base's weights.
    pub fn change(&self, index: usize) -> Result<Option<Change<'_>>> {
        let CodedTensor { base: Some(frame), view, .. } = &self.coded[index] else { return Ok(None) };
        let (Some(contents), Some(Original { tensor, view: seen, errors })) = (&self.originals, &frame.original) else {
            return Ok(None);
        };
        let originals = CodedWeights::new(contents, &contents.tensors[*tensor], seen)?;
        Ok(Some(Change { originals, errors, view, frame }))
    }

    /// Weights of the tensors whose step is searched.
    pub fn searched_len(&self) -> usize {
        self.coded.iter().filter(|coded| coded.base.is_none()).map(|coded| coded.view.matrix.len()).sum()
    }

    /// The weights of a tensor.
    ///
    /// # Errors
    /// Whatever is wrong with reading them.
    pub fn weights(&self, index: usize) -> Result<CodedWeights<'_>> {
        let coded = &self.coded[index];
        CodedWeights::new(self.contents, self.contents.tensor(coded.frame), &coded.view)
    }
}

/// A tensor that is coded with loss, and what about it does not depend on the step.
pub struct CodedTensor {
    /// Its frame.
    pub frame: usize,
    /// How it is seen.
    pub view: View,
    /// What its errors cost.
    pub importance: Importance,
    /// Sum of the squares of its weights.
    pub squares: f64,
    variances: VarianceModel,
    /// Which of four neighbours are left, if that is told apart.
    pub quartets: Option<Quartets>,
    largest: Largest,
    trellis: bool,
    /// Most lanes of a chunk.
    lanes: usize,
    /// Whether bits are bounded, and not errors.
    rate_is_bound: bool,
    /// Bits of its exact frame, as far as a part of the tensor tells.
    exact_bits: f64,
    /// Its step where the step of the model is 1.
    unit: f64,
    /// What a unit of weighted squared error costs the outputs.
    cost: f64,
    /// What its errors would cost the outputs, uncalibrated, if the mean relative squared error of all weights were 1.
    pub uncalibrated_cost: f64,
    /// Whether it is the output head of a language model.
    pub is_output_head: bool,
    /// Whether it is finer than its importance asks for.
    pub limited: bool,
    /// The base's frame that it is predicted from; then the step is that frame's.
    pub base: Option<BaseFrame>,
}

impl CodedTensor {
    /// Measures a tensor; `None` if it cannot be coded with loss (not finite, constant, or out of the range of scales), or must
    /// not be (numbers that were computed and not learned: ids and counts, and the filters of transforms).
    ///
    /// # Errors
    /// Whatever is wrong with reading it.
    pub fn new(
        frame: usize,
        contents: &Contents,
        statistics: WeightStatistics,
        base: Option<(View, BaseFrame)>,
        by_column: bool,
        options: &Options,
    ) -> Result<Option<Self>> {
        let tensor = contents.tensor(frame);
        let weights = all_weights(contents, tensor)?;
        if !may_lose(&weights, &tensor.shape) {
            return Ok(None);
        }
        let exact_bits = exact_bits(contents, tensor, options)?;
        let squares = weights.iter().map(|&weight| f64::from(weight) * f64::from(weight)).sum();
        let transposed = by_column || options.feedback && statistics.row_moments.is_some();
        let matrix = Matrix::of(&tensor.shape);
        let is_plain = base.is_none() && !by_column && !statistics.has_parts();
        let quartets = if is_plain { quartets(contents, &weights, matrix, options) } else { None };
        let (mut view, base) = match (base, &quartets) {
            (Some((view, base)), _) => (view, Some(base)),
            (None, Some(quartets)) => (View::new(quartets.matrix(), false), None),
            (None, None) => (View::new(matrix, transposed), None),
        };
        let importance = if base.is_some() {
            // Seen as its base sees it.
            let exponents = view.exponents.clone();
            let importance = Importance::new(&mut view, &statistics, options.feedback);
            view.exponents = exponents;
            importance
        } else {
            if options.transform {
                view.basis = chosen_basis(&weights, view.matrix);
            }
            Importance::new(&mut view, &statistics, options.feedback)
        };
        // Large, if there are moments.
        drop(statistics);
        let mut weights = view.coded(weights);
        view.divide_by_exponents(0, &mut weights);
        let variances = match &quartets {
            Some(quartets) => quartets.variances(),
            None => VarianceModel::fit(&weights, view.matrix),
        };
        let largest = Largest::of(weights);
        let (unit, cost, uncalibrated_cost, limited) = (largest.rms.into(), 1.0, 1.0, false);
        let trellis = options.trellis && options.passes.is_empty();
        let coded = CodedTensor {
            frame,
            view,
            importance,
            squares,
            variances,
            quartets,
            largest,
            trellis,
            lanes: options.lanes,
            rate_is_bound: options.target.bounds_bits(),
            exact_bits,
            unit,
            cost,
            uncalibrated_cost,
            is_output_head: false,
            limited,
            base,
        };
        Ok(coded.steps().into_iter().all(is_scale).then_some(coded))
    }

    /// Mean square of its weights, in units of 2^exponent.
    pub fn energy(&self) -> f64 {
        f64::from(self.largest.rms).powi(2)
    }

    /// The finest and the coarsest step.
    fn steps(&self) -> [f32; 2] {
        let rms = f64::from(self.largest.rms);
        let sparse = if self.rate_is_bound { f64::from(self.largest.sparse_step_min()) } else { 0.0 };
        let fine = (rms * STEP_MIN).max(f64::from(self.largest.max / LEVEL_MAX)).max(sparse);
        [fine, fine.max(rms * STEP_MAX)].map(|step| step as f32)
    }

    /// How to code it at this step of the model.
    pub fn plan(&self, step: f64) -> LevelPlan {
        if let Some(base) = &self.base {
            return self.plan_of(base.scale, Largest::default(), false);
        }
        let [fine, coarse] = self.steps();
        let step = ((self.unit * step) as f32).clamp(fine, coarse);
        let plan = self.plan_of(step, self.largest, self.trellis);
        LevelPlan { pruning: self.quartets.as_ref().map(|quartets| quartets.pruning(&plan.classes)), ..plan }
    }

    /// How to code it with a prediction: no path keeps zeros that are predicted to be something else.
    pub fn predicted_plan(&self, step: f64) -> LevelPlan {
        let plan = self.plan(step);
        if plan.trellis && self.largest.zeros > self.view.matrix.len() / CHANCE_ZEROS {
            return self.plan_at(plan.scale.unwrap_or(1.0) * plan.quantizer_step());
        }
        LevelPlan { pruning: None, ..plan }
    }

    /// How to code it without a trellis at this step of its own.
    pub fn plan_at(&self, step: f32) -> LevelPlan {
        self.plan_of(step, self.largest, false)
    }

    fn plan_of(&self, step: f32, largest: Largest, trellis: bool) -> LevelPlan {
        LevelPlan { lanes: self.lanes, ..LevelPlan::new(&self.view, &self.variances, step, largest, trellis) }
    }

    /// What quantizing it weighs against each other; errors are fed back only where every column is quantized.
    pub fn search<'a>(&'a self, costs: &'a SymbolCosts, options: &Options, stride: usize) -> Search<'a> {
        let feedback = self.importance.feedback.as_ref().filter(|_| stride == 1);
        Search { costs, lambda: options.lambda, feedback, rows: &self.importance.rows }
    }

    /// A tally's distortion in units of the model's.
    pub fn distortion(&self, tally: &Tally) -> f64 {
        tally.distortion * self.cost
    }
}

/// Which of four neighbours are left, if it pays to tell them apart.
fn quartets(contents: &Contents, weights: &[f32], matrix: Matrix, options: &Options) -> Option<Quartets> {
    if !options.passes.is_empty() || !options.entropy_model {
        return None;
    }
    let quartets = Quartets::of(weights, matrix)?;
    let bits_left = match options.target {
        Target::Bits(bits) => quartets.bits_left(bits),
        Target::Size(bytes) => {
            let lens = contents.tensors.iter().filter_map(|tensor| tensor.shape.element_len());
            quartets.bits_left(8.0 * bytes as f64 / lens.sum::<u64>() as f64)
        }
        target => target.weights_error().map_or(0.0, |error| -0.5 * log2(error)),
    };
    (bits_left >= QUARTETS_BITS_MIN).then_some(quartets)
}

/// Fewest bits for each weight that is left: where most of them become zero, too, patterns of what was pruned tell little.
const QUARTETS_BITS_MIN: f64 = 2.0;

/// Whether weights are finite, not all the same, and were learned.
fn may_lose(weights: &[f32], shape: &Shape) -> bool {
    let vary = weights.iter().any(|weight| weight != &weights[0]);
    vary && weights.iter().all(|weight| weight.is_finite()) && !are_computed(weights, shape)
}

/// Bits of a tensor's exact frame, if all of it is like its middle; of all of it, if the base may predict it.
fn exact_bits(contents: &Contents, tensor: &TensorLocation, options: &Options) -> Result<f64> {
    if options.base.is_some_and(|base| base::is_exact(base, &tensor.name)) {
        return Ok(exact_frame(contents, tensor, &Scratch::memory(), options)?.bits());
    }
    let len = tensor.shape.element_len().unwrap_or(0);
    let element_bytes = tensor.bytes / len.max(1);
    let sampled = len.min(EXACT_SAMPLE_LEN);
    let first = (len - sampled) / 2;
    let bytes = contents.read(tensor, first * element_bytes..(first + sampled) * element_bytes)?;
    Ok(8.0 * exact(&bytes, tensor.dtype, tensor.record, options.adaptive).bytes() as f64 * len as f64
        / sampled.max(1) as f64)
}

/// Elements that tell how small an exact frame gets.
const EXACT_SAMPLE_LEN: u64 = 1 << 16;

/// Whether zeros lie between other weights of a kernel, and are too many for chance: pruned weights, which no transform keeps.
fn is_pruned_within_kernels(weights: &[f32], taps: usize) -> bool {
    let zeros = |kernel: &[f32]| kernel.iter().filter(|&&weight| weight == 0.0).count();
    let within: usize = weights.chunks(taps).map(zeros).filter(|&zeros| zeros < taps).sum();
    within > weights.len() / CHANCE_ZEROS
}

/// One of so many weights may be zero by chance.
const CHANCE_ZEROS: usize = 256;

/// A transform over the taps, where it makes the variances of the matrix more uneven.
fn chosen_basis(weights: &[f32], matrix: Matrix) -> Option<Basis> {
    if !(TRANSFORM_TAPS_MIN..=TRANSFORM_TAPS_MAX).contains(&matrix.taps)
        || matrix.row_len() > TRANSFORM_ROW_MAX
        || is_pruned_within_kernels(weights, matrix.taps)
    {
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
