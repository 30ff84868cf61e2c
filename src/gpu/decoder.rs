//! Runs the shaders: the buffers of a batch, its dispatches, and the tensors.

use super::batch::{Batch, BatchFrame, LEVELS_ALIGN, Layout};
use super::coded::Tables;
use super::device::{Device, TENSOR_ALIGN_BYTES, Temporary, tensor_bytes};
use super::frame::{self, LevelFrame, SideWords};
use super::level_buffer::LevelBuffer;
use super::recording::{Bound, Recording};
use super::shader::{SHADER, TENSOR_WORKGROUP_LEN, WORKGROUP_LEN};
use crate::error::Result;

use wgpu::BufferUsages as Usage;

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

/// A frame that is to become a tensor, checked.
pub(super) struct Reconstruction {
    uniform: Vec<u32>,
    side: Vec<u32>,
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

    /// Sends all that decodes a batch whose chunks have come: levels, then tensors; errors may be the device's too.
    pub(crate) fn submit(&self, batch: &mut Batch) -> Result<Submission> {
        let mut reconstructions = Vec::new();
        for frame in batch.layout.tensors()? {
            reconstructions.push(self.prepare(&frame)?);
        }
        let mut recording = Recording::new(&self.device);
        let levels = self.level_buffer.at_least(4 * batch.layout.level_len.max(LEVELS_ALIGN), &mut recording);
        let status_bytes = 4 * batch.layout.coded.chunks.len().max(1) as u64;
        let status = Temporary::new(self.device.buffer(status_bytes, Usage::STORAGE | Usage::COPY_SRC));
        let bound_levels = recording.bind(&levels);
        self.decode_levels(batch, bound_levels, &status, &mut recording)?;
        let mut temporary = recording.submit();
        // While levels are decoded, these may still be in the making.
        let tensors = batch.tensors.take()?;
        let mut recording = Recording::new(&self.device);
        let bound_levels = recording.bind(&levels);
        for (frame, tensor) in reconstructions.iter().zip(&tensors) {
            self.reconstruct_on(frame, tensor, bound_levels, &mut recording)?;
        }
        temporary.extend(recording.submit());
        Ok(Submission {
            tensors,
            status,
            #[cfg(not(target_arch = "wasm32"))]
            levels,
            _temporary: temporary,
        })
    }

    /// From words to levels; then frames that are predicted, after what they are predicted from.
    fn decode_levels<'a>(
        &'a self,
        batch: &Batch,
        levels: Bound,
        status: &wgpu::Buffer,
        recording: &mut Recording<'a>,
    ) -> Result<()> {
        let Batch { layout: Layout { coded, .. }, words, .. } = batch;
        let tables = self.expand_tables_on(&coded.tables, recording)?;
        let classes: Vec<u32> = coded.classes.chunks(4).map(frame::word_of).collect();
        let lanes = recording.constants(coded.lanes.as_flattened())?;
        let chunks = recording.constants(coded.chunks.as_flattened())?;
        let classes = recording.constants(&classes)?;
        let [tables, words, status] = [&tables, words, status].map(|buffer| recording.bind(buffer));
        let [levels, status] = [(binding::LEVELS, levels), (binding::STATUS, status)];
        let workgroups = self.device.workgroups(coded.lanes.len() as u64, WORKGROUP_LEN)?;
        let bindings = [(0, lanes), (1, chunks), (2, classes), (3, tables), (4, words), levels, status];
        recording.dispatch(&self.walk_lanes, &bindings, workgroups);
        if !coded.escapes.is_empty() {
            let escapes = (binding::ESCAPES, recording.constants(coded.escapes.as_flattened())?);
            let workgroups = self.device.workgroups(coded.escapes.len() as u64, WORKGROUP_LEN)?;
            recording.dispatch(&self.place_escapes, &[levels, escapes], workgroups);
        }
        for (frame, reference) in batch.layout.predictions() {
            let fields = recording.constants(&prediction_fields(frame, reference).map(|(_, value)| value))?;
            let gains = recording.constants(&frame.gains())?;
            let workgroups = self.device.workgroups(frame.level_len(), WORKGROUP_LEN)?;
            recording.dispatch(&self.add_predictions, &[(0, fields), (1, gains), levels, status], workgroups);
        }
        Ok(())
    }

    /// The tables as lanes look them up.
    pub(super) fn expand_tables_on<'a>(
        &'a self,
        tables: &Tables,
        recording: &mut Recording<'a>,
    ) -> Result<wgpu::Buffer> {
        let bytes = tables.expanded_bytes().max(4);
        self.device.check_binding(bytes)?;
        let expanded = recording.buffer(bytes, Usage::STORAGE | Usage::COPY_SRC);
        let starts = recording.constants(&tables.starts)?;
        let intervals = recording.constants(&tables.intervals)?;
        let bindings = [(0, starts), (1, intervals), (2, recording.bind(&expanded))];
        recording.dispatch(&self.expand_tables, &bindings, self.device.workgroups(bytes / 4, WORKGROUP_LEN)?);
        Ok(expanded)
    }

    pub(super) fn prepare(&self, frame: &LevelFrame) -> Result<Reconstruction> {
        frame.check()?;
        let side = SideWords::new(frame);
        let bytes = tensor_bytes(frame.bytes());
        let levels_bytes = 4 * (u64::from(frame.level_at) + frame.element_len());
        for bytes in [bytes, levels_bytes, 4 * side.words.len() as u64] {
            self.device.check_binding(bytes)?;
        }
        let uniform = frame::uniform_fields(frame, frame.casts()?, &side).map(|(_, value)| value).to_vec();
        let workgroups = self.device.workgroups(bytes / TENSOR_ALIGN_BYTES, TENSOR_WORKGROUP_LEN)?;
        Ok(Reconstruction { uniform, side: side.words, workgroups })
    }

    pub(super) fn reconstruct_on<'a>(
        &'a self,
        frame: &Reconstruction,
        tensor: &wgpu::Buffer,
        levels: Bound,
        recording: &mut Recording<'a>,
    ) -> Result<()> {
        let uniform = recording.constants(&frame.uniform)?;
        let side = recording.constants(&frame.side)?;
        let bindings = [(0, uniform), (1, side), (2, recording.bind(tensor)), (binding::LEVELS, levels)];
        recording.dispatch(&self.reconstruct, &bindings, frame.workgroups);
        Ok(())
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
        let even = (0..8).map(|state| u32::from(trellis::next(state, 0)) << (4 * state));
        constant("NEXT_STATES", even.sum());
        assert!((0..8).all(|state| trellis::next(state, 1) == trellis::next(state, 0) ^ 2));
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
