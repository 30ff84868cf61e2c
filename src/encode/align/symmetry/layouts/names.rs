//! Tensors of state dictionaries by name, and the linear modules that they make up.

use std::collections::{BTreeSet, HashMap};

use super::super::group::Member;
use crate::error::Result;
use crate::formats::{self, Format, Shard, SourceFile};
use crate::tensor::TensorLocation;

/// How a linear module stores its weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// `[out, in]`.
    Linear,
    /// `[in, out]`, GPT-2's.
    Transposed,
}

/// A linear module.
#[derive(Debug, Clone, Copy)]
pub(super) struct Linear {
    pub(super) weight: usize,
    pub(super) bias: Option<usize>,
    pub(super) out: usize,
    pub(super) inputs: usize,
    pub(super) kind: Kind,
}

impl Linear {
    /// Units among its outputs.
    pub(super) fn outputs(&self, start: usize, repeats: usize, unit_len: usize) -> impl Iterator<Item = Member> {
        let axis = if self.kind == Kind::Linear { 0 } else { 1 };
        let weight = Member { tensor: self.weight, axis, start, repeats, unit_len };
        [Some(weight), self.bias.map(|bias| Member { tensor: bias, axis: 0, ..weight })].into_iter().flatten()
    }

    /// Units among its inputs.
    pub(super) fn inputs(&self, start: usize, repeats: usize, unit_len: usize) -> Member {
        let axis = if self.kind == Kind::Linear { 1 } else { 0 };
        Member { tensor: self.weight, axis, start, repeats, unit_len }
    }
}

/// Tensors of state dictionaries by name.
pub(super) struct Names<'a> {
    pub(super) tensors: &'a [TensorLocation],
    pub(super) by_name: HashMap<&'a str, usize>,
    sorted: Vec<&'a str>,
}

impl<'a> Names<'a> {
    pub(super) fn new(files: &[SourceFile], tensors: &'a [TensorLocation]) -> Result<Self> {
        let incomplete = incomplete_shards(files);
        let is_dictionary = |file: &SourceFile| {
            let format = formats::detect(&file.name, file.source)?;
            Ok(matches!(format, Format::Safetensors | Format::Torch) && !incomplete.contains(&file.name))
        };
        let dictionaries: Vec<bool> = files.iter().map(is_dictionary).collect::<Result<_>>()?;
        let mut by_name = HashMap::new();
        for (index, tensor) in tensors.iter().enumerate().filter(|(_, tensor)| dictionaries[tensor.file]) {
            by_name.insert(tensor.name.as_str(), index);
        }
        let mut sorted: Vec<&str> = by_name.keys().copied().collect();
        sorted.sort_unstable();
        Ok(Names { tensors, by_name, sorted })
    }

    /// What stands before this suffix in names, with the dot.
    pub(super) fn bases(&self, suffix: &str) -> Vec<String> {
        let bases = self.sorted.iter().filter_map(|name| name.strip_suffix(suffix));
        bases.filter(|base| base.is_empty() || base.ends_with(['.', '/'])).map(str::to_owned).collect()
    }

    pub(super) fn with_prefix(&self, prefix: &str) -> impl Iterator<Item = &'a str> {
        let first = self.sorted.partition_point(|name| *name < prefix);
        let prefix = prefix.to_owned();
        self.sorted[first..].iter().copied().take_while(move |name| name.starts_with(&prefix))
    }

    pub(super) fn shape(&self, index: usize) -> Vec<usize> {
        let extents = self.tensors[index].shape.0.iter();
        extents.map(|&extent| usize::try_from(extent).unwrap_or(usize::MAX)).collect()
    }

    /// A tensor with one axis of this extent.
    pub(super) fn vector(&self, name: &str, extent: usize) -> Option<usize> {
        let index = *self.by_name.get(name)?;
        (self.shape(index) == [extent]).then_some(index)
    }

    pub(super) fn linear(&self, path: &str, kind: Kind) -> Option<Linear> {
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
    pub(super) fn holds_only(&self, scope: &str, known: &[String]) -> bool {
        self.with_prefix(&format!("{scope}.")).all(|name| known.iter().any(|known| known == name))
    }
}

/// The files of sharded models, `name-00001-of-00003.safetensors`, of which not all shards are there: what belongs to a
/// unit may lie in another.
fn incomplete_shards(files: &[SourceFile]) -> BTreeSet<String> {
    let mut found: HashMap<(String, u32), Vec<&String>> = HashMap::new();
    for file in files {
        if let Some(Shard { stem, count, .. }) = formats::shard(&file.name) {
            found.entry((stem, count)).or_default().push(&file.name);
        }
    }
    let incomplete = found.into_iter().filter(|((_, count), names)| names.len() < *count as usize);
    incomplete.flat_map(|(_, names)| names.into_iter().cloned()).collect()
}

/// The role of a layer and its number: `encoder.layer.3.` is number 3 of `encoder.layer.*`. Modules that are not
/// numbered are no layers of the models we know.
pub(super) fn layer(base: &str) -> Option<(String, usize)> {
    let base = base.strip_suffix('.')?;
    let (stem, number) = base.rsplit_once('.').unwrap_or(("", base));
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let layer = number.parse().ok().filter(|_| is_number)?;
    Some((if stem.is_empty() { "*".to_owned() } else { format!("{stem}.*") }, layer))
}
