//! A file as parsers read it: byte by byte through a small window that follows them, or a short range at once.
//!
//! Parsers pass over the weights, so of a large file only what describes them is read, whatever lies between.

use std::cell::RefCell;
use std::ops::Range;

use super::SourceFile;
use crate::error::{Error, Result};
use crate::source::{Source, read_range};

/// Long beside a node or the description of a tensor, short beside the weights between two of them.
const WINDOW_BYTES: u64 = 1 << 14;

/// A file and the part of it that was read last.
pub(super) struct Window<'a> {
    /// The file's name, for messages.
    pub name: &'a str,
    pub source: &'a dyn Source,
    /// Bytes of the whole file.
    pub bytes: u64,
    held: RefCell<Held>,
}

#[derive(Default)]
struct Held {
    offset: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    pub fn new(name: &'a str, source: &'a dyn Source) -> Self {
        Window { name, source, bytes: source.bytes(), held: RefCell::default() }
    }

    pub fn of(file: &'a SourceFile) -> Self {
        Window::new(&file.name, file.source)
    }

    /// The byte at `offset`; none at or after the end.
    pub fn byte(&self, offset: u64) -> Result<Option<u8>> {
        Ok(self.array(offset)?.map(|[byte]| byte))
    }

    /// The bytes from `offset` on; none where the file ends within them.
    pub fn array<const LEN: usize>(&self, offset: u64) -> Result<Option<[u8; LEN]>> {
        let mut held = self.held.borrow_mut();
        if held.array::<LEN>(offset).is_none() {
            let end = self.bytes.min(offset.saturating_add(WINDOW_BYTES));
            if end < offset {
                return Ok(None);
            }
            *held = Held { offset, bytes: read_range(self.source, offset..end)? };
        }
        Ok(held.array(offset))
    }

    /// The bytes of a range of at most `limit` bytes, which must lie in the file. `what` says what is as long as that.
    pub fn read(&self, range: Range<u64>, what: &'static str, limit: u64) -> Result<Vec<u8>> {
        let value = range.end.saturating_sub(range.start);
        if value > limit {
            return Err(Error::limit_exceeded(what, value, limit));
        }
        match self.held.borrow().get(range.start, value) {
            Some(bytes) => Ok(bytes.to_vec()),
            None => read_range(self.source, range),
        }
    }

    /// The first byte of a range that is no white space; none if there is none.
    pub fn first_visible(&self, range: Range<u64>) -> Result<Option<u8>> {
        for offset in range {
            match self.byte(offset)? {
                Some(byte) if byte.is_ascii_whitespace() => {}
                found => return Ok(found),
            }
        }
        Ok(None)
    }
}

impl Held {
    fn get(&self, offset: u64, len: u64) -> Option<&[u8]> {
        let start = usize::try_from(offset.checked_sub(self.offset)?).ok()?;
        self.bytes.get(start..)?.get(..usize::try_from(len).ok()?)
    }

    fn array<const LEN: usize>(&self, offset: u64) -> Option<[u8; LEN]> {
        let start = usize::try_from(offset.checked_sub(self.offset)?).ok()?;
        self.bytes.get(start..)?.first_chunk().copied()
    }
}
