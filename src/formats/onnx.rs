//! An ONNX model -> its tensors, in the file itself or in external data files.
//!
//! Tensors are found wherever `onnx.proto` allows one: initializers, dense and sparse, and node attributes, of the
//! main graph, of training graphs, of the subgraphs of `If`, `Loop` and `Scan`, and of functions. Of the ways to
//! store their data, three are consecutive little-endian elements: `raw_data`, packed `float_data` and `double_data`,
//! and external data. The others are varints or strings, and such tensors are left out.
//! Field numbers are those of <https://github.com/onnx/onnx/blob/main/onnx/onnx.proto>.

pub(crate) mod graph;
mod tensor;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use self::tensor::TensorProto;
use super::protobuf::{Field, Span, Value};
use super::window::Window;
use super::{Reading, Sources};
use crate::error::{Error, Result};

/// Deepest subgraph in a subgraph. One level takes three messages, and protobuf readers stop at 100 of them.
const MAX_GRAPH_DEPTH: u64 = 32;

/// Whether the bytes are a `ModelProto` beyond reasonable doubt: `ir_version` first, then fields that a model has,
/// each of its proper kind, and a graph of which the same is true.
pub(super) fn looks_like(file: &Window) -> Result<bool> {
    let mut is_first = true;
    let mut has_graph = false;
    for field in Span::of_file(file).fields() {
        let Some(Field { number, value }) = well_formed(field)? else {
            return Ok(false);
        };
        let is_plausible = match (number, value) {
            (1, Value::Varint(ir_version)) => (1..=255).contains(&ir_version),
            (5, Value::Varint(_)) => true,
            (7, Value::Delimited(graph)) => {
                has_graph = true;
                looks_like_graph(graph)?
            }
            (2 | 3 | 4 | 6 | 8 | 14 | 20 | 25 | 26, Value::Delimited(_)) => true,
            _ => false,
        };
        if !is_plausible || is_first && number != 1 {
            return Ok(false);
        }
        is_first = false;
    }
    Ok(has_graph)
}

fn looks_like_graph(graph: Span) -> Result<bool> {
    for field in graph.fields() {
        if !matches!(well_formed(field)?, Some(Field { number: 1..=16, value: Value::Delimited(_) })) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// None where the bytes are no field, which differs from being unable to read them.
fn well_formed(field: Result<Field>) -> Result<Option<Field>> {
    match field {
        Ok(field) => Ok(Some(field)),
        Err(Error::Invalid { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The external data files that tensors lie in, in the order of their first mention.
pub(super) fn companions(file: &Window) -> Result<Vec<String>> {
    let mut seen = HashSet::new();
    let mut paths = Vec::new();
    walk_tensors(file, &mut |tensor| {
        if let Some(external) = &tensor.external {
            let path = tensor.external_path(external, file.name)?;
            if seen.insert(path.clone()) {
                paths.push(path);
            }
        }
        Ok(())
    })?;
    Ok(paths)
}

/// The tensors of the model with this index, in the order in which it mentions them.
pub(super) fn find_tensors(index: usize, file: &Window, sources: &Sources) -> Result<Reading> {
    let mut tensors = Vec::new();
    walk_tensors(file, &mut |tensor| {
        tensors.extend(tensor.locate(index, file.name, sources)?);
        Ok(())
    })?;
    Ok(tensors.into())
}

fn walk_tensors(file: &Window, visit: &mut dyn FnMut(TensorProto) -> Result<()>) -> Result<()> {
    Walk { visit }.model(Span::of_file(file))
}

/// A walk through all messages that may hold a `TensorProto`. Fields of an unexpected wire type are passed over like
/// unknown ones, as protobuf demands.
struct Walk<'w> {
    visit: &'w mut dyn FnMut(TensorProto) -> Result<()>,
}

impl Walk<'_> {
    fn model(&mut self, model: Span) -> Result<()> {
        let mut has_graph = false;
        for field in model.fields() {
            match field? {
                Field { number: 7, value: Value::Delimited(graph) } => {
                    has_graph = true;
                    self.graph(graph, 0)?;
                }
                Field { number: 20, value: Value::Delimited(training) } => self.training(training)?,
                Field { number: 25, value: Value::Delimited(function) } => self.function(function)?,
                _ => {}
            }
        }
        if has_graph { Ok(()) } else { Err(invalid(model.file.name, "holds no graph")) }
    }

    fn training(&mut self, training: Span) -> Result<()> {
        for field in training.fields() {
            if let Field { number: 1 | 2, value: Value::Delimited(graph) } = field? {
                self.graph(graph, 0)?;
            }
        }
        Ok(())
    }

    fn function(&mut self, function: Span) -> Result<()> {
        for field in function.fields() {
            match field? {
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
            match field? {
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
            if let Field { number: 2, value: Value::Delimited(name) } = field? {
                output.get_or_insert(name);
            }
        }
        for field in node.fields() {
            if let Field { number: 5, value: Value::Delimited(attribute) } = field? {
                self.attribute(attribute, &mut output, depth)?;
            }
        }
        Ok(())
    }

    /// `output` is the node's first output, whose name goes to the first tensor among its attributes. To one only, so
    /// that a long name cannot be multiplied by many tensors.
    fn attribute<'a>(&mut self, attribute: Span<'a>, output: &mut Option<Span<'a>>, depth: u64) -> Result<()> {
        for field in attribute.fields() {
            match field? {
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
    fn sparse_tensor<'a>(&mut self, sparse: Span<'a>, output: &mut Option<Span<'a>>) -> Result<()> {
        for field in sparse.fields() {
            if let Field { number: 1 | 2, value: Value::Delimited(tensor) } = field? {
                self.tensor(tensor, output.take())?;
            }
        }
        Ok(())
    }

    /// `output` names the tensor rather than its own name does: in a `Constant` the latter is optional, free text,
    /// and often the same for all.
    fn tensor<'a>(&mut self, tensor: Span<'a>, output: Option<Span<'a>>) -> Result<()> {
        let mut tensor = TensorProto::parse(tensor)?;
        tensor.name = output.filter(|output| output.bytes() > 0).or(tensor.name);
        (self.visit)(tensor)
    }
}

fn invalid(file: &str, reason: impl std::fmt::Display) -> Error {
    Error::invalid("onnx", format!("{file}: {reason}"))
}
