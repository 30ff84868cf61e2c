//! The buffer that the levels of a batch lie in.

#[cfg(not(target_arch = "wasm32"))]
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::recording::Recording;

/// Bytes of levels that are kept at most.
#[cfg(not(target_arch = "wasm32"))]
const LEVEL_BYTES_KEPT: u64 = 1 << 30;

/// The buffer of levels, kept between batches: it takes longer to make one than to fill it.
#[cfg(not(target_arch = "wasm32"))]
#[derive(Debug, Default)]
pub(super) struct LevelBuffer(Mutex<Option<wgpu::Buffer>>);

#[cfg(not(target_arch = "wasm32"))]
impl LevelBuffer {
    /// A buffer of at least so many bytes, of any contents. Until it is kept again, other batches have others: a batch is more than
    /// one submission.
    pub fn at_least(&self, bytes: u64, recording: &mut Recording) -> wgpu::Buffer {
        let kept = self.kept().take();
        // One that is too small goes first: both may be more than the device has.
        let large = kept.filter(|buffer| buffer.size() >= bytes);
        large.unwrap_or_else(|| recording.device.buffer(bytes, wgpu::BufferUsages::STORAGE))
    }

    /// Keeps a buffer of a batch that has been submitted; `None` if it refused something, for lack of memory perhaps.
    pub fn keep(&self, buffer: Option<&wgpu::Buffer>) {
        *self.kept() = buffer.filter(|buffer| buffer.size() <= LEVEL_BYTES_KEPT).cloned();
    }

    fn kept(&self) -> MutexGuard<'_, Option<wgpu::Buffer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The buffer of levels, made anew for each batch: pages are to have the memory.
#[cfg(target_arch = "wasm32")]
#[derive(Debug, Default)]
pub(super) struct LevelBuffer(());

#[cfg(target_arch = "wasm32")]
impl LevelBuffer {
    /// A buffer of so many bytes.
    pub fn at_least(&self, bytes: u64, recording: &mut Recording) -> wgpu::Buffer {
        recording.buffer(bytes, wgpu::BufferUsages::STORAGE)
    }
}
