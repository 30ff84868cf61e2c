//! A stored header -> an [`Archive`] whose every range and cross reference holds, or the rule that it breaks
//! (FORMAT.md, sections 4 and 5).
//!
//! Nothing here reads a payload: what a chunk holds is checked by whoever decodes it.

use super::header::{FileEntry, FrameEntry, Header, TensorEntry};
use super::{
    Archive, Chunk, Coding, Extent, ExtentSource, File, Frame, Hash, Levels, Side, Tensor, check_limit, is_file_name,
};
use crate::entropy::Table;
use crate::error::{Error, Result};
use crate::format::{
    CHUNK_BYTES_MAX, CHUNK_ENTRY_BYTES, CHUNK_LEN_MAX, CODING_LEVELS, CODING_PLANES, DCT_TAPS_MAX, EXTENT_MAX,
    FILES_MAX, FRAME_TABLES_MAX, GAIN_ONE, LAYOUT_COLUMN_MAJOR, LOW_BITS_MAX, QUANTIZER_TRELLIS, RAW_CHUNK_BYTES,
    RECORD_FIELDS_MAX, REFERENCE_DEPTH_MAX, SIDE_BITS, SIDE_ENTRIES_MAX, TENSOR_FRAMES_MAX, TRANSFORM_DCT,
};
use crate::stages::quantize;
use crate::tensor::{DType, Limits, Shape};

/// Turns a stored header into an [`Archive`], or says which rule it breaks.
pub(super) struct Checker<'a> {
    pub(super) limits: &'a Limits,
    pub(super) head_bytes: u64,
}

impl Checker<'_> {
    pub(super) fn check(&self, header: Header, integrity: Hash) -> Result<Archive> {
        let base = match header.base {
            Some(base) => Some(Hash(base.try_into().map_err(|_| Error::invalid("base", "not a hash"))?)),
            None => None,
        };
        let chunks = self.chunks(&header.chunks)?;
        let tables = Table::parse_set(&header.tables)?;
        let tensors = self.tensors(header.tensors, &header.files, header.frames.len())?;
        let files = self.files(header.files, &tensors, chunks.len())?;
        let frames = self.frames(header.frames, &tensors, tables.len(), chunks.len())?;
        let from_base = frames.iter().any(|frame| frame.reference.is_some_and(|index| index >= frames.len()));
        check(from_base == base.is_some(), "base", "it goes with frames that are predicted from it")?;
        let archive = Archive {
            integrity,
            base,
            frame_count: frames.len(),
            chunk_count: chunks.len(),
            head_bytes: self.head_bytes,
            files,
            tensors,
            frames,
            tables,
            chunks,
            metadata: header.metadata.unwrap_or_default(),
            limits: *self.limits,
            is_linked: false,
        };
        archive.check_references()?;
        Ok(archive)
    }

    fn chunks(&self, table: &[u8]) -> Result<Vec<Chunk>> {
        let (entries, rest) = table.as_chunks::<CHUNK_ENTRY_BYTES>();
        check(rest.is_empty(), "chunk table", "its last entry is cut")?;
        check_limit("chunks", entries.len() as u64, self.limits.chunks)?;
        let mut offset = self.head_bytes;
        let mut chunks = Vec::with_capacity(entries.len());
        for entry in entries {
            let [b0, b1, b2, b3, hash @ ..] = *entry;
            let bytes = u32::from_le_bytes([b0, b1, b2, b3]);
            check_limit("chunk", u64::from(bytes), u64::from(CHUNK_BYTES_MAX))?;
            chunks.push(Chunk { archive: 0, offset, bytes, hash: Hash(hash) });
            offset = offset.saturating_add(u64::from(bytes));
        }
        Ok(chunks)
    }

    fn tensors(&self, entries: Vec<TensorEntry>, files: &[FileEntry], frames: usize) -> Result<Vec<Tensor>> {
        let mut tensors = Vec::with_capacity(entries.len());
        for mut entry in entries {
            let name = std::mem::take(&mut entry.name);
            let tensor = self.tensor(entry, files, frames).map_err(|error| error.within(&name))?;
            tensors.push(Tensor { name, ..tensor });
        }
        Ok(tensors)
    }

    /// A tensor, but for its name.
    fn tensor(&self, entry: TensorEntry, files: &[FileEntry], frame_count: usize) -> Result<Tensor> {
        let dtype = DType::from_code(u8::try_from(entry.dtype).unwrap_or(u8::MAX))?;
        check_limit("dimensions", entry.shape.len() as u64, self.limits.dimensions)?;
        let shape = Shape(entry.shape);
        let bytes = shape.element_len().and_then(|len| dtype.byte_len(len));
        let bytes = bytes.ok_or(Error::invalid("tensor", "its shape overflows"))?;
        check_limit("tensor", bytes, self.limits.tensor_bytes)?;
        let file = entry.file as usize;
        let end = entry.offset.checked_add(bytes);
        let inside = files.get(file).zip(end).is_some_and(|(file, end)| end <= file.bytes);
        check(inside, "tensor", "it is not inside a file")?;
        let listed = entry.frames.is_some();
        let mut frames = Vec::new();
        for frame in entry.frames.into_iter().flatten() {
            frames.push(place(frame, frame_count).ok_or(Error::invalid("tensor", "its frame does not exist"))?);
        }
        check(listed != frames.is_empty() && (bytes > 0 || !listed), "tensor", "frames of an empty tensor, or none")?;
        check_limit("frames of a tensor", frames.len() as u64, TENSOR_FRAMES_MAX)?;
        Ok(Tensor { name: String::new(), dtype, shape, file, offset: entry.offset, bytes, frames })
    }

    fn files(&self, entries: Vec<FileEntry>, tensors: &[Tensor], chunk_count: usize) -> Result<Vec<File>> {
        check_limit("files", entries.len() as u64, FILES_MAX)?;
        let mut framed: Vec<Vec<usize>> = vec![Vec::new(); entries.len()];
        for (index, tensor) in tensors.iter().enumerate().filter(|(_, tensor)| !tensor.frames.is_empty()) {
            framed.get_mut(tensor.file).into_iter().for_each(|framed| framed.push(index));
        }
        let output_bytes = entries.iter().fold(0u64, |bytes, entry| bytes.saturating_add(entry.bytes));
        check_limit("output", output_bytes, self.limits.output_bytes)?;
        // Long names that begin alike take long to compare.
        let mut names = Vec::new();
        let mut files: Vec<File> = Vec::with_capacity(entries.len());
        for (entry, framed) in entries.into_iter().zip(framed) {
            let name = Hash::of(&[entry.name.as_bytes()]);
            let unique = !names.contains(&name);
            names.push(name);
            let file = self.file(entry, unique, &framed, tensors, chunk_count)?;
            files.push(file);
        }
        Ok(files)
    }

    fn file(
        &self,
        entry: FileEntry,
        unique: bool,
        framed: &[usize],
        tensors: &[Tensor],
        chunk_count: usize,
    ) -> Result<File> {
        let checked = || {
            check(unique && is_file_name(&entry.name), "file", "not an allowed name, or a second file of this name")?;
            let (extents, raw_bytes) = extents(&entry, framed, tensors)?;
            let end = u64::from(entry.first_raw_chunk).saturating_add(raw_bytes.div_ceil(RAW_CHUNK_BYTES));
            check(end <= chunk_count as u64, "first raw chunk", "there are too few chunks")?;
            Ok((extents, raw_bytes))
        };
        let (extents, raw_bytes) = checked().map_err(|error: Error| error.within(&entry.name))?;
        let first_raw_chunk = entry.first_raw_chunk as usize;
        Ok(File { name: entry.name, bytes: entry.bytes, first_raw_chunk, raw_bytes, extents })
    }

    fn frames(&self, entries: Vec<FrameEntry>, tensors: &[Tensor], tables: usize, chunks: usize) -> Result<Vec<Frame>> {
        let mut used: Vec<Option<(DType, u64)>> = vec![None; entries.len()];
        for tensor in tensors {
            let kind = (tensor.dtype, element_len(tensor));
            for &frame in &tensor.frames {
                let first = used.get_mut(frame).map(|first| *first.get_or_insert(kind));
                check(first == Some(kind), "tensor", "its frame codes tensors of another kind")
                    .map_err(|error| error.within(&tensor.name))?;
            }
        }
        let mut frames = Vec::with_capacity(entries.len());
        for (index, (entry, used)) in entries.iter().zip(used).enumerate() {
            let used = used.ok_or(Error::invalid("frame", "no tensor uses it"));
            let frame = used.and_then(|(dtype, len)| {
                let reference = reference(entry, index, entries.len())?;
                Ok(Frame { reference, ..frame(entry, dtype, len, tables, chunks)? })
            });
            frames.push(frame.map_err(|error| error.within(&format!("frame {index}")))?);
        }
        Ok(frames)
    }
}

/// Elements as frames count them: bytes for the 4-bit types.
fn element_len(tensor: &Tensor) -> u64 {
    tensor.bytes.div_ceil(tensor.dtype.element_bytes() as u64)
}

/// Which of `len` things a number means. Numbers are never cut to a machine's width: that would turn a wrong one into
/// another.
fn place<N: TryFrom<u64> + PartialOrd>(number: u64, len: N) -> Option<N> {
    N::try_from(number).ok().filter(|place| *place < len)
}

#[expect(clippy::arithmetic_side_effects, reason = "tensors are known to lie inside the file")]
fn extents(file: &FileEntry, framed: &[usize], tensors: &[Tensor]) -> Result<(Vec<Extent>, u64)> {
    let mut extents = Vec::with_capacity(2 * framed.len() + 1);
    let (mut end, mut raw_bytes) = (0u64, 0u64);
    let mut raw_until = |end: u64, next: u64, extents: &mut Vec<Extent>| {
        if next > end {
            extents.push(Extent { offset: end, bytes: next - end, source: ExtentSource::Raw(raw_bytes) });
            raw_bytes += next - end;
        }
    };
    for (&index, tensor) in framed.iter().filter_map(|index| Some((index, tensors.get(*index)?))) {
        check(tensor.offset >= end, "tensor", "a tensor with frames overlaps the one before it")?;
        raw_until(end, tensor.offset, &mut extents);
        extents.push(Extent { offset: tensor.offset, bytes: tensor.bytes, source: ExtentSource::Tensor(index) });
        end = tensor.offset + tensor.bytes;
    }
    raw_until(end, file.bytes, &mut extents);
    Ok((extents, raw_bytes))
}

#[expect(clippy::arithmetic_side_effects, reason = "rows have levels, and no more pieces than these")]
fn frame(entry: &FrameEntry, dtype: DType, element_len: u64, tables: usize, chunks: usize) -> Result<Frame> {
    refuse_unknown(entry)?;
    let chunk_len = u64::from(entry.chunk_len);
    check((1..=CHUNK_LEN_MAX).contains(&chunk_len), "chunk_len", "out of range")?;
    let coding = match entry.coding {
        CODING_PLANES => {
            refuse_levels(entry)?;
            Coding::Planes(record(entry, dtype, element_len)?)
        }
        CODING_LEVELS => Coding::Levels(levels(entry, dtype, element_len, tables)?),
        other => return Err(Error::unsupported("coding", other.to_string())),
    };
    let side_chunk = matches!(&coding, Coding::Levels(levels) if levels.side != 0);
    let mut frame = Frame {
        dtype,
        element_len,
        chunk_len,
        reference: None,
        side_chunk: side_chunk.then_some(entry.first_chunk as usize),
        first_chunk: (entry.first_chunk as usize).saturating_add(side_chunk.into()),
        chunk_count: 0,
        coding,
    };
    let chunk_count = match frame.row_cut() {
        Some((row_len, pieces)) => element_len / row_len * pieces,
        None => element_len.div_ceil(chunk_len),
    };
    let count = usize::try_from(chunk_count).ok();
    let count = count.filter(|&count| frame.first_chunk.checked_add(count).is_some_and(|end| end <= chunks));
    frame.chunk_count = count.ok_or(Error::invalid("first chunk", "there are too few chunks"))?;
    Ok(frame)
}

/// Refuses fields of levels in a frame of planes, but for defaults, which have no effect.
fn refuse_levels(entry: &FrameEntry) -> Result<()> {
    let required = entry.matrix.is_some() || entry.tables.is_some() || entry.scale.is_some();
    let bits = [entry.low_bits, entry.side, entry.quantizer, entry.transform, entry.layout];
    let bits = bits.into_iter().fold(0, |bits, field| bits | field.unwrap_or(0));
    let numbers = (entry.zero_point.unwrap_or(0), entry.gain.unwrap_or(GAIN_ONE));
    check(!required && bits == 0 && numbers == (0, GAIN_ONE), "coding", "planes with fields of levels")
}

/// Bytes of each field of the records that a frame of planes holds.
#[expect(clippy::cast_possible_truncation, reason = "no field has more bytes than a chunk elements")]
fn record(entry: &FrameEntry, dtype: DType, element_len: u64) -> Result<Vec<usize>> {
    let element_bytes = dtype.element_bytes();
    let Some(record) = &entry.record else { return Ok(vec![1; element_bytes]) };
    check_limit("record", record.len() as u64, RECORD_FIELDS_MAX)?;
    let bytes = record.iter().fold(0u64, |bytes, &field| bytes.saturating_add(field)).max(1);
    let whole = element_len.is_multiple_of(bytes) && u64::from(entry.chunk_len).is_multiple_of(bytes);
    let fields = !record.is_empty() && !record.contains(&0);
    check(whole && fields && element_bytes == 1, "record", "its fields do not make up chunks of bytes")?;
    Ok(record.iter().map(|&field| field as usize).collect())
}

/// The frame that frame `index` of `count` is predicted from; those of the base follow the archive's own.
fn reference(entry: &FrameEntry, index: usize, count: usize) -> Result<Option<usize>> {
    let gains = entry.gain.is_some() || entry.side.is_some_and(|side| side & Side::RowGain.bit() != 0);
    let place = match entry.reference.as_deref() {
        None => {
            check(!gains, "gain", "it needs a reference")?;
            return Ok(None);
        }
        Some(&[0, frame]) if frame < index as u64 => Some(frame),
        // Whether the base has it is known once that is there. No header has room for 2³² frames.
        Some(&[1, frame]) => Some(frame.saturating_add(count as u64).min(u32::MAX.into())),
        Some(_) => None,
    };
    let place = place.and_then(|place| usize::try_from(place).ok());
    place.map(Some).ok_or(Error::invalid("reference", "not an earlier frame, and not one of the base"))
}

/// Checks that the first `count` frames can be predicted from their references, as far as these are known: all are once those
/// of the base are `linked`.
pub(super) fn references(frames: &[Frame], count: usize, linked: bool) -> Result<()> {
    for (index, frame) in frames.iter().take(count).enumerate() {
        let mut next = frame.reference;
        let mut depth = 0u64;
        while let Some(reference) = next.filter(|&reference| linked || reference < count) {
            let checked = frames.get(reference).ok_or(Error::invalid("reference", "the base has no such frame"));
            let checked = checked.and_then(|reference| match depth {
                0 => corresponds(frame, reference).map(|()| reference),
                _ => Ok(reference),
            });
            next = checked.map_err(|error| error.within(&format!("frame {index}")))?.reference;
            depth = depth.saturating_add(1);
            check_limit("references", depth, REFERENCE_DEPTH_MAX)?;
        }
    }
    Ok(())
}

/// Whether every chunk of a frame can be predicted from the same chunk of its reference.
fn corresponds(frame: &Frame, reference: &Frame) -> Result<()> {
    let same = match (&frame.coding, &reference.coding) {
        (Coding::Planes(record), Coding::Planes(other)) => record == other && frame.dtype == reference.dtype,
        (Coding::Levels(levels), Coding::Levels(other)) => {
            let geometry = |levels: &Levels| (levels.columns, levels.taps, levels.column_major);
            geometry(levels) == geometry(other)
        }
        _ => false,
    };
    check(same && frame.chunk_len == reference.chunk_len, "reference", "its chunks do not correspond")
}

fn refuse_unknown(entry: &FrameEntry) -> Result<()> {
    if let Some(quantizer) = entry.quantizer.filter(|&quantizer| quantizer > QUANTIZER_TRELLIS) {
        return Err(Error::unsupported("quantizer", quantizer.to_string()));
    }
    let known = [("transform", entry.transform, TRANSFORM_DCT), ("layout", entry.layout, LAYOUT_COLUMN_MAJOR)];
    match known.into_iter().find(|(_, value, last)| value.unwrap_or(0) > *last) {
        Some((field, value, _)) => Err(Error::unsupported(field, value.unwrap_or(0).to_string())),
        None => Ok(()),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "extents are below 2^31, and the tables exist")]
fn levels(entry: &FrameEntry, dtype: DType, element_len: u64, tables: usize) -> Result<Levels> {
    check(entry.record.is_none(), "record", "levels have none")?;
    let Some(&[rows, columns, taps]) = entry.matrix.as_deref() else {
        return Err(Error::invalid("matrix", "levels need one of three extents"));
    };
    let row_len = columns.checked_mul(taps).filter(|&len| len <= EXTENT_MAX).unwrap_or(u64::MAX);
    let covers = rows <= EXTENT_MAX && rows.checked_mul(row_len) == Some(element_len);
    check(covers, "matrix", "it does not cover the tensor")?;
    let chunk_len = u64::from(entry.chunk_len);
    check(chunk_len <= row_len || chunk_len.is_multiple_of(row_len), "chunk_len", "not whole rows")?;
    let Some(&[first_table, table_count]) = entry.tables.as_deref() else {
        return Err(Error::invalid("tables", "levels need a first one and a count"));
    };
    let exist = table_count >= 1 && first_table.saturating_add(table_count) <= tables as u64;
    check(exist, "tables", "there are too few")?;
    let levels = Levels {
        rows: rows as usize,
        columns: columns as usize,
        taps: taps as usize,
        first_table: first_table as usize,
        table_count: table_count as usize,
        scale: entry.scale,
        zero_point: entry.zero_point.unwrap_or(0),
        low_bits: entry.low_bits.unwrap_or(0),
        side: entry.side.unwrap_or(0),
        gain: entry.gain.unwrap_or(GAIN_ONE),
        trellis: entry.quantizer == Some(QUANTIZER_TRELLIS),
        column_major: entry.layout == Some(LAYOUT_COLUMN_MAJOR),
        dct: entry.transform == Some(TRANSFORM_DCT),
    };
    let sets = if levels.trellis { 2 } else { 1 };
    check(table_count.is_multiple_of(sets), "tables", "they do not serve two quantizers")?;
    check_limit("tables", table_count.div_ceil(sets), FRAME_TABLES_MAX)?;
    check(!levels.trellis || levels.low_bits == 0, "low_bits", "the trellis has none")?;
    check(!levels.trellis || levels.scale.is_some(), "quantizer", "integers have no trellis")?;
    check(i16::try_from(levels.gain).is_ok(), "gain", "out of range")?;
    check(levels.low_bits <= LOW_BITS_MAX, "low_bits", "more than 16")?;
    check_values(&levels, dtype)?;
    check_side(&levels, chunk_len < row_len)?;
    Ok(levels)
}

fn check_values(levels: &Levels, dtype: DType) -> Result<()> {
    match levels.scale {
        Some(scale) => {
            check(dtype.is_float(), "scale", "integers have none")?;
            check(levels.zero_point == 0, "zero_point", "floats have none")?;
            check(quantize::is_scale(scale), "scale", "out of range")
        }
        None => {
            let integer = matches!(dtype, DType::I8 | DType::U8 | DType::I16 | DType::U16 | DType::Bool);
            check(integer, "scale", "only integers of 8 and 16 bits have none")
        }
    }
}

fn check_side(levels: &Levels, rows_are_cut: bool) -> Result<()> {
    if levels.side >> SIDE_BITS != 0 {
        return Err(Error::unsupported("side", levels.side.to_string()));
    }
    let tap_arrays = levels.has(Side::TapClass) || levels.has(Side::TapExponent);
    check(!tap_arrays || levels.taps > 1, "side", "tap arrays need taps")?;
    let permuted = levels.has(Side::RowPermutation) || levels.has(Side::ColumnPermutation);
    check(!permuted || !rows_are_cut, "side", "permutations need chunks of whole rows")?;
    check(!levels.column_major || !rows_are_cut, "layout", "column-major needs chunks of whole rows")?;
    check(!levels.column_major || !levels.has(Side::RowPermutation), "layout", "column-major has no row permutation")?;
    check(!levels.dct || !rows_are_cut, "transform", "it needs chunks of whole rows")?;
    check(!levels.dct || levels.scale.is_some(), "transform", "integers have none")?;
    check(!levels.dct || !levels.has(Side::ColumnPermutation), "transform", "it has no column permutation")?;
    check_limit("taps", if levels.dct { levels.taps as u64 } else { 0 }, DCT_TAPS_MAX)?;
    check_limit("side", levels.side_entries(), SIDE_ENTRIES_MAX)
}

fn check(condition: bool, field: &'static str, reason: &'static str) -> Result<()> {
    if condition { Ok(()) } else { Err(Error::invalid(field, reason)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_not_cut_to_32_bits() {
        // What a machine of 32 bits, such as wasm, makes of frame 2^32 where there is a frame 0.
        assert_eq!(place::<u32>(1 << 32, 5), None);
        assert_eq!(place::<u32>(u64::MAX, u32::MAX), None);
        assert_eq!([4, 5].map(|number| place::<u32>(number, 5)), [Some(4), None]);
    }
}
