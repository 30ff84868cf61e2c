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
pub(crate) mod onnx;
mod protobuf;
pub(crate) mod safetensors;
#[cfg(test)]
mod tests;
mod tfjs;
mod torch;
mod window;

use std::collections::{HashMap, HashSet};

use crate::error::{Error, Result};
use crate::source::Source;
use crate::tensor::{DType, Shape, TensorLocation};
use window::Window;

/// Most axes that a tensor may have.
const MAX_AXES: usize = 64;
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
    /// The JSON that names the shards of a sharded safetensors model. It holds no tensors itself.
    SafetensorsIndex,
    /// An ONNX `ModelProto`. Its tensors may lie in further files ("external data").
    Onnx,
    /// A GGUF file.
    Gguf,
    /// The JSON of a TensorFlow.js model, or of a weights manifest alone. Its tensors lie in the shards that it names.
    Tfjs,
    /// A PyTorch checkpoint, a zip.
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
    } else if name.contains(".safetensors.index.") && name.ends_with(".json") {
        Format::SafetensorsIndex
    } else {
        Format::Other
    })
}

/// Names of further files that this one refers to: the shards of a `model.safetensors.index.json`, the external data
/// of an ONNX model, the shards of a TensorFlow.js model. Each is relative to the folder of `name`, normalized (no `.` or empty parts), and listed once, in
/// the order in which the file first mentions it.
///
/// # Errors
///
/// [`Error::Invalid`] where the file is damaged, or where a name is not a relative path below the folder;
/// `LimitExceeded` where graphs are nested too deeply or a text is too long; whatever reading the file gives.
pub fn companions(name: &str, source: &dyn Source) -> Result<Vec<String>> {
    let file = Window::new(name, source);
    let names = match detect_in(&file)? {
        Format::SafetensorsIndex => safetensors::companions(&file),
        Format::Onnx => onnx::companions(&file),
        Format::Tfjs => tfjs::companions(&file),
        Format::Safetensors | Format::Gguf | Format::Torch | Format::Other => Ok(Vec::new()),
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
/// Names are unique: one that occurs in several files is prefixed with the name of the file that mentions it
/// (`det.onnx/conv1.w`), and one that still occurs again (in two branches of an ONNX `If`) is numbered (`bias#2`).
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
/// long; [`Error::Argument`] where a companion is missing or two files have the same name; whatever reading a file
/// gives.
pub fn find_tensors(files: &[SourceFile]) -> Result<Vec<TensorLocation>> {
    let sources = Sources::new(files)?;
    let mut mentions = Vec::new();
    for (index, (file, format)) in files.iter().zip(&sources.formats).enumerate() {
        let window = Window::of(file);
        let tensors = match format {
            Format::Safetensors => safetensors::parse(index, file).map(|(tensors, _)| tensors),
            Format::Onnx => onnx::find_tensors(index, &window, &sources),
            Format::Gguf => gguf::find_tensors(index, &window),
            Format::Tfjs => tfjs::find_tensors(&window, &sources),
            Format::Torch => torch::find_tensors(index, &window),
            Format::SafetensorsIndex | Format::Other => Ok(Vec::new()),
        };
        let tensors = tensors.map_err(|error| limit_within(error, &file.name))?;
        mentions.extend(tensors.into_iter().map(|tensor| (index, tensor)));
    }
    prefix_shared_names(files, &mut mentions);
    let mut tensors: Vec<TensorLocation> = mentions.into_iter().map(|(_, tensor)| tensor).collect();
    number_repeated_names(&mut tensors);
    Ok(tensors)
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
        found.ok_or_else(|| Error::argument(format!("{mentioned_by} needs {name}, which is not among the files")))
    }
}

/// Puts the mentioning file's name before each tensor name that several files mention.
fn prefix_shared_names(files: &[SourceFile], mentions: &mut [(usize, TensorLocation)]) {
    let mut first_mention = HashMap::new();
    let mut shared = HashSet::new();
    for (file, tensor) in mentions.iter() {
        if first_mention.entry(tensor.name.as_str()).or_insert(file) != &file {
            shared.insert(tensor.name.clone());
        }
    }
    for (file, tensor) in mentions {
        if let Some(file) = files.get(*file)
            && shared.contains(&tensor.name)
        {
            tensor.name = format!("{}/{}", file.name, tensor.name);
        }
    }
}

/// Appends `#2`, `#3`, … to every further tensor of the same name, passing over names that exist already.
fn number_repeated_names(tensors: &mut [TensorLocation]) {
    let mut taken = HashSet::new();
    let repeats: Vec<&mut TensorLocation> =
        tensors.iter_mut().filter_map(|tensor| (!taken.insert(tensor.name.clone())).then_some(tensor)).collect();
    let mut next_numbers: HashMap<String, u64> = HashMap::new();
    for tensor in repeats {
        let next = next_numbers.entry(tensor.name.clone()).or_insert(2);
        for number in *next.. {
            let name = format!("{}#{number}", tensor.name);
            if taken.insert(name.clone()) {
                *next = number.saturating_add(1);
                tensor.name = name;
                break;
            }
        }
    }
}

/// The last part of a `/`-separated name.
fn base_name(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
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
