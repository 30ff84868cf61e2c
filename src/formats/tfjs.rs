//! A TensorFlow.js `model.json` or weights manifest -> the tensors in the shards beside it.
//!
//! A manifest is a list of groups. The tensors of a group follow one another, without gaps, through the concatenation
//! of its shards, so one may begin in a shard and end in the next. Quantized weights are the integers that are stored;
//! scale and minimum stay in the JSON. The outputs are the last axis: `[in, out]`, `[kernel…, in, out]`.

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::window::Window;
use super::{
    BYTE_ORDER_MARK, Format, LeftOut, MAX_JSON_BYTES, Reading, Sources, base_name, relative_path, tensor_bytes,
    without_mark,
};
use crate::error::{Error, Result};
use crate::tensor::{Axes, DType, Shape, TensorLocation};

/// The member of a `model.json` that lists its weights.
const MANIFEST_KEY: &[u8] = b"\"weightsManifest\"";

/// Bits that an element of an unknown type may take.
const UNKNOWN_BITS: [u64; 8] = [128, 64, 32, 16, 8, 4, 2, 1];

/// Whether this is JSON with a manifest, or damaged JSON that is named and begins like one.
pub(super) fn looks_like(file: &Window) -> Result<bool> {
    #[derive(Deserialize)]
    struct Probe {
        #[serde(rename = "weightsManifest")]
        manifest: Option<IgnoredAny>,
    }
    if file.bytes > MAX_JSON_BYTES {
        return Ok(false);
    }
    let name = base_name(file.name).to_ascii_lowercase();
    let is_marked = file.array(0)?.is_some_and(|mark: [u8; BYTE_ORDER_MARK.len()]| mark == BYTE_ORDER_MARK);
    let start = if is_marked { BYTE_ORDER_MARK.len() as u64 } else { 0 };
    match file.first_visible(start..file.bytes)? {
        Some(b'{') => {
            let bytes = read_json(file)?;
            let is_mentioned = bytes.windows(MANIFEST_KEY.len()).any(|window| window == MANIFEST_KEY);
            let probe = || serde_json::from_slice(&bytes).map(|Probe { manifest }| manifest.is_some());
            Ok(is_mentioned && probe().unwrap_or_else(|_| name.ends_with(".json")))
        }
        Some(b'[') => {
            let groups = serde_json::from_slice::<Vec<Group>>(&read_json(file)?);
            Ok(groups.map_or_else(|_| name.ends_with("weights_manifest.json"), |groups| !groups.is_empty()))
        }
        _ => Ok(false),
    }
}

fn read_json(file: &Window) -> Result<Vec<u8>> {
    let bytes = file.read(0..file.bytes, "tfjs JSON length", MAX_JSON_BYTES)?;
    Ok(without_mark(&bytes).to_vec())
}

/// The shards, in the order of their first mention.
pub(super) fn companions(file: &Window) -> Result<Vec<String>> {
    let mut seen = HashSet::new();
    let mut shards = Vec::new();
    for path in read_groups(file)?.iter().flat_map(|group| &group.paths) {
        let shard = shard_path(file.name, path)?;
        if seen.insert(shard.clone()) {
            shards.push(shard);
        }
    }
    Ok(shards)
}

/// The tensors of a manifest, in its order. One that crosses into another shard is cut into pieces of whole rows,
/// named `kernel[0:96]` by their rows where all axes but the last are rows; the bytes of a row that is cut itself
/// belong to no piece.
pub(super) fn find_tensors(file: &Window, sources: &Sources) -> Result<Reading> {
    let mut reading = Reading::default();
    for group in read_groups(file)? {
        Shards::open(file.name, &group.paths, sources)?.find_tensors(group.weights, &mut reading)?;
    }
    Ok(reading)
}

fn invalid(name: &str, reason: &str) -> Error {
    Error::invalid("tfjs", format!("{name}: {reason}"))
}

fn read_groups(file: &Window) -> Result<Vec<Group>> {
    let bytes = read_json(file)?;
    let groups = if bytes.trim_ascii_start().starts_with(b"[") {
        serde_json::from_slice(&bytes)
    } else {
        serde_json::from_slice(&bytes).map(|Model { groups }| groups)
    };
    groups.map_err(|error| invalid(file.name, &error.to_string()))
}

fn shard_path(name: &str, path: &str) -> Result<String> {
    let path = relative_path(path).map_err(|why| invalid(name, &format!("shard {path:?} {why}")))?;
    if path == base_name(name) { Err(invalid(name, "is named as a shard of itself")) } else { Ok(path) }
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "weightsManifest")]
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    paths: Vec<String>,
    weights: Vec<Weight>,
}

#[derive(Deserialize)]
struct Weight {
    name: String,
    shape: Vec<u64>,
    dtype: String,
    quantization: Option<Quantization>,
}

#[derive(Deserialize)]
struct Quantization {
    dtype: String,
}

impl Weight {
    /// Bytes of elements of so many bits.
    fn bytes_at(&self, bits: u64) -> Option<u64> {
        Some(self.shape.iter().try_fold(bits, |product, &extent| product.checked_mul(extent))?.div_ceil(8))
    }

    /// The type of the elements as they are stored.
    fn stored_type(&self) -> &str {
        self.quantization.as_ref().map_or(&self.dtype, |quantization| &quantization.dtype)
    }
}

fn dtype(name: &str) -> Option<DType> {
    Some(match name {
        "float32" => DType::F32,
        "float16" => DType::F16,
        "float64" => DType::F64,
        "bfloat16" => DType::BF16,
        "int64" => DType::I64,
        "uint64" => DType::U64,
        "int32" => DType::I32,
        "uint32" => DType::U32,
        "int16" => DType::I16,
        "uint16" => DType::U16,
        "int8" => DType::I8,
        "uint8" => DType::U8,
        "bool" => DType::Bool,
        _ => return None,
    })
}

/// The shards of a group, one after another.
struct Shards<'a> {
    /// Of the manifest.
    name: &'a str,
    shards: Vec<Shard<'a>>,
    bytes: u64,
}

struct Shard<'a> {
    file: usize,
    window: Window<'a>,
    start: u64,
    end: u64,
}

impl<'a> Shards<'a> {
    fn open(name: &'a str, paths: &[String], sources: &Sources<'a>) -> Result<Self> {
        let mut shards = Shards { name, shards: Vec::new(), bytes: 0 };
        for path in paths {
            let path = shard_path(name, path)?;
            let (file, shard, format) = sources.companion(name, &path)?;
            if format != Format::Other {
                return Err(invalid(name, &format!("shard {path:?} is a model")));
            }
            let (start, window) = (shards.bytes, Window::of(shard));
            shards.bytes = start.saturating_add(window.bytes);
            shards.shards.push(Shard { file, window, start, end: shards.bytes });
        }
        Ok(shards)
    }

    fn find_tensors(&self, weights: Vec<Weight>, reading: &mut Reading) -> Result<()> {
        let unknown_bits = self.unknown_bits(&weights)?;
        let mut start = 0;
        let mut weights = weights.into_iter();
        while let Some(weight) = weights.next() {
            let of_unknown = || unknown_bits.and_then(|bits| weight.bytes_at(bits));
            let Some(bytes) = self.weight_bytes(&weight, start)?.or_else(of_unknown) else {
                // Without its length nothing that follows can be found.
                reading.leave_out(LeftOut::UnknownType, weight.name);
                weights.for_each(|weight| reading.leave_out(LeftOut::UnknownPlace, weight.name));
                return Ok(());
            };
            let end = u64::checked_add(start, bytes).filter(|&end| end <= self.bytes);
            let end = end.ok_or_else(|| {
                self.invalid(&weight, format!("takes {bytes} bytes at {start}, but its shards hold {}", self.bytes))
            })?;
            match dtype(weight.stored_type()) {
                Some(dtype) => self.locate(weight, dtype, start, end, reading),
                None => reading.leave_out(LeftOut::UnknownType, weight.name),
            }
            start = end;
        }
        Ok(())
    }

    /// Bits of an element of the one type that is unknown: with them its weights take what the others leave of the shards.
    fn unknown_bits(&self, weights: &[Weight]) -> Result<Option<u64>> {
        let mut rest = Some(self.bytes);
        let mut unknown: Vec<&Weight> = Vec::new();
        for weight in weights {
            // The length of strings can be read only where they begin.
            if weight.stored_type() == "string" {
                return Ok(None);
            }
            match self.weight_bytes(weight, 0)? {
                Some(bytes) => rest = rest.and_then(|rest| rest.checked_sub(bytes)),
                None => unknown.push(weight),
            }
        }
        let first = unknown.first().map(|weight| weight.stored_type());
        if unknown.iter().any(|weight| Some(weight.stored_type()) != first) {
            return Ok(None);
        }
        let bytes_at = |bits| unknown.iter().try_fold(0u64, |sum, weight| sum.checked_add(weight.bytes_at(bits)?));
        Ok(UNKNOWN_BITS.into_iter().find(|&bits| rest.is_some() && bytes_at(bits) == rest))
    }

    fn invalid(&self, weight: &Weight, why: impl std::fmt::Display) -> Error {
        invalid(self.name, &format!("{:?} {why}", weight.name))
    }

    /// Bytes that a weight takes from `start` on; none where its type is unknown.
    fn weight_bytes(&self, weight: &Weight, start: u64) -> Result<Option<u64>> {
        let of_dtype = |dtype| {
            let bytes = tensor_bytes(dtype, &Shape(weight.shape.clone()));
            bytes.map_err(|why| self.invalid(weight, why))
        };
        match weight.stored_type() {
            "string" => {
                let bytes = self.string_bytes(of_dtype(DType::U8)?, start)?;
                bytes.map(Some).ok_or_else(|| self.invalid(weight, "ends beyond its shards"))
            }
            "complex64" => of_dtype(DType::F64).map(Some),
            other => dtype(other).map(of_dtype).transpose(),
        }
    }

    /// Bytes of `len` strings, each after its length; none where they end beyond the shards.
    fn string_bytes(&self, len: u64, start: u64) -> Result<Option<u64>> {
        let mut end = start;
        for _ in 0..len {
            let mut string_bytes = [0; 4];
            for byte in &mut string_bytes {
                let Some(found) = self.byte(end)? else { return Ok(None) };
                *byte = found;
                end = end.saturating_add(1);
            }
            end = end.saturating_add(u32::from_le_bytes(string_bytes).into());
        }
        Ok((end <= self.bytes).then_some(end.saturating_sub(start)))
    }

    /// The shards from the one that holds the byte at `position` on.
    fn from(&self, position: u64) -> &[Shard<'a>] {
        self.shards.get(self.shards.partition_point(|shard| shard.end <= position)..).unwrap_or_default()
    }

    fn byte(&self, position: u64) -> Result<Option<u8>> {
        let Some(shard) = self.from(position).first() else { return Ok(None) };
        shard.window.byte(position.saturating_sub(shard.start))
    }

    /// Adds the tensor at `start..end`, or the pieces of it that lie in one shard each.
    fn locate(&self, weight: Weight, dtype: DType, start: u64, end: u64, reading: &mut Reading) {
        let Weight { name, shape, .. } = weight;
        let shape = Shape(shape);
        // An empty tensor may stand at the very end.
        let last = self.shards.len().saturating_sub(1);
        let shards = if start == self.bytes { self.shards.get(last..).unwrap_or_default() } else { self.from(start) };
        let add = |name: String, shape: Shape, shard: &Shard, from: u64, to: u64| TensorLocation {
            name,
            dtype,
            shape,
            file: shard.file,
            offset: from.saturating_sub(shard.start),
            bytes: to.saturating_sub(from),
            axes: Axes::OutputLast,
            record: &[],
        };
        if let Some(shard) = shards.first().filter(|shard| end <= shard.end) {
            reading.tensors.push(add(name, shape, shard, start, end));
            return;
        }
        let row_len = if shape.0.len() > 1 { shape.0.last().copied() } else { None };
        let row_bytes = row_len.unwrap_or(1).saturating_mul(dtype.bits() / 8);
        let row_at = |position: u64| start.saturating_add(row_bytes.saturating_mul(position));
        for shard in shards.iter().take_while(|shard| shard.start < end) {
            let first = shard.start.saturating_sub(start).div_ceil(row_bytes);
            let last = shard.end.min(end).saturating_sub(start).checked_div(row_bytes).unwrap_or(0);
            if first < last {
                let piece = Shape([last.saturating_sub(first)].into_iter().chain(row_len).collect());
                reading.tensors.push(add(format!("{name}[{first}:{last}]"), piece, shard, row_at(first), row_at(last)));
            }
        }
    }
}
