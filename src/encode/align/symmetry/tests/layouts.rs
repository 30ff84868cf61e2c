//! The groups of each layout.

use super::*;

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
