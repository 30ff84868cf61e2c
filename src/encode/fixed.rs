//! What loses nothing -> payloads: bytes between tensors, exact tensors, integers. None of it depends on the quantization.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use rayon::prelude::*;

use crate::encode::base;
use crate::encode::contents::Contents;
use crate::encode::exact::frame::{KeptFrame, Payload, exact};
use crate::encode::exact::planes::encode_plane;
use crate::encode::levels::integers::{self, Coders, Integers};
use crate::encode::options::Options;
use crate::encode::progress::{Counter, map_in_parts};
use crate::encode::scratch::Scratch;
use crate::error::Result;
use crate::format::RAW_CHUNK_BYTES;
use crate::source::Source;
use crate::tensor::TensorLocation;

/// The payloads.
pub struct Fixed {
    /// Of each file, its raw stream.
    pub raw: Vec<Vec<Payload>>,
    exact: HashMap<usize, KeptFrame>,
    /// The frames of integers, and their tables.
    pub integers: Integers,
}

impl Fixed {
    /// Codes everything but the frames in `lossy`.
    ///
    /// # Errors
    /// Whatever is wrong with the files, the base, or the room for payloads.
    pub fn new(contents: &Contents, lossy: &HashSet<usize>, options: &Options) -> Result<Self> {
        let scratch = Scratch::new(options.scratch)?;
        let gaps: Vec<Vec<Range<u64>>> = (0..contents.files.len()).map(|file| contents.gaps(file)).collect();
        let exact = (0..contents.frame_count()).filter(|frame| !lossy.contains(frame));
        let (levels, exact): (Vec<_>, Vec<_>) =
            exact.map(|frame| (frame, contents.tensor(frame))).partition(|(_, tensor)| integers::are_levels(tensor));
        let gap_bytes = |gaps: &[Range<u64>]| gaps.iter().map(|gap| gap.end - gap.start).sum::<u64>();
        let exact_bytes = exact.iter().map(|(_, tensor)| tensor.bytes).sum::<u64>();
        let all_bytes = exact_bytes + gaps.iter().map(|gaps| gap_bytes(gaps)).sum::<u64>();
        let begun = Counter::new("packing exact bytes", all_bytes);
        let raw = gaps.iter().zip(contents.files).map(|(gaps, file)| {
            (options.progress)(begun.begin(None, gap_bytes(gaps)));
            raw_payloads(file, gaps, &scratch)
        });
        let raw = raw.collect::<Result<Vec<_>>>()?;
        let elements = |(_, tensor): &(usize, &TensorLocation)| tensor.bytes as usize;
        let planes = |tensor: &TensorLocation| exact_frame(contents, tensor, &scratch, options);
        let frames = map_in_parts(exact, elements, |(frame, tensor)| {
            (options.progress)(begun.begin(Some(&tensor.name), tensor.bytes));
            Ok((frame, planes(tensor)?))
        })?;
        let coders = Coders {
            read: |tensor: &TensorLocation| contents.bytes(tensor),
            planes,
            predicted: options.base.is_some(),
        };
        let integers = integers::encode(&levels, &scratch, &coders)?;
        Ok(Fixed { raw, exact: frames.into_iter().collect(), integers })
    }

    /// Bytes of all payloads.
    pub fn bytes(&self) -> u64 {
        let frames = self.exact.values().chain(self.integers.frames.values());
        self.raw_bytes() + frames.map(KeptFrame::bytes).sum::<u64>()
    }

    /// Bytes of the raw streams' payloads.
    pub fn raw_bytes(&self) -> u64 {
        self.raw.iter().flatten().map(|payload| payload.kept.len() as u64).sum()
    }

    /// Frame `index`, if it is one of these, for a header in which `first_table` tables come before theirs.
    pub fn frame(&self, index: usize, first_table: usize) -> Option<KeptFrame> {
        self.integers.frame(index, first_table).or_else(|| self.exact.get(&index).cloned())
    }
}

/// The exact frame of a tensor, predicted from the base's where that is smaller.
///
/// # Errors
/// Whatever is wrong with the tensor, the base, or the room for payloads.
pub fn exact_frame(
    contents: &Contents,
    tensor: &TensorLocation,
    scratch: &Scratch,
    options: &Options,
) -> Result<KeptFrame> {
    let bytes = contents.bytes(tensor)?;
    let coded = exact(&bytes, tensor.dtype, tensor.record, options.adaptive).kept(scratch)?;
    let Some(base) = options.base else { return Ok(coded) };
    match base::predict_exact(base, tensor, &bytes)? {
        Some(predicted) if predicted.bytes() < coded.bytes() => predicted.kept(scratch),
        _ => Ok(coded),
    }
}

/// The chunks of the bytes of a file that belong to no frame.
fn raw_payloads(file: &dyn Source, gaps: &[Range<u64>], scratch: &Scratch) -> Result<Vec<Payload>> {
    let bytes = gaps.iter().map(|gap| gap.end - gap.start).sum::<u64>();
    let chunk = |index: u64| {
        let first = index * RAW_CHUNK_BYTES;
        let chunk = read_gaps(file, gaps, first..bytes.min(first + RAW_CHUNK_BYTES))?;
        Payload::new(encode_plane(&chunk), scratch)
    };
    (0..bytes.div_ceil(RAW_CHUNK_BYTES)).into_par_iter().map(chunk).collect()
}

/// Part of what lies in the gaps, seen as one stream.
fn read_gaps(file: &dyn Source, gaps: &[Range<u64>], stream: Range<u64>) -> Result<Vec<u8>> {
    let mut bytes = vec![0; (stream.end - stream.start) as usize];
    let (mut start, mut filled) = (0, 0);
    for gap in gaps {
        let end = start + gap.end - gap.start;
        let (from, to) = (stream.start.max(start), stream.end.min(end));
        if from < to {
            let next = filled + (to - from) as usize;
            file.read_at(gap.start + from - start, &mut bytes[filled..next])?;
            filled = next;
        }
        start = end;
    }
    Ok(bytes)
}
