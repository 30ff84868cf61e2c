//! Output heads of language models.

use super::*;

/// Names of the heads of a state dictionary.
fn heads_of(tensors: &Tensors) -> Vec<String> {
    let source = safetensors(tensors);
    let files = [SourceFile { name: "model.safetensors".to_owned(), source: &&source[..] }];
    let found = find_tensors(&files).unwrap();
    output_heads(&files, &found).unwrap().into_iter().map(|head| found[head].name.clone()).collect()
}

#[test]
fn the_table_of_tokens_is_the_head_where_there_is_no_other() {
    let mut model = layers(2, "model.layers.", &LLAMA);
    model.extend(list("", &[("model.embed_tokens.weight", &[50, 8]), ("model.norm.weight", &[8])]));
    assert_eq!(heads_of(&model), ["model.embed_tokens.weight"]);
    model.extend(list("", &[("lm_head.weight", &[50, 8])]));
    assert_eq!(heads_of(&model), ["lm_head.weight"]);
}

#[test]
fn a_model_saved_without_its_head_has_none() {
    let mut bare = layers(2, "layers.", &LLAMA);
    bare.extend(list("", &[("embed_tokens.weight", &[50, 8]), ("norm.weight", &[8])]));
    assert_eq!(heads_of(&bare), [""; 0]);
}

#[test]
fn tables_whose_rows_something_else_counts_are_no_heads() {
    let mut model = layers(2, "model.layers.", &LLAMA);
    model.extend(list("model.", &[("embed_tokens.weight", &[50, 8]), ("other.weight", &[4, 50])]));
    assert_eq!(heads_of(&model), [""; 0]);
    // Which of two tables is the head, nothing tells.
    model.pop();
    model.extend(list("model.", &[("positions.weight", &[60, 8])]));
    assert_eq!(heads_of(&model), [""; 0]);
}

#[test]
fn the_tables_of_an_encoder_are_no_heads() {
    let mut model = layers(2, "bert.encoder.layer.", &BERT);
    model.extend(list("bert.embeddings.", &[("word_embeddings.weight", &[50, 8])]));
    assert_eq!(heads_of(&model), [""; 0]);
}

#[test]
fn heads_of_an_incomplete_model_are_not_guessed() {
    let mut model = layers(2, "model.layers.", &LLAMA);
    model.extend(list("model.", &[("embed_tokens.weight", &[50, 8])]));
    let source = safetensors(&model);
    let files = [SourceFile { name: "model-00001-of-00002.safetensors".to_owned(), source: &&source[..] }];
    let found = find_tensors(&files).unwrap();
    assert!(output_heads(&files, &found).unwrap().is_empty());
}
