//! Bytes that are read by range: an archive's, or a source file's. Whole files are never held.

#[cfg(any(unix, windows, target_os = "wasi"))]
mod file;

use std::ops::Range;

use crate::error::{Error, Result};
use crate::tensor::zeros;
#[cfg(any(unix, windows, target_os = "wasi"))]
pub use file::FileSource;
#[cfg(feature = "encoder")]
pub(crate) use file::{read_exact_at, write_all_at};

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

/// The bytes of a range, which must lie in the source: nothing is allocated for one that does not.
///
/// # Errors
/// `Incomplete` if the source ends before, `LimitExceeded` or `Io` if memory does not hold it, `Io` if reading fails.
pub fn read_range(source: &dyn Source, range: Range<u64>) -> Result<Vec<u8>> {
    if range.end > source.bytes() {
        return Err(Error::Incomplete { needed: range.end });
    }
    let mut bytes = zeros("range", range.end.saturating_sub(range.start))?;
    source.read_at(range.start, &mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Endless;

    impl Source for Endless {
        fn read_at(&self, _: u64, _: &mut [u8]) -> Result<()> {
            Ok(())
        }

        fn bytes(&self) -> u64 {
            u64::MAX
        }
    }

    #[test]
    fn more_than_memory_holds_is_an_error_and_not_one_of_too_few_bytes() {
        assert!(matches!(read_range(&Endless, 0..u64::MAX), Err(Error::Io { .. })));
        assert!(matches!(read_range(&vec![0; 9], 4..10), Err(Error::Incomplete { needed: 10 })));
        assert_eq!(read_range(&vec![7; 9], 4..9).unwrap(), [7; 5]);
    }
}
