//! Names and shapes of well-known state dictionaries -> groups of units.
//!
//! A layout says which modules of a layer hold the units. A layer has a group only if every tensor of the layout is
//! there, all shapes agree, and nothing else lies in these modules, or looks as if it knew the units. How many heads a
//! layer has, its shapes do not say: heads need a `config.json`, and a model type known to compute what the names promise.

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use super::{Group, Member};
use crate::formats::{self, Format, SourceFile};
use crate::tensor::TensorLocation;

/// How a linear module stores its weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `[out, in]`.
    Linear,
    /// `[in, out]`, GPT-2's.
    Transposed,
}

/// A feed-forward layer. Modules are named relative to the layer.
struct FeedForward {
    /// One, or a gate and what it multiplies.
    producers: &'static [&'static str],
    /// How many blocks of units each producer holds.
    blocks: usize,
    consumer: &'static str,
    kind: Kind,
    scopes: &'static [&'static str],
    /// Further tensors of the scopes, which do not know the units.
    others: &'static [&'static str],
    role: &'static str,
}

const FEED_FORWARDS: [FeedForward; 8] = [
    // BERT, RoBERTa, MiniLM, ViT and others.
    FeedForward {
        producers: &["intermediate.dense"],
        blocks: 1,
        consumer: "output.dense",
        kind: Kind::Linear,
        scopes: &["intermediate", "output"],
        others: &[
            "output.LayerNorm.weight",
            "output.LayerNorm.bias",
            "output.LayerNorm.gamma",
            "output.LayerNorm.beta",
        ],
        role: "intermediate",
    },
    // DistilBERT.
    FeedForward {
        producers: &["ffn.lin1"],
        blocks: 1,
        consumer: "ffn.lin2",
        kind: Kind::Linear,
        scopes: &["ffn"],
        others: &[],
        role: "ffn",
    },
    // GPT-2.
    FeedForward {
        producers: &["mlp.c_fc"],
        blocks: 1,
        consumer: "mlp.c_proj",
        kind: Kind::Transposed,
        scopes: &["mlp"],
        others: &[],
        role: "mlp",
    },
    // GPT-NeoX.
    FeedForward {
        producers: &["mlp.dense_h_to_4h"],
        blocks: 1,
        consumer: "mlp.dense_4h_to_h",
        kind: Kind::Linear,
        scopes: &["mlp"],
        others: &[],
        role: "mlp",
    },
    // OPT, Whisper, BART.
    FeedForward {
        producers: &["fc1"],
        blocks: 1,
        consumer: "fc2",
        kind: Kind::Linear,
        scopes: &["fc1", "fc2"],
        others: &[],
        role: "fc",
    },
    // CLIP, SigLIP, DINOv2, ViT as timm names it.
    FeedForward {
        producers: &["mlp.fc1"],
        blocks: 1,
        consumer: "mlp.fc2",
        kind: Kind::Linear,
        scopes: &["mlp"],
        others: &[],
        role: "mlp",
    },
    // Llama, Qwen, Gemma, Mistral.
    FeedForward {
        producers: &["mlp.gate_proj", "mlp.up_proj"],
        blocks: 1,
        consumer: "mlp.down_proj",
        kind: Kind::Linear,
        scopes: &["mlp"],
        others: &[],
        role: "mlp",
    },
    // Phi-3: gates, then what they multiply.
    FeedForward {
        producers: &["mlp.gate_up_proj"],
        blocks: 2,
        consumer: "mlp.down_proj",
        kind: Kind::Linear,
        scopes: &["mlp"],
        others: &[],
        role: "mlp",
    },
];

/// Where queries, keys and values come from.
enum Inputs {
    /// Three modules.
    Separate([&'static str; 3]),
    /// One, all queries before all keys before all values.
    Thirds(&'static str),
    /// One, query, key and value of one head before those of the next.
    ByHead(&'static str),
}

/// An attention layer. Modules are named relative to the layer.
struct Attention {
    inputs: Inputs,
    output: &'static str,
    kind: Kind,
    scope: &'static str,
    others: &'static [&'static str],
    /// Of queries and keys, over all heads at once or over each head alike.
    norms: Option<[&'static str; 2]>,
    /// Whether the position is rotated into queries and keys, so that their units are not alike.
    is_rotary: bool,
    /// Whether keys alone may have no bias, as in Whisper.
    may_lack_key_bias: bool,
    model_types: &'static [&'static str],
}

const BERTS: [&str; 8] = ["bert", "roberta", "xlm-roberta", "camembert", "electra", "vit", "deit", "dinov2"];
const LLAMAS: [&str; 9] = ["llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "olmo2", "phi3"];
const OPTS: [&str; 9] = [
    "opt",
    "whisper",
    "bart",
    "clip",
    "clip_text_model",
    "clip_vision_model",
    "siglip",
    "siglip_text_model",
    "siglip_vision_model",
];

const ATTENTIONS: [Attention; 8] = [
    Attention {
        inputs: Inputs::Separate(["attention.self.query", "attention.self.key", "attention.self.value"]),
        output: "attention.output.dense",
        kind: Kind::Linear,
        scope: "attention",
        others: &[
            "attention.output.LayerNorm.weight",
            "attention.output.LayerNorm.bias",
            "attention.output.LayerNorm.gamma",
            "attention.output.LayerNorm.beta",
        ],
        norms: None,
        is_rotary: false,
        may_lack_key_bias: false,
        model_types: &BERTS,
    },
    Attention {
        inputs: Inputs::Separate(["attention.attention.query", "attention.attention.key", "attention.attention.value"]),
        output: "attention.output.dense",
        kind: Kind::Linear,
        scope: "attention",
        others: &[],
        norms: None,
        is_rotary: false,
        may_lack_key_bias: false,
        model_types: &BERTS,
    },
    Attention {
        inputs: Inputs::Separate(["attention.q_lin", "attention.k_lin", "attention.v_lin"]),
        output: "attention.out_lin",
        kind: Kind::Linear,
        scope: "attention",
        others: &[],
        norms: None,
        is_rotary: false,
        may_lack_key_bias: false,
        model_types: &["distilbert"],
    },
    Attention {
        inputs: Inputs::Thirds("attn.c_attn"),
        output: "attn.c_proj",
        kind: Kind::Transposed,
        scope: "attn",
        others: &["attn.bias", "attn.masked_bias"],
        norms: None,
        is_rotary: false,
        may_lack_key_bias: false,
        model_types: &["gpt2"],
    },
    Attention {
        inputs: Inputs::ByHead("attention.query_key_value"),
        output: "attention.dense",
        kind: Kind::Linear,
        scope: "attention",
        others: &["attention.bias", "attention.masked_bias", "attention.rotary_emb.inv_freq"],
        norms: None,
        is_rotary: true,
        may_lack_key_bias: false,
        model_types: &["gpt_neox"],
    },
    Attention {
        inputs: Inputs::Separate(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
        output: "self_attn.out_proj",
        kind: Kind::Linear,
        scope: "self_attn",
        others: &[],
        norms: None,
        is_rotary: false,
        may_lack_key_bias: true,
        model_types: &OPTS,
    },
    Attention {
        inputs: Inputs::Separate(["encoder_attn.q_proj", "encoder_attn.k_proj", "encoder_attn.v_proj"]),
        output: "encoder_attn.out_proj",
        kind: Kind::Linear,
        scope: "encoder_attn",
        others: &[],
        norms: None,
        is_rotary: false,
        may_lack_key_bias: true,
        model_types: &OPTS,
    },
    Attention {
        inputs: Inputs::Separate(["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"]),
        output: "self_attn.o_proj",
        kind: Kind::Linear,
        scope: "self_attn",
        others: &["self_attn.rotary_emb.inv_freq"],
        norms: Some(["self_attn.q_norm", "self_attn.k_norm"]),
        is_rotary: true,
        may_lack_key_bias: false,
        model_types: &LLAMAS,
    },
];

/// The groups of all state dictionaries.
pub(super) fn discover(files: &[SourceFile], tensors: &[TensorLocation]) -> Vec<Group> {
    let names = Names::new(files, tensors);
    let configs = Configs::new(files);
    let mut groups = Vec::new();
    for layout in &FEED_FORWARDS {
        for base in names.bases(&[layout.producers[0], ".weight"].concat()) {
            groups.extend(layout.group(&names, &base));
        }
    }
    for layout in &ATTENTIONS {
        let anchor = match layout.inputs {
            Inputs::Separate([module, ..]) | Inputs::Thirds(module) | Inputs::ByHead(module) => module,
        };
        for base in names.bases(&[anchor, ".weight"].concat()) {
            groups.extend(layout.groups(&names, &configs, &base).unwrap_or_default());
        }
    }
    groups.extend(convolutions(&names));
    drop_odd_ones(groups)
}

/// A layer that has fewer tensors in a group than its like in other layers lacks some.
fn drop_odd_ones(mut groups: Vec<Group>) -> Vec<Group> {
    let mut most: HashMap<String, usize> = HashMap::new();
    for group in &groups {
        let most = most.entry(group.role.clone()).or_default();
        *most = group.members.len().max(*most);
    }
    groups.retain(|group| most.get(&group.role) == Some(&group.members.len()));
    groups
}

/// A linear module.
#[derive(Debug, Clone, Copy)]
struct Linear {
    weight: usize,
    bias: Option<usize>,
    out: usize,
    inputs: usize,
    kind: Kind,
}

impl Linear {
    /// Units among its outputs.
    fn outputs(&self, start: usize, repeats: usize, unit_len: usize) -> impl Iterator<Item = Member> {
        let axis = if self.kind == Kind::Linear { 0 } else { 1 };
        let weight = Member { tensor: self.weight, axis, start, repeats, unit_len };
        [Some(weight), self.bias.map(|bias| Member { tensor: bias, axis: 0, ..weight })].into_iter().flatten()
    }

    /// Units among its inputs.
    fn inputs(&self, start: usize, repeats: usize, unit_len: usize) -> Member {
        let axis = if self.kind == Kind::Linear { 1 } else { 0 };
        Member { tensor: self.weight, axis, start, repeats, unit_len }
    }
}

/// Tensors of state dictionaries by name.
struct Names<'a> {
    tensors: &'a [TensorLocation],
    by_name: HashMap<&'a str, usize>,
    sorted: Vec<&'a str>,
}

impl<'a> Names<'a> {
    fn new(files: &[SourceFile], tensors: &'a [TensorLocation]) -> Self {
        let incomplete = incomplete_shards(files);
        let is_dictionary = |file: &SourceFile| {
            matches!(formats::detect(&file.name, file.bytes), Format::Safetensors | Format::Torch)
                && !incomplete.contains(&file.name)
        };
        let dictionaries: Vec<bool> = files.iter().map(is_dictionary).collect();
        let mut by_name = HashMap::new();
        for (index, tensor) in tensors.iter().enumerate().filter(|(_, tensor)| dictionaries[tensor.file]) {
            by_name.insert(tensor.name.as_str(), index);
        }
        let mut sorted: Vec<&str> = by_name.keys().copied().collect();
        sorted.sort_unstable();
        Names { tensors, by_name, sorted }
    }

    /// What stands before this suffix in names, with the dot.
    fn bases(&self, suffix: &str) -> Vec<String> {
        let bases = self.sorted.iter().filter_map(|name| name.strip_suffix(suffix));
        bases.filter(|base| base.is_empty() || base.ends_with(['.', '/'])).map(str::to_owned).collect()
    }

    fn with_prefix(&self, prefix: &str) -> impl Iterator<Item = &'a str> {
        let first = self.sorted.partition_point(|name| *name < prefix);
        let prefix = prefix.to_owned();
        self.sorted[first..].iter().copied().take_while(move |name| name.starts_with(&prefix))
    }

    fn shape(&self, index: usize) -> Vec<usize> {
        let extents = self.tensors[index].shape.0.iter();
        extents.map(|&extent| usize::try_from(extent).unwrap_or(usize::MAX)).collect()
    }

    /// A tensor with one axis of this extent.
    fn vector(&self, name: &str, extent: usize) -> Option<usize> {
        let index = *self.by_name.get(name)?;
        (self.shape(index) == [extent]).then_some(index)
    }

    fn linear(&self, path: &str, kind: Kind) -> Option<Linear> {
        let weight = *self.by_name.get(format!("{path}.weight").as_str())?;
        let &[first, second] = &self.shape(weight)[..] else { return None };
        let (out, inputs) = if kind == Kind::Linear { (first, second) } else { (second, first) };
        let bias = format!("{path}.bias");
        let has_bias = self.by_name.contains_key(bias.as_str());
        let bias = self.vector(&bias, out);
        (bias.is_some() == has_bias && self.tensors[weight].dtype.is_float()).then_some(Linear {
            weight,
            bias,
            out,
            inputs,
            kind,
        })
    }

    /// Whether a module holds these tensors at most.
    fn holds_only(&self, scope: &str, known: &[String]) -> bool {
        self.with_prefix(&format!("{scope}.")).all(|name| known.iter().any(|known| known == name))
    }
}

/// The files of sharded models, `name-00001-of-00003.safetensors`, of which not all shards are there: what belongs to a
/// unit may lie in another.
fn incomplete_shards(files: &[SourceFile]) -> BTreeSet<String> {
    let shard = |name: &str| {
        let (stem, _) = name.rsplit_once('.')?;
        let (rest, count) = stem.rsplit_once("-of-")?;
        let (stem, number) = rest.rsplit_once('-')?;
        number.parse::<usize>().ok()?;
        Some((stem.to_owned(), count.parse::<usize>().ok()?))
    };
    let mut found: HashMap<(String, usize), Vec<&String>> = HashMap::new();
    for file in files {
        if let Some(key) = shard(&file.name) {
            found.entry(key).or_default().push(&file.name);
        }
    }
    found
        .into_iter()
        .filter(|((_, count), names)| names.len() < *count)
        .flat_map(|(_, names)| names.into_iter().cloned())
        .collect()
}

/// The role of a layer and its number: `encoder.layer.3.` is number 3 of `encoder.layer.*`. Modules that are not
/// numbered are no layers of the models we know.
fn layer(base: &str) -> Option<(String, usize)> {
    let base = base.strip_suffix('.')?;
    let (stem, number) = base.rsplit_once('.').unwrap_or(("", base));
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let layer = number.parse().ok().filter(|_| is_number)?;
    Some((if stem.is_empty() { "*".to_owned() } else { format!("{stem}.*") }, layer))
}

impl FeedForward {
    fn group(&self, names: &Names, base: &str) -> Option<Group> {
        let linear = |module: &str| names.linear(&[base, module].concat(), self.kind);
        let consumer = linear(self.consumer)?;
        let producers = self.producers.iter().copied().map(linear).collect::<Option<Vec<Linear>>>()?;
        let units = consumer.inputs;
        let fits = |producer: &Linear| {
            Some(producer.out) == units.checked_mul(self.blocks)
                && producer.inputs == consumer.out
                && producer.bias.is_some() == consumer.bias.is_some()
        };
        if !producers.iter().all(fits) || !self.knows_all(names, base) {
            return None;
        }
        let blocks = producers.iter().flat_map(|producer| (0..self.blocks).map(move |block| (producer, block)));
        let mut members: Vec<Member> =
            blocks.flat_map(|(producer, block)| producer.outputs(block * units, 1, 1)).collect();
        members.push(consumer.inputs(0, 1, 1));
        let is_elsewhere = names.with_prefix(base).any(|name| {
            let index = names.by_name[name];
            names.shape(index).contains(&units) && !members.iter().any(|member| member.tensor == index)
        });
        let (role, layer) = layer(base)?;
        (!is_elsewhere).then(|| Group { role: format!("{role}.{}", self.role), layer, head: None, units, members })
    }

    fn knows_all(&self, names: &Names, base: &str) -> bool {
        let modules = self.producers.iter().chain([&self.consumer]);
        let mut known: Vec<String> =
            modules.flat_map(|module| [format!("{base}{module}.weight"), format!("{base}{module}.bias")]).collect();
        known.extend(self.others.iter().map(|other| [base, other].concat()));
        self.scopes.iter().all(|scope| names.holds_only(&[base, scope].concat(), &known))
    }
}

/// Where one of query, key and value begins in each head: `start + head * stride`.
struct Projection {
    linear: Linear,
    start: usize,
    stride: usize,
}

impl Attention {
    fn groups(&self, names: &Names, configs: &Configs, base: &str) -> Option<Vec<Group>> {
        let output = names.linear(&[base, self.output].concat(), self.kind)?;
        let file = names.tensors[output.weight].file;
        let heads = configs.heads(file, base, self.model_types)?;
        let linear = |module: &str| names.linear(&[base, module].concat(), self.kind);
        let head_len = output.inputs.checked_div(heads.queries).filter(|len| len * heads.queries == output.inputs)?;
        if heads.head_len.is_some_and(|told| told != head_len) {
            return None;
        }
        let per_group = heads.queries.checked_div(heads.keys).filter(|ratio| ratio * heads.keys == heads.queries)?;
        let key_len = heads.keys * head_len;
        let projections = match self.inputs {
            Inputs::Separate(modules) => {
                let [query, key, value] = [linear(modules[0])?, linear(modules[1])?, linear(modules[2])?];
                if [query.out, key.out, value.out] != [output.inputs, key_len, key_len] {
                    return None;
                }
                let has_bias = query.bias.is_some();
                let key_fits = key.bias.is_some() == has_bias || key.bias.is_none() && self.may_lack_key_bias;
                // With a rotary position, outputs may have none where the others have one, as in Qwen.
                let output_fits = output.bias.is_some() == has_bias || self.is_rotary;
                if value.bias.is_some() != has_bias || !key_fits || !output_fits {
                    return None;
                }
                [query, key, value].map(|linear| Projection { linear, start: 0, stride: head_len })
            }
            Inputs::Thirds(module) | Inputs::ByHead(module) => {
                let linear = linear(module)?;
                if heads.keys != heads.queries
                    || Some(linear.out) != output.inputs.checked_mul(3)
                    || linear.bias.is_some() != output.bias.is_some()
                {
                    return None;
                }
                let by_head = matches!(self.inputs, Inputs::ByHead(_));
                let (step, stride) = if by_head { (head_len, 3 * head_len) } else { (output.inputs, head_len) };
                [0, 1, 2].map(|which| Projection { linear, start: which * step, stride })
            }
        };
        let norms = self.norm_members(names, base, output.inputs, key_len, head_len)?;
        let [query, key, value] = &projections;
        if query.linear.inputs != output.out || key.linear.inputs != value.linear.inputs {
            return None;
        }
        let (role, layer) = layer(base)?;
        let group = |role: String, head, units, members| Group { role, layer, head, units, members };
        let role = |what: &str| format!("{role}.{}.{what}", self.scope);
        let mut groups = Vec::new();
        let mut members: Vec<Member> = Vec::new();
        if query.stride == head_len {
            members.extend(query.linear.outputs(query.start, 1, per_group * head_len));
            members.extend(key.linear.outputs(key.start, 1, head_len));
            members.extend(value.linear.outputs(value.start, 1, head_len));
        } else {
            members.extend(query.linear.outputs(0, 1, query.stride));
        }
        members.push(output.inputs(0, 1, per_group * head_len));
        for (tensor, unit_len) in norms.iter().zip([per_group * head_len, head_len]) {
            members.push(Member { tensor: *tensor, axis: 0, start: 0, repeats: 1, unit_len });
        }
        groups.push(group(role("heads"), None, heads.keys, members));
        let group_len = per_group * head_len;
        for head in 0..heads.keys {
            let at = |projection: &Projection| projection.start + head * projection.stride;
            let queries_at = query.start + head * per_group * query.stride;
            if per_group > 1 {
                let mut members: Vec<Member> = query.linear.outputs(queries_at, 1, head_len).collect();
                members.push(output.inputs(head * group_len, 1, head_len));
                if let [norm, _] = norms[..] {
                    members.push(Member { tensor: norm, axis: 0, start: queries_at, repeats: 1, unit_len: head_len });
                }
                groups.push(group(role("queries"), Some(head), per_group, members));
            }
            let mut members: Vec<Member> = value.linear.outputs(at(value), 1, 1).collect();
            members.push(output.inputs(head * group_len, per_group, 1));
            groups.push(group(role("values"), Some(head), head_len, members));
            if !self.is_rotary {
                let mut members: Vec<Member> = query.linear.outputs(queries_at, per_group, 1).collect();
                members.extend(key.linear.outputs(at(key), 1, 1));
                groups.push(group(role("keys"), Some(head), head_len, members));
            }
        }
        self.knows_all(names, base).then_some(groups)
    }

    /// Norms of queries and keys that hold a weight for every unit of every head; nothing where shapes do not fit.
    fn norm_members(
        &self,
        names: &Names,
        base: &str,
        queries: usize,
        keys: usize,
        head_len: usize,
    ) -> Option<Vec<usize>> {
        let Some(norms) = self.norms else { return Some(Vec::new()) };
        let named = norms.map(|norm| format!("{base}{norm}.weight"));
        let present = named.each_ref().map(|name| names.by_name.contains_key(name.as_str()));
        match present {
            [false, false] => Some(Vec::new()),
            [true, true] if named.iter().all(|name| names.vector(name, head_len).is_some()) => Some(Vec::new()),
            [true, true] => Some(vec![names.vector(&named[0], queries)?, names.vector(&named[1], keys)?]),
            _ => None,
        }
    }

    fn knows_all(&self, names: &Names, base: &str) -> bool {
        let inputs: &[&str] = match &self.inputs {
            Inputs::Separate(modules) => modules,
            Inputs::Thirds(module) | Inputs::ByHead(module) => std::slice::from_ref(module),
        };
        let modules = inputs.iter().chain([&self.output]);
        let mut known: Vec<String> =
            modules.flat_map(|module| [format!("{base}{module}.weight"), format!("{base}{module}.bias")]).collect();
        known.extend(self.norms.iter().flatten().map(|norm| format!("{base}{norm}.weight")));
        known.extend(self.others.iter().map(|other| [base, other].concat()));
        names.holds_only(&[base, self.scope].concat(), &known)
    }
}

/// How many heads a layer has.
struct Heads {
    queries: usize,
    keys: usize,
    head_len: Option<usize>,
}

/// What `config.json` files say, each by its folder.
struct Configs {
    by_folder: HashMap<String, Value>,
    folders: Vec<String>,
}

impl Configs {
    fn new(files: &[SourceFile]) -> Self {
        let folder = |name: &str| name.rsplit_once('/').map_or(String::new(), |(folder, _)| folder.to_owned());
        let is_config = |file: &&SourceFile| file.name == "config.json" || file.name.ends_with("/config.json");
        let configs = files.iter().filter(is_config);
        let by_folder =
            configs.filter_map(|file| Some((folder(&file.name), serde_json::from_slice(file.bytes).ok()?))).collect();
        Configs { by_folder, folders: files.iter().map(|file| folder(&file.name)).collect() }
    }

    /// The heads of the layer whose names begin like this, if the model's type is one of these.
    fn heads(&self, file: usize, base: &str, model_types: &[&str]) -> Option<Heads> {
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

/// Channels between convolutions of state dictionaries whose graph is known: torchcrepe, and residual networks named as
/// in torchvision.
fn convolutions(names: &Names) -> Vec<Group> {
    let mut groups = Vec::new();
    for base in names.bases("conv1_BN.running_var") {
        groups.extend(crepe(names, &base).unwrap_or_default());
    }
    for base in names.bases("layer1.0.bn1.running_var") {
        groups.extend(residual_network(names, &base));
    }
    groups
}

/// A convolution `[out, in, height, width]`: weight, and bias if there is one.
fn convolution(names: &Names, path: &str) -> Option<(Vec<Member>, Member, [usize; 2])> {
    let weight = *names.by_name.get(format!("{path}.weight").as_str())?;
    let &[out, inputs, _, _] = &names.shape(weight)[..] else { return None };
    let member = |tensor, axis| Member { tensor, axis, start: 0, repeats: 1, unit_len: 1 };
    let mut outputs = vec![member(weight, 0)];
    let bias = format!("{path}.bias");
    if names.by_name.contains_key(bias.as_str()) {
        outputs.push(member(names.vector(&bias, out)?, 0));
    }
    Some((outputs, member(weight, 1), [out, inputs]))
}

/// The vectors of a batch normalization.
fn batch_norm(names: &Names, path: &str, channels: usize) -> Option<Vec<Member>> {
    let vectors = ["weight", "bias", "running_mean", "running_var"].into_iter();
    let vectors = vectors.map(|name| names.vector(&format!("{path}.{name}"), channels));
    vectors.map(|tensor| Some(Member { tensor: tensor?, axis: 0, start: 0, repeats: 1, unit_len: 1 })).collect()
}

/// Six convolutions, each with its normalization, and a classifier that takes all channels of a height before the next.
fn crepe(names: &Names, base: &str) -> Option<Vec<Group>> {
    let mut known = BTreeSet::from(["classifier.weight", "classifier.bias"].map(|name| [base, name].concat()));
    for number in 1..=6 {
        let conv = ["weight", "bias"].map(|name| format!("{base}conv{number}.{name}"));
        let norm = ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"];
        known.extend(conv.into_iter().chain(norm.map(|name| format!("{base}conv{number}_BN.{name}"))));
    }
    if !names.with_prefix(base).all(|name| known.contains(name)) {
        return None;
    }
    let mut groups = Vec::new();
    for number in 1..=6 {
        let (mut members, _, [channels, _]) = convolution(names, &format!("{base}conv{number}"))?;
        members.extend(batch_norm(names, &format!("{base}conv{number}_BN"), channels)?);
        if number < 6 {
            let (_, consumer, [_, inputs]) = convolution(names, &format!("{base}conv{}", number + 1))?;
            members.push((inputs == channels).then_some(consumer)?);
        } else {
            let classifier = names.linear(&format!("{base}classifier"), Kind::Linear)?;
            let heights = classifier.inputs.checked_div(channels).filter(|n| n * channels == classifier.inputs)?;
            members.push(classifier.inputs(0, heights, 1));
        }
        let role = format!("{base}conv*");
        groups.push(Group { role, layer: number, head: None, units: channels, members });
    }
    Some(groups)
}

/// Channels inside the blocks of a residual network.
fn residual_network(names: &Names, base: &str) -> Vec<Group> {
    let is_known = |name: &str| {
        let Some(name) = name.strip_prefix(base) else { return false };
        let parts: Vec<&str> = name.split('.').collect();
        let (module, tensor) = match parts[..] {
            [module @ ("conv1" | "bn1" | "fc"), tensor] => (module, tensor),
            [stage, block, module, tensor] | [stage, block, module @ "downsample", _, tensor]
                if stage.starts_with("layer") && block.parse::<usize>().is_ok() =>
            {
                (module, tensor)
            }
            _ => return false,
        };
        matches!(module, "conv1" | "conv2" | "conv3" | "bn1" | "bn2" | "bn3" | "fc" | "downsample")
            && matches!(tensor, "weight" | "bias" | "running_mean" | "running_var" | "num_batches_tracked")
    };
    if !names.with_prefix(base).all(is_known) {
        return Vec::new();
    }
    let mut groups = Vec::new();
    for number in [1, 2] {
        for block in names.bases(&format!("conv{}.weight", number + 1)).iter().filter(|block| block.starts_with(base)) {
            let found = || {
                let (mut members, _, [channels, _]) = convolution(names, &format!("{block}conv{number}"))?;
                members.extend(batch_norm(names, &format!("{block}bn{number}"), channels)?);
                let (_, consumer, [_, inputs]) = convolution(names, &format!("{block}conv{}", number + 1))?;
                members.push((inputs == channels).then_some(consumer)?);
                let (role, layer) = layer(block)?;
                Some(Group { role: format!("{role}.conv{number}"), layer, head: None, units: channels, members })
            };
            groups.extend(found());
        }
    }
    groups
}
