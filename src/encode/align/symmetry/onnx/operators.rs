//! Which operators are understood, and by which rule each.

use super::walk::{Axes, Walk};
use crate::formats::onnx::graph::Node;

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

impl Walk<'_> {
    /// Takes in what a node says of its inputs and outputs.
    pub fn node(&mut self, node: &Node) {
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

    /// The axes of a node's outputs, or nothing where it is not understood.
    fn outputs(&mut self, node: &Node) -> Option<Vec<Axes>> {
        let inputs: Vec<Axes> = node.inputs.iter().map(|name| self.value(name)).collect();
        let first = inputs.first()?;
        let output = match node.op.as_str() {
            op if UNARY.contains(&op) => self.unary(&inputs),
            op if BROADCAST.contains(&op) => self.broadcast_present(node, &inputs),
            op if REDUCE.contains(&op) => self.reduce(node, first),
            op if POOL.contains(&op) => self.channels_of(first, 2),
            "MatMul" => self.matmul(first, inputs.get(1)?),
            "Gemm" => self.gemm(node, &inputs),
            "Conv" => self.conv(node, &inputs),
            "ConvTranspose" => self.conv_transpose(node, &inputs),
            "QuantizeLinear" | "DequantizeLinear" => self.quantize(node, &inputs),
            "BatchNormalization" | "InstanceNormalization" => self.normalize_channels(&inputs),
            "LayerNormalization" => self.normalize_layer(&inputs),
            "Transpose" => self.transpose(node, first),
            "Reshape" => self.reshape(node, first),
            "Flatten" => self.flatten(node, first),
            "Squeeze" => self.squeeze(node, first),
            "Unsqueeze" => self.unsqueeze(node, first),
            "Slice" => self.slice(node, first),
            "Split" => return self.split(node, first),
            "Concat" => self.concat(node, &inputs),
            "Gather" => self.gather(node, &inputs),
            "Resize" | "Upsample" => self.resize(node, &inputs),
            _ => None,
        };
        output.map(|output| vec![output])
    }
}
