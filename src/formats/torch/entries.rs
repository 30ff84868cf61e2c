//! A checkpoint or TorchScript module in a zip -> its tensors.
//!
//! `data.pkl` refers to the entries `data/0`, `data/1`, …; the `constants.pkl` of TorchScript to `constants/0` and so on. Only
//! entries that are stored as they are can hold tensors.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use zip::{CompressionMethod, ZipArchive};

use super::{MAX_PICKLE_BYTES, add, pickle};
use crate::error::{Error, Result};
use crate::formats::window::Window;
use crate::formats::{LeftOut, Reading};
use crate::source::Source;

/// Where PyTorch writes the pickle.
const PICKLE: &str = "/data.pkl";
/// What comes before the name of a zip's entry.
const LOCAL_HEADER_BYTES: u64 = 30;

/// The pickles of a file, and what their tensors are called that have no other name.
const PICKLES: [(&str, &str); 2] = [("data", ""), ("constants", "CONSTANTS.c")];

/// Whether this is a zip that has or begins with the pickle of a checkpoint.
pub(super) fn looks_like(file: &Window) -> Result<bool> {
    if file.array(0)? != Some(*b"PK\x03\x04") {
        return Ok(false);
    }
    if begins_with_pickle(file)? {
        return Ok(true);
    }
    Ok(entries(file)?.is_ok_and(|entries| entries.keys().any(|name| name.ends_with(PICKLE))))
}

fn begins_with_pickle(file: &Window) -> Result<bool> {
    let name_bytes = file.array(26)?.map(u16::from_le_bytes);
    let end = name_bytes.map(|bytes| u64::from(bytes).saturating_add(LOCAL_HEADER_BYTES));
    let Some(start) = end.and_then(|end| end.checked_sub(PICKLE.len() as u64)) else { return Ok(false) };
    Ok(start >= LOCAL_HEADER_BYTES
        && file.array(start)?.is_some_and(|name: [u8; PICKLE.len()]| name == PICKLE.as_bytes()))
}

pub(super) fn find_tensors(index: usize, file: &Window) -> Result<Reading> {
    let entries = entries(file)?.map_err(|error| Error::invalid("torch", format!("{}: {error}", file.name)))?;
    let mut reading = Reading::default();
    let root = entries.keys().find_map(|name| name.strip_suffix(PICKLE)).unwrap_or_default();
    if let Some(byte_order) = entries.get(&format!("{root}/byteorder"))
        && !byte_order.is_compressed
        && !is_little_endian(file, &byte_order.range)?
    {
        reading.leave_out_all(LeftOut::BigEndian);
        return Ok(reading);
    }
    for (folder, unnamed) in PICKLES {
        let Some(entry) = entries.get(&format!("{root}/{folder}.pkl")) else { continue };
        if entry.is_compressed {
            reading.leave_out_all(LeftOut::Compressed);
            continue;
        }
        let bytes = file.read(entry.range.clone(), "torch pickle length", MAX_PICKLE_BYTES)?;
        let Some(built) = pickle::run(&bytes) else {
            reading.leave_out_all(LeftOut::NotUnderstood);
            continue;
        };
        for tensor in &built.tensors {
            let name = format!("{unnamed}{}", tensor.storage);
            match entries.get(&format!("{root}/{folder}/{}", tensor.storage)) {
                Some(storage) if storage.is_compressed => {
                    reading.leave_out(LeftOut::Compressed, tensor.name.clone().unwrap_or(name));
                }
                storage => add(&mut reading, index, tensor, storage.map(|entry| &entry.range), &name),
            }
        }
    }
    Ok(reading)
}

fn is_little_endian(file: &Window, byte_order: &Range<u64>) -> Result<bool> {
    let little = *b"little";
    let is_as_long = byte_order.end.saturating_sub(byte_order.start) == little.len() as u64;
    Ok(is_as_long && file.array(byte_order.start)? == Some(little))
}

/// An entry of a zip.
struct Entry {
    range: Range<u64>,
    is_compressed: bool,
}

/// The entries by name, or what is wrong with the zip.
fn entries(file: &Window) -> Result<zip::result::ZipResult<BTreeMap<String, Entry>>> {
    let failure = RefCell::new(None);
    let entries = read_entries(SourceReader { source: file.source, position: 0, failure: &failure });
    failure.take().map_or(Ok(entries), Err)
}

fn read_entries(reader: SourceReader) -> zip::result::ZipResult<BTreeMap<String, Entry>> {
    let file_bytes = reader.source.bytes();
    let mut archive = ZipArchive::new(reader)?;
    let mut entries = BTreeMap::new();
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index)?;
        let range = entry.data_start().and_then(|start| Some(start..start.checked_add(entry.compressed_size())?));
        let is_compressed = entry.compression() != CompressionMethod::Stored;
        if let Some(range) = range.filter(|range| range.end <= file_bytes) {
            entries.insert(entry.name()?.into_owned(), Entry { range, is_compressed });
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

#[cfg(test)]
mod tests {
    use super::*;

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
        let found = find_tensors(0, &Window::new("m.pth", &bytes));
        assert!(matches!(found, Err(Error::Invalid { field: "torch", .. })));
    }
}
