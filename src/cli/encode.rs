//! `mcwc encode`

mod report;

use std::path::{Path, PathBuf};

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::destination::Destination;
use super::files::{Sources, absolute, file_name, io_error};
use super::output::{Printed, ProgressLines, json_text, progress_bar};
use super::printable::printable;
use super::sizes::parse_bytes;
use crate::decode::Reader;
use crate::encode::{LAMBDA, Options, Preset, Progress, Report, Statistics, Target, encode};
use crate::entropy::LANES;
use crate::error::{Error, Result};
use crate::formats::{self, SourceFile};
use crate::source::Source;
use crate::tensor::Limits;
use report::report_text;

/// Compress model files into one archive
///
/// Finds the tensors in safetensors, ONNX, TensorFlow.js, GGUF and PyTorch files (shards, split parts and external data come along by
/// themselves), codes matrices and convolutions of floats at the given rate, and everything else exactly, quantized
/// weights included. Any other file travels exactly. Takes memory for the largest tensors only, and beside the archive, until
/// it is done, a few bytes of disk for each weight.
#[derive(clap::Args)]
pub struct Arguments {
    /// Model files, and any others that should travel with them; a directory stands for all files in it
    #[arg(required = true)]
    inputs: Vec<PathBuf>,
    /// The archive to write, - for standard output [default: the first input and .mcwc, as in model.onnx.mcwc]
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Replace an archive that exists
    #[arg(long)]
    force: bool,
    /// Bits for each weight of a matrix or convolution, at most: near-lossless ones take no more than they need
    #[arg(help_heading = "Rate", long, value_name = "B", group = "target", value_parser = parse_bits)]
    bits: Option<f64>,
    /// Largest size of the whole archive, such as 12MB
    #[arg(help_heading = "Rate", long, value_parser = parse_bytes, group = "target")]
    size: Option<u64>,
    /// Largest error: of the model's outputs with --calibration, else of the weights (mean relative squared error), such as 0.01
    #[arg(help_heading = "Rate", long, value_name = "D", group = "target", value_parser = parse_quality)]
    quality: Option<f64>,
    /// A quality, so that neither bits nor errors need be known: of the outputs with --calibration, by random inputs as good as
    /// uncalibrated and in fewer bits; else of the weights [default: high]
    #[arg(help_heading = "Rate", long, value_enum, group = "target")]
    preset: Option<Preset>,
    /// Keep every byte exact
    #[arg(help_heading = "Rate", long, group = "target")]
    lossless: bool,
    /// Let the coding of exact floats, with --lossless all of them, adapt: up to 2 % fewer bytes, up to seven times as long to decode
    #[arg(help_heading = "Rate", long)]
    adaptive: bool,
    /// Passes, coarse to fine, such as 2.5,4: the model can be used at the first rate while the rest still comes
    #[arg(help_heading = "Rate", long, value_name = "B,B", group = "target", value_delimiter = ',', value_parser = parse_bits)]
    progressive: Vec<f64>,
    /// How weights become levels: the trellis saves about 4 % of the bits, uniform levels decode about a fifth faster
    #[arg(help_heading = "Quantization", long, value_enum, default_value_t = Quantizer::Trellis)]
    quantizer: Quantizer,
    /// What each weight matters for, made by the npm package's `mcwc calibrate` or the PyTorch script (docs/CALIBRATION.md);
    /// given once for each model that has one
    #[arg(help_heading = "Quantization", long, value_name = "STATS.safetensors")]
    calibration: Vec<PathBuf>,
    /// Do not transform long kernels
    #[arg(help_heading = "Quantization", long)]
    no_transform: bool,
    /// Do not let columns make up for each other's errors
    #[arg(help_heading = "Quantization", long)]
    no_feedback: bool,
    /// What a bit is worth to the trellis, in squared half steps
    #[arg(help_heading = "Quantization", long, value_name = "L", value_parser = parse_lambda)]
    lambda: Option<f32>,
    /// Most lanes of a chunk, 16, 64 or 256: more decode faster on GPUs if the model is small, for a few more bytes
    #[arg(help_heading = "Quantization", long, value_name = "N", default_value_t = LANES, value_parser = parse_lanes)]
    lanes: usize,
    /// Write a delta: only what differs from this archive, which decoding then needs too
    #[arg(help_heading = "Prediction", long, value_name = "BASE.mcwc")]
    base: Option<PathBuf>,
    /// The model that the base was made of: with it only what changed is coded, and not what the base errs by. A file
    /// or a directory; may be given several times
    #[arg(help_heading = "Prediction", long, value_name = "MODEL", requires = "base")]
    base_weights: Vec<PathBuf>,
    /// Free: hidden units, heads and channels may come back in another order, in which they resemble those of earlier layers;
    /// the model computes the same
    #[arg(help_heading = "Prediction", long, value_enum, default_value_t = UnitOrder::Original)]
    unit_order: UnitOrder,
    /// Every how many frames of a chain of predictions one is a key frame: a frame needs those before it in its chain
    #[arg(help_heading = "Prediction", long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=16))]
    key_interval: u8,
    /// Predict no tensor from an earlier one
    #[arg(help_heading = "Prediction", long)]
    no_prediction: bool,
    /// Do not match units with those of the base or of earlier layers
    #[arg(help_heading = "Prediction", long)]
    no_alignment: bool,
    /// Code all symbols as equally likely, to see what the entropy model is worth
    #[arg(long, hide = true)]
    no_entropy_model: bool,
    /// Keep tensors whose names match exact, with or without the name of their file before; may be given several times
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<Glob>,
    /// Accept safetensors files with bytes between or after their tensors, and keep those exact
    #[arg(long)]
    lenient: bool,
    /// Print progress to standard error as lines of JSON, for programs
    #[arg(long)]
    progress_lines: bool,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Quantizer {
    Trellis,
    Uniform,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum UnitOrder {
    Original,
    Free,
}

fn parse_bits(text: &str) -> std::result::Result<f64, String> {
    let bits: f64 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    if (0.1..=16.0).contains(&bits) { Ok(bits) } else { Err("between 0.1 and 16, please".into()) }
}

fn parse_quality(text: &str) -> std::result::Result<f64, String> {
    let bound: f64 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    if bound > 0.0 && bound < 1.0 { Ok(bound) } else { Err("between 0 and 1, please".into()) }
}

fn parse_lanes(text: &str) -> std::result::Result<usize, String> {
    match text {
        "16" => Ok(16),
        "64" => Ok(64),
        "256" => Ok(256),
        _ => Err("it is 16, 64 or 256".into()),
    }
}

fn parse_lambda(text: &str) -> std::result::Result<f32, String> {
    let lambda: f32 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    if (0.0..=2.0).contains(&lambda) { Ok(lambda) } else { Err("between 0 and 2, please".into()) }
}

pub fn run(arguments: &Arguments, json: bool) -> Result<Printed> {
    check_passes(&arguments.progressive)?;
    let sources = Sources::default();
    let inputs = collect(&arguments.inputs, &sources)?;
    let base_inputs = collect(&arguments.base_weights, &sources)?;
    let output = arguments.output.clone().map_or_else(|| default_output(&arguments.inputs[0]), Ok)?;
    let others = arguments.calibration.iter().chain(&arguments.base);
    let read: Vec<&Path> =
        inputs.iter().chain(&base_inputs).map(|(_, path, _)| path).chain(others).map(AsRef::as_ref).collect();
    let destination = Destination::new(&output, arguments.force, &read)?;
    let statistics =
        arguments.calibration.iter().map(|path| read_statistics(path, &sources)).collect::<Result<Vec<_>>>()?;
    let (files, base_files) = (source_files(&inputs), source_files(&base_inputs));
    let excluded = globs(&arguments.exclude)?;
    let target = target(arguments);
    let bar = progress_bar(1000, json || arguments.progress_lines, "{prefix:<22} {bar:40} {percent:>3} %  {wide_msg}");
    let lines = ProgressLines::default();
    let progress = |progress: Progress| {
        if arguments.progress_lines {
            lines.print(&progress);
        }
        bar.set_prefix(progress.stage);
        bar.set_message(progress.tensor.map(printable).unwrap_or_default().into_owned());
        bar.set_position((1000.0 * progress.done) as u64);
    };
    let base_source = arguments.base.as_deref().map(|path| sources.open(path)).transpose()?;
    let base = base_source.as_deref().map(|source| Reader::open(source, &Limits::default())).transpose()?;
    base.as_ref().map_or(Ok(()), |base| base.archive().require_base())?;
    let trellis = arguments.quantizer == Quantizer::Trellis;
    let folder = destination.scratch_folder();
    let options = Options {
        target,
        trellis,
        lambda: arguments.lambda.unwrap_or(LAMBDA),
        lanes: arguments.lanes,
        transform: !arguments.no_transform,
        feedback: !arguments.no_feedback,
        base: base.as_ref(),
        base_weights: (!base_files.is_empty()).then_some(&base_files),
        prediction: !arguments.no_prediction,
        alignment: !arguments.no_alignment,
        adaptive: arguments.adaptive,
        entropy_model: !arguments.no_entropy_model,
        passes: &arguments.progressive,
        unit_order_free: arguments.unit_order == UnitOrder::Free,
        key_interval: arguments.key_interval.into(),
        keep_exact: &|name| excluded.is_match(name),
        lenient: arguments.lenient,
        scratch: Some(&folder),
        progress: &progress,
    };
    let mut report = Report::default();
    destination.write(|out| {
        report = encode(&files, statistics, &options, out)?;
        sources.check_unchanged()
    })?;
    bar.finish_and_clear();
    let text = if json { json_text(&report)? } else { report_text(&report, &output) };
    Ok(destination.printed(text))
}

fn check_passes(rates: &[f64]) -> Result<()> {
    if !rates.is_sorted_by(|a, b| a < b) || rates.len() == 1 {
        return Err(Error::argument("--progressive takes two rates or more, each above the one before"));
    }
    Ok(())
}

fn target(arguments: &Arguments) -> Target {
    let bits = arguments.progressive.last().copied().or(arguments.bits);
    match (arguments.size, arguments.quality, bits, arguments.lossless) {
        (Some(bytes), ..) => Target::Size(bytes),
        (_, Some(bound), ..) => Target::Quality(bound),
        (_, _, Some(bits), _) => Target::Bits(bits),
        (.., true) => Target::Lossless,
        _ => Target::Preset(arguments.preset.unwrap_or(Preset::High)),
    }
}

/// Beside the input, whose name it keeps: `model.onnx` and `model.gguf` do not meet.
fn default_output(input: &Path) -> Result<PathBuf> {
    // "." and ".." have names of their own elsewhere.
    let named = if input.file_name().is_some() { input.to_owned() } else { absolute(input) };
    let name =
        named.file_name().ok_or_else(|| Error::argument(format!("{}: -o has to name the archive", input.display())))?;
    let mut name = name.to_owned();
    name.push(".mcwc");
    Ok(named.with_file_name(name))
}

fn read_statistics(path: &Path, sources: &Sources) -> Result<Statistics> {
    Statistics::parse(&path.display().to_string(), &*sources.open(path)?)
}

type Input = (String, PathBuf, Box<dyn Source>);

fn source_files(inputs: &[Input]) -> Vec<SourceFile<'_>> {
    inputs.iter().map(|(name, _, source)| SourceFile { name: name.clone(), source: &**source }).collect()
}

/// All files: the given ones, those in given directories, and the companions they refer to, by name in the archive.
fn collect(paths: &[PathBuf], sources: &Sources) -> Result<Vec<Input>> {
    let mut inputs: Vec<Input> = Vec::new();
    let mut pending = Vec::new();
    for path in paths {
        if path.is_dir() {
            pending.extend(files_in(path, "", &mut Vec::new())?);
        } else {
            pending.push((file_name(path)?, path.clone()));
        }
    }
    pending.reverse();
    while let Some((name, path)) = pending.pop() {
        if let Some((_, earlier, _)) = inputs.iter().find(|(other, ..)| *other == name) {
            if absolute(earlier) == absolute(&path) {
                continue;
            }
            return Err(Error::argument(format!("two inputs would be named {name:?} in the archive")));
        }
        let source = sources.open(&path)?;
        let folder = name.rfind('/').map_or("", |slash| &name[..=slash]);
        for companion in formats::companions(&name, &*source)?.into_iter().rev() {
            pending.push((format!("{folder}{companion}"), path.with_file_name(&companion)));
        }
        inputs.push((name, path, source));
    }
    Ok(inputs)
}

/// The files of a folder. `within` are the folders around it: links may lead in circles.
fn files_in(folder: &Path, prefix: &str, within: &mut Vec<PathBuf>) -> Result<Vec<(String, PathBuf)>> {
    let real = absolute(folder);
    if within.contains(&real) {
        return Err(Error::argument(format!("{}: leads back to {}", folder.display(), real.display())));
    }
    within.push(real);
    let entries = std::fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let mut paths: Vec<PathBuf> = entries.map_err(io_error(folder))?.iter().map(std::fs::DirEntry::path).collect();
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        let name = format!("{prefix}{}", file_name(&path)?);
        let metadata = std::fs::metadata(&path).map_err(io_error(&path))?;
        if metadata.is_dir() {
            files.extend(files_in(&path, &format!("{name}/"), within)?);
        } else if metadata.is_file() {
            files.push((name, path));
        } else {
            return Err(Error::argument(format!(
                "{}: neither a file nor a folder, so it cannot travel",
                path.display()
            )));
        }
    }
    within.pop();
    Ok(files)
}

fn globs(patterns: &[Glob]) -> Result<GlobSet> {
    let mut builder = GlobSetBuilder::new();
    for pattern in patterns {
        builder.add(pattern.clone());
    }
    builder.build().map_err(|error| Error::argument(error.to_string()))
}
