//! Files that the command reads and writes. Errors name them.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::container::Archive;
use crate::decode::Reader;
use crate::error::{Error, Result};
use crate::source::{FileSource, Source};
use crate::tensor::Limits;

pub fn io_error(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.display().to_string();
    move |error| Error::Io { path, source: error.into() }
}

/// Reads a file, naming it in the error.
fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(io_error(path))
}

/// Longest file that is held in memory: a folder may have more files than can be open at once, most of them short.
const HELD_BYTES_MAX: u64 = 1 << 16;

/// Opens a file to be read by range. A pipe, which cannot be, is read.
pub fn open(path: &Path) -> Result<Box<dyn Source>> {
    let metadata = std::fs::metadata(path).map_err(io_error(path))?;
    if metadata.is_file() && metadata.len() > HELD_BYTES_MAX {
        return Ok(Box::new(FileSource::open(path)?));
    }
    Ok(Box::new(read(path)?))
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

/// Writes through a neighbouring temporary file, so that a failure leaves whatever was there before.
pub fn write_whole(path: &Path, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let mut out = PartFile { path: &part, out: None };
    let written = write(&mut out).and_then(|()| {
        let file = out.file().and_then(|out| out.flush().map(|()| out.get_ref()));
        // A crash must not leave the name without the bytes.
        file.and_then(File::sync_all).map_err(io_error(path))
    });
    let moved = written.and_then(|()| std::fs::rename(&part, path).map_err(io_error(path)));
    if moved.is_err() {
        // The error that stopped the writing is the one to report.
        let _ = std::fs::remove_file(&part);
    }
    moved
}

/// A file that is made once there is something to write, which may be long after it is asked for.
struct PartFile<'a> {
    path: &'a Path,
    out: Option<BufWriter<File>>,
}

impl PartFile<'_> {
    fn file(&mut self) -> std::io::Result<&mut BufWriter<File>> {
        match &mut self.out {
            Some(out) => Ok(out),
            none => Ok(none.insert(BufWriter::new(File::create(self.path)?))),
        }
    }
}

impl Write for PartFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file()?.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file()?.flush()
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
