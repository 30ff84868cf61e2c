//! What is known of all tensors -> the step of each where the step of the model is 1, and what its errors cost.

use super::CodedTensor;
use crate::encode::importance::statistics::Inputs;
use crate::encode::importance::{Finer, least_at_equal_cost, least_at_equal_rate};
use crate::encode::options::Target;
use crate::encode::portable::{exp2, log2};

/// Sets units and costs. Where importance is unknown, or nothing that was measured depended on the tensor, its relative error
/// counts as much as that of the others on average; where nothing is known, the distortion is the mean of the relative squared
/// errors. Random inputs may miss what a tensor is for, and may leave outputs numb: with their statistics no tensor errs more than
/// [`random_error_max`] times as much as it would uncalibrated, and the outputs count as no less sensitive than the weights.
pub fn balance(coded: &mut [CodedTensor], inputs: Inputs, target: Target) {
    let random = inputs != Inputs::Samples;
    let weights = |coded: &CodedTensor| coded.view.matrix.len() as f64;
    let len: f64 = coded.iter().map(weights).sum();
    let measured = |coded: &CodedTensor| {
        coded.importance.tensor.filter(|&importance| importance > 0.0).map(|importance| importance * coded.energy())
    };
    let mut known = (0.0, 0.0);
    for coded in coded.iter() {
        if let Some(sensitivity) = measured(coded) {
            known = (known.0 + weights(coded) * log2(sensitivity), known.1 + weights(coded));
        }
    }
    let typical = if known.1 > 0.0 { exp2(known.0 / known.1) } else { 1.0 / len };
    let promised = if random { typical.max(1.0 / len) } else { typical };
    let relative = |coded: &CodedTensor| measured(coded).map_or(1.0, |sensitivity| sensitivity / typical);
    let uncalibrated = structure(coded);
    let octaves = |(coded, structure): (&CodedTensor, &f64)| {
        let structure = if known.1 > 0.0 { 0.0 } else { *structure };
        log2(relative(coded).max(RELATIVE_MIN)) + coded.importance.octaves() + structure
    };
    let octaves: Vec<f64> = coded.iter().zip(&uncalibrated).map(octaves).collect();
    let finer = |((coded, octaves), uncalibrated): ((&CodedTensor, &f64), &f64)| Finer {
        weights: weights(coded),
        cost: weights(coded) * relative(coded) * exp2(-uncalibrated),
        octaves: octaves - uncalibrated,
    };
    let finer: Vec<Finer> = coded.iter().zip(&octaves).zip(&uncalibrated).map(finer).collect();
    let least = match (random, target) {
        (false, _) => f64::NEG_INFINITY,
        (_, Target::Preset(_)) => least_at_equal_cost(&finer, log2(random_error_max(target))),
        _ => least_at_equal_rate(&finer, log2(random_error_max(target))),
    };
    // Around the mean that they had, so that the step of the model stays where it can be found.
    let rise = Finer::mean(&finer, least) - Finer::mean(&finer, f64::NEG_INFINITY);
    let even_error =
        coded.iter().zip(&uncalibrated).map(|(coded, octaves)| weights(coded) * exp2(-octaves)).sum::<f64>() / len;
    for (index, coded) in coded.iter_mut().enumerate() {
        coded.limited = finer[index].octaves < least;
        coded.cost = relative(coded) * promised / coded.energy();
        coded.uncalibrated_cost = finer[index].cost * promised / even_error;
        let octaves = octaves[index].max(uncalibrated[index] + least) - rise;
        coded.unit = f64::from(coded.largest.rms) * exp2(-0.5 * octaves);
    }
}

/// log2 of what the squared relative error of each tensor counts, by its length and its place alone.
fn structure(coded: &[CodedTensor]) -> Vec<f64> {
    let len = |coded: &CodedTensor| coded.view.matrix.len() as f64;
    let layers = || coded.iter().filter(|coded| !coded.is_output_head);
    let layers_len: f64 = layers().map(len).sum();
    let typical = layers().map(|coded| len(coded) * log2(len(coded))).sum::<f64>() / layers_len.max(1.0);
    let octaves = |coded: &CodedTensor| {
        let head = if coded.is_output_head { OUTPUT_HEAD_OCTAVES } else { 0.0 };
        SIZE_EXPONENT * (typical - log2(len(coded))).max(0.0) + head
    };
    coded.iter().map(octaves).collect()
}

/// Where nothing is known, the squared error of a tensor goes with its length to this power, up to the typical length. Layers
/// pass on relative errors whatever their size, which asks for 1; evenly spent bits would be 0. At 1/2 the outputs of three models
/// err by a third to a half less than at 0.
const SIZE_EXPONENT: f64 = 0.5;

/// By how many octaves more the squared relative error of a language model's output head counts: it is in the logits at once,
/// where that of a layer is one part of many.
const OUTPUT_HEAD_OCTAVES: f64 = 3.0;

/// A tensor counts as at least this important, compared to a typical one: what cannot be seen to matter may matter yet.
const RELATIVE_MIN: f64 = 1.0 / 4096.0;

/// About how many times a tensor's relative squared error may be what it would be uncalibrated, by random inputs: at the same rate, or
/// with the same preset. There it also bounds what outputs lose if random inputs are wrong: docs/CALIBRATION.md has what both cost.
pub fn random_error_max(target: Target) -> f64 {
    if matches!(target, Target::Preset(_)) { 8.0 } else { 32.0 }
}
