//! The CBOR header as stored: one declaration of each record both reads and writes it (FORMAT.md, section 4).

use minicbor::Decoder;
#[cfg(feature = "encoder")]
use minicbor::Encoder;
use minicbor::data::Int;

use super::check_limit;
use crate::error::{Error, Result};
use crate::tensor::Limits;

/// The header.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Header {
    /// Source files.
    pub files: Vec<FileEntry>,
    /// Tensors; those with frames in the order in which they lie in their files.
    pub tensors: Vec<TensorEntry>,
    /// Frames; a reference points to an earlier one.
    pub frames: Vec<FrameEntry>,
    /// Serialized tables.
    pub tables: Vec<u8>,
    /// Serialized chunk table.
    pub chunks: Vec<u8>,
    /// Integrity of the base archive.
    pub base: Option<Vec<u8>>,
    /// Free text.
    pub metadata: Option<Vec<(String, String)>>,
}

/// A source file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FileEntry {
    /// Relative, `/`-separated name.
    pub name: String,
    /// Length in bytes.
    pub bytes: u64,
    /// First chunk of the raw stream.
    pub first_raw_chunk: u32,
}

/// A tensor and where it lies.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TensorEntry {
    /// Unique name.
    pub name: String,
    /// Code of the [`DType`](crate::tensor::DType).
    pub dtype: u32,
    /// Extent along each axis.
    pub shape: Vec<u64>,
    /// Index of its file.
    pub file: u32,
    /// Offset in that file.
    pub offset: u64,
    /// Its frames, coarse to fine; absent if its bytes belong to the raw stream or to another tensor.
    pub frames: Option<Vec<u64>>,
}

/// How a frame is coded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FrameEntry {
    /// 0 (planes) or 1 (levels).
    pub coding: u32,
    /// The side chunk if there is one, otherwise the first element chunk.
    pub first_chunk: u32,
    /// Elements in a chunk.
    pub chunk_len: u32,
    /// Rows, columns, taps.
    pub matrix: Option<Vec<u64>>,
    /// First table and number of tables.
    pub tables: Option<Vec<u64>>,
    /// Step between levels; absent for integers.
    pub scale: Option<f32>,
    /// Added to the levels of integers.
    pub zero_point: Option<i32>,
    /// Bits of each level that are stored as they are.
    pub low_bits: Option<u32>,
    /// Which side arrays exist, see [`Side`](super::Side).
    pub side: Option<u32>,
    /// Source (0 this archive, 1 its base) and frame that it is predicted from.
    pub reference: Option<Vec<u64>>,
    /// Factor of the prediction, in 1/256.
    pub gain: Option<i32>,
    /// 0 (uniform) or 1 (trellis).
    pub quantizer: Option<u32>,
    /// 0 (none) or 1 (DCT over taps).
    pub transform: Option<u32>,
    /// 0 (row-major) or 1 (column-major).
    pub layout: Option<u32>,
    /// Bytes of each field of a record; absent where every byte of an element is a plane.
    pub record: Option<Vec<u64>>,
}

/// A CBOR map whose keys are small integers in ascending order.
trait Record: Default {
    fn fields<V: Visitor>(&mut self, visitor: &mut V) -> Result<()>;
}

impl Record for Header {
    fn fields<V: Visitor>(&mut self, visitor: &mut V) -> Result<()> {
        visitor.records(0, "files", &mut self.files)?;
        visitor.records(1, "tensors", &mut self.tensors)?;
        visitor.records(2, "frames", &mut self.frames)?;
        visitor.required(3, &mut self.tables)?;
        visitor.required(4, &mut self.chunks)?;
        visitor.optional(5, &mut self.base)?;
        visitor.optional(6, &mut self.metadata)
    }
}

impl Record for FileEntry {
    fn fields<V: Visitor>(&mut self, visitor: &mut V) -> Result<()> {
        visitor.required(0, &mut self.name)?;
        visitor.required(1, &mut self.bytes)?;
        visitor.required(2, &mut self.first_raw_chunk)
    }
}

impl Record for TensorEntry {
    fn fields<V: Visitor>(&mut self, visitor: &mut V) -> Result<()> {
        visitor.required(0, &mut self.name)?;
        visitor.required(1, &mut self.dtype)?;
        visitor.required(2, &mut self.shape)?;
        visitor.required(3, &mut self.file)?;
        visitor.required(4, &mut self.offset)?;
        visitor.optional(5, &mut self.frames)
    }
}

impl Record for FrameEntry {
    fn fields<V: Visitor>(&mut self, visitor: &mut V) -> Result<()> {
        visitor.required(0, &mut self.coding)?;
        visitor.required(1, &mut self.first_chunk)?;
        visitor.required(2, &mut self.chunk_len)?;
        visitor.optional(3, &mut self.matrix)?;
        visitor.optional(4, &mut self.tables)?;
        visitor.optional(5, &mut self.scale)?;
        visitor.optional(6, &mut self.zero_point)?;
        visitor.optional(7, &mut self.low_bits)?;
        visitor.optional(8, &mut self.side)?;
        visitor.optional(9, &mut self.reference)?;
        visitor.optional(10, &mut self.gain)?;
        visitor.optional(11, &mut self.quantizer)?;
        visitor.optional(12, &mut self.transform)?;
        visitor.optional(13, &mut self.layout)?;
        visitor.optional(14, &mut self.record)
    }
}

/// The value of a key, `None` where the key is absent.
enum Field<'a> {
    Uint(&'a mut Option<u32>),
    Int(&'a mut Option<i32>),
    Long(&'a mut Option<u64>),
    Float(&'a mut Option<f32>),
    Longs(&'a mut Option<Vec<u64>>),
    Text(&'a mut Option<String>),
    Bytes(&'a mut Option<Vec<u8>>),
    Texts(&'a mut Option<Vec<(String, String)>>),
}

/// A type that a field can have.
trait Value: Default {
    fn field(slot: &mut Option<Self>) -> Field<'_>;
}

macro_rules! values {
    ($($kind:ident $value:ty),*) => {
        $(impl Value for $value {
            fn field(slot: &mut Option<Self>) -> Field<'_> {
                Field::$kind(slot)
            }
        })*
    };
}

values!(Uint u32, Int i32, Long u64, Float f32, Longs Vec<u64>, Text String, Bytes Vec<u8>, Texts Vec<(String, String)>);

/// Reads or writes the fields of a record, one after another.
trait Visitor {
    fn field(&mut self, key: u8, field: Field) -> Result<()>;
    fn records<R: Record>(&mut self, key: u8, field: &'static str, records: &mut Vec<R>) -> Result<()>;

    fn optional<T: Value>(&mut self, key: u8, slot: &mut Option<T>) -> Result<()> {
        self.field(key, T::field(slot))
    }

    fn required<T: Value>(&mut self, key: u8, value: &mut T) -> Result<()> {
        let mut slot = Some(std::mem::take(value));
        self.field(key, T::field(&mut slot))?;
        *value = slot.ok_or_else(|| missing(key))?;
        Ok(())
    }
}

fn missing(key: u8) -> Error {
    Error::invalid("header", format!("key {key} is missing"))
}

impl Header {
    /// Reads the header, which must be the only item.
    ///
    /// # Errors
    /// `Invalid` if the bytes are not the CBOR that FORMAT.md describes, `Unsupported` if a key is unknown, `LimitExceeded`
    /// before too much of it is kept.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self> {
        let mut header = Header::default();
        let mut reader = Reader { decoder: Decoder::new(bytes), fields_left: 0, key: None, limits, listed: 0 };
        let read = reader.record(&mut header);
        let rest = bytes.get(reader.decoder.position()..).unwrap_or_default();
        let read = match read {
            Ok(()) if !rest.is_empty() => Err(Error::invalid("header", "bytes follow the CBOR item")),
            read => read,
        };
        read.map_err(|error| error.at(bytes, rest)).map(|()| header)
    }

    /// The header as CBOR.
    ///
    /// # Errors
    /// None: memory takes all that is written.
    #[cfg(feature = "encoder")]
    pub fn serialize(&self) -> Result<Vec<u8>> {
        let mut writer = Writer { encoder: Encoder::new(Vec::new()), field_count: 0 };
        writer.record(&mut self.clone())?;
        Ok(writer.encoder.into_writer())
    }
}

struct Reader<'b> {
    decoder: Decoder<'b>,
    /// Fields of the current record whose keys have not been read.
    fields_left: u64,
    /// A key that has been read and whose value has not.
    key: Option<u8>,
    limits: &'b Limits,
    /// Numbers in all lists so far.
    listed: u64,
}

/// Numbers in lists that an entry may have on average.
const LISTED_PER_ENTRY: u64 = 16;

fn indefinite() -> Error {
    Error::invalid("header", "an item of indefinite length")
}

/// minicbor's own messages would take more room in a decoder than they help.
fn well_formed<T>(result: std::result::Result<T, minicbor::decode::Error>) -> Result<T> {
    result.map_err(|_| not_expected())
}

fn not_expected() -> Error {
    Error::invalid("header", "not the CBOR that was expected")
}

impl Reader<'_> {
    fn record<R: Record>(&mut self, record: &mut R) -> Result<()> {
        let fields = self.map_len()?;
        let outer = (std::mem::replace(&mut self.fields_left, fields), self.key.take());
        record.fields(self)?;
        if self.next_key()?.is_some() {
            return Err(Error::unsupported("header", "a key that this version does not know"));
        }
        (self.fields_left, self.key) = outer;
        Ok(())
    }

    /// The key whose value comes next; `None` at the record's end.
    fn next_key(&mut self) -> Result<Option<u8>> {
        if self.key.is_none()
            && let Some(left) = self.fields_left.checked_sub(1)
        {
            self.fields_left = left;
            self.key = Some(self.integer()?);
        }
        Ok(self.key)
    }

    /// Whether the value of `key` comes next; then the key is used up.
    fn at(&mut self, key: u8) -> Result<bool> {
        let here = self.next_key()? == Some(key);
        self.key = self.key.filter(|_| !here);
        Ok(here)
    }

    fn map_len(&mut self) -> Result<u64> {
        well_formed(self.decoder.map())?.ok_or_else(indefinite)
    }

    fn array_len(&mut self) -> Result<u64> {
        well_formed(self.decoder.array())?.ok_or_else(indefinite)
    }

    fn integer<T: TryFrom<Int>>(&mut self) -> Result<T> {
        let integer = well_formed(self.decoder.int())?;
        T::try_from(integer).map_err(|_| not_expected())
    }

    fn text(&mut self) -> Result<String> {
        Ok(well_formed(self.decoder.str())?.to_owned())
    }
}

impl Visitor for Reader<'_> {
    fn field(&mut self, key: u8, field: Field) -> Result<()> {
        let here = self.at(key)?;
        let decoder = &mut self.decoder;
        match field {
            Field::Uint(slot) => *slot = here.then(|| self.integer()).transpose()?,
            Field::Int(slot) => *slot = here.then(|| self.integer()).transpose()?,
            Field::Long(slot) => *slot = here.then(|| self.integer()).transpose()?,
            Field::Float(slot) => *slot = here.then(|| well_formed(decoder.f32())).transpose()?,
            Field::Bytes(slot) => *slot = here.then(|| well_formed(decoder.bytes()).map(<[u8]>::to_vec)).transpose()?,
            Field::Text(slot) => *slot = here.then(|| self.text()).transpose()?,
            Field::Longs(slot) => {
                let len = if here { self.array_len()? } else { 0 };
                self.listed = self.listed.saturating_add(len);
                check_limit("lists", self.listed, self.limits.entries.saturating_mul(LISTED_PER_ENTRY))?;
                let mut longs = Vec::new();
                for _ in 0..len {
                    longs.push(self.integer()?);
                }
                *slot = here.then_some(longs);
            }
            Field::Texts(slot) => {
                let len = if here { self.map_len()? } else { 0 };
                check_limit("metadata", len, self.limits.entries)?;
                let mut texts = Vec::new();
                for _ in 0..len {
                    texts.push((self.text()?, self.text()?));
                }
                *slot = here.then_some(texts);
            }
        }
        Ok(())
    }

    fn records<R: Record>(&mut self, key: u8, field: &'static str, records: &mut Vec<R>) -> Result<()> {
        if !self.at(key)? {
            return Err(missing(key));
        }
        let len = self.array_len()?;
        check_limit(field, len, self.limits.entries)?;
        for _ in 0..len {
            let mut record = R::default();
            self.record(&mut record)?;
            records.push(record);
        }
        Ok(())
    }
}

/// Writes the fields of one record and counts them, because a map begins with its length.
#[cfg(feature = "encoder")]
struct Writer {
    encoder: Encoder<Vec<u8>>,
    field_count: u64,
}

#[cfg(feature = "encoder")]
type Written = std::result::Result<(), minicbor::encode::Error<std::convert::Infallible>>;

#[cfg(feature = "encoder")]
fn written(result: Written) -> Result<()> {
    result.map_err(|error| Error::argument(error.to_string()))
}

#[cfg(feature = "encoder")]
impl Writer {
    fn record<R: Record>(&mut self, record: &mut R) -> Result<()> {
        let mut fields = Writer { encoder: Encoder::new(Vec::new()), field_count: 0 };
        record.fields(&mut fields)?;
        written(self.encoder.map(fields.field_count).map(drop))?;
        self.encoder.writer_mut().extend(fields.encoder.into_writer());
        Ok(())
    }

    fn value<T>(
        &mut self,
        key: u8,
        slot: &Option<T>,
        write: impl FnOnce(&mut Encoder<Vec<u8>>, &T) -> Written,
    ) -> Result<()> {
        let Some(value) = slot else { return Ok(()) };
        self.field_count = self.field_count.saturating_add(1);
        written(self.encoder.u8(key).map(drop).and_then(|()| write(&mut self.encoder, value)))
    }
}

#[cfg(feature = "encoder")]
impl Visitor for Writer {
    fn field(&mut self, key: u8, field: Field) -> Result<()> {
        match field {
            Field::Uint(slot) => self.value(key, slot, |encoder, &value| encoder.u32(value).map(drop)),
            Field::Int(slot) => self.value(key, slot, |encoder, &value| encoder.i32(value).map(drop)),
            Field::Long(slot) => self.value(key, slot, |encoder, &value| encoder.u64(value).map(drop)),
            Field::Float(slot) => self.value(key, slot, |encoder, &value| encoder.f32(value).map(drop)),
            Field::Bytes(slot) => self.value(key, slot, |encoder, value| encoder.bytes(value).map(drop)),
            Field::Text(slot) => self.value(key, slot, |encoder, value| encoder.str(value).map(drop)),
            Field::Longs(slot) => self.value(key, slot, |encoder, values| {
                encoder.array(values.len() as u64)?;
                values.iter().try_for_each(|&value| encoder.u64(value).map(drop))
            }),
            Field::Texts(slot) => self.value(key, slot, |encoder, texts| {
                encoder.map(texts.len() as u64)?;
                texts.iter().try_for_each(|(name, text)| encoder.str(name)?.str(text).map(drop))
            }),
        }
    }

    fn records<R: Record>(&mut self, key: u8, _: &'static str, records: &mut Vec<R>) -> Result<()> {
        self.value(key, &Some(records.len()), |encoder, &len| encoder.array(len as u64).map(drop))?;
        records.iter_mut().try_for_each(|record| self.record(record))
    }
}

#[cfg(all(test, feature = "encoder"))]
mod tests;
