//! What the user may want to know of an encoding.

use crate::encode::base::BaseFrame;
use crate::encode::coded::{CodedTensor, Lossy, random_error_max};
use crate::encode::contents::Contents;
use crate::encode::options::{Options, Target};
use crate::encode::report::Report;
use crate::tensor::{DType, TensorLocation};

/// Most tensors that a note names.
const NAMES_MAX: usize = 3;

/// What was not done as asked, or need not have been asked for.
pub fn notes(lossy: &Lossy, report: &Report, options: &Options) -> Vec<String> {
    let note = |which: &dyn Fn(&CodedTensor) -> bool, what: &str| {
        let found: Vec<&CodedTensor> = lossy.coded.iter().filter(|coded| which(coded)).collect();
        let names = found.iter().take(NAMES_MAX).map(|coded| lossy.contents.tensor(coded.frame).name.as_str());
        let names = names.collect::<Vec<_>>().join(", ");
        let (tensors, more) = match found.len() {
            0 => return None,
            1 => ("tensor", ""),
            count => ("tensors", if count > NAMES_MAX { ", …" } else { "" }),
        };
        Some(format!("{} {tensors} {what}: {names}{more}", found.len()))
    };
    let is_exact = |coded: &CodedTensor| report.tensors.get(coded.frame).is_some_and(|tensor| !tensor.lossy);
    let mut notes = vec![
        near_lossless(report, options),
        quantized(lossy.contents),
        note(&is_exact, "exact, which is no larger"),
        unused_base(report, options),
        note(&|coded| base_errors_are_coded(coded, options), base_errors(options)),
    ];
    if report.calibrated {
        let times = random_error_max(options.target);
        let limited =
            format!("that random inputs hardly reach, kept within {times} times their error without calibration");
        let unused = "without error feedback, moments being all zero or no such thing";
        notes.extend([
            note(
                &|coded| coded.importance.tensor.is_none(),
                "without an importance, taken to matter as much as the others on average",
            ),
            note(
                &|coded| coded.importance.tensor == Some(0.0),
                "without any effect on the outputs that were measured, taken to matter as much as the others on average",
            ),
            note(&|coded| coded.limited, &limited),
            note(&|coded| coded.importance.unused_moments, unused),
        ]);
    }
    notes.into_iter().flatten().collect()
}

/// Whether what the base errs by is coded along with the change.
fn base_errors_are_coded(coded: &CodedTensor, options: &Options) -> bool {
    let original = |base: &BaseFrame| base.original.is_none() && (base.trellis || options.base_weights.is_some());
    coded.base.as_ref().is_some_and(original)
}

fn base_errors(options: &Options) -> &'static str {
    if options.base_weights.is_some() {
        "predicted without the base's weights, which lack them or are not those that the base was made of"
    } else {
        "follow the base's trellis; with --base-weights, or a base made with --quantizer uniform, the delta is smaller"
    }
}

/// Whether the base was of no use.
fn unused_base(report: &Report, options: &Options) -> Option<String> {
    let is_unused = options.base.is_some() && !report.needs_base;
    is_unused.then(|| "nothing is predicted from the base: the archive does not need it".into())
}

/// How many bits near-lossless weights leave of those that they may have.
fn near_lossless(report: &Report, options: &Options) -> Option<String> {
    let Target::Bits(bits) = options.target else { return None };
    let lossy = report.tensors.iter().filter(|tensor| tensor.lossy);
    let (weights, bytes) = lossy.fold((0, 0), |sum, tensor| (sum.0 + tensor.weights, sum.1 + tensor.coded_bytes));
    (report.near_lossless && weights > 0).then(|| {
        let used = 8.0 * bytes as f64 / weights as f64;
        format!("{used:.2} of {bits} bits for each weight are enough for an error of a millionth; --quality or --lossless takes more")
    })
}

/// That most weights are integers of 4 or 8 bits, alone or in blocks.
fn quantized(contents: &Contents) -> Option<String> {
    let weights = |tensor: &TensorLocation| tensor.shape.element_len().unwrap_or(0);
    let is_quantized = |tensor: &&TensorLocation| {
        !tensor.record.is_empty() || matches!(tensor.dtype, DType::I8 | DType::U8 | DType::I4 | DType::U4)
    };
    let all: u64 = contents.tensors.iter().map(weights).sum();
    let quantized: u64 = contents.tensors.iter().filter(is_quantized).map(weights).sum();
    let percent = 100.0 * quantized as f64 / all.max(1) as f64;
    (percent > 50.0).then(|| {
        format!(
            "{percent:.0} % of the weights are quantized already and stay exact; an archive of the model in floats would be smaller"
        )
    })
}
