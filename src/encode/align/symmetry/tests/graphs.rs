//! The groups of graphs.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::formats::onnx::graph::{Attribute, Constant, Graph, Node};
use crate::tensor::{Axes, DType, Shape};

/// A graph of float constants and nodes, its input `x` of this rank.
struct Builder {
    graph: Graph,
    tensors: Vec<TensorLocation>,
}

impl Builder {
    fn new(rank: usize) -> Self {
        let graph = Graph { ranks: HashMap::from([("x".to_owned(), rank)]), opset: 17, ..Graph::default() };
        Builder { graph, tensors: Vec::new() }
    }

    fn weights(mut self, weights: &[(&str, &[u64])]) -> Self {
        for (name, shape) in weights {
            let bytes = 4 * shape.iter().product::<u64>();
            let offset = self.tensors.last().map_or(0, |last| last.offset + last.bytes);
            let (name, dims, shape) = ((*name).to_owned(), shape.to_vec(), Shape(shape.to_vec()));
            self.graph
                .constants
                .insert(name.clone(), Constant { dims, location: Some((0, offset, bytes)), values: None });
            let (dtype, axes) = (DType::F32, Axes::OutputFirst);
            self.tensors.push(TensorLocation { name, dtype, shape, file: 0, offset, bytes, axes, record: &[] });
        }
        self
    }

    fn integers(mut self, name: &str, values: &[i64]) -> Self {
        let (dims, values) = (vec![values.len() as u64], values.iter().map(|&value| value as f64).collect());
        self.graph.constants.insert(name.to_owned(), Constant { dims, location: None, values: Some(values) });
        self
    }

    /// `Op a b -> c`, and attributes `name=1` or `name=1,2` behind the operator.
    fn nodes(mut self, lines: &[&str]) -> Self {
        for line in lines {
            let (left, right) = line.split_once(" -> ").unwrap();
            let mut node = Node { outputs: right.split(' ').map(str::to_owned).collect(), ..Node::default() };
            for word in left.split(' ') {
                if let Some((name, value)) = word.split_once('=') {
                    let values: Vec<i64> = value.split(',').map(|value| value.parse().unwrap()).collect();
                    let is_list = matches!(name, "perm" | "axes" | "pads");
                    let value = if is_list { Attribute::Integers(values) } else { Attribute::Integer(values[0]) };
                    node.attributes.insert(name.to_owned(), value);
                } else if node.op.is_empty() {
                    node.op = word.to_owned();
                } else {
                    node.inputs.push(word.trim_matches('_').to_owned());
                }
            }
            self.graph.nodes.push(node);
        }
        self
    }

    /// Members of the groups, each as `name@axis`, for a graph with these outputs.
    fn groups(mut self, outputs: &[&str]) -> Vec<String> {
        self.graph.outputs = outputs.iter().map(|&output| output.to_owned()).collect();
        let mut groups = onnx::discover(&self.graph, &self.tensors);
        groups.retain(|group| group.units >= 2 && group.members.len() >= 2);
        let described = described(&self.tensors, &groups);
        let mut members: Vec<String> =
            described.iter().map(|line| line.split_once(": ").unwrap().1.to_owned()).collect();
        members.sort();
        members
    }
}

#[test]
fn a_table_that_values_are_multiplied_with_too_is_a_head() {
    let heads = |nodes: &[&str]| {
        let builder = Builder::new(2).weights(&[("table", &[50, 8]), ("a", &[8, 8])]).nodes(nodes);
        let heads = onnx::output_heads(&builder.graph, &builder.tensors);
        heads.into_iter().map(|head| builder.tensors[head].name.clone()).collect::<Vec<_>>()
    };
    let table = ["Gather table x -> 1", "MatMul 1 a -> 2"];
    assert_eq!(heads(&table), [""; 0]);
    assert_eq!(heads(&[&table[..], &["Gemm transB=1 2 table -> 3"]].concat()), ["table"]);
    assert_eq!(heads(&[&table[..], &["Transpose table -> t", "MatMul 2 t -> 3"]].concat()), ["table"]);
    // Rows of a product are no rows of the table.
    assert_eq!(heads(&["MatMul x table -> 1", "Gather 1 table -> 2"]), [""; 0]);
}

#[test]
fn a_chain_of_convolutions() {
    let chain = || {
        Builder::new(4).weights(&[
            ("a", &[6, 3, 3, 3]),
            ("scale", &[6]),
            ("bias", &[6]),
            ("mean", &[6]),
            ("var", &[6]),
            ("deep", &[6, 1, 3, 3]),
            ("squeeze", &[2, 6, 1, 1]),
            ("excite", &[6, 2, 1, 1]),
            ("b", &[8, 6, 1, 1]),
            ("b.bias", &[8]),
        ])
    };
    let nodes = [
        "Conv x a -> 1",
        "BatchNormalization 1 scale bias mean var -> 2",
        "Relu 2 -> 3",
        "Conv group=6 3 deep -> 4",
        "GlobalAveragePool 4 -> 5",
        "Conv 5 squeeze -> 6",
        "HardSigmoid 6 -> 7",
        "Conv 7 excite -> 8",
        "Mul 4 8 -> 9",
        "Conv 9 b b.bias -> 10",
    ];
    let expected = ["a@0 scale@0 bias@0 mean@0 var@0 deep@0 squeeze@1 excite@0 b@1", "squeeze@0 excite@1"];
    assert_eq!(chain().nodes(&nodes).groups(&["10"]), expected);
    // What is seen from outside, or by an operator that is not understood, stays.
    assert_eq!(chain().nodes(&nodes).groups(&["10", "3"]), ["squeeze@0 excite@1"]);
    let unknown = [&nodes[..], &["CumSum 3 -> other"]].concat();
    assert_eq!(chain().nodes(&unknown).groups(&["10"]), ["squeeze@0 excite@1"]);
}

#[test]
fn a_residual_ties_all_who_add_to_it() {
    let builder = Builder::new(4).weights(&[
        ("stem", &[6, 3, 1, 1]),
        ("in", &[4, 6, 1, 1]),
        ("out", &[6, 4, 1, 1]),
        ("head", &[5, 6, 1, 1]),
    ]);
    let nodes =
        ["Conv x stem -> 1", "Conv 1 in -> 2", "Relu 2 -> 3", "Conv 3 out -> 4", "Add 1 4 -> 5", "Conv 5 head -> 6"];
    assert_eq!(builder.nodes(&nodes).groups(&["6"]), ["in@0 out@1", "stem@0 in@1 out@0 head@1"]);
}

#[test]
fn weights_used_twice_tie_both_uses() {
    let builder = || Builder::new(2).weights(&[("in", &[3, 6]), ("w", &[6, 6]), ("out", &[6, 2])]);
    let nodes = ["MatMul x in -> 1", "MatMul 1 w -> 2", "Relu 2 -> 3", "MatMul 3 w -> 4", "MatMul 4 out -> 5"];
    assert_eq!(builder().nodes(&nodes).groups(&["5"]), ["in@1 w@0 w@1 out@0"]);
    // A head tied to the embedding: its units are the outputs' names.
    let tied = ["Gather out x -> 1", "Transpose perm=1,0 out -> t", "MatMul 1 t -> 2"];
    assert_eq!(builder().nodes(&tied).groups(&["2"]), [""; 0]);
}

#[test]
fn two_constants_of_the_same_bytes_are_refused() {
    let mut builder = Builder::new(2).weights(&[("in", &[3, 6]), ("out", &[6, 2])]);
    builder = builder.nodes(&["MatMul x in -> 1", "MatMul 1 out -> 2"]);
    builder.graph.outputs = vec!["2".to_owned()];
    let count = |builder: &Builder| {
        let groups = onnx::discover(&builder.graph, &builder.tensors);
        groups.iter().filter(|group| group.members.len() > 1).count()
    };
    assert_eq!(count(&builder), 1);
    let same = TensorLocation { name: "again".to_owned(), ..builder.tensors[0].clone() };
    assert_eq!(exclusive(&[&builder.tensors[..], &[same]].concat()), [false, true, false]);
    // Neither are those that lie where no tensor was found.
    builder.tensors.pop();
    assert_eq!(count(&builder), 0);
}

#[test]
fn a_flattened_image_has_a_unit_per_channel() {
    let builder = || Builder::new(4).weights(&[("conv", &[5, 3, 3, 3]), ("fc", &[2, 20]), ("fc.bias", &[2])]);
    let nodes = ["Conv x conv -> 1", "MaxPool 1 -> 2", "Flatten 2 -> 3", "Gemm transB=1 3 fc fc.bias -> 4"];
    assert_eq!(builder().nodes(&nodes).groups(&["4"]), ["conv@0 fc@1:1*4"]);
    let nodes =
        ["Conv x conv -> 1", "Transpose perm=0,2,3,1 1 -> 2", "Flatten 2 -> 3", "Gemm transB=1 3 fc fc.bias -> 4"];
    assert_eq!(builder().nodes(&nodes).groups(&["4"]), ["conv@0 fc@1:4*1"]);
}

#[test]
fn grouped_convolutions() {
    let builder = Builder::new(4).weights(&[("in", &[6, 3, 1, 1]), ("grouped", &[8, 3, 3, 3]), ("out", &[5, 8, 1, 1])]);
    let nodes = ["Conv x in -> 1", "Conv group=2 1 grouped -> 2", "Conv 2 out -> 3"];
    let expected = ["grouped@0:2*1 out@1:2*1", "in@0:1*3 grouped@0:1*4 out@1:1*4", "in@0:2*1 grouped@1"];
    assert_eq!(builder.nodes(&nodes).groups(&["3"]), expected);
}

#[test]
fn attention_of_a_graph() {
    let builder = Builder::new(3)
        .weights(&[
            ("embed", &[4, 12]),
            ("norm", &[12]),
            ("norm.bias", &[12]),
            ("q", &[12, 12]),
            ("k", &[12, 12]),
            ("v", &[12, 12]),
            ("o", &[12, 12]),
            ("up", &[12, 20]),
            ("up.bias", &[20]),
            ("down", &[20, 12]),
            ("head", &[12, 3]),
        ])
        .integers("first", &[0])
        .integers("second", &[1])
        .integers("heads", &[3])
        .integers("len", &[4])
        .integers("all", &[-1]);
    let nodes = [
        "MatMul x embed -> e",
        "LayerNormalization axis=-1 e norm norm.bias -> n",
        "MatMul n q -> q1",
        "MatMul n k -> k1",
        "MatMul n v -> v1",
        "Shape q1 -> shape",
        "Gather axis=0 shape first -> batch",
        "Gather axis=0 shape second -> tokens",
        "Concat axis=0 batch tokens heads len -> split",
        "Reshape q1 split -> q2",
        "Reshape k1 split -> k2",
        "Reshape v1 split -> v2",
        "Transpose perm=0,2,1,3 q2 -> q3",
        "Transpose perm=0,2,3,1 k2 -> k3",
        "Transpose perm=0,2,1,3 v2 -> v3",
        "MatMul q3 k3 -> scores",
        "Softmax axis=-1 scores -> weights",
        "MatMul weights v3 -> mixed",
        "Transpose perm=0,2,1,3 mixed -> turned",
        "Concat axis=0 batch tokens all -> merge",
        "Reshape turned merge -> merged",
        "MatMul merged o -> attended",
        "Add e attended -> r",
        "MatMul r up -> u",
        "Add u up.bias -> u1",
        "Gelu u1 -> u2",
        "MatMul u2 down -> d",
        "Add r d -> s",
        "MatMul s head -> y",
    ];
    let expected = [
        "embed@1 norm@0 norm.bias@0 q@0 k@0 v@0 o@1 up@0 down@1 head@0",
        "q@1:1*4 k@1:1*4 v@1:1*4 o@0:1*4",
        "q@1:3*1 k@1:3*1",
        "up@1 up.bias@0 down@0",
        "v@1:3*1 o@0:3*1",
    ];
    assert_eq!(builder.nodes(&nodes).groups(&["y"]), expected);
}

#[test]
fn a_subgraph_sees_what_it_mentions() {
    let builder = Builder::new(2).weights(&[("in", &[3, 6]), ("out", &[6, 2])]);
    let nodes = ["MatMul x in -> 1", "MatMul 1 out -> 2", "If condition 1 -> 3"];
    assert_eq!(builder.nodes(&nodes).groups(&["2"]), [""; 0]);
}

#[test]
fn quantized_weights_take_their_scales_along() {
    let builder =
        Builder::new(2).weights(&[("in", &[3, 6]), ("scale", &[6]), ("zero", &[6]), ("out", &[6, 2]), ("one", &[])]);
    let nodes = [
        "DequantizeLinear axis=1 in scale zero -> w",
        "MatMul x w -> 1",
        "DequantizeLinear out one -> v",
        "MatMul 1 v -> 2",
    ];
    assert_eq!(builder.nodes(&nodes).groups(&["2"]), ["in@1 scale@0 zero@0 out@0"]);
}

#[test]
fn scaling_constants_do_not_hide_the_shape_of_what_they_scale() {
    // A constant of one element may come first, and is then no shape.
    let mut builder = Builder::new(4).weights(&[("in", &[6, 3, 1, 1]), ("out", &[2, 6, 1, 1]), ("half", &[1])]);
    builder.graph.constants.get_mut("half").unwrap().values = Some(vec![0.5]);
    let nodes = ["Conv x in -> 1", "Mul half 1 -> 2", "Conv 2 out -> 3"];
    assert_eq!(builder.nodes(&nodes).groups(&["3"]), ["in@0 out@1"]);
}

const OPS: [&str; 22] = [
    "Relu",
    "Add",
    "Mul",
    "MatMul",
    "Conv",
    "Conv group=2",
    "Transpose perm=1,0",
    "Transpose perm=0,2,1,3",
    "Reshape",
    "Flatten",
    "Gemm",
    "Gemm transB=1",
    "Concat axis=1",
    "Slice",
    "Squeeze axes=0",
    "Unsqueeze axes=0",
    "ReduceMean axes=1",
    "Softmax",
    "Gather",
    "Shape",
    "Unknown",
    "BatchNormalization",
];

proptest! {
    /// Whatever a graph says: no panic, and members that lie within their tensors.
    #[test]
    fn graphs_of_nonsense_have_groups_that_fit(seed: u64, rank in 0usize..5, count in 1usize..40) {
        let mut noise = Noise(seed);
        let mut pick = |bound: usize| (noise.next() % bound as u64) as usize;
        let mut builder = Builder::new(rank)
            .weights(&[("a", &[4, 6]), ("b", &[6, 4]), ("c", &[12, 6, 1, 1]), ("d", &[6]), ("e", &[24]), ("f", &[0, 5])])
            .integers("g", &[0, -1, 2])
            .integers("h", &[2, 3]);
        let mut names: Vec<String> = ["x", "a", "b", "c", "d", "e", "f", "g", "h"].map(str::to_owned).into();
        for index in 0..count {
            let inputs: Vec<String> = (0..1 + pick(3)).map(|_| names[pick(names.len())].clone()).collect();
            let line = format!("{} {} -> n{index}", OPS[pick(OPS.len())], inputs.join(" "));
            builder = builder.nodes(&[&line]);
            // Now and then a name is given twice.
            names.push(format!("n{}", if pick(20) == 0 { 0 } else { index }));
        }
        builder.graph.outputs = vec![names[pick(names.len())].clone()];
        for group in onnx::discover(&builder.graph, &builder.tensors) {
            for member in &group.members {
                let tensor = &builder.tensors[member.tensor];
                prop_assert!(tensor.bytes == 0 || member.fits(group.units, tensor), "{group:?}");
            }
        }
    }
}
