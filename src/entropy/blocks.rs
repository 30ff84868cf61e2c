//! Blocks of bytes, each with one of a few tables -> bytes (FORMAT.md, section 6.2).

use super::lanes::{Levels, SLOTS, Tables};
use super::planes::decode_flat_plane;
use super::{LanePayload, Table, decode_lanes, take_array};
use crate::error::{Error, Result};

/// Lengths of a block, as powers of two.
const BLOCK_LOG2: std::ops::RangeInclusive<u8> = 4..=12;
/// Most tables of a plane.
pub const BLOCK_TABLES_MAX: usize = 64;

/// Decodes the data of a plane of mode blocks.
pub(super) fn decode_blocks(payload: &mut &[u8], plane: &mut [u8]) -> Result<()> {
    let [block_log2, table_count] = take_array(payload, "blocks")?;
    if !BLOCK_LOG2.contains(&block_log2) || !(1..=BLOCK_TABLES_MAX as u8).contains(&table_count) {
        return Err(Error::invalid("blocks", "their length or the number of tables is out of range"));
    }
    let cols = 1 << block_log2;
    let rows = plane.len().div_ceil(cols);
    let mut classes = vec![0; rows];
    decode_flat_plane(payload, &mut classes)?;
    let mut class = 0;
    for change in &mut classes {
        class = ((u32::from(class) + u32::from(*change)) % u32::from(table_count)) as u8;
        *change = class;
    }
    let mut slots = Vec::with_capacity(usize::from(table_count) * SLOTS);
    for _ in 0..table_count {
        Table::parse_bytes(payload)?.push_slots(&mut slots);
    }
    let classes: Vec<i8> = classes.into_iter().map(|class| class as i8).collect();
    let tables = Tables { slots: &slots, rows: &classes, cols: &vec![0; cols] };
    let lanes = LanePayload::parse(payload, rows, cols)?;
    let mut bytes = vec![0; rows * cols];
    decode_lanes::<false>(&lanes.chunk(), &tables, &mut Levels::new(&mut bytes, cols))?;
    plane.copy_from_slice(&bytes[..plane.len()]);
    Ok(())
}
