//! `config.json` files -> how many heads a layer has.

use std::collections::HashMap;

use serde_json::Value;

use crate::error::Result;
use crate::formats::SourceFile;
use crate::source::read_range;

/// Longest file that is taken for a configuration.
const MAX_CONFIG_BYTES: u64 = 1 << 24;

/// How many heads a layer has.
pub(super) struct Heads {
    pub(super) queries: usize,
    pub(super) keys: usize,
    pub(super) head_len: Option<usize>,
}

/// What `config.json` files say, each by its folder.
pub(super) struct Configs {
    by_folder: HashMap<String, Value>,
    folders: Vec<String>,
}

impl Configs {
    pub(super) fn new(files: &[SourceFile]) -> Result<Self> {
        let folder = |name: &str| name.rsplit_once('/').map_or(String::new(), |(folder, _)| folder.to_owned());
        let is_config = |file: &&SourceFile| file.name == "config.json" || file.name.ends_with("/config.json");
        let mut by_folder = HashMap::new();
        for file in files.iter().filter(is_config).filter(|file| file.source.bytes() <= MAX_CONFIG_BYTES) {
            let bytes = read_range(file.source, 0..file.source.bytes())?;
            if let Ok(config) = serde_json::from_slice(&bytes) {
                by_folder.insert(folder(&file.name), config);
            }
        }
        Ok(Configs { by_folder, folders: files.iter().map(|file| folder(&file.name)).collect() })
    }

    /// The heads of the layer whose names begin like this, if the model's type is one of these.
    pub(super) fn heads(&self, file: usize, base: &str, model_types: &[&str]) -> Option<Heads> {
        let whole = self.by_folder.get(self.folders.get(file)?)?;
        let parts: Vec<&str> = base.split('.').collect();
        let nested =
            [("text_model", "text_config"), ("vision_model", "vision_config"), ("language_model", "text_config")];
        let nested = nested.iter().find(|(part, _)| parts.contains(part)).and_then(|(_, key)| whole.get(key));
        let config = nested.unwrap_or(whole);
        let model_type = config.get("model_type").or(whole.get("model_type"))?.as_str()?;
        if !model_types.contains(&model_type)
            || config.get("position_embedding_type").is_some_and(|kind| kind != "absolute")
        {
            return None;
        }
        let count = |keys: &[&str]| {
            let value = keys.iter().find_map(|key| config.get(key).filter(|value| !value.is_null()))?;
            usize::try_from(value.as_u64()?).ok().filter(|&count| count > 0)
        };
        let side = ["encoder", "decoder"].into_iter().find(|side| parts.contains(side));
        let of_side = side.map(|side| format!("{side}_attention_heads"));
        let of_side = of_side.as_deref().and_then(|key| count(&[key]));
        let queries = of_side.or_else(|| count(&["num_attention_heads", "n_head", "n_heads"]))?;
        let keys = count(&["num_key_value_heads"]).unwrap_or(queries);
        Some(Heads { queries, keys, head_len: count(&["head_dim"]) })
    }
}
