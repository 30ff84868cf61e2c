//! What reading a file comes to, and what a user has to know of it.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use super::window::Window;
use super::{SourceFile, base_name};
use crate::error::Result;
use crate::tensor::TensorLocation;

/// Names that a note lists.
const LISTED: usize = 3;

/// Endings of files that hold a model, whatever can be made of it.
pub(super) const MODEL_ENDINGS: [&str; 18] = [
    ".safetensors",
    ".onnx",
    ".ort",
    ".gguf",
    ".ggml",
    ".pt",
    ".pth",
    ".ckpt",
    ".ptl",
    ".pte",
    ".tflite",
    ".h5",
    ".hdf5",
    ".keras",
    ".pb",
    ".npz",
    ".npy",
    ".mlmodel",
];

/// The tensors that a file mentions, and why others are not among them.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub tensors: Vec<TensorLocation>,
    /// By the reason, the names that are known.
    left_out: BTreeMap<LeftOut, Vec<String>>,
}

/// Why tensors of a file are not found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum LeftOut {
    BigEndian,
    Compressed,
    Hdf5,
    NotInFile,
    NotInOrder,
    NotUnderstood,
    TfLite,
    UnknownPlace,
    UnknownType,
}

impl LeftOut {
    fn text(self) -> &'static str {
        match self {
            LeftOut::BigEndian => "its byte order is big-endian",
            LeftOut::Compressed => "compressed inside the zip, where only what is stored as it is can be found",
            LeftOut::Hdf5 => "tensors in HDF5 are not looked for",
            LeftOut::NotInFile => "its data is not in the file",
            LeftOut::NotInOrder => "elements that do not lie row by row",
            LeftOut::NotUnderstood => "a damaged pickle, or one that builds what is not understood",
            LeftOut::TfLite => "tensors in TFLite are not looked for",
            LeftOut::UnknownPlace => "behind tensors of unknown lengths",
            LeftOut::UnknownType => "of a type that is not known here",
        }
    }
}

impl Reading {
    /// Leaves out a tensor.
    pub fn leave_out(&mut self, why: LeftOut, name: String) {
        self.left_out.entry(why).or_default().push(name);
    }

    /// Leaves out all tensors of a file, or those that are not known by name.
    pub fn leave_out_all(&mut self, why: LeftOut) {
        self.left_out.entry(why).or_default();
    }
}

impl From<Vec<TensorLocation>> for Reading {
    fn from(tensors: Vec<TensorLocation>) -> Self {
        Reading { tensors, left_out: BTreeMap::new() }
    }
}

/// What is known of a file in which nothing is looked for.
pub(super) fn of_other(file: &Window) -> Result<Reading> {
    let mut reading = Reading::default();
    if file.array(0)? == Some(*b"\x89HDF\r\n\x1a\n") {
        reading.leave_out_all(LeftOut::Hdf5);
    } else if file.array(4)? == Some(*b"TFL3") {
        reading.leave_out_all(LeftOut::TfLite);
    }
    Ok(reading)
}

/// What to tell of files that look like models and have no tensors, and of those in which some are not found.
pub(super) fn notes(files: &[SourceFile], readings: &[Reading]) -> Vec<String> {
    let mentioned: HashSet<usize> =
        readings.iter().flat_map(|reading| &reading.tensors).map(|tensor| tensor.file).collect();
    let mut notes = Vec::new();
    for (index, (file, reading)) in files.iter().zip(readings).enumerate() {
        let reasons = || reading.left_out.keys().map(|why| why.text()).collect::<Vec<_>>().join("; ");
        if !reading.tensors.is_empty() {
            let left_out = reading.left_out.iter();
            notes.extend(left_out.map(|(why, names)| format!("{}: {}", file.name, some_left_out(*why, names))));
        } else if !reading.left_out.is_empty() {
            notes.push(format!("no tensors found in {}: it travels exactly ({})", file.name, reasons()));
        } else if is_model_name(&file.name) && !mentioned.contains(&index) {
            notes.push(format!("no tensors found in {}: it travels exactly", file.name));
        }
    }
    notes
}

fn some_left_out(why: LeftOut, names: &[String]) -> Cow<'static, str> {
    let listed = names.iter().take(LISTED).map(String::as_str).collect::<Vec<_>>().join(", ");
    let more = if names.len() > LISTED { ", …" } else { "" };
    match names.len() {
        0 => format!("some tensors are not found, and travel exactly ({})", why.text()).into(),
        1 => format!("1 tensor is not found, and travels exactly ({}): {listed}", why.text()).into(),
        len => format!("{len} tensors are not found, and travel exactly ({}): {listed}{more}", why.text()).into(),
    }
}

/// Whether a file of this name should hold a model.
pub(super) fn is_model_name(name: &str) -> bool {
    let name = base_name(name).to_ascii_lowercase();
    name == "model.json" || MODEL_ENDINGS.iter().any(|ending| name.ends_with(ending))
}
