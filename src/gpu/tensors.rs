//! Makes the buffers of a batch's tensors on a thread of its own: a driver may take as long for it as the words take to be
//! copied.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::thread::{Builder, JoinHandle};

use super::device::{Device, Temporary};
use super::error::gpu_error;
use crate::error::Result;

/// Buffers that are being made, or have been taken.
#[derive(Debug)]
pub(super) struct Tensors(Option<JoinHandle<Result<Vec<Temporary>>>>);

impl Tensors {
    /// Begins to make buffers of so many bytes.
    ///
    /// # Errors
    /// `Gpu` if there can be no more threads.
    pub fn make(device: &Device, bytes: Vec<u64>) -> Result<Self> {
        let device = device.clone();
        let make = move || {
            let made = pin!(device.checked(|| bytes.into_iter().map(|bytes| device.tensor_buffer(bytes)).collect()));
            match made.poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(made) => made,
                Poll::Pending => Err(gpu_error("natively, errors are known at once")),
            }
        };
        Builder::new().spawn(make).map(|thread| Tensors(Some(thread))).map_err(gpu_error)
    }

    /// Waits for them.
    ///
    /// # Errors
    /// `Unsupported` if the device ran out of memory, `Gpu` if it failed, or they have been taken before.
    pub fn take(&mut self, _device: &Device) -> Result<Vec<Temporary>> {
        let made = self.0.take().and_then(|thread| thread.join().ok());
        made.unwrap_or_else(|| Err(gpu_error("the tensors have no buffers")))
    }
}
