//! A model file -> the same file with units of its tensors in another order, read without a copy of it.

use std::collections::BTreeMap;
use std::ops::Range;

use super::symmetry::Member;
use crate::error::Result;
use crate::formats::SourceFile;
use crate::source::Source;
use crate::stages::permute::Permutation;
use crate::tensor::TensorLocation;

/// What lies at each place along each axis of a tensor; `None` where nothing has moved.
type Order = Vec<Option<Vec<u32>>>;

/// A file whose units have moved.
pub struct Arranged<'a> {
    file: &'a SourceFile<'a>,
    /// Index of the file.
    index: usize,
    tensors: &'a [TensorLocation],
    /// The tensors that have moved, by offset: their index, and their order.
    moved: BTreeMap<u64, (usize, Order)>,
}

impl<'a> Arranged<'a> {
    /// File `index` as it is; `tensors` are those of all files.
    pub fn new(file: &'a SourceFile<'a>, index: usize, tensors: &'a [TensorLocation]) -> Self {
        Arranged { file, index, tensors, moved: BTreeMap::new() }
    }

    /// Puts unit `permutation.places()[u]` where unit `u` was in a member.
    pub fn arrange(&mut self, member: &Member, permutation: &Permutation) {
        if permutation.places().iter().enumerate().all(|(unit, &place)| unit == place as usize) {
            return;
        }
        let tensor = &self.tensors[member.tensor];
        debug_assert_eq!(tensor.file, self.index);
        let extents = &tensor.shape.0;
        let (_, orders) = self.moved.entry(tensor.offset).or_insert_with(|| (member.tensor, vec![None; extents.len()]));
        let order = orders[member.axis].get_or_insert_with(|| (0..extents[member.axis] as u32).collect());
        member.permute_order(permutation, order);
    }

    /// What lies at each place along an axis of a tensor; `None` if nothing has moved there.
    pub fn order(&self, tensor: usize, axis: usize) -> Option<&[u32]> {
        let (_, orders) = self.moved.get(&self.tensors[tensor].offset).filter(|(index, _)| *index == tensor)?;
        orders.get(axis)?.as_deref()
    }

    /// Some rows of a tensor that has moved.
    fn rows(&self, tensor: usize, orders: &Order, rows: Range<u64>) -> Result<Vec<u8>> {
        let TensorLocation { dtype, shape, offset, .. } = &self.tensors[tensor];
        let inner = |axis: usize| shape.0[axis + 1..].iter().product::<u64>() * dtype.bits() / 8;
        let row_bytes = inner(0);
        let mut elements = vec![0; ((rows.end - rows.start) * row_bytes) as usize];
        match &orders[0] {
            Some(order) => {
                let places = &order[rows.start as usize..rows.end as usize];
                for (&place, row) in places.iter().zip(elements.chunks_exact_mut(row_bytes as usize)) {
                    self.file.read_at(offset + u64::from(place) * row_bytes, row)?;
                }
            }
            None => self.file.read_at(offset + rows.start * row_bytes, &mut elements)?,
        }
        for (axis, order) in orders.iter().enumerate().skip(1) {
            if let Some(order) = order {
                elements = gathered(&elements, order, inner(axis) as usize);
            }
        }
        Ok(elements)
    }
}

/// Runs of `inner` bytes in this order, in each row of them.
fn gathered(bytes: &[u8], order: &[u32], inner: usize) -> Vec<u8> {
    let mut gathered = Vec::with_capacity(bytes.len());
    for row in bytes.chunks_exact(order.len() * inner) {
        for &place in order {
            gathered.extend_from_slice(&row[place as usize * inner..][..inner]);
        }
    }
    gathered
}

impl Source for Arranged<'_> {
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        self.file.read_at(offset, bytes)?;
        let end = offset + bytes.len() as u64;
        for (&start, (index, orders)) in self.moved.range(..end) {
            let from = offset.max(start);
            let to = end.min(start + self.tensors[*index].bytes);
            if from < to {
                let row_bytes = self.tensors[*index].bytes / self.tensors[*index].shape.0[0];
                let rows = (from - start) / row_bytes..(to - start).div_ceil(row_bytes);
                let first = start + rows.start * row_bytes;
                let arranged = self.rows(*index, orders, rows)?;
                bytes[(from - offset) as usize..(to - offset) as usize]
                    .copy_from_slice(&arranged[(from - first) as usize..(to - first) as usize]);
            }
        }
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.file.bytes()
    }
}
