//! What a device must decode exactly before it is trusted.

use crate::container::Hash;
#[cfg(not(target_arch = "wasm32"))]
use crate::{Archive, Error, Limits, Result, gpu::Decoder, gpu::error::gpu_error};

/// Frames that use every array of the shaders, all of whose weights are exact: under the trellis, with low bits, with escapes,
/// predicted, under a transform.
pub(crate) const ARCHIVE: &[u8] = include_bytes!("self-test.mcwc");
/// Of the buffers of all tensors, one after another.
const HASH: [u8; 16] = *include_bytes!("self-test.hash");

/// Whether these are the buffers' bytes, one after another.
pub(crate) fn is_right(bytes: &[u8]) -> bool {
    Hash::of(&[bytes]).0 == HASH
}

/// Decodes [`ARCHIVE`]. In browsers, JavaScript does.
#[cfg(not(target_arch = "wasm32"))]
pub(super) async fn run(decoder: &Decoder) -> Result<()> {
    let archive = Archive::parse(ARCHIVE, &Limits::default())?;
    let frames: Vec<usize> = (0..archive.frames.len()).collect();
    let payload = |index: usize| {
        let chunk = archive.chunks.get(index).and_then(|chunk| {
            let start = chunk.offset as usize;
            ARCHIVE.get(start..start + chunk.bytes as usize)
        });
        chunk.map(<[u8]>::to_vec).ok_or(Error::argument("there is no such chunk"))
    };
    let mut bytes = Vec::new();
    for buffer in decoder.decode(&archive, &frames, None, payload).await? {
        bytes.extend(decoder.device().read(&buffer, buffer.size()).await?);
        buffer.destroy();
    }
    if is_right(&bytes) { Ok(()) } else { Err(gpu_error("the self-test gave wrong values")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Reader;

    #[test]
    fn self_test_notices_a_wrong_value() {
        let reader = Reader::open(ARCHIVE, &Limits::default()).unwrap();
        let tensors = reader.archive().tensors.iter().map(|tensor| reader.tensor(&tensor.name).unwrap());
        let padded = tensors.map(|mut bytes| {
            bytes.resize(bytes.len().next_multiple_of(16), 0);
            bytes
        });
        let mut bytes = padded.collect::<Vec<_>>().concat();
        assert!(is_right(&bytes));
        bytes[7] ^= 1;
        assert!(!is_right(&bytes));
    }
}
