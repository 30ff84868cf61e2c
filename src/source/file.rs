//! Files of the operating system, read at any offset from any thread.

use std::fs::File;
use std::io;
use std::path::Path;

use super::Source;
use crate::error::{Error, Result};

/// A file of the operating system. Threads may read it at once.
pub struct FileSource {
    file: File,
    bytes: u64,
    path: String,
}

impl FileSource {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// `Io` if it cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let path_text = path.display().to_string();
        let io = |error: io::Error| Error::Io { path: path_text.clone(), source: error.into() };
        let file = File::open(path).map_err(io)?;
        let bytes = file.metadata().map_err(io)?.len();
        Ok(FileSource { file, bytes, path: path_text })
    }
}

impl Source for FileSource {
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        let needed = offset.saturating_add(bytes.len() as u64);
        if needed > self.bytes {
            return Err(Error::Incomplete { needed });
        }
        read_exact_at(&self.file, bytes, offset).map_err(|error| {
            let source = match error.kind() {
                io::ErrorKind::UnexpectedEof => "it became shorter while it was read".into(),
                _ => error.into(),
            };
            Error::Io { path: self.path.clone(), source }
        })
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Fills `bytes` from `offset` on, whatever other threads read.
#[cfg(unix)]
pub(crate) fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

/// Fills `bytes` from `offset` on, whatever other threads read.
#[cfg(windows)]
pub(crate) fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                bytes = &mut bytes[read..];
                offset += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Fills `bytes` from `offset` on. There are no other threads.
#[cfg(target_os = "wasi")]
pub(crate) fn read_exact_at(mut file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    use std::io::{Read, Seek};
    file.seek(io::SeekFrom::Start(offset))?;
    file.read_exact(bytes)
}

/// Writes all of `bytes` from `offset` on.
#[cfg(all(unix, feature = "encoder"))]
pub(crate) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

/// Writes all of `bytes` from `offset` on.
#[cfg(all(windows, feature = "encoder"))]
pub(crate) fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_write(file, bytes, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes all of `bytes` from `offset` on. There are no other threads.
#[cfg(all(target_os = "wasi", feature = "encoder"))]
pub(crate) fn write_all_at(mut file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    use std::io::{Seek, Write};
    file.seek(io::SeekFrom::Start(offset))?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::super::read_range;
    use super::*;

    #[test]
    fn a_file_is_read_by_range() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [1, 2, 3, 4, 5]).unwrap();
        let source = FileSource::open(file.path()).unwrap();
        assert_eq!(source.bytes(), 5);
        assert_eq!(read_range(&source, 1..4).unwrap(), [2, 3, 4]);
        assert_eq!(read_range(&source, 5..5).unwrap(), [0u8; 0]);
        for range in [3..6, 6..6, 0..u64::MAX] {
            let needed = range.end;
            assert!(matches!(read_range(&source, range), Err(Error::Incomplete { needed: found }) if found == needed));
        }
    }

    #[test]
    fn a_file_that_shrinks_is_an_io_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(100).unwrap();
        let source = FileSource::open(file.path()).unwrap();
        file.as_file().set_len(50).unwrap();
        assert!(read_range(&source, 0..50).is_ok());
        let error = read_range(&source, 20..60).unwrap_err();
        assert!(matches!(error, Error::Io { .. }));
        assert_eq!(error.to_string(), format!("{}: it became shorter while it was read", file.path().display()));
    }
}
