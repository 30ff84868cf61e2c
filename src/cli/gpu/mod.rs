//! Tensors of an archive, made by a GPU; and which it leaves to the CPU, which nobody is to guess.

mod compare;
mod files;

use std::collections::BTreeSet;

use serde_json::{Value, json};

pub use compare::{Compared, compare};
pub use files::GpuFiles;

use crate::container::Tensor;
use crate::decode::Reader;
use crate::error::{Error, Result};
use crate::gpu::{Decoder, Device};
use crate::source::FileSource;

/// A GPU that decodes a small archive right.
///
/// # Errors
/// `Gpu` if there is none, or if it fails.
fn decoder() -> Result<Decoder> {
    let none = |error| match error {
        Error::Gpu(reason) => {
            Error::Gpu(format!("no driver for Vulkan, Metal or DirectX 12 offers one: {reason}").into())
        }
        other => other,
    };
    pollster::block_on(async {
        let gpu = Decoder::new(Device::request().await.map_err(none)?).await?;
        gpu.self_test().await?;
        Ok(gpu)
    })
}

/// The frame that a tensor is made of.
///
/// # Errors
/// `Unsupported` if it has none.
fn frame_of(tensor: &Tensor) -> Result<usize> {
    tensor.frames.last().copied().ok_or_else(|| Error::unsupported("tensor", "without a frame of its own"))
}

/// The tensors of some frames, all at once.
///
/// # Errors
/// `Unsupported` if the GPU cannot take them, or not all at once; `Gpu` if it fails; any error of their chunks.
fn made(gpu: &Decoder, reader: &Reader<FileSource>, frames: &[usize]) -> Result<Vec<Vec<u8>>> {
    let archive = reader.archive();
    pollster::block_on(async {
        let buffers = gpu.decode(archive, frames, None, |chunk| reader.payload(chunk)).await?;
        let mut tensors = Vec::new();
        for (buffer, &frame) in buffers.iter().zip(frames) {
            let frame = &archive.frames[frame];
            tensors.push(gpu.device().read(buffer, frame.byte_len(frame.element_len)).await?);
            buffer.destroy();
        }
        Ok(tensors)
    })
}

/// Which tensors of an archive a GPU made.
pub struct Share {
    adapter: String,
    tensors: usize,
    elements: u64,
    left: Vec<Left>,
}

/// A tensor that it left to the CPU.
#[derive(serde::Serialize)]
struct Left {
    name: String,
    elements: u64,
    reason: String,
}

impl Share {
    fn new(gpu: &Decoder) -> Self {
        Share { adapter: gpu.device().name().into(), tensors: 0, elements: 0, left: Vec::new() }
    }

    fn take(&mut self, tensor: &Tensor) {
        self.tensors += 1;
        self.elements += elements(tensor);
    }

    fn leave(&mut self, tensor: &Tensor, reason: &Error) {
        self.left.push(Left { name: tensor.name.clone(), elements: elements(tensor), reason: reason.to_string() });
    }

    fn of(&self) -> usize {
        self.tensors + self.left.len()
    }

    pub fn json(&self) -> Value {
        json!({
            "adapter": self.adapter, "tensors": self.tensors, "of": self.of(), "elements": self.elements,
            "leftToCpu": self.left,
        })
    }

    /// What the tensors that the GPU made `are`, with what there is to add, and how many it left for which reason.
    pub fn text(&self, are: &str, but: &str) -> String {
        let Share { adapter, tensors, elements, left } = self;
        let of = self.of();
        let mut text = format!("{tensors} of {of} tensors, {elements} elements, {are} on {adapter}{but}\n");
        let reasons: BTreeSet<&str> = left.iter().map(|tensor| &*tensor.reason).collect();
        for reason in reasons {
            let elements = left.iter().filter(|tensor| tensor.reason == reason).map(|tensor| tensor.elements);
            let (tensors, elements) = (elements.clone().count(), elements.sum::<u64>());
            text += &format!("left to the CPU: {tensors} of {of}, {elements} elements ({reason})\n");
        }
        text
    }
}

fn elements(tensor: &Tensor) -> u64 {
    tensor.shape.element_len().unwrap_or(0)
}
