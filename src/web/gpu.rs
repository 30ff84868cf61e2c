//! Reconstruction on WebGPU as JavaScript sees it: levels in, `GPUBuffer`s out.

use std::rc::Rc;

use js_sys::{Promise, Uint8Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::future_to_promise;

use super::archive::ArchiveDecoder;
use super::js_error;
use crate::gpu::{Device, LevelFrame, Reconstructor};
use crate::reconstruct::FrameDecoder;

type JsResult<T> = Result<T, JsValue>;

/// A device with the pipeline built on it.
#[wasm_bindgen]
pub struct GpuReconstructor(Rc<Reconstructor>);

#[wasm_bindgen]
impl GpuReconstructor {
    /// Takes the caller's device, or asks for one, and tests it: a device that computes wrong values is an error.
    pub async fn create(
        #[wasm_bindgen(unchecked_param_type = "GPUDevice | undefined")] device: JsValue,
    ) -> JsResult<GpuReconstructor> {
        let create = async {
            let device = if device.is_undefined() { Device::request().await? } else { Device::adopt(device).await? };
            let reconstructor = Reconstructor::new(device).await?;
            reconstructor.self_test().await?;
            Ok(GpuReconstructor(Rc::new(reconstructor)))
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

    /// The bytes of the tensor of a frame, then zeros to a multiple of 16, in a new buffer of usage
    /// `STORAGE | COPY_SRC | COPY_DST`, which the caller destroys. `side` is the verified payload of the frame's side
    /// chunk, if it has one; `levels` are those of all its chunks, in coded order, `level_bits` (8, 16 or 32) each.
    ///
    /// An error of code `unsupported` means that the frame has to be reconstructed on the CPU.
    ///
    /// The archive is borrowed for the call alone, so that it can be freed while the promise is pending.
    #[wasm_bindgen(unchecked_return_type = "Promise<GPUBuffer>")]
    pub fn reconstruct(
        &self,
        archive: &ArchiveDecoder,
        frame: usize,
        side: Option<Vec<u8>>,
        levels: Uint8Array,
        level_bits: u32,
    ) -> Promise {
        let reconstructor = self.0.clone();
        let decoder = FrameDecoder::new(archive.header(), frame, side.as_deref());
        let reconstruct = async move {
            let decoder = decoder?;
            let frame = LevelFrame::new(&decoder)?;
            frame.check_levels(u64::from(levels.length()), level_bits)?;
            let reconstruction = reconstructor.begin(&frame, level_bits).await?;
            reconstructor.write_js_levels(&reconstruction, 0, &levels)?;
            reconstructor.finish(reconstruction).await
        };
        future_to_promise(async { reconstruct.await.map(|buffer| buffer.as_webgpu().into()).map_err(js_error) })
    }

    /// Copies the first `bytes` bytes of a buffer back.
    pub async fn read(
        &self,
        #[wasm_bindgen(unchecked_param_type = "GPUBuffer")] buffer: JsValue,
        bytes: u32,
    ) -> JsResult<Uint8Array> {
        self.0.device().read_js(&buffer, bytes).await.map_err(js_error)
    }
}
