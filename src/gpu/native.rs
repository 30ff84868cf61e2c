//! What is done otherwise than in browsers, where JavaScript waits for devices: decoding is one call.

use rayon::prelude::*;

use super::batch::{Batch, LEVELS_ALIGN, NeededChunk};
use super::coded::Tables;
use super::decoder::{Decoder, Submission};
use super::device::{Device, tensor_bytes};
use super::frame::LevelFrame;
use super::recording::Recording;
use super::self_test;
use super::writer::windows;
use crate::container::Archive;
use crate::entropy::{LevelPayload, Table};
use crate::error::{Error, Result};
use crate::tensor::DType;

/// Bytes of payloads from which on those at hand are added.
const GATHERED_BYTES: usize = 8 << 20;

/// What [`Decoder::expand_tables`] gives, on the CPU.
pub fn expanded_tables(tables: &[Table]) -> Vec<u32> {
    packed(tables).expanded()
}

fn packed(tables: &[Table]) -> Tables {
    let mut packed = Tables::default();
    packed.push(tables);
    packed
}

/// A batch that the device works on. Dropped, it gives its tensors up.
#[must_use]
pub struct Started<'a> {
    device: &'a Device,
    batch: Batch,
    submission: Submission,
}

impl Started<'_> {
    /// Waits for the tensors, as [`Decoder::finish`] gives them.
    ///
    /// # Errors
    /// `Invalid` if a chunk breaks a rule, `Gpu` if the device fails.
    pub async fn finish(self) -> Result<Vec<wgpu::Buffer>> {
        let Submission { tensors, status, .. } = self.submission;
        self.batch.check_status(&self.device.read(&status, status.size()).await?)?;
        Ok(tensors.into_iter().map(|tensor| tensor.keep()).collect())
    }
}

impl Decoder {
    /// Builds the pipelines.
    ///
    /// # Errors
    /// `Gpu` if the device refuses the shaders.
    pub async fn new(device: Device) -> Result<Self> {
        let building = device.clone();
        device.checked(|| Decoder::build(building)).await
    }

    /// Decodes frames of an archive whose verified payloads `payload` gives, as [`Decoder::begin`] and [`Decoder::finish`] do.
    ///
    /// # Errors
    /// As theirs, and those of `payload`.
    pub async fn decode(
        &self,
        archive: &Archive,
        frames: &[usize],
        dtype: Option<DType>,
        mut payload: impl FnMut(usize) -> Result<Vec<u8>>,
    ) -> Result<Vec<wgpu::Buffer>> {
        let mut batch = self.begin(archive, frames, dtype).await?;
        let (mut gathered, mut bytes) = (Vec::new(), 0);
        for needed in batch.needed_chunks() {
            let payload = payload(needed.chunk)?;
            bytes += payload.len();
            gathered.push((needed, payload));
            if bytes >= GATHERED_BYTES {
                self.add(&mut batch, &gathered)?;
                gathered.clear();
                bytes = 0;
            }
        }
        self.add(&mut batch, &gathered)?;
        self.finish(batch).await
    }

    /// Begins to decode frames of an archive, as tensors of `dtype` (f32 or f16) or of their own types.
    ///
    /// # Errors
    /// `Unsupported` if the device cannot take them, or all of them at once, `Argument` if one does not exist, `Gpu` if the device
    /// fails.
    pub async fn begin(&self, archive: &Archive, frames: &[usize], dtype: Option<DType>) -> Result<Batch> {
        let batch = self.device.checked(|| Batch::new(&self.device, archive, frames, dtype)).await.flatten();
        batch.inspect_err(|_| self.level_buffer.keep(None))
    }

    /// Takes verified payloads of a batch, those of side chunks with the others of their frames or before. The more at a time, the
    /// faster. A batch that one was refused of is not to be used further.
    ///
    /// # Errors
    /// `Invalid` if a payload breaks a rule, `Argument` if it is not needed, or if a frame's side chunk has not come,
    /// `Unsupported` if the device runs out of memory, `Gpu` if it fails.
    pub fn add(&self, batch: &mut Batch, payloads: &[(NeededChunk, impl AsRef<[u8]>)]) -> Result<()> {
        let of_sides = payloads.iter().filter(|(needed, _)| needed.index.is_none());
        batch.layout.add_sides(of_sides.map(|(needed, payload)| (needed.frame, payload.as_ref())))?;
        let mut parts = Vec::new();
        for (NeededChunk { frame, index, .. }, payload) in payloads {
            let Some(index) = *index else { continue };
            let (places, parsed) = batch.layout.take_chunk(*frame, index, payload.as_ref(), LevelPayload::parse)?;
            parts.extend([(places.words_at, parsed.words()), (places.low_at, parsed.low_bytes())]);
        }
        let windows = self.device.checked_now(|| windows(&self.device, &batch.words, parts)).flatten()?;
        // After the last windows, which would have to wait for them.
        if batch.layout.is_complete() {
            batch.tensors.begin()?;
        }
        windows.into_par_iter().try_for_each(|window| self.device.checked_now(|| window.send(&self.device)))
    }

    /// Decodes a batch whose chunks have all come. Each tensor is followed by up to 15 bytes of zeros, in a buffer that can be
    /// bound as storage and copied from and to.
    ///
    /// # Errors
    /// `Invalid` if a chunk breaks a rule, `Unsupported` if the device cannot take the frames, `Argument` if a chunk is missing,
    /// `Gpu` if the device fails.
    pub async fn finish(&self, batch: Batch) -> Result<Vec<wgpu::Buffer>> {
        self.start(batch).await?.finish().await
    }

    /// As [`Decoder::finish`], without waiting for the tensors.
    ///
    /// # Errors
    /// `Unsupported` if the device cannot take the frames, `Argument` if a chunk is missing, `Gpu` if the device fails.
    pub async fn start(&self, mut batch: Batch) -> Result<Started<'_>> {
        let submission = self.device.checked(|| self.submit(&mut batch)).await.flatten();
        self.level_buffer.keep(submission.as_ref().ok().map(|submission| &submission.levels));
        let submission = submission?;
        Ok(Started { device: &self.device, batch, submission })
    }

    /// What `frame` makes of its levels, given in coded order; in a buffer as [`Decoder::finish`] gives them.
    ///
    /// # Errors
    /// `Unsupported` if the device cannot take the frame, `Argument` if the levels are not the frame's, `Gpu` if the
    /// device fails.
    pub async fn reconstruct(&self, frame: &LevelFrame<'_>, levels: &[i32]) -> Result<wgpu::Buffer> {
        let prepared = self.prepare(frame)?;
        if levels.len() as u64 != u64::from(frame.level_at) + frame.element_len() {
            return Err(Error::argument("one level for each element is needed"));
        }
        let reconstructed = self.device.checked(|| {
            let mut recording = Recording::new(&self.device);
            let mut levels: Vec<u32> = bytemuck::cast_slice(levels).to_vec();
            levels.resize(levels.len().next_multiple_of(LEVELS_ALIGN as usize), 0);
            let levels = recording.constants(&levels)?;
            let tensor = self.device.tensor_buffer(tensor_bytes(frame.bytes()));
            self.reconstruct_on(&prepared, &tensor, levels, &mut recording)?;
            Ok((tensor, recording.submit()))
        });
        Ok(reconstructed.await??.0.keep())
    }

    /// Entropy models as lanes look them up: of each, for each 16 slots, the interval that the first lies in and the next, then
    /// the numbers of the former, four to a word, then all intervals: frequency (12 bits), cumulative (12), symbol (8).
    ///
    /// # Errors
    /// `Unsupported` if they are too many for the device, `Gpu` if it fails.
    pub async fn expand_tables(&self, tables: &[Table]) -> Result<Vec<u32>> {
        let packed = packed(tables);
        let expanded = self.device.checked(|| {
            let mut recording = Recording::new(&self.device);
            let expanded = self.expand_tables_on(&packed, &mut recording)?;
            Ok((expanded, recording.submit()))
        });
        let (expanded, _temporary) = expanded.await??;
        let bytes = self.device.read(&expanded, packed.expanded_bytes()).await?;
        Ok(bytes.as_chunks().0.iter().map(|&word| u32::from_le_bytes(word)).collect())
    }

    /// Decodes a small archive whose weights are exact, and compares them with the CPU's.
    ///
    /// # Errors
    /// `Gpu` if the values differ or the device fails: then it must not be used.
    pub async fn self_test(&self) -> Result<()> {
        self_test::run(self).await
    }
}
