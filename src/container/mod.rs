//! Bytes <-> preamble, header, extents and chunk table (FORMAT.md, sections 3 and 4).
//!
//! The only place that knows offsets and hashes. [`Archive::parse`] proves every range and every cross reference of a
//! header before anyone uses it, so later stages may trust what they find here; chunk payloads are still untrusted.

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
/// Most fields of a record.
pub const RECORD_FIELDS_MAX: u64 = 64;

const FLAG_CODED: u16 = 1;
/// Most taps of a transform: its basis is their square.
const DCT_TAPS_MAX: u64 = 1024;
const SIDE_ENTRIES_MAX: u64 = 1 << 26;
const FILES_MAX: u64 = 4096;
/// Most rows, and most levels in a row.
const EXTENT_MAX: u64 = i32::MAX as u64;
const CHUNK_ENTRY_BYTES: usize = 20;

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
            Side::RowClass | Side::RowExponent | Side::RowPermutation => self.rows,
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
    fn row_cut(&self) -> Option<(u64, u64)> {
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

/// A parsed and checked header: everything about an archive but its payloads.
#[derive(Debug, Clone)]
pub struct Archive {
    /// Hash of the header; pins every chunk.
    pub integrity: Hash,
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
        Checker { limits, head_bytes }.check(header, integrity)
    }

    /// Length of the whole archive.
    pub fn bytes(&self) -> u64 {
        self.chunks.last().map_or(self.head_bytes, |chunk| chunk.offset + u64::from(chunk.bytes))
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

fn check(condition: bool, field: &'static str, reason: &'static str) -> Result<()> {
    if condition { Ok(()) } else { Err(Error::invalid(field, reason)) }
}

/// Says which part of the header an error is about.
fn within(part: &dyn std::fmt::Display, error: Error) -> Error {
    match error {
        Error::Invalid { field, reason } => Error::invalid(field, format!("{reason} ({part})")),
        Error::Unsupported { field, value } => Error::unsupported(field, format!("{value} ({part})")),
        other => other,
    }
}

/// Whether FORMAT.md allows this file name.
pub fn is_file_name(name: &str) -> bool {
    let component = |part: &[u8]| !matches!(part, b"" | b"." | b"..");
    let allowed = |byte: &u8| !matches!(byte, 0..32 | 127 | b'\\' | b':');
    let bytes = name.as_bytes();
    bytes.len() <= 1024 && bytes.iter().all(allowed) && bytes.split(|&byte| byte == b'/').all(component)
}

/// Turns a stored header into an [`Archive`], or says which rule it breaks.
struct Checker<'a> {
    limits: &'a Limits,
    head_bytes: u64,
}

impl Checker<'_> {
    fn check(&self, header: Header, integrity: Hash) -> Result<Archive> {
        let counts = [
            ("files", header.files.len()),
            ("tensors", header.tensors.len()),
            ("frames", header.frames.len()),
            ("chunk table", header.chunks.len() / CHUNK_ENTRY_BYTES),
        ];
        for (field, count) in counts {
            check_limit(field, count as u64, self.limits.entries)?;
        }
        if header.base.is_some() {
            return Err(Error::unsupported("base", "archives that depend on another one"));
        }
        let chunks = self.chunks(&header.chunks)?;
        let tables = Table::parse_set(&header.tables)?;
        let tensors = self.tensors(header.tensors, &header.files)?;
        let files = self.files(header.files, &tensors, chunks.len())?;
        let frames = self.frames(header.frames, &tensors, tables.len(), chunks.len())?;
        Ok(Archive {
            integrity,
            head_bytes: self.head_bytes,
            files,
            tensors,
            frames,
            tables,
            chunks,
            metadata: header.metadata.unwrap_or_default(),
        })
    }

    fn chunks(&self, table: &[u8]) -> Result<Vec<Chunk>> {
        let (entries, rest) = table.as_chunks::<CHUNK_ENTRY_BYTES>();
        check(rest.is_empty(), "chunk table", "its last entry is cut")?;
        let mut offset = self.head_bytes;
        let mut chunks = Vec::with_capacity(entries.len());
        for entry in entries {
            let bytes = u32::from_le_bytes([entry[0], entry[1], entry[2], entry[3]]);
            check_limit("chunk", u64::from(bytes), u64::from(CHUNK_BYTES_MAX))?;
            chunks.push(Chunk { offset, bytes, hash: Hash(std::array::from_fn(|i| entry[4 + i])) });
            offset += u64::from(bytes);
        }
        Ok(chunks)
    }

    fn tensors(&self, entries: Vec<TensorEntry>, files: &[FileEntry]) -> Result<Vec<Tensor>> {
        let mut tensors = Vec::with_capacity(entries.len());
        for mut entry in entries {
            let name = std::mem::take(&mut entry.name);
            let tensor = self.tensor(entry, files).map_err(|error| within(&name, error))?;
            tensors.push(Tensor { name, ..tensor });
        }
        Ok(tensors)
    }

    /// A tensor, but for its name.
    fn tensor(&self, entry: TensorEntry, files: &[FileEntry]) -> Result<Tensor> {
        let dtype = DType::from_code(u8::try_from(entry.dtype).unwrap_or(u8::MAX))?;
        let shape = Shape(entry.shape);
        let bytes = shape.element_len().and_then(|len| dtype.byte_len(len));
        let bytes = bytes.ok_or(Error::invalid("tensor", "its shape overflows"))?;
        check_limit("tensor", bytes, self.limits.tensor_bytes)?;
        let file = entry.file as usize;
        let file_bytes = files.get(file).map_or(0, |file| file.bytes);
        let inside = entry.offset.checked_add(bytes).is_some_and(|end| end <= file_bytes);
        check(file < files.len() && inside, "tensor", "it is not inside a file")?;
        let listed = entry.frames.is_some();
        let frames: Vec<usize> = entry.frames.into_iter().flatten().map(|frame| frame as usize).collect();
        check(listed != frames.is_empty() && (bytes > 0 || !listed), "tensor", "frames of an empty tensor, or none")?;
        if frames.len() > 1 {
            return Err(Error::unsupported("tensor", "refinement frames"));
        }
        Ok(Tensor { name: String::new(), dtype, shape, file, offset: entry.offset, bytes, frames })
    }

    fn files(&self, entries: Vec<FileEntry>, tensors: &[Tensor], chunk_count: usize) -> Result<Vec<File>> {
        check_limit("files", entries.len() as u64, FILES_MAX)?;
        let mut framed: Vec<Vec<usize>> = vec![Vec::new(); entries.len()];
        for (index, tensor) in tensors.iter().enumerate() {
            if !tensor.frames.is_empty() {
                framed[tensor.file].push(index);
            }
        }
        let mut files: Vec<File> = Vec::with_capacity(entries.len());
        for (entry, framed) in entries.into_iter().zip(framed) {
            let unique = files.iter().all(|file| file.name != entry.name);
            let file = self.file(entry, unique, &framed, tensors, chunk_count)?;
            files.push(file);
        }
        Ok(files)
    }

    fn file(
        &self,
        entry: FileEntry,
        unique: bool,
        framed: &[usize],
        tensors: &[Tensor],
        chunk_count: usize,
    ) -> Result<File> {
        let checked = || {
            check(unique && is_file_name(&entry.name), "file", "not an allowed name, or a second file of this name")?;
            check_limit("file", entry.bytes, self.limits.file_bytes)?;
            let (extents, raw_bytes) = extents(&entry, framed, tensors)?;
            let end = u64::from(entry.first_raw_chunk) + raw_bytes.div_ceil(RAW_CHUNK_BYTES);
            check(end <= chunk_count as u64, "first raw chunk", "there are too few chunks")?;
            Ok((extents, raw_bytes))
        };
        let (extents, raw_bytes) = checked().map_err(|error| within(&entry.name, error))?;
        let first_raw_chunk = entry.first_raw_chunk as usize;
        Ok(File { name: entry.name, bytes: entry.bytes, first_raw_chunk, raw_bytes, extents })
    }

    fn frames(&self, entries: Vec<FrameEntry>, tensors: &[Tensor], tables: usize, chunks: usize) -> Result<Vec<Frame>> {
        let mut used: Vec<Option<(DType, u64)>> = vec![None; entries.len()];
        for tensor in tensors {
            let kind = (tensor.dtype, element_len(tensor));
            for &frame in &tensor.frames {
                let agrees = used.get(frame).is_some_and(|first| first.is_none_or(|first| first == kind));
                check(agrees, "tensor", "its frame does not exist, or codes tensors of another kind")
                    .map_err(|error| within(&tensor.name, error))?;
                used[frame] = Some(kind);
            }
        }
        let mut frames = Vec::with_capacity(entries.len());
        for (index, (entry, used)) in entries.iter().zip(used).enumerate() {
            let used = used.ok_or(Error::invalid("frame", "no tensor uses it"));
            let frame = used.and_then(|(dtype, len)| frame(entry, dtype, len, tables, chunks));
            frames.push(frame.map_err(|error| within(&format_args!("frame {index}"), error))?);
        }
        Ok(frames)
    }
}

/// Elements as frames count them: bytes for the 4-bit types.
fn element_len(tensor: &Tensor) -> u64 {
    if tensor.dtype.bits() < 8 { tensor.bytes } else { tensor.bytes / (tensor.dtype.bits() / 8) }
}

fn extents(file: &FileEntry, framed: &[usize], tensors: &[Tensor]) -> Result<(Vec<Extent>, u64)> {
    let mut extents = Vec::with_capacity(2 * framed.len() + 1);
    let (mut end, mut raw_bytes) = (0u64, 0u64);
    let mut raw_until = |end: u64, next: u64, extents: &mut Vec<Extent>| {
        if next > end {
            extents.push(Extent { offset: end, bytes: next - end, source: ExtentSource::Raw(raw_bytes) });
            raw_bytes += next - end;
        }
    };
    for &index in framed {
        let tensor = &tensors[index];
        check(tensor.offset >= end, "tensor", "a tensor with frames overlaps the one before it")?;
        raw_until(end, tensor.offset, &mut extents);
        extents.push(Extent { offset: tensor.offset, bytes: tensor.bytes, source: ExtentSource::Tensor(index) });
        end = tensor.offset + tensor.bytes;
    }
    raw_until(end, file.bytes, &mut extents);
    Ok((extents, raw_bytes))
}

fn frame(entry: &FrameEntry, dtype: DType, element_len: u64, tables: usize, chunks: usize) -> Result<Frame> {
    refuse_reserved(entry)?;
    let chunk_len = u64::from(entry.chunk_len);
    check((1..=CHUNK_LEN_MAX).contains(&chunk_len), "chunk_len", "out of range")?;
    let coding = match entry.coding {
        CODING_PLANES => {
            check(entry.layout.unwrap_or(0) == 0, "layout", "planes have none")?;
            check(entry.transform.unwrap_or(0) == 0, "transform", "planes have none")?;
            Coding::Planes(record(entry, dtype, element_len)?)
        }
        CODING_LEVELS => Coding::Levels(levels(entry, dtype, element_len, tables)?),
        other => return Err(Error::unsupported("coding", other.to_string())),
    };
    let side_chunk = matches!(&coding, Coding::Levels(levels) if levels.side != 0);
    let mut frame = Frame {
        dtype,
        element_len,
        chunk_len,
        side_chunk: side_chunk.then_some(entry.first_chunk as usize),
        first_chunk: entry.first_chunk as usize + usize::from(side_chunk),
        chunk_count: 0,
        coding,
    };
    let chunk_count = match frame.row_cut() {
        Some((row_len, pieces)) => element_len / row_len * pieces,
        None => element_len.div_ceil(chunk_len),
    };
    let end = (frame.first_chunk as u64).saturating_add(chunk_count);
    check(end <= chunks as u64, "first chunk", "there are too few chunks")?;
    frame.chunk_count = chunk_count as usize;
    Ok(frame)
}

/// Bytes of each field of the records that a frame of planes holds.
fn record(entry: &FrameEntry, dtype: DType, element_len: u64) -> Result<Vec<usize>> {
    let element_bytes = (dtype.bits() as usize).div_ceil(8);
    let Some(record) = &entry.record else { return Ok(vec![1; element_bytes]) };
    check_limit("record", record.len() as u64, RECORD_FIELDS_MAX)?;
    let bytes = record.iter().fold(0u64, |bytes, &field| bytes.saturating_add(field)).max(1);
    let whole = element_len.is_multiple_of(bytes) && u64::from(entry.chunk_len).is_multiple_of(bytes);
    let fields = !record.is_empty() && !record.contains(&0);
    check(whole && fields && element_bytes == 1, "record", "its fields do not make up chunks of bytes")?;
    Ok(record.iter().map(|&field| field as usize).collect())
}

fn refuse_reserved(entry: &FrameEntry) -> Result<()> {
    if entry.reference.is_some() {
        return Err(Error::unsupported("reference", "predicted frames"));
    }
    if let Some(quantizer) = entry.quantizer.filter(|&quantizer| quantizer > QUANTIZER_TRELLIS) {
        return Err(Error::unsupported("quantizer", quantizer.to_string()));
    }
    let known = [("transform", entry.transform, TRANSFORM_DCT), ("layout", entry.layout, LAYOUT_COLUMN_MAJOR)];
    match known.into_iter().find(|(_, value, last)| value.unwrap_or(0) > *last) {
        Some((field, value, _)) => Err(Error::unsupported(field, value.unwrap_or(0).to_string())),
        None => Ok(()),
    }
}

fn levels(entry: &FrameEntry, dtype: DType, element_len: u64, tables: usize) -> Result<Levels> {
    check(entry.record.is_none(), "record", "levels have none")?;
    let Some(&[rows, columns, taps]) = entry.matrix.as_deref() else {
        return Err(Error::invalid("matrix", "levels need one of three extents"));
    };
    let row_len = columns.checked_mul(taps).filter(|&len| len <= EXTENT_MAX).unwrap_or(u64::MAX);
    let covers = rows <= EXTENT_MAX && rows.checked_mul(row_len) == Some(element_len);
    check(covers, "matrix", "it does not cover the tensor")?;
    let chunk_len = u64::from(entry.chunk_len);
    check(chunk_len <= row_len || chunk_len.is_multiple_of(row_len), "chunk_len", "not whole rows")?;
    let Some(&[first_table, table_count]) = entry.tables.as_deref() else {
        return Err(Error::invalid("tables", "levels need a first one and a count"));
    };
    let exist = table_count >= 1 && first_table.saturating_add(table_count) <= tables as u64;
    check(exist, "tables", "there are too few")?;
    let levels = Levels {
        rows: rows as usize,
        columns: columns as usize,
        taps: taps as usize,
        first_table: first_table as usize,
        table_count: table_count as usize,
        scale: entry.scale,
        zero_point: entry.zero_point.unwrap_or(0),
        low_bits: entry.low_bits.unwrap_or(0),
        side: entry.side.unwrap_or(0),
        trellis: entry.quantizer == Some(QUANTIZER_TRELLIS),
        column_major: entry.layout == Some(LAYOUT_COLUMN_MAJOR),
        dct: entry.transform == Some(TRANSFORM_DCT),
    };
    let sets = if levels.trellis { 2 } else { 1 };
    check(table_count.is_multiple_of(sets), "tables", "they do not serve two quantizers")?;
    check_limit("tables", table_count / sets, FRAME_TABLES_MAX)?;
    check(!levels.trellis || levels.low_bits == 0, "low_bits", "the trellis has none")?;
    check(!levels.trellis || levels.scale.is_some(), "quantizer", "integers have no trellis")?;
    check(levels.low_bits <= 16, "low_bits", "more than 16")?;
    check_values(&levels, dtype)?;
    check_side(&levels, chunk_len < row_len)?;
    Ok(levels)
}

fn check_values(levels: &Levels, dtype: DType) -> Result<()> {
    match levels.scale {
        Some(scale) => {
            check(dtype.is_float(), "scale", "integers have none")?;
            check(levels.zero_point == 0, "zero_point", "floats have none")?;
            check(crate::stages::quantize::is_scale(scale), "scale", "out of range")
        }
        None => {
            let integer = !dtype.is_float() && matches!(dtype.bits(), 8 | 16);
            check(integer, "scale", "only integers of 8 and 16 bits have none")
        }
    }
}

fn check_side(levels: &Levels, rows_are_cut: bool) -> Result<()> {
    if levels.side >> 8 != 0 {
        return Err(Error::unsupported("side", format!("{:#x}", levels.side)));
    }
    let tap_arrays = levels.has(Side::TapClass) || levels.has(Side::TapExponent);
    check(!tap_arrays || levels.taps > 1, "side", "tap arrays need taps")?;
    let permuted = levels.has(Side::RowPermutation) || levels.has(Side::ColumnPermutation);
    check(!permuted || !rows_are_cut, "side", "permutations need chunks of whole rows")?;
    check(!levels.column_major || !rows_are_cut, "layout", "column-major needs chunks of whole rows")?;
    check(!levels.column_major || !levels.has(Side::RowPermutation), "layout", "column-major has no row permutation")?;
    check(!levels.dct || !rows_are_cut, "transform", "it needs chunks of whole rows")?;
    check(!levels.dct || levels.scale.is_some(), "transform", "integers have none")?;
    check(!levels.dct || !levels.has(Side::ColumnPermutation), "transform", "it has no column permutation")?;
    check_limit("taps", if levels.dct { levels.taps as u64 } else { 0 }, DCT_TAPS_MAX)?;
    let every = Side::BYTE_ARRAYS.into_iter().chain([Side::RowPermutation, Side::ColumnPermutation]);
    let entries = every.filter(|&side| levels.has(side)).map(|side| levels.side_len(side) as u64).sum();
    check_limit("side", entries, SIDE_ENTRIES_MAX)
}
