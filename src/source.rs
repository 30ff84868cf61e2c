//! Bytes that are read by range: an archive's, or a source file's. Whole files are never held.

use crate::error::{Error, Result};

/// Bytes that lie somewhere, to be read at any offset from any thread.
pub trait Source: Sync {
    /// Fills `bytes` from `offset` on.
    ///
    /// # Errors
    /// `Incomplete` if they end before, `Io` if reading fails.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<()>;
    /// How many there are.
    fn bytes(&self) -> u64;
}

impl Source for [u8] {
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        let end = offset.saturating_add(bytes.len() as u64);
        let range = usize::try_from(offset).ok().zip(usize::try_from(end).ok());
        let found = range.and_then(|(start, end)| self.get(start..end)).ok_or(Error::Incomplete { needed: end })?;
        bytes.copy_from_slice(found);
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.len() as u64
    }
}

impl Source for Vec<u8> {
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        self.as_slice().read_at(offset, bytes)
    }

    fn bytes(&self) -> u64 {
        self.len() as u64
    }
}

impl<S: Source + ?Sized> Source for &S {
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        (**self).read_at(offset, bytes)
    }

    fn bytes(&self) -> u64 {
        (**self).bytes()
    }
}

/// A file of the operating system.
#[cfg(not(target_arch = "wasm32"))]
pub struct FileSource {
    file: std::sync::Mutex<std::fs::File>,
    bytes: u64,
    path: String,
}

#[cfg(not(target_arch = "wasm32"))]
impl FileSource {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// `Io` if it cannot be opened.
    pub fn open(path: &std::path::Path) -> Result<Self> {
        let path_text = path.display().to_string();
        let io = |error: std::io::Error| Error::Io { path: path_text.clone(), source: error.into() };
        let file = std::fs::File::open(path).map_err(io)?;
        let bytes = file.metadata().map_err(io)?.len();
        Ok(FileSource { file: file.into(), bytes, path: path_text })
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl Source for FileSource {
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        use std::io::{Read, Seek, SeekFrom};
        let needed = offset.saturating_add(bytes.len() as u64);
        if needed > self.bytes {
            return Err(Error::Incomplete { needed });
        }
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let read = file.seek(SeekFrom::Start(offset)).and_then(|_| file.read_exact(bytes));
        read.map_err(|error| Error::Io { path: self.path.clone(), source: error.into() })
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}
