//! What reading an archive takes, as its header tells.
//!
//! Frames may share chunks, and tensors frames: so a few bytes could keep a reader busy for hours. Archives that do not go over
//! the same bytes again and again stay far below what is allowed.

use super::{Archive, Coding, Frame, check_limit};
use crate::error::Result;

/// Of a chunk, beside its elements: finding, hashing and splitting it.
const CHUNK_WORK: u64 = 1024;
/// Of a table: the slots that it is looked up in, several at a time.
const TABLE_WORK: u64 = 1024;
/// Allowed for each stored byte. A plane, which takes as much as a chunk, is stored in two bytes at least.
const STORED_BYTE_WORK: u64 = 512;
/// Allowed for each byte of the files. A level in a file of bytes has 16 references at most.
const FILE_BYTE_WORK: u64 = 32;

/// Checks that each pass of all tensors of an archive, one after another, keeps its limits.
pub(super) fn check(archive: &Archive) -> Result<()> {
    let stored = |chunk: &super::Chunk| CHUNK_WORK.saturating_add(STORED_BYTE_WORK.saturating_mul(chunk.bytes.into()));
    let output = archive.files.iter().map(|file| file.bytes.saturating_mul(FILE_BYTE_WORK));
    let allowed = archive.chunks.iter().map(stored).chain(output).fold(archive.limits.work, u64::saturating_add);
    let passes = archive.tensors.iter().map(|tensor| tensor.frames.len()).max().unwrap_or(0);
    (0..passes).try_for_each(|pass| check_pass(archive, pass, allowed))
}

fn check_pass(archive: &Archive, pass: usize, allowed: u64) -> Result<()> {
    let limits = &archive.limits;
    let (mut work, mut chunk_count) = (0u64, 0u64);
    let mut prepared = Vec::new();
    for &index in archive.tensors.iter().filter_map(|tensor| tensor.frames.get(pass).or(tensor.frames.last())) {
        let frame = archive.frames.get(index);
        // Plans list those of every tensor.
        chunk_count = frame.map_or(0, |frame| frame.chunk_count as u64).saturating_add(chunk_count);
        check_limit("chunks of tensors", chunk_count, limits.chunks)?;
        let references = archive.references(index);
        let chain = || std::iter::once(&index).chain(&references).filter_map(|&index| archive.frames.get(index));
        let side_entries = chain().map(side_entries).fold(0, u64::saturating_add);
        check_limit("side arrays", side_entries, limits.side_entries)?;
        // A frame needs of its references the chunks that it has itself.
        let chunks = chain().scan(usize::MAX, |least, frame| {
            *least = frame.chunk_count.min(*least);
            Some((frame, *least))
        });
        let decoding = chunks.map(|(frame, chunks)| decoding(frame, chunks)).fold(side_entries, u64::saturating_add);
        let needed: Vec<[usize; 3]> = chain().map(preparation).collect();
        // What one chain has prepared serves the next, from the far end on.
        let kept = needed.iter().rev().zip(prepared.iter().rev());
        let shared = kept.filter(|(needed, prepared)| needed == prepared).map(|(needed, _)| preparing(needed));
        let preparing = needed.iter().map(preparing).fold(0, u64::saturating_add);
        let preparing = preparing.saturating_sub(shared.fold(0, u64::saturating_add));
        work = work.saturating_add(decoding).saturating_add(preparing);
        prepared = needed;
    }
    check_limit("work", work, allowed)
}

fn side_entries(frame: &Frame) -> u64 {
    match &frame.coding {
        Coding::Levels(levels) => levels.side_entries(),
        Coding::Planes(_) => 0,
    }
}

/// Of the first `chunks` element chunks.
fn decoding(frame: &Frame, chunks: usize) -> u64 {
    let last = chunks.checked_sub(1).and_then(|last| frame.chunk_range(last));
    let element_len = last.map_or(0, |(first, len)| first.saturating_add(len));
    let (steps, planes) = match &frame.coding {
        Coding::Levels(_) => (element_len, 1),
        Coding::Planes(record) => (frame.byte_len(element_len), record.len() as u64),
    };
    CHUNK_WORK.saturating_mul(planes).saturating_mul(chunks as u64).saturating_add(steps)
}

/// What a decoder of the frame prepares: its first table, their number, and the taps of its transform.
fn preparation(frame: &Frame) -> [usize; 3] {
    match &frame.coding {
        Coding::Levels(levels) => [levels.first_table, levels.table_count, if levels.dct { levels.taps } else { 0 }],
        Coding::Planes(_) => [0; 3],
    }
}

fn preparing(&[_, tables, taps]: &[usize; 3]) -> u64 {
    let (tables, taps) = (tables as u64, taps as u64);
    TABLE_WORK.saturating_mul(tables).saturating_add(taps.saturating_mul(taps))
}
