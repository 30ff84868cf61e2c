//! Adapters outside of browsers: those of wgpu. Browsers have `navigator.rs`.

use crate::error::Result;

pub(super) fn instance() -> Result<wgpu::Instance> {
    Ok(wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle()))
}

pub(super) fn adapter_name(_: &wgpu::Device, info: &wgpu::AdapterInfo) -> String {
    info.name.clone()
}
