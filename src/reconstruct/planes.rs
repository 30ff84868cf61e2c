//! Payload of a chunk of planes -> its elements or records (FORMAT.md, section 5.6).

use crate::entropy::{Guide, decode_plane};
use crate::error::Result;
use crate::fields::parse_whole;
use crate::stages::planes;
use crate::tensor::DType;

/// Decodes the plane of each field of some records, and puts it in place. A predicted chunk has a reference: the bytes of the
/// same chunk of its frame, of which those that are missing count as zeros.
#[expect(clippy::arithmetic_side_effects, reason = "a record has bytes, and a chunk no more than 2^18 elements")]
pub(crate) fn decode_fields(
    payload: &[u8],
    record: &[usize],
    dtype: DType,
    reference: Option<&[u8]>,
    plane: &mut Vec<u8>,
    records: &mut [u8],
) -> Result<()> {
    let reference = reference.map(|reference| planes::rotated(reference, dtype, records.len()));
    let record_bytes = record.iter().sum();
    let mut offset = 0;
    parse_whole(payload, |payload| {
        for &field in record {
            plane.resize(records.len() / record_bytes * field, 0);
            let guide = reference.as_ref().map(|reference| Guide { reference, record_bytes, offset, field });
            decode_plane(payload, plane, guide.as_ref())?;
            planes::join_field(plane, field, offset, record_bytes, records);
            offset += field;
        }
        Ok(())
    })?;
    if let Some(reference) = reference {
        planes::add_reference(records, &reference, dtype);
    }
    planes::unrotate(records, dtype);
    Ok(())
}
