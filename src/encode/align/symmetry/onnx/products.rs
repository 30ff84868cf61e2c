//! Operators that multiply by weights: products of matrices, and convolutions.

use super::walk::{Axes, Walk, integer};
use crate::encode::align::symmetry::axes::Factor;
use crate::formats::onnx::graph::Node;

impl Walk<'_> {
    pub fn matmul(&mut self, a: &Axes, b: &Axes) -> Option<Axes> {
        let is_vector = |value: &Axes| value.rank().is_some_and(|rank| rank < 2);
        if is_vector(a) || is_vector(b) {
            return None;
        }
        let contracted = [self.nth_last(a, 1), self.nth_last(b, 2)];
        self.factors.unite(&contracted[0], &contracted[1]);
        let (row, column) = (self.nth_last(a, 2), self.nth_last(b, 1));
        let outer =
            |value: &Axes| Axes { axes: value.axes[..value.axes.len().saturating_sub(2)].to_vec(), ..value.clone() };
        let mut product = self.broadcast(&[outer(a), outer(b)]);
        // A value of unknown rank may have one axis only, and then the product has no rows.
        if !product.is_whole {
            product.axes.iter().for_each(|axis| self.factors.pin(axis));
            self.factors.pin(&row);
            return Some(Axes { axes: vec![column], is_whole: false });
        }
        product.axes.extend([row, column]);
        Some(product)
    }

    pub fn gemm(&mut self, node: &Node, inputs: &[Axes]) -> Option<Axes> {
        let [a, b] = [inputs.first()?, inputs.get(1)?];
        if [a, b].iter().any(|value| value.rank() != Some(2)) {
            return None;
        }
        let is_transposed = |name| integer(node, name).unwrap_or(0) != 0;
        let turn = |value: &Axes, turned: bool| {
            let [outer, inner] = [value.axes[0].clone(), value.axes[1].clone()];
            if turned { [inner, outer] } else { [outer, inner] }
        };
        let [row, contracted] = turn(a, is_transposed("transA"));
        let [also, column] = turn(b, is_transposed("transB"));
        self.factors.unite(&contracted, &also);
        let product = Axes { axes: vec![row, column], is_whole: true };
        Some(match inputs.get(2) {
            Some(bias) => self.broadcast(&[product, bias.clone()]),
            None => product,
        })
    }

    /// With groups, channels are groups times channels of a group: `[group, in]` by `[group, out]`.
    pub fn conv(&mut self, node: &Node, inputs: &[Axes]) -> Option<Axes> {
        let (input, weight) = (inputs.first()?, inputs.get(1)?);
        let rank = weight.rank().filter(|&rank| rank >= 3)?;
        let groups = u64::try_from(integer(node, "group").unwrap_or(1)).ok()?;
        let out = self.factors.extent(&weight.axes[0]).filter(|out| groups > 0 && out % groups == 0)?;
        let group = self.factors.axis(Some(groups));
        let of_group = self.factors.axis(Some(out / groups));
        self.factors.unite(&weight.axes[0], &[&group[..], &of_group[..]].concat());
        let channels = self.nth_last(input, rank - 1);
        self.factors.unite(&channels, &[&group[..], &weight.axes[1]].concat());
        self.convolved(inputs, 0)
    }

    pub fn conv_transpose(&mut self, node: &Node, inputs: &[Axes]) -> Option<Axes> {
        let (input, weight) = (inputs.first()?, inputs.get(1)?);
        let rank = weight.rank().filter(|&rank| rank >= 3)?;
        if integer(node, "group").unwrap_or(1) != 1 {
            return None;
        }
        let channels = self.nth_last(input, rank - 1);
        self.factors.unite(&channels, &weight.axes[0]);
        self.convolved(inputs, 1)
    }

    /// What a convolution gives, whose weights have its output channels on this axis.
    fn convolved(&mut self, inputs: &[Axes], out: usize) -> Option<Axes> {
        let (input, weight) = (inputs.first()?, inputs.get(1)?);
        let rank = weight.axes.len();
        weight.axes[2..].iter().for_each(|axis| self.factors.pin(axis));
        let mut axes = vec![self.nth_last(input, rank), weight.axes[out].clone()];
        for distance in (1..rank - 1).rev() {
            let axis = self.nth_last(input, distance);
            self.factors.pin(&axis);
            axes.push(self.factors.pinned());
        }
        self.bias(&weight.axes[out], inputs)?;
        Some(Axes { axes, is_whole: true })
    }

    fn bias(&mut self, out: &[Factor], inputs: &[Axes]) -> Option<()> {
        if let Some(bias) = inputs.get(2) {
            self.factors.unite(out, bias.axes.first()?);
        }
        Some(())
    }
}
