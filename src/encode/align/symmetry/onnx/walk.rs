//! What a walk over a graph knows of its values: which factors their axes are made of.

use std::collections::HashMap;

use crate::encode::align::symmetry::axes::{Factor, Factors};
use crate::encode::align::symmetry::group::Member;
use crate::formats::onnx::graph::{Attribute, Constant, Graph, Node};

/// The axes of a value, by their distance from the last: where the number of axes is unknown, the first are missing.
#[derive(Debug, Clone, Default)]
pub struct Axes {
    pub axes: Vec<Vec<Factor>>,
    pub is_whole: bool,
}

impl Axes {
    /// The number of axes, where it is known.
    pub fn rank(&self) -> Option<usize> {
        self.is_whole.then_some(self.axes.len())
    }
}

/// An element of a shape.
#[derive(Debug, Clone)]
pub enum Extent {
    Known(i64),
    /// As long as this axis.
    Of(Vec<Factor>),
    Unknown,
}

/// What is known of a graph's values up to some node.
pub struct Walk<'g> {
    pub graph: &'g Graph,
    pub factors: Factors,
    pub values: HashMap<String, Axes>,
    /// Values that are shapes, or parts of them.
    pub vectors: HashMap<String, Vec<Extent>>,
}

impl<'g> Walk<'g> {
    pub fn new(graph: &'g Graph) -> Self {
        Walk { graph, factors: Factors::default(), values: HashMap::new(), vectors: HashMap::new() }
    }

    pub fn add_constant(&mut self, name: &str, constant: &Constant) -> Axes {
        let axes = constant.dims.iter().map(|&extent| self.factors.axis(Some(extent))).collect();
        let value = Axes { axes, is_whole: true };
        self.values.insert(name.to_owned(), value.clone());
        if let Some(values) = constant.values.as_ref().filter(|_| constant.dims.len() <= 1) {
            self.vectors.insert(name.to_owned(), values.iter().map(|&value| Extent::Known(value as i64)).collect());
        }
        value
    }

    /// What is known of a value; of one that nothing was said of, its rank at most.
    pub fn value(&mut self, name: &str) -> Axes {
        if let Some(value) = self.values.get(name) {
            return value.clone();
        }
        let value = self.opaque(self.graph.ranks.get(name).copied());
        self.values.insert(name.to_owned(), value.clone());
        value
    }

    pub fn opaque(&mut self, rank: Option<usize>) -> Axes {
        let axes = (0..rank.unwrap_or(0)).map(|_| self.factors.pinned()).collect();
        Axes { axes, is_whole: rank.is_some() }
    }

    pub fn pin(&mut self, value: &Axes) {
        value.axes.iter().for_each(|axis| self.factors.pin(axis));
    }

    pub fn pin_inputs(&mut self, node: &Node) {
        for input in node.inputs.iter().filter(|name| !name.is_empty()) {
            let value = self.value(input);
            self.pin(&value);
        }
    }

    /// The axis that is the `distance`th from the end, counted from 1.
    pub fn nth_last(&mut self, value: &Axes, distance: usize) -> Vec<Factor> {
        let axis = value.axes.len().checked_sub(distance).map(|index| value.axes[index].clone());
        axis.unwrap_or_else(|| if value.is_whole { Vec::new() } else { self.factors.pinned() })
    }

    /// Broadcasts values against one another, aligned at their last axes.
    pub fn broadcast(&mut self, values: &[Axes]) -> Axes {
        let len = values.iter().map(|value| value.axes.len()).max().unwrap_or(0);
        let mut axes = Vec::new();
        for distance in (1..=len).rev() {
            let mut all: Vec<Factor> = Vec::new();
            for value in values {
                let axis = self.nth_last(value, distance);
                if self.factors.resolve(&all).is_empty() {
                    all = axis;
                } else if !self.factors.resolve(&axis).is_empty() {
                    self.factors.unite(&all, &axis);
                }
            }
            axes.push(all);
        }
        Axes { axes, is_whole: values.iter().all(|value| value.is_whole) }
    }

    /// Axes whose elements are no longer all there, or are others: pinned, and of unknown extent.
    pub fn cut_axes(&mut self, mut value: Axes, axes: &[usize]) -> Axes {
        for &axis in axes {
            self.factors.pin(&value.axes[axis]);
            value.axes[axis] = self.factors.pinned();
        }
        value
    }

    /// The same value, with unknown axes of its own where extents are unknown.
    pub fn renewed(&mut self, value: &Axes) -> Axes {
        let mut renewed = value.clone();
        for axis in &mut renewed.axes {
            if self.factors.extent(axis).is_none() {
                self.factors.pin(axis);
                *axis = self.factors.pinned();
            }
        }
        renewed
    }

    /// The first `kept` axes, and unknown ones behind them.
    pub fn channels_of(&mut self, value: &Axes, kept: usize) -> Option<Axes> {
        let rank = value.rank().filter(|&rank| rank >= kept)?;
        Some(self.cut_axes(value.clone(), &(kept..rank).collect::<Vec<_>>()))
    }

    /// The axes that an operator names, in its attribute or, in later operator sets, in this input.
    pub fn axes_of(&self, node: &Node, input: usize) -> Option<Vec<i64>> {
        if let Some(axes) = integers(node, "axes") {
            return Some(axes.to_vec());
        }
        let constant = self.graph.constants.get(node.inputs.get(input)?)?;
        Some(constant.values.as_ref()?.iter().map(|&value| value as i64).collect())
    }

    /// The free factors of an axis, with their extents, and each as a member if it can be told where its units lie.
    pub fn members(&self, axis: &[Factor], extent: u64) -> Vec<(Factor, usize, Option<Member>)> {
        let factors = self.factors.resolve(axis);
        let product = |factors: &[Factor]| self.factors.extent(factors).filter(|&product| product > 0);
        let mut found = Vec::new();
        for (place, &factor) in factors.iter().enumerate() {
            let (Some(units), false) = self.factors.factor(factor) else { continue };
            let (outer, inner) = (product(&factors[..place]), product(&factors[place + 1..]));
            let member = || {
                let (repeats, unit_len) = match (outer, inner) {
                    (Some(repeats), _) => (repeats, extent / repeats / units.max(1)),
                    (None, Some(unit_len)) => (extent / unit_len / units.max(1), unit_len),
                    (None, None) => return None,
                };
                let is_whole = repeats * units * unit_len == extent;
                let [repeats, unit_len] = [usize::try_from(repeats).ok()?, usize::try_from(unit_len).ok()?];
                is_whole.then_some(Member { tensor: 0, axis: 0, start: 0, repeats, unit_len })
            };
            found.push((factor, usize::try_from(units).unwrap_or(usize::MAX), member()));
        }
        found
    }
}

pub fn integer(node: &Node, name: &str) -> Option<i64> {
    if let Some(Attribute::Integer(value)) = node.attributes.get(name) { Some(*value) } else { None }
}

pub fn integers<'n>(node: &'n Node, name: &str) -> Option<&'n [i64]> {
    if let Some(Attribute::Integers(values)) = node.attributes.get(name) { Some(values) } else { None }
}

/// An axis counted from either end.
pub fn index(axis: i64, rank: usize) -> Option<usize> {
    let rank_signed = i64::try_from(rank).ok()?;
    let axis = if axis < 0 { axis.checked_add(rank_signed)? } else { axis };
    usize::try_from(axis).ok().filter(|&axis| axis < rank)
}
