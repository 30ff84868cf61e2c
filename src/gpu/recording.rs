//! What shaders are to do, with which buffers -> one submission to the device.

use std::num::NonZeroU64;

use wgpu::BufferUsages as Usage;

use super::device::{Device, Temporary, check_binding};
use crate::error::Result;

/// Words of which a binding's place among the constants is a multiple: what devices want at most.
const CONSTANTS_ALIGN: usize = 64;

/// What is to be run together, and the buffers that it needs.
pub(super) struct Recording<'a> {
    pub(super) device: &'a Device,
    /// What the host tells the shaders, which is sent in one go.
    constants: Vec<u32>,
    bound: Vec<wgpu::Buffer>,
    dispatches: Vec<Dispatch<'a>>,
    temporary: Vec<Temporary>,
}

struct Dispatch<'a> {
    pipeline: &'a wgpu::ComputePipeline,
    bindings: Vec<(u32, Bound)>,
    workgroups: [u32; 2],
}

/// What a shader is given: a whole buffer by its number, or some of the constants.
#[derive(Clone, Copy)]
pub(super) enum Bound {
    Buffer(usize),
    /// In bytes.
    Constants {
        at: u64,
        bytes: u64,
    },
}

impl<'a> Recording<'a> {
    /// Nothing yet.
    pub fn new(device: &'a Device) -> Self {
        Recording { device, constants: Vec::new(), bound: Vec::new(), dispatches: Vec::new(), temporary: Vec::new() }
    }

    /// A buffer that lasts as long as what [`Recording::submit`] gives.
    pub fn buffer(&mut self, size: u64, usage: Usage) -> wgpu::Buffer {
        let buffer = self.device.buffer(size, usage);
        self.temporary.push(Temporary::new(buffer.clone()));
        buffer
    }

    /// A buffer as shaders are given it.
    pub fn bind(&mut self, buffer: &wgpu::Buffer) -> Bound {
        self.bound.push(buffer.clone());
        Bound::Buffer(self.bound.len() - 1)
    }

    /// These words, or one 0 as bindings must not be empty.
    ///
    /// # Errors
    /// `Unsupported` if the device cannot take them.
    pub fn constants(&mut self, words: &[u32]) -> Result<Bound> {
        self.constants.resize(self.constants.len().next_multiple_of(CONSTANTS_ALIGN), 0);
        let at = 4 * self.constants.len() as u64;
        self.device.check_binding(4 * words.len() as u64)?;
        check_binding(at + 4 * words.len() as u64, self.device.buffer_bytes_max())?;
        self.constants.extend(words);
        if words.is_empty() {
            self.constants.push(0);
        }
        Ok(Bound::Constants { at, bytes: 4 * self.constants.len() as u64 - at })
    }

    /// Has a pipeline run after all that was recorded before.
    pub fn dispatch(&mut self, pipeline: &'a wgpu::ComputePipeline, bindings: &[(u32, Bound)], workgroups: [u32; 2]) {
        self.dispatches.push(Dispatch { pipeline, bindings: bindings.to_vec(), workgroups });
    }

    /// Sends it all to the device.
    pub fn submit(mut self) -> Vec<Temporary> {
        let Device { device, queue, .. } = self.device;
        let bytes = 4 * self.constants.len().max(1) as u64;
        let constants = self.buffer(bytes, Usage::STORAGE | Usage::UNIFORM | Usage::COPY_DST);
        queue.write_buffer(&constants, 0, bytemuck::cast_slice(&self.constants));
        let mut encoder = device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for Dispatch { pipeline, bindings, workgroups: [x, y] } in &self.dispatches {
            let entry = |&(binding, bound): &(u32, Bound)| {
                let (buffer, offset, size) = match bound {
                    Bound::Buffer(number) => (&self.bound[number], 0, None),
                    Bound::Constants { at, bytes } => (&constants, at, NonZeroU64::new(bytes)),
                };
                let resource = wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset, size });
                wgpu::BindGroupEntry { binding, resource }
            };
            let entries: Vec<_> = bindings.iter().map(entry).collect();
            let bind_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
                label: None,
                layout: &pipeline.get_bind_group_layout(0),
                entries: &entries,
            });
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, &bind_group, &[]);
            pass.dispatch_workgroups(*x, *y, 1);
        }
        drop(pass);
        queue.submit([encoder.finish()]);
        self.temporary
    }
}
