//! Units of a model -> the order in which they resemble their references: the base's, or those of the layer before.

use std::collections::HashSet;

use crate::decode::Reader;
use crate::encode::align::matching::match_units;
use crate::encode::align::symmetry::{self, Group};
use crate::encode::{Options, to_f32};
use crate::error::Result;
use crate::formats::SourceFile;
use crate::source::{Source, read_range};
use crate::stages::permute::Permutation;
use crate::tensor::TensorLocation;

/// For each tensor, what lies at each place along its first two axes, once units are aligned; `None` where nothing moves.
pub type Orders = [Option<Vec<u32>>; 2];

/// Files with their units in aligned order.
pub struct Aligned {
    /// The files.
    pub files: Vec<Vec<u8>>,
    /// What has moved, tensor by tensor.
    pub orders: Vec<Orders>,
    /// Tensors of which a column is a unit.
    pub columns: HashSet<usize>,
}

/// Aligns the units of all groups that have a reference.
///
/// # Errors
/// Whatever is wrong with the base.
pub fn align(files: &[SourceFile], tensors: &[TensorLocation], options: &Options) -> Result<Aligned> {
    let mut aligned = Aligned {
        files: files.iter().map(|file| read_range(file.source, 0..file.bytes())).collect::<Result<_>>()?,
        orders: vec![[None, None]; tensors.len()],
        columns: HashSet::new(),
    };
    let groups = symmetry::discover(files, tensors)?;
    for (index, group) in groups.iter().enumerate() {
        (options.progress)("matching units", index as f64 / groups.len() as f64);
        let found = match options.base {
            Some(base) => aligned.rows_beside_base(group, tensors, base)?,
            None => aligned.rows_beside_earlier_layer(group, &groups, tensors),
        };
        let Some((rows, reference)) = found else { continue };
        let unit_len = rows.len() / group.units;
        let matching = match_units(&rows, &reference, unit_len)?;
        if options.base.is_none() {
            let flat = |tensor: usize| tensors[tensor].shape.0.len() == 2;
            let columns = group.members.iter().filter(|member| member.axis == 1 && flat(member.tensor));
            aligned.columns.extend(columns.map(|member| member.tensor));
        }
        aligned.permute(group, &matching.permutation, tensors)?;
    }
    Ok(aligned)
}

impl Aligned {
    fn values(&self, tensor: &TensorLocation) -> Vec<f32> {
        let bytes = &self.files[tensor.file][tensor.offset as usize..(tensor.offset + tensor.bytes) as usize];
        if tensor.dtype.is_float() { to_f32(bytes, tensor.dtype) } else { Vec::new() }
    }

    /// The units of a group, and those of the same tensors of the base.
    fn rows_beside_base(
        &self,
        group: &Group,
        tensors: &[TensorLocation],
        base: &Reader<[u8]>,
    ) -> Result<Option<(Vec<f32>, Vec<f32>)>> {
        let mut references: Vec<(usize, Vec<f32>)> = Vec::new();
        for member in &group.members {
            let tensor = &tensors[member.tensor];
            let found = base.archive().tensors.iter().find(|other| other.name == tensor.name);
            if let Some(found) = found.filter(|other| other.shape == tensor.shape && other.dtype.is_float()) {
                references.push((member.tensor, to_f32(&base.tensor(&found.name)?, found.dtype)));
            }
        }
        let known =
            |tensor: usize| references.iter().find(|(index, _)| *index == tensor).map(|(_, values)| values.clone());
        let reference = group.rows(tensors, &mut |tensor| known(tensor));
        let rows = group.rows(tensors, &mut |tensor| known(tensor).map(|_| self.values(&tensors[tensor])));
        Ok((!rows.is_empty() && rows.len() == reference.len()).then_some((rows, reference)))
    }

    /// The units of a group, and those of the group of its role in the layer before.
    fn rows_beside_earlier_layer(
        &self,
        group: &Group,
        groups: &[Group],
        tensors: &[TensorLocation],
    ) -> Option<(Vec<f32>, Vec<f32>)> {
        let earlier = groups.iter().filter(|other| other.role == group.role && other.head == group.head);
        let earlier = earlier.filter(|other| other.layer < group.layer && other.units == group.units);
        let reference = earlier.max_by_key(|other| other.layer)?;
        let [rows, reference] =
            [group, reference].map(|group| group.rows(tensors, &mut |tensor| Some(self.values(&tensors[tensor]))));
        (!rows.is_empty() && rows.len() == reference.len()).then_some((rows, reference))
    }

    fn permute(&mut self, group: &Group, permutation: &Permutation, tensors: &[TensorLocation]) -> Result<()> {
        if permutation.places().iter().enumerate().all(|(unit, &place)| unit == place as usize) {
            return Ok(());
        }
        group.permute(permutation, tensors, &mut self.files)?;
        for member in group.members.iter().filter(|member| member.axis < 2) {
            let shape = &tensors[member.tensor].shape.0;
            let order =
                self.orders[member.tensor][member.axis].get_or_insert_with(|| (0..shape[member.axis] as u32).collect());
            member.permute_order(permutation, order);
        }
        Ok(())
    }
}
