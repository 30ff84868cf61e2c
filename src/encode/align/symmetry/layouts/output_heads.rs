//! Output heads of language models: the matrix that gives a logit for every token, often the table that tokens are looked up in.

use super::names::{Kind, Names, layer};

/// The head of a language model of Llama's layout. It stands beside the model that holds the layers; where nothing stands
/// there, the table of tokens is the head too. A model that lies bare in the file was saved without its head.
pub(super) fn discover(names: &Names) -> Option<usize> {
    let (model, width) = names.bases("mlp.gate_proj.weight").iter().find_map(|base| {
        let gate = names.linear(&format!("{base}mlp.gate_proj"), Kind::Linear)?;
        let (role, _) = layer(base)?;
        let model = role.strip_suffix("layers.*").filter(|model| model.ends_with("model."))?;
        Some((model.to_owned(), gate.inputs))
    })?;
    let layers = format!("{model}layers.");
    let is_of_tokens = |&(name, &weight): &(&&str, &usize)| {
        let shape = names.shape(weight);
        let is_else = |other: usize| names.shape(other) != shape && names.shape(other).contains(&shape[0]);
        let fits = shape.len() == 2 && shape[1] == width && !name.starts_with(&layers);
        fits && !names.by_name.values().any(|&other| is_else(other))
    };
    let found = names.by_name.iter().filter(is_of_tokens);
    let (inside, beside): (Vec<_>, Vec<_>) = found.partition(|(name, _)| name.starts_with(&model));
    match (&inside[..], &beside[..]) {
        ([(_, head)], []) | (_, [(_, head)]) => Some(**head),
        _ => None,
    }
}
