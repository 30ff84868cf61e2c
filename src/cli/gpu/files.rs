//! Archives -> files whose tensors a GPU makes, a batch of them at a time; all else comes from the reader.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;

use super::super::files::io_error;
use super::{Share, decoder, frame_of, made};
use crate::container::{Archive, Extent, ExtentSource, Tensor};
use crate::decode::{Opened, Reader};
use crate::error::{Error, Result};
use crate::gpu::{Decoder, levels_of};
use crate::source::FileSource;

/// Levels that are decoded together at most, unless one tensor and what it is predicted from have more: so many weights take
/// 64 MiB as f32.
const BATCH_LEVELS: u64 = 1 << 24;

/// Of each frame of a batch, its tensor, or why the GPU does not make it.
type Made = BTreeMap<usize, Result<Vec<u8>>>;

/// The files of an archive.
pub struct GpuFiles<'a> {
    gpu: Decoder,
    reader: &'a Reader<'a, FileSource>,
    /// Of what has been written.
    share: Share,
}

impl<'a> GpuFiles<'a> {
    /// Those of this archive, whose base is there.
    ///
    /// # Errors
    /// `Gpu` if there is no GPU, or if it fails.
    pub fn open(reader: &'a Reader<'a, FileSource>) -> Result<Self> {
        let gpu = decoder()?;
        let mut share = Share::new(&gpu);
        for tensor in &reader.archive().tensors {
            frame_of(tensor).map_or_else(|reason| share.leave(tensor, &reason), drop);
        }
        Ok(GpuFiles { gpu, reader, share })
    }

    /// As [`Reader::write_file`].
    ///
    /// # Errors
    /// As [`Reader::write_file`]; `Gpu` if the GPU fails.
    pub fn write_file(&mut self, index: usize, out: &mut dyn Write, progress: &mut dyn FnMut(u64)) -> Result<()> {
        let archive = self.reader.archive();
        let mut opened = Opened::default();
        let mut extents = &archive.files[index].extents[..];
        while !extents.is_empty() {
            let (batch, later) = extents.split_at(batch_len(archive, extents, BATCH_LEVELS));
            let made = self.make(batch)?;
            for extent in batch {
                let made = tensor_at(archive, extent).and_then(|tensor| self.taken(tensor, &made));
                let Some(tensor) = made else {
                    self.reader.write_range(index, extent.offset, extent.bytes, &mut opened, out, progress)?;
                    continue;
                };
                out.write_all(tensor).map_err(io_error(Path::new("output")))?;
                progress(extent.bytes);
            }
            extents = later;
        }
        Ok(())
    }

    /// Which tensors the GPU made.
    pub fn share(&self) -> &Share {
        &self.share
    }

    fn make(&self, batch: &[Extent]) -> Result<Made> {
        let archive = self.reader.archive();
        let (mut left, mut wanted) = (Made::new(), Vec::new());
        let tensors = batch.iter().filter_map(|extent| tensor_at(archive, extent));
        for frame in tensors.filter_map(|tensor| frame_of(tensor).ok()).collect::<BTreeSet<_>>() {
            match levels_of(&archive.frames[frame]) {
                Ok(_) => wanted.push(frame),
                Err(reason) => drop(left.insert(frame, Err(reason))),
            }
        }
        left.append(&mut together_or_alone(&wanted, &mut |frames| made(&self.gpu, self.reader, frames))?);
        Ok(left)
    }

    /// A tensor that the GPU made.
    fn taken<'m>(&mut self, tensor: &Tensor, made: &'m Made) -> Option<&'m [u8]> {
        match made.get(&frame_of(tensor).ok()?)? {
            Ok(bytes) => {
                self.share.take(tensor);
                Some(bytes)
            }
            Err(reason) => {
                self.share.leave(tensor, reason);
                None
            }
        }
    }
}

fn tensor_at<'a>(archive: &'a Archive, extent: &Extent) -> Option<&'a Tensor> {
    match extent.source {
        ExtentSource::Tensor(index) => archive.tensors.get(index),
        ExtentSource::Raw(_) => None,
    }
}

/// How many of the extents, at least one, have no more than so many levels together, those that they are predicted from included.
fn batch_len(archive: &Archive, extents: &[Extent], levels_max: u64) -> usize {
    let (mut frames, mut levels) = (BTreeSet::new(), 0);
    let exceeds = |extent: &Extent| {
        let wanted = tensor_at(archive, extent).and_then(|tensor| frame_of(tensor).ok());
        let chain = wanted.into_iter().flat_map(|frame| [vec![frame], archive.references(frame)].concat());
        for frame in chain.filter(|&frame| frames.insert(frame)) {
            levels += levels_of(&archive.frames[frame]).map_or(0, |_| archive.frames[frame].element_len);
        }
        levels > levels_max
    };
    extents.iter().position(exceeds).map_or(extents.len(), |first| first.max(1))
}

/// Makes the tensors of all frames at once, or of each alone if the GPU refuses that.
fn together_or_alone<F>(frames: &[usize], make: &mut F) -> Result<Made>
where
    F: FnMut(&[usize]) -> Result<Vec<Vec<u8>>>,
{
    if frames.is_empty() {
        return Ok(Made::new());
    }
    match (make(frames), frames) {
        (Err(reason @ Error::Unsupported { .. }), &[frame]) => Ok(Made::from([(frame, Err(reason))])),
        (Err(Error::Unsupported { .. }), _) => {
            let alone: Result<Vec<Made>> = frames.chunks(1).map(|frame| together_or_alone(frame, make)).collect();
            Ok(alone?.into_iter().flatten().collect())
        }
        (made, _) => Ok(frames.iter().copied().zip(made?.into_iter().map(Ok)).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Limits;

    #[test]
    fn batches_hold_all_extents_and_no_more_levels_than_they_may() {
        let bytes = std::fs::read("tests/vectors/valid/predicted.mcwc").unwrap();
        let reader = Reader::open(bytes.as_slice(), &Limits::default()).unwrap();
        let archive = reader.archive();
        let levels = |extents: &[Extent]| {
            let wanted = extents.iter().filter_map(|extent| frame_of(tensor_at(archive, extent)?).ok());
            let frames: BTreeSet<usize> =
                wanted.flat_map(|frame| [vec![frame], archive.references(frame)].concat()).collect();
            frames.iter().map(|&frame| archive.frames[frame].element_len).sum::<u64>()
        };
        let mut counts = Vec::new();
        for levels_max in [0, 3000, 20_000, u64::MAX] {
            let mut count = 0;
            for file in &archive.files {
                let mut extents = &file.extents[..];
                while !extents.is_empty() {
                    let len = batch_len(archive, extents, levels_max);
                    assert!(len == 1 || levels(&extents[..len]) <= levels_max, "{len} of {levels_max}");
                    assert!(len == extents.len() || levels(&extents[..=len]) > levels_max, "{len} of {levels_max}");
                    extents = &extents[len..];
                    count += 1;
                }
            }
            counts.push(count);
        }
        assert!(counts.is_sorted_by(|a, b| a > b) && counts[3] == archive.files.len(), "{counts:?}");
    }

    #[test]
    fn tensors_that_are_refused_together_are_made_alone() {
        let refused = || Error::unsupported("tensor", "for lack of GPU memory");
        let mut asked = Vec::new();
        let made = together_or_alone(&[3, 5, 8], &mut |frames| {
            asked.push(frames.to_vec());
            if frames.contains(&5) {
                Err(refused())
            } else {
                Ok(frames.iter().map(|&frame| vec![frame as u8]).collect())
            }
        });
        let made = made.unwrap();
        assert_eq!(asked, [vec![3, 5, 8], vec![3], vec![5], vec![8]]);
        assert_eq!((made[&3].as_deref().unwrap(), made[&8].as_deref().unwrap()), (&[3][..], &[8][..]));
        assert_eq!(made[&5].as_ref().unwrap_err().to_string(), refused().to_string());
        let failed = together_or_alone(&[3, 5], &mut |_| Err(Error::Gpu("the device was lost".into())));
        assert!(matches!(failed, Err(Error::Gpu(_))));
    }
}
