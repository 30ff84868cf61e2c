//! A PyTorch checkpoint or TorchScript module -> its tensors.
//!
//! A pickle builds tensors that refer to storages: entries of a zip (`entries`), or what follows the pickle in files from
//! before PyTorch 1.6 (`legacy`). A pickle that does something unforeseen has no tensors.

mod calls;
mod entries;
mod legacy;
mod pickle;
mod tree;
mod value;

use std::ops::Range;

#[cfg(test)]
pub(super) use self::pickle::tests::{legacy as legacy_of, pickle as pickle_of};
use self::value::Tensor;
use super::window::Window;
use super::{LeftOut, Reading, tensor_bytes};
use crate::error::Result;
use crate::tensor::{Axes, Shape, TensorLocation};

/// Longest pickle that is run. Its tensors take some hundred bytes each, the values of other objects all of theirs.
const MAX_PICKLE_BYTES: u64 = 1 << 28;

/// Whether this is a zip with the pickle of a checkpoint, or begins like a file from before zips.
pub(super) fn looks_like(file: &Window) -> Result<bool> {
    Ok(legacy::looks_like(file)? || entries::looks_like(file)?)
}

/// The tensors of the file with this index, in the order in which its pickles build them.
pub(super) fn find_tensors(index: usize, file: &Window) -> Result<Reading> {
    if legacy::looks_like(file)? { legacy::find_tensors(index, file) } else { entries::find_tensors(index, file) }
}

/// Adds a tensor that lies in `storage`, or why it is not found. `unnamed` is what it is called if it has no name.
fn add(reading: &mut Reading, file: usize, tensor: &Tensor, storage: Option<&Range<u64>>, unnamed: &str) {
    let name = tensor.name.clone().unwrap_or_else(|| unnamed.to_owned());
    let located = match (tensor.dtype, storage) {
        (None, _) => Err(LeftOut::UnknownType),
        (_, None) => Err(LeftOut::NotInFile),
        (Some(dtype), Some(storage)) => {
            let (shape, record) = (Shape(tensor.shape.clone()), [].as_slice());
            let place = is_contiguous(tensor).then(|| {
                let bytes = tensor_bytes(dtype, &shape).ok()?;
                let offset = storage.start.checked_add(dtype.byte_len(tensor.offset)?)?;
                (offset.checked_add(bytes)? <= storage.end).then_some((offset, bytes))
            });
            place.flatten().ok_or(LeftOut::NotInOrder).map(|(offset, bytes)| {
                let (name, axes) = (name.clone(), Axes::OutputFirst);
                TensorLocation { name, dtype, shape, file, offset, bytes, axes, record }
            })
        }
    };
    match located {
        Ok(tensor) => reading.tensors.push(tensor),
        Err(why) => reading.leave_out(why, name),
    }
}

fn is_contiguous(tensor: &Tensor) -> bool {
    let mut stride = Some(1u64);
    tensor.shape.len() == tensor.strides.len()
        && tensor.shape.iter().zip(&tensor.strides).rev().all(|(&extent, &given)| {
            let fits = extent <= 1 || stride == Some(given);
            stride = stride.and_then(|stride| stride.checked_mul(extent));
            fits
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn located(shape: &[u8], strides: &[u8], offset: u8) -> Option<TensorLocation> {
        let mut reading = Reading::default();
        add(
            &mut reading,
            0,
            &pickle::run(&pickle_of(shape, strides, offset)).unwrap().tensors[0],
            Some(&(100..124)),
            "0",
        );
        reading.tensors.pop()
    }

    #[test]
    fn finds_tensors_that_lie_row_by_row() {
        let tensor = located(&[2, 3], &[3, 1], 0).unwrap();
        assert_eq!((tensor.name.as_str(), tensor.offset, tensor.bytes), ("w", 100, 24));
        assert_eq!(located(&[2, 1, 2], &[2, 77, 1], 2).unwrap().offset, 108);
        assert_eq!(located(&[], &[], 5).unwrap().bytes, 4);
        assert_eq!(located(&[3, 2], &[1, 3], 0), None, "transposed");
        assert_eq!(located(&[2, 3], &[3, 1], 1), None, "beyond its storage");
        assert_eq!(located(&[2], &[3, 1], 0), None);
    }
}
