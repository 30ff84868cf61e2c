//! What a quantization costs, and what it may cost.

use crate::encode::portable::log2;

/// Smallest and largest fraction of the root mean square: about 16 bits and a tenth of a bit.
pub const STEP_MIN: f64 = 1.0 / 16384.0;
/// The step of a tensor of typical importance whose relative squared error is a millionth, as it is of a bfloat16: no rate asks
/// for a finer one.
pub const STEP_NEAR_LOSSLESS: f64 = 1.0 / 288.0;
pub const STEP_MAX: f64 = 8.0;

/// What a quantization comes to.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cost {
    /// Bits of the frames whose step is searched.
    pub bits: f64,
    /// Bits of all others that hold weights.
    pub other_bits: f64,
    /// The part of the weights with a searched step that is coded with loss; the rest is exact, being no larger so.
    pub lossy_part: f64,
    /// What the errors of those whose step is searched cost the outputs; where that is unknown, the mean relative squared error of
    /// what is coded with loss.
    pub distortion: f64,
    /// The same if the mean relative squared error of the weights were 1 and they were uncalibrated.
    pub uncalibrated: f64,
}

/// What a step is judged by.
#[derive(Debug, Clone, Copy)]
pub enum Goal {
    /// Bits of what is coded with loss, at most, if all that may be is.
    Rate(f64),
    /// Bits of all frames, at most.
    Size(f64),
    /// Distortion, at most.
    Distortion(f64),
    /// Distortion, at most that of uncalibrated weights with this mean relative squared error.
    Uncalibrated(f64),
}

impl Goal {
    /// What it bounds.
    pub fn of(self, cost: Cost) -> f64 {
        match self {
            Goal::Rate(_) if cost.lossy_part == 0.0 => 0.0,
            Goal::Rate(_) => cost.bits / cost.lossy_part,
            Goal::Size(_) => cost.bits + cost.other_bits,
            Goal::Distortion(_) => cost.distortion,
            Goal::Uncalibrated(_) if cost.uncalibrated == 0.0 => 0.0,
            Goal::Uncalibrated(_) => cost.distortion / cost.uncalibrated,
        }
    }

    /// The bound.
    pub fn bound(self) -> f64 {
        match self {
            Goal::Rate(bound) | Goal::Size(bound) | Goal::Distortion(bound) | Goal::Uncalibrated(bound) => bound,
        }
    }

    /// The same for another bound.
    pub fn at(self, bound: f64) -> Self {
        match self {
            Goal::Rate(_) => Goal::Rate(bound),
            Goal::Size(_) => Goal::Size(bound),
            Goal::Distortion(_) => Goal::Distortion(bound),
            Goal::Uncalibrated(_) => Goal::Uncalibrated(bound),
        }
    }

    /// Whether a bound on bits.
    pub fn is_rate(self) -> bool {
        matches!(self, Goal::Rate(_) | Goal::Size(_))
    }

    /// The finest step of the model: a rate is no duty.
    pub fn step_min(self) -> f64 {
        if self.is_rate() { STEP_NEAR_LOSSLESS } else { STEP_MIN }
    }

    /// By how many octaves the step may grow if this is what it came to.
    pub fn octaves_off(self, value: f64, weights: f64) -> f64 {
        match self {
            // An octave is a bit for each weight at high rates, and less at low ones.
            Goal::Rate(bound) | Goal::Size(bound) => (value - bound) / weights,
            Goal::Distortion(bound) | Goal::Uncalibrated(bound) => 0.5 * log2(bound / value),
        }
    }
}
