//! Groups of units, and how they change places.

use crate::error::{Error, Result};
use crate::stages::permute::Permutation;
use crate::tensor::TensorLocation;

/// Units that may be permuted, all members together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The same for the same place in every layer: `encoder.layer.*.intermediate`.
    pub role: String,
    /// Which layer: units are worth comparing between layers of one role.
    pub layer: usize,
    /// Where the units lie within one unit of the layer's head group, which one: heads may be permuted first.
    pub head: Option<usize>,
    /// Number of units, at least two.
    pub units: usize,
    /// What moves, at least two.
    pub members: Vec<Member>,
}

/// A range of one axis of a tensor that holds all units of a group: `repeats * units * unit_len` elements from `start`.
/// Unit `u` has the elements `start + (r * units + u) * unit_len ..` of length `unit_len`, for each repeat `r`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// Index in the list of tensors.
    pub tensor: usize,
    /// Which axis.
    pub axis: usize,
    /// First element along the axis.
    pub start: usize,
    /// How often all units follow one another.
    pub repeats: usize,
    /// Elements along the axis that move as one: 64 of a head of 64.
    pub unit_len: usize,
}

impl Member {
    pub(super) fn fits(&self, units: usize, tensor: &TensorLocation) -> bool {
        let extent = tensor.shape.0.get(self.axis).and_then(|&extent| usize::try_from(extent).ok());
        let len = self.repeats.checked_mul(units).and_then(|len| len.checked_mul(self.unit_len));
        let end = len.and_then(|len| len.checked_add(self.start));
        len.is_some_and(|len| len > 0)
            && end.zip(extent).is_some_and(|(end, extent)| end <= extent)
            && tensor.bytes > 0
            && tensor.dtype.bits().is_multiple_of(8)
            && tensor.record.is_empty()
    }

    /// Weights of each unit in a tensor of this shape.
    fn weights_of_unit(&self, shape: &[u64]) -> usize {
        let others =
            shape.iter().enumerate().filter(|&(axis, _)| axis != self.axis).map(|(_, &extent)| extent as usize);
        self.repeats * self.unit_len * others.product::<usize>()
    }

    /// Calls `visit` with a unit and the place and length of each run that is the unit's, among the elements of a tensor of
    /// this shape.
    fn runs(&self, units: usize, shape: &[u64], visit: &mut dyn FnMut(usize, usize, usize)) {
        let extent = |axis: &u64| *axis as usize;
        let inner: usize = shape[self.axis + 1..].iter().map(extent).product();
        let outer: usize = shape[..self.axis].iter().map(extent).product();
        let row = shape[self.axis] as usize * inner;
        let run = self.unit_len * inner;
        for outer in 0..outer {
            for repeat in 0..self.repeats {
                for unit in 0..units {
                    visit(unit, outer * row + self.start * inner + (repeat * units + unit) * run, run);
                }
            }
        }
    }

    /// Puts unit `permutation.places()[u]` where unit `u` was. `values` are those of a tensor of this shape, `per_element` for
    /// each of its elements.
    fn permute<T: Copy>(&self, permutation: &Permutation, shape: &[u64], per_element: usize, values: &mut [T]) {
        let (places, original) = (permutation.places(), values.to_vec());
        self.runs(places.len(), shape, &mut |unit, offset, len| {
            let (offset, len) = (offset * per_element, len * per_element);
            let source = offset - unit * len + places[unit] as usize * len;
            values[offset..offset + len].copy_from_slice(&original[source..source + len]);
        });
    }

    /// Puts unit `permutation.places()[u]` where unit `u` was in `order`, which tells what lies at each place along the axis.
    pub fn permute_order(&self, permutation: &Permutation, order: &mut [u32]) {
        let along = Member { axis: 0, ..*self };
        along.permute(permutation, &[order.len() as u64], 1, order);
    }
}

impl Group {
    /// Puts unit `permutation.places()[u]` where unit `u` was, in every member. `files` are the files that the group was
    /// found in.
    ///
    /// # Errors
    /// `Argument` if the permutation is not as long as there are units, or a tensor does not lie in its file.
    pub fn permute(&self, permutation: &Permutation, tensors: &[TensorLocation], files: &mut [Vec<u8>]) -> Result<()> {
        if permutation.places().len() != self.units {
            return Err(Error::argument("the permutation is not as long as the group has units"));
        }
        for member in &self.members {
            let tensor = &tensors[member.tensor];
            let range = tensor.offset as usize..tensor.offset.saturating_add(tensor.bytes) as usize;
            let bytes = files.get_mut(tensor.file).and_then(|file| file.get_mut(range));
            let bytes = bytes.filter(|_| member.fits(self.units, tensor));
            let bytes = bytes.ok_or_else(|| Error::argument(format!("{} is not where it was", tensor.name)))?;
            member.permute(permutation, &tensor.shape.0, tensor.dtype.bits() as usize / 8, bytes);
        }
        Ok(())
    }

    /// The units as rows of a matrix: for each, its weights in all members that `values` gives, one after the other. Empty if
    /// there are none.
    ///
    /// # Errors
    /// The first error of `values`.
    pub fn rows(
        &self,
        tensors: &[TensorLocation],
        values: &mut dyn FnMut(usize) -> Result<Option<Vec<f32>>>,
    ) -> Result<Vec<f32>> {
        let fits = |member: &&Member| member.fits(self.units, &tensors[member.tensor]);
        let members: Vec<&Member> = self.members.iter().filter(fits).collect();
        let width = |member: &&Member| member.weights_of_unit(&tensors[member.tensor].shape.0);
        let room: usize = members.iter().map(width).sum();
        // In place, as units may be as large as the largest tensors.
        let mut matrix = vec![0.0; self.units * room];
        let mut row_len = 0;
        for member in members {
            let tensor = &tensors[member.tensor];
            let Some(values) =
                values(member.tensor)?.filter(|values| Some(values.len() as u64) == tensor.shape.element_len())
            else {
                continue;
            };
            let mut ends: Vec<usize> = (0..self.units).map(|unit| unit * room + row_len).collect();
            member.runs(self.units, &tensor.shape.0, &mut |unit, offset, len| {
                matrix[ends[unit]..ends[unit] + len].copy_from_slice(&values[offset..offset + len]);
                ends[unit] += len;
            });
            row_len += width(&member);
        }
        for unit in 0..self.units {
            matrix.copy_within(unit * room..unit * room + row_len, unit * row_len);
        }
        matrix.truncate(self.units * row_len);
        Ok(matrix)
    }
}
