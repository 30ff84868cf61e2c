//! Makes the buffers of a batch's tensors. A driver may take as long for large ones as their words take to be copied, so these are
//! made on a thread of their own.

use std::thread::{Builder, JoinHandle};

use super::device::{Device, Temporary};
use super::error::gpu_error;
use crate::error::Result;

/// Bytes of tensors from which on a thread is worth it.
const THREAD_BYTES: u64 = 16 << 20;

/// Buffers that have been made, and a thread that makes them.
#[derive(Debug)]
pub(super) struct Tensors {
    made: Vec<Temporary>,
    making: Option<JoinHandle<Result<Vec<Temporary>>>>,
}

impl Tensors {
    /// Begins to make buffers of so many bytes; errors may be the device's too.
    ///
    /// # Errors
    /// `Gpu` if there can be no more threads.
    pub fn make(device: &Device, bytes: Vec<u64>) -> Result<Self> {
        let is_large = bytes.iter().sum::<u64>() >= THREAD_BYTES;
        let make = move |device: &Device| bytes.iter().map(|&bytes| device.tensor_buffer(bytes)).collect();
        if !is_large {
            return Ok(Tensors { made: make(device), making: None });
        }
        let device = device.clone();
        let making = Builder::new().spawn(move || device.checked_now(|| make(&device))).map_err(gpu_error)?;
        Ok(Tensors { made: Vec::new(), making: Some(making) })
    }

    /// Waits for them.
    ///
    /// # Errors
    /// `Unsupported` if the device ran out of memory, `Gpu` if it failed.
    pub fn take(&mut self) -> Result<Vec<Temporary>> {
        match self.making.take() {
            Some(thread) => thread.join().map_err(|_| gpu_error("making buffers ended in a panic"))?,
            None => Ok(std::mem::take(&mut self.made)),
        }
    }
}

impl Drop for Tensors {
    /// What is tried next is to have the memory.
    fn drop(&mut self) {
        let _ = self.take();
    }
}
