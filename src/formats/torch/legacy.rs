//! A checkpoint from before PyTorch 1.6 -> its tensors.
//!
//! Five pickles follow one another: a magic number, a version, the machine that wrote it, the value that was saved, and the
//! keys of its storages. Then the storages in that order, each a 64-bit number of elements and these, little-endian.

use std::collections::HashMap;
use std::ops::Range;

use super::pickle::{self, Pickle};
use super::{MAX_PICKLE_BYTES, add};
use crate::error::{Error, Result};
use crate::formats::window::Window;
use crate::formats::{LeftOut, Reading};

/// The instruction that pushes the magic number.
const MAGIC: [u8; 12] = [0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// Where it may stand: after the pickle's version, or also after the length of a first part.
const MAGIC_OFFSETS: [u64; 2] = [2, 11];
/// How much of a file is looked into for the pickles at first.
const FIRST_BYTES: u64 = 1 << 16;

/// Whether the file begins with the magic number.
pub(super) fn looks_like(file: &Window) -> Result<bool> {
    if file.byte(0)? != Some(0x80) {
        return Ok(false);
    }
    for offset in MAGIC_OFFSETS {
        if file.array(offset)? == Some(MAGIC) {
            return Ok(true);
        }
    }
    Ok(false)
}

pub(super) fn find_tensors(index: usize, file: &Window) -> Result<Reading> {
    let limit = file.bytes.min(MAX_PICKLE_BYTES);
    let mut reading = Reading::default();
    let mut bytes = limit.min(FIRST_BYTES);
    loop {
        // Where the pickles end is known only once they are run.
        let head = file.read(0..bytes, "torch pickle length", MAX_PICKLE_BYTES)?;
        if let Some((value, keys, rest)) = pickles(&head) {
            let storages = storages(file, &value, &keys, bytes.saturating_sub(rest))?;
            for tensor in &value.tensors {
                let (number, range) = storages.get(tensor.storage).map_or((None, None), |(n, r)| (Some(n), Some(r)));
                let unnamed = number.map_or(String::new(), usize::to_string);
                add(&mut reading, index, tensor, range, &unnamed);
            }
            return Ok(reading);
        }
        if bytes == limit {
            reading.leave_out_all(LeftOut::NotUnderstood);
            return Ok(reading);
        }
        bytes = limit.min(bytes.saturating_mul(8));
    }
}

/// The saved value, the keys of its storages, and how many bytes follow them.
fn pickles(head: &[u8]) -> Option<(Pickle<'_>, Vec<&str>, u64)> {
    let mut rest = head;
    for _ in 0..3 {
        rest = pickle::run(rest)?.rest;
    }
    let value = pickle::run(rest)?;
    let keys = pickle::run(value.rest)?;
    let end = keys.rest.len() as u64;
    Some((value, keys.texts, end))
}

/// Number and range of every storage whose elements are of a known length, up to the first that is not.
fn storages<'a>(
    file: &Window,
    value: &Pickle,
    keys: &[&'a str],
    start: u64,
) -> Result<HashMap<&'a str, (usize, Range<u64>)>> {
    let mut storages = HashMap::new();
    let mut start = start;
    for (number, &key) in keys.iter().enumerate() {
        let Some(&element_bytes) = value.element_bytes.get(key) else { break };
        let cut = || Error::invalid("torch", format!("{}: ends within storage {number} of {}", file.name, keys.len()));
        let element_len = file.array(start)?.map(u64::from_le_bytes).ok_or_else(cut)?;
        let first = start.saturating_add(8);
        let end = element_len.checked_mul(element_bytes).and_then(|bytes| first.checked_add(bytes));
        let end = end.filter(|&end| end <= file.bytes).ok_or_else(cut)?;
        storages.insert(key, (number, first..end));
        start = end;
    }
    Ok(storages)
}

#[cfg(test)]
mod tests {
    use super::super::legacy_of;
    use super::*;

    fn find(bytes: &[u8]) -> Result<Reading> {
        find_tensors(0, &Window::new("m.pth", &bytes))
    }

    #[test]
    fn storages_lie_behind_the_pickles() {
        let bytes = legacy_of(None);
        assert!(looks_like(&Window::new("m.pth", &bytes)).unwrap());
        let tensor = find(&bytes).unwrap().tensors.pop().unwrap();
        assert_eq!((tensor.name.as_str(), tensor.shape.0.as_slice()), ("w", [2, 3].as_slice()));
        assert_eq!((tensor.offset, tensor.bytes), (bytes.len() as u64 - 24, 24));
    }

    #[test]
    fn a_view_begins_inside_its_storage() {
        let tensor = find(&legacy_of(Some(2))).unwrap().tensors.pop();
        assert_eq!(tensor, None, "beyond the end");
        let whole = find(&legacy_of(Some(0))).unwrap().tensors;
        assert_eq!(whole.len(), 1);
    }

    #[test]
    fn a_cut_file_is_damaged_and_not_half_found() {
        let whole = legacy_of(None);
        for len in whole.len() - 32..whole.len() {
            let error = find(&whole[..len]).err().unwrap().to_string();
            assert!(error.contains("m.pth: ends within storage 0 of 1"), "{error}");
        }
        for len in 15..whole.len() - 32 {
            assert!(find(&whole[..len]).unwrap().tensors.is_empty(), "{len}");
        }
    }

    #[test]
    fn long_pickles_are_read_to_their_end() {
        let plain = legacy_of(None);
        let at = plain.windows(2).rposition(|pair| pair == b"}q").unwrap();
        let text = vec![b'x'; 3 * FIRST_BYTES as usize];
        let long = [b"X".as_slice(), &(text.len() as u32).to_le_bytes(), &text, b"0"].concat();
        let bytes = [&plain[..at], &long, &plain[at..]].concat();
        assert_eq!(find(&bytes).unwrap().tensors.len(), 1);
    }
}
