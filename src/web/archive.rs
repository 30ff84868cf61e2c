//! The archive as JavaScript sees it: a description, plans, and chunks decoded between two arenas.

use wasm_bindgen::prelude::*;

use super::js_error;
use crate::container::{Archive, Chunk, Coding};
use crate::decode::{PieceSource, plan};
use crate::entropy::decode_planes;
use crate::error::Error;
use crate::reconstruct::{FrameDecoder, Scratch};
use crate::tensor::Limits;

type JsResult<T> = std::result::Result<T, JsValue>;

/// A parsed header, the frame that is being decoded, and the arenas.
#[wasm_bindgen(js_name = Archive)]
pub struct ArchiveDecoder {
    archive: Archive,
    frame: Option<FrameDecoder>,
    payload: Vec<u8>,
    /// Decoded bytes, as words so that they are aligned for every dtype.
    decoded: Vec<u64>,
}

#[wasm_bindgen(js_class = Archive)]
impl ArchiveDecoder {
    /// Bytes of preamble and header together; `preamble` is the first 32 bytes.
    #[wasm_bindgen(js_name = headBytes)]
    pub fn head_bytes(preamble: &[u8]) -> JsResult<f64> {
        let bytes = Archive::head_bytes(preamble, &Limits::default()).map_err(js_error)?;
        Ok(bytes as f64)
    }

    /// Parses and checks preamble and header; those of a delta are linked to its base, which is used up.
    #[wasm_bindgen(constructor)]
    pub fn new(head: &[u8], base: Option<ArchiveDecoder>) -> JsResult<ArchiveDecoder> {
        let mut archive = Archive::parse(head, &Limits::default()).map_err(js_error)?;
        let linked = match base {
            Some(base) => archive.link(base.archive),
            None => archive.require_base(),
        };
        linked.map_err(js_error)?;
        Ok(ArchiveDecoder { archive, frame: None, payload: Vec::new(), decoded: Vec::new() })
    }

    /// Everything that a reader needs to know, as nested arrays.
    #[wasm_bindgen(unchecked_return_type = "any[]")]
    pub fn describe(&self) -> JsResult<JsValue> {
        describe(&self.archive)
    }

    /// Of every chunk: which archive it lies in (0 this one, 1 its base, 2 the base of that), offset, length.
    pub fn chunks(&self) -> Vec<f64> {
        let place = |chunk: &Chunk| [chunk.archive as f64, chunk.offset as f64, f64::from(chunk.bytes)];
        self.archive.chunks.iter().flat_map(place).collect()
    }

    /// The hashes of all chunks, 16 bytes each.
    pub fn hashes(&self) -> Vec<u8> {
        self.archive.chunks.iter().flat_map(|chunk| chunk.hash.0).collect()
    }

    /// The pieces of a byte range of a file, at a pass: frame (-1 for the raw stream), chunk (of the archive if raw, else of the frame;
    /// -1 for all), bytes that it decodes to (only if raw), bytes to skip, bytes to take.
    pub fn plan(&self, file: usize, offset: f64, bytes: f64, pass: usize) -> JsResult<Vec<f64>> {
        let mut pieces = Vec::new();
        let mut push = |piece: crate::decode::Piece| {
            let [frame, chunk, decoded] = match piece.source {
                PieceSource::Raw(chunk, bytes) => [-1.0, chunk as f64, bytes as f64],
                PieceSource::Chunk(frame, chunk) => [frame as f64, chunk as f64, 0.0],
                PieceSource::Frame(frame) => [frame as f64, -1.0, 0.0],
            };
            pieces.extend([frame, chunk, decoded, piece.skip as f64, piece.bytes as f64]);
            Ok(())
        };
        plan(&self.archive, file, offset as u64, bytes as u64, pass, &mut push).map_err(js_error)?;
        Ok(pieces)
    }

    /// Where to write a payload of this many bytes. Valid until the next call that allocates.
    pub fn payload(&mut self, bytes: usize) -> *const u8 {
        self.payload.resize(bytes, 0);
        self.payload.as_ptr()
    }

    /// Where decoded bytes lie. Valid until the next call that allocates.
    pub fn decoded(&self) -> *const u8 {
        self.decoded.as_ptr().cast()
    }

    /// Checks the payload against the hash of this chunk of the archive.
    pub fn verify(&self, chunk: usize) -> JsResult<()> {
        self.archive.verify_chunk(chunk, &self.payload).map_err(js_error)
    }

    /// Makes a frame the one that is decoded. If it has a side chunk, that is the payload; if it has a reference, that is
    /// the frame that is open.
    #[wasm_bindgen(js_name = openFrame)]
    pub fn open_frame(&mut self, frame: usize) -> JsResult<()> {
        let entry = self.archive.frames.get(frame);
        let (side_chunk, reference) = entry.map_or((None, None), |entry| (entry.side_chunk, entry.reference));
        let side = side_chunk.map(|_| self.payload.as_slice());
        let (reference, scratch) = match self.frame.take() {
            Some(open) if Some(open.index()) == reference => (Some(open), Scratch::default()),
            open => (None, open.map_or_else(Scratch::default, |mut open| open.take_scratch())),
        };
        let opened = FrameDecoder::open(&self.archive, frame, side, reference, scratch);
        self.frame = Some(opened.map_err(|error| self.error(side_chunk, error))?);
        Ok(())
    }

    /// Decodes the payload as element chunk `index` of a frame that the open one is predicted from; see
    /// [`FrameDecoder::decode_reference`].
    #[wasm_bindgen(js_name = decodeReference)]
    pub fn decode_reference(&mut self, frame: usize, index: usize) -> JsResult<()> {
        let decoded = opened(&mut self.frame)?.decode_reference(frame, index, &self.payload);
        decoded.map_err(|error| self.error(self.chunk_of(frame, index), error))
    }

    /// Decodes the payload as element chunk `index` of the open frame; gives the number of decoded bytes.
    #[wasm_bindgen(js_name = decodeChunk)]
    pub fn decode_chunk(&mut self, index: usize) -> JsResult<usize> {
        let decoder = opened(&mut self.frame)?;
        let (frame, bytes) = (decoder.index(), decoder.chunk_bytes(index).map_err(js_error)?);
        self.decoded.resize(bytes.div_ceil(8), 0);
        let decoded = &mut bytemuck::cast_slice_mut(&mut self.decoded)[..bytes];
        let decoded = decoder.decode(index, &self.payload, decoded);
        decoded.map_err(|error| self.error(self.chunk_of(frame, index), error))?;
        Ok(bytes)
    }

    /// Decodes the payload as this chunk of the archive, of a raw stream, that holds this many bytes.
    #[wasm_bindgen(js_name = decodeRaw)]
    pub fn decode_raw(&mut self, chunk: usize, bytes: usize) -> JsResult<()> {
        self.decoded.resize(bytes.div_ceil(8), 0);
        let decoded = &mut bytemuck::cast_slice_mut(&mut self.decoded)[..bytes];
        decode_planes(&self.payload, bytes, decoded).map_err(|error| self.error(Some(chunk), error))
    }

    /// Where runs of equal length of the chunk decoded last begin in the tensor; undefined if chunks follow one another.
    pub fn places(&self, index: usize) -> Option<Vec<f64>> {
        Some(self.frame.as_ref()?.places(index)?.offsets.into_iter().map(|offset| offset as f64).collect())
    }
}

#[cfg(feature = "gpu")]
impl ArchiveDecoder {
    /// The parsed header.
    pub(super) fn header(&self) -> &Archive {
        &self.archive
    }
}

impl ArchiveDecoder {
    /// The chunk of the archive that holds element chunk `index` of a frame.
    fn chunk_of(&self, frame: usize, index: usize) -> Option<usize> {
        self.archive.frames.get(frame)?.chunk(index)
    }

    /// An error that names the chunk whose payload gave it.
    fn error(&self, chunk: Option<usize>, error: Error) -> JsValue {
        js_error(self.archive.within_chunk(chunk, error))
    }
}

fn opened(frame: &mut Option<FrameDecoder>) -> JsResult<&mut FrameDecoder> {
    frame.as_mut().ok_or_else(|| js_error(Error::argument("no frame is open")))
}

/// One entry for each field of `Description` in types.ts, in its order; records in it likewise (js/description.ts). Tuples, as
/// names would be written once for each record.
fn describe(archive: &Archive) -> JsResult<JsValue> {
    let index = |index: Option<usize>| index.map_or(-1, |index| index as i32);
    let tensors = archive.tensors.iter().map(|tensor| {
        let frames = &tensor.frames;
        // An empty tensor may have more along an axis than JavaScript counts exactly.
        let shape: Vec<f64> = tensor.shape.0.iter().map(|&extent| extent as f64).collect();
        (&tensor.name, tensor.dtype.name(), shape, tensor.bytes, tensor.file, tensor.offset, frames)
    });
    let frames = archive.frames.iter().map(|frame| {
        let levels = match &frame.coding {
            Coding::Levels(levels) => Some(levels),
            Coding::Planes(_) => None,
        };
        let on_gpu = levels.is_some();
        let scattered = levels.is_some_and(|levels| levels.is_scattered());
        let reference = index(frame.reference);
        (index(frame.side_chunk), frame.first_chunk, frame.chunk_count, reference, on_gpu, scattered)
    });
    let description = (
        archive.integrity.to_string(),
        archive.bytes(),
        &archive.metadata,
        archive.files.iter().map(|file| (&file.name, file.bytes)).collect::<Vec<_>>(),
        tensors.collect::<Vec<_>>(),
        frames.collect::<Vec<_>>(),
    );
    Ok(serde_wasm_bindgen::to_value(&description)?)
}
