//! Names and shapes of well-known state dictionaries -> groups of units.
//!
//! A layout says which modules of a layer hold the units. A layer has a group only if every tensor of the layout is
//! there, all shapes agree, and nothing else lies in these modules, or looks as if it knew the units. How many heads a
//! layer has, its shapes do not say: heads need a `config.json`, and a model type known to compute what the names promise.

mod attention;
mod configs;
mod convolutions;
mod feed_forward;
mod names;
mod output_heads;

use std::collections::HashMap;

use super::group::Group;
use crate::error::Result;
use crate::formats::SourceFile;
use crate::tensor::TensorLocation;
use configs::Configs;
use names::Names;

/// The groups of all state dictionaries.
pub(super) fn discover(files: &[SourceFile], tensors: &[TensorLocation]) -> Result<Vec<Group>> {
    let names = Names::new(files, tensors)?;
    let configs = Configs::new(files)?;
    let mut groups = feed_forward::discover(&names);
    groups.extend(attention::discover(&names, &configs));
    groups.extend(convolutions::discover(&names));
    Ok(drop_odd_ones(groups))
}

/// The output head of the language model in these state dictionaries, if there is one.
pub(super) fn output_head(files: &[SourceFile], tensors: &[TensorLocation]) -> Result<Option<usize>> {
    Ok(output_heads::discover(&Names::new(files, tensors)?))
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
