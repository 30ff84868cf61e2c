//! A file that is written beside its target and takes its name once it is whole.
//!
//! It goes with whatever stops the writing: an error, or an interruption. A process that is killed leaves it, but never half a target.

use std::fs::Permissions;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tempfile::NamedTempFile;

/// The part that there is now.
static UNFINISHED: Mutex<Option<PathBuf>> = Mutex::new(None);

fn unfinished() -> MutexGuard<'static, Option<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Exit status after an interruption: 128 and the number of SIGINT, as shells count.
#[cfg(any(unix, windows))]
const INTERRUPTED: i32 = 130;

/// Lets Ctrl-C, and what else asks the process to end, take the part along. Where these signals are ignored, as under `nohup`,
/// they stay so. A WASI host does it itself.
pub fn remove_on_interrupt() {
    #[cfg(any(unix, windows))]
    let _ = ctrlc::try_set_handler(|| {
        // Held until the end, so that no part is made or moved meanwhile.
        let part = unfinished();
        if let Some(path) = &*part {
            let _ = std::fs::remove_file(path);
        }
        std::process::exit(INTERRUPTED);
    });
}

/// It is made once there is something to write, which may be long after it is asked for.
pub struct Part<'a> {
    target: &'a Path,
    /// Of the file that it replaces, if there is one to replace.
    permissions: Option<Permissions>,
    out: Option<BufWriter<NamedTempFile>>,
}

impl<'a> Part<'a> {
    pub fn new(target: &'a Path, permissions: Option<Permissions>) -> Self {
        Part { target, permissions, out: None }
    }

    fn file(&mut self) -> io::Result<&mut BufWriter<NamedTempFile>> {
        match &mut self.out {
            Some(out) => Ok(out),
            none => {
                let file = create(self.target)?;
                // WASI has no permissions.
                if let Some(permissions) = self.permissions.as_ref().filter(|_| !cfg!(target_os = "wasi")) {
                    file.as_file().set_permissions(permissions.clone())?;
                }
                Ok(none.insert(BufWriter::new(file)))
            }
        }
    }

    /// Gives it the target's name. A target that has come to be since it was looked at stays.
    pub fn finish(mut self) -> io::Result<()> {
        self.file()?.flush()?;
        let Some(out) = self.out.take() else { return Ok(()) };
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        // A crash must not leave the name without the bytes.
        file.as_file().sync_all()?;
        let mut unfinished = unfinished();
        let moved = if self.permissions.is_some() {
            file.persist(self.target)
        } else {
            // Not every file system can tell in one step.
            let unable = |error: &io::Error| error.kind() != io::ErrorKind::AlreadyExists && !self.target.exists();
            file.persist_noclobber(self.target)
                .or_else(|failed| if unable(&failed.error) { failed.file.persist(self.target) } else { Err(failed) })
        };
        *unfinished = None;
        moved.map(drop).map_err(|failed| failed.error)
    }
}

fn create(target: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".mcwc-").suffix(".part");
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut unfinished = unfinished();
    let file = builder.tempfile_in(folder_of(target))?;
    *unfinished = Some(file.path().to_owned());
    Ok(file)
}

/// The folder of a file.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl Write for Part<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file()?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file()?.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn takes_the_name_of_its_target_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("a".repeat(255));
        let mut part = Part::new(&target, None);
        assert!(names(folder.path()).is_empty());
        part.write_all(b"whole").unwrap();
        assert!(names(folder.path())[0].ends_with(".part"));
        part.finish().unwrap();
        assert_eq!((fs::read(&target).unwrap(), names(folder.path()).len()), (b"whole".to_vec(), 1));
    }

    #[test]
    fn what_has_come_to_be_meanwhile_stays() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        let mut part = Part::new(&target, None);
        part.write_all(b"late").unwrap();
        fs::write(&target, "early").unwrap();
        assert_eq!(part.finish().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!((fs::read(&target).unwrap(), names(folder.path()).len()), (b"early".to_vec(), 1));
    }

    #[test]
    fn goes_where_it_is_not_finished() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("target");
        let mut part = Part::new(&target, None);
        part.write_all(b"half").unwrap();
        drop(part);
        assert!(names(folder.path()).is_empty());
    }
}
