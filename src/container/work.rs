//! What reading an archive takes, as its header tells.
//!
//! Frames may share chunks, and tensors frames: so a few bytes could keep a reader busy for hours. Archives that do not go over
//! the same bytes again and again stay far below what is allowed.

use super::{Archive, Coding, Frame, Levels, check_limit};
use crate::error::Result;

/// Of a chunk's plane, beside its elements: finding, hashing and splitting it.
const PLANE_WORK: f64 = 1024.0;
/// Of a table: the slots that it is looked up in, several at a time.
const TABLE_WORK: f64 = 1024.0;
/// Allowed for each stored byte. A plane, which takes as much as a chunk, is stored in two bytes at least.
const STORED_BYTE_WORK: f64 = 512.0;
/// Allowed for each byte of the files. A level in a file of bytes has 16 references at most.
const FILE_BYTE_WORK: f64 = 32.0;

/// Checks that each pass of all tensors of an archive, one after another, keeps its limits. Work is counted in floats, which
/// never overflow.
pub(super) fn check(archive: &Archive) -> Result<()> {
    let mut allowed = archive.limits.work as f64;
    for chunk in &archive.chunks {
        allowed += PLANE_WORK + STORED_BYTE_WORK * f64::from(chunk.bytes);
    }
    for file in &archive.files {
        allowed += FILE_BYTE_WORK * file.bytes as f64;
    }
    let passes = archive.tensors.iter().map(|tensor| tensor.frames.len()).max().unwrap_or(0);
    (0..passes).try_for_each(|pass| check_pass(archive, pass, allowed))
}

#[expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "counts of what is in memory; casts saturate"
)]
fn check_pass(archive: &Archive, pass: usize, allowed: f64) -> Result<()> {
    let limits = &archive.limits;
    let (mut work, mut chunk_count) = (0.0, 0);
    // By the last frame that stands alone: the next one finds it.
    let mut prepared = Prepared::default();
    for tensor in &archive.tensors {
        let mut next = tensor.frames.get(pass).or(tensor.frames.last()).copied();
        let (mut side_entries, mut chunks) = (0, usize::MAX);
        while let Some(frame) = next.and_then(|index| archive.frames.get(index)) {
            if chunks == usize::MAX {
                chunk_count += frame.chunk_count as u64;
            }
            // A frame needs of its references the chunks that it has itself.
            chunks = chunks.min(frame.chunk_count);
            let element_len = (frame.element_len as f64).min(frame.chunk_len as f64 * chunks as f64);
            let (planes, element_bytes) = match &frame.coding {
                Coding::Planes(record) => (record.len(), frame.dtype.element_bytes()),
                Coding::Levels(levels) => {
                    side_entries += levels.side_entries();
                    work += levels.side_entries() as f64;
                    (1, 1)
                }
            };
            work += element_len * element_bytes as f64 + PLANE_WORK * planes as f64 * chunks as f64;
            let needed = Prepared::of(frame);
            if frame.reference.is_some() || needed != prepared {
                work += TABLE_WORK * needed.table_count as f64 + needed.taps as f64 * needed.taps as f64;
            }
            if frame.reference.is_none() {
                prepared = needed;
            }
            next = frame.reference;
        }
        check_limit("side", side_entries, limits.side_entries)?;
    }
    // Plans list those of every tensor.
    check_limit("chunks", chunk_count, limits.chunks)?;
    check_limit("work", work as u64, allowed as u64)
}

/// What a decoder prepares for a frame: its tables, and the taps of its transform.
#[derive(Default, PartialEq)]
struct Prepared {
    first_table: usize,
    table_count: usize,
    taps: usize,
}

impl Prepared {
    fn of(frame: &Frame) -> Self {
        match &frame.coding {
            Coding::Levels(levels) => {
                let &Levels { first_table, table_count, taps, dct, .. } = levels;
                Prepared { first_table, table_count, taps: if dct { taps } else { 0 } }
            }
            Coding::Planes(_) => Prepared::default(),
        }
    }
}
