//! What encoding won and what it cost.

use serde::Serialize;

use crate::encode::importance::statistics::Inputs;
use crate::tensor::{Shape, TensorLocation};

/// What became of one model.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Bytes of all source files.
    pub original_bytes: u64,
    /// Bytes of the archive.
    pub archive_bytes: u64,
    /// Bytes that raw extents take in the archive.
    pub raw_bytes: u64,
    /// What the errors cost, in the units of [`Target::Quality`](super::Target::Quality), as far as the encoder can tell.
    pub distortion: f64,
    /// Whether decoding needs the base.
    pub needs_base: bool,
    /// Whether fewer bits than allowed make the weights near-lossless.
    pub near_lossless: bool,
    /// Whether statistics told what errors cost.
    pub calibrated: bool,
    /// What the statistics were measured on.
    pub inputs: Option<Inputs>,
    /// Whether the outputs err as much as they would uncalibrated, by random inputs.
    pub errs_as_uncalibrated: bool,
    /// Bytes after which the first pass can be used, the second, and so on; but for the last.
    pub pass_bytes: Vec<u64>,
    /// What the user may want to know.
    pub notes: Vec<String>,
    /// Tensors with frames of their own; one of each group of equal ones.
    pub tensors: Vec<TensorReport>,
}

/// What became of one tensor.
#[derive(Debug, Clone, Serialize)]
pub struct TensorReport {
    /// Its name.
    pub name: String,
    /// What it is, judged by shape and dtype.
    pub kind: Kind,
    /// Its shape.
    pub shape: Vec<u64>,
    /// Elements.
    pub weights: u64,
    /// Bytes in the source file.
    pub original_bytes: u64,
    /// Bytes of its chunks.
    pub coded_bytes: u64,
    /// Sum of squares of the weights; 0 if exact.
    pub energy: f64,
    /// Sum of squared errors; 0 if exact.
    pub squared_error: f64,
    /// Whether it is coded with loss.
    pub lossy: bool,
}

/// Kinds of tensors, judged by shape and dtype alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Floats with two axes.
    Matrix,
    /// Floats with kernel axes.
    Convolution,
    /// Floats along one axis.
    Vector,
    /// Integers.
    Integer,
}

impl Kind {
    fn of(tensor: &TensorLocation) -> Self {
        let Shape(extents) = &tensor.shape;
        match (tensor.dtype.is_float(), extents.iter().filter(|&&extent| extent > 1).count(), extents.len()) {
            (false, ..) => Kind::Integer,
            (true, 0 | 1, _) => Kind::Vector,
            (true, _, 4..) => Kind::Convolution,
            (true, ..) => Kind::Matrix,
        }
    }

    /// The name that tables show.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Matrix => "matrices",
            Kind::Convolution => "convolutions",
            Kind::Vector => "vectors",
            Kind::Integer => "integers",
        }
    }
}

impl TensorReport {
    /// Of a tensor whose chunks take so many bytes; `loss` is the sum of the squares of its weights, and of its errors.
    pub(super) fn new(tensor: &TensorLocation, coded_bytes: u64, loss: Option<[f64; 2]>) -> Self {
        let [energy, squared_error] = loss.unwrap_or_default();
        TensorReport {
            name: tensor.name.clone(),
            kind: Kind::of(tensor),
            shape: tensor.shape.0.clone(),
            weights: tensor.shape.element_len().unwrap_or(0),
            original_bytes: tensor.bytes,
            coded_bytes,
            energy,
            squared_error,
            lossy: loss.is_some(),
        }
    }
}

impl Report {
    /// Bytes of all but the chunks of what is coded with loss.
    pub fn exact_bytes(&self) -> u64 {
        let lossy: u64 = self.tensors.iter().filter(|tensor| tensor.lossy).map(|tensor| tensor.coded_bytes).sum();
        self.archive_bytes - lossy
    }

    /// Weights that are coded with loss.
    pub fn coded_weights(&self) -> u64 {
        self.tensors.iter().filter(|tensor| tensor.lossy).map(|tensor| tensor.weights).sum()
    }
}
