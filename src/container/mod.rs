//! Bytes <-> preamble, header, extents and chunk table (FORMAT.md, sections 3 and 4).
//!
//! The only place that knows offsets and hashes. [`Archive::parse`] proves every range and every cross reference of a
//! header before anyone uses it, so later stages may trust what they find here; chunk payloads are still untrusted.

mod check;
mod header;

use sha2::{Digest, Sha256};

pub use header::{
    CODING_LEVELS, CODING_PLANES, FileEntry, FrameEntry, Header, LAYOUT_COLUMN_MAJOR, QUANTIZER_TRELLIS, TRANSFORM_DCT,
    TensorEntry,
};

use crate::entropy::{Table, decode_planes};
use crate::error::{Error, Result};
use crate::tensor::{DType, Limits, Shape};

/// First bytes of every archive.
pub const MAGIC: [u8; 8] = *b"\x8dMCWC\r\n\x1a";
/// The version that this code reads and writes.
pub const VERSION: u16 = 1;
/// Bytes before the header.
pub const PREAMBLE_BYTES: usize = 32;
/// Bytes of a file's raw stream that one chunk holds.
pub const RAW_CHUNK_BYTES: u64 = 1 << 20;
/// Most elements in a chunk.
pub const CHUNK_LEN_MAX: u64 = 1 << 18;
/// Longest chunk payload.
pub const CHUNK_BYTES_MAX: u32 = 4 << 20;
/// Most tables that one frame may use for each quantizer.
pub const FRAME_TABLES_MAX: u64 = 64;
/// A gain of 1.
pub const GAIN_ONE: i32 = 256;
/// Most references from a frame to one that stands alone.
pub const REFERENCE_DEPTH_MAX: u64 = 16;
/// Most fields of a record.
pub const RECORD_FIELDS_MAX: u64 = 64;

const FLAG_CODED: u16 = 1;

/// The first 128 bits of SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hash(pub [u8; 16]);

impl Hash {
    /// Hash of the concatenated parts.
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hasher = Sha256::new();
        parts.iter().for_each(|part| hasher.update(part));
        let digest = hasher.finalize();
        Hash(std::array::from_fn(|i| digest[i]))
    }
}

impl std::fmt::Display for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
    }
}

/// The side arrays of a frame, in the order in which the side chunk holds them; the discriminant is the bit in `side`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names are FORMAT.md's")]
pub enum Side {
    RowClass = 0,
    ColumnClass = 1,
    TapClass = 2,
    RowExponent = 3,
    ColumnExponent = 4,
    TapExponent = 5,
    RowPermutation = 6,
    ColumnPermutation = 7,
    RowGain = 8,
}

impl Side {
    /// The arrays of one i8 per row, column or tap.
    pub const BYTE_ARRAYS: [Side; 6] =
        [Side::RowClass, Side::ColumnClass, Side::TapClass, Side::RowExponent, Side::ColumnExponent, Side::TapExponent];

    /// Its bit in a frame's `side` field.
    pub fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// A frame whose fields have been checked against each other and against its tensor.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Element type of the tensors that use it.
    pub dtype: DType,
    /// Number of elements; of bytes for the 4-bit types.
    pub element_len: u64,
    /// Elements in a chunk.
    pub chunk_len: u64,
    /// The side chunk, if any.
    pub side_chunk: Option<usize>,
    /// First element chunk.
    pub first_chunk: usize,
    /// Number of element chunks.
    pub chunk_count: usize,
    /// The frame that it is predicted from.
    pub reference: Option<usize>,
    /// What the chunks hold.
    pub coding: Coding,
}

/// What the chunks of a frame hold.
#[derive(Debug, Clone)]
pub enum Coding {
    /// Records of fields of this many bytes, plane by plane. An element of several bytes is a record too.
    Planes(Vec<usize>),
    /// Quantized integers.
    Levels(Levels),
}

/// The fields of a frame of levels.
#[derive(Debug, Clone)]
pub struct Levels {
    /// Rows of the matrix.
    pub rows: usize,
    /// Columns of the matrix, without the taps.
    pub columns: usize,
    /// Kernel taps of each column; 1 if there are none.
    pub taps: usize,
    /// First table in the header's set.
    pub first_table: usize,
    /// Number of tables.
    pub table_count: usize,
    /// `None` for integers.
    pub scale: Option<f32>,
    /// Added to integers.
    pub zero_point: i32,
    /// Raw low bits of each level.
    pub low_bits: u32,
    /// Bits of [`Side`].
    pub side: u32,
    /// Factor of the prediction in every row without one of its own, in 1/256.
    pub gain: i32,
    /// Whether levels follow the trellis.
    pub trellis: bool,
    /// Whether the tensor is the transpose of the matrix.
    pub column_major: bool,
    /// Whether levels are coefficients of a DCT over the taps.
    pub dct: bool,
}

impl Levels {
    /// Whether a chunk's elements lie apart in the tensor.
    pub fn is_scattered(&self) -> bool {
        self.column_major || self.has(Side::RowPermutation)
    }

    /// Levels in a row: columns times taps.
    pub fn row_len(&self) -> usize {
        self.columns * self.taps
    }

    /// Entries of a side array.
    pub fn side_len(&self, side: Side) -> usize {
        match side {
            Side::RowClass | Side::RowExponent | Side::RowPermutation | Side::RowGain => self.rows,
            Side::ColumnClass | Side::ColumnExponent => self.columns,
            Side::TapClass | Side::TapExponent => self.taps,
            Side::ColumnPermutation => self.row_len(),
        }
    }

    /// Whether a side array is stored.
    pub fn has(&self, side: Side) -> bool {
        self.side & side.bit() != 0
    }
}

impl Frame {
    /// Elements of element chunk `index`: first and count.
    pub fn chunk_range(&self, index: usize) -> Option<(u64, u64)> {
        if index >= self.chunk_count {
            return None;
        }
        let index = index as u64;
        let (first, end) = match self.row_cut() {
            Some((row_len, pieces)) => {
                let (row, piece) = (index / pieces, index % pieces);
                let first = row * row_len + piece * self.chunk_len;
                (first, (first + self.chunk_len).min((row + 1) * row_len))
            }
            None => (index * self.chunk_len, ((index + 1) * self.chunk_len).min(self.element_len)),
        };
        Some((first, end - first))
    }

    /// Length of a row and chunks in it, where chunks are parts of rows.
    pub fn row_cut(&self) -> Option<(u64, u64)> {
        let Coding::Levels(levels) = &self.coding else { return None };
        let row_len = levels.row_len() as u64;
        (self.chunk_len < row_len).then(|| (row_len, row_len.div_ceil(self.chunk_len)))
    }

    /// Bytes that `element_len` elements of this frame take.
    pub fn byte_len(&self, element_len: u64) -> u64 {
        element_len * self.element_bytes() as u64
    }

    /// Bytes of an element (of a byte for the 4-bit types).
    pub fn element_bytes(&self) -> usize {
        (self.dtype.bits() as usize).div_ceil(8)
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
}

impl Archive {
    /// Bytes of preamble and header together, read from the preamble.
    ///
    /// # Errors
    /// `Incomplete` below 32 bytes; `Invalid` for another magic; `Unsupported` for a later version or unknown flags.
    pub fn head_bytes(preamble: &[u8], limits: &Limits) -> Result<u64> {
        if preamble.len() < PREAMBLE_BYTES && MAGIC.starts_with(&preamble[..preamble.len().min(8)]) {
            return Err(Error::Incomplete { needed: PREAMBLE_BYTES as u64 });
        }
        let preamble =
            preamble.first_chunk::<PREAMBLE_BYTES>().ok_or(Error::invalid("magic", "not an mcwc archive"))?;
        if preamble[..8] != MAGIC {
            return Err(Error::invalid("magic", "not an mcwc archive"));
        }
        let version = u16::from_le_bytes([preamble[8], preamble[9]]);
        if version != VERSION {
            return Err(Error::unsupported("version", version.to_string()));
        }
        let flags = u16::from_le_bytes([preamble[10], preamble[11]]);
        if flags & !FLAG_CODED != 0 {
            return Err(Error::unsupported("flags", format!("{flags:#06x}")));
        }
        let header_bytes = u64::from(u32::from_le_bytes([preamble[12], preamble[13], preamble[14], preamble[15]]));
        check_limit("header_bytes", header_bytes, limits.header_bytes)?;
        Ok(PREAMBLE_BYTES as u64 + header_bytes)
    }

    /// Reads preamble and header from the start of `bytes`, which may go on after them.
    ///
    /// # Errors
    /// `Incomplete` if `bytes` ends before the header does; otherwise whichever rule of FORMAT.md is broken.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self> {
        let head_bytes = Self::head_bytes(bytes, limits)?;
        let head = usize::try_from(head_bytes).ok().and_then(|len| bytes.get(..len));
        let head = head.ok_or(Error::Incomplete { needed: head_bytes })?;
        let (preamble, stored) = head.split_at(PREAMBLE_BYTES);
        let integrity = Hash::of(&[&preamble[..16], stored]);
        if integrity.0 != preamble[16..] {
            return Err(Error::Checksum { what: "the header".into() });
        }
        let header = if preamble[10] & 1 == 0 {
            Header::parse(stored)
        } else {
            let (len, coded) = stored.split_first_chunk::<4>().ok_or(Error::invalid("header", "it ends early"))?;
            let len = u64::from(u32::from_le_bytes(*len));
            check_limit("header", len, limits.header_bytes)?;
            let mut cbor = vec![0; len as usize];
            decode_planes(coded, cbor.len(), &mut cbor)?;
            Header::parse(&cbor)
        }?;
        check::Checker { limits, head_bytes }.check(header, integrity)
    }

    /// Appends what `base` holds, so that frames find their references.
    ///
    /// # Errors
    /// `Argument` if it is another archive, or needs a base that it is not linked to; `Invalid` if a frame cannot be
    /// predicted from its reference.
    pub fn link(&mut self, base: Archive) -> Result<()> {
        if self.base != Some(base.integrity) || self.is_linked() {
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
        check::references(&self.frames, self.frame_count)
    }

    /// Whether the base is linked.
    fn is_linked(&self) -> bool {
        self.frames.len() > self.frame_count
    }

    /// Checks that the base is linked, if there is one.
    ///
    /// # Errors
    /// `Argument` if it is missing.
    pub fn require_base(&self) -> Result<()> {
        match self.base {
            Some(base) if !self.is_linked() => {
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
        self.chunks[..self.chunk_count].last().map_or(self.head_bytes, |chunk| chunk.offset + u64::from(chunk.bytes))
    }

    /// Checks the payload of chunk `index` against its length and hash.
    ///
    /// # Errors
    /// `Checksum` if it differs, `Argument` if there is no such chunk.
    pub fn verify_chunk(&self, index: usize, payload: &[u8]) -> Result<()> {
        let chunk = self.chunks.get(index).ok_or_else(|| Error::argument(format!("there is no chunk {index}")))?;
        if payload.len() as u64 != u64::from(chunk.bytes) || Hash::of(&[payload]) != chunk.hash {
            return Err(Error::Checksum { what: format!("chunk {index}").into() });
        }
        Ok(())
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
        Some(encode_plane) => [&(cbor.len() as u32).to_le_bytes(), encode_plane(&cbor).as_slice()].concat(),
        None => cbor,
    };
    let flags = if encode_plane.is_some() { FLAG_CODED } else { 0 };
    let header_bytes = u32::try_from(stored.len()).map_err(|_| Error::LimitExceeded {
        field: "header_bytes",
        value: stored.len() as u64,
        limit: u64::from(u32::MAX),
    })?;
    let mut head = Vec::with_capacity(PREAMBLE_BYTES + stored.len());
    head.extend_from_slice(&MAGIC);
    head.extend_from_slice(&VERSION.to_le_bytes());
    head.extend_from_slice(&flags.to_le_bytes());
    head.extend_from_slice(&header_bytes.to_le_bytes());
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
    chunk_table.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    chunk_table.extend_from_slice(&Hash::of(&[payload]).0);
    Ok(())
}

fn check_limit(field: &'static str, value: u64, limit: u64) -> Result<()> {
    if value > limit { Err(Error::LimitExceeded { field, value, limit }) } else { Ok(()) }
}

/// Whether FORMAT.md allows this file name.
pub fn is_file_name(name: &str) -> bool {
    let component = |part: &[u8]| !matches!(part, b"" | b"." | b"..");
    let allowed = |byte: &u8| !matches!(byte, 0..32 | 127 | b'\\' | b':');
    let bytes = name.as_bytes();
    bytes.len() <= 1024 && bytes.iter().all(allowed) && bytes.split(|&byte| byte == b'/').all(component)
}
