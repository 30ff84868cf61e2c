//! Decoding on WebGPU as JavaScript sees it: payloads in, `GPUBuffer`s out.
//!
//! Only acquiring a device waits. JavaScript collects the errors of what is done on it, and reads buffers back.

use js_sys::Array;
use wasm_bindgen::prelude::*;

use super::archive::ArchiveDecoder;
use super::js_error;
use crate::error::{Error, Result};
use crate::gpu::{Batch, Decoder, Device, NeededChunk, SELF_TEST, cast, is_right};
use crate::tensor::DType;

type JsResult<T> = std::result::Result<T, JsValue>;

/// A device, not yet tested.
#[wasm_bindgen]
pub struct AcquiredGpu(Device);

/// A device with the pipelines built on it.
#[wasm_bindgen]
pub struct GpuDecoder(Decoder);

/// Frames whose chunks are awaited.
#[wasm_bindgen]
pub struct GpuBatch(Batch);

#[wasm_bindgen]
impl AcquiredGpu {
    /// Takes the caller's device, or asks for one.
    pub async fn acquire(
        #[wasm_bindgen(unchecked_param_type = "GPUDevice | undefined")] device: JsValue,
    ) -> JsResult<AcquiredGpu> {
        let device = if device.is_undefined() { Device::request().await } else { Device::adopt(device).await };
        Ok(AcquiredGpu(device.map_err(js_error)?))
    }

    /// What the adapter calls itself.
    #[wasm_bindgen(getter)]
    pub fn name(&self) -> String {
        self.0.name().to_owned()
    }

    /// The device that all buffers belong to.
    #[wasm_bindgen(getter, unchecked_return_type = "GPUDevice")]
    pub fn device(&self) -> JsValue {
        self.0.to_js()
    }

    /// Builds the pipelines.
    pub fn build(self) -> GpuDecoder {
        GpuDecoder(Decoder::build(self.0))
    }
}

#[wasm_bindgen]
impl GpuDecoder {
    /// Begins to decode frames, as elements of `dtype` (`f32` or `f16`) or of their own types.
    ///
    /// An error of code `unsupported` means that they have to be decoded on the CPU, or fewer at a time.
    pub fn begin(&self, archive: &ArchiveDecoder, frames: &[usize], dtype: Option<String>) -> JsResult<GpuBatch> {
        let begin = || {
            let dtype = dtype.as_deref().map(dtype_of).transpose()?;
            Batch::new(self.0.device(), archive.header(), frames, dtype)
        };
        begin().map(GpuBatch).map_err(js_error)
    }

    /// Decodes a batch whose chunks have all come. Gives a buffer for `check`, then for each tensor a new one of usage
    /// `STORAGE | COPY_SRC | COPY_DST`: its bytes, then zeros to a multiple of 16. The caller destroys them. Errors as those of
    /// `begin`.
    #[wasm_bindgen(unchecked_return_type = "GPUBuffer[]")]
    pub fn finish(&self, batch: &mut GpuBatch) -> JsResult<Array> {
        let submission = self.0.submit(&mut batch.0).map_err(js_error)?;
        let buffers = std::iter::once(submission.status).chain(submission.tensors);
        Ok(buffers.map(|buffer| JsValue::from(buffer.keep().as_webgpu())).collect())
    }

    /// An archive that a device must decode exactly before it is trusted.
    #[wasm_bindgen(js_name = selfTest)]
    pub fn self_test() -> Vec<u8> {
        SELF_TEST.to_vec()
    }

    /// Whether these are the bytes of the buffers of all its frames, one after another.
    #[wasm_bindgen(js_name = isRight)]
    pub fn is_right(bytes: &[u8]) -> bool {
        is_right(bytes)
    }

    /// Elements of a tensor as another type, `f32` or `f16`.
    pub fn cast(bytes: &[u8], from: &str, to: &str) -> JsResult<Vec<u8>> {
        let cast = || cast(bytes, dtype_of(from)?, dtype_of(to)?);
        cast().map_err(js_error)
    }
}

#[wasm_bindgen]
impl GpuBatch {
    /// The buffer of the lanes' words.
    #[wasm_bindgen(getter, unchecked_return_type = "GPUBuffer")]
    pub fn words(&self) -> JsValue {
        self.0.words().as_webgpu().into()
    }

    /// The chunks to be given, in this order. Of each: its number in the archive, its frame, and which of the frame's element
    /// chunks it is; -1 for the side chunk.
    #[wasm_bindgen(js_name = neededChunks)]
    pub fn needed_chunks(&self) -> Vec<i32> {
        let numbers = |NeededChunk { chunk, frame, index }| {
            [chunk as i32, frame as i32, index.map_or(-1, |index: usize| index as i32)]
        };
        self.0.needed_chunks().into_iter().flat_map(numbers).collect()
    }

    /// Takes the verified payload of a side chunk.
    #[wasm_bindgen(js_name = addSide)]
    pub fn add_side(&mut self, frame: usize, payload: &[u8]) -> JsResult<()> {
        self.0.add_side(frame, payload).map_err(js_error)
    }

    /// Takes what surrounds the words in the verified payload of an element chunk; gives the byte of `words` where these belong.
    /// Up to the next multiple of 4, anything may follow them.
    #[wasm_bindgen(js_name = addChunk)]
    pub fn add_chunk(&mut self, frame: usize, index: usize, payload: &[u8]) -> JsResult<u32> {
        let place = self.0.add_chunk_without_words(frame, index, payload).map_err(js_error)?;
        Ok(place as u32)
    }

    /// Takes what the first buffer of `finish` holds.
    pub fn check(&self, status: &[u8]) -> JsResult<()> {
        self.0.check_status(status).map_err(js_error)
    }
}

fn dtype_of(name: &str) -> Result<DType> {
    let found = DType::ALL.into_iter().find(|dtype| dtype.name() == name);
    found.ok_or_else(|| Error::argument(format!("there is no dtype {name}")))
}
