//! Model files -> groups of units that may change places without changing what the model computes.
//!
//! A unit is a hidden neuron, an attention head, a channel. Which ranges of which tensors belong to a group's units
//! follows from an ONNX graph (`onnx`) or, where a file holds names only, from the layouts of well-known models
//! (`layouts`). Whatever is not understood for certain is left out. Both tell output heads of language models as well.

mod axes;
mod group;
mod layouts;
mod onnx;
#[cfg(test)]
mod tests;

use std::collections::HashSet;

use crate::error::{Error, Result};
use crate::formats::onnx::graph::Graph;
use crate::formats::{self, Format, SourceFile};
use crate::tensor::TensorLocation;

pub use group::{Group, Member};

/// The groups of all files. `tensors` are those of `files`, in any order. A `config.json` among the files tells of heads,
/// which shapes cannot.
///
/// # Errors
/// `Io` if a file cannot be read.
pub fn discover(files: &[SourceFile], tensors: &[TensorLocation]) -> Result<Vec<Group>> {
    let exclusive = exclusive(tensors);
    let mut groups = layouts::discover(files, tensors)?;
    for graph in graphs(files)? {
        groups.extend(onnx::discover(&graph, tensors));
    }
    groups.retain(|group| {
        let fits = |member: &Member| exclusive[member.tensor] && member.fits(group.units, &tensors[member.tensor]);
        group.units >= 2 && group.members.len() >= 2 && group.members.iter().all(fits)
    });
    Ok(groups)
}

/// The output heads of language models, whether tokens are looked up in them too or not. `tensors` are those of `files`,
/// in any order.
///
/// # Errors
/// `Io` if a file cannot be read.
pub fn output_heads(files: &[SourceFile], tensors: &[TensorLocation]) -> Result<HashSet<usize>> {
    let mut heads: HashSet<usize> = layouts::output_head(files, tensors)?.into_iter().collect();
    for graph in graphs(files)? {
        heads.extend(onnx::output_heads(&graph, tensors));
    }
    Ok(heads)
}

/// The graphs of all ONNX files.
fn graphs(files: &[SourceFile]) -> Result<Vec<Graph>> {
    let mut graphs = Vec::new();
    for (index, file) in files.iter().enumerate() {
        if formats::detect(&file.name, file.source)? == Format::Onnx {
            match formats::graph(files, index) {
                Ok(graph) => graphs.push(graph),
                Err(error @ Error::Io { .. }) => return Err(error),
                // A model that is damaged was found out before; here nothing is known of it.
                Err(_) => {}
            }
        }
    }
    Ok(graphs)
}

/// For each tensor, whether no other shares its bytes.
fn exclusive(tensors: &[TensorLocation]) -> Vec<bool> {
    let mut order: Vec<usize> = (0..tensors.len()).filter(|&index| tensors[index].bytes > 0).collect();
    order.sort_by_key(|&index| (tensors[index].file, tensors[index].offset));
    let mut exclusive = vec![true; tensors.len()];
    // The tensor that reaches furthest so far.
    let mut furthest: Option<usize> = None;
    for index in order {
        let tensor = &tensors[index];
        let end = tensor.offset.saturating_add(tensor.bytes);
        if let Some(earlier) = furthest.filter(|&earlier| tensors[earlier].file == tensor.file) {
            let reach = tensors[earlier].offset.saturating_add(tensors[earlier].bytes);
            if tensor.offset < reach {
                (exclusive[earlier], exclusive[index]) = (false, false);
            }
            if end <= reach {
                continue;
            }
        }
        furthest = Some(index);
    }
    exclusive
}
