//! Attention heads, queries that share a key, and the units inside heads.

use super::super::group::{Group, Member};
use super::configs::Configs;
use super::names::{Kind, Linear, Names, layer};

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

static ATTENTIONS: [Attention; 8] = [
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

/// The groups of all attention layers whose heads are known.
pub(super) fn discover(names: &Names, configs: &Configs) -> Vec<Group> {
    let of_layout = |layout: &'static Attention| {
        let anchor = match layout.inputs {
            Inputs::Separate([module, ..]) | Inputs::Thirds(module) | Inputs::ByHead(module) => module,
        };
        let bases = names.bases(&[anchor, ".weight"].concat());
        bases.into_iter().filter_map(|base| layout.groups(names, configs, &base)).flatten().collect::<Vec<_>>()
    };
    ATTENTIONS.iter().flat_map(of_layout).collect()
}

/// Where one of query, key and value begins in each head: `start + head * stride`.
struct Projection {
    linear: Linear,
    start: usize,
    stride: usize,
}

impl Projection {
    /// Where a head begins.
    fn at(&self, head: usize) -> usize {
        self.start + head * self.stride
    }
}

/// The modules of one layer, whose shapes fit.
struct Modules {
    query: Projection,
    key: Projection,
    value: Projection,
    output: Linear,
    /// Of queries and keys, if they hold a weight for every unit of every head.
    norms: Vec<usize>,
    /// Heads of keys and values.
    heads: usize,
    /// Heads of queries that share one of these.
    queries_per_head: usize,
    head_len: usize,
}

impl Attention {
    fn groups(&self, names: &Names, configs: &Configs, base: &str) -> Option<Vec<Group>> {
        let modules = self.modules(names, configs, base)?;
        let (role, layer) = layer(base)?;
        let group = |what: &str, head, units, members| {
            let role = format!("{role}.{}.{what}", self.scope);
            Group { role, layer, head, units, members }
        };
        let mut groups = vec![group("heads", None, modules.heads, modules.whole_heads())];
        for head in 0..modules.heads {
            if modules.queries_per_head > 1 {
                groups.push(group("queries", Some(head), modules.queries_per_head, modules.queries_of(head)));
            }
            groups.push(group("values", Some(head), modules.head_len, modules.value_units(head)));
            if !self.is_rotary {
                groups.push(group("keys", Some(head), modules.head_len, modules.key_units(head)));
            }
        }
        self.knows_all(names, base).then_some(groups)
    }

    /// Nothing where a module is missing or its shape is another.
    fn modules(&self, names: &Names, configs: &Configs, base: &str) -> Option<Modules> {
        let output = names.linear(&[base, self.output].concat(), self.kind)?;
        let file = names.tensors[output.weight].file;
        let heads = configs.heads(file, base, self.model_types)?;
        let head_len = output.inputs.checked_div(heads.queries).filter(|len| len * heads.queries == output.inputs)?;
        if heads.head_len.is_some_and(|told| told != head_len) {
            return None;
        }
        let ratio = heads.queries.checked_div(heads.keys).filter(|ratio| ratio * heads.keys == heads.queries)?;
        let key_len = heads.keys * head_len;
        let [query, key, value] = match self.inputs {
            Inputs::Separate(modules) => {
                let modules = modules.map(|module| names.linear(&[base, module].concat(), self.kind));
                self.separate(modules, &output, key_len)?.map(|linear| Projection {
                    linear,
                    start: 0,
                    stride: head_len,
                })
            }
            Inputs::Thirds(module) | Inputs::ByHead(module) => {
                let linear = names.linear(&[base, module].concat(), self.kind)?;
                if heads.keys != heads.queries {
                    return None;
                }
                self.joint(linear, &output, head_len)?
            }
        };
        let norms = self.norm_members(names, base, output.inputs, key_len, head_len)?;
        if query.linear.inputs != output.out || key.linear.inputs != value.linear.inputs {
            return None;
        }
        Some(Modules { query, key, value, output, norms, heads: heads.keys, queries_per_head: ratio, head_len })
    }

    /// Query, key and value of three modules.
    fn separate(&self, modules: [Option<Linear>; 3], output: &Linear, key_len: usize) -> Option<[Linear; 3]> {
        let [query, key, value] = [modules[0]?, modules[1]?, modules[2]?];
        if [query.out, key.out, value.out] != [output.inputs, key_len, key_len] {
            return None;
        }
        let has_bias = query.bias.is_some();
        let key_fits = key.bias.is_some() == has_bias || key.bias.is_none() && self.may_lack_key_bias;
        // With a rotary position, outputs may have none where the others have one, as in Qwen.
        let output_fits = output.bias.is_some() == has_bias || self.is_rotary;
        (value.bias.is_some() == has_bias && key_fits && output_fits).then_some([query, key, value])
    }

    /// Query, key and value of one module.
    fn joint(&self, linear: Linear, output: &Linear, head_len: usize) -> Option<[Projection; 3]> {
        if Some(linear.out) != output.inputs.checked_mul(3) || linear.bias.is_some() != output.bias.is_some() {
            return None;
        }
        let by_head = matches!(self.inputs, Inputs::ByHead(_));
        let (step, stride) = if by_head { (head_len, 3 * head_len) } else { (output.inputs, head_len) };
        Some([0, 1, 2].map(|which| Projection { linear, start: which * step, stride }))
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

impl Modules {
    /// Elements of queries that share a key.
    fn shared_len(&self) -> usize {
        self.queries_per_head * self.head_len
    }

    /// Where the first of the queries lies that share a head's key.
    fn queries_at(&self, head: usize) -> usize {
        self.query.at(head * self.queries_per_head)
    }

    fn whole_heads(&self) -> Vec<Member> {
        let Modules { query, key, value, output, head_len, .. } = self;
        let mut members: Vec<Member> = Vec::new();
        if query.stride == *head_len {
            members.extend(query.linear.outputs(query.start, 1, self.shared_len()));
            members.extend(key.linear.outputs(key.start, 1, *head_len));
            members.extend(value.linear.outputs(value.start, 1, *head_len));
        } else {
            members.extend(query.linear.outputs(0, 1, query.stride));
        }
        members.push(output.inputs(0, 1, self.shared_len()));
        for (&tensor, unit_len) in self.norms.iter().zip([self.shared_len(), *head_len]) {
            members.push(Member { tensor, axis: 0, start: 0, repeats: 1, unit_len });
        }
        members
    }

    fn queries_of(&self, head: usize) -> Vec<Member> {
        let (start, head_len) = (self.queries_at(head), self.head_len);
        let mut members: Vec<Member> = self.query.linear.outputs(start, 1, head_len).collect();
        members.push(self.output.inputs(head * self.shared_len(), 1, head_len));
        if let [tensor, _] = self.norms[..] {
            members.push(Member { tensor, axis: 0, start, repeats: 1, unit_len: head_len });
        }
        members
    }

    fn value_units(&self, head: usize) -> Vec<Member> {
        let mut members: Vec<Member> = self.value.linear.outputs(self.value.at(head), 1, 1).collect();
        members.push(self.output.inputs(head * self.shared_len(), self.queries_per_head, 1));
        members
    }

    fn key_units(&self, head: usize) -> Vec<Member> {
        let queries = self.query.linear.outputs(self.queries_at(head), self.queries_per_head, 1);
        queries.chain(self.key.linear.outputs(self.key.at(head), 1, 1)).collect()
    }
}
