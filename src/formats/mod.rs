//! Model files -> where their tensors lie. The encoder's first stage.
//!
//! Nothing is converted: importing a format means finding the byte ranges that hold tensors. All other bytes of a
//! file travel as they are, so a tensor that is left out here is still carried exactly, only not as a tensor.
//!
//! A further format is one more module with `looks_like`, `companions` and `find_tensors`, and one arm in each
//! `match` below.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod gguf;
mod names;
pub(crate) mod onnx;
mod protobuf;
mod reading;
pub(crate) mod safetensors;
mod stand_in;
#[cfg(test)]
mod tests;
mod tfjs;
mod torch;
mod window;

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::source::Source;
use crate::tensor::{DType, Shape, TensorLocation};
pub(crate) use names::{Names, Shard, shard};
use reading::{LeftOut, Reading};
use window::Window;

/// Most axes that a tensor may have.
const MAX_AXES: usize = 64;
/// What stands in the names of files that name the shards of others.
const INDEX_INFIXES: [&str; 2] = [".safetensors.index.", ".bin.index."];
/// What may stand before a text, and is no part of it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// Longest JSON file that is parsed.
const MAX_JSON_BYTES: u64 = 1 << 28;

/// One source file. Of a large one only what describes its tensors is read here.
#[derive(Clone)]
pub struct SourceFile<'a> {
    /// Relative, `/`-separated.
    pub name: String,
    /// What the file holds.
    pub source: &'a dyn Source,
}

impl Source for SourceFile<'_> {
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        self.source.read_at(offset, bytes)
    }

    fn bytes(&self) -> u64 {
        self.source.bytes()
    }
}

/// What a file is.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// A safetensors file, or one shard of several.
    Safetensors,
    /// The JSON that names the shards of a sharded safetensors model, or of a PyTorch checkpoint. It holds no tensors itself.
    SafetensorsIndex,
    /// An ONNX `ModelProto`. Its tensors may lie in further files ("external data").
    Onnx,
    /// A GGUF file.
    Gguf,
    /// The JSON of a TensorFlow.js model, or of a weights manifest alone. Its tensors lie in the shards that it names.
    Tfjs,
    /// A PyTorch checkpoint, or a module of TorchScript.
    Torch,
    /// Anything else: a file without tensors that we know of.
    Other,
}

/// What a file is: by its content, or, where that does not decide, by its name.
///
/// The answer for a damaged file whose name ends in `.safetensors`, `.onnx` or `.gguf` is what the name says, so that
/// [`find_tensors`] reports the damage. JSON beyond 256 MiB is not looked into.
///
/// # Errors
///
/// Whatever reading the file gives.
pub fn detect(name: &str, source: &dyn Source) -> Result<Format> {
    detect_in(&Window::new(name, source))
}

fn detect_in(file: &Window) -> Result<Format> {
    if safetensors::looks_like(file)? {
        return Ok(Format::Safetensors);
    }
    if onnx::looks_like(file)? {
        return Ok(Format::Onnx);
    }
    if gguf::looks_like(file)? {
        return Ok(Format::Gguf);
    }
    if tfjs::looks_like(file)? {
        return Ok(Format::Tfjs);
    }
    if torch::looks_like(file)? {
        return Ok(Format::Torch);
    }
    let name = base_name(file.name).to_ascii_lowercase();
    Ok(if name.ends_with(".safetensors") {
        Format::Safetensors
    } else if name.ends_with(".onnx") {
        Format::Onnx
    } else if name.ends_with(".gguf") {
        Format::Gguf
    } else if INDEX_INFIXES.iter().any(|infix| name.contains(infix)) && name.ends_with(".json") {
        Format::SafetensorsIndex
    } else {
        Format::Other
    })
}

/// Names of further files that this one refers to: the shards of a `model.safetensors.index.json`, the external data
/// of an ONNX model, the shards of a TensorFlow.js model, the other parts of a GGUF model `name-00001-of-00003.gguf`. Each is relative to the
/// folder of `name`, normalized (no `.` or empty parts), and listed once, in the order in which the file first mentions it.
///
/// # Errors
///
/// [`Error::Invalid`] where the file is damaged, or where a name is not a relative path below the folder;
/// [`Error::Argument`] where something else lies under a model's name, such as a Git LFS pointer;
/// `LimitExceeded` where graphs are nested too deeply or a text is too long; whatever reading the file gives.
pub fn companions(name: &str, source: &dyn Source) -> Result<Vec<String>> {
    let file = Window::new(name, source);
    stand_in::refuse(&file)?;
    let names = match detect_in(&file)? {
        Format::SafetensorsIndex => safetensors::companions(&file),
        Format::Onnx => onnx::companions(&file),
        Format::Tfjs => tfjs::companions(&file),
        Format::Gguf => gguf::companions(&file),
        Format::Safetensors | Format::Torch | Format::Other => Ok(Vec::new()),
    };
    names.map_err(|error| limit_within(error, name))
}

/// The name of the file where the error itself does not tell it.
pub(crate) fn limit_within(error: Error, name: &str) -> Error {
    if let Error::LimitExceeded { .. } = error { error.within(name) } else { error }
}

/// All tensors of all files, in the order of the files; within a safetensors or GGUF file in the order of their bytes,
/// within any other in the order in which it mentions them. `files` must include every file's [`companions`], under
/// names that are relative to the same root.
///
/// Names are unique. One that occurs again in its file (in two branches of an ONNX `If`) is numbered (`bias#2`). Where several
/// files have tensors, each name that two of them share, or that begins like `<name of one of the files>/`, gets the name of the
/// file that mentions it as a prefix: `det.onnx/conv1.w`.
///
/// Every range lies within its file and is exactly as long as element type and shape demand. Ranges within one file's
/// own structure are disjoint, but two ONNX tensors may refer to the same or to overlapping external data: both are
/// returned.
///
/// Left out are tensors of element types that [`DType`] lacks, and ONNX tensors whose data is not stored as
/// consecutive little-endian elements, or those of a PyTorch checkpoint that are not row-major. A TensorFlow.js tensor that several shards share is found in pieces, and one of
/// GGUF blocks as bytes.
///
/// # Errors
///
/// [`Error::Invalid`] where a file is damaged, mentions a path outside its folder, or holds data that does not fit a
/// tensor's element type and shape; `LimitExceeded` where ONNX graphs are nested too deeply or a header or name is too
/// long; [`Error::Argument`] where a companion is missing, two files have the same name, or something else lies under a model's name;
/// whatever reading a file gives.
pub fn find_tensors(files: &[SourceFile]) -> Result<Vec<TensorLocation>> {
    Ok(find(files, false)?.tensors)
}

/// What is found in files.
pub(crate) struct Found {
    /// As [`find_tensors`] gives them.
    pub tensors: Vec<TensorLocation>,
    /// What else the tensors are called.
    pub names: Names,
    /// Of which files no tensors were found, or not all.
    pub notes: Vec<String>,
}

/// As [`find_tensors`]. A `lenient` search accepts safetensors files with bytes that belong to no tensor.
pub(crate) fn find(files: &[SourceFile], lenient: bool) -> Result<Found> {
    let sources = Sources::new(files)?;
    let mut readings = Vec::new();
    for (index, (file, format)) in files.iter().zip(&sources.formats).enumerate() {
        let window = Window::of(file);
        stand_in::refuse(&window)?;
        let reading = match format {
            Format::Safetensors => safetensors::find_tensors(index, file, lenient),
            Format::Onnx => onnx::find_tensors(index, &window, &sources),
            Format::Gguf => gguf::find_tensors(index, &window),
            Format::Tfjs => tfjs::find_tensors(&window, &sources),
            Format::Torch => torch::find_tensors(index, &window),
            Format::SafetensorsIndex => Ok(Reading::default()),
            Format::Other => reading::of_other(&window),
        };
        readings.push(reading.map_err(|error| limit_within(error, &file.name))?);
    }
    let notes = reading::notes(files, &readings);
    let (tensors, names) = names::settle(files, readings.into_iter().map(|reading| reading.tensors));
    Ok(Found { tensors, names, notes })
}

/// The main graph of the ONNX model with this index.
pub(crate) fn graph(files: &[SourceFile], index: usize) -> Result<onnx::graph::Graph> {
    onnx::graph::read(index, &Sources::new(files)?)
}

/// The given files, to be found by name.
struct Sources<'a> {
    files: &'a [SourceFile<'a>],
    formats: Vec<Format>,
    by_name: HashMap<&'a str, usize>,
}

impl<'a> Sources<'a> {
    fn new(files: &'a [SourceFile<'a>]) -> Result<Self> {
        let mut by_name = HashMap::new();
        for (index, file) in files.iter().enumerate() {
            if by_name.insert(file.name.as_str(), index).is_some() {
                return Err(Error::argument(format!("two files are named {}", file.name)));
            }
        }
        let formats = files.iter().map(|file| detect(&file.name, file.source)).collect::<Result<_>>()?;
        Ok(Sources { files, formats, by_name })
    }

    /// The index and format of the file that `mentioned_by` calls `path`, and the file.
    fn companion(&self, mentioned_by: &str, path: &str) -> Result<(usize, &'a SourceFile<'a>, Format)> {
        let name = match mentioned_by.rsplit_once('/') {
            Some((folder, _)) => format!("{folder}/{path}"),
            None => path.to_owned(),
        };
        let found = self.by_name.get(name.as_str()).and_then(|&index| {
            let file = self.files.get(index)?;
            Some((index, file, *self.formats.get(index)?))
        });
        let missing = || Error::argument(format!("{mentioned_by} needs {name}, which is not among the files"));
        let found = found.ok_or_else(missing)?;
        stand_in::refuse_pointer(&Window::of(found.1))?;
        Ok(found)
    }
}

/// The last part of a `/`-separated name.
fn base_name(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// A text without its byte-order mark.
fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text)
}

/// A path that a file mentions, normalized; or why it must not be followed. Only paths below the file's own folder
/// pass, whichever system reads them: no root, drive, backslash or `..`.
fn relative_path(path: &str) -> std::result::Result<String, &'static str> {
    if path.starts_with('/') {
        return Err("is not a relative path");
    }
    if path.contains(['\\', ':']) {
        return Err("holds a backslash or a colon");
    }
    if path.chars().any(char::is_control) {
        return Err("holds a control character");
    }
    let parts: Vec<&str> = path.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") {
        return Err("leaves its folder");
    }
    if parts.is_empty() {
        return Err("is empty");
    }
    Ok(parts.join("/"))
}

/// Bytes that a tensor takes, or why its shape is impossible.
fn tensor_bytes(dtype: DType, shape: &Shape) -> std::result::Result<u64, String> {
    if shape.0.len() > MAX_AXES {
        return Err(format!("has more than {MAX_AXES} axes"));
    }
    let bytes = shape.element_len().and_then(|element_len| dtype.byte_len(element_len));
    bytes.ok_or_else(|| format!("has the impossible shape {shape}"))
}
