//! Decoding on WebGPU as JavaScript sees it: payloads in, `GPUBuffer`s out.

use std::rc::Rc;

use js_sys::{Array, Promise, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::future_to_promise;

use super::archive::ArchiveDecoder;
use super::js_error;
use crate::error::{Error, Result};
use crate::gpu::{Batch, Decoder, Device, NeededChunk, cast};
use crate::tensor::DType;

type JsResult<T> = std::result::Result<T, JsValue>;

/// A device with the pipelines built on it.
#[wasm_bindgen]
pub struct GpuDecoder(Rc<Decoder>);

/// Frames whose chunks are awaited.
#[wasm_bindgen]
pub struct GpuBatch(Batch);

#[wasm_bindgen]
impl GpuDecoder {
    /// Takes the caller's device, or asks for one, and tests it: a device that computes wrong values is an error.
    pub async fn create(
        #[wasm_bindgen(unchecked_param_type = "GPUDevice | undefined")] device: JsValue,
    ) -> JsResult<GpuDecoder> {
        let create = async {
            let device = if device.is_undefined() { Device::request().await? } else { Device::adopt(device).await? };
            let decoder = Decoder::new(device).await?;
            decoder.self_test().await?;
            Ok(GpuDecoder(Rc::new(decoder)))
        };
        create.await.map_err(js_error)
    }

    /// What the adapter calls itself.
    #[wasm_bindgen(getter)]
    pub fn name(&self) -> String {
        self.0.device().name().to_owned()
    }

    /// The device that all buffers belong to.
    #[wasm_bindgen(getter, unchecked_return_type = "GPUDevice")]
    pub fn device(&self) -> JsValue {
        self.0.device().to_js()
    }

    /// Begins to decode frames, as elements of `dtype` (`f32` or `f16`) or of their own types.
    ///
    /// An error of code `unsupported` means that they have to be decoded on the CPU, or fewer at a time.
    ///
    /// The archive is borrowed for the call alone, so that it can be freed while the promise is pending.
    #[wasm_bindgen(unchecked_return_type = "Promise<GpuBatch>")]
    pub fn begin(&self, archive: &ArchiveDecoder, frames: Vec<usize>, dtype: Option<String>) -> Promise {
        let dtype = dtype.as_deref().map(dtype_of).transpose();
        let batch = dtype.map(|dtype| self.0.begin(archive.header(), &frames, dtype));
        let begin = async move { batch?.await };
        future_to_promise(async { begin.await.map(|batch| GpuBatch(batch).into()).map_err(js_error) })
    }

    /// Decodes a batch whose chunks have all come. The bytes of each tensor, then zeros to a multiple of 16, in a new buffer of
    /// usage `STORAGE | COPY_SRC | COPY_DST`, which the caller destroys. Errors as those of `begin`.
    #[wasm_bindgen(unchecked_return_type = "Promise<GPUBuffer[]>")]
    pub fn finish(&self, batch: GpuBatch) -> Promise {
        let decoder = self.0.clone();
        let finish = async move { decoder.finish(batch.0).await };
        future_to_promise(async {
            let buffers = finish.await.map_err(js_error)?;
            Ok(buffers.iter().map(|buffer| JsValue::from(buffer.as_webgpu())).collect::<Array>().into())
        })
    }

    /// Copies the first `bytes` bytes of a buffer back.
    pub async fn read(
        &self,
        #[wasm_bindgen(unchecked_param_type = "GPUBuffer")] buffer: JsValue,
        bytes: u32,
    ) -> JsResult<Uint8Array> {
        self.0.device().read_js(&buffer, bytes).await.map_err(js_error)
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
}

fn dtype_of(name: &str) -> Result<DType> {
    let found = DType::ALL.into_iter().find(|dtype| dtype.name() == name);
    found.ok_or_else(|| Error::argument(format!("there is no dtype {name}")))
}
