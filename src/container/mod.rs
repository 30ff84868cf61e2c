//! Bytes <-> preamble, header, extents and chunk table (FORMAT.md, sections 3 and 4).
//!
//! The only place that knows offsets and hashes. [`Archive::parse`] proves every range and every cross reference of a
//! header before anyone uses it, so later stages may trust what they find here; chunk payloads are still untrusted.

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

mod check;
mod frame;
mod header;
mod work;

use std::fmt::Write;

use sha2::{Digest, Sha256};

pub use frame::{Coding, Frame, Levels, Side};
pub use header::{FileEntry, FrameEntry, Header, TensorEntry};

use crate::entropy::{Table, decode_planes};
use crate::error::{Error, Result};
#[cfg(feature = "encoder")]
use crate::format::CHUNK_BYTES_MAX;
use crate::format::{
    FILE_NAME_BYTES_MAX, FLAG_CODED, HASH_BYTES, HASHED_PREAMBLE_BYTES, HEADER_BYTES_MAX, MAGIC, PREAMBLE_BYTES,
    RAW_CHUNK_BYTES, VERSION,
};
use crate::tensor::{DType, Limits, Shape, memory_len};

/// The first 128 bits of SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; HASH_BYTES]);

impl Hash {
    /// Hash of the concatenated parts.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        parts.iter().for_each(|part| hasher.update(part));
        let digest: [u8; 32] = hasher.finalize().into();
        Hash(digest.first_chunk().copied().unwrap_or_default())
    }
}

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = self.0.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        digits.filter_map(|digit| char::from_digit(digit.into(), 16)).try_for_each(|digit| f.write_char(digit))
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// Where a chunk lies in the archive.
#[derive(Debug, Clone, Copy)]
pub struct Chunk {
    /// Which archive it lies in: 0 this one, 1 its base, 2 the base of that.
    pub archive: usize,
    /// Offset from the start of the archive.
    pub offset: u64,
    /// Length of the payload.
    pub bytes: u32,
    /// Hash of the payload.
    pub hash: Hash,
}

/// A tensor, checked.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// Unique name.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Extent along each axis.
    pub shape: Shape,
    /// Index of its file.
    pub file: usize,
    /// Offset in that file.
    pub offset: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// Its frames, coarse to fine; empty if its bytes are not coded on their own.
    pub frames: Vec<usize>,
}

/// A source file, checked.
#[derive(Debug, Clone)]
pub struct File {
    /// Relative, `/`-separated name.
    pub name: String,
    /// Length in bytes.
    pub bytes: u64,
    /// First chunk of the raw stream.
    pub first_raw_chunk: usize,
    /// Length of the raw stream.
    pub raw_bytes: u64,
    /// What covers the file, in order and without gaps.
    pub extents: Vec<Extent>,
}

impl File {
    /// Whether this chunk of the archive is one of the raw stream.
    fn has_chunk(&self, index: usize) -> bool {
        let place = index.checked_sub(self.first_raw_chunk);
        place.is_some_and(|place| (place as u64) < self.raw_bytes.div_ceil(RAW_CHUNK_BYTES))
    }
}

/// A byte range of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// First byte in the file.
    pub offset: u64,
    /// Length.
    pub bytes: u64,
    /// Where the bytes come from.
    pub source: ExtentSource,
}

/// Where the bytes of an extent come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExtentSource {
    /// The file's raw stream, from this offset of it.
    Raw(u64),
    /// The tensor with this index, whole.
    Tensor(usize),
}

/// A parsed and checked header: everything about an archive but its payloads. Once an archive is linked to its base, the
/// frames, tables and chunks of the base follow its own.
#[derive(Debug, Clone)]
pub struct Archive {
    /// Hash of the header; pins every chunk.
    pub integrity: Hash,
    /// Integrity of the archive that frames are predicted from, if they are.
    pub base: Option<Hash>,
    /// Frames that are this archive's own.
    pub frame_count: usize,
    /// Chunks that are this archive's own.
    pub chunk_count: usize,
    /// Bytes of preamble and header.
    pub head_bytes: u64,
    /// Source files.
    pub files: Vec<File>,
    /// Tensors.
    pub tensors: Vec<Tensor>,
    /// Frames.
    pub frames: Vec<Frame>,
    /// Tables.
    pub tables: Vec<Table>,
    /// Chunks, in the order in which they lie in the archive.
    pub chunks: Vec<Chunk>,
    /// Free text from the header.
    pub metadata: Vec<(String, String)>,
    limits: Limits,
    /// Whether the base's frames are there.
    is_linked: bool,
}

impl Archive {
    /// Bytes of preamble and header together, read from the preamble.
    ///
    /// # Errors
    /// `Incomplete` below 32 bytes; `Invalid` for another magic; `Unsupported` for a later version or unknown flags.
    pub fn head_bytes(preamble: &[u8], limits: &Limits) -> Result<u64> {
        if preamble.iter().zip(&MAGIC).any(|(byte, magic)| byte != magic) {
            return Err(Error::invalid("magic", "not an mcwc archive"));
        }
        let needed = PREAMBLE_BYTES as u64;
        let preamble = preamble.first_chunk::<PREAMBLE_BYTES>().ok_or(Error::Incomplete { needed })?;
        let version = u16::from_le_bytes([preamble[8], preamble[9]]);
        if version != VERSION {
            return Err(Error::unsupported("version", version.to_string()));
        }
        let flags = flags(preamble);
        if flags & !FLAG_CODED != 0 {
            return Err(Error::unsupported("flags", flags.to_string()));
        }
        let header_bytes = u64::from(u32::from_le_bytes([preamble[12], preamble[13], preamble[14], preamble[15]]));
        check_limit("header_bytes", header_bytes, limits.header_bytes.min(HEADER_BYTES_MAX))?;
        Ok(needed.saturating_add(header_bytes))
    }

    /// Reads preamble and header from the start of `bytes`, which may go on after them.
    ///
    /// # Errors
    /// `Incomplete` if `bytes` ends before the header does; otherwise whichever rule of FORMAT.md is broken.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self> {
        let head_bytes = Self::head_bytes(bytes, limits)?;
        let head = usize::try_from(head_bytes).ok().and_then(|len| bytes.get(..len));
        let head = head.and_then(|head| head.split_first_chunk::<PREAMBLE_BYTES>());
        let (preamble, stored) = head.ok_or(Error::Incomplete { needed: head_bytes })?;
        let (hashed, hash) = preamble.split_at(HASHED_PREAMBLE_BYTES);
        let integrity = Hash::of(&[hashed, stored]);
        if integrity.0 != hash {
            return Err(Error::Checksum { what: "the header".into() });
        }
        let header = if flags(preamble) & FLAG_CODED == 0 {
            Header::parse(stored, limits)
        } else {
            let (len, coded) = stored.split_first_chunk::<4>().ok_or(Error::invalid("header", "it ends early"))?;
            let len = u64::from(u32::from_le_bytes(*len));
            check_limit("header_bytes", len, limits.header_bytes.min(HEADER_BYTES_MAX))?;
            let mut cbor = vec![0; memory_len("header", len)?];
            decode_planes(coded, cbor.len(), &mut cbor)?;
            Header::parse(&cbor, limits)
        }?;
        check::Checker { limits, head_bytes }.check(header, integrity)
    }

    /// Appends what `base` holds, so that frames find their references. An archive that needs no base stays as it is.
    ///
    /// # Errors
    /// `Argument` if it is another archive, or needs a base that it is not linked to; `Invalid` if a frame cannot be
    /// predicted from its reference.
    #[expect(clippy::arithmetic_side_effects, reason = "no more than the entries of both in memory")]
    pub fn link(&mut self, base: Archive) -> Result<()> {
        let Some(needed) = self.base else { return Ok(()) };
        if needed != base.integrity || self.is_linked {
            return Err(Error::argument(format!("not the base of this archive: its integrity is {}", base.integrity)));
        }
        base.require_base()?;
        let (tables, chunks) = (self.tables.len(), self.chunks.len());
        self.tables.extend(base.tables);
        self.chunks.extend(base.chunks.into_iter().map(|chunk| Chunk { archive: chunk.archive + 1, ..chunk }));
        for mut frame in base.frames {
            frame.first_chunk += chunks;
            frame.side_chunk = frame.side_chunk.map(|chunk| chunk + chunks);
            frame.reference = frame.reference.map(|reference| reference + self.frame_count);
            if let Coding::Levels(levels) = &mut frame.coding {
                levels.first_table += tables;
            }
            self.frames.push(frame);
        }
        self.is_linked = true;
        self.check_references()
    }

    /// Checks that frames can be predicted from their references, as far as these are known, and how much that takes.
    fn check_references(&self) -> Result<()> {
        check::references(&self.frames, self.frame_count, self.is_linked)?;
        work::check(self)
    }

    /// Checks that the base is linked, if there is one.
    ///
    /// # Errors
    /// `Argument` if it is missing.
    pub fn require_base(&self) -> Result<()> {
        match self.base {
            Some(base) if !self.is_linked => {
                Err(Error::argument(format!("the archive is a delta: it needs its base, of integrity {base}")))
            }
            _ => Ok(()),
        }
    }

    /// The frames that frame `index` is predicted from, the nearest first.
    pub fn references(&self, index: usize) -> Vec<usize> {
        let next = |&index: &usize| self.frames.get(index)?.reference;
        std::iter::successors(next(&index), next).collect()
    }

    /// Length of the whole archive.
    pub fn bytes(&self) -> u64 {
        let own = self.chunks.iter().take(self.chunk_count);
        own.map(|chunk| u64::from(chunk.bytes)).fold(self.head_bytes, u64::saturating_add)
    }

    /// Checks the payload of chunk `index` against its length and hash.
    ///
    /// # Errors
    /// `Checksum` if it differs, `Argument` if there is no such chunk.
    pub fn verify_chunk(&self, index: usize, payload: &[u8]) -> Result<()> {
        let chunk = self.chunks.get(index).ok_or_else(|| Error::argument("there is no such chunk"))?;
        if payload.len() as u64 != u64::from(chunk.bytes) || Hash::of(&[payload]) != chunk.hash {
            return Err(Error::Checksum { what: self.chunk_name(index).into() });
        }
        Ok(())
    }

    /// An error that a chunk gave, with its number and the tensor or file that it belongs to; the error alone if it was none.
    pub fn within_chunk(&self, chunk: Option<usize>, error: Error) -> Error {
        match chunk {
            Some(index) => error.within(&self.chunk_name(index)),
            None => error,
        }
    }

    fn chunk_name(&self, index: usize) -> String {
        format!("chunk {index} of {}", self.chunk_owner(index))
    }

    /// What a chunk belongs to.
    pub(crate) fn chunk_owner(&self, index: usize) -> String {
        let has_chunk = |&frame: &usize| self.frames.get(frame).is_some_and(|frame| frame.has_chunk(index));
        let tensor = self.tensors.iter().find(|tensor| tensor.frames.iter().any(has_chunk));
        let file = self.files.iter().find(|file| file.has_chunk(index));
        let (kind, name) = match (tensor, file) {
            (Some(tensor), _) => ("tensor ", tensor.name.as_str()),
            (_, Some(file)) => ("file ", file.name.as_str()),
            _ => ("the base", ""),
        };
        [kind, name].concat()
    }

    /// The tensor of this name.
    ///
    /// # Errors
    /// `Argument` if there is none.
    pub fn tensor(&self, name: &str) -> Result<&Tensor> {
        let found = self.tensors.iter().find(|tensor| tensor.name == name);
        found.ok_or_else(|| Error::argument(format!("the archive has no tensor named {name}")))
    }

    /// The file of this name.
    ///
    /// # Errors
    /// `Argument` if there is none.
    pub fn file(&self, name: &str) -> Result<&File> {
        let found = self.files.iter().find(|file| file.name == name);
        found.ok_or_else(|| Error::argument(format!("the archive has no file named {name}")))
    }
}

fn flags(preamble: &[u8; PREAMBLE_BYTES]) -> u16 {
    u16::from_le_bytes([preamble[10], preamble[11]])
}

/// Writes a string of bytes as one plane of a planes payload.
#[cfg(feature = "encoder")]
pub type PlaneEncoder = fn(&[u8]) -> Vec<u8>;

/// Preamble and header of an archive. `encode_plane` codes the header as a plane; without it, it is stored as it is.
///
/// # Errors
/// `LimitExceeded` if the header is longer than 4 GiB.
#[cfg(feature = "encoder")]
pub fn serialize_head(header: &Header, encode_plane: Option<PlaneEncoder>) -> Result<Vec<u8>> {
    let cbor = header.serialize()?;
    let stored = match encode_plane {
        Some(encode_plane) => [&stored_len("header", &cbor)?, encode_plane(&cbor).as_slice()].concat(),
        None => cbor,
    };
    let flags = if encode_plane.is_some() { FLAG_CODED } else { 0 };
    let header_bytes = stored_len("header_bytes", &stored)?;
    let mut head = Vec::new();
    head.extend_from_slice(&MAGIC);
    head.extend_from_slice(&VERSION.to_le_bytes());
    head.extend_from_slice(&flags.to_le_bytes());
    head.extend_from_slice(&header_bytes);
    let hash = Hash::of(&[&head, &stored]);
    head.extend_from_slice(&hash.0);
    head.extend_from_slice(&stored);
    Ok(head)
}

/// Appends one entry to a chunk table.
///
/// # Errors
/// `LimitExceeded` if the payload is too long.
#[cfg(feature = "encoder")]
pub fn serialize_chunk_entry(payload: &[u8], chunk_table: &mut Vec<u8>) -> Result<()> {
    check_limit("chunk", payload.len() as u64, u64::from(CHUNK_BYTES_MAX))?;
    chunk_table.extend_from_slice(&stored_len("chunk", payload)?);
    chunk_table.extend_from_slice(&Hash::of(&[payload]).0);
    Ok(())
}

/// The length of `bytes` as a u32.
#[cfg(feature = "encoder")]
fn stored_len(field: &'static str, bytes: &[u8]) -> Result<[u8; 4]> {
    let len = u32::try_from(bytes.len());
    let exceeded = |_| Error::limit_exceeded(field, bytes.len() as u64, u64::from(u32::MAX));
    len.map(u32::to_le_bytes).map_err(exceeded)
}

fn check_limit(field: &'static str, value: u64, limit: u64) -> Result<()> {
    if value > limit { Err(Error::limit_exceeded(field, value, limit)) } else { Ok(()) }
}

/// Whether FORMAT.md allows this file name.
pub fn is_file_name(name: &str) -> bool {
    let component = |part: &[u8]| !matches!(part, b"" | b"." | b"..");
    let allowed = |byte: &u8| !matches!(byte, 0..32 | 127 | b'\\' | b':');
    let bytes = name.as_bytes();
    // In UTF-8 these are U+0080 to U+009F.
    let controls = bytes.array_windows().any(|pair| matches!(pair, [0xc2, 0x80..0xa0]));
    let components = bytes.split(|&byte| byte == b'/').all(component);
    bytes.len() <= FILE_NAME_BYTES_MAX && bytes.iter().all(allowed) && !controls && components
}
