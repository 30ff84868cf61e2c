//! Units of a model -> the order in which they resemble their references: the base's, or those of the layer before.

use std::collections::HashSet;

use super::arranged::Arranged;
use super::matching::match_units;
use super::symmetry::{self, Group};
use crate::encode::levels::matrix::Orders;
use crate::encode::levels::weights::to_f32;
use crate::encode::options::{Base, Options};
use crate::encode::progress::Counter;
use crate::error::Result;
use crate::formats::SourceFile;
use crate::source::Source;
use crate::tensor::{TensorLocation, zeros};

/// Files with their units in aligned order.
pub struct Aligned<'a> {
    /// The files.
    pub files: Vec<Arranged<'a>>,
    /// Tensors of which a column is a unit.
    pub columns: HashSet<usize>,
    tensors: &'a [TensorLocation],
}

/// Aligns the units of all groups that have a reference.
///
/// # Errors
/// Whatever is wrong with the files or the base.
pub fn align<'a>(files: &'a [SourceFile<'a>], tensors: &'a [TensorLocation], options: &Options) -> Result<Aligned<'a>> {
    let files_as_they_are = (0..files.len()).map(|index| Arranged::new(&files[index], index, tensors)).collect();
    let mut aligned = Aligned { files: files_as_they_are, columns: HashSet::new(), tensors };
    let groups = symmetry::discover(files, tensors)?;
    let begun = Counter::new("matching units", groups.len() as u64);
    for group in &groups {
        (options.progress)(begun.begin(None, 1));
        let found = match options.base {
            Some(base) => aligned.rows_beside_base(group, base)?,
            None => aligned.rows_beside_earlier_layer(group, &groups)?,
        };
        let Some((rows, reference)) = found else { continue };
        let unit_len = rows.len() / group.units;
        let matching = match_units(rows, reference, unit_len)?;
        if options.base.is_none() {
            let flat = |tensor: usize| tensors[tensor].shape.0.len() == 2;
            let columns = group.members.iter().filter(|member| member.axis == 1 && flat(member.tensor));
            aligned.columns.extend(columns.map(|member| member.tensor));
        }
        for member in &group.members {
            aligned.files[tensors[member.tensor].file].arrange(member, &matching.permutation);
        }
    }
    Ok(aligned)
}

impl Aligned<'_> {
    /// What has moved in a tensor.
    pub fn orders(&self, tensor: usize) -> Orders {
        let order = |axis: usize| self.files[self.tensors[tensor].file].order(tensor, axis).map(<[u32]>::to_vec);
        [0, 1].map(order)
    }

    fn values(&self, tensor: usize) -> Result<Vec<f32>> {
        let tensor = &self.tensors[tensor];
        if !tensor.dtype.is_float() {
            return Ok(Vec::new());
        }
        let mut bytes = zeros("tensor", tensor.bytes)?;
        self.files[tensor.file].read_at(tensor.offset, &mut bytes)?;
        Ok(to_f32(&bytes, tensor.dtype))
    }

    /// The units of a group, and those of the same tensors of the base.
    fn rows_beside_base(&self, group: &Group, base: &Base) -> Result<Option<(Vec<f32>, Vec<f32>)>> {
        let in_base = |tensor: usize| {
            let tensor = &self.tensors[tensor];
            let found = base.archive().tensors.iter().find(|other| other.name == tensor.name);
            found.filter(|other| other.shape == tensor.shape && other.dtype.is_float())
        };
        let reference = group.rows(self.tensors, &mut |tensor| {
            in_base(tensor).map(|found| Ok(to_f32(&base.tensor(&found.name)?, found.dtype))).transpose()
        })?;
        let rows = group.rows(self.tensors, &mut |tensor| in_base(tensor).map(|_| self.values(tensor)).transpose())?;
        Ok((!rows.is_empty() && rows.len() == reference.len()).then_some((rows, reference)))
    }

    /// The units of a group, and those of the group of its role in the layer before.
    fn rows_beside_earlier_layer(&self, group: &Group, groups: &[Group]) -> Result<Option<(Vec<f32>, Vec<f32>)>> {
        let earlier = groups.iter().filter(|other| other.role == group.role && other.head == group.head);
        let earlier = earlier.filter(|other| other.layer < group.layer && other.units == group.units);
        let Some(reference) = earlier.max_by_key(|other| other.layer) else { return Ok(None) };
        let rows = |group: &Group| group.rows(self.tensors, &mut |tensor| self.values(tensor).map(Some));
        let (rows, reference) = (rows(group)?, rows(reference)?);
        Ok((!rows.is_empty() && rows.len() == reference.len()).then_some((rows, reference)))
    }
}
