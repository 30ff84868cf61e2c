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
    file: std::fs::File,
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
        Ok(FileSource { file, bytes, path: path_text })
    }
}

#[cfg(not(target_arch = "wasm32"))]
impl Source for FileSource {
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        let needed = offset.saturating_add(bytes.len() as u64);
        if needed > self.bytes {
            return Err(Error::Incomplete { needed });
        }
        let read = read_exact_at(&self.file, bytes, offset);
        read.map_err(|error| Error::Io { path: self.path.clone(), source: error.into() })
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Fills `bytes` from `offset` on, whatever other threads read.
#[cfg(unix)]
pub(crate) fn read_exact_at(file: &std::fs::File, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

/// Fills `bytes` from `offset` on, whatever other threads read.
#[cfg(windows)]
pub(crate) fn read_exact_at(file: &std::fs::File, mut bytes: &mut [u8], mut offset: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, offset)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            len => (bytes, offset) = (&mut bytes[len..], offset + len as u64),
        }
    }
    Ok(())
}

/// Writes all of `bytes` from `offset` on.
#[cfg(all(unix, feature = "encoder"))]
pub(crate) fn write_all_at(file: &std::fs::File, bytes: &[u8], offset: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

/// Writes all of `bytes` from `offset` on.
#[cfg(all(windows, feature = "encoder"))]
pub(crate) fn write_all_at(file: &std::fs::File, mut bytes: &[u8], mut offset: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let len = std::os::windows::fs::FileExt::seek_write(file, bytes, offset)?;
        (bytes, offset) = (&bytes[len..], offset + len as u64);
    }
    Ok(())
}
