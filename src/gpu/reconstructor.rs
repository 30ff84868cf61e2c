//! Runs the shader: buffers of a frame, one dispatch, and the tensor.

use super::device::Device;
use super::frame::{self, LevelFrame, SideWords};
use super::self_test::SelfTest;
use super::shader::{SHADER, WORKGROUP_LEN};
use crate::error::{Error, Result};
use crate::stages::pack;

/// Output buffers are whole 16-byte units, so that any vector type can be bound to them.
const TENSOR_ALIGN_BYTES: u64 = 16;

/// Reconstructs frames of levels on one device.
#[derive(Debug)]
pub struct Reconstructor {
    pub(super) device: Device,
    pipeline: wgpu::ComputePipeline,
}

/// A frame whose buffers exist and whose levels are awaited.
#[derive(Debug)]
pub struct Reconstruction {
    pub(super) levels: wgpu::Buffer,
    side: wgpu::Buffer,
    uniform: wgpu::Buffer,
    tensor: wgpu::Buffer,
    workgroups: [u32; 2],
}

impl Reconstruction {
    /// Where the packed levels belong; its size is that of the levels with their padding.
    pub fn levels(&self) -> &wgpu::Buffer {
        &self.levels
    }
}

impl Reconstructor {
    /// Builds the pipeline.
    ///
    /// # Errors
    /// `Gpu` if the device refuses the shader.
    pub async fn new(device: Device) -> Result<Self> {
        let pipeline = device.checked(|| {
            let source = wgpu::ShaderSource::Wgsl(SHADER.into());
            let module = &device.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
            device.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some("mcwc reconstruct"),
                layout: None,
                module,
                entry_point: Some("reconstruct"),
                compilation_options: Default::default(),
                cache: None,
            })
        });
        let pipeline = pipeline.await?;
        Ok(Reconstructor { device, pipeline })
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The bytes of a frame's tensor, followed by up to 15 bytes of zeros, in a new buffer that can be bound as storage
    /// and copied from and to. `levels` is packed at `level_bits`, with or without the padding.
    ///
    /// # Errors
    /// `Unsupported` if the device cannot take the frame, `Argument` if the levels are not the frame's, `Gpu` if the
    /// device fails.
    pub async fn reconstruct(&self, frame: &LevelFrame<'_>, levels: &[u8], level_bits: u32) -> Result<wgpu::Buffer> {
        frame.check_levels(levels.len() as u64, level_bits)?;
        let reconstruction = self.begin(frame, level_bits).await?;
        self.write_levels(&reconstruction, 0, levels)?;
        self.finish(reconstruction).await
    }

    /// Makes the buffers of a frame. The caller writes the packed levels, in as many parts as it likes.
    ///
    /// # Errors
    /// `Unsupported` if the device cannot take the frame, `Gpu` if it fails.
    pub async fn begin(&self, frame: &LevelFrame<'_>, level_bits: u32) -> Result<Reconstruction> {
        frame.check()?;
        if !pack::LEVEL_BITS.contains(&level_bits) {
            return Err(Error::argument("levels are packed at 8, 16 or 32 bits"));
        }
        let side = SideWords::new(frame);
        let levels_bytes = pack::packed_bytes(frame.element_len(), level_bits).unwrap_or(u64::MAX);
        let tensor_bytes = frame.bytes().next_multiple_of(TENSOR_ALIGN_BYTES);
        for bytes in [levels_bytes, tensor_bytes, 4 * side.words.len() as u64] {
            self.check_binding(bytes)?;
        }
        let workgroups = self.workgroups(tensor_bytes / 4)?;
        let dispatch_len = workgroups[0] * WORKGROUP_LEN;
        let fields = frame::uniform_fields(frame, frame.cast()?, &side, level_bits, dispatch_len);
        let uniform = fields.map(|(_, value)| value);
        let create = || {
            use wgpu::BufferUsages as Usage;
            Reconstruction {
                levels: self.buffer(levels_bytes, Usage::STORAGE | Usage::COPY_DST),
                side: self.filled(&side.words, Usage::STORAGE | Usage::COPY_DST),
                uniform: self.filled(&uniform, Usage::UNIFORM | Usage::COPY_DST),
                tensor: self.buffer(tensor_bytes, Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST),
                workgroups,
            }
        };
        self.device.checked(create).await
    }

    /// Writes packed levels from byte `offset` on, a multiple of 4; only the last part may end within four bytes.
    ///
    /// # Errors
    /// `Argument` if they do not lie inside the frame's levels.
    pub fn write_levels(&self, reconstruction: &Reconstruction, offset: u64, levels: &[u8]) -> Result<()> {
        let padded = (levels.len() as u64).next_multiple_of(4);
        if !offset.is_multiple_of(4) || offset.saturating_add(padded) > reconstruction.levels.size() {
            return Err(Error::argument("these levels do not lie inside the frame's"));
        }
        let (words, rest) = levels.split_at(levels.len() / 4 * 4);
        let mut last = [0; 4];
        last[..rest.len()].copy_from_slice(rest);
        let parts: [(&[u8], u64); 2] =
            [(words, offset), (&last[..rest.len().next_multiple_of(4)], offset + words.len() as u64)];
        for (part, offset) in parts.into_iter().filter(|(part, _)| !part.is_empty()) {
            self.device.queue.write_buffer(&reconstruction.levels, offset, part);
        }
        Ok(())
    }

    /// Runs the shader once the levels are written; see [`Reconstructor::reconstruct`].
    ///
    /// # Errors
    /// `Gpu` if the device fails.
    pub async fn finish(&self, reconstruction: Reconstruction) -> Result<wgpu::Buffer> {
        self.device.checked(|| self.dispatch(&reconstruction)).await?;
        // In a browser dropping a buffer leaves it to the garbage collector, which does not see its size.
        for buffer in [&reconstruction.levels, &reconstruction.side, &reconstruction.uniform] {
            buffer.destroy();
        }
        Ok(reconstruction.tensor)
    }

    /// Reconstructs a small frame whose weights are exact, and compares it with the CPU.
    ///
    /// # Errors
    /// `Gpu` if the values differ or the device fails: then it must not be used.
    pub async fn self_test(&self) -> Result<()> {
        let test = SelfTest::new()?;
        let tensor = self.reconstruct(&test.frame(), &test.packed(), 8).await?;
        let bytes = self.device.read(&tensor, test.frame().bytes()).await?;
        test.compare(&bytes)
    }

    fn dispatch(&self, reconstruction: &Reconstruction) {
        let Reconstruction { levels, side, uniform, tensor, workgroups } = reconstruction;
        let buffers = [uniform, levels, side, tensor];
        let resources = buffers.map(wgpu::Buffer::as_entire_binding);
        let entries: Vec<_> =
            (0..).zip(resources).map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource }).collect();
        let device = &self.device.device;
        let bind_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &self.pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        let mut encoder = device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &bind_group, &[]);
        pass.dispatch_workgroups(workgroups[0], workgroups[1], 1);
        drop(pass);
        self.device.queue.submit([encoder.finish()]);
    }

    fn buffer(&self, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        let descriptor = wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false };
        self.device.device.create_buffer(&descriptor)
    }

    fn filled(&self, words: &[u32], usage: wgpu::BufferUsages) -> wgpu::Buffer {
        let buffer = self.buffer(4 * words.len() as u64, usage);
        self.device.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(words));
        buffer
    }

    fn check_binding(&self, bytes: u64) -> Result<()> {
        let most = self.device.binding_bytes_max();
        if bytes <= most {
            return Ok(());
        }
        Err(Error::unsupported("tensor", format!("{bytes} bytes in one buffer; this GPU binds {most} at most")))
    }

    /// Workgroups along x and y that together make at least `word_len` invocations.
    fn workgroups(&self, word_len: u64) -> Result<[u32; 2]> {
        let most = self.device.device.limits().max_compute_workgroups_per_dimension;
        let count = word_len.div_ceil(u64::from(WORKGROUP_LEN));
        let x = count.clamp(1, u64::from(most));
        let y = count.div_ceil(x).max(1);
        if y > u64::from(most) {
            return Err(Error::unsupported("tensor", format!("{word_len} words in one dispatch")));
        }
        Ok([x as u32, y as u32])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use naga::{AddressSpace, TypeInner};

    fn shader() -> naga::Module {
        naga::front::wgsl::parse_str(SHADER).expect("the shader parses")
    }

    #[test]
    fn uniform_has_the_layout_of_the_shader() {
        let shader = shader();
        let (_, uniform) =
            shader.global_variables.iter().find(|(_, variable)| variable.space == AddressSpace::Uniform).unwrap();
        let TypeInner::Struct { members, span } = &shader.types[uniform.ty].inner else { panic!("not a struct") };
        let test = SelfTest::new().unwrap();
        let (frame, side) = (test.frame(), SideWords::new(&test.frame()));
        let fields = frame::uniform_fields(&frame, frame.cast().unwrap(), &side, 8, 64);
        let ours: Vec<_> = (0..).zip(&fields).map(|(index, &(name, _))| (Some(name.to_owned()), 4 * index)).collect();
        let theirs: Vec<_> = members.iter().map(|member| (member.name.clone(), member.offset)).collect();
        assert_eq!(ours, theirs);
        assert_eq!(*span as usize, 4 * fields.len());
    }

    #[test]
    fn bindings_and_workgroup_are_those_of_the_shader() {
        let shader = shader();
        let mut bindings: Vec<_> = shader
            .global_variables
            .iter()
            .filter_map(|(_, variable)| Some((variable.binding.as_ref()?.binding, variable.name.as_deref()?)))
            .collect();
        bindings.sort_unstable();
        assert_eq!(bindings, [(0, "frame"), (1, "levels"), (2, "side"), (3, "tensor")]);
        assert_eq!(shader.entry_points[0].name, "reconstruct");
        assert_eq!(shader.entry_points[0].workgroup_size, [WORKGROUP_LEN, 1, 1]);
    }

    #[test]
    fn casts_have_the_numbers_of_the_shader() {
        use frame::Cast;
        let casts = [Cast::F32, Cast::F16, Cast::Bf16, Cast::F64, Cast::Integer8, Cast::Integer16];
        let names = ["F32", "F16", "BF16", "F64", "INTEGER_8", "INTEGER_16"];
        for (cast, name) in casts.into_iter().zip(names) {
            assert!(SHADER.contains(&format!("const CAST_{name}: u32 = {};", cast as u32)), "{name}");
        }
    }
}
