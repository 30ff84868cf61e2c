//! Files that the command reads and writes. Errors name them.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use crate::container::Archive;
use crate::decode::Reader;
use crate::error::{Error, Result};
use crate::source::{FileSource, Source, read_exact_at};
use crate::tensor::Limits;

pub fn io_error(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.display().to_string();
    move |error| Error::Io { path, source: error.into() }
}

/// Files read by range. A folder may have more of them than can be open at once.
#[derive(Clone, Default)]
pub struct Sources {
    /// Those that were opened last, in order.
    open: Arc<Mutex<VecDeque<OpenFile>>>,
    /// All of them.
    known: Arc<Mutex<Vec<KnownFile>>>,
}

/// A file as it was when it was opened first.
#[derive(Clone)]
struct KnownFile {
    path: PathBuf,
    bytes: u64,
    modified: Option<SystemTime>,
}

struct OpenFile {
    path: PathBuf,
    file: Arc<File>,
}

/// Most files that are open, but for those that are being read: far below any system's limit.
const OPEN_MAX: usize = 64;

impl Sources {
    /// Opens a file to be read by range. A pipe, which cannot be, is read.
    pub fn open(&self, path: &Path) -> Result<Box<dyn Source>> {
        let metadata = std::fs::metadata(path).map_err(io_error(path))?;
        if is_device(&metadata) {
            return Err(Error::argument(format!("{}: a device, whose bytes may never end", path.display())));
        }
        if !metadata.is_file() {
            return Ok(Box::new(std::fs::read(path).map_err(io_error(path))?));
        }
        let file = KnownFile { path: path.to_owned(), bytes: metadata.len(), modified: metadata.modified().ok() };
        self.file(&file)?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).push(file.clone());
        Ok(Box::new(ReopenedFile { sources: self.clone(), file }))
    }

    /// Refuses files that were written to since they were opened: what was read of them may not fit together.
    pub fn check_unchanged(&self) -> Result<()> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().try_for_each(|known| known.check(&*self.file(known)?))
    }

    fn file(&self, known: &KnownFile) -> Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = open.iter().find(|open| open.path == known.path) {
            return Ok(Arc::clone(&found.file));
        }
        let file = File::open(&known.path).map_err(io_error(&known.path))?;
        known.check(&file)?;
        let file = Arc::new(file);
        open.push_back(OpenFile { path: known.path.clone(), file: Arc::clone(&file) });
        if open.len() > OPEN_MAX {
            open.pop_front();
        }
        Ok(file)
    }
}

impl KnownFile {
    fn check(&self, file: &File) -> Result<()> {
        let metadata = file.metadata().map_err(io_error(&self.path))?;
        if (metadata.len(), metadata.modified().ok()) == (self.bytes, self.modified) {
            return Ok(());
        }
        Err(io_error(&self.path)(std::io::Error::other("it changed while it was read")))
    }
}

#[cfg(unix)]
fn is_device(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    metadata.file_type().is_char_device() || metadata.file_type().is_block_device()
}

#[cfg(not(unix))]
fn is_device(_: &std::fs::Metadata) -> bool {
    false
}

/// A file that is opened again for reading it once too many others were opened.
struct ReopenedFile {
    sources: Sources,
    file: KnownFile,
}

impl Source for ReopenedFile {
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        let needed = offset.saturating_add(bytes.len() as u64);
        if needed > self.file.bytes {
            return Err(Error::Incomplete { needed });
        }
        read_exact_at(&*self.sources.file(&self.file)?, bytes, offset).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => {
                io_error(&self.file.path)(std::io::Error::other("it became shorter while it was read"))
            }
            _ => io_error(&self.file.path)(error),
        })
    }

    fn bytes(&self) -> u64 {
        self.file.bytes
    }
}

/// The archive that a delta needs
#[derive(clap::Args)]
pub struct BaseArgument {
    /// The archive that a delta was made against
    #[arg(long, value_name = "BASE.mcwc")]
    pub base: Option<PathBuf>,
}

impl BaseArgument {
    /// Calls `read` with a reader of the archive, linked to its base if one is given, and with the base's header.
    pub fn open<T>(
        &self,
        input: &Path,
        read: impl FnOnce(&Reader<FileSource>, Option<&Archive>) -> Result<T>,
    ) -> Result<T> {
        let source = FileSource::open(input)?;
        let reader = Reader::open(&source, &Limits::default())?;
        let Some(base) = &self.base else { return read(&reader, None) };
        let base_source = FileSource::open(base)?;
        let base = Reader::open(&base_source, &Limits::default())?;
        read(&reader.with_base(&base)?, Some(base.archive()))
    }
}

/// The last component of a path, as text.
pub fn file_name(path: &Path) -> Result<String> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or_else(|| Error::argument(format!("{}: not a file name in UTF-8", path.display())))
}

pub fn absolute(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::read_range;

    #[test]
    fn files_are_opened_again_unless_they_have_changed() {
        let folder = tempfile::tempdir().unwrap();
        let sources = Sources::default();
        let path = |index: usize| folder.path().join(index.to_string());
        let open = |index| {
            std::fs::write(path(index), index.to_string()).unwrap();
            sources.open(&path(index)).unwrap()
        };
        let opened: Vec<Box<dyn Source>> = (0..2 * OPEN_MAX).map(open).collect();
        assert_eq!(sources.open.lock().unwrap().len(), OPEN_MAX);
        for (index, source) in opened.iter().enumerate() {
            assert_eq!(read_range(&**source, 0..source.bytes()).unwrap(), index.to_string().into_bytes());
        }
        std::fs::write(path(0), "changed").unwrap();
        let error = read_range(&*opened[0], 0..1).unwrap_err();
        assert_eq!(error.to_string(), format!("{}: it changed while it was read", path(0).display()));
        assert!(matches!(read_range(&*opened[0], 0..2), Err(Error::Incomplete { needed: 2 })));
    }
}
