//! Operators whose outputs have the axes of their inputs.

use super::walk::{Axes, Walk, index, integer};
use crate::formats::onnx::graph::Node;

impl Walk<'_> {
    pub fn unary(&mut self, inputs: &[Axes]) -> Option<Axes> {
        let (first, others) = inputs.split_first()?;
        others.iter().for_each(|value| self.pin(value));
        Some(first.clone())
    }

    /// Broadcasts the inputs that are not left out.
    pub fn broadcast_present(&mut self, node: &Node, inputs: &[Axes]) -> Option<Axes> {
        let present = node.inputs.iter().zip(inputs).filter(|(name, _)| !name.is_empty());
        let present: Vec<Axes> = present.map(|(_, value)| value.clone()).collect();
        Some(self.broadcast(&present))
    }

    /// Scales and zero points count for all elements, or lie along one axis.
    pub fn quantize(&mut self, node: &Node, inputs: &[Axes]) -> Option<Axes> {
        let (first, parameters) = inputs.split_first()?;
        let axis = integer(node, "axis").unwrap_or(1);
        if integer(node, "block_size").unwrap_or(0) != 0 {
            return None;
        }
        for parameter in parameters {
            match &parameter.axes[..] {
                [] if parameter.is_whole => {}
                [along] if parameter.is_whole => {
                    let axis = index(axis, first.rank()?);
                    // A vector of one element counts for all.
                    if !self.factors.resolve(along).is_empty() {
                        self.factors.unite(&first.axes[axis?], along);
                    }
                }
                _ => return None,
            }
        }
        Some(first.clone())
    }

    pub fn normalize_channels(&mut self, inputs: &[Axes]) -> Option<Axes> {
        let (first, parameters) = inputs.split_first()?;
        let channels = first.axes.get(1).filter(|_| first.is_whole)?;
        for parameter in parameters {
            self.factors.unite(channels, parameter.axes.first()?);
        }
        Some(first.clone())
    }

    pub fn normalize_layer(&mut self, inputs: &[Axes]) -> Option<Axes> {
        let first = inputs.first()?;
        let normalized = self.broadcast(inputs);
        (normalized.axes.len() == first.axes.len()).then(|| first.clone())
    }
}
