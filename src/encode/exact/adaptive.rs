//! Bytes -> the adaptive or guided payload that takes the fewest, of a few ways to adapt.

use std::sync::LazyLock;

use crate::entropy::{Adaptation, AdaptiveModel, Guide, adaptive_plane, context};
use crate::format::TOTAL;

/// Limits that are tried: for what changes along the way, for most, for what stays the same, and for what always does.
const LIMITS: [u8; 7] = [8, 12, 18, 31, 48, 63, 255];
/// The limit that contexts are compared with.
const USUAL_LIMIT: u8 = 31;
/// Distances and bits of contexts that are tried.
const CONTEXTS: [(u8, u8); 6] = [(1, 0), (2, 1), (2, 4), (1, 3), (1, 8), (4, 4)];
/// The same of a reference: the bits of bytes up to the top of an element.
const GUIDED_BITS: [u8; 2] = [4, 8];

/// How much of a plane the ways are tried on.
const SAMPLE_BYTES: usize = 1 << 17;
/// Fewest bytes for each context.
const CONTEXT_BYTES_MIN: usize = 16;

/// A way to adapt, and whether a guide is part of it.
#[derive(Clone, Copy)]
struct Way<'a> {
    adaptation: Adaptation,
    guide: Option<&'a Guide<'a>>,
}

/// The plane with the way to adapt that suits it best. A guide serves with bytes up to `reach` places ahead.
pub fn encode_adaptive(plane: &[u8], guide: Option<&Guide>, reach: u8) -> Vec<u8> {
    let own = CONTEXTS.into_iter().map(|context| (context, None));
    let guided = guide.into_iter().flat_map(|guide| {
        let contexts = (0..=reach).flat_map(|distance| GUIDED_BITS.map(|context_bits| (distance, context_bits)));
        contexts.map(move |context| (context, Some(guide)))
    });
    let ways = own.chain(guided).map(|((distance, context_bits), guide)| Way {
        adaptation: Adaptation { limit: USUAL_LIMIT, distance, context_bits },
        guide,
    });
    // Each tree needs some bytes to learn from.
    let learns = |way: &Way| match way.adaptation.context_bits {
        0 => true,
        context_bits => plane.len() >= CONTEXT_BYTES_MIN << context_bits,
    };
    let sample = &plane[..plane.len().min(SAMPLE_BYTES)];
    let context = best(sample, ways.filter(learns));
    let limits =
        LIMITS.into_iter().map(|limit| Way { adaptation: Adaptation { limit, ..context.adaptation }, ..context });
    let Way { adaptation, guide } = best(sample, limits);
    adaptive_plane(plane, adaptation, guide)
}

/// The way in which the plane takes the fewest bits.
fn best<'a>(plane: &[u8], ways: impl Iterator<Item = Way<'a>>) -> Way<'a> {
    let ways = ways.map(|way| (bits(plane, way), way));
    ways.min_by(|a, b| a.0.total_cmp(&b.0)).expect("a single tree is always among them").1
}

/// What a plane takes.
fn bits(plane: &[u8], Way { adaptation, guide }: Way) -> f64 {
    static BITS: LazyLock<Vec<f32>> =
        LazyLock::new(|| (0..=TOTAL).map(|chance| (TOTAL as f32 / chance as f32).log2()).collect());
    let mut model = AdaptiveModel::new(adaptation);
    let mut bits = 0.0;
    for (at, &byte) in plane.iter().enumerate() {
        model.encode_byte(byte, context(plane, at, adaptation.distance, guide), |bit, chance| {
            bits += f64::from(BITS[if bit { chance } else { TOTAL - chance } as usize]);
        });
    }
    bits
}
