//! Tensors of an archive -> their roles and layers, by what their names have in common.

use std::collections::HashMap;
use std::fmt::Write;

use super::text::percent;
use crate::cli::inspect::report::{FrameReport, Inspection, Mode};
use crate::cli::sizes::human_bytes;

/// One tensor and its frames, coarse to fine.
pub struct Cell<'a> {
    pub name: &'a str,
    pub frames: Vec<&'a FrameReport>,
    layer: u64,
}

impl Cell<'_> {
    /// Whether its frames are another tensor's, which shows what they take.
    pub fn is_shared(&self) -> bool {
        self.frames[0].tensors[0] != self.name
    }

    pub fn is_lossy(&self) -> bool {
        self.frames.iter().any(|frame| frame.is_lossy())
    }

    pub fn bits(&self) -> f64 {
        if self.is_shared() { 0.0 } else { self.frames.iter().map(|frame| frame.bits).sum() }
    }

    /// What it takes, or would take without prediction, if that is more.
    pub fn height(&self) -> f64 {
        let alone = self.frames.iter().filter_map(|frame| frame.key_bits).fold(0.0, f64::max);
        if self.is_shared() { 0.0 } else { self.bits().max(alone) }
    }

    pub fn bytes(&self) -> u64 {
        if self.is_shared() { 0 } else { self.frames.iter().map(|frame| frame.bytes).sum() }
    }

    /// Energy that the last frame codes: all of it if it stands alone.
    pub fn energy(&self) -> Option<f64> {
        let last = self.frames.last()?;
        if last.mode == Mode::Key { Some(1.0) } else { last.residual_energy }
    }

    pub fn title(&self) -> String {
        let mut text = self.name.to_string();
        if self.is_shared() {
            return text + "\nshares the frame of " + &self.frames[0].tensors[0];
        }
        for frame in &self.frames {
            let _ = write!(
                text,
                "\n{}: {:.3} bits for each element, {}",
                frame.word(),
                frame.bits,
                human_bytes(frame.bytes)
            );
            if let Some(reference) = &frame.reference {
                let _ = write!(text, "\nfrom {reference}");
            }
            if let Some(gain) = &frame.gain {
                let _ = write!(text, "\ngain {gain}");
            }
            if let Some(bits) = frame.key_bits {
                let _ = write!(text, "\nabout {bits:.2} bits as a key frame");
            }
            if let Some(energy) = frame.residual_energy {
                let _ = write!(text, "\nresidual: {} of the energy", percent(energy));
            }
        }
        text
    }
}

/// Tensors of the same name but for their layer.
pub struct Role<'a> {
    pub name: String,
    pub cells: Vec<Cell<'a>>,
}

impl Role<'_> {
    pub fn is_lossy(&self) -> bool {
        self.cells.iter().any(Cell::is_lossy)
    }

    pub fn shows_energy(&self) -> bool {
        self.cells.iter().any(|cell| cell.frames.iter().any(|frame| frame.residual_energy.is_some()))
    }
}

/// All coded tensors, by role and layer.
pub struct Film<'a> {
    /// The numbers of the layers, in order.
    pub layers: Vec<u64>,
    pub roles: Vec<Role<'a>>,
    /// Tensors whose role has no other.
    pub singles: Vec<Cell<'a>>,
}

impl<'a> Film<'a> {
    pub fn of(inspection: &'a Inspection) -> Self {
        let by_index: HashMap<usize, &FrameReport> =
            inspection.frames.iter().map(|report| (report.frame, report)).collect();
        let mut roles: Vec<Role> = Vec::new();
        let mut places = HashMap::new();
        for tensor in inspection.archive.tensors.iter().filter(|tensor| !tensor.frames.is_empty()) {
            let frames = tensor.frames.iter().filter_map(|frame| by_index.get(frame).copied()).collect();
            let (role, layer) = role(&tensor.name);
            let place = *places.entry(role.clone()).or_insert(roles.len());
            if place == roles.len() {
                roles.push(Role { name: role, cells: Vec::new() });
            }
            roles[place].cells.push(Cell { name: &tensor.name, frames, layer });
        }
        let (mut roles, singles): (Vec<Role>, Vec<Role>) = roles.into_iter().partition(|role| role.cells.len() > 1);
        roles.iter_mut().for_each(|role| role.cells.sort_by_key(|cell| cell.layer));
        let mut layers: Vec<u64> = roles.iter().flat_map(|role| &role.cells).map(|cell| cell.layer).collect();
        layers.sort_unstable();
        layers.dedup();
        Film { layers, roles, singles: singles.into_iter().flat_map(|role| role.cells).collect() }
    }

    pub fn place(&self, cell: &Cell) -> usize {
        self.layers.partition_point(|&layer| layer < cell.layer)
    }
}

/// A name with its layer's number replaced by a star, and that number: the first that stands alone, or else the first.
fn role(name: &str) -> (String, u64) {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (at, letter) in name.char_indices().filter(|(_, letter)| letter.is_ascii_digit()) {
        match runs.last_mut() {
            Some((_, end)) if *end == at => *end = at + letter.len_utf8(),
            _ => runs.push((at, at + letter.len_utf8())),
        }
    }
    let stands_alone = |&&(start, end): &&(usize, usize)| {
        let before = name[..start].chars().next_back();
        let after = name[end..].chars().next();
        !before.into_iter().chain(after).any(char::is_alphanumeric)
    };
    let numbered = |&(start, end): &(usize, usize)| Some((start, end, name[start..end].parse().ok()?));
    match runs.iter().find(stands_alone).or(runs.first()).and_then(numbered) {
        Some((start, end, layer)) => (format!("{}*{}", &name[..start], &name[end..]), layer),
        None => (name.into(), 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layer_is_the_first_number_that_stands_alone() {
        for (name, expected) in [
            ("encoder.layer.11.output.dense.weight", ("encoder.layer.*.output.dense.weight", 11)),
            ("w2v.layers.3.fc1.weight", ("w2v.layers.*.fc1.weight", 3)),
            ("conv2_BN.weight", ("conv*_BN.weight", 2)),
            ("onnx::MatMul_812", ("onnx::MatMul_*", 812)),
            ("embeddings.weight", ("embeddings.weight", 0)),
            ("x.99999999999999999999999.y", ("x.99999999999999999999999.y", 0)),
        ] {
            assert_eq!(role(name), (expected.0.to_string(), expected.1), "{name}");
        }
    }
}
