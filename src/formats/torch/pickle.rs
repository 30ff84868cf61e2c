//! The pickle of a PyTorch checkpoint -> the tensors that it builds.
//!
//! Nothing of it is run: of the pickle's machine there is just enough here to see which tensor is built from which
//! storage and what it is called. Whatever else it builds is opaque.

use std::collections::HashMap;
use std::rc::Rc;

use crate::tensor::DType;

/// Deepest tuple in a tuple that is looked into.
const MAX_TUPLE_DEPTH: u8 = 8;

/// The tensors in the order in which they are built; none where the pickle is damaged or does what PyTorch's never do.
pub(super) fn run(pickle: &[u8]) -> Option<Vec<Tensor<'_>>> {
    let mut machine = Machine { rest: pickle, ..Machine::default() };
    while machine.step()? {}
    Some(machine.tensors)
}

/// A tensor as the pickle describes it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tensor<'a> {
    pub name: Option<&'a str>,
    pub dtype: DType,
    pub storage: &'a str,
    /// First element in the storage.
    pub offset: u64,
    pub shape: Vec<u64>,
    pub strides: Vec<u64>,
}

/// What the machine's stack holds.
#[derive(Debug, Clone)]
enum Value<'a> {
    Mark,
    Integer(u64),
    Text(&'a str),
    /// Module and name.
    Global(&'a str, &'a str),
    Tuple(Rc<[Value<'a>]>, u8),
    Storage(DType, &'a str),
    /// An index into the machine's tensors.
    Tensor(usize),
    Opaque,
}

impl Value<'_> {
    fn integers(&self) -> Option<Vec<u64>> {
        let Value::Tuple(items, _) = self else { return None };
        items.iter().map(|item| if let Value::Integer(value) = item { Some(*value) } else { None }).collect()
    }
}

/// Runs a pickle. Every step is `None` where the pickle is damaged or does what PyTorch's never do.
#[derive(Default)]
struct Machine<'a> {
    rest: &'a [u8],
    stack: Vec<Value<'a>>,
    memo: HashMap<u32, Value<'a>>,
    tensors: Vec<Tensor<'a>>,
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
            b'N' | 0x88 | 0x89 | b']' | b'}' | 0x8f => self.stack.push(Value::Opaque),
            b'G' => self.skip(8)?,
            b'K' => self.integer::<1>()?,
            b'M' => self.integer::<2>()?,
            b'J' => self.integer::<4>()?,
            0x8a => self.long()?,
            b'X' => self.text::<4>()?,
            0x8c => self.text::<1>()?,
            0x8d => self.text::<8>()?,
            b'U' | b'C' => self.bytes::<1>()?,
            b'T' | b'B' | 0x8b => self.bytes::<4>()?,
            0x8e | 0x96 => self.bytes::<8>()?,
            b')' => self.tuple(0)?,
            b't' => self.marked_tuple()?,
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b'l' | b'd' | 0x91 => {
                self.name_marked_tensors()?;
                self.stack.push(Value::Opaque);
            }
            b'a' | b'b' => drop(self.stack.pop()?),
            b'e' | 0x90 => drop(self.pop_mark()?),
            b's' => {
                let (value, key) = (self.stack.pop()?, self.stack.pop()?);
                self.name_tensors(&[key, value]);
            }
            b'u' => self.name_marked_tensors()?,
            b'c' => self.global()?,
            0x93 => self.stack_global()?,
            b'q' => self.memoize::<1>()?,
            b'r' => self.memoize::<4>()?,
            0x94 => drop(self.memo.insert(u32::try_from(self.memo.len()).ok()?, self.stack.last()?.clone())),
            b'h' => self.recall::<1>()?,
            b'j' => self.recall::<4>()?,
            b'Q' => self.persistent()?,
            b'R' | 0x81 => self.reduce()?,
            _ => return None,
        }
        Some(true)
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

    /// Names the tensors among the values of a dictionary by their keys.
    fn name_tensors(&mut self, items: &[Value<'a>]) {
        for pair in items.chunks_exact(2) {
            if let [Value::Text(name), Value::Tensor(index)] = pair
                && let Some(tensor) = self.tensors.get_mut(*index)
            {
                tensor.name.get_or_insert(name);
            }
        }
    }

    fn name_marked_tensors(&mut self) -> Option<()> {
        let items = self.pop_mark()?;
        self.name_tensors(&items);
        Some(())
    }

    fn persistent(&mut self) -> Option<()> {
        let storage = storage(&self.stack.pop()?).unwrap_or(Value::Opaque);
        self.stack.push(storage);
        Some(())
    }

    fn reduce(&mut self) -> Option<()> {
        let (arguments, callable) = (self.stack.pop()?, self.stack.pop()?);
        let result = self.call(&callable, &arguments).unwrap_or(Value::Opaque);
        self.stack.push(result);
        Some(())
    }

    fn call(&mut self, callable: &Value<'a>, arguments: &Value<'a>) -> Option<Value<'a>> {
        let (Value::Global("torch._utils", function), Value::Tuple(arguments, _)) = (callable, arguments) else {
            return None;
        };
        match (*function, &**arguments) {
            ("_rebuild_tensor_v2", [Value::Storage(dtype, storage), Value::Integer(offset), shape, strides, ..]) => {
                let (shape, strides) = (shape.integers()?, strides.integers()?);
                self.tensors.push(Tensor { name: None, dtype: *dtype, storage, offset: *offset, shape, strides });
                self.tensors.len().checked_sub(1).map(Value::Tensor)
            }
            ("_rebuild_parameter", [tensor @ Value::Tensor(_), ..]) => Some(tensor.clone()),
            _ => None,
        }
    }
}

/// What `('storage', torch.FloatStorage, key, device, length)` stands for.
fn storage<'a>(id: &Value<'a>) -> Option<Value<'a>> {
    let Value::Tuple(items, _) = id else { return None };
    let [Value::Text("storage"), Value::Global("torch", kind), Value::Text(key), ..] = **items else { return None };
    let dtype = match kind {
        "FloatStorage" => DType::F32,
        "HalfStorage" => DType::F16,
        "BFloat16Storage" => DType::BF16,
        "DoubleStorage" => DType::F64,
        "CharStorage" => DType::I8,
        "ByteStorage" => DType::U8,
        "ShortStorage" => DType::I16,
        "IntStorage" => DType::I32,
        "LongStorage" => DType::I64,
        "BoolStorage" => DType::Bool,
        _ => return None,
    };
    Some(Value::Storage(dtype, key))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The pickle of `{"w": tensor}` with these shape, strides and offset.
    pub fn pickle(shape: &[u8], strides: &[u8], offset: u8) -> Vec<u8> {
        let text = |text: &str| [&[b'X', text.len() as u8, 0, 0, 0], text.as_bytes()].concat();
        let tuple =
            |items: &[u8]| [b"(".to_vec(), items.iter().flat_map(|&i| [b'K', i]).collect(), b"t".to_vec()].concat();
        [
            b"\x80\x02}q\x00(".to_vec(),
            text("w"),
            b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(),
            text("storage"),
            b"ctorch\nFloatStorage\n".to_vec(),
            text("0"),
            text("cpu"),
            b"K\x06tQK".to_vec(),
            vec![offset],
            tuple(shape),
            tuple(strides),
            b"\x89ccollections\nOrderedDict\n)RtRu.".to_vec(),
        ]
        .concat()
    }

    #[test]
    fn damaged_pickles_have_no_tensors() {
        let whole = pickle(&[2, 3], &[3, 1], 0);
        for len in 0..whole.len() {
            assert_eq!(run(&whole[..len]), None);
        }
        for index in 0..whole.len() {
            for value in 0..=255 {
                let mut changed = whole.clone();
                changed[index] = value;
                let _ = run(&changed);
            }
        }
    }

    #[test]
    fn deep_tuples_do_not_exhaust_the_stack() {
        let deep = [b")".to_vec(), vec![0x85; 1_000_000], b".".to_vec()].concat();
        assert_eq!(run(&deep), Some(Vec::new()));
    }
}
