//! Model files -> archive. Everything here is a choice; what a decoder relies on lives in `container`, `entropy` and
//! `stages`.
//!
//! A pipeline that holds a few tensors at a time: their contents, alignment, what is known of each, what is exact, the search for
//! a step, the archive. What has to wait for the header, which comes first in an archive, waits in [`scratch`].

#![cfg_attr(not(test), warn(clippy::disallowed_methods))]

#[doc(hidden)]
pub mod align;
#[doc(hidden)]
pub mod assemble;
mod base;
mod coded;
mod coded_weights;
mod contents;
mod cost;
#[doc(hidden)]
pub mod exact;
mod fixed;
#[doc(hidden)]
pub mod importance;
#[doc(hidden)]
pub mod levels;
mod motion;
mod notes;
mod options;
mod portable;
mod progress;
mod report;
#[doc(hidden)]
pub mod scratch;
#[doc(hidden)]
pub mod search;

use std::collections::HashMap;
use std::io::Write;

use align::alignment::{self, Aligned};
use align::symmetry;
use assemble::Assembled;
use coded::{CodedTensor, Lossy};
use contents::Contents;
use fixed::Fixed;
use importance::statistics::{self, WeightStatistics};
use levels::matrix::Matrix;
use progress::{Counter, READING, map_in_parts};
use search::step::StepSearch;

use crate::error::{Error, Result};
use crate::formats::{self, Found, SourceFile};

pub use importance::statistics::{Inputs, Statistics};
pub use levels::weights::to_f32;
pub use options::{Base, LAMBDA, Options, Preset, Target};
pub use progress::Progress;
pub use report::{Kind, Report, TensorReport};

/// Encodes files into one archive, which goes to `out` once all of it is known. `statistics` tell what is known of
/// the weights of one model each, or of the only one.
/// The memory that it takes depends on the largest tensors, not on the model, if there is a [scratch](Options::scratch) folder.
/// It runs on rayon's threads, which call what options and files bring along; encodings that run at once share them.
///
/// # Errors
/// Whatever is wrong with the files, the statistics or the base; `Argument` if the target cannot be met; `Io` if there is no
/// room for the archive.
pub fn encode(
    files: &[SourceFile],
    statistics: impl IntoIterator<Item = Statistics>,
    options: &Options,
    out: &mut dyn Write,
) -> Result<Report> {
    if options.base.is_some() && !options.passes.is_empty() {
        return Err(Error::argument("a delta has no passes: refine its base, or leave the base out"));
    }
    if options.base.is_none() && options.base_weights.is_some() {
        return Err(Error::argument("weights of a base need the base"));
    }
    if ![16, 64, 256].contains(&options.lanes) {
        return Err(Error::argument("chunks have 16, 64 or 256 lanes at most"));
    }
    let statistics: Vec<Statistics> = statistics.into_iter().collect();
    // On one of the threads that share the work: memory that a thread has freed is there for what it does next.
    let assembled = rayon::scope(|_| assemble(files, statistics, options))?;
    assembled.write(out)?;
    Ok(assembled.report)
}

/// The archive of some files, yet to be written.
fn assemble(files: &[SourceFile], statistics: Vec<Statistics>, options: &Options) -> Result<Assembled> {
    let Found { mut tensors, names, notes: not_found } = formats::find(files, options.lenient)?;
    tensors.sort_by_key(|tensor| (tensor.file, tensor.offset));
    let inputs = statistics.iter().map(|statistics| statistics.inputs).reduce(Inputs::and);
    let statistics = statistics::fit(statistics, &tensors, &names)?;
    let keep_exact = |name: &str| names.any(name, options.keep_exact);
    let options = &Options { keep_exact: &keep_exact, ..*options };
    (options.progress)(Progress { stage: READING, done: 0.0, tensor: None });
    let aligns = options.alignment && (options.base.is_some() || options.unit_order_free && options.prediction);
    let aligned = if aligns { Some(alignment::align(files, &tensors, options)?) } else { None };
    let free = aligned.as_ref().filter(|_| options.unit_order_free);
    let arranged: Option<Vec<SourceFile>> = free.map(|aligned| {
        let file = |(file, source): (&SourceFile, _)| SourceFile { name: file.name.clone(), source };
        files.iter().zip(aligned.files.iter().map(|file| file as _)).map(file).collect()
    });
    let contents = Contents::new(arranged.as_deref().unwrap_or(files), tensors.clone(), options)?;
    let originals = options.base_weights.map(|files| Contents::unframed(files, options.lenient)).transpose()?;
    let lossy = measure(&contents, originals, statistics, inputs, aligned.as_ref(), options)?;
    if lossy.lacks_all_originals() {
        return Err(Error::argument("the base was made of other weights than those given for it"));
    }
    let frames = lossy.coded.iter().map(|coded| coded.frame).collect();
    let fixed = Fixed::new(&contents, &frames, options)?;
    let mut assembled = search(&lossy, &fixed, options)?;
    assembled.report.calibrated = inputs.is_some();
    assembled.report.inputs = inputs;
    assembled.report.errs_as_uncalibrated = lossy.errs_as_uncalibrated(options.target);
    let told = notes::notes(&lossy, &assembled.report, options);
    assembled.report.notes = [not_found, told].concat();
    Ok(assembled)
}

/// As [`encode`], in memory.
///
/// # Errors
/// As [`encode`].
pub fn encode_to_vec(
    files: &[SourceFile],
    statistics: impl IntoIterator<Item = Statistics>,
    options: &Options,
) -> Result<(Vec<u8>, Report)> {
    let mut archive = Vec::new();
    let report = encode(files, statistics, options, &mut archive)?;
    Ok((archive, report))
}

/// Measures all tensors that may be coded with loss.
fn measure<'a>(
    contents: &'a Contents<'a>,
    originals: Option<Contents<'a>>,
    mut statistics: HashMap<String, WeightStatistics>,
    inputs: Option<Inputs>,
    aligned: Option<&Aligned>,
    options: &Options,
) -> Result<Lossy<'a>> {
    let frames: Vec<usize> = (0..contents.frame_count()).filter(|&frame| contents.may_lose(frame, options)).collect();
    let len = |frame: usize| contents.tensor(frame).shape.element_len().unwrap_or(0) as usize;
    let begun = Counter::new(READING, frames.iter().map(|&frame| len(frame) as u64).sum());
    let known = frames.into_iter().map(|frame| {
        // Of the first of its tensors of which anything is known.
        let known = contents.users(frame).find_map(|tensor| statistics.remove(&tensor.name));
        (frame, known.unwrap_or_default())
    });
    // Moments are large, and gone once they are factored.
    let (first, then): (Vec<_>, Vec<_>) = known.partition(|(_, statistics)| statistics.has_moments());
    let mut coded: Vec<CodedTensor> = Vec::new();
    for part in [first, then] {
        let measured = map_in_parts(
            part,
            |&(frame, _)| len(frame),
            |(frame, statistics)| {
                (options.progress)(begun.begin(Some(&contents.tensor(frame).name), len(frame) as u64));
                measure_tensor(contents, originals.as_ref(), frame, statistics, aligned, options)
            },
        )?;
        coded.extend(measured.into_iter().flatten());
    }
    let inputs = inputs.unwrap_or_default();
    // Random inputs are held against what tensors are without statistics.
    if inputs != Inputs::Samples || coded.iter().all(|coded| coded.importance.tensor.is_none()) {
        let heads = symmetry::output_heads(contents.files, &contents.tensors)?;
        for coded in &mut coded {
            coded.is_output_head = heads.contains(&contents.tensor_index(coded.frame));
        }
    }
    Lossy::new(contents, originals, coded, inputs, options)
}

/// A frame to be coded with loss, if it can be.
fn measure_tensor(
    contents: &Contents,
    originals: Option<&Contents>,
    frame: usize,
    statistics: WeightStatistics,
    aligned: Option<&Aligned>,
    options: &Options,
) -> Result<Option<CodedTensor>> {
    let index = contents.tensor_index(frame);
    let moved = aligned.map_or([None, None], |aligned| aligned.orders(index));
    // Units of any order lie in theirs already.
    let (orders, statistics) = match options.unit_order_free {
        true if moved != [None, None] => ([None, None], statistics.permuted(&moved)),
        true => ([None, None], statistics),
        false => (moved, statistics),
    };
    let tensor = contents.tensor(frame);
    let base =
        options.base.map(|base| base::base_frame(base, contents, tensor, &orders, originals)).transpose()?.flatten();
    let statistics = match &base {
        Some((view, _)) if !view.is_of(Matrix::of(&tensor.shape)) => statistics.of_tensor(),
        Some((view, _)) if !view.has_rows_in_place() && !view.column_major => statistics.permuted(&view.orders()),
        _ => statistics,
    };
    let by_column = aligned.is_some_and(|aligned| aligned.columns.contains(&index));
    CodedTensor::new(frame, contents, statistics, base, by_column, options)
}

/// The archive that meets the target.
fn search(lossy: &Lossy, fixed: &Fixed, options: &Options) -> Result<Assembled> {
    let base = options.base.map(|base| base.archive().integrity);
    let step = StepSearch::new(lossy, options)?;
    let assembled = |quantized| Assembled::new(lossy, fixed, quantized, base);
    let Target::Size(size) = options.target else { return assembled(step.closest(0)?) };
    let mut best = assembled(step.coarsest()?)?;
    if best.report.archive_bytes > size {
        let least = best.report.archive_bytes;
        return Err(Error::argument(format!("{size} bytes are too few: these files take at least {least}")));
    }
    let size_max = i64::try_from(size).unwrap_or(i64::MAX);
    // The header's length is known only once it is written: search again with what the last one took.
    let mut other_bytes = best.report.exact_bytes();
    // Without a step to search for there is nothing to choose between.
    let searches = if lossy.searched_len() == 0 { 0 } else { SIZES_MAX };
    for _ in 0..searches {
        let found = match step.closest(other_bytes) {
            Ok(quantized) => assembled(quantized)?,
            Err(Error::Argument(_)) => break,
            Err(error) => return Err(error),
        };
        let slack = size_max - found.report.archive_bytes as i64;
        other_bytes = other_bytes.saturating_add_signed(size_max / 2000 - slack);
        if slack >= 0 && found.report.archive_bytes > best.report.archive_bytes {
            best = found;
        }
        if (0..=size_max / 500).contains(&slack) {
            break;
        }
    }
    Ok(best)
}

/// Most searches for a step that meets a size.
const SIZES_MAX: usize = 4;
