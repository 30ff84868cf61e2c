//! A PyTorch checkpoint (`torch.save`: a zip of stored entries) -> its tensors.
//!
//! `data.pkl` is a pickle whose tensors refer to storages, the entries `data/0`, `data/1`, …. A pickle that does
//! something unforeseen has no tensors.

mod pickle;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use zip::{CompressionMethod, ZipArchive};

use self::pickle::Tensor;
#[cfg(test)]
pub(super) use self::pickle::tests::pickle as pickle_of;
use super::tensor_bytes;
use super::window::Window;
use crate::error::{Error, Result};
use crate::source::Source;
use crate::tensor::{Axes, Shape, TensorLocation};

/// Where PyTorch writes the pickle.
const PICKLE: &str = "/data.pkl";
/// What comes before the name of a zip's entry.
const LOCAL_HEADER_BYTES: u64 = 30;
/// Longest pickle that is run. Its tensors take some hundred bytes each, the values of other objects all of theirs.
const MAX_PICKLE_BYTES: u64 = 1 << 28;

/// Whether the bytes begin with a zip's entry for the pickle of a checkpoint.
pub(super) fn looks_like(file: &Window) -> Result<bool> {
    if file.array(0)? != Some(*b"PK\x03\x04") {
        return Ok(false);
    }
    let name_bytes = file.array(26)?.map(u16::from_le_bytes);
    let end = name_bytes.map(|bytes| u64::from(bytes).saturating_add(LOCAL_HEADER_BYTES));
    let Some(start) = end.and_then(|end| end.checked_sub(PICKLE.len() as u64)) else { return Ok(false) };
    Ok(start >= LOCAL_HEADER_BYTES
        && file.array(start)?.is_some_and(|name: [u8; PICKLE.len()]| name == PICKLE.as_bytes()))
}

/// The tensors of the file with this index, in the order in which the pickle names them.
pub(super) fn find_tensors(index: usize, file: &Window) -> Result<Vec<TensorLocation>> {
    let entries = stored_entries(file)?;
    let Some((name, pickle)) = entries.iter().find(|(name, _)| name.ends_with(PICKLE)) else {
        return Ok(Vec::new());
    };
    let root = name.strip_suffix("data.pkl").unwrap_or_default();
    if let Some(byte_order) = entries.get(&format!("{root}byteorder"))
        && !is_little_endian(file, byte_order)?
    {
        return Ok(Vec::new());
    }
    let pickle = file.read(pickle.clone(), "torch pickle length", MAX_PICKLE_BYTES)?;
    let tensors = pickle::run(&pickle).unwrap_or_default();
    Ok(tensors
        .into_iter()
        .filter_map(|tensor| locate(&tensor, index, entries.get(&format!("{root}data/{}", tensor.storage))?))
        .collect())
}

fn is_little_endian(file: &Window, byte_order: &Range<u64>) -> Result<bool> {
    let little = *b"little";
    let is_as_long = byte_order.end.saturating_sub(byte_order.start) == little.len() as u64;
    Ok(is_as_long && file.array(byte_order.start)? == Some(little))
}

/// The byte range of every entry that is stored as it is.
fn stored_entries(file: &Window) -> Result<BTreeMap<String, Range<u64>>> {
    let failure = RefCell::new(None);
    let entries = read_entries(SourceReader { source: file.source, position: 0, failure: &failure });
    match failure.take() {
        Some(error) => Err(error),
        None => entries.map_err(|error| Error::invalid("torch", format!("{}: {error}", file.name))),
    }
}

fn read_entries(reader: SourceReader) -> zip::result::ZipResult<BTreeMap<String, Range<u64>>> {
    let file_bytes = reader.source.bytes();
    let mut archive = ZipArchive::new(reader)?;
    let mut entries = BTreeMap::new();
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index)?;
        let start = entry.data_start().filter(|_| entry.compression() == CompressionMethod::Stored);
        let range = start.and_then(|start| Some(start..start.checked_add(entry.size())?));
        if let Some(range) = range.filter(|range| range.end <= file_bytes) {
            entries.insert(entry.name()?.into_owned(), range);
        }
    }
    Ok(entries)
}

/// A file as a stream.
struct SourceReader<'a> {
    source: &'a dyn Source,
    position: u64,
    /// Why reading failed first, which whoever reads the stream may keep to itself.
    failure: &'a RefCell<Option<Error>>,
}

impl Read for SourceReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.source.bytes().saturating_sub(self.position);
        let len = usize::try_from(rest).map_or(buffer.len(), |rest| rest.min(buffer.len()));
        let Some(buffer) = buffer.get_mut(..len) else { return Ok(0) };
        if let Err(error) = self.source.read_at(self.position, buffer) {
            let text = error.to_string();
            self.failure.borrow_mut().get_or_insert(error);
            return Err(io::Error::other(text));
        }
        self.position = self.position.saturating_add(len as u64);
        Ok(len)
    }
}

impl Seek for SourceReader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(distance) => self.source.bytes().checked_add_signed(distance),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

/// None where the tensor's elements do not lie row by row inside `storage`.
fn locate(tensor: &Tensor, file: usize, storage: &Range<u64>) -> Option<TensorLocation> {
    let (dtype, shape) = (tensor.dtype, Shape(tensor.shape.clone()));
    let bytes = tensor_bytes(dtype, &shape).ok()?;
    let offset = storage.start.checked_add(dtype.byte_len(tensor.offset)?)?;
    let inside = offset.checked_add(bytes)? <= storage.end;
    let name = tensor.name.unwrap_or(tensor.storage).to_owned();
    let (axes, record) = (Axes::OutputFirst, [].as_slice());
    (inside && is_contiguous(tensor)).then_some(TensorLocation {
        name,
        dtype,
        shape,
        file,
        offset,
        bytes,
        axes,
        record,
    })
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
        locate(&pickle::run(&pickle_of(shape, strides, offset)).unwrap()[0], 0, &(100..124))
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

    #[test]
    fn other_zips_are_not_checkpoints() {
        let entry =
            |name: &str| [b"PK\x03\x04".as_slice(), &[0; 22], &[name.len() as u8, 0, 0, 0], name.as_bytes()].concat();
        let is_checkpoint = |bytes: &[u8]| looks_like(&Window::new("m.pth", &bytes)).unwrap();
        assert!(is_checkpoint(&entry("archive/data.pkl")));
        assert!(is_checkpoint(&entry("/data.pkl")));
        for name in ["word/document.xml", "data.pkl", ""] {
            assert!(!is_checkpoint(&entry(name)), "{name}");
        }
        assert!(!is_checkpoint(b"PK\x03\x04"));
        let bytes = entry("archive/data.pkl");
        assert!(matches!(find_tensors(0, &Window::new("m.pth", &bytes)), Err(Error::Invalid { field: "torch", .. })));
    }
}
