//! What the callables and the storages of a pickle stand for.

use super::pickle::Machine;
use super::value::{Node, Storage, Tensor, Value};
use crate::tensor::DType;

impl<'a> Machine<'a> {
    /// Replaces the id on top of the stack by what it stands for.
    pub fn persistent(&mut self) -> Option<()> {
        let id = self.stack.pop()?;
        let value = match &id {
            Value::Tuple(items, _) => self.stored(items),
            _ => None,
        };
        self.stack.push(value.unwrap_or(Value::Opaque));
        Some(())
    }

    /// What `('storage', torch.FloatStorage, key, device, length, view)` stands for. A view is `(key, offset, length)`.
    fn stored(&mut self, id: &[Value<'a>]) -> Option<Value<'a>> {
        let [Value::Text("storage"), Value::Global(module, kind), Value::Text(key), rest @ ..] = id else {
            return None;
        };
        let (dtype, element_bytes) = storage_kind(module, kind)?;
        self.element_bytes.insert(key, element_bytes);
        let offset = match rest {
            [_, _, Value::Tuple(view, _)] => match **view {
                [_, Value::Integer(offset), _] => offset,
                _ => return None,
            },
            _ => 0,
        };
        Some(Value::Storage(Storage { dtype, key, offset }))
    }

    /// Replaces arguments and callable by what the call gives.
    pub fn reduce(&mut self) -> Option<()> {
        let (arguments, callable) = (self.stack.pop()?, self.stack.pop()?);
        let called = match &arguments {
            Value::Tuple(arguments, _) => self.call(&callable, arguments),
            _ => None,
        };
        match called {
            Some(value) => self.stack.push(value),
            None => {
                let is_object = !matches!(callable, Value::Global("collections", _));
                self.push_node(Node { is_object, items: Vec::new() });
            }
        }
        Some(())
    }

    fn call(&mut self, callable: &Value<'a>, arguments: &[Value<'a>]) -> Option<Value<'a>> {
        let Value::Global(module, function) = callable else { return None };
        match (*module, *function, arguments) {
            (
                "torch._utils",
                "_rebuild_tensor" | "_rebuild_tensor_v2",
                [Value::Storage(storage), Value::Integer(offset), shape, strides, ..],
            ) => self.tensor(storage.dtype, storage, *offset, [shape, strides]),
            (
                "torch._utils",
                "_rebuild_tensor_v3",
                [
                    Value::Storage(storage),
                    Value::Integer(offset),
                    shape,
                    strides,
                    _,
                    _,
                    Value::Global("torch", dtype),
                    ..,
                ],
            ) => self.tensor(tensor_type(dtype), storage, *offset, [shape, strides]),
            (
                "torch._utils",
                "_rebuild_parameter" | "_rebuild_parameter_with_state",
                [tensor @ Value::Tensor(_), ..],
            )
            | ("torch.jit._pickle", _, [tensor, ..]) => Some(tensor.clone()),
            ("torch._tensor", "_rebuild_from_type_v2", [function, _, Value::Tuple(arguments, _), ..]) => {
                self.call(function, arguments)
            }
            _ => None,
        }
    }

    fn tensor(
        &mut self,
        dtype: Option<DType>,
        storage: &Storage<'a>,
        offset: u64,
        [shape, strides]: [&Value<'a>; 2],
    ) -> Option<Value<'a>> {
        let (shape, strides) = (shape.integers()?, strides.integers()?);
        let offset = storage.offset.checked_add(offset)?;
        self.tensors.push(Tensor { name: None, dtype, storage: storage.key, offset, shape, strides });
        self.tensors.len().checked_sub(1).map(Value::Tensor)
    }
}

/// Element type, if it is one of ours, and length of a storage's elements in bytes.
fn storage_kind(module: &str, kind: &str) -> Option<(Option<DType>, u64)> {
    let dtype = match (module, kind) {
        ("torch", "FloatStorage") => DType::F32,
        ("torch", "HalfStorage") => DType::F16,
        ("torch", "BFloat16Storage") => DType::BF16,
        ("torch", "DoubleStorage") => DType::F64,
        ("torch", "CharStorage") => DType::I8,
        ("torch", "ByteStorage") => DType::U8,
        ("torch", "ShortStorage") => DType::I16,
        ("torch", "IntStorage") => DType::I32,
        ("torch", "LongStorage") => DType::I64,
        ("torch", "BoolStorage") => DType::Bool,
        ("torch", "QUInt8Storage" | "QInt8Storage" | "QUInt4x2Storage" | "QUInt2x4Storage") => return Some((None, 1)),
        ("torch", "QInt32Storage") => return Some((None, 4)),
        ("torch", "ComplexFloatStorage") => return Some((None, 8)),
        ("torch", "ComplexDoubleStorage") => return Some((None, 16)),
        ("torch.storage", "UntypedStorage") | ("torch", "UntypedStorage") => return Some((None, 1)),
        _ => return None,
    };
    Some((Some(dtype), dtype.bits() / 8))
}

/// A type that has no storages of its own.
fn tensor_type(name: &str) -> Option<DType> {
    Some(match name {
        "float8_e4m3fn" => DType::F8E4M3,
        "float8_e5m2" => DType::F8E5M2,
        "uint16" => DType::U16,
        "uint32" => DType::U32,
        "uint64" => DType::U64,
        _ => return None,
    })
}
