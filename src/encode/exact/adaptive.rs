//! Bytes -> the adaptive or guided payload that takes the fewest, of a few ways to adapt.

use std::ops::Range;
use std::sync::LazyLock;

use crate::entropy::{Adaptation, AdaptiveModel, Guide, adaptive_plane, context};
use crate::format::TOTAL;

/// Limits that are tried: for what changes along the way, for most, for what stays the same, and for what always does.
const LIMITS: [u8; 7] = [8, 12, 18, 31, 48, 63, 255];
/// Index of the limit that contexts are compared with.
const USUAL_LIMIT: usize = 3;
/// Distances and bits of contexts that are tried.
const CONTEXTS: [(u8, u8); 6] = [(1, 0), (2, 1), (2, 4), (1, 3), (1, 8), (4, 4)];
/// The same of a reference: the bits of bytes up to the top of an element.
const GUIDED_BITS: [u8; 2] = [4, 8];

/// How much of a plane the ways are tried on: so many windows of so many bytes, spread evenly.
const WINDOWS: usize = 4;
const WINDOW_BYTES: usize = 1 << 13;
/// Fewest bytes for each context.
const CONTEXT_BYTES_MIN: usize = 16;

/// A way to adapt, whether a guide is part of it, and what it may cost.
#[derive(Clone, Copy)]
pub struct Way<'a> {
    adaptation: Adaptation,
    guide: Option<&'a Guide<'a>>,
    /// Bytes that the plane takes in this way, as far as a sample tells.
    pub bytes: f64,
}

impl<'a> Way<'a> {
    /// The way that suits the plane best. A guide serves with bytes up to `reach` places ahead.
    pub fn best(plane: &[u8], guide: Option<&'a Guide<'a>>, reach: u8) -> Self {
        let own = CONTEXTS.into_iter().map(|context| (context, None));
        let guided = guide.into_iter().flat_map(|guide| {
            let contexts = (0..=reach).flat_map(|distance| GUIDED_BITS.map(|context_bits| (distance, context_bits)));
            contexts.map(move |context| (context, Some(guide)))
        });
        // Each tree needs some bytes to learn from.
        let learns = |context_bits: u8| context_bits == 0 || plane.len() >= CONTEXT_BYTES_MIN << context_bits;
        let limit = LIMITS[USUAL_LIMIT];
        let ways = own.chain(guided).filter(|((_, context_bits), _)| learns(*context_bits)).map(
            |((distance, context_bits), guide)| Way::new(plane, Adaptation { limit, distance, context_bits }, guide),
        );
        let usual = ways.min_by(|a, b| a.bytes.total_cmp(&b.bytes)).expect("a single tree is always among them");
        let with_limit = |&limit: &u8| Way::new(plane, Adaptation { limit, ..usual.adaptation }, usual.guide);
        // Costs have one valley: downhill on either side of the usual limit.
        let downhill = |limits: &mut dyn Iterator<Item = &u8>| {
            let mut best = usual;
            for way in limits.map(with_limit) {
                if way.bytes >= best.bytes {
                    break;
                }
                best = way;
            }
            best
        };
        let faster = downhill(&mut LIMITS[..USUAL_LIMIT].iter().rev());
        if faster.bytes < usual.bytes { faster } else { downhill(&mut LIMITS[USUAL_LIMIT + 1..].iter()) }
    }

    fn new(plane: &[u8], adaptation: Adaptation, guide: Option<&'a Guide<'a>>) -> Self {
        Way { adaptation, guide, bytes: bytes(plane, adaptation, guide) }
    }

    /// The plane, coded in this way.
    pub fn encode(&self, plane: &[u8]) -> Vec<u8> {
        adaptive_plane(plane, self.adaptation, self.guide)
    }
}

/// What a plane takes: the rest of it as much as the later half of the sample, which finds a model that has learnt.
fn bytes(plane: &[u8], adaptation: Adaptation, guide: Option<&Guide>) -> f64 {
    static BITS: LazyLock<Vec<f32>> =
        LazyLock::new(|| (0..=TOTAL).map(|chance| (TOTAL as f32 / chance as f32).log2()).collect());
    let costs = &BITS[..=TOTAL as usize];
    let mut model = AdaptiveModel::new(adaptation);
    let mut bits = |window: Range<usize>| {
        let mut bits = 0.0;
        for at in window {
            model.encode_byte(plane[at], context(plane, at, adaptation.distance, guide), |bit, chance| {
                bits += costs[if bit { chance } else { TOTAL - chance } as usize];
            });
        }
        f64::from(bits)
    };
    let windows: Vec<f64> = windows(plane.len()).into_iter().map(&mut bits).collect();
    let sum: f64 = windows.iter().sum();
    let rest = plane.len().saturating_sub(WINDOWS * WINDOW_BYTES) as f64;
    let learnt = windows[windows.len() / 2..].iter().sum::<f64>() / (WINDOWS / 2 * WINDOW_BYTES) as f64;
    PAYLOAD_BYTES + (sum + rest * learnt) / 8.0
}

/// Bytes of an adaptive payload beside its words.
const PAYLOAD_BYTES: f64 = 8.0;

/// The sample of a plane of `len` bytes: all of it, if it is short.
fn windows(len: usize) -> Vec<Range<usize>> {
    if len <= WINDOWS * WINDOW_BYTES {
        return vec![0..len];
    }
    let apart = (len - WINDOW_BYTES) / (WINDOWS - 1);
    (0..WINDOWS).map(|window| window * apart..window * apart + WINDOW_BYTES).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Noise;

    #[test]
    fn a_sample_tells_what_a_plane_takes() {
        let mut random = Noise(5);
        for len in [1, 3000, 30_000, 200_000] {
            let plane: Vec<u8> = (0..len).map(|_| (random.normal() * 9.0) as i8 as u8).collect();
            let way = Way::best(&plane, None, 0);
            let coded = way.encode(&plane).len() as f64;
            assert!((way.bytes / coded - 1.0).abs() < 0.01 + 4.0 / coded, "{len}: {} of {coded}", way.bytes);
        }
    }
}
