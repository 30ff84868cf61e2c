//! What the caller of the encoder asks for.

use std::path::Path;

use crate::decode::Reader;
use crate::encode::progress::Progress;
use crate::entropy::LANES;
use crate::formats::SourceFile;
use crate::source::Source;

/// What the archive is to cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// Bits for each weight that is coded with loss, with everything those tensors need.
    Bits(f64),
    /// Bytes of the whole archive, at most.
    Size(u64),
    /// Distortion, at most: of the outputs (relative squared error) as far as statistics tell it, else the mean over weights
    /// of the relative squared error of their tensor.
    Quality(f64),
    /// A quality by name.
    Preset(Preset),
    /// Every byte exact.
    Lossless,
}

impl Target {
    /// What weights are to err by, uncalibrated: the mean relative squared error. A rate leaves it open, down to where it does not matter;
    /// a size, altogether. `None` without loss.
    pub fn weights_error(self) -> Option<f64> {
        match self {
            Target::Bits(_) => Some(Preset::NearLossless.of_weights()),
            Target::Size(_) => Some(f64::INFINITY),
            Target::Quality(error) => Some(error),
            Target::Preset(preset) => Some(preset.of_weights()),
            Target::Lossless => None,
        }
    }

    /// Most bits for each weight, where they are given.
    pub fn bits_max(self) -> f64 {
        if let Target::Bits(bits) = self { bits } else { f64::INFINITY }
    }

    /// Whether bits are bounded, and not errors.
    pub fn bounds_bits(self) -> bool {
        !matches!(self, Target::Quality(_) | Target::Preset(_))
    }
}

/// Qualities by name: bounds as of [`Target::Quality`]. Which of them holds depends on what is known.
///
/// Real samples tell how large an error of the outputs is: that is bounded. Random inputs tell where errors matter, not how much:
/// by them the outputs are to err as much as without calibration, which takes fewer bits. Uncalibrated, the error of the weights is bounded.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Preset {
    /// Hardly to be told from the original
    NearLossless,
    /// For models whose outputs are compared or added up
    High,
    /// For most models
    Balanced,
    /// The smallest that is worth trying
    Small,
}

impl Preset {
    /// Most that outputs may err by, on real samples.
    pub fn of_outputs(self) -> f64 {
        match self {
            Preset::NearLossless => 2e-4,
            Preset::High => 2e-3,
            Preset::Balanced => 1e-2,
            Preset::Small => 4e-2,
        }
    }

    /// Most that weights may err by, uncalibrated: about 8, 6, 5 and 4 bits for each.
    pub fn of_weights(self) -> f64 {
        match self {
            Preset::NearLossless => 1.7e-5,
            Preset::High => 2.6e-4,
            Preset::Balanced => 1.05e-3,
            Preset::Small => 4.2e-3,
        }
    }
}

/// An archive that others are predicted from.
pub type Base<'a> = Reader<'a, dyn Source + 'a>;

/// How to encode.
pub struct Options<'a> {
    /// What the archive is to cost.
    pub target: Target,
    /// Whether levels may follow the trellis: about 4 % fewer bits, and a decoder that is about a fifth slower.
    pub trellis: bool,
    /// What a bit is worth to the trellis, in squared half steps. About 0.37 would be best for the squared error of the
    /// weights; less shrinks them less, which outputs reward.
    pub lambda: f32,
    /// Most lanes of a chunk, 16, 64 or 256. A lane is a thread of a GPU, so that more of them decode small models faster there, for a
    /// few more bytes; CPUs walk 16 at once.
    pub lanes: usize,
    /// Whether long kernels may be transformed.
    pub transform: bool,
    /// Whether columns make up for each other's errors, where the statistics allow it.
    pub feedback: bool,
    /// The archive that this one is to be a delta to.
    pub base: Option<&'a Base<'a>>,
    /// The files that the base was made of: with them only the change is coded, and not what the base's levels err by.
    pub base_weights: Option<&'a [SourceFile<'a>]>,
    /// Whether tensors may be predicted from earlier ones that they resemble.
    pub prediction: bool,
    /// Whether units are matched with those of the reference.
    pub alignment: bool,
    /// Whether the archive may give hidden units, heads and channels in another order. The model computes the same.
    pub unit_order_free: bool,
    /// Whether long planes of exact elements of several bytes may adapt: up to 2 % fewer bytes of floats, and a decoder that takes up
    /// to seven times as long for them.
    pub adaptive: bool,
    /// Whether symbols are coded by how often they occur; if not, all of them as equally likely. To see what that is worth.
    pub entropy_model: bool,
    /// Bits of each pass, each with those before it, coarse to fine; empty for one pass. The target is the last one's.
    pub passes: &'a [f64],
    /// Every how many frames of a chain of predictions one is a key frame. Decoding a frame decodes all before it in its chain.
    pub key_interval: usize,
    /// Tensors that stay exact, by any name that they go by: in an archive of several models, with and without the name of the
    /// tensor's file before it.
    pub keep_exact: &'a (dyn Fn(&str) -> bool + Sync),
    /// Whether safetensors files may hold bytes that belong to no tensor; these stay exact.
    pub lenient: bool,
    /// A folder on a disk with room for a few bytes a weight, in files without names: levels and payloads wait there for the
    /// header that precedes them. Without one they wait in memory.
    pub scratch: Option<&'a Path>,
    /// Hears of each stage, and of each tensor in it, as it begins. May be called from any thread.
    pub progress: &'a (dyn Fn(Progress) + Sync),
}

impl Default for Options<'_> {
    fn default() -> Self {
        Options {
            target: Target::Bits(4.0),
            trellis: true,
            lambda: LAMBDA,
            lanes: LANES,
            transform: true,
            feedback: true,
            base: None,
            base_weights: None,
            prediction: true,
            alignment: true,
            unit_order_free: false,
            adaptive: false,
            entropy_model: true,
            passes: &[],
            key_interval: 4,
            keep_exact: &|_| false,
            lenient: false,
            scratch: None,
            progress: &|_| {},
        }
    }
}

/// Default of [`Options::lambda`].
pub const LAMBDA: f32 = 0.06;
