//! Operators that compute shapes: a reshape needs to know which of its extents are those of which axes.

use super::walk::{Extent, Walk, index, integer, integers};
use crate::formats::onnx::graph::Node;

impl Walk<'_> {
    /// The output of a node that computes a shape or a part of one, and whether it is a vector (1) or a scalar (0).
    pub fn vector(&mut self, node: &Node) -> Option<(Vec<Extent>, usize)> {
        let first = node.inputs.first()?;
        if node.op == "Shape" {
            let value = self.value(first);
            let rank = value.rank()?;
            let bound = |name, default: usize| match integer(node, name) {
                Some(bound) if bound < 0 => rank.saturating_sub(usize::try_from(bound.unsigned_abs()).unwrap_or(rank)),
                Some(bound) => usize::try_from(bound).unwrap_or(rank).min(rank),
                None => default,
            };
            let (start, end) = (bound("start", 0), bound("end", rank));
            return Some((value.axes.get(start..end)?.iter().map(|axis| Extent::Of(axis.clone())).collect(), 1));
        }
        let vector = self.vectors.get(first)?.clone();
        let rank = self.value(first).axes.len();
        let constants = |input: usize, name| {
            let of_attribute = integers(node, name).map(<[i64]>::to_vec);
            of_attribute.or_else(|| {
                let values = self.graph.constants.get(node.inputs.get(input)?)?.values.as_ref()?;
                Some(values.iter().map(|&value| value as i64).collect())
            })
        };
        Some(match node.op.as_str() {
            "Cast" | "Identity" => (vector, rank),
            "Squeeze" if vector.len() == 1 => (vector, 0),
            "Unsqueeze" if rank == 0 => (vector, 1),
            "Concat" => {
                let parts = node.inputs.iter().map(|name| self.vectors.get(name).cloned());
                (parts.collect::<Option<Vec<_>>>()?.concat(), 1)
            }
            "Gather" => {
                let indices = constants(1, "")?.into_iter().map(|at| vector.get(index(at, vector.len())?).cloned());
                (indices.collect::<Option<_>>()?, self.graph.constants.get(node.inputs.get(1)?)?.dims.len())
            }
            "Slice" => {
                let (starts, ends) = (constants(1, "starts")?, constants(2, "ends")?);
                let (&[start], &[end]) = (&starts[..], &ends[..]) else { return None };
                if node.inputs.len() > 4 && constants(4, "")? != [1] {
                    return None;
                }
                let len = vector.len() as i64;
                let bound = |at: i64| (if at < 0 { at.saturating_add(len) } else { at }).clamp(0, len) as usize;
                (vector.get(bound(start)..bound(end))?.to_vec(), 1)
            }
            "Add" | "Sub" | "Mul" | "Div" => {
                let other = node.inputs.get(1)?;
                let is_scalar = vector.len() == 1 && self.vectors.get(other)?.len() == 1;
                (is_scalar.then(|| vec![Extent::Unknown])?, rank.max(self.value(other).axes.len()))
            }
            _ => return None,
        })
    }
}
