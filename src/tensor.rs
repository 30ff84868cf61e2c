//! The currency between modules: element types, shapes, and where a tensor lies in a source file.

use crate::error::{Error, Result};

/// The type of a tensor's elements. The discriminants are FORMAT.md's codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs, reason = "the names say it")]
pub enum DType {
    F32 = 0,
    F16 = 1,
    BF16 = 2,
    F64 = 3,
    I8 = 4,
    U8 = 5,
    I16 = 6,
    U16 = 7,
    I32 = 8,
    U32 = 9,
    I64 = 10,
    U64 = 11,
    Bool = 12,
    F8E4M3 = 13,
    F8E5M2 = 14,
    /// Two elements a byte, the first in the low half.
    I4 = 15,
    /// Two elements a byte, the first in the low half.
    U4 = 16,
}

impl DType {
    /// Every type, in the order of its code.
    pub const ALL: [DType; 17] = [
        DType::F32,
        DType::F16,
        DType::BF16,
        DType::F64,
        DType::I8,
        DType::U8,
        DType::I16,
        DType::U16,
        DType::I32,
        DType::U32,
        DType::I64,
        DType::U64,
        DType::Bool,
        DType::F8E4M3,
        DType::F8E5M2,
        DType::I4,
        DType::U4,
    ];

    /// The type with this code.
    pub fn from_code(code: u8) -> Result<Self> {
        Self::ALL.get(usize::from(code)).copied().ok_or_else(|| Error::unsupported("dtype", code.to_string()))
    }

    /// The name shown to users, safetensors' spelling in lower case.
    pub fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::F64 => "f64",
            DType::I8 => "i8",
            DType::U8 => "u8",
            DType::I16 => "i16",
            DType::U16 => "u16",
            DType::I32 => "i32",
            DType::U32 => "u32",
            DType::I64 => "i64",
            DType::U64 => "u64",
            DType::Bool => "bool",
            DType::F8E4M3 => "f8_e4m3",
            DType::F8E5M2 => "f8_e5m2",
            DType::I4 => "i4",
            DType::U4 => "u4",
        }
    }

    /// Bits that one element takes in a file.
    pub fn bits(self) -> u64 {
        match self {
            DType::I4 | DType::U4 => 4,
            DType::I8 | DType::U8 | DType::Bool | DType::F8E4M3 | DType::F8E5M2 => 8,
            DType::F16 | DType::BF16 | DType::I16 | DType::U16 => 16,
            DType::F32 | DType::I32 | DType::U32 => 32,
            DType::F64 | DType::I64 | DType::U64 => 64,
        }
    }

    /// Bytes of an element as frames count them: the 4-bit types are taken as bytes.
    pub fn element_bytes(self) -> usize {
        (self.bits() / 8).max(1) as usize
    }

    /// Whether weights of this type may be coded with loss.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F16 | DType::BF16 | DType::F64)
    }

    /// Bytes that `element_len` elements take, or `None` on overflow.
    pub fn byte_len(self, element_len: u64) -> Option<u64> {
        Some(element_len.checked_mul(self.bits())?.div_ceil(8))
    }
}

/// A tensor's extent along each axis; a scalar has none.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Shape(pub Vec<u64>);

impl Shape {
    /// Number of elements: 1 for a scalar, `None` on overflow.
    pub fn element_len(&self) -> Option<u64> {
        self.0.iter().try_fold(1u64, |product, &extent| product.checked_mul(extent))
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let extents: Vec<String> = self.0.iter().map(u64::to_string).collect();
        write!(f, "[{}]", extents.join(", "))
    }
}

/// Which axis of a weight counts its outputs, by the habits of the format that it lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Axes {
    /// `[out, in]`, `[out, in, kernel…]`.
    #[default]
    OutputFirst,
    /// `[in, out]`, `[kernel…, in, out]`.
    OutputLast,
}

/// A tensor and the bytes of a source file that hold it, contiguous, row-major, little-endian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorLocation {
    /// The tensor's name in the model.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Extent along each axis.
    pub shape: Shape,
    /// Which of the given files.
    pub file: usize,
    /// First byte in that file.
    pub offset: u64,
    /// Number of bytes: always `dtype.byte_len(shape.element_len())`.
    pub bytes: u64,
    /// Which axis counts the outputs.
    pub axes: Axes,
    /// Where elements are bytes of records (blocks of quantized weights): how many bytes each field of a record has, and
    /// `bytes` is a multiple of their sum. Empty otherwise.
    pub record: &'static [u16],
}

/// Bounds on what an archive may ask a reader for, checked before memory is taken. By default what a phone can give: a header
/// and the side arrays of a frame stay below 64 MiB each.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest header, in bytes, as stored and after decompression.
    pub header_bytes: u64,
    /// Most tensors, files, frames, or texts of metadata, each.
    pub entries: u64,
    /// Most chunks, also if those that tensors share are counted for each.
    pub chunks: u64,
    /// Most axes of a tensor.
    pub dimensions: u64,
    /// Largest single tensor, in bytes.
    pub tensor_bytes: u64,
    /// All source files together, in bytes.
    pub output_bytes: u64,
    /// Most entries of the side arrays of a frame and of all that it is predicted from.
    pub side_entries: u64,
    /// What all tensors together, at one pass, may take to decode beyond what their bytes and the archive's account for: about as
    /// many steps of a decoder. Only archives that decode the same chunks, tables or side arrays again and again need much.
    pub work: u64,
}

/// Default of [`Limits::side_entries`].
pub const SIDE_ENTRIES: u64 = 6 << 20;

impl Default for Limits {
    fn default() -> Self {
        Limits {
            header_bytes: 8 << 20,
            entries: 1 << 15,
            chunks: 1 << 19,
            dimensions: 64,
            tensor_bytes: 1 << 32,
            output_bytes: 1 << 40,
            side_entries: SIDE_ENTRIES,
            work: 1 << 24,
        }
    }
}

/// A length that this machine's memory must hold.
///
/// # Errors
/// `LimitExceeded` if it cannot.
pub(crate) fn memory_len(field: &'static str, len: u64) -> Result<usize> {
    usize::try_from(len).map_err(|_| Error::limit_exceeded(field, len, usize::MAX as u64))
}

/// Room for so many bytes.
///
/// # Errors
/// `Io` if the system has not so much.
pub(crate) fn room(field: &'static str, len: u64) -> Result<Vec<u8>> {
    let len = memory_len(field, len)?;
    let mut bytes = Vec::new();
    let failed = |error| Error::Io { path: format!("{len} bytes of memory"), source: Box::new(error) };
    bytes.try_reserve_exact(len).map_err(failed)?;
    Ok(bytes)
}

/// As many zeros, of which the system gives most only when they are written.
///
/// # Errors
/// As [`room`].
pub(crate) fn zeros(field: &'static str, len: u64) -> Result<Vec<u8>> {
    room(field, len)?;
    Ok(vec![0; memory_len(field, len)?])
}
