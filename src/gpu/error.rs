//! What fails in wgpu or in JavaScript -> errors.

use crate::error::Error;

pub(super) fn gpu_error(error: impl std::fmt::Display) -> Error {
    Error::Gpu(error.to_string().into())
}

#[cfg(target_arch = "wasm32")]
pub(super) fn js_error(error: wasm_bindgen::JsValue) -> Error {
    let message = wasm_bindgen::JsCast::dyn_ref::<js_sys::Error>(&error).map(|error| String::from(error.message()));
    gpu_error(message.unwrap_or_default())
}
