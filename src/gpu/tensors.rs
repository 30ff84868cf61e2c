//! Makes the buffers of a batch's tensors. A driver may take as long for large ones as their words take to be sent, so these are
//! made on a thread of their own.

use std::thread::{Builder, JoinHandle};

use super::device::{Device, Temporary};
use super::error::gpu_error;
use crate::error::Result;

/// Bytes of tensors from which on a thread is worth it.
const THREAD_BYTES: u64 = 16 << 20;

/// Buffers that are to be made, and a thread that makes them.
#[derive(Debug)]
pub(super) struct Tensors {
    device: Device,
    bytes: Vec<u64>,
    making: Option<JoinHandle<Result<Vec<Temporary>>>>,
}

impl Tensors {
    /// Buffers of so many bytes.
    pub fn new(device: &Device, bytes: Vec<u64>) -> Self {
        Tensors { device: device.clone(), bytes, making: None }
    }

    /// Begins to make them. A device may make no other buffers meanwhile.
    ///
    /// # Errors
    /// `Gpu` if there can be no more threads.
    pub fn begin(&mut self) -> Result<()> {
        if self.bytes.iter().sum::<u64>() >= THREAD_BYTES {
            let (device, bytes) = (self.device.clone(), self.bytes.clone());
            let make = move || device.checked_now(|| made(&device, &bytes));
            self.making = Some(Builder::new().spawn(make).map_err(gpu_error)?);
            self.bytes.clear();
        }
        Ok(())
    }

    /// Waits for them; errors may be the device's too.
    ///
    /// # Errors
    /// `Unsupported` if the device ran out of memory, `Gpu` if it failed.
    pub fn take(&mut self) -> Result<Vec<Temporary>> {
        match self.making.take() {
            Some(thread) => thread.join().map_err(|_| gpu_error("making buffers ended in a panic"))?,
            None => Ok(made(&self.device, &self.bytes)),
        }
    }
}

fn made(device: &Device, bytes: &[u64]) -> Vec<Temporary> {
    bytes.iter().map(|&bytes| device.tensor_buffer(bytes)).collect()
}

impl Drop for Tensors {
    /// What is tried next is to have the memory.
    fn drop(&mut self) {
        if let Some(thread) = self.making.take() {
            let _ = thread.join();
        }
    }
}
