//! The pickle of a PyTorch checkpoint -> the tensors that it builds.
//!
//! Nothing of it is run: of the pickle's machine there is just enough here to see which tensor is built from which
//! storage and where it is put. Whatever else it builds is opaque.

#[cfg(test)]
pub(super) mod tests;

use std::collections::HashMap;

use super::tree::name_tensors;
use super::value::{Key, Node, Tensor, Value};

/// Deepest tuple in a tuple that is looked into.
const MAX_TUPLE_DEPTH: u8 = 8;

/// What the first pickle of these bytes builds; none where it is damaged or does what PyTorch's never do.
pub(super) fn run(bytes: &[u8]) -> Option<Pickle<'_>> {
    let mut machine = Machine { rest: bytes, ..Machine::default() };
    while machine.step()? {}
    let Machine { rest, mut stack, nodes, mut tensors, element_bytes, .. } = machine;
    let root = stack.pop()?;
    let items = match root {
        Value::Node(index) => nodes.get(index)?.items.as_slice(),
        _ => &[],
    };
    let texts = items.iter().filter_map(|(_, value)| if let Value::Text(text) = value { Some(*text) } else { None });
    let texts = texts.collect();
    name_tensors(root, &nodes, &mut tensors, bytes.len());
    Some(Pickle { tensors, element_bytes, texts, rest })
}

/// What a pickle builds.
#[derive(Debug, PartialEq)]
pub(super) struct Pickle<'a> {
    /// In the order in which they are built.
    pub tensors: Vec<Tensor<'a>>,
    /// Bytes of an element of each storage, by its key.
    pub element_bytes: HashMap<&'a str, u64>,
    /// The texts in it, if it is a list.
    pub texts: Vec<&'a str>,
    /// What follows it.
    pub rest: &'a [u8],
}

/// Runs a pickle. Every step is `None` where the pickle is damaged or does what PyTorch's never do.
#[derive(Default)]
pub(super) struct Machine<'a> {
    rest: &'a [u8],
    pub stack: Vec<Value<'a>>,
    memo: HashMap<u32, Value<'a>>,
    nodes: Vec<Node<'a>>,
    pub tensors: Vec<Tensor<'a>>,
    /// Bytes of an element of each storage, by its key.
    pub element_bytes: HashMap<&'a str, u64>,
}

impl<'a> Machine<'a> {
    /// Runs one instruction; false at the end.
    fn step(&mut self) -> Option<bool> {
        match self.uint::<1>()? as u8 {
            b'.' => return Some(false),
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            b'(' => self.stack.push(Value::Mark),
            b'0' => drop(self.stack.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => self.stack.push(self.stack.last()?.clone()),
            b'N' | 0x88 | 0x89 | 0x8f => self.stack.push(Value::Opaque),
            b']' | b'}' => self.push_node(Node::default()),
            b'G' => self.skip(8)?,
            b'K' => self.integer::<1>()?,
            b'M' => self.integer::<2>()?,
            b'J' => self.integer::<4>()?,
            0x8a => self.long()?,
            b'X' => self.text::<4>()?,
            0x8c => self.text::<1>()?,
            0x8d => self.text::<8>()?,
            // Python 2's texts come as bytes.
            b'U' => self.text::<1>()?,
            b'T' => self.text::<4>()?,
            b'C' => self.bytes::<1>()?,
            b'B' | 0x8b => self.bytes::<4>()?,
            0x8e | 0x96 => self.bytes::<8>()?,
            b')' => self.tuple(0)?,
            b't' => self.marked_tuple()?,
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b'c' => self.global()?,
            0x93 => self.stack_global()?,
            b'q' => self.memoize::<1>()?,
            b'r' => self.memoize::<4>()?,
            0x94 => drop(self.memo.insert(u32::try_from(self.memo.len()).ok()?, self.stack.last()?.clone())),
            b'h' => self.recall::<1>()?,
            b'j' => self.recall::<4>()?,
            b'Q' => self.persistent()?,
            b'R' => self.reduce()?,
            0x81 => self.new_object(2)?,
            0x92 => self.new_object(3)?,
            code => self.fill(code)?,
        }
        Some(true)
    }

    /// Runs an instruction that makes a list, a dictionary or a set of what lies on the stack, or adds to one.
    fn fill(&mut self, code: u8) -> Option<()> {
        match code {
            b'l' => {
                let items = self.pop_mark()?;
                self.push_node(Node::default());
                self.append(items);
            }
            b'd' => {
                let items = self.pop_mark()?;
                self.push_node(Node::default());
                self.set_items(items);
            }
            b'a' => {
                let item = self.stack.pop()?;
                self.append(vec![item]);
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.append(items);
            }
            b's' => {
                let (value, key) = (self.stack.pop()?, self.stack.pop()?);
                self.set_items(vec![key, value]);
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set_items(items);
            }
            b'b' => {
                let state = self.stack.pop()?;
                self.add_to_top([(Key::State, state)]);
            }
            0x90 => drop(self.pop_mark()?),
            0x91 => {
                self.pop_mark()?;
                self.stack.push(Value::Opaque);
            }
            _ => return None,
        }
        Some(())
    }

    fn take(&mut self, len: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(usize::try_from(len).ok()?)?;
        self.rest = rest;
        Some(taken)
    }

    fn uint<const BYTES: usize>(&mut self) -> Option<u64> {
        Some(self.take(BYTES as u64)?.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    fn line(&mut self) -> Option<&'a str> {
        let len = self.rest.iter().position(|&byte| byte == b'\n')?;
        let line = self.take(len as u64)?;
        self.take(1)?;
        str::from_utf8(line).ok()
    }

    fn skip(&mut self, len: u64) -> Option<()> {
        self.take(len)?;
        self.stack.push(Value::Opaque);
        Some(())
    }

    fn global(&mut self) -> Option<()> {
        let global = Value::Global(self.line()?, self.line()?);
        self.stack.push(global);
        Some(())
    }

    fn stack_global(&mut self) -> Option<()> {
        let (Value::Text(name), Value::Text(module)) = (self.stack.pop()?, self.stack.pop()?) else { return None };
        self.stack.push(Value::Global(module, name));
        Some(())
    }

    /// Negative ones, which no tensor's description holds, come out large.
    fn integer<const BYTES: usize>(&mut self) -> Option<()> {
        let value = Value::Integer(self.uint::<BYTES>()?);
        self.stack.push(value);
        Some(())
    }

    fn long(&mut self) -> Option<()> {
        let len = self.uint::<1>()?;
        let bytes = self.take(len)?;
        let value = bytes.iter().rev().fold(0u64, |value, &byte| value << 8 | u64::from(byte));
        self.stack.push(if len <= 8 { Value::Integer(value) } else { Value::Opaque });
        Some(())
    }

    fn text<const LEN_BYTES: usize>(&mut self) -> Option<()> {
        let len = self.uint::<LEN_BYTES>()?;
        let text = str::from_utf8(self.take(len)?).map_or(Value::Opaque, Value::Text);
        self.stack.push(text);
        Some(())
    }

    fn bytes<const LEN_BYTES: usize>(&mut self) -> Option<()> {
        let len = self.uint::<LEN_BYTES>()?;
        self.skip(len)
    }

    fn pop_mark(&mut self) -> Option<Vec<Value<'a>>> {
        let mark = self.stack.iter().rposition(|value| matches!(value, Value::Mark))?;
        let items = self.stack.split_off(mark.checked_add(1)?);
        self.stack.pop();
        Some(items)
    }

    /// Replaces the topmost values by a tuple of them.
    fn tuple(&mut self, len: usize) -> Option<()> {
        let items = self.stack.split_off(self.stack.len().checked_sub(len)?);
        let inner = items.iter().map(|item| if let Value::Tuple(_, depth) = item { *depth } else { 0 }).max();
        let depth = inner.unwrap_or(0).saturating_add(1);
        self.stack.push(if depth > MAX_TUPLE_DEPTH { Value::Opaque } else { Value::Tuple(items.into(), depth) });
        Some(())
    }

    fn marked_tuple(&mut self) -> Option<()> {
        let items = self.pop_mark()?;
        let len = items.len();
        self.stack.extend(items);
        self.tuple(len)
    }

    fn memoize<const BYTES: usize>(&mut self) -> Option<()> {
        let place = u32::try_from(self.uint::<BYTES>()?).ok()?;
        self.memo.insert(place, self.stack.last()?.clone());
        Some(())
    }

    fn recall<const BYTES: usize>(&mut self) -> Option<()> {
        let place = u32::try_from(self.uint::<BYTES>()?).ok()?;
        self.stack.push(self.memo.get(&place)?.clone());
        Some(())
    }

    pub fn push_node(&mut self, node: Node<'a>) {
        self.stack.push(Value::Node(self.nodes.len()));
        self.nodes.push(node);
    }

    /// Adds to the value on top of the stack, if it can hold others.
    fn add_to_top(&mut self, items: impl IntoIterator<Item = (Key<'a>, Value<'a>)>) {
        if let Some(Value::Node(index)) = self.stack.last()
            && let Some(node) = self.nodes.get_mut(*index)
        {
            node.items.extend(items);
        }
    }

    fn append(&mut self, items: Vec<Value<'a>>) {
        let len = match self.stack.last() {
            Some(Value::Node(index)) => self.nodes.get(*index).map_or(0, |node| node.items.len() as u64),
            _ => 0,
        };
        self.add_to_top((len..).map(Key::Index).zip(items));
    }

    fn set_items(&mut self, items: Vec<Value<'a>>) {
        let pair = |pair: &[Value<'a>]| match pair {
            [Value::Text(key), value] => Some((Key::Text(key), value.clone())),
            [Value::Integer(key), value] => Some((Key::Index(*key), value.clone())),
            _ => None,
        };
        self.add_to_top(items.chunks_exact(2).filter_map(pair));
    }

    /// Class and arguments, of which nothing is looked into: attributes come with the object's state.
    fn new_object(&mut self, operands: usize) -> Option<()> {
        self.stack.truncate(self.stack.len().checked_sub(operands)?);
        self.push_node(Node { is_object: true, items: Vec::new() });
        Some(())
    }
}
