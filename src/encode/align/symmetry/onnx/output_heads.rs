//! Output heads of language models in graphs, as far as the graph shows them: tables that rows are gathered from and that
//! values are multiplied with.

use std::collections::{HashMap, HashSet};

use crate::formats::onnx::graph::Graph;
use crate::tensor::TensorLocation;

/// The heads, as indices of tensors.
pub fn output_heads(graph: &Graph, tensors: &[TensorLocation]) -> HashSet<usize> {
    // Constants, by the values that they are, in whatever order of axes.
    let mut seen: HashMap<&str, &str> = graph.constants.keys().map(|name| (name.as_str(), name.as_str())).collect();
    let (mut gathered, mut multiplied) = (HashSet::new(), HashSet::new());
    for node in &graph.nodes {
        let constants = node.inputs.iter().map(|input| seen.get(input.as_str()).copied());
        match node.op.as_str() {
            "Cast" | "Identity" | "Transpose" => {
                if let (Some(Some(constant)), Some(output)) = (constants.take(1).next(), node.outputs.first()) {
                    seen.insert(output, constant);
                }
            }
            "Gather" => gathered.extend(constants.take(1).flatten()),
            "Gemm" | "MatMul" => multiplied.extend(constants.take(2).flatten()),
            _ => {}
        }
    }
    let place = |tensor: &TensorLocation| (tensor.file, tensor.offset, tensor.bytes);
    let places: HashMap<_, _> = tensors.iter().enumerate().map(|(index, tensor)| (place(tensor), index)).collect();
    let tied = gathered.intersection(&multiplied).filter_map(|&name| graph.constants[name].location);
    tied.filter_map(|location| places.get(&location).copied()).collect()
}
