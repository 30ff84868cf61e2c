//! An ONNX model -> the nodes of its main graph, its constants, and how many axes its values are said to have.
//!
//! For the encoder's search for symmetries, which must know what consumes a weight. Subgraphs are not followed: a node
//! that holds one takes, besides its own inputs, every value that the subgraph mentions.

use std::collections::HashMap;

use super::super::protobuf::{Field, Malformed, Span, Value};
use super::super::{SourceFile, Sources};
use super::{MAX_GRAPH_DEPTH, TensorProto, invalid};
use crate::error::{Error, Result};
use crate::tensor::DType;

/// Most elements of a constant whose values are read: shapes, axes, scalars.
const MAX_VALUES: u64 = 64;

/// The main graph.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    /// In the order of the file, which ONNX demands to be that of computation.
    pub nodes: Vec<Node>,
    /// Initializers, and tensors of `Constant` nodes, by the names of the values that they give.
    pub constants: HashMap<String, Constant>,
    /// Outputs of the graph.
    pub outputs: Vec<String>,
    /// Number of axes of inputs, outputs and intermediate values, where it is told.
    pub ranks: HashMap<String, usize>,
    /// Operator set of the default domain.
    pub opset: i64,
}

/// An operator.
#[derive(Debug, Default)]
pub(crate) struct Node {
    /// Preceded by its domain and a dot if that is not the default.
    pub op: String,
    /// Empty names are optional inputs left out.
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    pub attributes: HashMap<String, Attribute>,
}

/// What an attribute may tell here.
#[derive(Debug)]
pub(crate) enum Attribute {
    Integer(i64),
    Integers(Vec<i64>),
    Other,
}

/// A tensor known before the model runs.
#[derive(Debug, Clone)]
pub(crate) struct Constant {
    pub dims: Vec<u64>,
    /// File, first byte and number of bytes; absent if it is not stored as consecutive elements.
    pub location: Option<(usize, u64, u64)>,
    /// The elements, if they are few.
    pub values: Option<Vec<f64>>,
}

/// Reads the model with this index.
pub(in crate::formats) fn read(index: usize, sources: &Sources) -> Result<Graph> {
    let file = sources.files.get(index).ok_or_else(|| Error::argument("no such file"))?;
    let mut reader = Reader { index, file, sources, graph: Graph::default() };
    reader.model()?;
    Ok(reader.graph)
}

struct Reader<'a> {
    index: usize,
    file: &'a SourceFile<'a>,
    sources: &'a Sources<'a>,
    graph: Graph,
}

impl<'a> Reader<'a> {
    fn model(&mut self) -> Result<()> {
        for field in Span::of_file(self.file.bytes).fields() {
            match self.readable(field)? {
                Field { number: 7, value: Value::Delimited(graph) } => self.graph(graph)?,
                Field { number: 8, value: Value::Delimited(opset) } => self.opset(opset)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn opset(&mut self, opset: Span) -> Result<()> {
        let (mut domain, mut version) = (String::new(), 0);
        for field in opset.fields() {
            match self.readable(field)? {
                Field { number: 1, value: Value::Delimited(name) } => domain = text(name),
                Field { number: 2, value: Value::Varint(number) } => version = number.cast_signed(),
                _ => {}
            }
        }
        if is_default(&domain) {
            self.graph.opset = version;
        }
        Ok(())
    }

    fn graph(&mut self, graph: Span<'a>) -> Result<()> {
        for field in graph.fields() {
            match self.readable(field)? {
                Field { number: 1, value: Value::Delimited(node) } => self.node(node)?,
                Field { number: 5, value: Value::Delimited(tensor) } => {
                    let (name, constant) = self.constant(tensor)?;
                    self.graph.constants.insert(name, constant);
                }
                Field { number: 11 | 13, value: Value::Delimited(info) } => {
                    self.value_info(info)?;
                }
                Field { number: 12, value: Value::Delimited(info) } => {
                    let name = self.value_info(info)?;
                    self.graph.outputs.push(name);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn node(&mut self, span: Span<'a>) -> Result<()> {
        let mut node = Node::default();
        let mut domain = String::new();
        let mut constant = None;
        for field in span.fields() {
            match self.readable(field)? {
                Field { number: 1, value: Value::Delimited(name) } => node.inputs.push(text(name)),
                Field { number: 2, value: Value::Delimited(name) } => node.outputs.push(text(name)),
                Field { number: 4, value: Value::Delimited(op) } => node.op = text(op),
                Field { number: 5, value: Value::Delimited(attribute) } => {
                    let tensor = self.attribute(attribute, &mut node)?;
                    constant = constant.or(tensor);
                }
                Field { number: 7, value: Value::Delimited(name) } => domain = text(name),
                _ => {}
            }
        }
        if !is_default(&domain) {
            node.op = format!("{domain}.{}", node.op);
        }
        match (constant, node.outputs.first()) {
            (Some(tensor), Some(output)) if node.op == "Constant" => {
                let (_, constant) = self.constant(tensor)?;
                self.graph.constants.insert(output.clone(), constant);
            }
            _ => self.graph.nodes.push(node),
        }
        Ok(())
    }

    /// Adds an attribute to the node; returns its tensor if it holds one.
    fn attribute(&mut self, attribute: Span<'a>, node: &mut Node) -> Result<Option<Span<'a>>> {
        let (mut name, mut value, mut tensor) = (String::new(), Attribute::Other, None);
        let mut integers = Vec::new();
        for field in attribute.fields() {
            match self.readable(field)? {
                Field { number: 1, value: Value::Delimited(text_of) } => name = text(text_of),
                Field { number: 3, value: Value::Varint(integer) } => value = Attribute::Integer(integer.cast_signed()),
                Field { number: 5, value: Value::Delimited(of) } => tensor = Some(of),
                Field { number: 6 | 11, value: Value::Delimited(graph) } => {
                    self.captures(graph, &mut node.inputs, 0)?
                }
                Field { number: 8, value: Value::Varint(integer) } => integers.push(integer.cast_signed()),
                Field { number: 8, value: Value::Delimited(packed) } => {
                    for integer in packed.varints() {
                        integers.push(self.readable(integer)?.cast_signed());
                    }
                }
                _ => {}
            }
        }
        // An empty list cannot be told from other kinds but by its type, and none of the operators we know has one.
        if !integers.is_empty() {
            value = Attribute::Integers(integers);
        }
        node.attributes.insert(name, value);
        Ok(tensor)
    }

    /// Every value that a subgraph mentions, its own among them.
    fn captures(&self, graph: Span<'a>, names: &mut Vec<String>, depth: u64) -> Result<()> {
        if depth > MAX_GRAPH_DEPTH {
            let (field, limit) = ("onnx graph nesting", MAX_GRAPH_DEPTH);
            return Err(Error::limit_exceeded(field, depth, limit));
        }
        for field in graph.fields() {
            match self.readable(field)? {
                Field { number: 1, value: Value::Delimited(node) } => {
                    for field in node.fields() {
                        match self.readable(field)? {
                            Field { number: 1, value: Value::Delimited(name) } => names.push(text(name)),
                            Field { number: 5, value: Value::Delimited(attribute) } => {
                                for field in attribute.fields() {
                                    if let Field { number: 6 | 11, value: Value::Delimited(graph) } =
                                        self.readable(field)?
                                    {
                                        self.captures(graph, names, depth.saturating_add(1))?;
                                    }
                                }
                            }
                            _ => {}
                        }
                    }
                }
                Field { number: 12, value: Value::Delimited(output) } => {
                    for field in output.fields() {
                        if let Field { number: 1, value: Value::Delimited(name) } = self.readable(field)? {
                            names.push(text(name));
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn constant(&self, span: Span<'a>) -> Result<(String, Constant)> {
        let tensor = self.readable(TensorProto::parse(span))?;
        let name = String::from_utf8_lossy(tensor.name).into_owned();
        let dims = tensor.dims.clone();
        let few = dims.iter().try_fold(1u64, |product, &dim| product.checked_mul(dim)).is_some_and(|n| n <= MAX_VALUES);
        let data_type = tensor.data_type;
        let location = tensor.locate(self.index, &self.file.name, self.sources)?;
        let values = match &location {
            Some(location) if few => {
                let bytes = self.sources.files.get(location.file).map_or(&[][..], |file| file.bytes);
                let range = usize::try_from(location.offset).ok().zip(usize::try_from(location.bytes).ok());
                range
                    .and_then(|(first, len)| bytes.get(first..)?.get(..len))
                    .and_then(|bytes| values(bytes, location.dtype))
            }
            None if few => self.varint_values(span, data_type)?,
            _ => None,
        };
        let location = location.map(|location| (location.file, location.offset, location.bytes));
        Ok((name, Constant { dims, location, values }))
    }

    /// Elements in `int32_data` or `int64_data`.
    fn varint_values(&self, tensor: Span, data_type: u64) -> Result<Option<Vec<f64>>> {
        let number_of_data = match data_type {
            6 => 5,
            7 => 7,
            _ => return Ok(None),
        };
        let mut values = Vec::new();
        for field in tensor.fields() {
            match self.readable(field)? {
                Field { number, value: Value::Varint(value) } if number == number_of_data => {
                    values.push(value.cast_signed() as f64);
                }
                Field { number, value: Value::Delimited(packed) } if number == number_of_data => {
                    for value in packed.varints() {
                        values.push(self.readable(value)?.cast_signed() as f64);
                    }
                }
                _ => {}
            }
        }
        Ok(Some(values))
    }

    /// Notes how many axes a value has; returns its name.
    fn value_info(&mut self, info: Span) -> Result<String> {
        let mut name = String::new();
        let mut rank = None;
        for field in info.fields() {
            match self.readable(field)? {
                Field { number: 1, value: Value::Delimited(of) } => name = text(of),
                Field { number: 2, value: Value::Delimited(of) } => rank = self.rank(of)?,
                _ => {}
            }
        }
        if let Some(rank) = rank {
            self.graph.ranks.insert(name.clone(), rank);
        }
        Ok(name)
    }

    /// The number of axes in a `TypeProto`, if it is a tensor's and has a shape.
    fn rank(&self, type_of: Span) -> Result<Option<usize>> {
        let mut rank = None;
        for field in type_of.fields() {
            let Field { number: 1, value: Value::Delimited(tensor) } = self.readable(field)? else { continue };
            for field in tensor.fields() {
                let Field { number: 2, value: Value::Delimited(shape) } = self.readable(field)? else { continue };
                let mut axes = 0usize;
                for field in shape.fields() {
                    if let Field { number: 1, .. } = self.readable(field)? {
                        axes = axes.saturating_add(1);
                    }
                }
                rank = Some(axes);
            }
        }
        Ok(rank)
    }

    fn readable<T>(&self, read: std::result::Result<T, Malformed>) -> Result<T> {
        read.map_err(|Malformed { offset }| invalid(&self.file.name, format!("malformed protobuf at byte {offset}")))
    }
}

fn text(span: Span) -> String {
    String::from_utf8_lossy(span.bytes).into_owned()
}

fn is_default(domain: &str) -> bool {
    matches!(domain, "" | "ai.onnx")
}

fn values(bytes: &[u8], dtype: DType) -> Option<Vec<f64>> {
    Some(match dtype {
        DType::F32 => bytes.as_chunks().0.iter().map(|&element| f64::from(f32::from_le_bytes(element))).collect(),
        DType::I32 => bytes.as_chunks().0.iter().map(|&element| f64::from(i32::from_le_bytes(element))).collect(),
        DType::I64 => bytes.as_chunks().0.iter().map(|&element| i64::from_le_bytes(element) as f64).collect(),
        _ => return None,
    })
}
