//! What must be refused.

use super::*;
use crate::encode::to_f32;
use crate::source::Source;

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
    let bytes = safetensors(&layers(1, "encoder.layer.", &BERT));
    let files = [SourceFile { name: "model.safetensors".into(), source: &bytes }];
    let mut tensors = find_tensors(&files).unwrap();
    assert_eq!(discover(&files, &tensors).unwrap().len(), 1);
    let shared = tensors.iter().find(|tensor| tensor.name.ends_with("intermediate.dense.bias")).unwrap().clone();
    tensors.push(TensorLocation { name: "tied".into(), ..shared });
    assert_eq!(discover(&files, &tensors).unwrap(), []);
}

#[test]
fn no_unit_is_lost_when_groups_are_permuted() {
    let bytes = safetensors(&layers(1, "model.layers.", &LLAMA));
    let config = LLAMA_CONFIG.as_bytes();
    let files = [("model.safetensors", &bytes as &dyn Source), ("config.json", &config)]
        .map(|(name, source)| SourceFile { name: name.into(), source });
    let tensors = find_tensors(&files).unwrap();
    let groups = discover(&files, &tensors).unwrap();
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
