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

/// What a plane is tried on: so many windows, spread evenly, as long as those of a plane of so many bytes at least.
const WINDOWS: usize = 8;
const SAMPLED_BYTES_MIN: usize = 1 << 16;
/// After how many bytes a way is compared with the best, and the part by which it may yet be better in what is left of the plane.
const LOOK_BYTES: usize = 256;
const CATCHES_UP: f64 = 0.05;
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
        let own = CONTEXTS.into_iter().map(|context| (context, None));
        let guided = guide.into_iter().flat_map(|guide| {
            let contexts = (0..=reach).flat_map(|distance| GUIDED_BITS.map(|context_bits| (distance, context_bits)));
            contexts.map(move |context| (context, Some(guide)))
        });
        // Each tree needs some bytes to learn from.
        let learns = |context_bits: u8| context_bits == 0 || plane.len() >= CONTEXT_BYTES_MIN << context_bits;
        let mut trials = Trials { sample: Sample::new(plane, parts), best: None, course: Vec::new() };
        for ((distance, context_bits), guide) in
            own.chain(guided).filter(|((_, context_bits), _)| learns(*context_bits))
        {
            trials.improve(Adaptation { limit: LIMITS[USUAL_LIMIT], distance, context_bits }, guide);
        }
        let usual = trials.best();
        // Costs have one valley: downhill on either side of the usual limit.
        let mut improves = |&&limit: &&u8| trials.improve(Adaptation { limit, ..usual.adaptation }, usual.guide);
        if LIMITS[..USUAL_LIMIT].iter().rev().take_while(&mut improves).count() == 0 {
            LIMITS[USUAL_LIMIT + 1..].iter().take_while(improves).count();
        }
        trials.best()
    }

    /// The plane, coded in this way.
    pub fn encode(&self, plane: &[u8]) -> Vec<u8> {
        adaptive_plane(plane, self.adaptation, self.guide)
    }
}

/// Ways on a sample, one after another.
struct Trials<'p, 'a> {
    sample: Sample<'p>,
    best: Option<Way<'a>>,
    /// What the best takes up to each look at the sample.
    course: Vec<f64>,
}

impl<'a> Trials<'_, 'a> {
    /// Whether a way is better than all before it.
    fn improve(&mut self, adaptation: Adaptation, guide: Option<&'a Guide<'a>>) -> bool {
        let Some(course) = self.sample.course(adaptation, guide, &self.course) else { return false };
        self.best = course.last().map(|&bytes| Way { adaptation, guide, bytes });
        self.course = course;
        true
    }

    fn best(&self) -> Way<'a> {
        self.best.expect("a single tree is always among them")
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
        let window_bytes = plane.len().max(SAMPLED_BYTES_MIN) / (parts * WINDOWS);
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

    /// What the plane takes, as far as each look at the sample tells; `None` once it is not expected to be less than at the end of
    /// the best course.
    fn course(&self, adaptation: Adaptation, guide: Option<&Guide>, best: &[f64]) -> Option<Vec<f64>> {
        let mut model = Learner::new(adaptation);
        let context = |at| context(self.plane, at, adaptation.distance, guide);
        let mut sums = [0.0; 2];
        let mut course = vec![PAYLOAD_BYTES];
        for (kind, windows) in self.windows.iter().enumerate() {
            for window in windows {
                for start in window.clone().step_by(LOOK_BYTES) {
                    let look = start..window.end.min(start + LOOK_BYTES);
                    sums[kind] += f64::from(learned_bits(&mut model, self.plane, look, context));
                    let bytes = PAYLOAD_BYTES + (sums[0] + self.scale * sums[1]) / 8.0;
                    if let (Some(then), Some(end)) = (best.get(course.len()), best.last())
                        && bytes - then >= CATCHES_UP * (end - then)
                    {
                        return None;
                    }
                    course.push(bytes);
                }
            }
        }
        Some(course)
    }
}

/// What some bytes of a plane cost, to a model that learns from them.
fn learned_bits(model: &mut Learner, plane: &[u8], range: Range<usize>, context: impl Fn(usize) -> u8) -> f32 {
    static BITS: LazyLock<Vec<f32>> = LazyLock::new(|| Decision::all().map(bits_of).collect());
    let costs = BITS.as_slice();
    let mut bits = 0.0;
    for at in range {
        model.learn(plane[at], context(at), |decision| bits += costs[decision.index()]);
    }
    bits
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
