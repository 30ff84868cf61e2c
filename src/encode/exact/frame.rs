//! Exact elements of one tensor -> one frame: payloads of its chunks, and the header entry that describes them.

use std::ops::Range;

use rayon::prelude::*;

use crate::container::{FrameEntry, serialize_chunk_entry};
use crate::encode::exact::planes;
use crate::encode::scratch::{Kept, Scratch};
use crate::error::Result;
use crate::format::{CHUNK_LEN_MAX, CODING_PLANES};
use crate::stages::planes::split_field;
use crate::tensor::DType;

/// A coded frame. `entry.first_chunk` and the first table are the archive's to fill in.
#[derive(Debug, Clone)]
pub struct CodedFrame {
    /// The header's entry.
    pub entry: FrameEntry,
    /// Payloads, the side chunk first if there is one.
    pub payloads: Vec<Vec<u8>>,
}

impl CodedFrame {
    /// Bytes of all payloads.
    pub fn bytes(&self) -> u64 {
        self.payloads.iter().map(|payload| payload.len() as u64).sum()
    }

    /// The same, out of the way.
    ///
    /// # Errors
    /// `LimitExceeded` if a chunk is too long, `Io` if there is no room for it.
    pub fn kept(self, scratch: &Scratch) -> Result<KeptFrame> {
        let payloads = self.payloads.into_iter().map(|payload| Payload::new(payload, scratch));
        Ok(KeptFrame { entry: self.entry, payloads: payloads.collect::<Result<_>>()? })
    }
}

/// A frame whose payloads wait to be written.
#[derive(Debug, Clone)]
pub struct KeptFrame {
    /// The header's entry.
    pub entry: FrameEntry,
    /// Its payloads.
    pub payloads: Vec<Payload>,
}

impl KeptFrame {
    /// Bytes of all payloads.
    pub fn bytes(&self) -> u64 {
        self.payloads.iter().map(|payload| payload.kept.len() as u64).sum()
    }

    /// Bits of all payloads, and of the hashes and lengths that the header keeps for them.
    pub fn bits(&self) -> f64 {
        8.0 * self.payloads.iter().map(|payload| payload.kept.len() + payload.entry.len()).sum::<usize>() as f64
    }
}

/// The payload of a chunk, and its entry in the chunk table.
#[derive(Debug, Clone)]
pub struct Payload {
    /// Its bytes.
    pub kept: Kept,
    /// The entry.
    pub entry: Vec<u8>,
}

impl Payload {
    /// Keeps a payload.
    ///
    /// # Errors
    /// `LimitExceeded` if it is too long, `Io` if there is no room for it.
    pub fn new(payload: Vec<u8>, scratch: &Scratch) -> Result<Self> {
        let mut entry = Vec::new();
        serialize_chunk_entry(&payload, &mut entry)?;
        Ok(Payload { kept: scratch.keep(payload)?, entry })
    }
}

/// A frame of exact planes: of elements, or of records if there are fields of these many bytes. `adaptive`: whether long planes of
/// elements of several bytes may adapt.
pub fn exact(bytes: &[u8], dtype: DType, record: &[u16], adaptive: bool) -> CodedFrame {
    frame(bytes.len(), dtype, record, |range, fields| {
        let chunk = &bytes[range];
        if record.is_empty() {
            return planes::encode_elements(chunk, dtype, adaptive);
        }
        (0..fields.len()).flat_map(|field| planes::encode_plane(&split_field(chunk, fields, field))).collect()
    })
}

/// The same, predicted from the bytes that a frame of the same type and fields decodes to; which one is the archive's to fill in.
pub fn predicted(bytes: &[u8], dtype: DType, record: &[u16], reference: &[u8]) -> CodedFrame {
    frame(bytes.len(), dtype, record, |range, fields| {
        let same_chunk = &reference[range.start.min(reference.len())..range.end.min(reference.len())];
        planes::encode_predicted(&bytes[range], same_chunk, dtype, fields)
    })
}

/// A frame of so many bytes, by the payload of each chunk of them and of its fields.
fn frame(
    len: usize,
    dtype: DType,
    record: &[u16],
    payload: impl Fn(Range<usize>, &[usize]) -> Vec<u8> + Sync,
) -> CodedFrame {
    let element_bytes = (dtype.bits() as usize).div_ceil(8);
    let (fields, chunk_len) = if record.is_empty() {
        (vec![1; element_bytes], CHUNK_LEN_MAX as usize)
    } else {
        let fields: Vec<usize> = record.iter().map(|&field| field.into()).collect();
        let record_bytes = fields.iter().sum::<usize>();
        (fields, CHUNK_LEN_MAX as usize / record_bytes * record_bytes)
    };
    let chunk_bytes = chunk_len * element_bytes;
    let range = |chunk: usize| chunk * chunk_bytes..len.min((chunk + 1) * chunk_bytes);
    let chunks = (0..len.div_ceil(chunk_bytes)).into_par_iter();
    let payloads = chunks.map(|chunk| payload(range(chunk), &fields)).collect();
    let record = (!record.is_empty()).then(|| record.iter().map(|&field| field.into()).collect());
    let entry = FrameEntry { coding: CODING_PLANES, chunk_len: chunk_len as u32, record, ..FrameEntry::default() };
    CodedFrame { entry, payloads }
}
