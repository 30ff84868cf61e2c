//! What a device must decode exactly before it is trusted.

use super::decoder::Decoder;
use super::error::gpu_error;
use crate::container::{Archive, Hash};
use crate::error::{Error, Result};
use crate::tensor::Limits;

/// Frames that use every array of the shaders, all of whose weights are exact: under the trellis, with low bits, with escapes,
/// predicted.
const ARCHIVE: &[u8] = include_bytes!("self-test.mcwc");
/// Of the bytes of all tensors, one after another.
const HASH: [u8; 16] = *include_bytes!("self-test.hash");

/// Decodes [`ARCHIVE`].
pub(super) async fn run(decoder: &Decoder) -> Result<()> {
    let archive = Archive::parse(ARCHIVE, &Limits::default())?;
    let frames: Vec<usize> = archive.tensors.iter().flat_map(|tensor| tensor.frames.iter().copied()).collect();
    let payload = |index: usize| {
        let chunk = archive.chunks.get(index).and_then(|chunk| {
            let start = chunk.offset as usize;
            ARCHIVE.get(start..start + chunk.bytes as usize)
        });
        chunk.map(<[u8]>::to_vec).ok_or(Error::argument("there is no such chunk"))
    };
    let buffers = decoder.decode(&archive, &frames, None, payload).await?;
    let mut bytes = Vec::new();
    for (buffer, tensor) in buffers.iter().zip(&archive.tensors) {
        bytes.extend(decoder.device().read(buffer, tensor.bytes).await?);
        buffer.destroy();
    }
    compare(&bytes)
}

fn compare(bytes: &[u8]) -> Result<()> {
    if Hash::of(&[bytes]).0 == HASH { Ok(()) } else { Err(gpu_error("the self-test gave wrong values")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Reader;

    #[test]
    fn self_test_notices_a_wrong_value() {
        let reader = Reader::open(ARCHIVE, &Limits::default()).unwrap();
        let mut bytes = reader.file(0).unwrap();
        assert!(compare(&bytes).is_ok());
        bytes[7] ^= 1;
        assert!(matches!(compare(&bytes), Err(Error::Gpu(_))));
    }
}
