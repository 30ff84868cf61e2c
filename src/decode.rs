//! Archives -> files and tensors, chunk by chunk.
//!
//! [`plan`] says which chunks make up a byte range of a file; every reader, native or in JavaScript, follows it. So the
//! memory that decoding takes does not grow with the archive: one payload, one decoded chunk, and the frame's tables.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

use std::io::Write;

use crate::container::{Archive, Coding, ExtentSource, Tensor};
use crate::entropy::decode_planes;
use crate::error::{Error, Result};
use crate::format::{PREAMBLE_BYTES, RAW_CHUNK_BYTES};
use crate::reconstruct::{FrameDecoder, Places, Scratch};
use crate::source::Source;
use crate::tensor::{Limits, memory_len, room, zeros};

/// Part of a file: `bytes` bytes from `skip` on of what `source` decodes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// What to decode.
    pub source: PieceSource,
    /// Bytes to leave out at the front.
    pub skip: u64,
    /// Bytes to take.
    pub bytes: u64,
}

/// What to decode for a [`Piece`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceSource {
    /// A chunk of a raw stream, and the bytes it decodes to.
    Raw(usize, u64),
    /// An element chunk of a frame: frame, chunk.
    Chunk(usize, usize),
    /// All chunks of a frame, because their elements lie apart.
    Frame(usize),
}

/// The pass of the finest frames.
pub const PASS_FINAL: usize = usize::MAX;

/// Hands over the pieces that make up `bytes` bytes of file `file` from `offset` on, in order. A tensor has the frame of this
/// pass, 0 the coarsest, or its last one if it has fewer.
///
/// # Errors
/// `Argument` if the range is not inside the file; the first one of `give`.
#[expect(clippy::arithmetic_side_effects, reason = "all that is added up lies inside the file")]
pub fn plan(
    archive: &Archive,
    file: usize,
    offset: u64,
    bytes: u64,
    pass: usize,
    give: &mut dyn FnMut(Piece) -> Result<()>,
) -> Result<()> {
    let file = archive.files.get(file).ok_or_else(|| Error::argument("there is no such file"))?;
    let end = offset.checked_add(bytes).filter(|&end| end <= file.bytes);
    let end = end.ok_or_else(|| Error::argument("the range is not inside the file"))?;
    let first = file.extents.partition_point(|extent| extent.offset + extent.bytes <= offset);
    for extent in file.extents.iter().skip(first).take_while(|extent| extent.offset < end) {
        let from = offset.max(extent.offset) - extent.offset;
        let to = end.min(extent.offset + extent.bytes) - extent.offset;
        match extent.source {
            ExtentSource::Raw(start) => {
                let first = (start + from) / RAW_CHUNK_BYTES;
                let first_byte = first * RAW_CHUNK_BYTES;
                let sources = (first as usize..).scan(file.raw_bytes - first_byte, |left, index| {
                    let chunk_bytes = RAW_CHUNK_BYTES.min(*left);
                    *left -= chunk_bytes;
                    Some((PieceSource::Raw(file.first_raw_chunk + index, chunk_bytes), chunk_bytes))
                });
                give_pieces(first_byte, start + from, start + to, sources, give)?;
            }
            ExtentSource::Tensor(tensor) => {
                let frames = archive.tensors.get(tensor).map_or(&[][..], |tensor| &tensor.frames);
                if let Some(&frame) = frames.get(pass).or(frames.last()) {
                    give_tensor_pieces(archive, frame, from, to, give)?;
                }
            }
        }
    }
    Ok(())
}

#[expect(clippy::arithmetic_side_effects, reason = "the range is not empty, and the middle lies between its ends")]
fn give_tensor_pieces(
    archive: &Archive,
    frame: usize,
    from: u64,
    to: u64,
    give: &mut dyn FnMut(Piece) -> Result<()>,
) -> Result<()> {
    let Some(entry) = archive.frames.get(frame) else { return Ok(()) };
    if matches!(&entry.coding, Coding::Levels(levels) if levels.is_scattered()) {
        return give(Piece { source: PieceSource::Frame(frame), skip: from, bytes: to - from });
    }
    let range = |index| entry.chunk_range(index).map(|(first, len)| (entry.byte_len(first), entry.byte_len(len)));
    let mut indices = 0..entry.chunk_count;
    // Chunks are ordered, so the first one that matters can be found by bisection.
    while indices.len() > 1 {
        let middle = indices.start + indices.len() / 2;
        match range(middle) {
            Some((first, _)) if first <= from => indices.start = middle,
            _ => indices.end = middle,
        }
    }
    let start = range(indices.start).map_or(0, |(first, _)| first);
    let sources = (indices.start..entry.chunk_count)
        .filter_map(|index| range(index).map(|(_, bytes)| (PieceSource::Chunk(frame, index), bytes)));
    give_pieces(start, from, to, sources, give)
}

/// Cuts `from..to` at the ends of neighbouring sources, the first of which begins at `start`.
#[expect(clippy::arithmetic_side_effects, reason = "sources end within the tensor or the raw stream")]
fn give_pieces(
    mut start: u64,
    from: u64,
    to: u64,
    sources: impl Iterator<Item = (PieceSource, u64)>,
    give: &mut dyn FnMut(Piece) -> Result<()>,
) -> Result<()> {
    for (source, bytes) in sources {
        let skip = from.max(start) - start;
        give(Piece { source, skip, bytes: to.min(start + bytes) - start - skip })?;
        start += bytes;
        if start >= to {
            break;
        }
    }
    Ok(())
}

/// Reads files and tensors of one archive.
///
/// ```
/// use mcwc::{Limits, Reader};
/// let archive = std::fs::read("tests/vectors/valid/every-kind-5-bits.mcwc")?;
/// let reader = Reader::open(&archive, &Limits::default())?;
/// let file = &reader.archive().files[0];
/// assert_eq!(reader.file(0)?.len() as u64, file.bytes);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Reader<'s, S: Source + ?Sized> {
    archive: Archive,
    /// Its own source, that of its base, and so on.
    sources: Vec<&'s S>,
}

impl<'s, S: Source + ?Sized> Reader<'s, S> {
    /// Reads and checks the header, and that the archive is as long as the header says.
    ///
    /// # Errors
    /// As [`Archive::parse`]; `Incomplete` or `Invalid` if the length is wrong.
    pub fn open(source: &'s S, limits: &Limits) -> Result<Self> {
        let preamble_bytes = usize::try_from(source.bytes()).map_or(PREAMBLE_BYTES, |bytes| bytes.min(PREAMBLE_BYTES));
        let mut preamble = vec![0; preamble_bytes];
        source.read_at(0, &mut preamble)?;
        let head_bytes = Archive::head_bytes(&preamble, limits)?;
        if head_bytes > source.bytes() {
            return Err(Error::Incomplete { needed: head_bytes });
        }
        let mut head = vec![0; memory_len("header", head_bytes)?];
        source.read_at(0, &mut head)?;
        let archive = Archive::parse(&head, limits)?;
        match source.bytes().cmp(&archive.bytes()) {
            std::cmp::Ordering::Less => Err(Error::Incomplete { needed: archive.bytes() }),
            std::cmp::Ordering::Equal => Ok(Reader { archive, sources: vec![source] }),
            std::cmp::Ordering::Greater => Err(Error::invalid("archive", "bytes follow the last chunk")),
        }
    }

    /// The same reader, of an archive that is a delta to `base`.
    ///
    /// # Errors
    /// As [`Archive::link`].
    pub fn with_base(mut self, base: &Reader<'s, S>) -> Result<Self> {
        self.archive.link(base.archive.clone())?;
        self.sources.extend_from_slice(&base.sources);
        Ok(self)
    }

    /// The header's contents.
    pub fn archive(&self) -> &Archive {
        &self.archive
    }

    /// The verified payload of a chunk.
    ///
    /// # Errors
    /// `Checksum` if it is damaged, `Argument` if it does not exist.
    pub fn payload(&self, index: usize) -> Result<Vec<u8>> {
        let chunk = self.archive.chunks.get(index).ok_or_else(|| Error::argument("there is no such chunk"))?;
        let mut payload = vec![0; chunk.bytes as usize];
        let source = self.sources.get(chunk.archive).ok_or_else(|| Error::argument("the base is missing"))?;
        source.read_at(chunk.offset, &mut payload)?;
        self.archive.verify_chunk(index, &payload)?;
        Ok(payload)
    }

    /// A decoder for one frame.
    ///
    /// # Errors
    /// If the side chunk of the frame or of one that it is predicted from is damaged or invalid; `Argument` if the base is
    /// missing.
    pub fn frame(&self, index: usize) -> Result<FrameDecoder> {
        self.frame_with(Scratch::default(), index)
    }

    fn frame_with(&self, scratch: Scratch, index: usize) -> Result<FrameDecoder> {
        let frame = self.archive.frames.get(index);
        let (reference, scratch) = match frame.and_then(|frame| frame.reference) {
            Some(reference) => {
                if reference >= self.archive.frames.len() {
                    self.archive.require_base()?;
                }
                (Some(self.frame_with(scratch, reference)?), Scratch::default())
            }
            None => (None, scratch),
        };
        let side_chunk = frame.and_then(|frame| frame.side_chunk);
        let side = side_chunk.map(|chunk| self.payload(chunk)).transpose()?;
        let decoder = FrameDecoder::open(&self.archive, index, side.as_deref(), reference, scratch);
        decoder.map_err(|error| self.archive.within_chunk(side_chunk, error))
    }

    /// The levels of element chunk `chunk` of a frame, in coded order: what frames of another archive are predicted from.
    ///
    /// # Errors
    /// As [`Reader::frame`]; `Argument` for a frame of planes, or without such a chunk.
    #[cfg(feature = "encoder")]
    pub fn chunk_levels(&self, decoder: &mut FrameDecoder, chunk: usize) -> Result<Vec<i32>> {
        self.decode_references(decoder, chunk)?;
        self.with_payload(decoder.chunk(chunk)?, |payload| decoder.decode_levels(chunk, payload))
    }

    /// A frame, and all of its levels.
    ///
    /// # Errors
    /// As [`Reader::chunk_levels`].
    #[cfg(feature = "encoder")]
    pub fn levels(&self, index: usize) -> Result<(FrameDecoder, Vec<i32>)> {
        let mut decoder = self.frame(index)?;
        let mut levels = Vec::new();
        for chunk in 0..decoder.frame().chunk_count {
            levels.append(&mut self.chunk_levels(&mut decoder, chunk)?);
        }
        Ok((decoder, levels))
    }

    /// Decodes element chunk `index`, and what it is predicted from.
    fn decode_chunk(&self, decoder: &mut FrameDecoder, index: usize, bytes: &mut [u8]) -> Result<()> {
        self.decode_references(decoder, index)?;
        self.with_payload(decoder.chunk(index)?, |payload| decoder.decode(index, payload, bytes))
    }

    fn decode_references(&self, decoder: &mut FrameDecoder, index: usize) -> Result<()> {
        let chunk = |reference: usize| Some((reference, self.archive.frames.get(reference)?.chunk(index)?));
        // What lies beyond a reference without such a chunk is not needed.
        let needed: Vec<_> = self.archive.references(decoder.index()).into_iter().map_while(chunk).collect();
        needed.into_iter().rev().try_for_each(|(reference, chunk)| {
            self.with_payload(chunk, |payload| decoder.decode_reference(reference, index, payload))
        })
    }

    /// Decodes the payload of a chunk of the archive, which errors name.
    fn with_payload<T>(&self, chunk: usize, decode: impl FnOnce(&[u8]) -> Result<T>) -> Result<T> {
        decode(&self.payload(chunk)?).map_err(|error| self.archive.within_chunk(Some(chunk), error))
    }

    /// The bytes of a tensor.
    ///
    /// # Errors
    /// `Argument` if there is none of this name; any error of its chunks.
    pub fn tensor(&self, name: &str) -> Result<Vec<u8>> {
        self.tensor_bytes(self.archive.tensor(name)?, &mut Opened::default())
    }

    /// The bytes of the tensor at this place in the header. One after the other, with the same `opened` for all, tensors take
    /// about the time of their file.
    ///
    /// # Errors
    /// As [`Reader::tensor`].
    pub fn read_tensor(&self, index: usize, opened: &mut Opened) -> Result<Vec<u8>> {
        let tensor = self.archive.tensors.get(index).ok_or_else(|| Error::argument("there is no such tensor"))?;
        self.tensor_bytes(tensor, opened)
    }

    fn tensor_bytes(&self, tensor: &Tensor, opened: &mut Opened) -> Result<Vec<u8>> {
        if let Some(&frame) = tensor.frames.last() {
            return self.whole_frame(self.opened(&mut opened.frame, frame)?);
        }
        let mut bytes = room("tensor", tensor.bytes)?;
        // Wherever an empty one lies, it needs no chunk.
        if tensor.bytes == 0 {
            return Ok(bytes);
        }
        self.write_range(tensor.file, tensor.offset, tensor.bytes, opened, &mut bytes, &mut |_| {})?;
        Ok(bytes)
    }

    /// Writes file `index`, exactly as long as it was, telling `progress` how many bytes each step added.
    ///
    /// # Errors
    /// `Argument` if there is no such file, `Io` if writing fails, any error of its chunks.
    pub fn write_file(&self, index: usize, out: &mut dyn Write, progress: &mut dyn FnMut(u64)) -> Result<()> {
        self.write_pass(index, PASS_FINAL, out, progress)
    }

    /// As [`Reader::write_file`], at a pass of refinement: see [`plan`].
    ///
    /// # Errors
    /// As [`Reader::write_file`].
    pub fn write_pass(
        &self,
        index: usize,
        pass: usize,
        out: &mut dyn Write,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let file = self.archive.files.get(index).ok_or_else(|| Error::argument("there is no such file"))?;
        let mut opened = Opened::default();
        plan(&self.archive, index, 0, file.bytes, pass, &mut |piece| {
            self.write_piece(piece, &mut opened, out, progress)
        })
    }

    /// As [`Reader::write_file`], of `bytes` bytes from `offset` on. One after the other, with the same `opened` for all, ranges
    /// take about the time of their file.
    ///
    /// # Errors
    /// As [`Reader::write_file`]; `Argument` if the range is not inside the file.
    pub fn write_range(
        &self,
        index: usize,
        offset: u64,
        bytes: u64,
        opened: &mut Opened,
        out: &mut dyn Write,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let mut write = |piece| self.write_piece(piece, opened, out, progress);
        plan(&self.archive, index, offset, bytes, PASS_FINAL, &mut write)
    }

    /// The bytes of file `index`.
    ///
    /// # Errors
    /// As [`Reader::write_file`].
    pub fn file(&self, index: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.write_file(index, &mut bytes, &mut |_| {})?;
        Ok(bytes)
    }

    fn write_piece(
        &self,
        piece: Piece,
        opened: &mut Opened,
        out: &mut dyn Write,
        progress: &mut dyn FnMut(u64),
    ) -> Result<()> {
        let Opened { frame: open_frame, raw, raw_chunk, decoded } = opened;
        let source: &[u8] = match piece.source {
            PieceSource::Raw(chunk, bytes) => {
                if *raw_chunk != Some((chunk, bytes)) {
                    *raw_chunk = None;
                    raw.resize(memory_len("chunk", bytes)?, 0);
                    self.with_payload(chunk, |payload| decode_planes(payload, raw.len(), raw))?;
                    *raw_chunk = Some((chunk, bytes));
                }
                raw
            }
            PieceSource::Chunk(frame, chunk) => {
                let decoder = self.opened(open_frame, frame)?;
                decoded.resize(decoder.chunk_bytes(chunk)?, 0);
                self.decode_chunk(decoder, chunk, decoded)?;
                decoded
            }
            PieceSource::Frame(frame) => {
                let decoder = self.opened(open_frame, frame)?;
                *decoded = self.whole_frame(decoder)?;
                decoded
            }
        };
        let range = memory_len("tensor", piece.skip)?..memory_len("tensor", piece.skip.saturating_add(piece.bytes))?;
        let bytes = source.get(range).ok_or_else(|| Error::argument("a piece is not inside what it is cut from"))?;
        out.write_all(bytes).map_err(|error| Error::Io { path: "output".into(), source: error.into() })?;
        progress(piece.bytes);
        Ok(())
    }

    fn opened<'d>(&self, open: &'d mut Option<(usize, FrameDecoder)>, frame: usize) -> Result<&'d mut FrameDecoder> {
        if open.as_ref().is_none_or(|(index, _)| *index != frame) {
            let scratch = open.take().map_or_else(Scratch::default, |(_, mut decoder)| decoder.take_scratch());
            *open = Some((frame, self.frame_with(scratch, frame)?));
        }
        open.as_mut().map(|(_, decoder)| decoder).ok_or_else(|| Error::argument("no frame is open"))
    }

    /// All chunks of a frame, elements in the tensor's order.
    fn whole_frame(&self, decoder: &mut FrameDecoder) -> Result<Vec<u8>> {
        let frame = decoder.frame().clone();
        let mut bytes = Vec::new();
        let mut chunk_bytes = Vec::new();
        let mut written = 0usize;
        for index in 0..frame.chunk_count {
            let len = decoder.chunk_bytes(index)?;
            chunk_bytes.resize(len, 0);
            self.decode_chunk(decoder, index, &mut chunk_bytes)?;
            if index == 0 {
                bytes = zeros("tensor", frame.byte_len(frame.element_len))?;
            }
            let places = decoder.places(index).unwrap_or(Places { run_bytes: len, offsets: vec![written as u64] });
            for (run, offset) in chunk_bytes.chunks_exact(places.run_bytes).zip(places.offsets) {
                let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get_mut(offset..));
                let place = rest.and_then(|rest| rest.get_mut(..run.len()));
                place.ok_or_else(|| Error::argument("a run is not inside its tensor"))?.copy_from_slice(run);
            }
            written = written.saturating_add(len);
        }
        Ok(bytes)
    }
}

/// What a [`Reader`] keeps from one piece to the next, so that neighbours share what they are decoded from.
#[derive(Default)]
pub struct Opened {
    frame: Option<(usize, FrameDecoder)>,
    /// Of a raw chunk, which the gaps between tensors, and the small ones among them, mostly share. Files may share one too,
    /// and decode it to different lengths: of one byte repeated, say.
    raw: Vec<u8>,
    raw_chunk: Option<(usize, u64)>,
    decoded: Vec<u8>,
}
