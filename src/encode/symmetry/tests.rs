//! Small state dictionaries and graphs of every layout, and the groups that they have; and what must be refused.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::encode::noise::Noise;
use crate::encode::to_f32;
use crate::formats::find_tensors;
use crate::formats::onnx::graph::{Attribute, Constant, Graph, Node};
use crate::tensor::{Axes, DType, Shape};

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
        files.iter().map(|(name, bytes)| SourceFile { name: (*name).to_owned(), bytes }).collect();
    let tensors = find_tensors(&files).unwrap();
    let groups = discover(&files, &tensors);
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

#[test]
fn bert() {
    let mut found = groups_of(&layers(2, "encoder.layer.", &BERT), BERT_CONFIG);
    let layer = |at: usize| {
        let l = format!("encoder.layer.{at}");
        let s = format!("{l}.attention.self");
        let o = format!("{l}.attention.output.dense.weight@1");
        let role = "encoder.layer.*.attention";
        [
            format!(
                "encoder.layer.*.intermediate {at} 12: {l}.intermediate.dense.weight@0 {l}.intermediate.dense.bias@0 \
                 {l}.output.dense.weight@1"
            ),
            format!(
                "{role}.heads {at} 2: {s}.query.weight@0:1*4 {s}.query.bias@0:1*4 {s}.key.weight@0:1*4 \
                 {s}.key.bias@0:1*4 {s}.value.weight@0:1*4 {s}.value.bias@0:1*4 {o}:1*4"
            ),
            format!("{role}.values {at} head 0 4: {s}.value.weight@0 {s}.value.bias@0 {o}"),
            format!("{role}.keys {at} head 0 4: {s}.query.weight@0 {s}.query.bias@0 {s}.key.weight@0 {s}.key.bias@0"),
            format!("{role}.values {at} head 1 4: {s}.value.weight@0+4 {s}.value.bias@0+4 {o}+4"),
            format!(
                "{role}.keys {at} head 1 4: {s}.query.weight@0+4 {s}.query.bias@0+4 {s}.key.weight@0+4 {s}.key.bias@0+4"
            ),
        ]
    };
    let mut expected: Vec<String> = [0, 1].into_iter().flat_map(layer).collect();
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
}

#[test]
fn llama_with_grouped_queries() {
    let found = groups_of(&layers(1, "model.layers.", &LLAMA), LLAMA_CONFIG);
    let expected = [
        "model.layers.*.mlp 0 20: L.mlp.gate_proj.weight@0 L.mlp.up_proj.weight@0 L.mlp.down_proj.weight@1",
        "model.layers.*.self_attn.heads 0 2: A.q_proj.weight@0:1*6 A.k_proj.weight@0:1*3 A.v_proj.weight@0:1*3 \
         A.o_proj.weight@1:1*6",
        "model.layers.*.self_attn.queries 0 head 0 2: A.q_proj.weight@0:1*3 A.o_proj.weight@1:1*3",
        "model.layers.*.self_attn.values 0 head 0 3: A.v_proj.weight@0 A.o_proj.weight@1:2*1",
        "model.layers.*.self_attn.queries 0 head 1 2: A.q_proj.weight@0+6:1*3 A.o_proj.weight@1+6:1*3",
        "model.layers.*.self_attn.values 0 head 1 3: A.v_proj.weight@0+3 A.o_proj.weight@1+6:2*1",
    ];
    let expected = expected.map(|line| line.replace("A.", "L.self_attn.").replace("L.", "model.layers.0."));
    assert_eq!(found, expected);
}

#[test]
fn norms_of_queries_and_keys() {
    let mut norms = layers(1, "model.layers.", &LLAMA);
    norms.extend(list("model.layers.0.self_attn.", &[("q_norm.weight", &[3]), ("k_norm.weight", &[3])]));
    assert_eq!(groups_of(&norms, LLAMA_CONFIG).len(), 6);
    // Over all heads at once: their weights move with the heads.
    norms.retain(|(name, _)| !name.ends_with("_norm.weight"));
    norms.extend(list("model.layers.0.self_attn.", &[("q_norm.weight", &[12]), ("k_norm.weight", &[6])]));
    let found = groups_of(&norms, LLAMA_CONFIG);
    assert!(found[1].ends_with("q_norm.weight@0:1*6 model.layers.0.self_attn.k_norm.weight@0:1*3"), "{}", found[1]);
    assert!(found[4].ends_with("q_norm.weight@0+6:1*3"), "{}", found[4]);
    norms.last_mut().unwrap().1 = vec![5];
    assert_eq!(groups_of(&norms, LLAMA_CONFIG).len(), 1);
}

#[test]
fn gpt2() {
    let layer: [(&str, &[usize]); 9] = [
        ("ln_1.weight", &[8]),
        ("attn.bias", &[1, 1, 5, 5]),
        ("attn.c_attn.weight", &[8, 24]),
        ("attn.c_attn.bias", &[24]),
        ("attn.c_proj.weight", &[8, 8]),
        ("attn.c_proj.bias", &[8]),
        ("mlp.c_fc.weight", &[8, 20]),
        ("mlp.c_fc.bias", &[20]),
        ("mlp.c_proj.weight", &[20, 8]),
    ];
    let mut tensors = layers(1, "h.", &layer);
    let config = r#"{ "model_type": "gpt2", "n_head": 2 }"#;
    // Without its bias the second matrix is no longer like the first.
    assert!(groups_of(&tensors, config).iter().all(|line| !line.contains("mlp")));
    tensors.extend(list("h.0.", &[("mlp.c_proj.bias", &[8])]));
    let found = groups_of(&tensors, config);
    let expected = [
        "h.*.mlp 0 20: M.c_fc.weight@1 M.c_fc.bias@0 M.c_proj.weight@0",
        "h.*.attn.heads 0 2: A.c_attn.weight@1:1*4 A.c_attn.bias@0:1*4 A.c_attn.weight@1+8:1*4 A.c_attn.bias@0+8:1*4 \
         A.c_attn.weight@1+16:1*4 A.c_attn.bias@0+16:1*4 A.c_proj.weight@0:1*4",
        "h.*.attn.values 0 head 0 4: A.c_attn.weight@1+16 A.c_attn.bias@0+16 A.c_proj.weight@0",
        "h.*.attn.keys 0 head 0 4: A.c_attn.weight@1 A.c_attn.bias@0 A.c_attn.weight@1+8 A.c_attn.bias@0+8",
        "h.*.attn.values 0 head 1 4: A.c_attn.weight@1+20 A.c_attn.bias@0+20 A.c_proj.weight@0+4",
        "h.*.attn.keys 0 head 1 4: A.c_attn.weight@1+4 A.c_attn.bias@0+4 A.c_attn.weight@1+12 A.c_attn.bias@0+12",
    ];
    assert_eq!(found, expected.map(|line| line.replace("A.", "h.0.attn.").replace("M.", "h.0.mlp.")));
}

#[test]
fn gpt_neox() {
    let layer: [(&str, &[usize]); 9] = [
        ("attention.query_key_value.weight", &[24, 8]),
        ("attention.query_key_value.bias", &[24]),
        ("attention.dense.weight", &[8, 8]),
        ("attention.dense.bias", &[8]),
        ("attention.rotary_emb.inv_freq", &[1]),
        ("mlp.dense_h_to_4h.weight", &[20, 8]),
        ("mlp.dense_h_to_4h.bias", &[20]),
        ("mlp.dense_4h_to_h.weight", &[8, 20]),
        ("mlp.dense_4h_to_h.bias", &[8]),
    ];
    let config = r#"{ "model_type": "gpt_neox", "num_attention_heads": 2 }"#;
    let found = groups_of(&layers(1, "gpt_neox.layers.", &layer), config);
    let expected = [
        "gpt_neox.layers.*.mlp 0 20: L.mlp.dense_h_to_4h.weight@0 L.mlp.dense_h_to_4h.bias@0 \
         L.mlp.dense_4h_to_h.weight@1",
        "gpt_neox.layers.*.attention.heads 0 2: A.query_key_value.weight@0:1*12 A.query_key_value.bias@0:1*12 \
         A.dense.weight@1:1*4",
        "gpt_neox.layers.*.attention.values 0 head 0 4: A.query_key_value.weight@0+8 A.query_key_value.bias@0+8 \
         A.dense.weight@1",
        "gpt_neox.layers.*.attention.values 0 head 1 4: A.query_key_value.weight@0+20 A.query_key_value.bias@0+20 \
         A.dense.weight@1+4",
    ];
    assert_eq!(found, expected.map(|line| line.replace("A.", "L.attention.").replace("L.", "gpt_neox.layers.0.")));
}

#[test]
fn opt_whisper_and_clip() {
    let attention: [(&str, &[usize]); 7] = [
        ("self_attn.q_proj.weight", &[8, 8]),
        ("self_attn.q_proj.bias", &[8]),
        ("self_attn.k_proj.weight", &[8, 8]),
        ("self_attn.v_proj.weight", &[8, 8]),
        ("self_attn.v_proj.bias", &[8]),
        ("self_attn.out_proj.weight", &[8, 8]),
        ("self_attn.out_proj.bias", &[8]),
    ];
    let fc: [(&str, &[usize]); 4] =
        [("fc1.weight", &[12, 8]), ("fc1.bias", &[12]), ("fc2.weight", &[8, 12]), ("fc2.bias", &[8])];
    let whisper = [&attention[..], &fc].concat();
    let config = r#"{ "model_type": "whisper", "encoder_attention_heads": 2, "decoder_attention_heads": 4 }"#;
    let encoder = groups_of(&layers(1, "model.encoder.layers.", &whisper), config);
    assert_eq!(encoder.len(), 1 + 1 + 2 * 2);
    let a = "model.encoder.layers.0.self_attn";
    let heads = format!(
        "model.encoder.layers.*.self_attn.heads 0 2: {a}.q_proj.weight@0:1*4 {a}.q_proj.bias@0:1*4 \
         {a}.k_proj.weight@0:1*4 {a}.v_proj.weight@0:1*4 {a}.v_proj.bias@0:1*4 {a}.out_proj.weight@1:1*4"
    );
    assert!(encoder.contains(&heads), "{encoder:?}");
    assert_eq!(groups_of(&layers(1, "model.decoder.layers.", &whisper), config).len(), 1 + 1 + 4 * 2);
    let config = r#"{ "model_type": "opt", "num_attention_heads": 2 }"#;
    assert_eq!(groups_of(&layers(1, "decoder.layers.", &whisper), config).len(), 1 + 1 + 2 * 2);
    let mlp: Tensors = list("vision_model.encoder.layers.0.mlp.", &fc);
    let clip = [mlp, list("vision_model.encoder.layers.0.", &attention)].concat();
    let config = r#"{ "model_type": "clip", "text_config": { "num_attention_heads": 8 },
        "vision_config": { "num_attention_heads": 4 } }"#;
    let clip = groups_of(&clip, config);
    assert_eq!(clip.len(), 1 + 1 + 4 * 2);
    let f = "vision_model.encoder.layers.0.mlp";
    let expected = format!("vision_model.encoder.layers.*.mlp 0 12: {f}.fc1.weight@0 {f}.fc1.bias@0 {f}.fc2.weight@1");
    assert_eq!(clip[0], expected);
}

#[test]
fn vit_distilbert_and_phi() {
    let renamed = |from: &str, to: &str| -> Tensors {
        layers(1, "encoder.layer.", &BERT).into_iter().map(|(name, shape)| (name.replace(from, to), shape)).collect()
    };
    let mut vit = renamed("attention.self.", "attention.attention.");
    vit.retain(|(name, _)| !name.contains("LayerNorm"));
    let config = BERT_CONFIG.replace("bert", "vit");
    assert_eq!(groups_of(&vit, &config).len(), 1 + 1 + 2 * 2);
    let phi: [(&str, &[usize]); 2] = [("mlp.gate_up_proj.weight", &[40, 8]), ("mlp.down_proj.weight", &[8, 20])];
    let m = "model.layers.0.mlp";
    let expected = format!(
        "model.layers.*.mlp 0 20: {m}.gate_up_proj.weight@0 {m}.gate_up_proj.weight@0+20 {m}.down_proj.weight@1"
    );
    assert_eq!(groups_of(&layers(1, "model.layers.", &phi), ""), [expected]);
    let lin: [(&str, &[usize]); 4] =
        [("lin1.weight", &[12, 8]), ("lin1.bias", &[12]), ("lin2.weight", &[8, 12]), ("lin2.bias", &[8])];
    assert_eq!(groups_of(&list("transformer.layer.0.ffn.", &lin), "").len(), 1);
}

fn crepe() -> Tensors {
    let mut tensors = Tensors::new();
    let mut inputs = 1;
    for (number, channels) in [(1, 8), (2, 4), (3, 4), (4, 4), (5, 6), (6, 5)] {
        let norm: [(&str, &[usize]); 5] = [
            ("weight", &[channels]),
            ("bias", &[channels]),
            ("running_mean", &[channels]),
            ("running_var", &[channels]),
            ("num_batches_tracked", &[]),
        ];
        tensors
            .extend(list(&format!("conv{number}."), &[("weight", &[channels, inputs, 3, 1]), ("bias", &[channels])]));
        tensors.extend(list(&format!("conv{number}_BN."), &norm));
        inputs = channels;
    }
    tensors.extend(list("classifier.", &[("weight", &[7, 20]), ("bias", &[7])]));
    tensors
}

#[test]
fn torchcrepe() {
    let found = groups_of(&crepe(), "");
    assert_eq!(found.len(), 6);
    let norm = "conv1_BN.weight@0 conv1_BN.bias@0 conv1_BN.running_mean@0 conv1_BN.running_var@0";
    assert_eq!(found[0], format!("conv* 1 8: conv1.weight@0 conv1.bias@0 {norm} conv2.weight@1"));
    assert!(found[5].ends_with("classifier.weight@1:4*1"), "{}", found[5]);
    let mut other = crepe();
    other.extend(list("", &[("attention.weight", &[5, 5])]));
    assert_eq!(groups_of(&other, ""), [""; 0]);
}

#[test]
fn residual_networks() {
    let norm = |name: &str, channels: usize| -> Tensors {
        ["weight", "bias", "running_mean", "running_var"].map(|part| (format!("{name}.{part}"), vec![channels])).into()
    };
    let mut tensors = list("", &[("conv1.weight", &[6, 3, 7, 7]), ("fc.weight", &[9, 12]), ("fc.bias", &[9])]);
    tensors.extend(norm("bn1", 6));
    for block in ["layer1.0", "layer1.1"] {
        for (number, shape) in [(1, [4, 6, 1, 1]), (2, [4, 4, 3, 3]), (3, [6, 4, 1, 1])] {
            tensors.push((format!("{block}.conv{number}.weight"), shape.to_vec()));
            tensors.extend(norm(&format!("{block}.bn{number}"), shape[0]));
        }
    }
    let found = groups_of(&tensors, "");
    assert_eq!(found.len(), 4);
    assert!(found[0].starts_with("layer1.*.conv1 0 4: layer1.0.conv1.weight@0 layer1.0.bn1.weight@0 "), "{}", found[0]);
    assert!(found[0].ends_with(" layer1.0.conv2.weight@1"), "{}", found[0]);
    tensors.extend(list("layer1.0.se.", &[("fc1.weight", &[2, 4, 1, 1])]));
    assert_eq!(groups_of(&tensors, ""), [""; 0]);
}

fn without(tensors: &[(&str, &[usize])], name: &str) -> Tensors {
    let mut tensors = layers(1, "encoder.layer.", tensors);
    let count = tensors.len();
    tensors.retain(|(found, _)| *found != format!("encoder.layer.0.{name}"));
    assert_eq!(tensors.len(), count - 1, "{name}");
    tensors
}

fn roles(tensors: &Tensors, config: &str) -> Vec<String> {
    let mut roles: Vec<String> =
        groups_of(tensors, config).iter().map(|line| line.split(' ').next().unwrap().to_owned()).collect();
    roles.dedup();
    roles
}

#[test]
fn refuses_a_layer_that_lacks_a_member() {
    for (name, _) in BERT.iter().filter(|(name, _)| !name.contains("LayerNorm")) {
        let lost = if name.starts_with("attention") {
            "encoder.layer.*.attention.heads"
        } else {
            "encoder.layer.*.intermediate"
        };
        let roles = roles(&without(&BERT, name), BERT_CONFIG);
        assert!(!roles.is_empty() && !roles.iter().any(|role| role == lost), "{name}: {roles:?}");
    }
    for (name, _) in LLAMA.iter().filter(|(name, _)| !name.contains("norm")) {
        let kept = roles(&without(&LLAMA, name), LLAMA_CONFIG);
        let scope = name.split('.').next().unwrap();
        assert!(!kept.is_empty() && kept.iter().all(|role| !role.contains(scope)), "{name}: {kept:?}");
    }
}

#[test]
fn refuses_a_layer_that_has_fewer_members_than_its_like() {
    let mut tensors = layers(2, "model.layers.", &LLAMA);
    let biases: [(&str, &[usize]); 3] = [("q_proj.bias", &[12]), ("k_proj.bias", &[6]), ("v_proj.bias", &[6])];
    tensors.extend(list("model.layers.1.self_attn.", &biases));
    let found = groups_of(&tensors, LLAMA_CONFIG);
    assert!(found.iter().all(|line| !line.contains("self_attn.heads 0")), "{found:?}");
    assert!(found.iter().any(|line| line.contains("self_attn.heads 1")), "{found:?}");
}

#[test]
fn refuses_shapes_that_do_not_agree() {
    for (name, _) in BERT.iter().filter(|(name, _)| !name.contains("LayerNorm")) {
        for axis in 0..2 {
            let mut tensors = layers(1, "encoder.layer.", &BERT);
            let (_, shape) = tensors.iter_mut().find(|(found, _)| found.ends_with(&format!("0.{name}"))).unwrap();
            let Some(extent) = shape.get_mut(axis) else { continue };
            *extent += 1;
            let lost = if name.starts_with("attention") { "attention" } else { "intermediate" };
            let roles = roles(&tensors, BERT_CONFIG);
            assert!(!roles.is_empty() && roles.iter().all(|role| !role.contains(lost)), "{name} {axis}: {roles:?}");
        }
    }
}

#[test]
fn refuses_modules_that_hold_something_unknown() {
    let unknown: [(&str, &str); 6] = [
        ("intermediate.dense.weight_scale", "intermediate"),
        ("output.adapter.weight", "intermediate"),
        ("attention.self.relative_position_bias.weight", "attention"),
        ("attention.gate", "attention"),
        ("ffn_norm.weight", "intermediate"),
        ("intermediate_scale", "intermediate"),
    ];
    for (name, lost) in unknown {
        let mut tensors = layers(1, "encoder.layer.", &BERT);
        tensors.push((format!("encoder.layer.0.{name}"), vec![if lost == "attention" { 2 } else { 12 }]));
        let roles = roles(&tensors, BERT_CONFIG);
        assert!(!roles.is_empty() && roles.iter().all(|role| !role.contains(lost)), "{name}: {roles:?}");
    }
}

#[test]
fn refuses_heads_that_the_configuration_does_not_explain() {
    let llama = layers(1, "model.layers.", &LLAMA);
    assert_eq!(roles(&llama, LLAMA_CONFIG).len(), 6);
    for config in [
        "",
        "[]",
        "{",
        r#"{ "num_attention_heads": 4, "num_key_value_heads": 2 }"#,
        r#"{ "model_type": "t5", "num_attention_heads": 4, "num_key_value_heads": 2 }"#,
        r#"{ "model_type": "llama", "num_attention_heads": 4, "num_key_value_heads": 4 }"#,
        r#"{ "model_type": "llama", "num_attention_heads": 5, "num_key_value_heads": 2 }"#,
        r#"{ "model_type": "llama", "num_attention_heads": 0 }"#,
        r#"{ "model_type": "llama", "num_attention_heads": 18446744073709551615 }"#,
        r#"{ "model_type": "llama", "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 6 }"#,
        r#"{ "model_type": "llama", "num_attention_heads": "4" }"#,
    ] {
        assert_eq!(roles(&llama, config), ["model.layers.*.mlp"], "{config}");
    }
    let bert = layers(1, "encoder.layer.", &BERT);
    let relative = r#"{ "model_type": "bert", "num_attention_heads": 2, "position_embedding_type": "relative_key" }"#;
    assert_eq!(roles(&bert, relative), ["encoder.layer.*.intermediate"]);
    // Of another model.
    let bytes = safetensors(&bert);
    let files = [("a/model.safetensors", &bytes[..]), ("b/config.json", BERT_CONFIG.as_bytes())];
    assert_eq!(found_in(&files).1.len(), 1);
}

#[test]
fn refuses_shards_without_the_others() {
    let layer = safetensors(&layers(1, "encoder.layer.", &BERT));
    let empty = safetensors(&list("", &[("pooler.weight", &[8, 8])]));
    let found = |names: &[&str]| {
        let files: Vec<(&str, &[u8])> = names.iter().copied().zip([&layer[..], &empty[..]]).collect();
        found_in(&files).1.len()
    };
    assert_eq!(found(&["model-00001-of-00002.safetensors"]), 0);
    assert_eq!(found(&["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]), 1);
    assert_eq!(found(&["model-00001-of-00002.safetensors", "model-00002-of-00003.safetensors"]), 0);
}

#[test]
fn refuses_tensors_that_share_bytes() {
    let files =
        [SourceFile { name: "model.safetensors".into(), bytes: &safetensors(&layers(1, "encoder.layer.", &BERT)) }];
    let mut tensors = find_tensors(&files).unwrap();
    assert_eq!(discover(&files, &tensors).len(), 1);
    let shared = tensors.iter().find(|tensor| tensor.name.ends_with("intermediate.dense.bias")).unwrap().clone();
    tensors.push(TensorLocation { name: "tied".into(), ..shared });
    assert_eq!(discover(&files, &tensors), []);
}

#[test]
fn no_unit_is_lost_when_groups_are_permuted() {
    let bytes = safetensors(&layers(1, "model.layers.", &LLAMA));
    let files = [("model.safetensors", &bytes[..]), ("config.json", LLAMA_CONFIG.as_bytes())]
        .map(|(name, bytes)| SourceFile { name: name.into(), bytes });
    let tensors = find_tensors(&files).unwrap();
    let groups = discover(&files, &tensors);
    let values = |bytes: &[u8], tensor: usize| {
        let tensor = &tensors[tensor];
        Some(to_f32(&bytes[tensor.offset as usize..(tensor.offset + tensor.bytes) as usize], tensor.dtype))
    };
    for group in &groups {
        let places: Vec<u32> = (0..group.units as u32).map(|unit| (unit + 1) % group.units as u32).collect();
        let mut permuted = [bytes.clone(), Vec::new()];
        group.permute(&Permutation::new(places.clone()).unwrap(), &tensors, &mut permuted).unwrap();
        let rows = group.rows(&tensors, &mut |tensor| values(&bytes, tensor));
        let moved = group.rows(&tensors, &mut |tensor| values(&permuted[0], tensor));
        let len = rows.len() / group.units;
        let expected: Vec<f32> = places.iter().flat_map(|&at| &rows[at as usize * len..][..len]).copied().collect();
        assert!(moved == expected && moved != rows, "{}", group.role);
        assert!(group.permute(&Permutation::new(vec![0]).unwrap(), &tensors, &mut permuted).is_err());
        assert!(group.permute(&Permutation::new(places).unwrap(), &tensors, &mut []).is_err());
    }
}

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
