//! An ONNX model -> the nodes of its main graph, its constants, and how many axes its values are said to have.
//!
//! For the encoder's search for symmetries, which must know what consumes a weight. Subgraphs are not followed: a node
//! that holds one takes, besides its own inputs, every value that the subgraph mentions.

use std::collections::HashMap;

use super::super::Sources;
use super::super::protobuf::{Field, Span, Value};
use super::super::window::Window;
use super::{MAX_GRAPH_DEPTH, TensorProto};
use crate::error::{Error, Result};
use crate::source::read_range;
use crate::tensor::{DType, TensorLocation};

/// Most elements of a constant whose values are read: shapes, axes, scalars.
const MAX_VALUES: usize = 64;

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
    let mut reader = Reader { index, name: &file.name, sources, graph: Graph::default() };
    reader.model(Span::of_file(&Window::of(file)))?;
    Ok(reader.graph)
}

struct Reader<'a> {
    index: usize,
    name: &'a str,
    sources: &'a Sources<'a>,
    graph: Graph,
}

impl Reader<'_> {
    fn model(&mut self, model: Span) -> Result<()> {
        for field in model.fields() {
            match field? {
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
            match field? {
                Field { number: 1, value: Value::Delimited(name) } => domain = name.text()?,
                Field { number: 2, value: Value::Varint(number) } => version = number.cast_signed(),
                _ => {}
            }
        }
        if is_default(&domain) {
            self.graph.opset = version;
        }
        Ok(())
    }

    fn graph(&mut self, graph: Span) -> Result<()> {
        for field in graph.fields() {
            match field? {
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

    fn node(&mut self, span: Span) -> Result<()> {
        let mut node = Node::default();
        let mut domain = String::new();
        let mut constant = None;
        for field in span.fields() {
            match field? {
                Field { number: 1, value: Value::Delimited(name) } => node.inputs.push(name.text()?),
                Field { number: 2, value: Value::Delimited(name) } => node.outputs.push(name.text()?),
                Field { number: 4, value: Value::Delimited(op) } => node.op = op.text()?,
                Field { number: 5, value: Value::Delimited(attribute) } => {
                    let tensor = self.attribute(attribute, &mut node)?;
                    constant = constant.or(tensor);
                }
                Field { number: 7, value: Value::Delimited(name) } => domain = name.text()?,
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
    fn attribute<'a>(&mut self, attribute: Span<'a>, node: &mut Node) -> Result<Option<Span<'a>>> {
        let (mut name, mut value, mut tensor) = (String::new(), Attribute::Other, None);
        let mut integers = Vec::new();
        for field in attribute.fields() {
            match field? {
                Field { number: 1, value: Value::Delimited(text_of) } => name = text_of.text()?,
                Field { number: 3, value: Value::Varint(integer) } => value = Attribute::Integer(integer.cast_signed()),
                Field { number: 5, value: Value::Delimited(of) } => tensor = Some(of),
                Field { number: 6 | 11, value: Value::Delimited(graph) } => {
                    captures(graph, &mut node.inputs, 0)?;
                }
                Field { number: 8, value: Value::Varint(integer) } => integers.push(integer.cast_signed()),
                Field { number: 8, value: Value::Delimited(packed) } => {
                    for integer in packed.varints() {
                        integers.push(integer?.cast_signed());
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

    fn constant(&self, span: Span) -> Result<(String, Constant)> {
        let tensor = TensorProto::parse(span)?;
        let name = tensor.name.map_or_else(|| Ok(String::new()), Span::text)?;
        let dims = tensor.dims.clone();
        let few = dims
            .iter()
            .try_fold(1u64, |product, &dim| product.checked_mul(dim))
            .is_some_and(|n| n <= MAX_VALUES as u64);
        let data_type = tensor.data_type;
        let location = tensor.locate(self.index, self.name, self.sources)?;
        let values = match &location {
            Some(location) if few => self.values(location)?,
            None if few => varint_values(span, data_type)?,
            _ => None,
        };
        let location = location.map(|location| (location.file, location.offset, location.bytes));
        Ok((name, Constant { dims, location, values }))
    }

    fn values(&self, location: &TensorLocation) -> Result<Option<Vec<f64>>> {
        let Some(file) = self.sources.files.get(location.file) else { return Ok(None) };
        let bytes = read_range(file.source, location.offset..location.offset.saturating_add(location.bytes))?;
        Ok(values(&bytes, location.dtype))
    }

    /// Notes how many axes a value has; returns its name.
    fn value_info(&mut self, info: Span) -> Result<String> {
        let mut name = String::new();
        let mut rank = None;
        for field in info.fields() {
            match field? {
                Field { number: 1, value: Value::Delimited(of) } => name = of.text()?,
                Field { number: 2, value: Value::Delimited(of) } => rank = rank_of(of)?,
                _ => {}
            }
        }
        if let Some(rank) = rank {
            self.graph.ranks.insert(name.clone(), rank);
        }
        Ok(name)
    }
}

/// Every value that a subgraph mentions, its own among them.
fn captures(graph: Span, names: &mut Vec<String>, depth: u64) -> Result<()> {
    if depth > MAX_GRAPH_DEPTH {
        let (field, limit) = ("onnx graph nesting", MAX_GRAPH_DEPTH);
        return Err(Error::limit_exceeded(field, depth, limit));
    }
    for field in graph.fields() {
        match field? {
            Field { number: 1, value: Value::Delimited(node) } => node_captures(node, names, depth)?,
            Field { number: 12, value: Value::Delimited(output) } => {
                for field in output.fields() {
                    if let Field { number: 1, value: Value::Delimited(name) } = field? {
                        names.push(name.text()?);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The inputs of a subgraph's node, and what its own subgraphs mention.
fn node_captures(node: Span, names: &mut Vec<String>, depth: u64) -> Result<()> {
    for field in node.fields() {
        match field? {
            Field { number: 1, value: Value::Delimited(name) } => names.push(name.text()?),
            Field { number: 5, value: Value::Delimited(attribute) } => {
                for field in attribute.fields() {
                    if let Field { number: 6 | 11, value: Value::Delimited(graph) } = field? {
                        captures(graph, names, depth.saturating_add(1))?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Elements in `int32_data` or `int64_data`, if there are no more than expected.
fn varint_values(tensor: Span, data_type: u64) -> Result<Option<Vec<f64>>> {
    let number_of_data = match data_type {
        6 => 5,
        7 => 7,
        _ => return Ok(None),
    };
    let mut values = Vec::new();
    for field in tensor.fields() {
        match field? {
            Field { number, value: Value::Varint(value) } if number == number_of_data => {
                values.push(value.cast_signed() as f64);
            }
            Field { number, value: Value::Delimited(packed) } if number == number_of_data => {
                for value in packed.varints().take(MAX_VALUES.saturating_add(1)) {
                    values.push(value?.cast_signed() as f64);
                }
            }
            _ => {}
        }
        if values.len() > MAX_VALUES {
            return Ok(None);
        }
    }
    Ok(Some(values))
}

/// The number of axes in a `TypeProto`, if it is a tensor's and has a shape.
fn rank_of(type_of: Span) -> Result<Option<usize>> {
    let mut rank = None;
    for field in type_of.fields() {
        let Field { number: 1, value: Value::Delimited(tensor) } = field? else { continue };
        for field in tensor.fields() {
            let Field { number: 2, value: Value::Delimited(shape) } = field? else { continue };
            let mut axes = 0usize;
            for field in shape.fields() {
                if let Field { number: 1, .. } = field? {
                    axes = axes.saturating_add(1);
                }
            }
            rank = Some(axes);
        }
    }
    Ok(rank)
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
