//! Archives -> files and tensors, chunk by chunk.
//!
//! [`plan`] says which chunks make up a byte range of a file; every reader, native or in JavaScript, follows it. So the
//! memory that decoding takes does not grow with the archive: one payload, one decoded chunk, and the frame's tables.

use std::io::Write;

use crate::container::{Archive, Coding, ExtentSource, RAW_CHUNK_BYTES};
use crate::entropy::decode_planes;
use crate::error::{Error, Result};
use crate::reconstruct::{FrameDecoder, Places};
use crate::source::Source;
use crate::tensor::Limits;

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

/// The pieces that make up `bytes` bytes of file `file` from `offset` on, in order. A tensor has the frame of this pass, 0
/// the coarsest, or its last one if it has fewer.
///
/// # Errors
/// `Argument` if the range is not inside the file.
pub fn plan(archive: &Archive, file: usize, offset: u64, bytes: u64, pass: usize) -> Result<Vec<Piece>> {
    let file = archive.files.get(file).ok_or_else(|| Error::argument(format!("there is no file {file}")))?;
    let end = offset.checked_add(bytes).filter(|&end| end <= file.bytes);
    let end = end.ok_or_else(|| Error::argument(format!("{} ends at byte {}", file.name, file.bytes)))?;
    let mut pieces = Vec::new();
    let first = file.extents.partition_point(|extent| extent.offset + extent.bytes <= offset);
    for extent in file.extents[first..].iter().take_while(|extent| extent.offset < end) {
        let from = offset.max(extent.offset) - extent.offset;
        let to = end.min(extent.offset + extent.bytes) - extent.offset;
        match extent.source {
            ExtentSource::Raw(start) => {
                let stream_bytes = file.raw_bytes;
                let chunk = |index: u64| {
                    let chunk_bytes = RAW_CHUNK_BYTES.min(stream_bytes - index * RAW_CHUNK_BYTES);
                    (PieceSource::Raw(file.first_raw_chunk + index as usize, chunk_bytes), chunk_bytes)
                };
                let first = (start + from) / RAW_CHUNK_BYTES;
                push_pieces(first * RAW_CHUNK_BYTES, start + from, start + to, (first..).map(chunk), &mut pieces);
            }
            ExtentSource::Tensor(tensor) => {
                let frames = &archive.tensors[tensor].frames;
                let Some(&frame) = frames.get(pass).or(frames.last()) else { continue };
                tensor_pieces(archive, frame, from, to, &mut pieces);
            }
        }
    }
    Ok(pieces)
}

fn tensor_pieces(archive: &Archive, frame: usize, from: u64, to: u64, pieces: &mut Vec<Piece>) {
    let entry = &archive.frames[frame];
    if matches!(&entry.coding, Coding::Levels(levels) if levels.is_scattered()) {
        pieces.push(Piece { source: PieceSource::Frame(frame), skip: from, bytes: to - from });
        return;
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
    push_pieces(start, from, to, sources, pieces);
}

/// Cuts `from..to` at the ends of neighbouring sources, the first of which begins at `start`.
fn push_pieces(
    mut start: u64,
    from: u64,
    to: u64,
    sources: impl Iterator<Item = (PieceSource, u64)>,
    pieces: &mut Vec<Piece>,
) {
    for (source, bytes) in sources {
        let skip = from.max(start) - start;
        pieces.push(Piece { source, skip, bytes: to.min(start + bytes) - start - skip });
        start += bytes;
        if start >= to {
            return;
        }
    }
}

/// Reads files and tensors of one archive.
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
        let mut preamble = vec![0; source.bytes().min(crate::container::PREAMBLE_BYTES as u64) as usize];
        source.read_at(0, &mut preamble)?;
        let head_bytes = Archive::head_bytes(&preamble, limits)?;
        if head_bytes > source.bytes() {
            return Err(Error::Incomplete { needed: head_bytes });
        }
        let mut head = vec![0; head_bytes as usize];
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
        let chunk =
            self.archive.chunks.get(index).ok_or_else(|| Error::argument(format!("there is no chunk {index}")))?;
        let mut payload = vec![0; chunk.bytes as usize];
        self.sources[chunk.archive].read_at(chunk.offset, &mut payload)?;
        self.archive.verify_chunk(index, &payload)?;
        Ok(payload)
    }

    /// A decoder for one frame.
    ///
    /// # Errors
    /// If the side chunk of the frame or of one that it is predicted from is damaged or invalid; `Argument` if the base is
    /// missing.
    pub fn frame(&self, index: usize) -> Result<FrameDecoder> {
        self.frame_after(None, index)
    }

    fn frame_after(&self, mut previous: Option<FrameDecoder>, index: usize) -> Result<FrameDecoder> {
        let frame = self.archive.frames.get(index);
        if let Some(reference) = frame.and_then(|frame| frame.reference) {
            if reference >= self.archive.frames.len() {
                self.archive.require_base()?;
            }
            previous = Some(self.frame_after(previous, reference)?);
        }
        let side = frame.and_then(|frame| frame.side_chunk).map(|chunk| self.payload(chunk)).transpose()?;
        FrameDecoder::after(previous, &self.archive, index, side.as_deref())
    }

    /// The levels of element chunk `chunk` of a frame, in coded order: what frames of another archive are predicted from.
    ///
    /// # Errors
    /// As [`Reader::frame`]; `Argument` for a frame of planes, or without such a chunk.
    #[cfg(feature = "encoder")]
    pub fn chunk_levels(&self, decoder: &mut FrameDecoder, chunk: usize) -> Result<Vec<i32>> {
        self.decode_references(decoder, chunk)?;
        let payload = self.payload(decoder.frame().first_chunk + chunk)?;
        decoder.decode_levels(chunk, &payload)
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
        let payload = self.payload(decoder.frame().first_chunk + index)?;
        decoder.decode(index, &payload, bytes)
    }

    fn decode_references(&self, decoder: &mut FrameDecoder, index: usize) -> Result<()> {
        for reference in self.archive.references(decoder.index()).into_iter().rev() {
            let frame = &self.archive.frames[reference];
            if index < frame.chunk_count {
                decoder.decode_reference(reference, index, &self.payload(frame.first_chunk + index)?)?;
            }
        }
        Ok(())
    }

    /// The bytes of a tensor.
    ///
    /// # Errors
    /// `Argument` if there is none of this name; any error of its chunks.
    pub fn tensor(&self, name: &str) -> Result<Vec<u8>> {
        let tensor = self.archive.tensor(name)?;
        let mut bytes = Vec::new();
        match tensor.frames.last() {
            Some(&frame) => self.write_pieces(
                &[Piece { source: PieceSource::Frame(frame), skip: 0, bytes: tensor.bytes }],
                &mut bytes,
                &mut |_| {},
            )?,
            None => {
                let pieces = plan(&self.archive, tensor.file, tensor.offset, tensor.bytes, PASS_FINAL)?;
                self.write_pieces(&pieces, &mut bytes, &mut |_| {})?;
            }
        }
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
        let file = self.archive.files.get(index).ok_or_else(|| Error::argument(format!("there is no file {index}")))?;
        self.write_pieces(&plan(&self.archive, index, 0, file.bytes, pass)?, out, progress)
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

    fn write_pieces(&self, pieces: &[Piece], out: &mut dyn Write, progress: &mut dyn FnMut(u64)) -> Result<()> {
        let mut open_frame: Option<(usize, FrameDecoder)> = None;
        // Raw chunks are kept apart: a file's gaps between tensors mostly share one.
        let (mut raw, mut open_raw) = (Vec::new(), None);
        let mut decoded = Vec::new();
        for piece in pieces {
            let source = match piece.source {
                PieceSource::Raw(chunk, bytes) => {
                    if open_raw != Some(chunk) {
                        raw.resize(bytes as usize, 0);
                        decode_planes(&self.payload(chunk)?, raw.len(), &mut raw)?;
                        open_raw = Some(chunk);
                    }
                    &raw
                }
                PieceSource::Chunk(frame, chunk) => {
                    let decoder = self.opened(&mut open_frame, frame)?;
                    decoded.resize(decoder.chunk_bytes(chunk)?, 0);
                    self.decode_chunk(decoder, chunk, &mut decoded)?;
                    &decoded
                }
                PieceSource::Frame(frame) => {
                    let decoder = self.opened(&mut open_frame, frame)?;
                    decoded = self.whole_frame(decoder)?;
                    &decoded
                }
            };
            let bytes = &source[piece.skip as usize..(piece.skip + piece.bytes) as usize];
            out.write_all(bytes).map_err(|error| Error::Io { path: "output".into(), source: error.into() })?;
            progress(piece.bytes);
        }
        Ok(())
    }

    fn opened<'d>(&self, open: &'d mut Option<(usize, FrameDecoder)>, frame: usize) -> Result<&'d mut FrameDecoder> {
        if open.as_ref().is_none_or(|(index, _)| *index != frame) {
            let previous = open.take().map(|(_, decoder)| decoder);
            *open = Some((frame, self.frame_after(previous, frame)?));
        }
        open.as_mut().map(|(_, decoder)| decoder).ok_or_else(|| Error::argument("no frame is open"))
    }

    /// All chunks of a frame, elements in the tensor's order.
    fn whole_frame(&self, decoder: &mut FrameDecoder) -> Result<Vec<u8>> {
        let frame = decoder.frame().clone();
        let mut bytes = vec![0; frame.byte_len(frame.element_len) as usize];
        let mut chunk_bytes = Vec::new();
        let mut written = 0;
        for index in 0..frame.chunk_count {
            let len = decoder.chunk_bytes(index)?;
            chunk_bytes.resize(len, 0);
            self.decode_chunk(decoder, index, &mut chunk_bytes)?;
            match decoder.places(index) {
                Some(Places { run_bytes, offsets }) => {
                    for (run, offset) in chunk_bytes.chunks_exact(run_bytes).zip(offsets) {
                        bytes[offset as usize..][..run_bytes].copy_from_slice(run);
                    }
                }
                None => bytes[written..written + len].copy_from_slice(&chunk_bytes),
            }
            written += len;
        }
        Ok(bytes)
    }
}
