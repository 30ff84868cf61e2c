//! Where `-o` and `--html` lead: looked at before the work, written after it.
//!
//! Regular files are written whole or not at all, and replaced only when that is asked for. Symbolic links are followed.
//! Devices and pipes are written to and stay what they are.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::files::{absolute, io_error};
use super::output::Printed;
use super::part::{Part, folder_of};
use crate::error::{Error, Result};

/// An output, of which nothing is written yet.
pub struct Destination {
    /// As it was given, for errors.
    path: PathBuf,
    place: Place,
}

enum Place {
    StandardOutput,
    /// A device or a pipe.
    Stream(File),
    /// A regular file, or one to be, where the symbolic links end.
    File {
        target: PathBuf,
        replaced: Option<Permissions>,
    },
}

/// What stands for standard output. A shell may have redirected it into a file, which is not to be replaced.
const STANDARD_OUTPUT: [&str; 4] = ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];

impl Destination {
    /// Finds out whether `path` can be written, and not only after the work. A pipe waits here for its reader.
    ///
    /// # Errors
    /// `Argument` for a file that exists, unless `force` is given, for one of the `inputs`, for a folder, and for a file in a
    /// folder that does not exist; `Io` if it cannot be written.
    pub fn new(path: &Path, force: bool, inputs: &[&Path]) -> Result<Self> {
        let destination = |place| Destination { path: path.to_owned(), place };
        if STANDARD_OUTPUT.iter().any(|name| path == Path::new(name)) {
            return Ok(destination(Place::StandardOutput));
        }
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let target = end_of_links(path);
                check_folder(&target)?;
                return Ok(destination(Place::File { target, replaced: None }));
            }
            Err(error) => return Err(io_error(path)(error)),
        };
        let refused = |reason: &str| Err(Error::argument(format!("{}: {reason}", path.display())));
        if metadata.is_dir() {
            return refused("is a folder");
        }
        let target = absolute(path);
        if inputs.iter().any(|input| absolute(input) == target) {
            return refused("is an input too");
        }
        if !metadata.is_file() {
            let file = OpenOptions::new().write(true).open(path).map_err(io_error(path))?;
            return Ok(destination(Place::Stream(file)));
        }
        if !force {
            return refused("exists; --force replaces it");
        }
        check_folder(&target)?;
        Ok(destination(Place::File { target, replaced: Some(metadata.permissions()) }))
    }

    /// A folder on a disk that may have room for what the work has to keep: beside the output if that is a file.
    pub fn scratch_folder(&self) -> PathBuf {
        match &self.place {
            Place::File { target, .. } => folder_of(target).to_owned(),
            Place::StandardOutput | Place::Stream(_) => temporary_folder(),
        }
    }

    /// Writes all of it.
    ///
    /// # Errors
    /// Those of `write`, and `Io` if it cannot be written; whatever was in a file is still there then.
    pub fn write(&self, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
        match &self.place {
            Place::StandardOutput => self.write_stream(io::stdout().lock(), write),
            Place::Stream(file) => self.write_stream(file, write),
            Place::File { target, replaced } => {
                let mut part = Part::new(target, replaced.clone());
                self.write_to(&mut part, write)?;
                part.finish().map_err(io_error(&self.path))
            }
        }
    }

    fn write_stream(&self, out: impl Write, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
        let mut out = BufWriter::new(out);
        self.write_to(&mut out, write)?;
        out.flush().map_err(io_error(&self.path))
    }

    fn write_to(&self, out: &mut dyn Write, write: impl FnOnce(&mut dyn Write) -> Result<()>) -> Result<()> {
        let mut out = Watched { out, failure: None };
        let written = write(&mut out);
        out.failure.map_or(written, |error| Err(io_error(&self.path)(error)))
    }

    /// As it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the command has to say, which gives way to an output that takes standard output.
    pub fn printed(&self, text: String) -> Printed {
        Printed { text, to_stderr: matches!(self.place, Place::StandardOutput) }
    }
}

/// Keeps the reason why writing fails: whoever writes does not know the name of the output.
struct Watched<'a> {
    out: &'a mut dyn Write,
    failure: Option<io::Error>,
}

impl Watched<'_> {
    fn watch<T>(&mut self, write: impl FnOnce(&mut dyn Write) -> io::Result<T>) -> io::Result<T> {
        write(self.out).map_err(|error| {
            let kind = error.kind();
            if kind != io::ErrorKind::Interrupted {
                self.failure = Some(error);
            }
            kind.into()
        })
    }
}

impl Write for Watched<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.watch(|out| out.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.watch(|out| out.flush())
    }
}

/// The standard library knows of none under WASI, whose host names it.
fn temporary_folder() -> PathBuf {
    if cfg!(target_os = "wasi") {
        std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from)
    } else {
        std::env::temp_dir()
    }
}

/// Where the symbolic links at `path` lead. Nothing is there, so that they do not go round in circles.
fn end_of_links(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    while let Ok(link) = fs::read_link(&path) {
        path.set_file_name(link);
    }
    path
}

/// Whether a file can be made there.
fn check_folder(target: &Path) -> Result<()> {
    let folder = folder_of(target);
    fs::metadata(folder).map_err(io_error(folder))?;
    tempfile::tempfile_in(folder).map(drop).map_err(|error| io_error(folder)(error.kind().into()))
}
