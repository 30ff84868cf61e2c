//! Chunks -> bytes of tensors: the CPU stages composed. What this computes is the normative result.
//!
//! [`FrameDecoder`] holds what all chunks of a frame share: a frame of levels its tables, scales and side arrays, a
//! predicted one the decoder of its reference.

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

mod elements;
mod levels;
mod planes;
mod side;

#[cfg(feature = "gpu")]
pub(crate) use elements::Elements;
pub use levels::{LevelDecoder, Scratch};
#[cfg(feature = "gpu")]
pub(crate) use levels::{Rectangle, scales_of};
pub(crate) use planes::decode_fields;
pub use side::SideArrays;

use crate::container::{Archive, Coding, Frame};
use crate::error::{Error, Result};
#[cfg(not(feature = "gpu"))]
use levels::Rectangle;
use levels::{CodedChunk, ReferenceLevels};

/// Decodes the chunks of one frame, in any order.
pub struct FrameDecoder {
    index: usize,
    frame: Frame,
    coding: Decoding,
    /// The decoder of the frame that this one is predicted from.
    reference: Option<Box<FrameDecoder>>,
    /// The element chunk that a predicted frame finds here.
    held: Option<usize>,
}

enum Decoding {
    Planes(PlaneDecoder),
    Levels(Box<LevelDecoder>),
}

#[derive(Default)]
struct PlaneDecoder {
    /// One plane.
    plane: Vec<u8>,
    /// The elements of the held chunk.
    elements: Vec<u8>,
}

/// Where the bytes of a chunk belong in its tensor: runs of equal length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// Length of a run.
    pub run_bytes: usize,
    /// Where each run begins.
    pub offsets: Vec<u64>,
}

impl FrameDecoder {
    /// Prepares frame `index`. `side` is the verified payload of its side chunk, and `reference` the decoder of its reference, if
    /// it has them; `scratch` is what another decoder of the same archive has left.
    ///
    /// # Errors
    /// `Argument` if the frame or its side payload is missing, or the reference is another frame's, `Invalid` if the payload
    /// breaks a rule.
    pub fn open(
        archive: &Archive,
        index: usize,
        side: Option<&[u8]>,
        reference: Option<FrameDecoder>,
        scratch: Scratch,
    ) -> Result<Self> {
        let frame = archive.frames.get(index).ok_or_else(|| Error::argument("there is no such frame"))?;
        if reference.as_ref().is_some_and(|reference| frame.reference != Some(reference.index)) {
            return Err(Error::argument("the reference is another frame's"));
        }
        let coding = match &frame.coding {
            Coding::Planes(_) => Decoding::Planes(PlaneDecoder::default()),
            Coding::Levels(levels) => Decoding::Levels(Box::new(LevelDecoder::new(archive, levels, side, scratch)?)),
        };
        Ok(FrameDecoder { index, frame: frame.clone(), coding, reference: reference.map(Box::new), held: None })
    }

    /// Takes what another decoder can use; this one is done.
    pub fn take_scratch(&mut self) -> Scratch {
        match (&mut self.reference, &mut self.coding) {
            // A reference is more like the frame that is opened next, which may be a reference itself.
            (Some(reference), _) => reference.take_scratch(),
            (None, Decoding::Levels(decoder)) => std::mem::take(&mut decoder.scratch),
            (None, Decoding::Planes(_)) => Scratch::default(),
        }
    }

    /// The frame's place in its archive.
    pub fn index(&self) -> usize {
        self.index
    }

    /// The frame.
    pub fn frame(&self) -> &Frame {
        &self.frame
    }

    /// Where element chunk `index` is among the archive's chunks.
    ///
    /// # Errors
    /// `Argument` if there is no such chunk.
    pub fn chunk(&self, index: usize) -> Result<usize> {
        self.frame.chunk(index).ok_or(Error::argument("the frame has no such chunk"))
    }

    /// Bytes that element chunk `index` decodes to.
    ///
    /// # Errors
    /// `Argument` if there is no such chunk.
    #[expect(clippy::cast_possible_truncation, reason = "a chunk has 2^18 elements at most")]
    pub fn chunk_bytes(&self, index: usize) -> Result<usize> {
        let (_, len) = self.range(index)?;
        Ok(self.frame.byte_len(len) as usize)
    }

    /// Decodes the verified payload of element chunk `index` into `bytes`: rows in coded order, columns in the tensor's; if
    /// the frame is column-major, one column after another.
    ///
    /// # Errors
    /// `Invalid` if the payload breaks a rule, `Argument` if `bytes` has the wrong length or the chunk does not exist.
    pub fn decode(&mut self, index: usize, payload: &[u8], bytes: &mut [u8]) -> Result<()> {
        let (first, len) = self.range(index)?;
        if bytes.len() as u64 != self.frame.byte_len(len) {
            return Err(Error::argument("the chunk does not decode to so many bytes"));
        }
        let reference = Reference::of(&self.frame, self.reference.as_deref_mut(), index)?;
        match &mut self.coding {
            Decoding::Planes(decoder) => {
                let Coding::Planes(record) = &self.frame.coding else { return Ok(()) };
                let reference = self.frame.reference.map(|_| reference.elements());
                decode_fields(payload, record, self.frame.dtype, reference, &mut decoder.plane, bytes)
            }
            Decoding::Levels(decoder) => {
                let rectangle = Rectangle::new(&decoder.levels, first, len);
                let chunk = CodedChunk { rectangle, payload, reference: reference.levels() };
                decoder.decode(chunk, self.frame.dtype, bytes)
            }
        }
    }

    /// Decodes the verified payload of element chunk `index` of one of the frames that this one is predicted from, directly
    /// or by way of others: what [`FrameDecoder::decode`] needs first, for every such frame that has the chunk, the farthest
    /// first. That one uses it up.
    ///
    /// # Errors
    /// As [`FrameDecoder::decode`]; `Argument` if this frame is not predicted from that one.
    pub fn decode_reference(&mut self, frame: usize, index: usize, payload: &[u8]) -> Result<()> {
        let Some(reference) = &mut self.reference else {
            return Err(Error::argument("no reference of the frame"));
        };
        if reference.index != frame {
            return reference.decode_reference(frame, index, payload);
        }
        reference.held = None;
        match &mut reference.coding {
            Decoding::Levels(_) => reference.decode_coded(index, payload)?,
            Decoding::Planes(decoder) => {
                let mut elements = std::mem::take(&mut decoder.elements);
                elements.resize(reference.chunk_bytes(index)?, 0);
                reference.decode(index, payload, &mut elements)?;
                if let Decoding::Planes(decoder) = &mut reference.coding {
                    decoder.elements = elements;
                }
            }
        }
        reference.held = Some(index);
        Ok(())
    }

    /// Where the bytes of element chunk `index` belong in the tensor, or `None` if chunks follow one another.
    #[expect(clippy::arithmetic_side_effects, reason = "rows and columns of the tensor, whose bytes have been counted")]
    pub fn places(&self, index: usize) -> Option<Places> {
        let Decoding::Levels(decoder) = &self.coding else { return None };
        let (first, len) = self.frame.chunk_range(index)?;
        let Rectangle { first_row, rows, cols, .. } = Rectangle::new(&decoder.levels, first, len);
        let element_bytes = self.frame.dtype.element_bytes();
        if decoder.levels.column_major {
            let column_bytes = self.frame.byte_len(decoder.levels.rows as u64);
            let first_byte = self.frame.byte_len(first_row as u64);
            let offsets = (0..cols as u64).map(|col| col * column_bytes + first_byte).collect();
            return Some(Places { run_bytes: rows * element_bytes, offsets });
        }
        let permutation = decoder.side.row_permutation.as_ref()?;
        let run_bytes = cols * element_bytes;
        let places = permutation.places().get(first_row..first_row + rows)?;
        let offsets = places.iter().map(|&place| u64::from(place) * run_bytes as u64).collect();
        Some(Places { run_bytes, offsets })
    }

    /// What the chunks of a frame of levels share; `None` for planes.
    pub fn levels(&self) -> Option<&LevelDecoder> {
        match &self.coding {
            Decoding::Levels(decoder) => Some(decoder),
            Decoding::Planes(_) => None,
        }
    }

    /// Decodes the levels of element chunk `index`, in coded order.
    ///
    /// # Errors
    /// As [`FrameDecoder::decode`]; `Argument` for a frame of planes.
    #[expect(clippy::cast_possible_truncation, reason = "levels are exact as floats")]
    pub fn decode_levels(&mut self, index: usize, payload: &[u8]) -> Result<Vec<i32>> {
        self.decode_coded(index, payload)?;
        Ok(self
            .levels()
            .map_or_else(Vec::new, |decoder| decoder.scratch.coded.iter().map(|&level| level as i32).collect()))
    }

    /// Decodes the levels of element chunk `index` and keeps them.
    fn decode_coded(&mut self, index: usize, payload: &[u8]) -> Result<()> {
        let (first, len) = self.range(index)?;
        let reference = Reference::of(&self.frame, self.reference.as_deref_mut(), index)?;
        let Decoding::Levels(decoder) = &mut self.coding else {
            return Err(Error::argument("a frame of planes has no levels"));
        };
        let rectangle = Rectangle::new(&decoder.levels, first, len);
        let chunk = CodedChunk { rectangle, payload, reference: reference.levels() };
        decoder.decode_coded(chunk, &rectangle.unscaled())
    }

    fn range(&self, index: usize) -> Result<(u64, u64)> {
        let range = self.frame.chunk_range(index);
        range.ok_or(Error::argument("the frame has no such chunk"))
    }
}

/// What a chunk is predicted from: the same chunk of the reference, which may be shorter, or missing.
enum Reference<'a> {
    Missing,
    Levels(ReferenceLevels<'a>),
    Planes(&'a [u8]),
}

impl<'a> Reference<'a> {
    /// Takes what the reference's decoder holds.
    fn of(frame: &Frame, decoder: Option<&'a mut FrameDecoder>, index: usize) -> Result<Self> {
        match decoder {
            Some(decoder) if index >= decoder.frame.chunk_count => Ok(Reference::Missing),
            Some(decoder) if decoder.held == Some(index) => {
                decoder.held = None;
                Ok(match &mut decoder.coding {
                    Decoding::Levels(decoder) => {
                        Reference::Levels(ReferenceLevels { levels: &mut decoder.scratch.coded, bound: decoder.bound })
                    }
                    Decoding::Planes(decoder) => Reference::Planes(&decoder.elements),
                })
            }
            None if frame.reference.is_none() => Ok(Reference::Missing),
            _ => Err(Error::argument("the chunk of the frame's reference is needed first")),
        }
    }

    fn levels(self) -> Option<ReferenceLevels<'a>> {
        if let Reference::Levels(levels) = self { Some(levels) } else { None }
    }

    fn elements(&self) -> &'a [u8] {
        if let Reference::Planes(elements) = self { elements } else { &[] }
    }
}
