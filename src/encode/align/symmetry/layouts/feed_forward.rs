//! Hidden units of feed-forward layers.

use super::super::group::{Group, Member};
use super::names::{Kind, Linear, Names, layer};

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

static FEED_FORWARDS: [FeedForward; 8] = [
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

/// The groups of all feed-forward layers.
pub(super) fn discover(names: &Names) -> Vec<Group> {
    let of_layout = |layout: &'static FeedForward| {
        let bases = names.bases(&[layout.producers[0], ".weight"].concat());
        bases.into_iter().filter_map(|base| layout.group(names, &base)).collect::<Vec<_>>()
    };
    FEED_FORWARDS.iter().flat_map(of_layout).collect()
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
