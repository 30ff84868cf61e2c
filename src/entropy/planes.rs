//! Planes payload -> bytes (FORMAT.md, section 6).

use super::adaptive::{Guide, decode_adaptive};
use super::copies::decode_copies;
use super::lanes::SLOTS;
use super::{LanePayload, Table};
use crate::error::{Error, Result};
use crate::fields::{parse_whole, take, take_array};
use crate::format::{MODE_ADAPTIVE, MODE_CONSTANT, MODE_COPIES, MODE_GUIDED, MODE_RANS, MODE_RAW};

/// Decodes a payload of planes of `plane_len` bytes each; `planes` holds them one after another.
///
/// ```
/// use mcwc::entropy::decode_planes;
/// let mut planes = [0; 6];
/// // Mode 1, a constant plane of sevens; mode 0, a plane as it is.
/// decode_planes(&[1, 7, 0, 10, 11, 12], 3, &mut planes).unwrap();
/// assert_eq!(planes, [7, 7, 7, 10, 11, 12]);
/// ```
///
/// # Errors
/// `Invalid` where the payload breaks a rule, `Unsupported` for an unknown mode.
pub fn decode_planes(payload: &[u8], plane_len: usize, planes: &mut [u8]) -> Result<()> {
    parse_whole(payload, |payload| {
        planes.chunks_mut(plane_len.max(1)).try_for_each(|plane| decode_plane(payload, plane, None))
    })
}

/// Decodes one plane from the front of `payload`; there is a guide if the frame is predicted.
pub(crate) fn decode_plane(payload: &mut &[u8], plane: &mut [u8], guide: Option<&Guide>) -> Result<()> {
    if let Some((&MODE_COPIES, rest)) = payload.split_first() {
        *payload = rest;
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
            LanePayload::parse(payload, 1, plane.len())?.decode_bytes(&slots, plane)?;
        }
        MODE_ADAPTIVE => decode_adaptive(payload, plane, None)?,
        MODE_COPIES | MODE_GUIDED if guide.is_none() => return Err(Error::invalid("mode", "not one of this plane")),
        MODE_GUIDED => decode_adaptive(payload, plane, guide)?,
        other => return Err(Error::unsupported("mode", other.to_string())),
    }
    Ok(())
}
