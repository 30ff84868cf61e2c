//! Channels between convolutions.

use std::collections::BTreeSet;

use super::super::group::{Group, Member};
use super::names::{Kind, Names, layer};

/// Channels between convolutions of state dictionaries whose graph is known: torchcrepe, and residual networks named as
/// in torchvision.
pub(super) fn discover(names: &Names) -> Vec<Group> {
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
