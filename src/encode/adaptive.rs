//! Bytes -> the adaptive payload that takes the fewest, of a few ways to adapt.

use std::sync::LazyLock;

use crate::entropy::{Adaptation, Model, TOTAL, adaptive_plane};

/// Limits that are tried: for what changes along the way, for most, and for what stays the same.
const LIMITS: [u8; 6] = [8, 12, 18, 31, 48, 63];
/// The limit under which contexts are tried.
const USUAL_LIMIT: u8 = 31;
/// Distances and bits of contexts that are tried.
const CONTEXTS: [(u8, u8); 6] = [(1, 0), (2, 1), (2, 4), (1, 3), (1, 8), (4, 4)];

/// How much of a plane the ways are tried on.
const SAMPLE_BYTES: usize = 1 << 17;
/// Fewest bytes for each context.
const CONTEXT_BYTES_MIN: usize = 16;

/// The plane with the way to adapt that suits it best.
pub fn encode_adaptive(plane: &[u8]) -> Vec<u8> {
    let adaptation = |limit, (distance, context_bits)| Adaptation { limit, distance, context_bits };
    // Each tree needs some bytes to learn from.
    let learns = |&(_, context_bits): &(u8, u8)| plane.len() >= CONTEXT_BYTES_MIN << context_bits;
    let sample = &plane[..plane.len().min(SAMPLE_BYTES)];
    let best = |ways: &mut dyn Iterator<Item = Adaptation>| {
        let way = ways.map(|way| (bits(sample, way), way)).min_by(|a, b| a.0.total_cmp(&b.0));
        way.map_or(adaptation(USUAL_LIMIT, CONTEXTS[0]), |(_, way)| way)
    };
    let Adaptation { distance, context_bits, .. } =
        best(&mut CONTEXTS.into_iter().filter(learns).map(|context| adaptation(USUAL_LIMIT, context)));
    let way = best(&mut LIMITS.into_iter().map(|limit| adaptation(limit, (distance, context_bits))));
    adaptive_plane(plane, way)
}

/// What a plane takes.
fn bits(plane: &[u8], adaptation: Adaptation) -> f64 {
    static BITS: LazyLock<Vec<f32>> =
        LazyLock::new(|| (0..=TOTAL).map(|chance| (TOTAL as f32 / chance as f32).log2()).collect());
    let mut model = Model::new(adaptation);
    let mut bits = 0.0;
    for at in 0..plane.len() {
        model.encode_byte(plane, at, |bit, chance| {
            bits += f64::from(BITS[if bit { chance } else { TOTAL - chance } as usize]);
        });
    }
    bits
}
