//! Reconstruction on WebGPU as JavaScript sees it: levels in, `GPUBuffer`s out.

use js_sys::Uint8Array;
use wasm_bindgen::prelude::*;

use super::js_error;
use crate::container;
use crate::gpu::{Device, LevelFrame, Reconstructor};
use crate::reconstruct::FrameDecoder;
use crate::tensor::Limits;

type JsResult<T> = Result<T, JsValue>;

/// A parsed header.
#[wasm_bindgen]
pub struct GpuArchive(container::Archive);

#[wasm_bindgen]
impl GpuArchive {
    /// Parses and checks preamble and header.
    #[wasm_bindgen(constructor)]
    pub fn new(head: &[u8]) -> JsResult<GpuArchive> {
        container::Archive::parse(head, &Limits::default()).map(GpuArchive).map_err(js_error)
    }
}

/// A device with the pipeline built on it.
#[wasm_bindgen]
pub struct GpuReconstructor(Reconstructor);

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
            Ok(GpuReconstructor(reconstructor))
        };
        create.await.map_err(js_error)
    }

    /// What the adapter calls itself.
    #[wasm_bindgen(getter)]
    pub fn name(&self) -> String {
        self.0.device().name().to_owned()
    }

    /// Whether the adapter is emulated on the CPU.
    #[wasm_bindgen(getter, js_name = isFallback)]
    pub fn is_fallback(&self) -> bool {
        self.0.device().is_fallback()
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
    #[wasm_bindgen(unchecked_return_type = "GPUBuffer")]
    pub async fn reconstruct(
        &self,
        archive: &GpuArchive,
        frame: usize,
        side: Option<Vec<u8>>,
        levels: Uint8Array,
        level_bits: u32,
    ) -> JsResult<JsValue> {
        let reconstruct = async {
            let decoder = FrameDecoder::new(&archive.0, frame, side.as_deref())?;
            let frame = LevelFrame::new(&decoder)?;
            frame.check_levels(u64::from(levels.length()), level_bits)?;
            let reconstruction = self.0.begin(&frame, level_bits).await?;
            self.0.write_js_levels(&reconstruction, 0, &levels)?;
            self.0.finish(reconstruction).await
        };
        let buffer = reconstruct.await.map_err(js_error)?;
        Ok(buffer.as_webgpu().into())
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
