//! Model files -> their tensors, and which of them share a frame.

use std::collections::HashMap;
use std::ops::Range;

use crate::container::{Hash, is_file_name};
use crate::encode::exact::computed::are_computed;
use crate::encode::exact::repeats::{are_smaller_raw, have_repeats, lossy_bytes};
use crate::encode::levels::integers;
use crate::encode::levels::weights::to_f32;
use crate::encode::options::{Options, Target};
use crate::encode::progress::map_in_parts;
use crate::error::{Error, Result};
use crate::format::{FILE_NAME_BYTES_MAX, RAW_CHUNK_BYTES};
use crate::formats::{self, SourceFile};
use crate::source::Source;
use crate::tensor::{TensorLocation, zeros};

/// Fewest elements for which a tensor gets a frame of its own.
const FRAME_LEN_MIN: u64 = 256;
/// Fewest elements of a matrix that is worth coding with loss.
const LOSSY_LEN_MIN: u64 = 1024;
/// Computed tables take no more.
const COMPUTED_BYTES_MAX: u64 = 64 << 20;
/// Tables that may take no more than with loss are smaller, so that a sample that misleads does little harm.
const TABLE_BYTES_MAX: u64 = 1 << 20;
/// What is seen of them: they hardly ever do.
const TABLE_SAMPLE_BYTES: u64 = 1 << 17;
/// What is compared of two tensors before all of them is.
const PREFIX_BYTES: u64 = 4096;

/// The files, their tensors, and the frames that these use.
pub struct Contents<'a> {
    /// The files.
    pub files: &'a [SourceFile<'a>],
    /// Their tensors, in the order of their bytes.
    pub tensors: Vec<TensorLocation>,
    /// For each tensor, the index of the frame it uses.
    pub frame_of: Vec<Option<usize>>,
    /// For each frame, the first tensor that uses it.
    framed: Vec<usize>,
}

impl<'a> Contents<'a> {
    /// Gives frames to tensors.
    ///
    /// # Errors
    /// `Argument` for a name that an archive cannot have; whatever is wrong with reading the files.
    pub fn new(files: &'a [SourceFile<'a>], tensors: Vec<TensorLocation>, options: &Options) -> Result<Self> {
        files.iter().try_for_each(|file| check_file_name(&file.name))?;
        let frame_of = vec![None; tensors.len()];
        let mut contents = Contents { files, tensors, frame_of, framed: Vec::new() };
        contents.assign_frames(options)?;
        Ok(contents)
    }

    /// Files whose tensors are only read.
    ///
    /// # Errors
    /// Whatever is wrong with the files.
    pub fn unframed(files: &'a [SourceFile<'a>], lenient: bool) -> Result<Self> {
        let tensors = formats::find(files, lenient)?.tensors;
        Ok(Contents { files, frame_of: vec![None; tensors.len()], tensors, framed: Vec::new() })
    }

    /// Number of frames.
    pub fn frame_count(&self) -> usize {
        self.framed.len()
    }

    /// The first tensor that uses a frame.
    pub fn tensor(&self, frame: usize) -> &TensorLocation {
        &self.tensors[self.framed[frame]]
    }

    /// The index of the first tensor that uses a frame.
    pub fn tensor_index(&self, frame: usize) -> usize {
        self.framed[frame]
    }

    /// The tensors that use a frame.
    pub fn users(&self, frame: usize) -> impl Iterator<Item = &TensorLocation> {
        let tensors = self.tensors.iter().zip(&self.frame_of);
        tensors.filter(move |&(_, of)| *of == Some(frame)).map(|(tensor, _)| tensor)
    }

    /// The bytes of a tensor.
    ///
    /// # Errors
    /// Whatever is wrong with reading them.
    pub fn bytes(&self, tensor: &TensorLocation) -> Result<Vec<u8>> {
        self.read(tensor, 0..tensor.bytes)
    }

    /// Some bytes of a tensor.
    ///
    /// # Errors
    /// Whatever is wrong with reading them.
    pub fn read(&self, tensor: &TensorLocation, range: Range<u64>) -> Result<Vec<u8>> {
        let mut bytes = zeros("tensor", range.end - range.start)?;
        self.files[tensor.file].read_at(tensor.offset + range.start, &mut bytes)?;
        Ok(bytes)
    }

    /// The parts of a file that belong to no frame.
    pub fn gaps(&self, file: usize) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut end = 0;
        let framed = self.tensors.iter().zip(&self.frame_of);
        for (tensor, _) in framed.filter(|(tensor, frame)| frame.is_some() && tensor.file == file) {
            gaps.push(end..tensor.offset);
            end = tensor.offset + tensor.bytes;
        }
        gaps.push(end..self.files[file].bytes());
        gaps
    }

    /// Whether a frame may be coded with loss, as matrices of floats may; vectors, small tensors and integers stay exact.
    pub fn may_lose(&self, frame: usize, options: &Options) -> bool {
        let tensor = self.tensor(frame);
        let axes = tensor.shape.0.iter().filter(|&&extent| extent > 1).count();
        let large = tensor.shape.element_len().unwrap_or(0) >= LOSSY_LEN_MIN;
        options.target != Target::Lossless
            && tensor.dtype.is_float()
            && axes >= 2
            && large
            && !self.users(frame).any(|tensor| (options.keep_exact)(&tensor.name))
    }

    /// Gives frames to tensors that are large enough and not better off in the raw stream, one to all tensors of equal bytes.
    /// Where two tensors share a part of a file, the later one is left without: its bytes come from the earlier.
    fn assign_frames(&mut self, options: &Options) -> Result<()> {
        let mut found = Vec::new();
        let mut end = (0, 0);
        for (index, tensor) in self.tensors.iter().enumerate() {
            let overlaps = tensor.file == end.0 && tensor.offset < end.1;
            let len = tensor.shape.element_len().unwrap_or(0);
            if overlaps || len < FRAME_LEN_MIN || !integers::are_worth_a_frame(tensor, || self.bytes(tensor))? {
                continue;
            }
            end = (tensor.file, tensor.offset + tensor.bytes);
            found.push(index);
        }
        let prefixes = self.hashes(&found, |tensor| tensor.bytes.min(PREFIX_BYTES))?;
        let alike = grouped(found.iter().zip(&prefixes).map(|(&index, hash)| self.kind(index, hash)));
        let twins: Vec<usize> = alike.iter().filter(|group| group.len() > 1).flatten().map(|&at| found[at]).collect();
        let hashes: HashMap<usize, Hash> =
            twins.iter().copied().zip(self.hashes(&twins, |tensor| tensor.bytes)?).collect();
        let hash = |(index, prefix): (&usize, &Hash)| self.kind(*index, hashes.get(index).unwrap_or(prefix));
        let frames = grouped(found.iter().zip(&prefixes).map(hash));
        let is_framed = map_in_parts(
            &frames,
            |_| RAW_CHUNK_BYTES as usize,
            |group| Ok(group.len() > 1 || !self.is_better_raw(&self.tensors[found[group[0]]], options)?),
        )?;
        let frames: Vec<_> =
            frames.into_iter().zip(is_framed).filter_map(|(group, framed)| framed.then_some(group)).collect();
        self.framed = frames.iter().map(|group| found[group[0]]).collect();
        for (frame, group) in frames.iter().enumerate() {
            group.iter().for_each(|&at| self.frame_of[found[at]] = Some(frame));
        }
        Ok(())
    }

    /// Whether a tensor that nobody else is equal to is better off in the raw stream: floats whose values repeat, if they are exact, or take
    /// no more than with loss. One that the base has in a frame can be predicted, and needs one too.
    fn is_better_raw(&self, tensor: &TensorLocation, options: &Options) -> Result<bool> {
        let is_wide = tensor.dtype.is_float() && tensor.dtype.bits() >= 32;
        let mut of_base = options.base.iter().flat_map(|base| &base.archive().tensors);
        if !is_wide || of_base.any(|other| other.name == tensor.name && !other.frames.is_empty()) {
            return Ok(false);
        }
        let sample = self.read(tensor, middle(tensor.bytes, RAW_CHUNK_BYTES))?;
        if !have_repeats(&sample, tensor.dtype) {
            return Ok(false);
        }
        let is_computed = || -> Result<bool> {
            let small = tensor.bytes <= COMPUTED_BYTES_MAX;
            Ok(small && are_computed(&to_f32(&self.bytes(tensor)?, tensor.dtype), &tensor.shape))
        };
        let error = match options.target.weights_error() {
            Some(error) if !is_computed()? => error,
            _ => return Ok(are_smaller_raw(&sample, tensor.dtype, None, options.adaptive)),
        };
        if tensor.bytes > TABLE_BYTES_MAX {
            return Ok(false);
        }
        let Range { start, end } = middle(sample.len() as u64, TABLE_SAMPLE_BYTES);
        let sample = &sample[start as usize..end as usize];
        let lossy = lossy_bytes(&to_f32(sample, tensor.dtype), error, options.target.bits_max());
        Ok(are_smaller_raw(sample, tensor.dtype, Some(lossy), options.adaptive))
    }

    /// What tensors of one frame have in common.
    fn kind(&self, index: usize, hash: &Hash) -> impl std::hash::Hash + Eq + use<> {
        let tensor = &self.tensors[index];
        (tensor.dtype, tensor.shape.clone(), *hash)
    }

    /// Hashes of the first bytes of these tensors.
    fn hashes(&self, tensors: &[usize], bytes: impl Fn(&TensorLocation) -> u64 + Sync) -> Result<Vec<Hash>> {
        let size = |index: &usize| bytes(&self.tensors[*index]) as usize;
        map_in_parts(tensors.iter().copied(), size, |index| {
            let tensor = &self.tensors[index];
            Ok(Hash::of(&[&self.read(tensor, 0..bytes(tensor))?]))
        })
    }
}

/// About the middle of `len` bytes, as many as `most`, from a whole element of any type on.
fn middle(len: u64, most: u64) -> Range<u64> {
    let start = len.saturating_sub(most) / 16 * 8;
    start..len.min(start + most)
}

/// Longest part of a file name, between slashes, that file systems take.
const NAME_PART_BYTES_MAX: usize = 255;

/// Checks that a file can be restored under its name.
///
/// # Errors
/// `Argument` for a file that nobody could restore: the archive, or a file system, does not take its name.
fn check_file_name(name: &str) -> Result<()> {
    let reason = if name.len() > FILE_NAME_BYTES_MAX || name.split('/').any(|part| part.len() > NAME_PART_BYTES_MAX) {
        format!(
            "is too long: {} bytes, at most {NAME_PART_BYTES_MAX} between slashes and {FILE_NAME_BYTES_MAX} in all",
            name.len()
        )
    } else if is_file_name(name) {
        return Ok(());
    } else {
        "cannot be a file name in an archive".into()
    };
    let mut shown: String = name.chars().take(SHOWN_CHARS_MAX).collect();
    if shown.len() < name.len() {
        shown.push('…');
    }
    Err(Error::argument(format!("{shown:?} {reason}")))
}

/// Most of a name that an error repeats.
const SHOWN_CHARS_MAX: usize = 60;

/// The places of equal keys, in the order of the first.
fn grouped<K: std::hash::Hash + Eq>(keys: impl Iterator<Item = K>) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    let mut by_key = HashMap::new();
    for (place, key) in keys.enumerate() {
        let group = *by_key.entry(key).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        groups[group].push(place);
    }
    groups
}
