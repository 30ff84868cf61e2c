//! What is too much for memory and soon needed again: levels and payloads, on disk where a folder is given.

use std::borrow::Cow;
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};
use crate::source::{read_exact_at, write_all_at};

/// Where bytes are kept. A file of it has no name, so that nothing is left of it however the process ends.
pub struct Scratch {
    file: Option<Arc<ScratchFile>>,
}

struct ScratchFile {
    file: File,
    len: AtomicU64,
    /// What errors name.
    folder: String,
}

impl ScratchFile {
    fn error(&self, error: std::io::Error) -> Error {
        Error::Io { path: self.folder.clone(), source: error.into() }
    }
}

/// Bytes that are kept; on disk until their scratch and all that it keeps are dropped.
#[derive(Debug, Clone)]
pub enum Kept {
    /// In memory.
    Memory(Vec<u8>),
    /// On disk.
    #[doc(hidden)]
    File(KeptFile),
}

/// A part of a scratch file.
#[derive(Clone)]
pub struct KeptFile {
    file: Arc<ScratchFile>,
    offset: u64,
    len: usize,
}

impl std::fmt::Debug for KeptFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes at {}", self.len, self.offset)
    }
}

impl Scratch {
    /// In memory.
    pub fn memory() -> Self {
        Scratch { file: None }
    }

    /// In a file in this folder, or in memory without one.
    ///
    /// # Errors
    /// `Io` if no file can be made there.
    pub fn new(folder: Option<&Path>) -> Result<Self> {
        let Some(folder) = folder else { return Ok(Scratch::memory()) };
        let path = folder.display().to_string();
        let file = match tempfile::tempfile_in(folder) {
            Ok(file) => ScratchFile { file, len: AtomicU64::new(0), folder: path },
            Err(error) => return Err(Error::Io { path, source: error.into() }),
        };
        Ok(Scratch { file: Some(Arc::new(file)) })
    }

    /// Keeps bytes.
    ///
    /// # Errors
    /// `Io` if they cannot be written.
    pub fn keep(&self, bytes: Vec<u8>) -> Result<Kept> {
        let Some(file) = &self.file else { return Ok(Kept::Memory(bytes)) };
        let offset = file.len.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        write_all_at(&file.file, &bytes, offset).map_err(|error| file.error(error))?;
        Ok(Kept::File(KeptFile { file: Arc::clone(file), offset, len: bytes.len() }))
    }
}

impl Kept {
    /// How many bytes there are.
    pub fn len(&self) -> usize {
        match self {
            Kept::Memory(bytes) => bytes.len(),
            Kept::File(KeptFile { len, .. }) => *len,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Some of them.
    ///
    /// # Errors
    /// `Argument` if there are no such bytes, `Io` if they cannot be read.
    pub fn read(&self, range: Range<usize>) -> Result<Cow<'_, [u8]>> {
        match self {
            Kept::Memory(bytes) => bytes.get(range).map(Cow::Borrowed),
            Kept::File(KeptFile { file, offset, len }) if range.start <= range.end && range.end <= *len => {
                let mut bytes = vec![0; range.len()];
                let read = read_exact_at(&file.file, &mut bytes, offset + range.start as u64);
                read.map_err(|error| file.error(error))?;
                Some(Cow::Owned(bytes))
            }
            Kept::File(_) => None,
        }
        .ok_or_else(|| Error::argument("not so many bytes are kept"))
    }

    /// All of them.
    ///
    /// # Errors
    /// As [`Kept::read`].
    pub fn bytes(&self) -> Result<Cow<'_, [u8]>> {
        self.read(0..self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_bytes_in_memory_and_on_disk() {
        let folder = tempfile::tempdir().unwrap();
        for scratch in [Scratch::memory(), Scratch::new(Some(folder.path())).unwrap()] {
            let kept: Vec<Kept> = (0..9u8).map(|of| scratch.keep(vec![of; usize::from(of)]).unwrap()).collect();
            assert_eq!(*kept[7].bytes().unwrap(), [7; 7]);
            assert_eq!(*kept[3].read(1..3).unwrap(), [3; 2]);
            assert!(kept[0].is_empty() && kept[0].bytes().unwrap().is_empty());
            assert!(kept[3].read(1..4).is_err());
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        }
    }
}
