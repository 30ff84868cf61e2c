//! A `TensorProto` -> where its data lies, in the model or in an external data file.

use super::super::protobuf::{Field, Span, Value};
use super::super::{Format, MAX_AXES, Sources, base_name, relative_path, tensor_bytes};
use super::invalid;
use crate::error::{Error, Result};
use crate::tensor::{Axes, DType, Shape, TensorLocation};

/// A name for tensors that have none, and whose node has none to give.
const UNNAMED: &str = "unnamed";

/// What a `TensorProto` says about its data, none of it checked.
#[derive(Default)]
pub(super) struct TensorProto<'a> {
    pub name: Option<Span<'a>>,
    /// At most one more than [`MAX_AXES`].
    pub dims: Vec<u64>,
    pub data_type: u64,
    is_segment: bool,
    raw_data: Option<Span<'a>>,
    float_data: Packed<'a>,
    double_data: Packed<'a>,
    /// Present where the data location says so.
    pub external: Option<External<'a>>,
}

impl<'a> TensorProto<'a> {
    pub fn parse(tensor: Span<'a>) -> Result<Self> {
        let mut proto = TensorProto::default();
        let mut external = External::default();
        let mut is_external = false;
        for field in tensor.fields() {
            let Field { number, value } = field?;
            match (number, value) {
                (1, Value::Varint(dim)) => proto.push_dim(dim),
                (1, Value::Delimited(dims)) => dims.varints().try_for_each(|dim| dim.map(|dim| proto.push_dim(dim)))?,
                (2, Value::Varint(data_type)) => proto.data_type = data_type,
                (3, Value::Delimited(_)) => proto.is_segment = true,
                (4, value) => proto.float_data.add(value),
                (8, Value::Delimited(name)) => proto.name = Some(name),
                (9, Value::Delimited(data)) => proto.raw_data = Some(data),
                (10, value) => proto.double_data.add(value),
                (13, Value::Delimited(entry)) => external.add(entry)?,
                (14, Value::Varint(location)) => is_external = location == 1,
                _ => {}
            }
        }
        proto.external = is_external.then_some(external);
        Ok(proto)
    }

    fn push_dim(&mut self, dim: u64) {
        if self.dims.len() <= MAX_AXES {
            self.dims.push(dim);
        }
    }

    fn name(&self) -> Result<String> {
        self.name.filter(|name| name.bytes() > 0).map_or_else(|| Ok(UNNAMED.to_owned()), Span::text)
    }

    fn invalid(&self, file: &str, reason: impl std::fmt::Display) -> Error {
        match self.name() {
            Ok(name) => invalid(file, format!("tensor {name:?}: {reason}")),
            Err(error) => error,
        }
    }

    /// The data file that `external` names, relative to the folder of the model.
    pub fn external_path(&self, external: &External, file: &str) -> Result<String> {
        let location =
            external.location.ok_or_else(|| self.invalid(file, "external data without a location"))?.read()?;
        let invalid = |why| {
            let location = String::from_utf8_lossy(&location);
            self.invalid(file, format!("external data location {location:?} {why}"))
        };
        let path = str::from_utf8(&location).map_err(|_| invalid("is not UTF-8"))?;
        let path = relative_path(path).map_err(invalid)?;
        if path == base_name(file) { Err(invalid("is the model itself")) } else { Ok(path) }
    }

    /// Where the data lies; nowhere if not as consecutive little-endian elements of a known type.
    pub fn locate(self, index: usize, file: &str, sources: &Sources) -> Result<Option<TensorLocation>> {
        let Some(dtype) = dtype(self.data_type).filter(|_| !self.is_segment) else {
            return Ok(None);
        };
        let (file_index, offset, bytes) = if let Some(external) = &self.external {
            let expected = self.expected_bytes(file, dtype)?;
            self.locate_external(external, expected, file, sources)?
        } else if let Some(data) = self.inline_data(dtype) {
            let expected = self.expected_bytes(file, dtype)?;
            if data.bytes() != expected {
                return Err(self.size_mismatch(file, dtype, data.bytes(), expected));
            }
            (index, data.start, expected)
        } else {
            return Ok(None);
        };
        let (name, shape) = (self.name()?, Shape(self.dims));
        let (axes, record) = (Axes::OutputFirst, [].as_slice());
        Ok(Some(TensorLocation { name, dtype, shape, file: file_index, offset, bytes, axes, record }))
    }

    fn inline_data(&self, dtype: DType) -> Option<Span<'a>> {
        self.raw_data.or(match dtype {
            DType::F32 => self.float_data.elements(),
            DType::F64 => self.double_data.elements(),
            _ => None,
        })
    }

    fn locate_external(
        &self,
        external: &External,
        expected: u64,
        file: &str,
        sources: &Sources,
    ) -> Result<(usize, u64, u64)> {
        let path = self.external_path(external, file)?;
        let (index, data, format) = sources.companion(file, &path)?;
        if format == Format::Onnx {
            return Err(self.invalid(file, format!("external data location {path:?} is a model")));
        }
        let offset = self.number("offset", external.offset, file)?.unwrap_or(0);
        let bytes = self.number("length", external.length, file)?.unwrap_or(expected);
        if bytes != expected {
            return Err(self.invalid(file, format!("{bytes} bytes of external data where {expected} were due")));
        }
        if offset.checked_add(bytes).is_none_or(|end| end > data.source.bytes()) {
            let reason = format!("{bytes} bytes at {offset} exceed the {} bytes of {path:?}", data.source.bytes());
            return Err(self.invalid(file, reason));
        }
        Ok((index, offset, bytes))
    }

    fn number(&self, key: &str, value: Option<Span>, file: &str) -> Result<Option<u64>> {
        let Some(text) = value.map(Span::text).transpose()? else { return Ok(None) };
        let no_number = |_| self.invalid(file, format!("external data {key} {text:?} is no number"));
        text.parse().map(Some).map_err(no_number)
    }

    fn expected_bytes(&self, file: &str, dtype: DType) -> Result<u64> {
        // `int64` on the wire: what looks huge is negative.
        if self.dims.iter().any(|&dim| i64::try_from(dim).is_err()) {
            return Err(self.invalid(file, "has a negative extent"));
        }
        tensor_bytes(dtype, &Shape(self.dims.clone())).map_err(|why| self.invalid(file, why))
    }

    fn size_mismatch(&self, file: &str, dtype: DType, bytes: u64, expected: u64) -> Error {
        let shape = Shape(self.dims.clone());
        self.invalid(file, format!("{bytes} bytes of data where {} {shape} takes {expected}", dtype.name()))
    }
}

/// Element types, from `TensorProto.DataType`.
fn dtype(data_type: u64) -> Option<DType> {
    Some(match data_type {
        1 => DType::F32,
        2 => DType::U8,
        3 => DType::I8,
        4 => DType::U16,
        5 => DType::I16,
        6 => DType::I32,
        7 => DType::I64,
        9 => DType::Bool,
        10 => DType::F16,
        11 => DType::F64,
        12 => DType::U32,
        13 => DType::U64,
        16 => DType::BF16,
        17 => DType::F8E4M3,
        19 => DType::F8E5M2,
        21 => DType::U4,
        22 => DType::I4,
        _ => return None,
    })
}

/// A repeated `float` or `double`, which a writer may spread over several fields.
#[derive(Default)]
enum Packed<'a> {
    #[default]
    Absent,
    Whole(Span<'a>),
    Scattered,
}

impl<'a> Packed<'a> {
    fn add(&mut self, value: Value<'a>) {
        *self = match (&self, value) {
            (Packed::Absent, Value::Delimited(elements)) => Packed::Whole(elements),
            _ => Packed::Scattered,
        };
    }

    fn elements(&self) -> Option<Span<'a>> {
        if let Packed::Whole(elements) = self { Some(*elements) } else { None }
    }
}

/// The `external_data` entries of a tensor, as written.
#[derive(Default)]
pub(super) struct External<'a> {
    location: Option<Span<'a>>,
    offset: Option<Span<'a>>,
    length: Option<Span<'a>>,
}

impl<'a> External<'a> {
    fn add(&mut self, entry: Span<'a>) -> Result<()> {
        let (mut key, mut value) = (Vec::new(), None);
        for field in entry.fields() {
            match field? {
                Field { number: 1, value: Value::Delimited(text) } => key = text.read()?,
                Field { number: 2, value: Value::Delimited(text) } => value = Some(text),
                _ => {}
            }
        }
        match key.as_slice() {
            b"location" => self.location = value,
            b"offset" => self.offset = value,
            b"length" => self.length = value,
            _ => {}
        }
        Ok(())
    }
}
