//! Acquiring a GPU, apart from the work done on it: our own, or one that the host hands in.
//!
//! What waits for it is in `waiting.rs`; in browsers, JavaScript waits.

use std::ops::Deref;
#[cfg(not(target_arch = "wasm32"))]
use std::sync::{Arc, OnceLock};

#[cfg(not(target_arch = "wasm32"))]
use super::adapter::{adapter_name, instance};
use super::error::gpu_error;
#[cfg(target_arch = "wasm32")]
use super::navigator::{adapter_name, instance};
use crate::error::{Error, Result};

/// A device and its queue.
#[derive(Debug, Clone)]
pub struct Device {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    /// Why it was lost.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) lost: Arc<OnceLock<String>>,
    name: String,
    is_fallback: bool,
}

impl Device {
    /// Asks for the fastest adapter and all that it can hold.
    ///
    /// # Errors
    /// `Gpu` if there is none.
    pub async fn request() -> Result<Self> {
        let instance = instance()?;
        let options = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..Default::default()
        };
        Self::from_adapter(instance.request_adapter(&options).await.map_err(gpu_error)?).await
    }

    pub(super) async fn from_adapter(adapter: wgpu::Adapter) -> Result<Self> {
        let descriptor = wgpu::DeviceDescriptor { required_limits: adapter.limits(), ..Default::default() };
        let (device, queue) = adapter.request_device(&descriptor).await.map_err(gpu_error)?;
        Ok(Self::new(device, queue, &adapter.get_info()))
    }

    /// A device that the host already uses.
    pub fn new(device: wgpu::Device, queue: wgpu::Queue, info: &wgpu::AdapterInfo) -> Self {
        Device {
            name: adapter_name(&device, info),
            #[cfg(not(target_arch = "wasm32"))]
            lost: noticing_loss(&device),
            device,
            queue,
            is_fallback: info.device_type == wgpu::DeviceType::Cpu,
        }
    }

    /// What the adapter calls itself.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the "GPU" is emulated on the CPU, and so slower than not using it.
    pub fn is_fallback(&self) -> bool {
        self.is_fallback
    }

    /// Most bytes of one bound buffer; 32 bits hold any place in it.
    pub fn binding_bytes_max(&self) -> u64 {
        let limits = self.device.limits();
        limits.max_storage_buffer_binding_size.min(limits.max_buffer_size).min(u32::MAX.into())
    }

    /// Most bytes of one buffer, of which parts are bound.
    pub(super) fn buffer_bytes_max(&self) -> u64 {
        self.device.limits().max_buffer_size.min(u32::MAX.into())
    }

    pub(super) fn check_binding(&self, bytes: u64) -> Result<()> {
        check_binding(bytes, self.binding_bytes_max())
    }

    pub(super) fn buffer(&self, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        self.device.create_buffer(&descriptor)
    }

    /// A buffer of a tensor.
    pub(super) fn tensor_buffer(&self, bytes: u64) -> Temporary {
        use wgpu::BufferUsages as Usage;
        Temporary::new(self.buffer(bytes, Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST))
    }

    /// Writes bytes, then zeros up to a multiple of 4.
    #[cfg(target_arch = "wasm32")]
    pub(super) fn write_padded(&self, buffer: &wgpu::Buffer, offset: u64, bytes: &[u8]) {
        let (words, rest) = bytes.split_at(bytes.len() / 4 * 4);
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        let last = &last[..rest.len().next_multiple_of(4)];
        for (part, offset) in [(words, offset), (last, offset + words.len() as u64)] {
            if !part.is_empty() {
                self.queue.write_buffer(buffer, offset, part);
            }
        }
    }

    /// Workgroups of `workgroup_len` along x and y that together make at least so many invocations.
    pub(super) fn workgroups(&self, invocations: u64, workgroup_len: u32) -> Result<[u32; 2]> {
        let most = u64::from(self.device.limits().max_compute_workgroups_per_dimension);
        let count = invocations.div_ceil(u64::from(workgroup_len));
        // Rows of about the same length, so that few workgroups are idle.
        let y = count.div_ceil(most).max(1);
        let x = count.div_ceil(y).max(1);
        if y > most {
            return Err(Error::unsupported("tensor", format!("{invocations} invocations in one dispatch")));
        }
        Ok([x as u32, y as u32])
    }
}

#[cfg(not(target_arch = "wasm32"))]
/// Where the reason will be when the device has been lost.
fn noticing_loss(device: &wgpu::Device) -> Arc<OnceLock<String>> {
    let lost = Arc::new(OnceLock::new());
    let notice = lost.clone();
    device.set_device_lost_callback(move |_, message| {
        let _ = notice.set(message);
    });
    lost
}

/// Tensors are whole units of so many bytes, so that any vector type can be bound to them.
pub(super) const TENSOR_ALIGN_BYTES: u64 = 16;

/// Bytes of the buffer of a tensor of so many.
pub(super) fn tensor_bytes(bytes: u64) -> u64 {
    bytes.next_multiple_of(TENSOR_ALIGN_BYTES)
}

/// Checks that a device which binds `most` bytes binds so many.
pub(super) fn check_binding(bytes: u64, most: u64) -> Result<()> {
    if bytes <= most {
        return Ok(());
    }
    Err(Error::unsupported("tensor", format!("{bytes} bytes in one buffer; this GPU binds {most} at most")))
}

/// A buffer that ends with its owner: in a browser dropping one leaves it to the garbage collector, which does not see its
/// size.
#[derive(Debug)]
pub(crate) struct Temporary {
    buffer: wgpu::Buffer,
    is_kept: bool,
}

impl Temporary {
    pub fn new(buffer: wgpu::Buffer) -> Self {
        Temporary { buffer, is_kept: false }
    }

    /// The buffer, which is the caller's from now on.
    pub fn keep(mut self) -> wgpu::Buffer {
        self.is_kept = true;
        self.buffer.clone()
    }
}

impl Deref for Temporary {
    type Target = wgpu::Buffer;

    fn deref(&self) -> &wgpu::Buffer {
        &self.buffer
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.is_kept {
            self.buffer.destroy();
        }
    }
}
