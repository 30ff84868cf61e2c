//! A GGUF file, version 2 or 3 -> its tensors.
//!
//! The file is a magic, counts, metadata, the descriptions of its tensors, and their aligned bytes. Quantized weights
//! lie in blocks: a block is a record of fields (scales, then packed integers), and its tensor is one of bytes, whose
//! last axis counts the bytes of a row. A model may be split into several such files, whose names count them. See <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::ops::Range;

use super::window::Window;
use super::{LeftOut, MAX_AXES, Reading, base_name, shard, tensor_bytes};
use crate::error::{Error, Result};
use crate::tensor::{Axes, DType, Shape, TensorLocation};

const MAGIC: [u8; 4] = *b"GGUF";
/// Where metadata does not say otherwise.
const DEFAULT_ALIGNMENT: u64 = 32;
/// Deepest array in an array.
const MAX_ARRAY_DEPTH: u64 = 8;
/// Longest name of a tensor.
const MAX_NAME_BYTES: u64 = 1 << 16;

/// Whether the bytes begin like a GGUF file of a version that may come to be, in either byte order.
pub(super) fn looks_like(file: &Window) -> Result<bool> {
    let head: Option<[[u8; 4]; 2]> = file.array(0)?.map(|head: [u8; 8]| bytemuck::cast(head));
    Ok(matches!(head, Some([MAGIC, [1..=255, 0, 0, 0] | [0, 0, 0, 1..=255]])))
}

/// The other files of a model that is split.
pub(super) fn companions(file: &Window) -> Result<Vec<String>> {
    let others = shard(file.name).filter(|shard| shard.ending.eq_ignore_ascii_case(".gguf"));
    let this = base_name(file.name);
    Ok(others.iter().flat_map(|shard| shard.names()).filter(|name| name != this).collect())
}

/// The tensors of the file with this index, in the order of their bytes.
pub(super) fn find_tensors(index: usize, file: &Window) -> Result<Reading> {
    let mut cursor = Cursor { file, position: 0 };
    if file.array(0)? != Some(MAGIC) {
        return Err(cursor.invalid("does not begin with GGUF"));
    }
    cursor.skip(4)?;
    let version = cursor.u32()?;
    if is_known(version.swap_bytes()) {
        let mut reading = Reading::default();
        reading.leave_out_all(LeftOut::BigEndian);
        return Ok(reading);
    }
    if !is_known(version) {
        let value = format!("{}: version {}", file.name, version.min(version.swap_bytes()));
        return Err(Error::unsupported("gguf", value));
    }
    let mut reading = read_tensors(index, &mut cursor)?;
    reading.tensors.sort_by_key(|tensor| (tensor.offset, tensor.bytes));
    check_disjoint(&reading.tensors).map_err(|why| cursor.invalid(why))?;
    Ok(reading)
}

fn is_known(version: u32) -> bool {
    matches!(version, 2 | 3)
}

/// Everything after the version.
fn read_tensors(index: usize, cursor: &mut Cursor) -> Result<Reading> {
    let tensor_count = cursor.u64()?;
    let alignment = read_alignment(cursor)?;
    let mut names = HashSet::new();
    let mut infos = Vec::new();
    for _ in 0..tensor_count {
        let info = Info::read(cursor)?;
        if !names.insert(info.name.clone()) {
            return Err(cursor.invalid(format!("two tensors are named {:?}", info.name)));
        }
        infos.push(info);
    }
    let data_start = cursor.position.checked_next_multiple_of(alignment);
    let data_start = data_start.ok_or_else(|| cursor.invalid("its alignment is too large"))?;
    let mut reading = Reading::default();
    for info in infos {
        let invalid = |why| cursor.invalid(format!("tensor {:?} {why}", info.name));
        match info.locate(index, data_start, alignment, cursor.file.bytes).map_err(invalid)? {
            Some(tensor) => reading.tensors.push(tensor),
            None => reading.leave_out(LeftOut::UnknownType, info.name),
        }
    }
    Ok(reading)
}

/// Passes over the metadata; what it says of the alignment.
fn read_alignment(cursor: &mut Cursor) -> Result<u64> {
    let mut alignment = DEFAULT_ALIGNMENT;
    for _ in 0..cursor.u64()? {
        let is_alignment = cursor.string_is(b"general.alignment")?;
        let value_type = cursor.u32()?;
        if is_alignment {
            alignment = if value_type == TYPE_U32 { cursor.u32()?.into() } else { 0 };
        } else {
            cursor.skip_value(value_type, 0)?;
        }
    }
    match alignment.is_power_of_two() {
        true => Ok(alignment),
        false => Err(cursor.invalid("its alignment is no power of two")),
    }
}

/// Proves that tensors, sorted by offset, do not overlap.
fn check_disjoint(tensors: &[TensorLocation]) -> std::result::Result<(), String> {
    let mut end = 0;
    for tensor in tensors {
        if tensor.offset < end {
            return Err(format!("tensor {:?} overlaps the one before it", tensor.name));
        }
        end = tensor.offset.saturating_add(tensor.bytes);
    }
    Ok(())
}

/// The description of a tensor.
struct Info {
    name: String,
    /// The fastest axis first.
    extents: Vec<u64>,
    kind: u32,
    /// From the start of the data.
    offset: u64,
}

impl Info {
    fn read(cursor: &mut Cursor) -> Result<Self> {
        let name = cursor.name()?;
        let axes = cursor.u32()?;
        if usize::try_from(axes).is_ok_and(|axes| axes > MAX_AXES) {
            return Err(cursor.invalid(format!("tensor {name:?} has more than {MAX_AXES} axes")));
        }
        let extents = (0..axes).map(|_| cursor.u64()).collect::<Result<Vec<u64>>>()?;
        Ok(Info { name, extents, kind: cursor.u32()?, offset: cursor.u64()? })
    }

    /// None where the type is unknown.
    fn locate(
        &self,
        file: usize,
        data_start: u64,
        alignment: u64,
        file_bytes: u64,
    ) -> std::result::Result<Option<TensorLocation>, String> {
        let Some((dtype, block_len, record)) = kind(self.kind) else { return Ok(None) };
        let mut extents = self.extents.clone();
        if !record.is_empty() {
            let row = extents.first_mut().ok_or("is a scalar of blocks")?;
            if !row.is_multiple_of(block_len) {
                return Err(format!("has rows of {row} weights, not whole blocks of {block_len}"));
            }
            let record_bytes = record.iter().map(|&field| u64::from(field)).sum();
            let row_bytes = row.checked_div(block_len).and_then(|blocks| blocks.checked_mul(record_bytes));
            *row = row_bytes.ok_or("has an impossible shape")?;
        }
        extents.reverse();
        let shape = Shape(extents);
        let bytes = tensor_bytes(dtype, &shape)?;
        let offset = data_start.checked_add(self.offset);
        let inside = offset.and_then(|offset| offset.checked_add(bytes)).is_some_and(|end| end <= file_bytes);
        match offset.filter(|_| inside && self.offset.is_multiple_of(alignment)) {
            Some(offset) => Ok(Some(TensorLocation {
                name: self.name.clone(),
                dtype,
                shape,
                file,
                offset,
                bytes,
                axes: Axes::OutputFirst,
                record,
            })),
            None => Err(format!(
                "takes {bytes} bytes at {} of the data, beyond the file or not aligned to {alignment}",
                self.offset
            )),
        }
    }
}

/// Element type, weights in a block, and the fields of a block in bytes, as `ggml-common.h` declares them. Each byte of
/// a scale is a field of its own, for only the high one is compressible.
fn kind(code: u32) -> Option<(DType, u64, &'static [u16])> {
    let (block_len, record): (u64, &[u16]) = match code {
        0 => return Some((DType::F32, 1, &[])),
        1 => return Some((DType::F16, 1, &[])),
        24 => return Some((DType::I8, 1, &[])),
        25 => return Some((DType::I16, 1, &[])),
        26 => return Some((DType::I32, 1, &[])),
        27 => return Some((DType::I64, 1, &[])),
        28 => return Some((DType::F64, 1, &[])),
        30 => return Some((DType::BF16, 1, &[])),
        // Q4_0, Q4_1, Q5_0, Q5_1, Q8_0: scale, minimum, high bits, low bits.
        2 => (32, &[1, 1, 16]),
        3 => (32, &[1, 1, 1, 1, 16]),
        6 => (32, &[1, 1, 4, 16]),
        7 => (32, &[1, 1, 1, 1, 4, 16]),
        8 => (32, &[1, 1, 32]),
        // Q2_K … Q6_K: the packed six-bit scales of Q3_K, Q4_K and Q5_K have three parts.
        10 => (256, &[16, 64, 1, 1, 1, 1]),
        11 => (256, &[32, 64, 4, 4, 4, 1, 1]),
        12 => (256, &[1, 1, 1, 1, 4, 4, 4, 128]),
        13 => (256, &[1, 1, 1, 1, 4, 4, 4, 32, 128]),
        14 => (256, &[128, 64, 16, 1, 1]),
        // Q8_K: scale, integers, sums of 16 integers each.
        15 => (256, &[1, 1, 1, 1, 256, 32]),
        // IQ2_XXS, IQ2_XS, IQ3_XXS, IQ1_S: scale, indices into a grid, signs or scales.
        16 => (256, &[1, 1, 64]),
        17 => (256, &[1, 1, 64, 8]),
        18 => (256, &[1, 1, 64, 32]),
        19 => (256, &[1, 1, 32, 16]),
        // IQ4_NL, IQ3_S, IQ2_S, IQ4_XS, IQ1_M.
        20 => (32, &[1, 1, 16]),
        21 => (256, &[1, 1, 64, 8, 32, 4]),
        22 => (256, &[1, 1, 32, 32, 8, 8]),
        23 => (256, &[1, 1, 2, 4, 128]),
        29 => (256, &[32, 16, 8]),
        // TQ1_0, TQ2_0: ternary.
        34 => (256, &[48, 4, 1, 1]),
        35 => (256, &[64, 1, 1]),
        // MXFP4, NVFP4, Q1_0.
        39 => (32, &[1, 16]),
        40 => (64, &[4, 32]),
        41 => (128, &[1, 1, 16]),
        _ => return None,
    };
    Some((DType::U8, block_len, record))
}

const TYPE_U32: u32 = 4;
const TYPE_STRING: u32 = 8;
const TYPE_ARRAY: u32 = 9;

/// A place in a file.
struct Cursor<'a> {
    file: &'a Window<'a>,
    position: u64,
}

impl Cursor<'_> {
    fn invalid(&self, reason: impl std::fmt::Display) -> Error {
        Error::invalid("gguf", format!("{}: {reason}", self.file.name))
    }

    /// Passes over bytes; returns where they begin.
    fn skip(&mut self, bytes: u64) -> Result<u64> {
        let start = self.position;
        let end = start.checked_add(bytes).filter(|&end| end <= self.file.bytes);
        self.position = end.ok_or_else(|| self.invalid(format!("ends within {bytes} bytes at {start}")))?;
        Ok(start)
    }

    fn u32(&mut self) -> Result<u32> {
        let start = self.skip(4)?;
        Ok(self.file.array(start)?.map_or(0, u32::from_le_bytes))
    }

    fn u64(&mut self) -> Result<u64> {
        let start = self.skip(8)?;
        Ok(self.file.array(start)?.map_or(0, u64::from_le_bytes))
    }

    /// Passes over a string; returns its range.
    fn string(&mut self) -> Result<Range<u64>> {
        let bytes = self.u64()?;
        Ok(self.skip(bytes)?..self.position)
    }

    /// Passes over a string; whether it is this one.
    fn string_is(&mut self, expected: &[u8]) -> Result<bool> {
        let range = self.string()?;
        let bytes = range.end.saturating_sub(range.start);
        Ok(bytes == expected.len() as u64 && self.file.read(range, "gguf key length", bytes)? == expected)
    }

    /// The name of a tensor.
    fn name(&mut self) -> Result<String> {
        let range = self.string()?;
        let bytes = self.file.read(range, "gguf name length", MAX_NAME_BYTES)?;
        String::from_utf8(bytes).map_err(|_| self.invalid("a tensor's name is not UTF-8"))
    }

    fn skip_value(&mut self, value_type: u32, depth: u64) -> Result<()> {
        match value_type {
            TYPE_STRING => self.string().map(drop),
            TYPE_ARRAY => {
                let (item_type, len) = (self.u32()?, self.u64()?);
                if depth >= MAX_ARRAY_DEPTH {
                    return Err(self.invalid(format!("has arrays nested deeper than {MAX_ARRAY_DEPTH}")));
                }
                match scalar_bytes(item_type) {
                    Some(bytes) => self.skip(bytes.saturating_mul(len)).map(drop),
                    None => (0..len).try_for_each(|_| self.skip_value(item_type, depth.saturating_add(1))),
                }
            }
            _ => {
                let unknown = || self.invalid(format!("has metadata of the unknown type {value_type}"));
                let bytes = scalar_bytes(value_type).ok_or_else(unknown)?;
                self.skip(bytes).map(drop)
            }
        }
    }
}

/// Bytes of a number or a bool.
fn scalar_bytes(value_type: u32) -> Option<u64> {
    match value_type {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}
