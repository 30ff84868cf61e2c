//! Small state dictionaries and graphs of every layout.

mod graphs;
mod layouts;
mod output_heads;
mod refusals;

use super::*;
use crate::formats::find_tensors;
use crate::noise::Noise;
use crate::stages::permute::Permutation;

/// Names and shapes.
type Tensors = Vec<(String, Vec<usize>)>;

fn list(prefix: &str, tensors: &[(&str, &[usize])]) -> Tensors {
    tensors.iter().map(|(name, shape)| (format!("{prefix}{name}"), shape.to_vec())).collect()
}

fn layers(count: usize, prefix: &str, tensors: &[(&str, &[usize])]) -> Tensors {
    (0..count).flat_map(|layer| list(&format!("{prefix}{layer}."), tensors)).collect()
}

fn safetensors(tensors: &Tensors) -> Vec<u8> {
    let mut noise = Noise(9);
    let (mut header, mut data) = (serde_json::Map::new(), Vec::new());
    for (name, shape) in tensors {
        let start = data.len();
        (0..shape.iter().product::<usize>()).for_each(|_| data.extend(noise.normal().to_le_bytes()));
        let entry = serde_json::json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, data.len()] });
        header.insert(name.clone(), entry);
    }
    let header = serde_json::Value::Object(header).to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()
}

fn found_in(files: &[(&str, &[u8])]) -> (Vec<TensorLocation>, Vec<Group>) {
    let files: Vec<SourceFile> =
        files.iter().map(|(name, source)| SourceFile { name: (*name).to_owned(), source }).collect();
    let tensors = find_tensors(&files).unwrap();
    let groups = discover(&files, &tensors).unwrap();
    (tensors, groups)
}

/// A group a line: role, layer, head, units, and its members as `name@axis`, with `+start` and `repeats*unit_len` where
/// these are not 0 and 1.
fn described(tensors: &[TensorLocation], groups: &[Group]) -> Vec<String> {
    let member = |member: &Member| {
        let start = if member.start == 0 { String::new() } else { format!("+{}", member.start) };
        let range = match (member.repeats, member.unit_len) {
            (1, 1) => String::new(),
            (repeats, unit_len) => format!(":{repeats}*{unit_len}"),
        };
        format!("{}@{}{start}{range}", tensors[member.tensor].name, member.axis)
    };
    let group = |group: &Group| {
        let members: Vec<String> = group.members.iter().map(member).collect();
        let head = group.head.map_or(String::new(), |head| format!(" head {head}"));
        format!("{} {}{head} {}: {}", group.role, group.layer, group.units, members.join(" "))
    };
    groups.iter().map(group).collect()
}

fn groups_of(tensors: &Tensors, config: &str) -> Vec<String> {
    let (tensors, groups) =
        found_in(&[("model.safetensors", &safetensors(tensors)), ("config.json", config.as_bytes())]);
    described(&tensors, &groups)
}

const BERT: [(&str, &[usize]); 16] = [
    ("attention.self.query.weight", &[8, 8]),
    ("attention.self.query.bias", &[8]),
    ("attention.self.key.weight", &[8, 8]),
    ("attention.self.key.bias", &[8]),
    ("attention.self.value.weight", &[8, 8]),
    ("attention.self.value.bias", &[8]),
    ("attention.output.dense.weight", &[8, 8]),
    ("attention.output.dense.bias", &[8]),
    ("attention.output.LayerNorm.weight", &[8]),
    ("attention.output.LayerNorm.bias", &[8]),
    ("intermediate.dense.weight", &[12, 8]),
    ("intermediate.dense.bias", &[12]),
    ("output.dense.weight", &[8, 12]),
    ("output.dense.bias", &[8]),
    ("output.LayerNorm.weight", &[8]),
    ("output.LayerNorm.bias", &[8]),
];
const BERT_CONFIG: &str = r#"{ "model_type": "bert", "num_attention_heads": 2 }"#;

const LLAMA: [(&str, &[usize]); 9] = [
    ("self_attn.q_proj.weight", &[12, 8]),
    ("self_attn.k_proj.weight", &[6, 8]),
    ("self_attn.v_proj.weight", &[6, 8]),
    ("self_attn.o_proj.weight", &[8, 12]),
    ("mlp.gate_proj.weight", &[20, 8]),
    ("mlp.up_proj.weight", &[20, 8]),
    ("mlp.down_proj.weight", &[8, 20]),
    ("input_layernorm.weight", &[8]),
    ("post_attention_layernorm.weight", &[8]),
];
const LLAMA_CONFIG: &str =
    r#"{ "model_type": "llama", "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 3 }"#;
