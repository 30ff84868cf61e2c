//! Sends the words of a batch a few megabytes at a time: each write has a buffer of its own on its way, and chunks are short.

use std::num::NonZeroU64;

use super::device::Device;
use super::error::gpu_error;
use crate::error::Result;

/// Bytes on their way together.
const WINDOW_BYTES: u64 = 4 << 20;

/// Writes a buffer from its beginning to its end.
#[derive(Debug, Default)]
pub(super) struct Writer {
    window: Option<Window>,
}

/// A part of the buffer, sent when it is dropped.
#[derive(Debug)]
struct Window {
    at: u64,
    view: wgpu::QueueWriteBufferView,
}

impl Writer {
    /// Writes bytes at a multiple of 4, behind all that was written before. Up to the next multiple, anything may follow them.
    ///
    /// # Errors
    /// `Unsupported` if the device runs out of memory, `Gpu` if it fails.
    pub async fn write(&mut self, device: &Device, buffer: &wgpu::Buffer, mut at: u64, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let rest = match &mut self.window {
                Some(window) if at < window.end() => window.view.slice((at - window.at) as usize..),
                window => {
                    let open = || {
                        *window = None;
                        Window::open(device, buffer, at)
                    };
                    let opened = device.checked(open).await??;
                    window.insert(opened).view.slice(..)
                }
            };
            let (now, later) = bytes.split_at(bytes.len().min(rest.len()));
            rest.into_slice(..now.len()).copy_from_slice(now);
            at += now.len() as u64;
            bytes = later;
        }
        Ok(())
    }

    /// Sends what has not been sent.
    pub fn flush(&mut self) {
        self.window = None;
    }
}

impl Window {
    fn open(device: &Device, buffer: &wgpu::Buffer, at: u64) -> Result<Self> {
        // What has been written before is on its way while this is filled.
        device.queue.submit([]);
        let bytes = NonZeroU64::new(WINDOW_BYTES.min(buffer.size().saturating_sub(at)));
        let view = bytes.and_then(|bytes| device.queue.write_buffer_with(buffer, at, bytes));
        Ok(Window { at, view: view.ok_or_else(|| gpu_error("the words cannot be written"))? })
    }

    fn end(&self) -> u64 {
        self.at + self.view.len() as u64
    }
}
