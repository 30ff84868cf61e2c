//! An ONNX graph -> groups of units.
//!
//! Every operator says which axes of its inputs and outputs count the same units (`axes`). An operator that is not
//! understood pins all axes that it touches, and so do the outputs of the graph. What is left is a symmetry by
//! construction, weights that are used several times included: all axes of one factor may be permuted at once.

mod elementwise;
mod operators;
mod output_heads;
mod products;
mod shapes;
mod vectors;
mod walk;

use std::collections::{BTreeMap, HashMap};

use super::axes::Factor;
use super::group::{Group, Member};
use crate::formats::onnx::graph::{Constant, Graph};
use crate::tensor::TensorLocation;
use walk::{Axes, Walk};

pub use output_heads::output_heads;

/// The groups of one graph.
pub fn discover(graph: &Graph, tensors: &[TensorLocation]) -> Vec<Group> {
    let mut walk = Walk::new(graph);
    let mut constants: Vec<(&String, &Constant)> = graph.constants.iter().collect();
    constants.sort_by_key(|(name, _)| *name);
    let constants: Vec<(&Constant, Axes)> =
        constants.into_iter().map(|(name, constant)| (constant, walk.add_constant(name, constant))).collect();
    for node in &graph.nodes {
        walk.node(node);
    }
    for output in &graph.outputs {
        let value = walk.value(output);
        walk.pin(&value);
    }
    let places: HashMap<_, _> =
        tensors.iter().enumerate().map(|(index, tensor)| ((tensor.file, tensor.offset, tensor.bytes), index)).collect();
    let mut members: BTreeMap<Factor, Vec<(Option<Member>, usize)>> = BTreeMap::new();
    for (constant, value) in constants {
        let tensor = constant.location.and_then(|location| places.get(&location));
        for (axis, (factors, &extent)) in value.axes.iter().zip(&constant.dims).enumerate() {
            for (factor, units, member) in walk.members(factors, extent) {
                let member = tensor.zip(member).map(|(&tensor, member)| Member { tensor, axis, ..member });
                members.entry(factor).or_default().push((member, units));
            }
        }
    }
    let mut groups: Vec<Group> = Vec::new();
    for found in members.into_values() {
        let units = found.iter().map(|&(_, units)| units).max().unwrap_or(0);
        // One that cannot be permuted keeps all from being so.
        let Some(mut members) = found.into_iter().map(|(member, _)| member).collect::<Option<Vec<_>>>() else {
            continue;
        };
        members.sort();
        let role = role(&members, tensors);
        groups.push(Group { role, layer: 0, head: None, units, members });
    }
    groups.sort_by(|a, b| a.members.cmp(&b.members));
    let mut layers: HashMap<String, usize> = HashMap::new();
    for group in &mut groups {
        let layer = layers.entry(group.role.clone()).or_default();
        group.layer = *layer;
        *layer += 1;
    }
    groups
}

/// Names in a graph say little, so a role is what its members look like: `16x3x3x3@0` is axis 0 of such a tensor, and
/// where units repeat or are longer than one element, `120x360@1:3:15` tells how often and how long.
fn role(members: &[Member], tensors: &[TensorLocation]) -> String {
    let mut looks: BTreeMap<String, usize> = BTreeMap::new();
    for Member { tensor, axis, repeats, unit_len, .. } in members {
        let shape: Vec<String> = tensors[*tensor].shape.0.iter().map(u64::to_string).collect();
        let range = if (*repeats, *unit_len) == (1, 1) { String::new() } else { format!(":{repeats}:{unit_len}") };
        *looks.entry(format!("{}@{axis}{range}", shape.join("x"))).or_default() += 1;
    }
    let counted = looks.into_iter().map(|(look, count)| if count == 1 { look } else { format!("{count} {look}") });
    counted.collect::<Vec<_>>().join(", ")
}
