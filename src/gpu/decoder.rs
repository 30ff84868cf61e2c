//! Runs the shaders: the buffers of a batch, its dispatches, and the tensors.

use super::batch::{Batch, BatchFrame, Layout};
#[cfg(target_arch = "wasm32")]
use super::browser::LevelBuffer;
use super::coded::Tables;
use super::device::{Device, Temporary};
use super::frame::{self, LevelFrame, SideWords};
#[cfg(not(target_arch = "wasm32"))]
use super::native::LevelBuffer;
use super::shader::{SHADER, TENSOR_WORKGROUP_LEN, WORKGROUP_LEN};
use crate::error::Result;

use wgpu::BufferUsages as Usage;

/// Tensors are whole 16-byte units, so that any vector type can be bound to them.
const TENSOR_ALIGN_BYTES: u64 = 16;

/// The binding numbers of the shaders, where several share them.
mod binding {
    pub const LEVELS: u32 = 5;
    pub const STATUS: u32 = 6;
    pub const ESCAPES: u32 = 7;
}

/// Decodes frames of levels on one device. Natively it keeps the buffer of levels of its last batch, four bytes for each, up to
/// 1 GiB, until it is dropped.
#[derive(Debug)]
pub struct Decoder {
    pub(super) device: Device,
    pub(super) level_buffer: LevelBuffer,
    expand_tables: wgpu::ComputePipeline,
    walk_lanes: wgpu::ComputePipeline,
    place_escapes: wgpu::ComputePipeline,
    add_predictions: wgpu::ComputePipeline,
    reconstruct: wgpu::ComputePipeline,
}

/// What is recorded to be run together, and the buffers that it needs.
pub(super) struct Recording<'a> {
    pub(super) device: &'a Device,
    encoder: wgpu::CommandEncoder,
    temporary: Vec<Temporary>,
}

/// A frame that is to become a tensor, checked.
pub(super) struct Reconstruction {
    uniform: Vec<u32>,
    side: Vec<u32>,
    bytes: u64,
    workgroups: [u32; 2],
}

/// What has been sent to the device, and the buffers that it works on.
pub(crate) struct Submission {
    pub tensors: Vec<Temporary>,
    pub status: Temporary,
    #[cfg(not(target_arch = "wasm32"))]
    pub levels: wgpu::Buffer,
    _temporary: Vec<Temporary>,
}

impl Decoder {
    /// Builds the pipelines; errors are the device's.
    pub(crate) fn build(device: Device) -> Self {
        let source = wgpu::ShaderSource::Wgsl(SHADER.into());
        let module = &device.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
        let pipeline = |name| {
            device.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: None,
                layout: None,
                module,
                entry_point: Some(name),
                compilation_options: Default::default(),
                cache: None,
            })
        };
        let [expand_tables, walk_lanes, place_escapes, add_predictions, reconstruct] =
            ["expand_tables", "walk_lanes", "place_escapes", "add_predictions", "reconstruct"].map(pipeline);
        let level_buffer = LevelBuffer::default();
        Decoder { device, level_buffer, expand_tables, walk_lanes, place_escapes, add_predictions, reconstruct }
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Sends all that decodes a batch whose chunks have come; errors may be the device's too.
    pub(crate) fn submit(&self, batch: &Batch) -> Result<Submission> {
        let mut reconstructions = Vec::new();
        for frame in batch.layout.tensors()? {
            reconstructions.push(self.prepare(&frame)?);
        }
        let mut recording = Recording::new(&self.device);
        let levels = self.level_buffer.at_least((4 * batch.layout.level_len).max(4), &mut recording);
        let status_bytes = 4 * batch.layout.coded.chunks.len().max(1) as u64;
        let status = Temporary::new(self.device.buffer(status_bytes, Usage::STORAGE | Usage::COPY_SRC));
        self.decode_levels(batch, &levels, &status, &mut recording)?;
        let tensors = reconstructions.iter().map(|frame| self.reconstruct_on(frame, &levels, &mut recording)).collect();
        Ok(Submission {
            tensors,
            status,
            #[cfg(not(target_arch = "wasm32"))]
            levels,
            _temporary: recording.submit(),
        })
    }

    /// From words to levels; then frames that are predicted, after what they are predicted from.
    fn decode_levels(
        &self,
        batch: &Batch,
        levels: &wgpu::Buffer,
        status: &wgpu::Buffer,
        recording: &mut Recording,
    ) -> Result<()> {
        let Batch { layout: Layout { coded, .. }, words, .. } = batch;
        let classes: Vec<u32> = coded.classes.chunks(4).map(frame::word_of).collect();
        let arrays = [coded.lanes.as_flattened(), coded.chunks.as_flattened(), &classes];
        for array in arrays.into_iter().chain([coded.escapes.as_flattened()]) {
            self.device.check_binding(4 * array.len() as u64)?;
        }
        let arrays = arrays.map(|array| recording.filled(array, Usage::STORAGE));
        let tables = self.expand_tables_on(&coded.tables, recording)?;
        let mut bindings: Vec<(u32, &wgpu::Buffer)> = (0..).zip(&arrays).collect();
        bindings.extend([(3, &tables), (4, &**words), (binding::LEVELS, levels), (binding::STATUS, status)]);
        let lane_workgroups = self.device.workgroups(coded.lanes.len() as u64, WORKGROUP_LEN)?;
        recording.dispatch(&self.walk_lanes, &bindings, lane_workgroups);
        if !coded.escapes.is_empty() {
            let escapes = recording.filled(coded.escapes.as_flattened(), Usage::STORAGE);
            let bindings = [(binding::LEVELS, levels), (binding::ESCAPES, &escapes)];
            let workgroups = self.device.workgroups(coded.escapes.len() as u64, WORKGROUP_LEN)?;
            recording.dispatch(&self.place_escapes, &bindings, workgroups);
        }
        for (frame, reference) in batch.layout.predictions() {
            let uniform = prediction_fields(frame, reference).map(|(_, value)| value);
            let uniform = recording.filled(&uniform, Usage::UNIFORM);
            let gains = recording.filled(&frame.gains(), Usage::STORAGE);
            let bindings = [(0, &uniform), (1, &gains), (binding::LEVELS, levels), (binding::STATUS, status)];
            let workgroups = self.device.workgroups(frame.level_len(), WORKGROUP_LEN)?;
            recording.dispatch(&self.add_predictions, &bindings, workgroups);
        }
        Ok(())
    }

    /// The tables as lanes look them up.
    pub(super) fn expand_tables_on(&self, tables: &Tables, recording: &mut Recording) -> Result<wgpu::Buffer> {
        let bytes = tables.expanded_bytes().max(4);
        self.device.check_binding(bytes)?;
        let expanded = recording.buffer(bytes, Usage::STORAGE | Usage::COPY_SRC);
        let [starts, intervals] =
            [&tables.starts, &tables.intervals].map(|words| recording.filled(words, Usage::STORAGE));
        let bindings = [(0, &starts), (1, &intervals), (2, &expanded)];
        recording.dispatch(&self.expand_tables, &bindings, self.device.workgroups(bytes / 4, WORKGROUP_LEN)?);
        Ok(expanded)
    }

    pub(super) fn prepare(&self, frame: &LevelFrame) -> Result<Reconstruction> {
        frame.check()?;
        let side = SideWords::new(frame);
        let bytes = frame.bytes().next_multiple_of(TENSOR_ALIGN_BYTES);
        let levels_bytes = 4 * (u64::from(frame.level_at) + frame.element_len());
        for bytes in [bytes, levels_bytes, 4 * side.words.len() as u64] {
            self.device.check_binding(bytes)?;
        }
        let uniform = frame::uniform_fields(frame, frame.casts()?, &side).map(|(_, value)| value).to_vec();
        let workgroups = self.device.workgroups(bytes / 4, TENSOR_WORKGROUP_LEN)?;
        Ok(Reconstruction { uniform, side: side.words, bytes, workgroups })
    }

    pub(super) fn reconstruct_on(
        &self,
        frame: &Reconstruction,
        levels: &wgpu::Buffer,
        recording: &mut Recording,
    ) -> Temporary {
        let usage = Usage::STORAGE | Usage::COPY_SRC | Usage::COPY_DST;
        let tensor = Temporary::new(self.device.buffer(frame.bytes, usage));
        let uniform = recording.filled(&frame.uniform, Usage::UNIFORM);
        let side = recording.filled(&frame.side, Usage::STORAGE);
        let bindings = [(0, &uniform), (1, &side), (2, &tensor), (binding::LEVELS, levels)];
        recording.dispatch(&self.reconstruct, &bindings, frame.workgroups);
        tensor
    }
}

impl<'a> Recording<'a> {
    pub fn new(device: &'a Device) -> Self {
        let encoder = device.device.create_command_encoder(&Default::default());
        Recording { device, encoder, temporary: Vec::new() }
    }

    /// A buffer that lasts as long as what [`Recording::submit`] gives.
    pub fn buffer(&mut self, size: u64, usage: Usage) -> wgpu::Buffer {
        self.kept(self.device.buffer(size, usage))
    }

    pub fn filled(&mut self, words: &[u32], usage: Usage) -> wgpu::Buffer {
        self.kept(self.device.filled(words, usage))
    }

    fn kept(&mut self, buffer: wgpu::Buffer) -> wgpu::Buffer {
        self.temporary.push(Temporary::new(buffer.clone()));
        buffer
    }

    fn dispatch(&mut self, pipeline: &wgpu::ComputePipeline, bindings: &[(u32, &wgpu::Buffer)], [x, y]: [u32; 2]) {
        let resources = bindings.iter().map(|&(binding, buffer)| (binding, buffer.as_entire_binding()));
        let entries: Vec<_> = resources.map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource }).collect();
        let bind_group = self.device.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.get_bind_group_layout(0),
            entries: &entries,
        });
        let mut pass = self.encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(pipeline);
        pass.set_bind_group(0, &bind_group, &[]);
        pass.dispatch_workgroups(x, y, 1);
    }

    pub fn submit(self) -> Vec<Temporary> {
        self.device.queue.submit([self.encoder.finish()]);
        self.temporary
    }
}

/// The fields of the shader's `PredictedFrame`, by name and in order.
fn prediction_fields(frame: &BatchFrame, reference: &BatchFrame) -> [(&'static str, u32); 8] {
    let [chunk_len, row_chunks] = frame.chunk_shape();
    [
        ("level_at", frame.level_at),
        ("level_len", frame.level_len() as u32),
        ("row_len", frame.levels.row_len() as u32),
        ("reference_at", reference.level_at),
        ("reference_len", reference.level_len() as u32),
        ("status_at", frame.first_chunk as u32),
        ("chunk_len", chunk_len),
        ("row_chunks", row_chunks),
    ]
}

#[cfg(test)]
mod tests {
    use wgpu::naga::{self, TypeInner};

    use super::*;
    use crate::gpu::batch::{LANE_END, OUT_OF_RANGE};
    use crate::gpu::coded::{Coded, INTERVALS_AT, NUMBERS_AT, TABLE_LEN};
    use crate::gpu::frame::{ABSENT, Cast, Value};
    use crate::stages::trellis;

    fn shader() -> naga::Module {
        naga::front::wgsl::parse_str(SHADER).expect("the shader parses")
    }

    /// Names of a struct's fields, which are words one after another.
    fn fields(name: &str) -> Vec<String> {
        let shader = shader();
        let (_, found) = shader.types.iter().find(|(_, found)| found.name.as_deref() == Some(name)).unwrap();
        let TypeInner::Struct { members, span } = &found.inner else { panic!("not a struct") };
        assert!((0..).zip(members).all(|(index, member)| member.offset == 4 * index), "{name} has a gap");
        assert_eq!(*span as usize, 4 * members.len());
        members.iter().map(|member| member.name.clone().unwrap()).collect()
    }

    #[test]
    fn structs_have_the_layout_of_the_shader() {
        let frame = LevelFrame {
            dtype: crate::tensor::DType::F32,
            output: crate::tensor::DType::F32,
            rows: 1,
            columns: 1,
            taps: 1,
            level_at: 0,
            scales: &[1.0],
            first_exponent: 0,
            zero_point: 0,
            row_exponent: &[],
            column_exponent: &[],
            tap_exponent: &[],
            dct: false,
            column_major: false,
            row_permutation: None,
            column_permutation: None,
        };
        let ours = frame::uniform_fields(&frame, frame.casts().unwrap(), &SideWords::new(&frame));
        assert_eq!(ours.map(|(name, _)| name.to_owned()).to_vec(), fields("LevelFrame"));
        assert_eq!(fields("Lane").len(), Coded::LANE_LEN);
        assert_eq!(fields("Chunk").len(), Coded::CHUNK_LEN);
        assert_eq!(fields("Escape").len(), 2);
        assert_eq!(fields("PredictedFrame").len(), 8);
    }

    #[test]
    fn workgroups_are_those_of_the_shader() {
        let shader = shader();
        assert_eq!(shader.entry_points.len(), 5);
        for entry in &shader.entry_points {
            let len = if entry.name == "reconstruct" { TENSOR_WORKGROUP_LEN } else { WORKGROUP_LEN };
            assert_eq!(entry.workgroup_size, [len, 1, 1], "{}", entry.name);
            let at = SHADER.find(&format!("fn {}(", entry.name)).unwrap();
            let body = &SHADER[at..at + SHADER[at..].find(';').unwrap()];
            assert!(body.contains(&format!("workgroups.x * {len}u + id.x")), "{}", entry.name);
        }
    }

    #[test]
    fn constants_are_those_of_the_shader() {
        let constant = |name: &str, value: u32| {
            let line = |value: &str| SHADER.contains(&format!("const {name}: u32 = {value};"));
            assert!(line(&value.to_string()) || line(&format!("{value:#x}")), "{name}");
        };
        let casts = [Cast::F32, Cast::F16, Cast::Bf16, Cast::F64, Cast::Integer8, Cast::Integer16];
        let names = ["F32", "F16", "BF16", "F64", "INTEGER_8", "INTEGER_16"];
        casts.into_iter().zip(names).for_each(|(cast, name)| constant(&format!("CAST_{name}"), cast as u32));
        let values = [Value::Weight, Value::F16, Value::Bf16, Value::Signed, Value::Unsigned];
        let names = ["WEIGHT", "F16", "BF16", "SIGNED", "UNSIGNED"];
        values.into_iter().zip(names).for_each(|(value, name)| constant(&format!("VALUE_{name}"), value as u32));
        let next = |states: std::ops::Range<u8>| {
            let branches = states.flat_map(|state| [0, 1].map(|index| u32::from(trellis::next(state, index))));
            (0..).zip(branches).fold(0, |word, (branch, next)| word | next << (3 * branch))
        };
        constant("NEXT_LOW", next(0..4));
        constant("NEXT_HIGH", next(4..8));
        constant("STATE_START", crate::format::STATE_START);
        constant("SLOT_MASK", crate::format::TOTAL - 1);
        constant("ABSENT", ABSENT);
        constant("OUT_OF_RANGE", OUT_OF_RANGE);
        constant("LANE_END", LANE_END);
        constant("TABLE_LEN", TABLE_LEN as u32);
        constant("NUMBERS_AT", NUMBERS_AT as u32);
        constant("INTERVALS_AT", INTERVALS_AT as u32);
        let level_bits = crate::format::LEVEL_END.ilog2();
        assert!(SHADER.contains(&format!("const LEVEL_END: i32 = 1 << {level_bits};")));
    }
}
