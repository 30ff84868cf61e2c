//! An archive's header -> what its frames are: [`Inspection`], which the tables, the JSON and the film all show.

use serde::Serialize;

use crate::container::{Archive, Coding, Frame, Side, Tensor};
use crate::format::GAIN_ONE;

/// What an archive holds.
pub struct Inspection<'a> {
    /// Its header.
    pub archive: &'a Archive,
    /// Its frames in the order of the tensors.
    pub frames: Vec<FrameReport>,
}

/// One frame.
#[derive(Serialize)]
pub struct FrameReport {
    /// Its place in the archive.
    pub frame: usize,
    /// The tensors whose frame it is.
    pub tensors: Vec<String>,
    /// Which of its tensor's frames it is, coarse to fine.
    pub pass: usize,
    pub mode: Mode,
    pub coding: &'static str,
    pub reference: Option<Reference>,
    pub gain: Option<Gain>,
    pub elements: u64,
    /// Bytes of its chunks.
    pub bytes: u64,
    /// Bits for each element.
    pub bits: f64,
    /// About the bits for each element that it would take without a prediction.
    pub key_bits: Option<f64>,
    /// Energy of the residuals over that of the levels.
    pub residual_energy: Option<f64>,
    pub scale: Option<f32>,
}

/// What a frame is to its tensor.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Key,
    Predicted,
    Refinement,
}

/// What a frame is predicted from.
#[derive(Serialize)]
pub struct Reference {
    /// Whether it lies in the base.
    pub base: bool,
    /// Its place in its archive.
    pub frame: usize,
    /// The first tensor whose frame it is; unknown without the base.
    pub tensor: Option<String>,
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (&self.tensor, self.base) {
            (Some(tensor), true) => write!(f, "base: {tensor}"),
            (Some(tensor), false) => write!(f, "{tensor}"),
            (None, true) => write!(f, "base: frame {}", self.frame),
            (None, false) => write!(f, "frame {}", self.frame),
        }
    }
}

/// The factor of a prediction.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Gain {
    All(f64),
    Rows(&'static str),
}

impl std::fmt::Display for Gain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Gain::All(gain) => write!(f, "{gain:.3}"),
            Gain::Rows(text) => write!(f, "{text}"),
        }
    }
}

impl FrameReport {
    /// The word that tables show.
    pub fn word(&self) -> &'static str {
        match (self.mode, self.coding) {
            (Mode::Refinement, _) => "refinement",
            (Mode::Key, "planes") => "exact",
            (Mode::Predicted, "planes") => "exact delta",
            (Mode::Key, "integers") => "integers",
            (Mode::Predicted, "integers") => "integer delta",
            (Mode::Key, _) => "key",
            (Mode::Predicted, _) => "predicted",
        }
    }

    /// Whether it codes weights with loss.
    pub fn is_lossy(&self) -> bool {
        self.coding == "levels"
    }
}

/// What all predicted frames come to whose bits without prediction are known.
pub struct Saved {
    pub frames: usize,
    pub bytes: u64,
    pub key_bytes: u64,
}

impl Saved {
    /// `None` if there are none.
    pub fn of(frames: &[FrameReport]) -> Option<Self> {
        let known = frames.iter().filter_map(|report| Some((report, report.key_bits?)));
        let none = Saved { frames: 0, bytes: 0, key_bytes: 0 };
        let saved = known.fold(none, |sum, (report, bits)| Saved {
            frames: sum.frames + 1,
            bytes: sum.bytes + report.bytes,
            key_bytes: sum.key_bytes + (bits * report.elements as f64 / 8.0) as u64,
        });
        (saved.frames > 0).then_some(saved)
    }
}

/// What the header tells about a frame.
pub fn report(archive: &Archive, base: Option<&Archive>, tensor: &Tensor, pass: usize) -> FrameReport {
    let index = tensor.frames[pass];
    let frame = &archive.frames[index];
    let (coding, scale, gain) = match &frame.coding {
        Coding::Planes(_) => ("planes", None, None),
        Coding::Levels(levels) => {
            let gain = if levels.has(Side::RowGain) {
                Gain::Rows("per row")
            } else {
                Gain::All(f64::from(levels.gain) / f64::from(GAIN_ONE))
            };
            (if levels.scale.is_some() { "levels" } else { "integers" }, levels.scale, Some(gain))
        }
    };
    let reference = frame.reference.map(|reference| {
        let in_base = reference >= archive.frame_count;
        let frame = if in_base { reference - archive.frame_count } else { reference };
        let owner = if in_base { base } else { Some(archive) };
        let named = |owner: &Archive| {
            let tensor = owner.tensors.iter().find(|tensor| tensor.frames.contains(&frame));
            tensor.map(|tensor| tensor.name.clone())
        };
        Reference { base: in_base, frame, tensor: owner.and_then(named) }
    });
    let mode = match (pass, &reference) {
        (0, None) => Mode::Key,
        (0, Some(_)) => Mode::Predicted,
        _ => Mode::Refinement,
    };
    let elements = tensor.shape.element_len().unwrap_or(0).max(1);
    let bytes = coded_bytes(archive, frame);
    FrameReport {
        frame: index,
        tensors: Vec::new(),
        pass,
        mode,
        coding,
        gain: gain.filter(|_| reference.is_some()),
        reference,
        elements,
        bytes,
        bits: 8.0 * bytes as f64 / elements as f64,
        key_bits: None,
        residual_energy: None,
        scale,
    }
}

fn coded_bytes(archive: &Archive, frame: &Frame) -> u64 {
    let first = frame.side_chunk.unwrap_or(frame.first_chunk);
    let chunks = &archive.chunks[first..frame.first_chunk + frame.chunk_count];
    chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum()
}
