//! `mcwc inspect` and `mcwc verify`: an archive's header -> what its frames are, and what prediction saves them.
//!
//! [`Inspection`] is what the table, the JSON and the picture of [`film`] all show. Only predicted frames are decoded.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Value, json};

use super::{BaseArgument, film, human_bytes, io_error, json_text, progress_bar, table, write_whole};
use crate::container::{Archive, Coding, Frame, Levels, Side, Tensor};
use crate::decode::Reader;
use crate::encode::levels::frame::exact;
use crate::encode::levels::matrix::Matrix;
use crate::encode::search::key_rate::{KeyFrame, key_bits};
use crate::error::Result;
use crate::format::GAIN_ONE;
use crate::source::FileSource;
use crate::stages::predict::prediction;

/// Show what an archive holds: its files, its tensors, and how each of their frames is coded
#[derive(clap::Args)]
pub struct Arguments {
    /// The archive
    input: PathBuf,
    #[command(flatten)]
    base: BaseArgument,
    /// Draw the sequence of frames into a page of its own
    #[arg(long, value_name = "REPORT.html")]
    html: Option<PathBuf>,
}

/// Check every hash of an archive, and that every chunk decodes
#[derive(clap::Args)]
pub struct VerifyArguments {
    /// The archive
    input: PathBuf,
    #[command(flatten)]
    base: BaseArgument,
}

/// What an archive holds.
pub struct Inspection<'a> {
    /// Its header.
    pub archive: &'a Archive,
    /// Its frames in the order of the tensors.
    pub frames: Vec<FrameReport>,
}

/// One frame.
#[derive(Serialize)]
pub struct FrameReport {
    /// Its place in the archive.
    pub frame: usize,
    /// The tensors whose frame it is.
    pub tensors: Vec<String>,
    /// Which of its tensor's frames it is, coarse to fine.
    pub layer: usize,
    pub mode: Mode,
    pub coding: &'static str,
    pub reference: Option<Reference>,
    pub gain: Option<Gain>,
    pub elements: u64,
    /// Bytes of its chunks.
    pub bytes: u64,
    /// Bits for each element.
    pub bits: f64,
    /// About the bits for each element that it would take without a prediction.
    pub key_bits: Option<f64>,
    /// Energy of the residuals over that of the levels.
    pub residual_energy: Option<f64>,
    pub scale: Option<f32>,
}

/// What a frame is to its tensor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Key,
    Predicted,
    Refinement,
}

/// What a frame is predicted from.
#[derive(Serialize)]
pub struct Reference {
    /// Whether it lies in the base.
    pub base: bool,
    /// Its place in its archive.
    pub frame: usize,
    /// The first tensor whose frame it is; unknown without the base.
    pub tensor: Option<String>,
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.tensor, self.base) {
            (Some(tensor), true) => write!(f, "base: {tensor}"),
            (Some(tensor), false) => write!(f, "{tensor}"),
            (None, true) => write!(f, "base: frame {}", self.frame),
            (None, false) => write!(f, "frame {}", self.frame),
        }
    }
}

/// The factor of a prediction.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Gain {
    All(f64),
    Rows(&'static str),
}

impl std::fmt::Display for Gain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Gain::All(gain) => write!(f, "{gain:.3}"),
            Gain::Rows(text) => write!(f, "{text}"),
        }
    }
}

impl FrameReport {
    /// The word that tables show.
    pub fn word(&self) -> &'static str {
        match (self.mode, self.coding) {
            (Mode::Refinement, _) => "refinement",
            (Mode::Key, "planes") => "exact",
            (Mode::Predicted, "planes") => "exact delta",
            (Mode::Key, "integers") => "integers",
            (Mode::Predicted, "integers") => "integer delta",
            (Mode::Key, _) => "key",
            (Mode::Predicted, _) => "predicted",
        }
    }

    /// Whether it codes weights with loss.
    pub fn is_lossy(&self) -> bool {
        self.coding == "levels"
    }
}

pub fn run(arguments: &Arguments, json: bool) -> Result<String> {
    arguments.base.open(&arguments.input, |reader, base| {
        let inspection = inspect(reader, base, json)?;
        let mut text = if json { json_text(&describe(&inspection))? } else { String::new() };
        if let Some(path) = &arguments.html {
            let name = arguments.input.file_name().unwrap_or_default().to_string_lossy();
            let html = film::html(&inspection, &name);
            write_whole(path, |out| out.write_all(html.as_bytes()).map_err(io_error(path)))?;
            if !json {
                text = format!("{}  {}\n", path.display(), human_bytes(html.len() as u64));
            }
        } else if !json {
            text = tables(&inspection, &arguments.input.display().to_string());
        }
        Ok(text)
    })
}

/// Reads the header, and decodes predicted frames to see what they would take without a prediction.
fn inspect<'a>(reader: &'a Reader<FileSource>, base: Option<&Archive>, json: bool) -> Result<Inspection<'a>> {
    let archive = reader.archive();
    let mut frames: Vec<FrameReport> = Vec::new();
    let mut places = HashMap::new();
    for tensor in &archive.tensors {
        for (layer, &index) in tensor.frames.iter().enumerate() {
            let place = *places.entry(index).or_insert(frames.len());
            if place == frames.len() {
                frames.push(report(archive, base, tensor, layer));
            }
            frames[place].tensors.push(tensor.name.clone());
        }
    }
    let is_here = |&reference: &usize| reference < archive.frames.len();
    let decodable = |place: &usize| archive.references(frames[*place].frame).last().is_some_and(is_here);
    let predicted: Vec<usize> = (0..frames.len()).filter(decodable).collect();
    let bar = progress_bar(predicted.len() as u64, json, "reading {bar:40} {pos:>5} of {len} predicted frames");
    let without: Vec<Without> = predicted
        .par_iter()
        .map(|&place| {
            let without = without_prediction(reader, &frames[place]);
            bar.inc(1);
            without
        })
        .collect::<Result<_>>()?;
    bar.finish_and_clear();
    let keys: Vec<&KeyFrame> = without.iter().filter_map(|without| without.key.as_ref()).collect();
    let mut bits = key_bits(&keys).into_iter();
    for (place, without) in predicted.into_iter().zip(&without) {
        let report = &mut frames[place];
        let bits = without.bits.or_else(|| without.key.as_ref().and_then(|_| bits.next()));
        report.residual_energy = without.residual_energy;
        report.key_bits = bits.filter(|_| report.mode == Mode::Predicted).map(|bits| bits / report.elements as f64);
    }
    Ok(Inspection { archive, frames })
}

/// What the header tells about a frame.
fn report(archive: &Archive, base: Option<&Archive>, tensor: &Tensor, layer: usize) -> FrameReport {
    let index = tensor.frames[layer];
    let frame = &archive.frames[index];
    let (coding, scale, gain) = match &frame.coding {
        Coding::Planes(_) => ("planes", None, None),
        Coding::Levels(levels) => {
            let gain = if levels.has(Side::RowGain) {
                Gain::Rows("per row")
            } else {
                Gain::All(f64::from(levels.gain) / f64::from(GAIN_ONE))
            };
            (if levels.scale.is_some() { "levels" } else { "integers" }, levels.scale, Some(gain))
        }
    };
    let reference = frame.reference.map(|reference| {
        let in_base = reference >= archive.frame_count;
        let frame = if in_base { reference - archive.frame_count } else { reference };
        let owner = if in_base { base } else { Some(archive) };
        let named = |owner: &Archive| {
            let tensor = owner.tensors.iter().find(|tensor| tensor.frames.contains(&frame));
            tensor.map(|tensor| tensor.name.clone())
        };
        Reference { base: in_base, frame, tensor: owner.and_then(named) }
    });
    let mode = match (layer, &reference) {
        (0, None) => Mode::Key,
        (0, Some(_)) => Mode::Predicted,
        _ => Mode::Refinement,
    };
    let elements = tensor.shape.element_len().unwrap_or(0).max(1);
    let bytes = coded_bytes(archive, frame);
    FrameReport {
        frame: index,
        tensors: Vec::new(),
        layer,
        mode,
        coding,
        gain: gain.filter(|_| reference.is_some()),
        reference,
        elements,
        bytes,
        bits: 8.0 * bytes as f64 / elements as f64,
        key_bits: None,
        residual_energy: None,
        scale,
    }
}

/// What a predicted frame would be without its prediction.
#[derive(Default)]
struct Without {
    key: Option<KeyFrame>,
    /// Of planes: the bits of a key frame.
    bits: Option<f64>,
    residual_energy: Option<f64>,
}

fn without_prediction(reader: &Reader<FileSource>, report: &FrameReport) -> Result<Without> {
    let archive = reader.archive();
    let frame = &archive.frames[report.frame];
    match &frame.coding {
        Coding::Planes(fields) if report.mode == Mode::Predicted => {
            let elementwise = fields.iter().all(|&field| field == 1);
            let record: Vec<u16> =
                if elementwise { Vec::new() } else { fields.iter().map(|&field| field as u16).collect() };
            let key = exact(&reader.tensor(&report.tensors[0])?, frame.dtype, &record, None);
            Ok(Without { bits: Some(8.0 * key.bytes() as f64), ..Without::default() })
        }
        Coding::Planes(_) => Ok(Without::default()),
        Coding::Levels(levels) => {
            let (decoder, decoded) = reader.levels(report.frame)?;
            let side = decoder.levels().map(|decoder| decoder.side());
            let row_gain = side.map_or(&[][..], |side| &side.row_gain);
            let reference = frame.reference.map(|reference| reader.levels(reference)).transpose()?;
            let reference = reference.map_or(Vec::new(), |(_, levels)| levels);
            let key = (report.mode == Mode::Predicted).then(|| {
                let exponents = [Side::RowExponent, Side::ColumnExponent, Side::TapExponent];
                let array = |which: Side| side.map_or(Vec::new(), |side| side.arrays[which as usize].clone());
                let Levels { rows, columns, taps, .. } = *levels;
                let follows_trellis =
                    |index: usize| matches!(&archive.frames[index].coding, Coding::Levels(levels) if levels.trellis);
                // What a trellis found once stays on its path, but for the changes.
                let trellis = levels.trellis || archive.references(report.frame).into_iter().any(follows_trellis);
                KeyFrame::new(Matrix { rows, columns, taps }, &exponents.map(array), trellis, &decoded)
            });
            let residual_energy = Some(residual_energy(levels, row_gain, &decoded, &reference));
            Ok(Without { key, residual_energy, ..Without::default() })
        }
    }
}

/// Energy of the residuals over that of the levels; 0 if there is none.
fn residual_energy(levels: &Levels, row_gain: &[i16], decoded: &[i32], reference: &[i32]) -> f64 {
    let row_len = levels.row_len().max(1);
    let square = |level: i32| f64::from(level) * f64::from(level);
    let mut sums = (0.0, 0.0);
    for (row, decoded) in decoded.chunks(row_len).enumerate() {
        let gain = row_gain.get(row).map_or(levels.gain, |&gain| gain.into());
        let reference = reference.get(row * row_len..).unwrap_or_default().iter().copied();
        for (&level, reference) in decoded.iter().zip(reference.chain(std::iter::repeat(0))) {
            sums.0 += square(level - prediction(reference, gain));
            sums.1 += square(level);
        }
    }
    if sums.1 > 0.0 { sums.0 / sums.1 } else { 0.0 }
}

fn coded_bytes(archive: &Archive, frame: &Frame) -> u64 {
    let first = frame.side_chunk.unwrap_or(frame.first_chunk);
    let chunks = &archive.chunks[first..frame.first_chunk + frame.chunk_count];
    chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum()
}

fn describe(inspection: &Inspection) -> Value {
    let Inspection { archive, frames } = inspection;
    let files: Vec<Value> = archive
        .files
        .iter()
        .map(|file| json!({ "name": file.name, "bytes": file.bytes, "raw_bytes": file.raw_bytes }))
        .collect();
    let by_index: HashMap<usize, &FrameReport> = frames.iter().map(|report| (report.frame, report)).collect();
    let tensors: Vec<Value> = archive
        .tensors
        .iter()
        .map(|tensor| {
            let reports: Vec<&FrameReport> =
                tensor.frames.iter().filter_map(|frame| by_index.get(frame).copied()).collect();
            let last = reports.last();
            json!({
                "name": tensor.name,
                "dtype": tensor.dtype.name(),
                "shape": tensor.shape.0,
                "file": archive.files[tensor.file].name,
                "offset": tensor.offset,
                "bytes": tensor.bytes,
                "coding": last.map_or("raw", |report| coding(report)),
                "coded_bytes": last.map(|_| reports.iter().map(|report| report.bytes).sum::<u64>()),
                "scale": last.and_then(|report| report.scale),
                "frame": last.map(|report| report.frame),
            })
        })
        .collect();
    json!({
        "bytes": archive.bytes(),
        "head_bytes": archive.head_bytes,
        "integrity": archive.integrity.to_string(),
        "base": archive.base.map(|base| base.to_string()),
        "chunks": archive.chunk_count,
        "tables": archive.tables.len(),
        "metadata": archive.metadata.iter().cloned().collect::<BTreeMap<_, _>>(),
        "files": files,
        "tensors": tensors,
        "frames": frames,
    })
}

/// How a tensor is coded, judged by its last frame.
fn coding(report: &FrameReport) -> &'static str {
    match (report.coding, report.mode) {
        ("planes", Mode::Key) => "exact planes",
        ("planes", _) => "predicted planes",
        ("integers", _) => "exact levels",
        (_, Mode::Key) => "key levels",
        _ => "predicted levels",
    }
}

/// Columns that a table of tensors may take.
const TABLE_WIDTH: usize = 120;
const NAME_WIDTH_MIN: usize = 24;
const REFERENCE_WIDTH: usize = 22;

fn tables(inspection: &Inspection, path: &str) -> String {
    let Inspection { archive, frames } = inspection;
    let mut text = format!(
        "{path}  {}, {} chunks\nintegrity  {}\n",
        human_bytes(archive.bytes()),
        archive.chunk_count,
        archive.integrity
    );
    archive.base.iter().for_each(|base| text += &format!("base       {base}\n"));
    archive.metadata.iter().for_each(|(name, value)| text += &format!("{name}  {value}\n"));
    let files: Vec<Vec<String>> = archive
        .files
        .iter()
        .map(|file| vec![file.name.clone(), human_bytes(file.bytes), human_bytes(file.raw_bytes)])
        .collect();
    text += "\n";
    text += &table::text(&["file", "bytes", "outside tensors"], &files, 1);
    text += "\n";
    text += &tensor_table(archive, frames);
    text + &saved_text(archive, frames)
}

fn tensor_table(archive: &Archive, frames: &[FrameReport]) -> String {
    let by_index: HashMap<usize, &FrameReport> = frames.iter().map(|report| (report.frame, report)).collect();
    let mut rows: Vec<Vec<String>> = Vec::new();
    for tensor in &archive.tensors {
        let mut row = vec![tensor.name.clone(), format!("{} {}", tensor.dtype.name(), tensor.shape)];
        if tensor.frames.is_empty() {
            row.push("raw".into());
            rows.push(row);
            continue;
        }
        for report in tensor.frames.iter().filter_map(|frame| by_index.get(frame)) {
            let is_shared = report.tensors.first() != Some(&tensor.name);
            let mut row =
                if report.layer == 0 { row.clone() } else { vec![format!("  layer {}", report.layer), String::new()] };
            if is_shared {
                row.extend(["shared".into(), shortened(&report.tensors[0], &tensor.name)]);
            } else {
                row.extend(frame_cells(report, &tensor.name));
            }
            rows.push(row);
        }
    }
    let header = ["tensor", "shape", "mode", "reference", "gain", "coded", "bits", "as key"];
    // Columns that say nothing are left out.
    let said =
        |column: &usize| *column < 3 || rows.iter().any(|row| row.get(*column).is_some_and(|cell| !cell.is_empty()));
    let columns: Vec<usize> = (0..header.len()).filter(said).collect();
    let header: Vec<&str> = columns.iter().map(|&column| header[column]).collect();
    let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
    let mut rows: Vec<Vec<String>> =
        rows.iter().map(|row| columns.iter().map(|&column| cell(row, column)).collect()).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([header[column].len()]).max().unwrap_or(0) + 2
    };
    let others: usize = (1..header.len()).map(width).sum();
    let name_width = TABLE_WIDTH.saturating_sub(others).max(NAME_WIDTH_MIN);
    rows.iter_mut().for_each(|row| row[0] = elided(&row[0], name_width));
    table::text(&header, &rows, 3 + usize::from(header.contains(&"reference")))
}

/// Mode, reference, gain, size, bits, and bits without prediction.
fn frame_cells(report: &FrameReport, name: &str) -> [String; 6] {
    [
        report.word().into(),
        reference_text(report, name),
        report.gain.as_ref().map_or(String::new(), Gain::to_string),
        human_bytes(report.bytes),
        format!("{:.3}", report.bits),
        report.key_bits.map_or(String::new(), |bits| format!("{bits:.2}")),
    ]
}

/// What a frame of tensor `name` is predicted from, in few words. What a refinement refines goes without saying.
pub fn reference_text(report: &FrameReport, name: &str) -> String {
    let Some(reference) = report.reference.as_ref().filter(|_| report.mode == Mode::Predicted) else {
        return String::new();
    };
    match &reference.tensor {
        Some(tensor) if tensor == name && reference.base => "base".into(),
        Some(tensor) if reference.base => elided(&format!("base: {}", shortened(tensor, name)), REFERENCE_WIDTH),
        Some(tensor) => elided(&shortened(tensor, name), REFERENCE_WIDTH),
        None => reference.to_string(),
    }
}

/// What predicted frames save, or why that is unknown.
fn saved_text(archive: &Archive, frames: &[FrameReport]) -> String {
    let mut text = "\nbits: for each element".to_string();
    if let Some(saved) = Saved::of(frames) {
        text += &format!(
            "; as key: about what it would take without prediction\n{} predicted frames take {}; as key frames they would take about {}",
            saved.frames,
            human_bytes(saved.bytes),
            human_bytes(saved.key_bytes)
        );
    }
    if archive.require_base().is_err() {
        text += "\nA delta: with --base, what its frames would take without prediction is shown too";
    }
    text + "\n"
}

/// What all predicted frames come to whose bits without prediction are known.
pub struct Saved {
    pub frames: usize,
    pub bytes: u64,
    pub key_bytes: u64,
}

impl Saved {
    /// `None` if there are none.
    pub fn of(frames: &[FrameReport]) -> Option<Self> {
        let known = frames.iter().filter_map(|report| Some((report, report.key_bits?)));
        let none = Saved { frames: 0, bytes: 0, key_bytes: 0 };
        let saved = known.fold(none, |sum, (report, bits)| Saved {
            frames: sum.frames + 1,
            bytes: sum.bytes + report.bytes,
            key_bytes: sum.key_bytes + (bits * report.elements as f64 / 8.0) as u64,
        });
        (saved.frames > 0).then_some(saved)
    }
}

/// The parts of `name` in which it differs from `other`.
fn shortened(name: &str, other: &str) -> String {
    let parts: Vec<&str> = name.split_inclusive(['.', '/']).collect();
    let others: Vec<&str> = other.split_inclusive(['.', '/']).collect();
    let same = parts.iter().zip(&others).take_while(|(part, other)| part == other).count();
    let rest = parts.len().min(others.len()) - same;
    let same_end =
        parts.iter().rev().zip(others.iter().rev()).take(rest).take_while(|(part, other)| part == other).count();
    let end = parts.len() - same_end;
    let is_number = |part: &str| part.trim_end_matches(['.', '/']).bytes().all(|byte| byte.is_ascii_digit());
    // A number alone says little.
    let start = if parts.get(same).is_some_and(|part| is_number(part)) { same.saturating_sub(1) } else { same };
    let middle = parts[start..end.max(start)].concat();
    match (start > 0, end < parts.len()) {
        (before, after) if before || after => {
            format!(
                "{}{}{}",
                if before { "…" } else { "" },
                middle.trim_end_matches(['.', '/']),
                if after { "…" } else { "" }
            )
        }
        _ => middle,
    }
}

/// `text` in at most `width` characters, its middle left out.
pub fn elided(text: &str, width: usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= width {
        return text.into();
    }
    let tail = width / 3;
    let head = width.saturating_sub(tail + 1);
    chars[..head].iter().chain(&['…']).chain(&chars[chars.len() - tail..]).collect()
}

pub fn verify(arguments: &VerifyArguments, json: bool) -> Result<String> {
    arguments.base.open(&arguments.input, |reader, _| check_chunks(reader, json))
}

fn check_chunks(reader: &Reader<FileSource>, json: bool) -> Result<String> {
    reader.archive().require_base()?;
    let archive = reader.archive();
    let bar = progress_bar(archive.chunks.len() as u64, json, "checking {bar:40} {pos:>7} of {len} chunks");
    for index in 0..archive.chunks.len() {
        reader.payload(index)?;
        bar.inc(1);
    }
    let total = archive.files.iter().map(|file| file.bytes).sum();
    bar.set_length(total);
    bar.set_position(0);
    bar.set_style(bar.style().template("decoding {bar:40} {bytes:>10} of {total_bytes}").unwrap_or(bar.style()));
    for index in 0..archive.files.len() {
        reader.write_file(index, &mut std::io::sink(), &mut |bytes| bar.inc(bytes))?;
    }
    bar.finish_and_clear();
    if json {
        return json_text(
            &json!({ "chunks": archive.chunks.len(), "bytes": total, "integrity": archive.integrity.to_string() }),
        );
    }
    Ok(format!("{} chunks are intact and decode to {}\n", archive.chunks.len(), human_bytes(total)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_named_by_what_differs() {
        let name = "encoder.layer.6.attention.self.query.weight";
        for (reference, expected) in [
            ("encoder.layer.0.attention.self.query.weight", "…layer.0…"),
            ("encoder.layer.6.attention.self.key.weight", "…key…"),
            ("encoder.layer.6.attention.self.query.bias", "…bias"),
            ("decoder.weight", "decoder…"),
            ("other", "other"),
        ] {
            assert_eq!(shortened(reference, name), expected);
        }
        assert_eq!(shortened(name, name).chars().filter(|&letter| letter != '…').count(), 0);
    }

    #[test]
    fn elided_names_keep_both_ends() {
        assert_eq!(elided("encoder.layer.10.weight", 12), "encoder…ight");
        assert_eq!(elided("weight", 6), "weight");
    }
}
