//! Bytes -> the adaptive or guided payload that takes the fewest, of a few ways to adapt.

use std::ops::Range;
use std::sync::LazyLock;

use crate::encode::portable::log2;
use crate::entropy::{Adaptation, Decision, Guide, Learner, adaptive_plane, context};
use crate::format::TOTAL;

/// Limits that are tried: for what changes along the way, for most, for what stays the same, and for what always does.
const LIMITS: [u8; 7] = [8, 12, 18, 31, 48, 63, 255];
/// Index of the limit that contexts are compared with.
const USUAL_LIMIT: usize = 3;
/// Distances and bits of contexts that are tried.
const CONTEXTS: [(u8, u8); 6] = [(1, 0), (2, 1), (2, 4), (1, 3), (1, 8), (4, 4)];
/// The same of a reference: the bits of bytes up to the top of an element.
const GUIDED_BITS: [u8; 2] = [4, 8];

/// How much of a plane the ways are tried on: so many windows, spread evenly, of so many bytes at least.
const WINDOWS: usize = 8;
const WINDOW_BYTES_MIN: usize = 1 << 11;
/// After how many bytes a way is given up that costs more than the best.
const LOOK_BYTES: usize = 256;
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
    /// The way that suits the plane best, by a sample of it, one part of so many. A guide serves with bytes up to `reach` places ahead.
    pub fn best(plane: &[u8], parts: usize, guide: Option<&'a Guide<'a>>, reach: u8) -> Self {
        let sample = Sample::new(plane, parts);
        let own = CONTEXTS.into_iter().map(|context| (context, None));
        let guided = guide.into_iter().flat_map(|guide| {
            let contexts = (0..=reach).flat_map(|distance| GUIDED_BITS.map(|context_bits| (distance, context_bits)));
            contexts.map(move |context| (context, Some(guide)))
        });
        // Each tree needs some bytes to learn from.
        let learns = |context_bits: u8| context_bits == 0 || plane.len() >= CONTEXT_BYTES_MIN << context_bits;
        let limit = LIMITS[USUAL_LIMIT];
        let way =
            |adaptation, guide, bytes_max| Way { adaptation, guide, bytes: sample.bytes(adaptation, guide, bytes_max) };
        let mut usual: Option<Way> = None;
        for ((distance, context_bits), guide) in
            own.chain(guided).filter(|((_, context_bits), _)| learns(*context_bits))
        {
            let bytes_max = usual.map_or(f64::INFINITY, |best| best.bytes);
            let next = way(Adaptation { limit, distance, context_bits }, guide, bytes_max);
            if next.bytes < bytes_max {
                usual = Some(next);
            }
        }
        let usual = usual.expect("a single tree is always among them");
        // Costs have one valley: downhill on either side of the usual limit.
        let downhill = |limits: &mut dyn Iterator<Item = &u8>| {
            let mut best = usual;
            for &limit in limits {
                let next = way(Adaptation { limit, ..usual.adaptation }, usual.guide, best.bytes);
                if next.bytes >= best.bytes {
                    break;
                }
                best = next;
            }
            best
        };
        let faster = downhill(&mut LIMITS[..USUAL_LIMIT].iter().rev());
        if faster.bytes < usual.bytes { faster } else { downhill(&mut LIMITS[USUAL_LIMIT + 1..].iter()) }
    }

    /// The plane, coded in this way.
    pub fn encode(&self, plane: &[u8]) -> Vec<u8> {
        adaptive_plane(plane, self.adaptation, self.guide)
    }
}

/// Bytes of an adaptive payload beside its words.
const PAYLOAD_BYTES: f64 = 8.0;

/// Parts of a plane that stand for all of it.
struct Sample<'p> {
    plane: &'p [u8],
    /// The first windows, on which a model learns, and the others.
    windows: [Vec<Range<usize>>; 2],
    /// How much the rest of the plane and the other windows take, relative to these alone, if it is coded as a whole.
    scale: f64,
}

impl<'p> Sample<'p> {
    fn new(plane: &'p [u8], parts: usize) -> Self {
        let window_bytes = (plane.len() / (parts * WINDOWS)).max(WINDOW_BYTES_MIN);
        if plane.len() <= WINDOWS * window_bytes {
            let all = std::iter::once(0..plane.len()).collect();
            return Sample { plane, windows: [all, Vec::new()], scale: 1.0 };
        }
        let apart = (plane.len() - window_bytes) / (WINDOWS - 1);
        let mut windows: Vec<_> = (0..WINDOWS).map(|window| window * apart..window * apart + window_bytes).collect();
        let others = windows.split_off(WINDOWS / 2);
        let costs = byte_bits(plane);
        let bits = |bytes: &[u8]| bytes.iter().map(|&byte| f64::from(costs[usize::from(byte)])).sum::<f64>();
        let of = |windows: &[Range<usize>]| windows.iter().map(|window| bits(&plane[window.clone()])).sum::<f64>();
        let scale = (bits(plane) - of(&windows)) / of(&others).max(1.0);
        Sample { plane, windows: [windows, others], scale }
    }

    /// What the plane takes; infinity once it is seen to be no less than `bytes_max`.
    fn bytes(&self, adaptation: Adaptation, guide: Option<&Guide>, bytes_max: f64) -> f64 {
        static BITS: LazyLock<Vec<f32>> = LazyLock::new(|| Decision::all().map(bits_of).collect());
        let costs = BITS.as_slice();
        let mut model = Learner::new(adaptation);
        let bytes = |sums: [f64; 2]| PAYLOAD_BYTES + (sums[0] + self.scale * sums[1]) / 8.0;
        let mut sums = [0.0; 2];
        for (kind, windows) in self.windows.iter().enumerate() {
            for window in windows {
                let before = sums[kind];
                let mut bits = 0.0;
                for start in window.clone().step_by(LOOK_BYTES) {
                    for at in start..window.end.min(start + LOOK_BYTES) {
                        let context = context(self.plane, at, adaptation.distance, guide);
                        model.learn(self.plane[at], context, |decision| bits += costs[decision.index()]);
                    }
                    sums[kind] = before + f64::from(bits);
                    if bytes(sums) >= bytes_max {
                        return f64::INFINITY;
                    }
                }
            }
        }
        bytes(sums)
    }
}

/// What a decision costs.
fn bits_of(decision: Decision) -> f32 {
    let ones = u32::from(decision.chance());
    log2(TOTAL as f32 / if decision.bit() { ones } else { TOTAL - ones } as f32)
}

/// Bits of each byte, by how often it occurs.
fn byte_bits(plane: &[u8]) -> [f32; 256] {
    let mut counts = [0u32; 256];
    plane.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
    counts.map(|count| log2(plane.len() as f32 / count.max(1) as f32))
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
            let way = Way::best(&plane, 16, None, 0);
            let coded = way.encode(&plane).len() as f64;
            assert!((way.bytes / coded - 1.0).abs() < 0.01 + 4.0 / coded, "{len}: {} of {coded}", way.bytes);
        }
    }
}
