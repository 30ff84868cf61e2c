//! What a pickle builds, as far as it matters to tensors.

use std::rc::Rc;

use crate::formats::MAX_AXES;
use crate::tensor::DType;

/// A tensor as the pickle describes it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tensor<'a> {
    pub name: Option<String>,
    /// None if the type is not one of ours.
    pub dtype: Option<DType>,
    pub storage: &'a str,
    /// First element in the storage.
    pub offset: u64,
    pub shape: Vec<u64>,
    pub strides: Vec<u64>,
}

/// What the machine's stack holds.
#[derive(Debug, Clone)]
pub(super) enum Value<'a> {
    Mark,
    Integer(u64),
    Text(&'a str),
    /// Module and name.
    Global(&'a str, &'a str),
    Tuple(Rc<[Value<'a>]>, u8),
    Storage(Storage<'a>),
    /// An index into the machine's tensors.
    Tensor(usize),
    /// An index into the machine's nodes.
    Node(usize),
    Opaque,
}

/// A storage, or a view of one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storage<'a> {
    pub dtype: Option<DType>,
    pub key: &'a str,
    /// The first element of the view.
    pub offset: u64,
}

impl Value<'_> {
    pub fn integers(&self) -> Option<Vec<u64>> {
        let Value::Tuple(items, _) = self else { return None };
        if items.len() > MAX_AXES {
            return None;
        }
        items.iter().map(|item| if let Value::Integer(value) = item { Some(*value) } else { None }).collect()
    }
}

/// A dictionary, a list or an object.
#[derive(Debug, Default)]
pub(super) struct Node<'a> {
    pub is_object: bool,
    pub items: Vec<(Key<'a>, Value<'a>)>,
}

/// Where a value lies in another.
#[derive(Debug, Clone, Copy)]
pub(super) enum Key<'a> {
    Text(&'a str),
    Index(u64),
    /// The state of an object: its attributes are the object's.
    State,
}
