//! Operators that rearrange, join, cut or drop axes.

use super::walk::{Axes, Extent, Walk, index, integer, integers};
use crate::encode::align::symmetry::axes::Factor;
use crate::formats::onnx::graph::Node;

impl Walk<'_> {
    pub fn reduce(&mut self, node: &Node, value: &Axes) -> Option<Axes> {
        let rank = value.rank()?;
        let all: Vec<i64> = (0..rank as i64).collect();
        let reduced = match node.inputs.get(1).filter(|name| !name.is_empty()) {
            Some(_) => self.axes_of(node, 1)?,
            None => integers(node, "axes").map_or(all, <[i64]>::to_vec),
        };
        // An empty list means all axes or none.
        let reduced = reduced.into_iter().map(|axis| index(axis, rank)).collect::<Option<Vec<_>>>()?;
        if reduced.is_empty() {
            return None;
        }
        let keeps = integer(node, "keepdims").unwrap_or(1) != 0;
        let axes = value.axes.iter().enumerate().filter(|(axis, _)| keeps || !reduced.contains(axis));
        let axes = axes.map(|(axis, factors)| if reduced.contains(&axis) { Vec::new() } else { factors.clone() });
        Some(Axes { axes: axes.collect(), is_whole: true })
    }

    pub fn transpose(&mut self, node: &Node, value: &Axes) -> Option<Axes> {
        let rank = value.rank()?;
        let reversed: Vec<i64> = (0..rank as i64).rev().collect();
        let order = integers(node, "perm").unwrap_or(&reversed);
        let axes = order.iter().map(|&axis| value.axes.get(usize::try_from(axis).ok()?).cloned());
        let axes = axes.collect::<Option<Vec<_>>>().filter(|axes| axes.len() == rank)?;
        Some(Axes { axes, is_whole: true })
    }

    pub fn reshape(&mut self, node: &Node, value: &Axes) -> Option<Axes> {
        if integer(node, "allowzero").unwrap_or(0) != 0 {
            return None;
        }
        let target = self.vectors.get(node.inputs.get(1)?)?.clone();
        self.reshaped(value, &target)
    }

    /// Known axes are cut off from the left and from the right; what remains goes to the one axis that does.
    fn reshaped(&mut self, value: &Axes, target: &[Extent]) -> Option<Axes> {
        let mut rest = self.factors.resolve(&value.is_whole.then(|| value.axes.concat())?);
        let mut axes: Vec<Option<Vec<Factor>>> = vec![None; target.len()];
        let mut left = 0;
        while let Some(extent) = target.get(left) {
            let taken = match extent {
                Extent::Known(0) => self.factors.resolve(value.axes.get(left)?),
                Extent::Of(axis) => self.factors.resolve(axis),
                _ => break,
            };
            if !rest.starts_with(&taken) {
                break;
            }
            rest.drain(..taken.len());
            axes[left] = Some(taken);
            left += 1;
        }
        let mut right = target.len();
        while right > left {
            let extent = match &target[right - 1] {
                Extent::Known(0) => self.factors.extent(value.axes.get(right - 1)?),
                Extent::Known(extent) => u64::try_from(*extent).ok(),
                Extent::Of(axis) => self.factors.extent(axis),
                Extent::Unknown => None,
            };
            let Some((outer, inner)) = extent.and_then(|extent| self.factors.cut(&rest, extent)) else { break };
            rest = outer;
            axes[right - 1] = Some(inner);
            right -= 1;
        }
        if right == left + 1 {
            axes[left] = Some(rest);
        } else if right > left || rest.is_empty() {
            self.factors.pin(&rest);
        } else {
            return None;
        }
        let axes = axes.into_iter().map(|axis| axis.unwrap_or_else(|| self.factors.pinned())).collect();
        Some(Axes { axes, is_whole: true })
    }

    pub fn flatten(&mut self, node: &Node, value: &Axes) -> Option<Axes> {
        let axis = index(integer(node, "axis").unwrap_or(1), value.rank()?)?;
        let (outer, inner) = value.axes.split_at(axis);
        Some(Axes { axes: vec![outer.concat(), inner.concat()], is_whole: true })
    }

    pub fn squeeze(&mut self, node: &Node, value: &Axes) -> Option<Axes> {
        let rank = value.rank()?;
        let dropped = self.axes_of(node, 1)?.into_iter().map(|axis| index(axis, rank));
        let dropped = dropped.collect::<Option<Vec<_>>>()?;
        let kept = (0..rank).filter(|axis| !dropped.contains(axis));
        let kept = kept.map(|axis| value.axes[axis].clone()).collect();
        dropped.iter().for_each(|&axis| self.factors.pin(&value.axes[axis]));
        Some(Axes { axes: kept, is_whole: true })
    }

    pub fn unsqueeze(&mut self, node: &Node, value: &Axes) -> Option<Axes> {
        let added = self.axes_of(node, 1)?;
        let rank = value.rank()? + added.len();
        let added = added.into_iter().map(|axis| index(axis, rank)).collect::<Option<Vec<_>>>()?;
        let mut rest = value.axes.iter().cloned();
        let axes = (0..rank).map(|axis| if added.contains(&axis) { Some(Vec::new()) } else { rest.next() });
        Some(Axes { axes: axes.collect::<Option<_>>()?, is_whole: true })
    }

    pub fn slice(&mut self, node: &Node, value: &Axes) -> Option<Axes> {
        let rank = value.rank()?;
        let starts = self.vectors.get(node.inputs.get(1).unwrap_or(&String::new())).map(Vec::len);
        let count = integers(node, "starts").map(<[i64]>::len).or(starts)?;
        let sliced = match (self.axes_of(node, 3), node.inputs.get(3)) {
            (Some(axes), _) => axes,
            (None, Some(name)) if !name.is_empty() => return None,
            _ => (0..count as i64).collect(),
        };
        let sliced = sliced.into_iter().map(|axis| index(axis, rank)).collect::<Option<Vec<_>>>()?;
        Some(self.cut_axes(value.clone(), &sliced))
    }

    pub fn split(&mut self, node: &Node, value: &Axes) -> Option<Vec<Axes>> {
        let axis = index(integer(node, "axis").unwrap_or(0), value.rank()?)?;
        let part = self.cut_axes(value.clone(), &[axis]);
        Some(node.outputs.iter().map(|_| self.renewed(&part)).collect())
    }

    pub fn concat(&mut self, node: &Node, inputs: &[Axes]) -> Option<Axes> {
        let rank = inputs.first()?.rank()?;
        let axis = index(integer(node, "axis")?, rank)?;
        if inputs.iter().any(|value| value.rank() != Some(rank)) {
            return None;
        }
        let parts: Vec<Axes> = inputs.iter().map(|value| self.cut_axes(value.clone(), &[axis])).collect();
        let mut all = parts[0].clone();
        for part in &parts[1..] {
            for other in (0..rank).filter(|&other| other != axis) {
                self.factors.unite(&all.axes[other], &part.axes[other]);
            }
        }
        all.axes[axis] = self.factors.pinned();
        Some(all)
    }

    pub fn gather(&mut self, node: &Node, inputs: &[Axes]) -> Option<Axes> {
        let (value, indices) = (inputs.first()?, inputs.get(1)?);
        let axis = index(integer(node, "axis").unwrap_or(0), value.rank()?)?;
        self.pin(indices);
        self.factors.pin(&value.axes[axis]);
        let mut axes = value.axes.clone();
        axes.splice(axis..=axis, (0..indices.rank()?).map(|_| self.factors.pinned()));
        Some(Axes { axes, is_whole: true })
    }

    pub fn resize(&mut self, node: &Node, inputs: &[Axes]) -> Option<Axes> {
        if node.attributes.contains_key("axes") {
            return None;
        }
        let (value, parameters) = inputs.split_first()?;
        let scales = node.inputs.get(if node.op == "Resize" && inputs.len() > 2 { 2 } else { 1 })?;
        let scales = self.graph.constants.get(scales)?.values.as_ref()?;
        let scaled: Vec<usize> = (0..value.rank()?).filter(|&axis| scales.get(axis) != Some(&1.0)).collect();
        parameters.iter().for_each(|value| self.pin(value));
        Some(self.cut_axes(value.clone(), &scaled))
    }
}
