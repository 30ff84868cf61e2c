//! An ONNX model -> its tensors, in the file itself or in external data files.
//!
//! Tensors are found wherever `onnx.proto` allows one: initializers, dense and sparse, and node attributes, of the
//! main graph, of training graphs, of the subgraphs of `If`, `Loop` and `Scan`, and of functions. Of the ways to
//! store their data, three are consecutive little-endian elements: `raw_data`, packed `float_data` and `double_data`,
//! and external data. The others are varints or strings, and such tensors are left out.
//! Field numbers are those of <https://github.com/onnx/onnx/blob/main/onnx/onnx.proto>.

pub(crate) mod graph;

use std::borrow::Cow;
use std::collections::HashSet;

use super::protobuf::{Field, Malformed, Span, Value};
use super::{Format, MAX_AXES, SourceFile, Sources, base_name, relative_path, tensor_bytes};
use crate::error::{Error, Result};
use crate::tensor::{Axes, DType, Shape, TensorLocation};

/// Deepest subgraph in a subgraph. One level takes three messages, and protobuf readers stop at 100 of them.
const MAX_GRAPH_DEPTH: u64 = 32;

/// A name for tensors that have none, and whose node has none to give.
const UNNAMED: &str = "unnamed";

/// Whether the bytes are a `ModelProto` beyond reasonable doubt: `ir_version` first, then fields that a model has,
/// each of its proper kind, and a graph of which the same is true.
pub(super) fn looks_like(bytes: &[u8]) -> bool {
    let mut is_first = true;
    let mut has_graph = false;
    for field in Span::of_file(bytes).fields() {
        let Ok(Field { number, value }) = field else {
            return false;
        };
        let is_plausible = match (number, value) {
            (1, Value::Varint(ir_version)) => (1..=255).contains(&ir_version),
            (5, Value::Varint(_)) => true,
            (7, Value::Delimited(graph)) => {
                has_graph = true;
                looks_like_graph(graph)
            }
            (2 | 3 | 4 | 6 | 8 | 14 | 20 | 25 | 26, Value::Delimited(_)) => true,
            _ => false,
        };
        if !is_plausible || is_first && number != 1 {
            return false;
        }
        is_first = false;
    }
    has_graph
}

fn looks_like_graph(graph: Span) -> bool {
    graph.fields().all(|field| matches!(field, Ok(Field { number: 1..=16, value: Value::Delimited(_) })))
}

/// The external data files that tensors lie in, in the order of their first mention.
pub(super) fn companions(name: &str, bytes: &[u8]) -> Result<Vec<String>> {
    let mut seen = HashSet::new();
    let mut paths = Vec::new();
    walk_tensors(name, bytes, &mut |tensor| {
        if let Some(external) = &tensor.external {
            let path = external.path(name).map_err(|why| tensor.invalid(name, why))?;
            if seen.insert(path.clone()) {
                paths.push(path);
            }
        }
        Ok(())
    })?;
    Ok(paths)
}

/// The tensors of the model with this index, in the order in which it mentions them.
pub(super) fn find_tensors(index: usize, file: &SourceFile, sources: &Sources) -> Result<Vec<TensorLocation>> {
    let mut tensors = Vec::new();
    walk_tensors(&file.name, file.bytes, &mut |tensor| {
        tensors.extend(tensor.locate(index, &file.name, sources)?);
        Ok(())
    })?;
    Ok(tensors)
}

fn walk_tensors(file: &str, bytes: &[u8], visit: &mut dyn FnMut(TensorProto) -> Result<()>) -> Result<()> {
    Walk { file, visit }.model(Span::of_file(bytes))
}

/// A walk through all messages that may hold a `TensorProto`. Fields of an unexpected wire type are passed over like
/// unknown ones, as protobuf demands.
struct Walk<'w> {
    file: &'w str,
    visit: &'w mut dyn FnMut(TensorProto) -> Result<()>,
}

impl Walk<'_> {
    fn model(&mut self, model: Span) -> Result<()> {
        let mut has_graph = false;
        for field in model.fields() {
            match self.readable(field)? {
                Field { number: 7, value: Value::Delimited(graph) } => {
                    has_graph = true;
                    self.graph(graph, 0)?;
                }
                Field { number: 20, value: Value::Delimited(training) } => self.training(training)?,
                Field { number: 25, value: Value::Delimited(function) } => self.function(function)?,
                _ => {}
            }
        }
        if has_graph { Ok(()) } else { Err(invalid(self.file, "holds no graph")) }
    }

    fn training(&mut self, training: Span) -> Result<()> {
        for field in training.fields() {
            if let Field { number: 1 | 2, value: Value::Delimited(graph) } = self.readable(field)? {
                self.graph(graph, 0)?;
            }
        }
        Ok(())
    }

    fn function(&mut self, function: Span) -> Result<()> {
        for field in function.fields() {
            match self.readable(field)? {
                Field { number: 7, value: Value::Delimited(node) } => self.node(node, 0)?,
                Field { number: 11, value: Value::Delimited(default) } => self.attribute(default, &mut None, 0)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn graph(&mut self, graph: Span, depth: u64) -> Result<()> {
        if depth > MAX_GRAPH_DEPTH {
            let (field, limit) = ("onnx graph nesting", MAX_GRAPH_DEPTH);
            return Err(Error::limit_exceeded(field, depth, limit));
        }
        for field in graph.fields() {
            match self.readable(field)? {
                Field { number: 1, value: Value::Delimited(node) } => self.node(node, depth)?,
                Field { number: 5, value: Value::Delimited(tensor) } => self.tensor(tensor, None)?,
                Field { number: 15, value: Value::Delimited(sparse) } => self.sparse_tensor(sparse, &mut None)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn node(&mut self, node: Span, depth: u64) -> Result<()> {
        let mut output = None;
        for field in node.fields() {
            if let Field { number: 2, value: Value::Delimited(name) } = self.readable(field)? {
                output.get_or_insert(name.bytes);
            }
        }
        for field in node.fields() {
            if let Field { number: 5, value: Value::Delimited(attribute) } = self.readable(field)? {
                self.attribute(attribute, &mut output, depth)?;
            }
        }
        Ok(())
    }

    /// `output` is the node's first output, whose name goes to the first tensor among its attributes. To one only, so
    /// that a long name cannot be multiplied by many tensors.
    fn attribute(&mut self, attribute: Span, output: &mut Option<&[u8]>, depth: u64) -> Result<()> {
        for field in attribute.fields() {
            match self.readable(field)? {
                Field { number: 5 | 10, value: Value::Delimited(tensor) } => self.tensor(tensor, output.take())?,
                Field { number: 6 | 11, value: Value::Delimited(graph) } => {
                    self.graph(graph, depth.saturating_add(1))?;
                }
                Field { number: 22 | 23, value: Value::Delimited(sparse) } => self.sparse_tensor(sparse, output)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// A tensor of the nonzero values, and one of their indices.
    fn sparse_tensor(&mut self, sparse: Span, output: &mut Option<&[u8]>) -> Result<()> {
        for field in sparse.fields() {
            if let Field { number: 1 | 2, value: Value::Delimited(tensor) } = self.readable(field)? {
                self.tensor(tensor, output.take())?;
            }
        }
        Ok(())
    }

    /// `output` names the tensor rather than its own name does: in a `Constant` the latter is optional, free text,
    /// and often the same for all.
    fn tensor(&mut self, tensor: Span, output: Option<&[u8]>) -> Result<()> {
        let mut tensor = TensorProto::parse(tensor).map_err(|malformed| self.malformed(malformed))?;
        if let Some(output) = output.filter(|output| !output.is_empty()) {
            tensor.name = output;
        }
        (self.visit)(tensor)
    }

    fn readable<T>(&self, read: std::result::Result<T, Malformed>) -> Result<T> {
        read.map_err(|malformed| self.malformed(malformed))
    }

    fn malformed(&self, Malformed { offset }: Malformed) -> Error {
        invalid(self.file, format!("malformed protobuf at byte {offset}"))
    }
}

fn invalid(file: &str, reason: impl std::fmt::Display) -> Error {
    Error::invalid("onnx", format!("{file}: {reason}"))
}

/// What a `TensorProto` says about its data, none of it checked.
#[derive(Default)]
struct TensorProto<'a> {
    name: &'a [u8],
    /// At most one more than [`MAX_AXES`].
    dims: Vec<u64>,
    data_type: u64,
    is_segment: bool,
    raw_data: Option<Span<'a>>,
    float_data: Packed<'a>,
    double_data: Packed<'a>,
    /// Present where the data location says so.
    external: Option<External<'a>>,
}

impl<'a> TensorProto<'a> {
    fn parse(tensor: Span<'a>) -> std::result::Result<Self, Malformed> {
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
                (8, Value::Delimited(name)) => proto.name = name.bytes,
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

    fn name(&self) -> Cow<'a, str> {
        if self.name.is_empty() { Cow::Borrowed(UNNAMED) } else { String::from_utf8_lossy(self.name) }
    }

    fn invalid(&self, file: &str, reason: impl std::fmt::Display) -> Error {
        invalid(file, format!("tensor {:?}: {reason}", self.name()))
    }

    /// Where the data lies; nowhere if not as consecutive little-endian elements of a known type.
    fn locate(self, index: usize, file: &str, sources: &Sources) -> Result<Option<TensorLocation>> {
        let Some(dtype) = dtype(self.data_type).filter(|_| !self.is_segment) else {
            return Ok(None);
        };
        let (file_index, offset, bytes) = if let Some(external) = &self.external {
            let expected = self.expected_bytes(file, dtype)?;
            self.locate_external(external, expected, file, sources)?
        } else if let Some(data) = self.inline_data(dtype) {
            let expected = self.expected_bytes(file, dtype)?;
            let bytes = widen(data.bytes.len());
            if bytes != expected {
                return Err(self.size_mismatch(file, dtype, bytes, expected));
            }
            (index, widen(data.offset), bytes)
        } else {
            return Ok(None);
        };
        let (name, shape) = (self.name().into_owned(), Shape(self.dims));
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
        let path = external.path(file).map_err(|why| self.invalid(file, why))?;
        let (index, data, format) = sources.companion(file, &path)?;
        if format == Format::Onnx {
            return Err(self.invalid(file, format!("external data location {path:?} is a model")));
        }
        let number = |key, value| parse_number(key, value).map_err(|why| self.invalid(file, why));
        let offset = number("offset", external.offset)?.unwrap_or(0);
        let bytes = number("length", external.length)?.unwrap_or(expected);
        if bytes != expected {
            return Err(self.invalid(file, format!("{bytes} bytes of external data where {expected} were due")));
        }
        if offset.checked_add(bytes).is_none_or(|end| end > widen(data.len())) {
            let reason = format!("{bytes} bytes at {offset} exceed the {} bytes of {path:?}", data.len());
            return Err(self.invalid(file, reason));
        }
        Ok((index, offset, bytes))
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
struct External<'a> {
    location: Option<&'a [u8]>,
    offset: Option<&'a [u8]>,
    length: Option<&'a [u8]>,
}

impl<'a> External<'a> {
    fn add(&mut self, entry: Span<'a>) -> std::result::Result<(), Malformed> {
        let (mut key, mut value): (&[u8], &[u8]) = (&[], &[]);
        for field in entry.fields() {
            match field? {
                Field { number: 1, value: Value::Delimited(text) } => key = text.bytes,
                Field { number: 2, value: Value::Delimited(text) } => value = text.bytes,
                _ => {}
            }
        }
        match key {
            b"location" => self.location = Some(value),
            b"offset" => self.offset = Some(value),
            b"length" => self.length = Some(value),
            _ => {}
        }
        Ok(())
    }

    /// The data file, relative to the folder of the model named `model`.
    fn path(&self, model: &str) -> std::result::Result<String, String> {
        let location = self.location.ok_or("external data without a location")?;
        let invalid = |why| format!("external data location {:?} {why}", String::from_utf8_lossy(location));
        let location = str::from_utf8(location).map_err(|_| invalid("is not UTF-8"))?;
        let path = relative_path(location).map_err(invalid)?;
        if path == base_name(model) { Err(invalid("is the model itself")) } else { Ok(path) }
    }
}

fn parse_number(key: &str, value: Option<&[u8]>) -> std::result::Result<Option<u64>, String> {
    let Some(value) = value else { return Ok(None) };
    let number = str::from_utf8(value).ok().and_then(|text| text.parse().ok());
    let number = number.ok_or_else(|| format!("external data {key} {:?} is no number", String::from_utf8_lossy(value)));
    number.map(Some)
}

/// Exact: no target has addresses beyond 64 bits.
fn widen(len: usize) -> u64 {
    len as u64
}

#[cfg(test)]
mod tests {
    use super::super::{companions, find_tensors};
    use super::*;

    fn varint(mut value: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        while value >= 0x80 {
            bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        bytes.push(value as u8);
        bytes
    }

    fn delimited(number: u64, content: &[u8]) -> Vec<u8> {
        [varint(number << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
    }

    fn integer(number: u64, value: u64) -> Vec<u8> {
        [varint(number << 3), varint(value)].concat()
    }

    fn model_of(graph: &[u8]) -> Vec<u8> {
        [integer(1, 10), delimited(7, graph)].concat()
    }

    fn model(tensors: &[Vec<u8>]) -> Vec<u8> {
        model_of(&tensors.iter().flat_map(|tensor| delimited(5, tensor)).collect::<Vec<u8>>())
    }

    /// An f32 tensor named `w` with these dimensions and further fields.
    fn tensor(dims: &[u64], fields: &[Vec<u8>]) -> Vec<u8> {
        let dims: Vec<u8> = dims.iter().flat_map(|&dim| integer(1, dim)).collect();
        [dims, integer(2, 1), delimited(8, b"w"), fields.concat()].concat()
    }

    fn external(entries: &[(&str, &str)]) -> Vec<u8> {
        let entry = |(key, value): &(&str, &str)| {
            delimited(13, &[delimited(1, key.as_bytes()), delimited(2, value.as_bytes())].concat())
        };
        [entries.iter().flat_map(entry).collect(), integer(14, 1)].concat()
    }

    fn find(bytes: &[u8]) -> Result<Vec<TensorLocation>> {
        let data = SourceFile { name: "data".to_owned(), bytes: &[0; 20] };
        find_tensors(&[SourceFile { name: "m.onnx".to_owned(), bytes }, data])
    }

    fn reason(tensor: Vec<u8>) -> String {
        find(&model(&[tensor])).unwrap_err().to_string()
    }

    #[test]
    fn data_must_be_as_long_as_the_shape_demands() {
        let raw = |dims: &[u64], len| tensor(dims, &[delimited(9, &vec![0; len])]);
        assert_eq!(find(&model(&[raw(&[2, 3], 24)])).unwrap().len(), 1);
        let expected = "invalid onnx: m.onnx: tensor \"w\": 23 bytes of data where f32 [2, 3] takes 24";
        assert_eq!(reason(raw(&[2, 3], 23)), expected);
        assert!(reason(raw(&[], 0)).contains("0 bytes of data where f32 [] takes 4"));
        assert!(reason(tensor(&[2], &[delimited(4, &[0; 4])])).contains("4 bytes of data"));
        assert!(reason(raw(&[u64::MAX], 4)).contains("negative extent"));
        assert!(reason(raw(&[1 << 40, 1 << 40], 4)).contains("impossible shape"));
        assert!(reason(raw(&[1; 65], 4)).contains("more than 64 axes"));
        assert!(reason(raw(&[1; 10_000], 4)).contains("more than 64 axes"));
    }

    #[test]
    fn reads_packed_dims() {
        let dims = delimited(1, &[varint(300), varint(2)].concat());
        let bytes = model(&[tensor(&[], &[dims, delimited(9, &[0; 2400])])]);
        assert_eq!(find(&bytes).unwrap()[0].shape, Shape(vec![300, 2]));
    }

    #[test]
    fn leaves_out_what_is_not_consecutive() {
        let floats = || delimited(4, &[0; 4]);
        let left_out = [
            tensor(&[2], &[floats(), floats()]),
            tensor(&[2], &[floats(), delimited(3, &[])]),
            tensor(&[2], &[integer(7, 1), integer(7, 2)]),
            tensor(&[2], &[]),
            // float_data of a complex tensor, double_data of a float tensor
            [tensor(&[1], &[delimited(4, &[0; 8])]), integer(2, 14)].concat(),
            tensor(&[1], &[delimited(10, &[0; 8])]),
        ];
        assert_eq!(find(&model(&left_out)).unwrap(), []);
    }

    #[test]
    fn external_data_must_lie_within_its_file() {
        let with = |entries: &[(&str, &str)]| {
            let entries = [&[("location", "data")], entries].concat();
            find(&model(&[tensor(&[2], &[external(&entries)])]))
        };
        for (entries, offset) in [
            (vec![], 0),
            (vec![("offset", "12")], 12),
            (vec![("length", "8"), ("offset", "3")], 3),
            (vec![("checksum", "x"), ("basepath", "y")], 0),
        ] {
            let found = with(&entries).unwrap();
            assert_eq!((found[0].file, found[0].offset, found[0].bytes), (1, offset, 8), "{entries:?}");
        }
        for (entries, why) in [
            (vec![("offset", "13")], "8 bytes at 13 exceed the 20 bytes of \"data\""),
            (vec![("offset", "18446744073709551615")], "exceed the 20 bytes"),
            (vec![("length", "9")], "9 bytes of external data where 8 were due"),
            (vec![("length", "")], "length \"\" is no number"),
            (vec![("offset", "-1")], "offset \"-1\" is no number"),
            (vec![("offset", "99999999999999999999")], "is no number"),
        ] {
            let error = with(&entries).unwrap_err().to_string();
            assert!(error.starts_with("invalid onnx: m.onnx: tensor \"w\": ") && error.contains(why), "{error}");
        }
    }

    #[test]
    fn external_locations_must_be_paths_below_the_folder() {
        for location in ["../x", "/etc/passwd", "a/../../x", "c:\\x", "\\\\host\\x", "", "m.onnx", "./m.onnx", "\0"] {
            let bytes = model(&[tensor(&[2], &[external(&[("location", location)])])]);
            for result in [companions("m.onnx", &bytes).map(drop), find(&bytes).map(drop)] {
                assert!(matches!(result, Err(Error::Invalid { field: "onnx", .. })), "{location:?}");
            }
        }
        assert!(reason(tensor(&[2], &[external(&[])])).contains("without a location"));
    }

    #[test]
    fn external_data_in_another_model_is_refused() {
        let bytes = model(&[tensor(&[2], &[external(&[("location", "other.onnx")])])]);
        let other = model(&[]);
        let files = [("m.onnx", &bytes), ("other.onnx", &other)];
        let files = files.map(|(name, bytes)| SourceFile { name: name.to_owned(), bytes });
        assert!(find_tensors(&files).unwrap_err().to_string().contains("\"other.onnx\" is a model"));
    }

    #[test]
    fn external_entries_without_an_external_location_mean_nothing() {
        let entries = delimited(13, &[delimited(1, b"location"), delimited(2, b"../x")].concat());
        let bytes = model(&[tensor(&[1], &[entries, delimited(9, &[0; 4])])]);
        assert_eq!(companions("m.onnx", &bytes).unwrap(), [""; 0]);
        assert_eq!(find(&bytes).unwrap()[0].file, 0);
    }

    /// A graph with `depth` graphs inside one another below it, the innermost with one tensor.
    fn nested(depth: u64) -> Vec<u8> {
        let mut graph = delimited(5, &tensor(&[], &[delimited(9, &[0; 4])]));
        for _ in 0..depth {
            graph = delimited(1, &delimited(5, &delimited(6, &graph)));
        }
        model_of(&graph)
    }

    #[test]
    fn bounds_the_nesting_of_graphs() {
        assert_eq!(find(&nested(MAX_GRAPH_DEPTH)).unwrap().len(), 1);
        for depth in [MAX_GRAPH_DEPTH + 1, 2000] {
            let bytes = nested(depth);
            for error in [find(&bytes).unwrap_err(), companions("m.onnx", &bytes).unwrap_err()] {
                assert!(error.to_string().contains("(m.onnx)"), "{error}");
                assert!(matches!(error, Error::LimitExceeded { value: 33, limit: 32, .. }));
            }
        }
    }

    #[test]
    fn reads_nodes_with_what_their_subgraphs_mention() {
        let text = |number, text: &str| delimited(number, text.as_bytes());
        let shape = tensor(&[2], &[integer(2, 7), delimited(7, &[varint(3), varint(u64::MAX)].concat())]);
        let constant =
            [text(4, "Constant"), text(2, "shape"), delimited(5, &[text(1, "value"), delimited(5, &shape)].concat())];
        let perm = delimited(5, &[text(1, "perm"), integer(8, 1), integer(8, 0), integer(20, 7)].concat());
        let transpose = [text(4, "Transpose"), text(1, "w"), text(2, "t"), perm];
        let inner = delimited(1, &[text(4, "Add"), text(1, "t"), text(1, "w")].concat());
        let branch = delimited(5, &[text(1, "then_branch"), delimited(6, &inner)].concat());
        let condition = [text(4, "If"), text(1, "c"), text(2, "y"), branch];
        let custom = [text(4, "Odd"), text(7, "com.example"), text(1, ""), text(2, "z")];
        let dims = delimited(2, &[delimited(1, &integer(1, 3)), delimited(1, &text(2, "n"))].concat());
        let info = [text(1, "y"), delimited(2, &delimited(1, &dims))].concat();
        let nodes = [constant.concat(), transpose.concat(), condition.concat(), custom.concat()];
        let graph = [
            nodes.iter().flat_map(|node| delimited(1, node)).collect(),
            delimited(5, &tensor(&[1, 2], &[delimited(9, &[0, 0, 128, 63, 0, 0, 0, 64])])),
            delimited(12, &info),
        ];
        let bytes = [model_of(&graph.concat()), delimited(8, &integer(2, 17))].concat();
        let read = super::super::graph(&[SourceFile { name: "m.onnx".to_owned(), bytes: &bytes }], 0).unwrap();
        let of = |node: &graph::Node| (node.op.clone(), node.inputs.clone(), node.outputs.clone());
        let named = |op: &str, inputs: &[&str], output: &str| {
            (op.to_owned(), inputs.iter().map(|&name| name.to_owned()).collect(), vec![output.to_owned()])
        };
        let expected =
            [named("Transpose", &["w"], "t"), named("If", &["c", "t", "w"], "y"), named("com.example.Odd", &[""], "z")];
        assert_eq!(read.nodes.iter().map(of).collect::<Vec<_>>(), expected);
        assert!(matches!(&read.nodes[0].attributes["perm"], graph::Attribute::Integers(perm) if perm == &[1, 0]));
        assert_eq!(read.constants["shape"].values, Some(vec![3.0, -1.0]));
        assert_eq!(read.constants["w"].values, Some(vec![1.0, 2.0]));
        let (file, offset, len) = read.constants["w"].location.unwrap();
        assert_eq!((file, &bytes[offset as usize..][..len as usize]), (0, &[0, 0, 128, 63, 0, 0, 0, 64][..]));
        assert_eq!((read.outputs, read.ranks["y"], read.opset), (vec!["y".to_owned()], 2, 17));
    }

    #[test]
    fn one_output_name_is_not_given_to_many_tensors() {
        let unnamed = [integer(2, 2), integer(1, 1), delimited(9, &[7])].concat();
        let attribute =
            delimited(5, &[delimited(10, &unnamed), delimited(10, &unnamed), delimited(10, &unnamed)].concat());
        // The attribute comes before the output that names it.
        let node = [attribute, delimited(2, b"out"), delimited(2, b"second")].concat();
        let names: Vec<_> = find(&model_of(&delimited(1, &node))).unwrap().into_iter().map(|t| t.name).collect();
        assert_eq!(names, ["out", "unnamed", "unnamed#2"]);
    }

    #[test]
    fn names_the_file_that_is_not_a_model() {
        let no_graph = integer(1, 10);
        let texts: [&[u8]; 4] = [b"", b"version https://git-lfs.github.com/spec/v1\n", b"<html>", &no_graph];
        for bytes in texts {
            for result in [companions("a/m.onnx", bytes).map(drop), find(bytes).map(drop)] {
                let error = result.unwrap_err();
                assert!(matches!(error, Error::Invalid { field: "onnx", .. }), "{error}");
                assert!(error.to_string().contains("m.onnx: "), "{error}");
            }
        }
    }
}
