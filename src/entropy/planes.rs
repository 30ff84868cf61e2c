//! Planes payload -> bytes (FORMAT.md, section 6).

use super::adaptive::{Guide, decode_adaptive};
use super::copies::decode_copies;
use super::lanes::{SLOTS, Scales, Tables, Weights};
use super::{LanePayload, Table, decode_lanes, end, take, take_array};
use crate::error::{Error, Result};

/// A plane as it is.
pub const MODE_RAW: u8 = 0;
/// A plane of equal bytes.
pub const MODE_CONSTANT: u8 = 1;
/// A plane coded with a table of its own.
pub const MODE_RANS: u8 = 2;
/// A plane as literals and copies of earlier bytes.
pub const MODE_COPIES: u8 = 3;
/// A plane coded by what its own bytes have taught.
pub const MODE_ADAPTIVE: u8 = 4;
/// The same, where a reference's bytes choose the trees.
pub const MODE_GUIDED: u8 = 5;

/// Decodes a payload of planes of `plane_len` bytes each; `planes` holds them one after another.
///
/// # Errors
/// `Invalid` where the payload breaks a rule, `Unsupported` for an unknown mode.
pub fn decode_planes(mut payload: &[u8], plane_len: usize, planes: &mut [u8]) -> Result<()> {
    for plane in planes.chunks_mut(plane_len.max(1)) {
        decode_plane(&mut payload, plane, None)?;
    }
    end(payload)
}

/// Decodes one plane from the front of `payload`; there is a guide if the frame is predicted.
pub(crate) fn decode_plane(payload: &mut &[u8], plane: &mut [u8], guide: Option<&Guide>) -> Result<()> {
    if payload.first() == Some(&MODE_COPIES) {
        *payload = &payload[1..];
        return decode_copies(payload, plane);
    }
    decode_coded_plane(payload, plane, guide)
}

/// Decodes a plane of any mode but copies.
pub(super) fn decode_coded_plane(payload: &mut &[u8], plane: &mut [u8], guide: Option<&Guide>) -> Result<()> {
    let [mode] = take_array(payload, "mode")?;
    match mode {
        MODE_RAW => plane.copy_from_slice(take(payload, plane.len(), "plane")?),
        MODE_CONSTANT => plane.fill(take_array::<1>(payload, "plane")?[0]),
        MODE_RANS => {
            let mut slots = Vec::with_capacity(SLOTS);
            Table::parse_bytes(payload)?.push_slots(&mut slots);
            let lanes = LanePayload::parse(payload, 1, plane.len())?.folded();
            let classes = vec![0; lanes.rows.max(lanes.cols)];
            let tables = Tables { slots: &slots, rows: &classes[..lanes.rows], cols: &classes[..lanes.cols] };
            let (mut symbols, scales) = (vec![0.0; plane.len()], Scales::ones(lanes.rows, lanes.cols));
            decode_lanes(&lanes.chunk(), &tables, false, &mut Weights::new(&mut symbols, &scales, &[]))?;
            plane.iter_mut().zip(symbols).for_each(|(byte, symbol)| *byte = symbol as i32 as u8);
        }
        MODE_ADAPTIVE => decode_adaptive(payload, plane, None)?,
        MODE_GUIDED if guide.is_none() => return Err(Error::invalid("mode", "guided, without a reference")),
        MODE_GUIDED => decode_adaptive(payload, plane, guide)?,
        other => return Err(Error::unsupported("mode", other.to_string())),
    }
    Ok(())
}
