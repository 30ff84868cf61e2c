//! Acquiring a GPU, apart from the work done on it: our own, or one that the host hands in.
//!
//! [`Device`] adds to wgpu's device what reconstruction must not forget: errors come back as values instead of ending the
//! program, a lost device is noticed, and a buffer can be read.

use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Waker};

use super::error::gpu_error;
#[cfg(not(target_arch = "wasm32"))]
use super::native::{adapter_name, instance};
#[cfg(target_arch = "wasm32")]
use super::navigator::{adapter_name, instance};
use super::shader::WORKGROUP_LEN;
use crate::error::{Error, Result};

/// A device and its queue.
#[derive(Debug, Clone)]
pub struct Device {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    lost: Arc<OnceLock<String>>,
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
        let lost = Arc::new(OnceLock::new());
        let notice = lost.clone();
        device.set_device_lost_callback(move |_, message| {
            let _ = notice.set(message);
        });
        let name = adapter_name(&device, info);
        Device { device, queue, lost, name, is_fallback: info.device_type == wgpu::DeviceType::Cpu }
    }

    /// What the adapter calls itself.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the "GPU" is emulated on the CPU, and so slower than not using it.
    pub fn is_fallback(&self) -> bool {
        self.is_fallback
    }

    /// Most bytes of one bound buffer.
    pub fn binding_bytes_max(&self) -> u64 {
        let limits = self.device.limits();
        limits.max_storage_buffer_binding_size.min(limits.max_buffer_size)
    }

    pub(super) fn check_binding(&self, bytes: u64) -> Result<()> {
        let most = self.binding_bytes_max();
        if bytes <= most {
            return Ok(());
        }
        Err(Error::unsupported("tensor", format!("{bytes} bytes in one buffer; this GPU binds {most} at most")))
    }

    pub(super) fn buffer(&self, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        self.device.create_buffer(&descriptor)
    }

    /// A buffer of these words, of one at least as bindings must not be empty.
    pub(super) fn filled(&self, words: &[u32], usage: wgpu::BufferUsages) -> wgpu::Buffer {
        let buffer = self.buffer(4 * words.len().max(1) as u64, usage | wgpu::BufferUsages::COPY_DST);
        self.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(words));
        buffer
    }

    /// Writes bytes, then zeros up to a multiple of 4.
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

    /// Workgroups along x and y that together make at least so many invocations.
    pub(super) fn workgroups(&self, invocations: u64) -> Result<[u32; 2]> {
        let most = u64::from(self.device.limits().max_compute_workgroups_per_dimension);
        let count = invocations.div_ceil(u64::from(WORKGROUP_LEN));
        let x = count.clamp(1, most);
        let y = count.div_ceil(x).max(1);
        if y > most {
            return Err(Error::unsupported("tensor", format!("{invocations} invocations in one dispatch")));
        }
        Ok([x as u32, y as u32])
    }

    /// Runs `work` and waits for what the device makes of it.
    ///
    /// # Errors
    /// `Unsupported` if it ran out of memory, `Gpu` if it refused, or was lost.
    pub(super) async fn checked<T>(&self, work: impl FnOnce() -> T) -> Result<T> {
        let scopes = self.scopes();
        let value = work();
        scopes.close().await?;
        Ok(value)
    }

    /// Collects the errors of what follows.
    pub(super) fn scopes(&self) -> Scopes {
        let scope = |filter| self.device.push_error_scope(filter);
        let filters = [wgpu::ErrorFilter::Internal, wgpu::ErrorFilter::Validation, wgpu::ErrorFilter::OutOfMemory];
        Scopes { scopes: filters.map(scope), lost: self.lost.clone() }
    }

    /// Copies the first `bytes` bytes of a buffer back.
    ///
    /// # Errors
    /// `Gpu` if the device is out of memory or lost.
    pub async fn read(&self, buffer: &wgpu::Buffer, bytes: u64) -> Result<Vec<u8>> {
        let copy = |staging: &wgpu::Buffer| {
            let mut encoder = self.device.create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(buffer, 0, staging, 0, staging.size());
            self.queue.submit([encoder.finish()]);
            Ok(())
        };
        let bytes = usize::try_from(bytes).map_err(gpu_error)?;
        self.read_staged(bytes as u64, copy, |view| view[..bytes].to_vec()).await
    }

    /// Fills a staging buffer by `copy`, and takes `bytes` bytes of it by `take` while it is mapped.
    pub(super) async fn read_staged<T>(
        &self,
        bytes: u64,
        copy: impl FnOnce(&wgpu::Buffer) -> Result<()>,
        take: impl FnOnce(&wgpu::BufferView) -> T,
    ) -> Result<T> {
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let descriptor =
            wgpu::BufferDescriptor { label: None, size: bytes.next_multiple_of(4), usage, mapped_at_creation: false };
        let mapped = Signal::default();
        let sent = mapped.clone();
        let staging = self.checked(|| {
            let staging = self.device.create_buffer(&descriptor);
            copy(&staging)?;
            staging.map_async(wgpu::MapMode::Read, .., move |result| sent.send(result));
            Ok(staging)
        });
        let staging = staging.await??;
        // Natively nothing happens until someone polls; in a browser this returns at once.
        self.device.poll(wgpu::PollType::wait_indefinitely()).map_err(gpu_error)?;
        mapped.await.map_err(gpu_error)?;
        let taken = take(&staging.get_mapped_range(..).map_err(gpu_error)?);
        staging.destroy();
        Ok(taken)
    }
}

/// Errors of a device, while they are collected.
pub(super) struct Scopes {
    /// The outer one first.
    scopes: [wgpu::ErrorScopeGuard; 3],
    lost: Arc<OnceLock<String>>,
}

impl Scopes {
    /// The first error, once the device has come so far.
    pub fn close(self) -> impl Future<Output = Result<()>> + use<> {
        let [outer, middle, inner] = self.scopes;
        // All are popped before anything is awaited: scopes of concurrent calls must not interleave.
        let errors =
            [Box::pin(inner.pop()) as Pin<Box<dyn Future<Output = _>>>, Box::pin(middle.pop()), Box::pin(outer.pop())];
        let lost = self.lost;
        async move {
            for error in errors {
                match error.await {
                    Some(wgpu::Error::OutOfMemory { .. }) => {
                        return Err(Error::unsupported("tensor", "for lack of GPU memory"));
                    }
                    Some(error) => return Err(gpu_error(error)),
                    None => {}
                }
            }
            lost.get().map_or(Ok(()), |reason| Err(gpu_error(format!("the device was lost: {reason}"))))
        }
    }
}

/// A buffer that ends with its owner: in a browser dropping one leaves it to the garbage collector, which does not see its
/// size.
#[derive(Debug)]
pub(super) struct Temporary {
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

/// A value that a callback sends once and a future receives.
struct Signal<T>(Arc<Mutex<(Option<T>, Option<Waker>)>>);

impl<T> Default for Signal<T> {
    fn default() -> Self {
        Signal(Arc::new(Mutex::new((None, None))))
    }
}

impl<T> Clone for Signal<T> {
    fn clone(&self) -> Self {
        Signal(self.0.clone())
    }
}

impl<T> Signal<T> {
    fn send(&self, value: T) {
        let Ok(mut shared) = self.0.lock() else { return };
        shared.0 = Some(value);
        if let Some(waker) = shared.1.take() {
            waker.wake();
        }
    }
}

impl<T> Future for Signal<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Ok(mut shared) = self.0.lock() else { return Poll::Pending };
        shared.1 = Some(context.waker().clone());
        shared.0.take().map_or(Poll::Pending, Poll::Ready)
    }
}
