//! What reading an archive takes, as its header tells.
//!
//! Frames may share chunks, and tensors frames: so a few bytes could keep a reader busy for hours. Archives that do not go over
//! the same bytes again and again stay far below what is allowed.

use super::{Archive, Coding, Frame, check_limit};
use crate::error::Result;

/// Of a chunk's plane, beside its elements: finding, hashing and splitting it.
const PLANE_WORK: u64 = 1024;
/// Of a table: the slots that it is looked up in, several at a time.
const TABLE_WORK: u64 = 1024;
/// Allowed for each stored byte. A plane, which takes as much as a chunk, is stored in two bytes at least.
const STORED_BYTE_WORK: u64 = 512;
/// Allowed for each byte of the files. A level in a file of bytes has 16 references at most.
const FILE_BYTE_WORK: u64 = 32;

/// Checks that each pass of all tensors of an archive, one after another, keeps its limits.
pub(super) fn check(archive: &Archive) -> Result<()> {
    let mut allowed = archive.limits.work;
    for chunk in &archive.chunks {
        allowed =
            allowed.saturating_add(PLANE_WORK).saturating_add(STORED_BYTE_WORK.saturating_mul(chunk.bytes.into()));
    }
    for file in &archive.files {
        allowed = allowed.saturating_add(FILE_BYTE_WORK.saturating_mul(file.bytes));
    }
    let passes = archive.tensors.iter().map(|tensor| tensor.frames.len()).max().unwrap_or(0);
    (0..passes).try_for_each(|pass| check_pass(archive, pass, allowed))
}

fn check_pass(archive: &Archive, pass: usize, allowed: u64) -> Result<()> {
    let limits = &archive.limits;
    let (mut work, mut chunk_count) = (0u64, 0u64);
    // Of the last frame that stands alone: the next one finds it prepared.
    let mut prepared = [0; 3];
    for tensor in &archive.tensors {
        let mut next = tensor.frames.get(pass).or(tensor.frames.last()).copied();
        let (mut side_entries, mut chunks) = (0u64, None);
        while let Some(frame) = next.and_then(|index| archive.frames.get(index)) {
            // A frame needs of its references the chunks that it has itself.
            let needed = chunks.map_or(frame.chunk_count, |chunks: usize| chunks.min(frame.chunk_count));
            if chunks.is_none() {
                chunk_count = chunk_count.saturating_add(needed as u64);
            }
            chunks = Some(needed);
            let element_len = frame.element_len.min(frame.chunk_len.saturating_mul(needed as u64));
            let (planes, steps) = match &frame.coding {
                Coding::Planes(record) => (record.len(), frame.byte_len(element_len)),
                Coding::Levels(levels) => {
                    side_entries = side_entries.saturating_add(levels.side_entries());
                    (1, element_len.saturating_add(levels.side_entries()))
                }
            };
            work = work.saturating_add(steps);
            work = work.saturating_add(PLANE_WORK.saturating_mul(planes as u64).saturating_mul(needed as u64));
            let preparation = preparation(frame);
            if frame.reference.is_some() || preparation != prepared {
                let [_, tables, taps] = preparation;
                work = work.saturating_add(TABLE_WORK.saturating_mul(tables).saturating_add(taps.saturating_mul(taps)));
            }
            if frame.reference.is_none() {
                prepared = preparation;
            }
            next = frame.reference;
        }
        check_limit("side arrays", side_entries, limits.side_entries)?;
    }
    // Plans list those of every tensor.
    check_limit("chunks of tensors", chunk_count, limits.chunks)?;
    check_limit("work", work, allowed)
}

/// What a decoder of the frame prepares: its first table, their number, and the taps of its transform.
fn preparation(frame: &Frame) -> [u64; 3] {
    match &frame.coding {
        Coding::Levels(levels) => {
            let taps = if levels.dct { levels.taps } else { 0 };
            [levels.first_table, levels.table_count, taps].map(|value| value as u64)
        }
        Coding::Planes(_) => [0; 3],
    }
}
