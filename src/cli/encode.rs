//! `mcwc encode`

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use glob::Pattern;

use super::{
    absolute, file_name, human_bytes, io_error, json_text, parse_bytes, progress_bar, read, table, write_whole,
};
use crate::decode::Reader;
use crate::encode::importance::statistics::Statistics;
use crate::encode::report::{Report, TensorReport};
use crate::encode::{LAMBDA, Options, Target, encode};
use crate::error::{Error, Result};
use crate::formats::{self, SourceFile};
use crate::tensor::Limits;

/// Compress model files into one archive
///
/// Finds the tensors in safetensors, ONNX, TensorFlow.js, GGUF and PyTorch files (shards and external data come along by
/// themselves), codes matrices and convolutions of floats at the given rate, and everything else exactly, quantized
/// weights included. Any other file travels exactly.
#[derive(clap::Args)]
pub struct Arguments {
    /// Model files, and any others that should travel with them; a directory stands for all files in it
    #[arg(required = true)]
    inputs: Vec<PathBuf>,
    /// The archive to write [default: the first input, ending in .mcwc]
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Bits for each weight of a matrix or convolution [default: 6]
    #[arg(help_heading = "Rate", long, value_name = "B", group = "target", value_parser = parse_bits)]
    bits: Option<f64>,
    /// Largest size of the whole archive, such as 12MB
    #[arg(help_heading = "Rate", long, value_parser = parse_bytes, group = "target")]
    size: Option<u64>,
    /// Largest error: of the model's outputs with --calibration, else of the weights (mean relative squared error), such as 0.01
    #[arg(help_heading = "Rate", long, value_name = "D", group = "target", value_parser = parse_quality)]
    quality: Option<f64>,
    /// A quality, so that neither bits nor errors need be known
    #[arg(help_heading = "Rate", long, value_enum, group = "target")]
    preset: Option<Preset>,
    /// Keep every byte exact
    #[arg(help_heading = "Rate", long, group = "target")]
    lossless: bool,
    /// Layers, coarse to fine, such as 2.5,4: the model can be used at the first rate while the rest still comes
    #[arg(help_heading = "Rate", long, value_name = "B,B", group = "target", value_delimiter = ',', num_args = 1.., value_parser = parse_bits)]
    progressive: Vec<f64>,
    /// How weights become levels: the trellis saves about 4 % of the bits, uniform levels decode about a fifth faster
    #[arg(help_heading = "Quantization", long, value_enum, default_value_t = Quantizer::Trellis)]
    quantizer: Quantizer,
    /// What each weight matters for, made by `npx mcwc calibrate` or the PyTorch script
    #[arg(help_heading = "Quantization", long, value_name = "STATS.safetensors")]
    calibration: Option<PathBuf>,
    /// Do not transform long kernels
    #[arg(help_heading = "Quantization", long)]
    no_transform: bool,
    /// Do not let columns make up for each other's errors
    #[arg(help_heading = "Quantization", long)]
    no_feedback: bool,
    /// What a bit is worth to the trellis, in squared half steps
    #[arg(help_heading = "Quantization", long, value_name = "L", value_parser = parse_lambda)]
    lambda: Option<f32>,
    /// Write a delta: only what differs from this archive, which decoding then needs too
    #[arg(help_heading = "Prediction", long, value_name = "BASE.mcwc")]
    base: Option<PathBuf>,
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
    /// Keep tensors whose names match exact; may be given several times
    #[arg(long, value_name = "GLOB")]
    exclude: Vec<Pattern>,
}

/// Bounds as for `--quality`. Uncalibrated they come to about 8, 6, 5 and 4 bits for each weight.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Preset {
    /// Hardly to be told from the original
    NearLossless,
    /// For models whose outputs are compared or added up
    High,
    /// For most models
    Balanced,
    /// The smallest that is worth trying
    Small,
}

impl Preset {
    fn quality(self, calibrated: bool) -> f64 {
        let [of_outputs, of_weights] = match self {
            Preset::NearLossless => [2e-4, 1.7e-5],
            Preset::High => [2e-3, 2.6e-4],
            Preset::Balanced => [1e-2, 1.05e-3],
            Preset::Small => [4e-2, 4.2e-3],
        };
        if calibrated { of_outputs } else { of_weights }
    }
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

const DEFAULT_BITS: f64 = 6.0;

fn parse_bits(text: &str) -> std::result::Result<f64, String> {
    let bits: f64 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    if (0.1..=16.0).contains(&bits) { Ok(bits) } else { Err("between 0.1 and 16, please".into()) }
}

fn parse_quality(text: &str) -> std::result::Result<f64, String> {
    let bound: f64 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    if bound > 0.0 && bound < 1.0 { Ok(bound) } else { Err("between 0 and 1, please".into()) }
}

fn parse_lambda(text: &str) -> std::result::Result<f32, String> {
    let lambda: f32 = text.parse().map_err(|_| format!("{text:?} is not a number"))?;
    if (0.0..=2.0).contains(&lambda) { Ok(lambda) } else { Err("between 0 and 2, please".into()) }
}

pub fn run(arguments: &Arguments, json: bool) -> Result<String> {
    // Before the inputs, as its bytes are gone once it is parsed.
    let statistics = arguments.calibration.as_deref().map(read_statistics).transpose()?;
    let inputs = collect(&arguments.inputs)?;
    let output = arguments.output.clone().unwrap_or_else(|| arguments.inputs[0].with_extension("mcwc"));
    if inputs.iter().any(|(_, path, _)| absolute(path) == absolute(&output)) {
        return Err(Error::argument(format!("{}: is an input too", output.display())));
    }
    let files: Vec<SourceFile> =
        inputs.iter().map(|(name, _, bytes)| SourceFile { name: name.clone(), bytes }).collect();
    let preset = arguments.preset.map(|preset| preset.quality(arguments.calibration.is_some()));
    let target = match (arguments.size, arguments.quality.or(preset), arguments.lossless) {
        (Some(bytes), ..) => Target::Size(bytes),
        (_, Some(bound), _) => Target::Quality(bound),
        (_, _, true) => Target::Lossless,
        _ => Target::Bits(arguments.progressive.last().copied().or(arguments.bits).unwrap_or(DEFAULT_BITS)),
    };
    let bar = progress_bar(1000, json, "{msg:<22} {bar:40} {percent:>3} %");
    let progress = |stage: &'static str, part: f64| {
        bar.set_message(stage);
        bar.set_position((1000.0 * part) as u64);
    };
    if !arguments.progressive.is_sorted_by(|a, b| a < b) || arguments.progressive.len() == 1 {
        return Err(Error::argument("--progressive takes two rates or more, each above the one before"));
    }
    let base_bytes = arguments.base.as_deref().map(read).transpose()?;
    let base = base_bytes.as_deref().map(|bytes| Reader::open(bytes, &Limits::default())).transpose()?;
    base.as_ref().map_or(Ok(()), |base| base.archive().require_base())?;
    let trellis = arguments.quantizer == Quantizer::Trellis;
    let options = Options {
        target,
        trellis,
        lambda: arguments.lambda.unwrap_or(LAMBDA),
        transform: !arguments.no_transform,
        feedback: !arguments.no_feedback,
        base: base.as_ref(),
        prediction: !arguments.no_prediction,
        alignment: !arguments.no_alignment,
        entropy_model: !arguments.no_entropy_model,
        layers: &arguments.progressive,
        unit_order_free: arguments.unit_order == UnitOrder::Free,
        key_interval: arguments.key_interval.into(),
        keep_exact: &|name| arguments.exclude.iter().any(|pattern| pattern.matches(name)),
        progress: &progress,
    };
    let (archive, report) = encode(&files, statistics, &options)?;
    bar.finish_and_clear();
    write_whole(&output, |out| out.write_all(&archive).map_err(io_error(&output)))?;
    if json {
        return json_text(&report);
    }
    Ok(report_text(&report, &output))
}

fn read_statistics(path: &Path) -> Result<Statistics> {
    Statistics::parse(&path.display().to_string(), &read(path)?)
}

type Input = (String, PathBuf, Vec<u8>);

/// All files: the given ones, those in given directories, and the companions they refer to, by name in the archive.
fn collect(paths: &[PathBuf]) -> Result<Vec<Input>> {
    let mut inputs: Vec<Input> = Vec::new();
    let mut pending = Vec::new();
    for path in paths {
        if path.is_dir() {
            pending.extend(files_in(path, "")?);
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
        let bytes = read(&path)?;
        let folder = name.rfind('/').map_or("", |slash| &name[..=slash]);
        for companion in formats::companions(&name, &bytes)?.into_iter().rev() {
            pending.push((format!("{folder}{companion}"), path.with_file_name(&companion)));
        }
        inputs.push((name, path, bytes));
    }
    Ok(inputs)
}

fn files_in(directory: &Path, prefix: &str) -> Result<Vec<(String, PathBuf)>> {
    let entries = std::fs::read_dir(directory).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let mut paths: Vec<PathBuf> = entries.map_err(io_error(directory))?.iter().map(std::fs::DirEntry::path).collect();
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        let name = format!("{prefix}{}", file_name(&path)?);
        if path.is_dir() {
            files.extend(files_in(&path, &format!("{name}/"))?);
        } else {
            files.push((name, path));
        }
    }
    Ok(files)
}

fn report_text(report: &Report, output: &Path) -> String {
    let mut kinds: BTreeMap<(bool, _), Vec<&TensorReport>> = BTreeMap::new();
    for tensor in &report.tensors {
        kinds.entry((!tensor.lossy, tensor.kind)).or_default().push(tensor);
    }
    let mut rows: Vec<Vec<String>> =
        kinds.iter().map(|((exact, kind), tensors)| row(kind.name(), !exact, tensors)).collect();
    let framed: u64 = report.tensors.iter().map(|tensor| tensor.original_bytes).sum();
    let coded: u64 = report.tensors.iter().map(|tensor| tensor.coded_bytes).sum();
    let shared = "other bytes".to_string();
    let raw_original = report.original_bytes.saturating_sub(framed);
    let head = report.archive_bytes.saturating_sub(coded + report.raw_bytes);
    rows.push(vec![
        shared,
        String::new(),
        human_bytes(raw_original),
        human_bytes(report.raw_bytes),
        String::new(),
        ratio(raw_original, report.raw_bytes),
        "exact".into(),
    ]);
    rows.push(vec![
        "header".into(),
        String::new(),
        String::new(),
        human_bytes(head),
        String::new(),
        String::new(),
        String::new(),
    ]);
    let mut text =
        table::text(&["kind", "weights", "original", "coded", "bits/weight", "ratio", "error (NMSE)"], &rows, 1);
    text += &format!(
        "\n{}: {} -> {}, {} times smaller\n",
        output.display(),
        human_bytes(report.original_bytes),
        human_bytes(report.archive_bytes),
        ratio(report.original_bytes, report.archive_bytes)
    );
    let weights = report.coded_weights();
    if weights > 0 {
        let bits = 8.0 * report.archive_bytes as f64 / weights as f64;
        text += &format!("{bits:.3} bits for each of the {weights} weights coded with loss, everything included\n");
        text += &if report.calibrated {
            format!("expected error of the outputs: {:.1e}\n", report.distortion)
        } else {
            "Bits were spent evenly, a few more on small tensors. Calibration (npx mcwc calibrate) tells where they matter: the same quality in fewer.\n".into()
        };
    }
    for (layer, &bytes) in report.layer_bytes.iter().enumerate() {
        text += &format!("layer {layer} can be used after {}\n", human_bytes(bytes));
    }
    report.notes.iter().for_each(|note| text += &format!("{note}\n"));
    text
}

fn row(name: &str, lossy: bool, tensors: &[&TensorReport]) -> Vec<String> {
    let sum = |field: fn(&TensorReport) -> u64| tensors.iter().map(|tensor| field(tensor)).sum::<u64>();
    let (weights, original) = (sum(|tensor| tensor.weights), sum(|tensor| tensor.original_bytes));
    let coded = sum(|tensor| tensor.coded_bytes);
    let energy: f64 = tensors.iter().map(|tensor| tensor.energy).sum();
    let squared_error: f64 = tensors.iter().map(|tensor| tensor.squared_error).sum();
    vec![
        name.to_string(),
        weights.to_string(),
        human_bytes(original),
        human_bytes(coded),
        format!("{:.3}", 8.0 * coded as f64 / weights.max(1) as f64),
        ratio(original, coded),
        if lossy { format!("{:.2e}", squared_error / energy.max(f64::MIN_POSITIVE)) } else { "exact".into() },
    ]
}

fn ratio(original: u64, coded: u64) -> String {
    if coded == 0 { "—".into() } else { format!("{:.2}", original as f64 / coded as f64) }
}
