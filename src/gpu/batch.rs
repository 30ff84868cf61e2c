//! Frames that are decoded together: which others they need, where all their levels lie in one buffer, and their chunks, as
//! they come.
//!
//! [`Layout`] is all of that but for the device: it proves every place that a shader reads or writes.

#[cfg(target_arch = "wasm32")]
use super::browser::Tensors;
use super::coded::{self, Coded, LevelPlace, WordPlaces};
use super::device::{Device, Temporary, check_binding, tensor_bytes};
use super::frame::{ABSENT, LevelFrame, check_transforms, levels_of};
use crate::container::{Archive, Frame, Levels};
use crate::entropy::LevelPayload;
use crate::error::{Error, Result};
use crate::reconstruct::{Rectangle, SideArrays};
use crate::tensor::DType;
#[cfg(not(target_arch = "wasm32"))]
use {super::tensors::Tensors, rayon::prelude::*};

/// `OUT_OF_RANGE` of the shader: a prediction leads out of range.
pub(super) const OUT_OF_RANGE: u32 = 0x1_0000;
/// `LANE_END` of the shader.
pub(super) const LANE_END: u32 = 256;

/// A chunk that a batch needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NeededChunk {
    /// Its place among the archive's chunks.
    pub chunk: usize,
    /// The frame that it belongs to.
    pub frame: usize,
    /// Which of the frame's element chunks; `None` for its side chunk.
    pub index: Option<usize>,
}

/// Bytes that the tensors of a batch may take, and how many more for each level.
const TENSOR_BYTES_FREE: u64 = 1 << 20;
const LEVEL_BYTES_MAX: u64 = 16;

/// Frames begin at multiples of so many levels, as `reconstruct` reads vectors of them.
pub(super) const LEVELS_ALIGN: u64 = 4;

/// Frames to be decoded to tensors, with all that they are predicted from, on a device.
#[derive(Debug)]
pub struct Batch {
    #[cfg(target_arch = "wasm32")]
    device: Device,
    pub(super) layout: Layout,
    pub(super) words: Temporary,
    pub(super) tensors: Tensors,
}

/// Frames to be decoded to tensors, with all that they are predicted from: what the buffers of a batch hold.
#[derive(Debug)]
pub struct Layout {
    /// References before what is predicted from them.
    pub(super) frames: Vec<BatchFrame>,
    /// Of each frame of the archive, which of these it is.
    places: Vec<Option<usize>>,
    /// Those of the archive whose tensors are wanted.
    wanted: Vec<usize>,
    /// The type that tensors are to have; `None`: each its own.
    dtype: Option<DType>,
    pub(super) coded: Coded,
    words_bytes: u64,
    pub(super) level_len: u64,
}

/// One of them.
#[derive(Debug)]
pub(super) struct BatchFrame {
    index: usize,
    frame: Frame,
    pub levels: Levels,
    /// Element chunks that are needed: the first ones.
    chunk_count: usize,
    /// Its first level in the buffer.
    pub level_at: u32,
    /// The place of its first chunk among all of the batch.
    pub first_chunk: usize,
    tables: [u32; 2],
    opened: Option<Opened>,
    /// What its chunks belong to.
    owner: String,
}

/// What the side chunk tells.
#[derive(Debug)]
struct Opened {
    side: SideArrays,
    scales: Vec<f32>,
    first_exponent: i32,
    classes: [u32; 2],
}

impl Batch {
    /// Lays out the frames, and makes room for their words.
    pub(crate) fn new(device: &Device, archive: &Archive, wanted: &[usize], dtype: Option<DType>) -> Result<Self> {
        let layout = Layout::new(archive, wanted, dtype, device.binding_bytes_max())?;
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let words = Temporary::new(device.buffer(layout.words_bytes, usage));
        let tensors = Tensors::new(device, layout.tensor_bytes());
        Ok(Batch {
            #[cfg(target_arch = "wasm32")]
            device: device.clone(),
            layout,
            words,
            tensors,
        })
    }

    /// As [`Layout::needed_chunks`].
    pub fn needed_chunks(&self) -> Vec<NeededChunk> {
        self.layout.needed_chunks()
    }

    /// The buffer of the lanes' words.
    pub fn words(&self) -> &wgpu::Buffer {
        &self.words
    }

    /// As [`Layout::add_side`].
    ///
    /// # Errors
    /// As [`Layout::add_side`].
    #[cfg(target_arch = "wasm32")]
    pub fn add_side(&mut self, frame: usize, payload: &[u8]) -> Result<()> {
        self.layout.add_side(frame, payload)
    }

    /// Takes the verified payload of element chunk `index` of a frame, from which the words have been cut out. Gives the byte of [`Batch::words`] where
    /// these belong; up to the next multiple of 4, anything may be written after them.
    ///
    /// # Errors
    /// As [`Layout::add_side`]; `Argument` too if the frame's side chunk has not come.
    #[cfg(target_arch = "wasm32")]
    pub fn add_chunk_without_words(&mut self, frame: usize, index: usize, payload: &[u8]) -> Result<u64> {
        let (places, parsed) = self.layout.take_chunk(frame, index, payload, LevelPayload::parse_without_words)?;
        self.device.write_padded(&self.words, places.low_at, parsed.low_bytes());
        Ok(places.words_at)
    }

    /// Checks what the shaders have to say of each chunk, four bytes each.
    ///
    /// # Errors
    /// `Invalid` for the first that breaks a rule.
    pub(crate) fn check_status(&self, status: &[u8]) -> Result<()> {
        self.layout.check_status(status)
    }
}

/// Splits the payload of a chunk of so many rows and columns, and low bits.
type ParsePayload<'p> = fn(&'p [u8], usize, usize, u32) -> Result<LevelPayload<'p>>;

impl Layout {
    /// Lays out the frames, for a device that binds buffers of so many bytes.
    ///
    /// # Errors
    /// `Unsupported` if it cannot take them, or all of them at once, `Argument` if one does not exist.
    pub fn new(archive: &Archive, wanted: &[usize], dtype: Option<DType>, binding_bytes_max: u64) -> Result<Self> {
        let (mut frames, mut places) = (Vec::new(), vec![None; archive.frames.len()]);
        for &frame in wanted {
            place_chain(archive, frame, &mut frames, &mut places)?;
        }
        name_owners(archive, &mut frames, &places);
        // By their first table.
        let (mut coded, mut table_sets) = (Coded::default(), vec![(0, 0); archive.tables.len()]);
        let (mut level_len, mut words_bytes) = (0, 0);
        let coded_bytes_max = coded::bytes_max(archive, wanted);
        for frame in &mut frames {
            // More is refused below.
            frame.level_at = u32::try_from(level_len).unwrap_or(u32::MAX);
            frame.first_chunk = coded.chunks.len();
            level_len += frame.level_len().next_multiple_of(LEVELS_ALIGN);
            coded.chunks.resize(frame.first_chunk + frame.chunk_count, Coded::NO_CHUNK);
            let chunks = archive.chunks.iter().skip(frame.frame.first_chunk).take(frame.chunk_count);
            words_bytes += chunks.map(|chunk| u64::from(chunk.bytes)).sum::<u64>();
            if words_bytes + coded.bytes() > coded_bytes_max {
                return Err(Error::unsupported("frames", "on the GPU, as they share what is stored"));
            }
            let &Levels { first_table, table_count, .. } = &frame.levels;
            let tables = archive.tables.get(first_table..first_table + table_count).unwrap_or_default();
            let first = match table_sets.get_mut(first_table) {
                Some((count, first)) if *count == table_count => *first,
                Some(set) => {
                    *set = (table_count, coded.tables.push(tables));
                    set.1
                }
                None => 0,
            };
            let class_len = tables.len() / (1 + usize::from(frame.levels.trellis));
            if class_len == 0 {
                return Err(Error::invalid("tables", "the frame has none"));
            }
            frame.tables = [first, class_len as u32];
        }
        let words_bytes = words_bytes.next_multiple_of(4).max(4);
        check_binding(words_bytes.max(4 * level_len), binding_bytes_max)?;
        check_transforms(archive, wanted)?;
        let wanted = wanted.to_vec();
        let mut layout = Layout { frames, places, wanted, dtype, coded, words_bytes, level_len };
        let tensor_bytes = layout.tensor_bytes();
        tensor_bytes.iter().try_for_each(|&bytes| check_binding(bytes, binding_bytes_max))?;
        // Their buffers are made before any payload has been seen.
        if tensor_bytes.iter().sum::<u64>() > TENSOR_BYTES_FREE + LEVEL_BYTES_MAX * level_len {
            return Err(Error::unsupported("frames", "on the GPU, as they are wanted again and again"));
        }
        for frame in layout.frames.iter_mut().filter(|frame| frame.levels.side == 0) {
            frame.open(None)?;
            frame.put_classes(&mut layout.coded);
        }
        Ok(layout)
    }

    /// The chunks that are to come, in the archive's order: that of side chunks before the others of their frames.
    pub fn needed_chunks(&self) -> Vec<NeededChunk> {
        let of_frame = |frame: &BatchFrame| {
            let (index, first) = (frame.index, frame.frame.first_chunk);
            let side = frame.frame.side_chunk.map(|chunk| NeededChunk { chunk, frame: index, index: None });
            let element = move |chunk| NeededChunk { chunk: first + chunk, frame: index, index: Some(chunk) };
            side.into_iter().chain((0..frame.chunk_count).map(element))
        };
        let mut chunks: Vec<NeededChunk> = self.frames.iter().flat_map(of_frame).collect();
        chunks.sort_unstable();
        chunks
    }

    /// Takes the verified payload of a frame's side chunk.
    ///
    /// # Errors
    /// `Invalid` if the payload breaks a rule, `Argument` if it is not needed.
    pub fn add_side(&mut self, frame: usize, payload: &[u8]) -> Result<()> {
        let frame = self.places.get(frame).and_then(|&place| self.frames.get_mut(place?)).ok_or_else(unwanted)?;
        frame.open(Some(payload))?;
        frame.put_classes(&mut self.coded);
        Ok(())
    }

    /// As [`Layout::add_side`], of many frames: reading theirs one after another would take as long as writing all words.
    #[cfg(not(target_arch = "wasm32"))]
    pub(super) fn add_sides<'p>(&mut self, payloads: impl Iterator<Item = (usize, &'p [u8])>) -> Result<()> {
        let mut sides = vec![None; self.frames.len()];
        for (frame, payload) in payloads {
            let side = self.places.get(frame).and_then(|&place| sides.get_mut(place?)).ok_or_else(unwanted)?;
            if side.replace(payload).is_some() {
                return Err(unwanted());
            }
        }
        let frames = self.frames.par_iter_mut().zip(sides).filter(|(_, side)| side.is_some());
        let opened: Vec<_> = frames.map(|(frame, side)| frame.open(side).map(|()| frame)).collect();
        opened.into_iter().try_for_each(|frame| frame.map(|frame| frame.put_classes(&mut self.coded)))
    }

    /// Takes the verified payload of element chunk `index` of a frame.
    ///
    /// # Errors
    /// As [`Layout::add_side`]; `Argument` too if the frame's side chunk has not come.
    pub fn add_chunk(&mut self, frame: usize, index: usize, payload: &[u8]) -> Result<()> {
        self.take_chunk(frame, index, payload, LevelPayload::parse).map(drop)
    }

    pub(super) fn take_chunk<'p>(
        &mut self,
        frame: usize,
        index: usize,
        payload: &'p [u8],
        parse: ParsePayload<'p>,
    ) -> Result<(WordPlaces, LevelPayload<'p>)> {
        let frame = self.places.get(frame).and_then(|&place| self.frames.get(place?)).ok_or_else(unwanted)?;
        let (first, len) = frame.frame.chunk_range(index).filter(|_| index < frame.chunk_count).ok_or_else(unwanted)?;
        let opened = frame.opened.as_ref().ok_or(Error::argument("the frame's side chunk is needed first"))?;
        let Rectangle { first_row, rows, first_col, cols } = Rectangle::new(&frame.levels, first, len);
        let parsed = parse(payload, rows, cols, frame.levels.low_bits).map_err(|error| frame.within(index, error))?;
        let row_len = frame.levels.row_len();
        let place = LevelPlace {
            rows: rows as u32,
            columns: cols as u32,
            row_len: row_len as u32,
            level_at: frame.level_at + (first_row * row_len + first_col) as u32,
            row_class_at: class_at(opened.classes[0], first_row),
            column_class_at: class_at(opened.classes[1], first_col),
            tables: frame.tables,
        };
        let chunk = frame.first_chunk + index;
        let places = self.coded.push_chunk(chunk, place, &frame.levels, &parsed, self.words_bytes)?;
        debug_assert!(self.coded.lies_inside(chunk, parsed.escapes.len(), self.words_bytes, self.level_len), "{chunk}");
        Ok((places, parsed))
    }

    fn frame(&self, index: usize) -> Option<&BatchFrame> {
        self.frames.get((*self.places.get(index)?)?)
    }

    /// Whether all chunks have come.
    pub(super) fn is_complete(&self) -> bool {
        !self.coded.chunks.contains(&Coded::NO_CHUNK)
    }

    /// The tensors to be made: frames, and where their levels begin.
    ///
    /// # Errors
    /// `Argument` if a chunk has not come, `Unsupported` for a frame that a GPU cannot take.
    pub fn tensors(&self) -> Result<Vec<LevelFrame<'_>>> {
        if !self.is_complete() {
            return Err(Error::argument("not all chunks of the batch have come"));
        }
        let wanted = self.wanted.iter().filter_map(|&frame| self.frame(frame));
        wanted.map(|frame| frame.level_frame(self.dtype)).collect()
    }

    /// Bytes of the tensors' buffers.
    pub(super) fn tensor_bytes(&self) -> Vec<u64> {
        let element_bytes = |frame: &BatchFrame| self.dtype.unwrap_or(frame.frame.dtype).element_bytes() as u64;
        let bytes = |frame: &BatchFrame| tensor_bytes(frame.frame.element_len * element_bytes(frame));
        self.wanted.iter().filter_map(|&frame| self.frame(frame)).map(bytes).collect()
    }

    /// Each predicted frame, with what it is predicted from.
    pub(super) fn predictions(&self) -> impl Iterator<Item = (&BatchFrame, &BatchFrame)> {
        self.frames.iter().filter_map(|frame| Some((frame, self.frame(frame.frame.reference?)?)))
    }

    /// Checks what the shaders have to say of each chunk, four bytes each.
    ///
    /// # Errors
    /// `Invalid` for the first that breaks a rule.
    pub(crate) fn check_status(&self, status: &[u8]) -> Result<()> {
        let mut words = status.as_chunks().0.iter().map(|&word| u32::from_le_bytes(word)).enumerate();
        let Some((place, status)) = words.find(|&(_, status)| status != 0) else { return Ok(()) };
        let error = match status & (OUT_OF_RANGE - 1) {
            0 => Error::invalid("level", "a prediction leads out of range"),
            lane => Error::invalid("lanes", format!("lane {} does not end where it should", LANE_END - lane)),
        };
        let frame = self.frames.iter().rfind(|frame| frame.first_chunk <= place);
        Err(frame.map_or(unwanted(), |frame| frame.within(place - frame.first_chunk, error)))
    }
}

impl BatchFrame {
    fn new(index: usize, frame: &Frame, chunk_count: usize) -> Result<Self> {
        Ok(BatchFrame {
            index,
            frame: frame.clone(),
            levels: levels_of(frame)?.clone(),
            chunk_count,
            level_at: 0,
            first_chunk: 0,
            tables: [0; 2],
            opened: None,
            owner: "the base".into(),
        })
    }

    /// Levels from the first to the last that are needed.
    pub fn level_len(&self) -> u64 {
        let last = self.chunk_count.checked_sub(1).and_then(|last| self.frame.chunk_range(last));
        last.map_or(0, |(first, len)| first + len)
    }

    fn open(&mut self, side: Option<&[u8]>) -> Result<()> {
        if self.opened.is_some() {
            return Err(unwanted());
        }
        let side = SideArrays::of(&self.levels, side);
        let opened = side.and_then(|side| side.scales(self.levels.scale).map(|scales| (side, scales)));
        let (side, (scales, first_exponent)) = opened.map_err(|error| error.within(&self.owner))?;
        self.opened = Some(Opened { side, scales, first_exponent, classes: [ABSENT; 2] });
        Ok(())
    }

    fn put_classes(&mut self, coded: &mut Coded) {
        if let Some(opened) = &mut self.opened {
            opened.classes = coded.push_classes(&self.levels, &opened.side);
        }
    }

    /// Gains of the rows, or one for all.
    pub fn gains(&self) -> Vec<u32> {
        let gains = self.opened.as_ref().map_or(&[][..], |opened| &opened.side.row_gain);
        if gains.is_empty() { vec![self.levels.gain as u32] } else { gains.iter().map(|&gain| gain as u32).collect() }
    }

    /// Elements of a chunk, and how many chunks make up a row: 0 if chunks hold whole ones.
    pub fn chunk_shape(&self) -> [u32; 2] {
        let row_chunks = self.frame.row_cut().map_or(0, |(_, pieces)| pieces);
        [self.frame.chunk_len as u32, row_chunks as u32]
    }

    fn level_frame(&self, dtype: Option<DType>) -> Result<LevelFrame<'_>> {
        let opened = self.opened.as_ref().ok_or(Error::argument("the frame's side chunk is needed first"))?;
        let Opened { side, scales, first_exponent, .. } = opened;
        Ok(LevelFrame::of(&self.frame, &self.levels, side, (scales, *first_exponent), self.level_at, dtype))
    }

    /// An error of element chunk `index`.
    fn within(&self, index: usize, error: Error) -> Error {
        error.within(&format!("chunk {} of {}", self.frame.first_chunk + index, self.owner))
    }
}

/// Appends a frame after those that it is predicted from, as far as they are missing.
fn place_chain(
    archive: &Archive,
    frame: usize,
    frames: &mut Vec<BatchFrame>,
    places: &mut [Option<usize>],
) -> Result<()> {
    let (mut chain, mut next, mut chunk_count) = (Vec::new(), Some(frame), usize::MAX);
    while let Some(index) = next {
        let entry = archive.frames.get(index).ok_or(Error::argument("there is no such frame"))?;
        // A chunk needs the same chunk of the reference, and no other.
        chunk_count = chunk_count.min(entry.chunk_count);
        chain.push((index, entry, chunk_count));
        next = entry.reference;
    }
    for (index, entry, chunk_count) in chain.into_iter().rev() {
        match places[index] {
            Some(place) => frames[place].chunk_count = frames[place].chunk_count.max(chunk_count),
            None => {
                places[index] = Some(frames.len());
                frames.push(BatchFrame::new(index, entry, chunk_count)?);
            }
        }
    }
    Ok(())
}

/// Finds the tensors that frames belong to, in one walk: asked for each frame, it would take one for each.
fn name_owners(archive: &Archive, frames: &mut [BatchFrame], places: &[Option<usize>]) {
    for tensor in archive.tensors.iter().rev() {
        for place in tensor.frames.iter().filter_map(|&frame| places[frame]) {
            frames[place].owner = format!("tensor {}", tensor.name);
        }
    }
}

fn class_at(array_at: u32, first: usize) -> u32 {
    if array_at == ABSENT { ABSENT } else { array_at + first as u32 }
}

fn unwanted() -> Error {
    Error::argument("the batch does not need this chunk")
}
