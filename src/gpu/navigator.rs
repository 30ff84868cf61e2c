//! Adapters in browsers: those of `navigator.gpu`.

use js_sys::Reflect;
use wasm_bindgen::JsValue;

use super::error::{gpu_error, js_error};
use crate::error::Result;

/// wgpu's instance, which panics where there is neither a window nor a worker.
pub(super) fn instance() -> Result<wgpu::Instance> {
    navigator_gpu()?;
    let global = js_sys::global();
    let known = ["Window", "WorkerGlobalScope"].map(|name| Reflect::has(&global, &name.into()).unwrap_or(false));
    if known == [false, false] {
        return Err(gpu_error("neither a window nor a worker"));
    }
    Ok(wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle()))
}

/// Vendor, architecture and description, as far as the browser tells them.
pub(super) fn adapter_name(device: &wgpu::Device, info: &wgpu::AdapterInfo) -> String {
    let Ok(fields) = Reflect::get(&device.as_webgpu().into(), &"adapterInfo".into()) else { return info.name.clone() };
    let field = |name: &str| Reflect::get(&fields, &name.into()).ok()?.as_string().filter(|text| !text.is_empty());
    ["vendor", "architecture", "description"].into_iter().filter_map(field).collect::<Vec<_>>().join(" ")
}

pub(super) fn navigator_gpu() -> Result<JsValue> {
    let navigator = Reflect::get(&js_sys::global(), &"navigator".into()).map_err(js_error)?;
    match Reflect::get(&navigator, &"gpu".into()) {
        Ok(gpu) if gpu.is_object() => Ok(gpu),
        _ => Err(gpu_error("no WebGPU here")),
    }
}
