//! What a pickle builds -> what its tensors are called.
//!
//! The tensors of a dictionary are called by their keys. Those of an object, such as a module of TorchScript, are called
//! by the path of attributes from the outermost object, as in a state dictionary.

use std::rc::Rc;

use super::value::{Key, Node, Tensor, Value};

/// Deepest value that is looked into.
const MAX_DEPTH: usize = 64;
/// Longest name. Longer ones are no names of modules, and many tensors may share their parts.
const MAX_NAME_BYTES: usize = 1024;
/// Where modules keep what is called as if it were an attribute.
const TRANSPARENT: [&str; 3] = ["_parameters", "_buffers", "_modules"];

/// The path from the outermost object.
struct Path<'a> {
    parent: Option<Rc<Path<'a>>>,
    key: Key<'a>,
}

/// A value that is still to be looked into.
struct Pending<'a> {
    value: Value<'a>,
    key: Key<'a>,
    /// Of what holds it.
    path: Option<Rc<Path<'a>>>,
    in_object: bool,
    depth: usize,
}

/// Names the tensors in `root`, looking into at most so many values: a tuple may stand in many places.
pub(super) fn name_tensors<'a>(root: Value<'a>, nodes: &[Node<'a>], tensors: &mut [Tensor], values_max: usize) {
    let mut left = values_max;
    let mut is_seen = vec![false; nodes.len()];
    let mut pending = vec![Pending { value: root, key: Key::State, path: None, in_object: false, depth: 0 }];
    while let Some(Pending { value, key, path, in_object, depth }) = pending.pop() {
        let (is_object, items) = match value {
            Value::Tensor(index) => {
                if let Some(tensor) = tensors.get_mut(index).filter(|tensor| tensor.name.is_none()) {
                    tensor.name = if in_object { joined(path.as_deref(), key) } else { own(key) };
                }
                continue;
            }
            Value::Node(index) => {
                let (Some(node), Some(seen @ false)) = (nodes.get(index), is_seen.get_mut(index)) else { continue };
                *seen = true;
                (node.is_object, node.items.clone())
            }
            Value::Tuple(items, _) => (false, (0..).map(Key::Index).zip(items.iter().cloned()).collect()),
            _ => continue,
        };
        let Some(rest) = left.checked_sub(items.len()) else { return };
        left = rest;
        if depth < MAX_DEPTH {
            let path = if in_object { longer(path, key) } else { None };
            let (in_object, depth) = (in_object || is_object, depth.saturating_add(1));
            let below = |(key, value)| Pending { value, key, path: path.clone(), in_object, depth };
            pending.extend(items.into_iter().rev().map(below));
        }
    }
}

fn is_transparent(key: Key) -> bool {
    match key {
        Key::State => true,
        Key::Text(text) => TRANSPARENT.contains(&text),
        Key::Index(_) => false,
    }
}

fn longer<'a>(path: Option<Rc<Path<'a>>>, key: Key<'a>) -> Option<Rc<Path<'a>>> {
    if is_transparent(key) {
        return path;
    }
    Some(Rc::new(Path { parent: path, key }))
}

/// What a key alone calls a tensor.
fn own(key: Key) -> Option<String> {
    match key {
        Key::Text(text) if text.len() <= MAX_NAME_BYTES => Some(text.to_owned()),
        _ => None,
    }
}

fn joined(path: Option<&Path>, key: Key) -> Option<String> {
    let above = std::iter::successors(path, |path| path.parent.as_deref()).map(|path| path.key);
    let mut parts = Vec::new();
    let mut bytes = 0usize;
    for key in Some(key).filter(|&key| !is_transparent(key)).into_iter().chain(above) {
        let part = match key {
            Key::Text(text) if text.len() > MAX_NAME_BYTES => return None,
            Key::Text(text) => text.to_owned(),
            Key::Index(index) => index.to_string(),
            Key::State => continue,
        };
        bytes = bytes.saturating_add(part.len()).saturating_add(1);
        parts.push(part);
    }
    parts.reverse();
    (1..=MAX_NAME_BYTES).contains(&bytes).then(|| parts.join("."))
}
