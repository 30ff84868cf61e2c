//! The archive as JavaScript sees it: a description, plans, and chunks decoded between two arenas.

use wasm_bindgen::prelude::*;

use super::js_error;
use crate::container::{self, Coding};
use crate::decode::{PieceSource, plan};
use crate::entropy::decode_planes;
use crate::error::{Error, Result};
use crate::reconstruct::FrameDecoder;
use crate::stages::pack::level_bits;
use crate::tensor::Limits;

type JsResult<T> = std::result::Result<T, JsValue>;

/// A parsed header, the frame that is being decoded, and the arenas.
#[wasm_bindgen]
pub struct Archive {
    archive: container::Archive,
    frame: Option<FrameDecoder>,
    payload: Vec<u8>,
    /// Decoded bytes, as words so that they are aligned for every dtype.
    decoded: Vec<u64>,
    #[cfg(feature = "gpu")]
    packed: Vec<u8>,
}

#[wasm_bindgen]
impl Archive {
    /// Bytes of preamble and header together; `preamble` is the first 32 bytes.
    #[wasm_bindgen(js_name = headBytes)]
    pub fn head_bytes(preamble: &[u8]) -> JsResult<f64> {
        let bytes = container::Archive::head_bytes(preamble, &Limits::default()).map_err(js_error)?;
        Ok(bytes as f64)
    }

    /// Parses and checks preamble and header; those of a delta are linked to its base, which is used up.
    #[wasm_bindgen(constructor)]
    pub fn new(head: &[u8], base: Option<Archive>) -> JsResult<Archive> {
        let mut archive = container::Archive::parse(head, &Limits::default()).map_err(js_error)?;
        let linked = match base {
            Some(base) => archive.link(base.archive),
            None => archive.require_base(),
        };
        linked.map_err(js_error)?;
        Ok(Archive {
            archive,
            frame: None,
            payload: Vec::new(),
            decoded: Vec::new(),
            #[cfg(feature = "gpu")]
            packed: Vec::new(),
        })
    }

    /// Everything that a reader needs to know, as nested arrays.
    #[wasm_bindgen(unchecked_return_type = "any[]")]
    pub fn describe(&self) -> JsResult<JsValue> {
        describe(&self.archive)
    }

    /// Of every chunk: which archive it lies in (0 this one, 1 its base, 2 the base of that), offset, length.
    pub fn chunks(&self) -> Vec<f64> {
        let place = |chunk: &container::Chunk| [chunk.archive as f64, chunk.offset as f64, f64::from(chunk.bytes)];
        self.archive.chunks.iter().flat_map(place).collect()
    }

    /// The hashes of all chunks, 16 bytes each.
    pub fn hashes(&self) -> Vec<u8> {
        self.archive.chunks.iter().flat_map(|chunk| chunk.hash.0).collect()
    }

    /// The pieces of a byte range of a file, at a pass: frame (-1 for the raw stream), chunk (of the archive if raw, else of the frame;
    /// -1 for all), bytes that it decodes to (only if raw), bytes to skip, bytes to take.
    pub fn plan(&self, file: usize, offset: f64, bytes: f64, pass: usize) -> JsResult<Vec<f64>> {
        let pieces = plan(&self.archive, file, offset as u64, bytes as u64, pass).map_err(js_error)?;
        let flat = |piece: crate::decode::Piece| {
            let [frame, chunk, decoded] = match piece.source {
                PieceSource::Raw(chunk, bytes) => [-1.0, chunk as f64, bytes as f64],
                PieceSource::Chunk(frame, chunk) => [frame as f64, chunk as f64, 0.0],
                PieceSource::Frame(frame) => [frame as f64, -1.0, 0.0],
            };
            [frame, chunk, decoded, piece.skip as f64, piece.bytes as f64]
        };
        Ok(pieces.into_iter().flat_map(flat).collect())
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
        let has_side = self.archive.frames.get(frame).is_some_and(|frame| frame.side_chunk.is_some());
        let side = has_side.then_some(self.payload.as_slice());
        self.frame = Some(FrameDecoder::after(self.frame.take(), &self.archive, frame, side).map_err(js_error)?);
        Ok(())
    }

    /// Decodes the payload as element chunk `index` of a frame that the open one is predicted from; see
    /// [`FrameDecoder::decode_reference`].
    #[wasm_bindgen(js_name = decodeReference)]
    pub fn decode_reference(&mut self, frame: usize, index: usize) -> JsResult<()> {
        opened(&mut self.frame)
            .and_then(|decoder| decoder.decode_reference(frame, index, &self.payload))
            .map_err(js_error)
    }

    /// Decodes the payload as element chunk `index` of the open frame; gives the number of decoded bytes.
    #[wasm_bindgen(js_name = decodeChunk)]
    pub fn decode_chunk(&mut self, index: usize) -> JsResult<usize> {
        let decoder = opened(&mut self.frame).map_err(js_error)?;
        let bytes = decoder.chunk_bytes(index).map_err(js_error)?;
        self.decoded.resize(bytes.div_ceil(8), 0);
        let decoded = &mut bytemuck::cast_slice_mut(&mut self.decoded)[..bytes];
        decoder.decode(index, &self.payload, decoded).map_err(js_error)?;
        Ok(bytes)
    }

    /// Decodes the payload as a chunk of a raw stream that holds this many bytes.
    #[wasm_bindgen(js_name = decodeRaw)]
    pub fn decode_raw(&mut self, bytes: usize) -> JsResult<()> {
        self.decoded.resize(bytes.div_ceil(8), 0);
        let decoded = &mut bytemuck::cast_slice_mut(&mut self.decoded)[..bytes];
        decode_planes(&self.payload, bytes, decoded).map_err(js_error)
    }

    /// Where runs of equal length of the chunk decoded last begin in the tensor; undefined if chunks follow one another.
    pub fn places(&self, index: usize) -> Option<Vec<f64>> {
        Some(self.frame.as_ref()?.places(index)?.offsets.into_iter().map(|offset| offset as f64).collect())
    }
}

/// Levels for [`super::gpu`].
#[cfg(feature = "gpu")]
#[wasm_bindgen]
impl Archive {
    /// Decodes the payload as element chunk `index` of the open frame, but only to levels, and packs them at `bits` bits
    /// (8, 16 or 32); gives their number of bytes, or -1 if one of them needs more bits.
    #[wasm_bindgen(js_name = decodeLevels)]
    pub fn decode_levels(&mut self, index: usize, bits: u32) -> JsResult<i32> {
        let decoder = opened(&mut self.frame).map_err(js_error)?;
        let levels = decoder.decode_levels(index, &self.payload).map_err(js_error)?;
        self.packed.clear();
        let fits = crate::stages::pack::pack(&levels, bits, &mut self.packed);
        Ok(if fits { self.packed.len() as i32 } else { -1 })
    }

    /// Where packed levels lie. Valid until the next call that allocates.
    pub fn packed(&self) -> *const u8 {
        self.packed.as_ptr()
    }
}

#[cfg(feature = "gpu")]
impl Archive {
    /// The parsed header.
    pub(super) fn header(&self) -> &container::Archive {
        &self.archive
    }
}

fn opened(frame: &mut Option<FrameDecoder>) -> Result<&mut FrameDecoder> {
    frame.as_mut().ok_or_else(|| Error::argument("no frame is open"))
}

/// The bits that hold the symbols of a frame as levels.
fn frame_level_bits(archive: &container::Archive, levels: &container::Levels) -> u32 {
    let tables = archive.tables.iter().skip(levels.first_table).take(levels.table_count);
    // Under the trellis a level is about twice its symbol.
    let low_bits = levels.low_bits + u32::from(levels.trellis);
    let extremes = tables.flat_map(|table| {
        let [first, end] = [table.first(), table.last() + 1].map(|symbol| i32::from(symbol) << low_bits);
        [first, end - 1]
    });
    level_bits(&extremes.collect::<Vec<_>>())
}

/// One entry for each field of `Description` in types.ts, in its order; records in it likewise (js/description.ts). Tuples, as
/// names would be written once for each record.
fn describe(archive: &container::Archive) -> JsResult<JsValue> {
    let index = |index: Option<usize>| index.map_or(-1, |index| index as i32);
    let tensors = archive.tensors.iter().map(|tensor| {
        let frames = &tensor.frames;
        (&tensor.name, tensor.dtype.name(), &tensor.shape.0, tensor.bytes, tensor.file, tensor.offset, frames)
    });
    let frames = archive.frames.iter().map(|frame| {
        let levels = match &frame.coding {
            Coding::Levels(levels) => Some(levels),
            Coding::Planes(_) => None,
        };
        let bits = levels.filter(|levels| !levels.dct).map_or(0, |levels| match frame.reference {
            Some(_) => frame_level_bits(archive, levels).max(16),
            None => frame_level_bits(archive, levels),
        });
        let scattered = levels.is_some_and(|levels| levels.is_scattered());
        let reference = index(frame.reference);
        (index(frame.side_chunk), frame.first_chunk, frame.chunk_count, reference, bits, scattered)
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
