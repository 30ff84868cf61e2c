//! Waiting for a device: errors come back as values instead of ending the program, and a buffer can be read. Browsers have
//! promises for that.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use super::device::{Device, Temporary};
use super::error::gpu_error;
use crate::error::{Error, Result};

impl Device {
    /// Runs `work` and waits for what the device makes of it.
    ///
    /// # Errors
    /// `Unsupported` if it ran out of memory, `Gpu` if it refused, or was lost.
    pub(super) async fn checked<T>(&self, work: impl FnOnce() -> T) -> Result<T> {
        self.checked_now(work)
    }

    /// As [`Device::checked`], which has nothing to wait for natively.
    ///
    /// # Errors
    /// As those of [`Device::checked`].
    pub(super) fn checked_now<T>(&self, work: impl FnOnce() -> T) -> Result<T> {
        let scope = |filter| self.device.push_error_scope(filter);
        let outer = scope(wgpu::ErrorFilter::Internal);
        let middle = scope(wgpu::ErrorFilter::Validation);
        let inner = scope(wgpu::ErrorFilter::OutOfMemory);
        let value = work();
        // All are popped before anything is awaited: scopes of concurrent calls must not interleave.
        for error in [inner.pop(), middle.pop(), outer.pop()] {
            match pin!(error).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Some(wgpu::Error::OutOfMemory { .. })) => {
                    return Err(Error::unsupported("tensor", "for lack of GPU memory"));
                }
                Poll::Ready(Some(error)) => return Err(gpu_error(error)),
                Poll::Ready(None) => {}
                Poll::Pending => return Err(gpu_error("the device does not say whether it failed")),
            }
        }
        self.lost.get().map_or(Ok(value), |reason| Err(gpu_error(format!("the device was lost: {reason}"))))
    }

    /// Copies the first `bytes` bytes of a buffer back.
    ///
    /// # Errors
    /// `Gpu` if the device is out of memory or lost.
    pub async fn read(&self, buffer: &wgpu::Buffer, bytes: u64) -> Result<Vec<u8>> {
        let mapped = Signal::default();
        let sent = mapped.clone();
        let staging = self.checked(|| {
            let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
            let staging = Temporary::new(self.buffer(bytes.next_multiple_of(4), usage));
            let mut encoder = self.device.create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, staging.size());
            self.queue.submit([encoder.finish()]);
            staging.map_async(wgpu::MapMode::Read, .., move |result| sent.send(result));
            staging
        });
        let staging = staging.await?;
        // Nothing happens until someone polls.
        self.device.poll(wgpu::PollType::wait_indefinitely()).map_err(gpu_error)?;
        mapped.await.map_err(gpu_error)?;
        let view = staging.get_mapped_range(..).map_err(gpu_error)?;
        Ok(view[..usize::try_from(bytes).map_err(gpu_error)?].to_vec())
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
