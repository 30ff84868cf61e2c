//! An ONNX graph -> groups of units.
//!
//! Every operator says which axes of its inputs and outputs count the same units (`axes`). An operator that is not
//! understood pins all axes that it touches, and so do the outputs of the graph. What is left is a symmetry by
//! construction, weights that are used several times included: all axes of one factor may be permuted at once.

use std::collections::{BTreeMap, HashMap};

use super::axes::{Factor, Factors};
use super::{Group, Member};
use crate::formats::onnx::graph::{Attribute, Constant, Graph, Node};
use crate::tensor::TensorLocation;

/// Operators that act on each element by itself, or on each row of an axis whatever its order.
const UNARY: [&str; 35] = [
    "Abs",
    "Cast",
    "Ceil",
    "Celu",
    "Cos",
    "Dropout",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyRelu",
    "Log",
    "LogSoftmax",
    "Mish",
    "Neg",
    "Not",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Sigmoid",
    "Sign",
    "Sin",
    "Softmax",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Tanh",
    "ThresholdedRelu",
    "com.microsoft.Gelu",
    "com.microsoft.QuickGelu",
];
/// Operators that act on each element of broadcast inputs.
const BROADCAST: [&str; 24] = [
    "Add",
    "And",
    "Clip",
    "Div",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Or",
    "PRelu",
    "Pow",
    "Sub",
    "Sum",
    "Where",
    "Xor",
    "com.microsoft.BiasGelu",
    "com.microsoft.FastGelu",
    "BitShift",
];
const REDUCE: [&str; 10] = [
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
];
const POOL: [&str; 6] = ["AveragePool", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "LpPool", "MaxPool"];

/// The groups of one graph.
pub(super) fn discover(graph: &Graph, tensors: &[TensorLocation]) -> Vec<Group> {
    let mut walk = Walk { graph, factors: Factors::default(), values: HashMap::new(), vectors: HashMap::new() };
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

/// The axes of a value, by their distance from the last: where the number of axes is unknown, the first are missing.
#[derive(Debug, Clone, Default)]
struct Axes {
    axes: Vec<Vec<Factor>>,
    is_whole: bool,
}

/// An element of a shape.
#[derive(Debug, Clone)]
enum Extent {
    Known(i64),
    /// As long as this axis.
    Of(Vec<Factor>),
    Unknown,
}

struct Walk<'g> {
    graph: &'g Graph,
    factors: Factors,
    values: HashMap<String, Axes>,
    /// Values that are shapes, or parts of them.
    vectors: HashMap<String, Vec<Extent>>,
}

impl Walk<'_> {
    fn add_constant(&mut self, name: &str, constant: &Constant) -> Axes {
        let axes = constant.dims.iter().map(|&extent| self.factors.axis(Some(extent))).collect();
        let value = Axes { axes, is_whole: true };
        self.values.insert(name.to_owned(), value.clone());
        if let Some(values) = constant.values.as_ref().filter(|_| constant.dims.len() <= 1) {
            self.vectors.insert(name.to_owned(), values.iter().map(|&value| Extent::Known(value as i64)).collect());
        }
        value
    }

    /// What is known of a value; of one that nothing was said of, its rank at most.
    fn value(&mut self, name: &str) -> Axes {
        if let Some(value) = self.values.get(name) {
            return value.clone();
        }
        let value = self.opaque(self.graph.ranks.get(name).copied());
        self.values.insert(name.to_owned(), value.clone());
        value
    }

    fn opaque(&mut self, rank: Option<usize>) -> Axes {
        let axes = (0..rank.unwrap_or(0)).map(|_| self.factors.pinned()).collect();
        Axes { axes, is_whole: rank.is_some() }
    }

    fn pin(&mut self, value: &Axes) {
        value.axes.iter().for_each(|axis| self.factors.pin(axis));
    }

    /// The axis that is the `distance`th from the end, counted from 1.
    fn nth_last(&mut self, value: &Axes, distance: usize) -> Vec<Factor> {
        let axis = value.axes.len().checked_sub(distance).map(|index| value.axes[index].clone());
        axis.unwrap_or_else(|| if value.is_whole { Vec::new() } else { self.factors.pinned() })
    }

    /// Broadcasts values against one another, aligned at their last axes.
    fn broadcast(&mut self, values: &[Axes]) -> Axes {
        let len = values.iter().map(|value| value.axes.len()).max().unwrap_or(0);
        let mut axes = Vec::new();
        for distance in (1..=len).rev() {
            let mut all: Vec<Factor> = Vec::new();
            for value in values {
                let axis = self.nth_last(value, distance);
                if self.factors.resolve(&all).is_empty() {
                    all = axis;
                } else if !self.factors.resolve(&axis).is_empty() {
                    self.factors.unite(&all, &axis);
                }
            }
            axes.push(all);
        }
        Axes { axes, is_whole: values.iter().all(|value| value.is_whole) }
    }

    fn node(&mut self, node: &Node) {
        let outputs = match self.vector(node) {
            Some((vector, rank)) => {
                if node.op != "Shape" {
                    self.pin_inputs(node);
                }
                node.outputs.first().map(|output| self.vectors.insert(output.clone(), vector));
                vec![self.opaque(Some(rank))]
            }
            None => self.outputs(node).unwrap_or_else(|| {
                self.pin_inputs(node);
                Vec::new()
            }),
        };
        let mut outputs = outputs.into_iter();
        for name in &node.outputs {
            let value = outputs.next().unwrap_or_else(|| self.opaque(self.graph.ranks.get(name).copied()));
            self.values.insert(name.clone(), value);
        }
    }

    fn pin_inputs(&mut self, node: &Node) {
        for input in node.inputs.iter().filter(|name| !name.is_empty()) {
            let value = self.value(input);
            self.pin(&value);
        }
    }

    /// The axes of a node's outputs, or nothing where it is not understood.
    fn outputs(&mut self, node: &Node) -> Option<Vec<Axes>> {
        let inputs: Vec<Axes> = node.inputs.iter().map(|name| self.value(name)).collect();
        let first = inputs.first()?.clone();
        Some(vec![match node.op.as_str() {
            op if UNARY.contains(&op) => {
                inputs[1..].iter().for_each(|value| self.pin(value));
                first
            }
            op if BROADCAST.contains(&op) => {
                let given: Vec<Axes> = node
                    .inputs
                    .iter()
                    .zip(inputs)
                    .filter(|(name, _)| !name.is_empty())
                    .map(|(_, value)| value)
                    .collect();
                self.broadcast(&given)
            }
            op if REDUCE.contains(&op) => self.reduce(node, &first)?,
            op if POOL.contains(&op) => self.channels_of(&first, 2)?,
            "MatMul" => self.matmul(&first, inputs.get(1)?)?,
            "QuantizeLinear" | "DequantizeLinear" => {
                let axis = integer(node, "axis").unwrap_or(1);
                if integer(node, "block_size").unwrap_or(0) != 0 {
                    return None;
                }
                for parameter in &inputs[1..] {
                    match &parameter.axes[..] {
                        [] if parameter.is_whole => {}
                        [along] if parameter.is_whole => {
                            let axis = index(axis, first.is_whole.then_some(first.axes.len())?);
                            // A vector of one element counts for all.
                            if !self.factors.resolve(along).is_empty() {
                                self.factors.unite(&first.axes[axis?], along);
                            }
                        }
                        _ => return None,
                    }
                }
                first
            }
            "Gemm" => self.gemm(node, &inputs)?,
            "Conv" => self.conv(node, &inputs)?,
            "ConvTranspose" => self.conv_transpose(node, &inputs)?,
            "BatchNormalization" | "InstanceNormalization" => {
                let channels = first.axes.get(1).filter(|_| first.is_whole)?.clone();
                for parameter in &inputs[1..] {
                    self.factors.unite(&channels, parameter.axes.first()?);
                }
                first
            }
            "LayerNormalization" => {
                let normalized = self.broadcast(&inputs);
                (normalized.axes.len() == first.axes.len()).then_some(first)?
            }
            "Transpose" => {
                let rank = first.is_whole.then_some(first.axes.len())?;
                let reversed: Vec<i64> = (0..rank as i64).rev().collect();
                let order = integers(node, "perm").unwrap_or(&reversed);
                let axes = order.iter().map(|&axis| first.axes.get(usize::try_from(axis).ok()?).cloned());
                Axes { axes: axes.collect::<Option<Vec<_>>>().filter(|axes| axes.len() == rank)?, is_whole: true }
            }
            "Reshape" => {
                if integer(node, "allowzero").unwrap_or(0) != 0 {
                    return None;
                }
                let target = self.vectors.get(node.inputs.get(1)?)?.clone();
                self.reshape(&first, &target)?
            }
            "Flatten" => {
                let axis = index(integer(node, "axis").unwrap_or(1), first.is_whole.then_some(first.axes.len())?)?;
                let (outer, inner) = first.axes.split_at(axis);
                Axes { axes: vec![outer.concat(), inner.concat()], is_whole: true }
            }
            "Squeeze" => {
                let rank = first.is_whole.then_some(first.axes.len())?;
                let dropped = self.axes_of(node, 1)?.into_iter().map(|axis| index(axis, rank));
                let dropped = dropped.collect::<Option<Vec<_>>>()?;
                let kept = (0..rank).filter(|axis| !dropped.contains(axis));
                let kept = Axes { axes: kept.map(|axis| first.axes[axis].clone()).collect(), is_whole: true };
                dropped.iter().for_each(|&axis| self.factors.pin(&first.axes[axis]));
                kept
            }
            "Unsqueeze" => {
                let added = self.axes_of(node, 1)?;
                let rank = first.is_whole.then_some(first.axes.len())? + added.len();
                let added = added.into_iter().map(|axis| index(axis, rank)).collect::<Option<Vec<_>>>()?;
                let mut rest = first.axes.into_iter();
                let axes = (0..rank).map(|axis| if added.contains(&axis) { Some(Vec::new()) } else { rest.next() });
                Axes { axes: axes.collect::<Option<_>>()?, is_whole: true }
            }
            "Slice" => {
                let rank = first.is_whole.then_some(first.axes.len())?;
                let starts = self.vectors.get(node.inputs.get(1).unwrap_or(&String::new())).map(Vec::len);
                let count = integers(node, "starts").map(<[i64]>::len).or(starts)?;
                let sliced = match (self.axes_of(node, 3), node.inputs.get(3)) {
                    (Some(axes), _) => axes,
                    (None, Some(name)) if !name.is_empty() => return None,
                    _ => (0..count as i64).collect(),
                };
                self.cut_axes(first, &sliced.into_iter().map(|axis| index(axis, rank)).collect::<Option<Vec<_>>>()?)
            }
            "Split" => {
                let rank = first.is_whole.then_some(first.axes.len())?;
                let part = self.cut_axes(first, &[index(integer(node, "axis").unwrap_or(0), rank)?]);
                return Some(node.outputs.iter().map(|_| self.renewed(&part)).collect());
            }
            "Concat" => {
                let rank = first.is_whole.then_some(first.axes.len())?;
                let axis = index(integer(node, "axis")?, rank)?;
                if inputs.iter().any(|value| !value.is_whole || value.axes.len() != rank) {
                    return None;
                }
                let parts: Vec<Axes> = inputs.into_iter().map(|value| self.cut_axes(value, &[axis])).collect();
                let mut all = parts[0].clone();
                for part in &parts[1..] {
                    for (other, _) in (0..rank).zip(&part.axes).filter(|&(other, _)| other != axis) {
                        self.factors.unite(&all.axes[other], &part.axes[other]);
                    }
                }
                all.axes[axis] = self.factors.pinned();
                all
            }
            "Gather" => {
                let indices = inputs.get(1)?.clone();
                let rank = first.is_whole.then_some(first.axes.len())?;
                let axis = index(integer(node, "axis").unwrap_or(0), rank)?;
                self.pin(&indices);
                self.factors.pin(&first.axes[axis]);
                let indexed = indices.is_whole.then_some(indices.axes.len())?;
                let mut axes = first.axes;
                axes.splice(axis..=axis, (0..indexed).map(|_| self.factors.pinned()));
                Axes { axes, is_whole: true }
            }
            "Resize" | "Upsample" if !node.attributes.contains_key("axes") => {
                let scales = node.inputs.get(if node.op == "Resize" && inputs.len() > 2 { 2 } else { 1 })?;
                let scales = self.graph.constants.get(scales)?.values.as_ref()?;
                let rank = first.is_whole.then_some(first.axes.len())?;
                let scaled: Vec<usize> = (0..rank).filter(|&axis| scales.get(axis) != Some(&1.0)).collect();
                inputs[1..].iter().for_each(|value| self.pin(value));
                self.cut_axes(first, &scaled)
            }
            _ => return None,
        }])
    }

    /// Axes whose elements are no longer all there, or are others: pinned, and of unknown extent.
    fn cut_axes(&mut self, mut value: Axes, axes: &[usize]) -> Axes {
        for &axis in axes {
            self.factors.pin(&value.axes[axis]);
            value.axes[axis] = self.factors.pinned();
        }
        value
    }

    /// The same value, with unknown axes of its own where extents are unknown.
    fn renewed(&mut self, value: &Axes) -> Axes {
        let mut renewed = value.clone();
        for axis in &mut renewed.axes {
            if self.factors.extent(axis).is_none() {
                self.factors.pin(axis);
                *axis = self.factors.pinned();
            }
        }
        renewed
    }

    /// The first `kept` axes, and unknown ones behind them.
    fn channels_of(&mut self, value: &Axes, kept: usize) -> Option<Axes> {
        let rank = value.is_whole.then_some(value.axes.len()).filter(|&rank| rank >= kept)?;
        Some(self.cut_axes(value.clone(), &(kept..rank).collect::<Vec<_>>()))
    }

    fn reduce(&mut self, node: &Node, value: &Axes) -> Option<Axes> {
        let rank = value.is_whole.then_some(value.axes.len())?;
        let all: Vec<i64> = (0..rank as i64).collect();
        let reduced = match node.inputs.get(1).filter(|name| !name.is_empty()) {
            Some(_) => self.axes_of(node, 1)?,
            None => integers(node, "axes").map_or(all, <[i64]>::to_vec),
        };
        // An empty list means all axes or none.
        let reduced = reduced.into_iter().map(|axis| index(axis, rank)).collect::<Option<Vec<_>>>()?;
        if reduced.is_empty() {
            return None;
        }
        let keeps = integer(node, "keepdims").unwrap_or(1) != 0;
        let axes = value.axes.iter().enumerate().filter(|(axis, _)| keeps || !reduced.contains(axis));
        let axes = axes.map(|(axis, factors)| if reduced.contains(&axis) { Vec::new() } else { factors.clone() });
        Some(Axes { axes: axes.collect(), is_whole: true })
    }

    fn matmul(&mut self, a: &Axes, b: &Axes) -> Option<Axes> {
        let is_vector = |value: &Axes| value.is_whole && value.axes.len() < 2;
        if is_vector(a) || is_vector(b) {
            return None;
        }
        let contracted = [self.nth_last(a, 1), self.nth_last(b, 2)];
        self.factors.unite(&contracted[0], &contracted[1]);
        let (row, column) = (self.nth_last(a, 2), self.nth_last(b, 1));
        let outer =
            |value: &Axes| Axes { axes: value.axes[..value.axes.len().saturating_sub(2)].to_vec(), ..value.clone() };
        let mut product = self.broadcast(&[outer(a), outer(b)]);
        // A value of unknown rank may have one axis only, and then the product has no rows.
        if !product.is_whole {
            product.axes.iter().for_each(|axis| self.factors.pin(axis));
            self.factors.pin(&row);
            return Some(Axes { axes: vec![column], is_whole: false });
        }
        product.axes.extend([row, column]);
        Some(product)
    }

    fn gemm(&mut self, node: &Node, inputs: &[Axes]) -> Option<Axes> {
        let [a, b] = [inputs.first()?, inputs.get(1)?];
        if [a, b].iter().any(|value| !value.is_whole || value.axes.len() != 2) {
            return None;
        }
        let is_transposed = |name| integer(node, name).unwrap_or(0) != 0;
        let turn = |value: &Axes, turned: bool| {
            let [outer, inner] = [value.axes[0].clone(), value.axes[1].clone()];
            if turned { [inner, outer] } else { [outer, inner] }
        };
        let [row, contracted] = turn(a, is_transposed("transA"));
        let [also, column] = turn(b, is_transposed("transB"));
        self.factors.unite(&contracted, &also);
        let product = Axes { axes: vec![row, column], is_whole: true };
        Some(match inputs.get(2) {
            Some(bias) => self.broadcast(&[product, bias.clone()]),
            None => product,
        })
    }

    /// With groups, channels are groups times channels of a group: `[group, in]` by `[group, out]`.
    fn conv(&mut self, node: &Node, inputs: &[Axes]) -> Option<Axes> {
        let (input, weight) = (inputs.first()?, inputs.get(1)?);
        let rank = weight.is_whole.then_some(weight.axes.len()).filter(|&rank| rank >= 3)?;
        let groups = u64::try_from(integer(node, "group").unwrap_or(1)).ok()?;
        let out = self.factors.extent(&weight.axes[0]).filter(|out| groups > 0 && out % groups == 0)?;
        let group = self.factors.axis(Some(groups));
        let of_group = self.factors.axis(Some(out / groups));
        self.factors.unite(&weight.axes[0], &[&group[..], &of_group[..]].concat());
        let channels = self.nth_last(input, rank - 1);
        self.factors.unite(&channels, &[&group[..], &weight.axes[1]].concat());
        self.convolved(inputs, 0)
    }

    fn conv_transpose(&mut self, node: &Node, inputs: &[Axes]) -> Option<Axes> {
        let (input, weight) = (inputs.first()?, inputs.get(1)?);
        let rank = weight.is_whole.then_some(weight.axes.len()).filter(|&rank| rank >= 3)?;
        if integer(node, "group").unwrap_or(1) != 1 {
            return None;
        }
        let channels = self.nth_last(input, rank - 1);
        self.factors.unite(&channels, &weight.axes[0]);
        self.convolved(inputs, 1)
    }

    /// What a convolution gives, whose weights have its output channels on this axis.
    fn convolved(&mut self, inputs: &[Axes], out: usize) -> Option<Axes> {
        let (input, weight) = (inputs.first()?, inputs.get(1)?);
        let rank = weight.axes.len();
        weight.axes[2..].iter().for_each(|axis| self.factors.pin(axis));
        let mut axes = vec![self.nth_last(input, rank), weight.axes[out].clone()];
        for distance in (1..rank - 1).rev() {
            let axis = self.nth_last(input, distance);
            self.factors.pin(&axis);
            axes.push(self.factors.pinned());
        }
        self.bias(&weight.axes[out], inputs)?;
        Some(Axes { axes, is_whole: true })
    }

    fn bias(&mut self, out: &[Factor], inputs: &[Axes]) -> Option<()> {
        if let Some(bias) = inputs.get(2) {
            self.factors.unite(out, bias.axes.first()?);
        }
        Some(())
    }

    /// Known axes are cut off from the left and from the right; what remains goes to the one axis that does.
    fn reshape(&mut self, value: &Axes, target: &[Extent]) -> Option<Axes> {
        let mut rest = self.factors.resolve(&value.is_whole.then(|| value.axes.concat())?);
        let mut axes: Vec<Option<Vec<Factor>>> = vec![None; target.len()];
        let mut left = 0;
        while let Some(extent) = target.get(left) {
            let taken = match extent {
                Extent::Known(0) => self.factors.resolve(value.axes.get(left)?),
                Extent::Of(axis) => self.factors.resolve(axis),
                _ => break,
            };
            if !rest.starts_with(&taken) {
                break;
            }
            rest.drain(..taken.len());
            axes[left] = Some(taken);
            left += 1;
        }
        let mut right = target.len();
        while right > left {
            let extent = match &target[right - 1] {
                Extent::Known(0) => self.factors.extent(value.axes.get(right - 1)?),
                Extent::Known(extent) => u64::try_from(*extent).ok(),
                Extent::Of(axis) => self.factors.extent(axis),
                Extent::Unknown => None,
            };
            let Some((outer, inner)) = extent.and_then(|extent| self.factors.cut(&rest, extent)) else { break };
            rest = outer;
            axes[right - 1] = Some(inner);
            right -= 1;
        }
        if right == left + 1 {
            axes[left] = Some(rest);
        } else if right > left || rest.is_empty() {
            self.factors.pin(&rest);
        } else {
            return None;
        }
        let axes = axes.into_iter().map(|axis| axis.unwrap_or_else(|| self.factors.pinned())).collect();
        Some(Axes { axes, is_whole: true })
    }

    /// The axes that an operator names, in its attribute or, in later operator sets, in this input.
    fn axes_of(&self, node: &Node, input: usize) -> Option<Vec<i64>> {
        if let Some(axes) = integers(node, "axes") {
            return Some(axes.to_vec());
        }
        let constant = self.graph.constants.get(node.inputs.get(input)?)?;
        Some(constant.values.as_ref()?.iter().map(|&value| value as i64).collect())
    }

    /// The output of a node that computes a shape or a part of one, and whether it is a vector (1) or a scalar (0).
    fn vector(&mut self, node: &Node) -> Option<(Vec<Extent>, usize)> {
        let first = node.inputs.first()?;
        if node.op == "Shape" {
            let value = self.value(first);
            let rank = value.is_whole.then_some(value.axes.len())?;
            let bound = |name, default: usize| match integer(node, name) {
                Some(bound) if bound < 0 => rank.saturating_sub(usize::try_from(bound.unsigned_abs()).unwrap_or(rank)),
                Some(bound) => usize::try_from(bound).unwrap_or(rank).min(rank),
                None => default,
            };
            let (start, end) = (bound("start", 0), bound("end", rank));
            return Some((value.axes.get(start..end)?.iter().map(|axis| Extent::Of(axis.clone())).collect(), 1));
        }
        let vector = self.vectors.get(first)?.clone();
        let rank = self.value(first).axes.len();
        let constants = |input: usize, name| {
            let of_attribute = integers(node, name).map(<[i64]>::to_vec);
            of_attribute.or_else(|| {
                let values = self.graph.constants.get(node.inputs.get(input)?)?.values.as_ref()?;
                Some(values.iter().map(|&value| value as i64).collect())
            })
        };
        Some(match node.op.as_str() {
            "Cast" | "Identity" => (vector, rank),
            "Squeeze" if vector.len() == 1 => (vector, 0),
            "Unsqueeze" if rank == 0 => (vector, 1),
            "Concat" => {
                let parts = node.inputs.iter().map(|name| self.vectors.get(name).cloned());
                (parts.collect::<Option<Vec<_>>>()?.concat(), 1)
            }
            "Gather" => {
                let indices = constants(1, "")?.into_iter().map(|at| vector.get(index(at, vector.len())?).cloned());
                (indices.collect::<Option<_>>()?, self.graph.constants.get(node.inputs.get(1)?)?.dims.len())
            }
            "Slice" => {
                let (starts, ends) = (constants(1, "starts")?, constants(2, "ends")?);
                let (&[start], &[end]) = (&starts[..], &ends[..]) else { return None };
                if node.inputs.len() > 4 && constants(4, "")? != [1] {
                    return None;
                }
                let len = vector.len() as i64;
                let bound = |at: i64| (if at < 0 { at.saturating_add(len) } else { at }).clamp(0, len) as usize;
                (vector.get(bound(start)..bound(end))?.to_vec(), 1)
            }
            "Add" | "Sub" | "Mul" | "Div" => {
                let other = node.inputs.get(1)?;
                let is_scalar = vector.len() == 1 && self.vectors.get(other)?.len() == 1;
                (is_scalar.then(|| vec![Extent::Unknown])?, rank.max(self.value(other).axes.len()))
            }
            _ => return None,
        })
    }

    /// The free factors of an axis, with their extents, and each as a member if it can be told where its units lie.
    fn members(&self, axis: &[Factor], extent: u64) -> Vec<(Factor, usize, Option<Member>)> {
        let factors = self.factors.resolve(axis);
        let product = |factors: &[Factor]| self.factors.extent(factors).filter(|&product| product > 0);
        let mut found = Vec::new();
        for (place, &factor) in factors.iter().enumerate() {
            let (Some(units), false) = self.factors.factor(factor) else { continue };
            let (outer, inner) = (product(&factors[..place]), product(&factors[place + 1..]));
            let member = || {
                let (repeats, unit_len) = match (outer, inner) {
                    (Some(repeats), _) => (repeats, extent / repeats / units.max(1)),
                    (None, Some(unit_len)) => (extent / unit_len / units.max(1), unit_len),
                    (None, None) => return None,
                };
                let is_whole = repeats * units * unit_len == extent;
                let [repeats, unit_len] = [usize::try_from(repeats).ok()?, usize::try_from(unit_len).ok()?];
                is_whole.then_some(Member { tensor: 0, axis: 0, start: 0, repeats, unit_len })
            };
            found.push((factor, usize::try_from(units).unwrap_or(usize::MAX), member()));
        }
        found
    }
}

fn integer(node: &Node, name: &str) -> Option<i64> {
    if let Some(Attribute::Integer(value)) = node.attributes.get(name) { Some(*value) } else { None }
}

fn integers<'n>(node: &'n Node, name: &str) -> Option<&'n [i64]> {
    if let Some(Attribute::Integers(values)) = node.attributes.get(name) { Some(values) } else { None }
}

/// An axis counted from either end.
fn index(axis: i64, rank: usize) -> Option<usize> {
    let rank_signed = i64::try_from(rank).ok()?;
    let axis = if axis < 0 { axis.checked_add(rank_signed)? } else { axis };
    usize::try_from(axis).ok().filter(|&axis| axis < rank)
}
