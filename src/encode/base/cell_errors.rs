//! How far weights lie from the levels that a quantizer chose for them.

/// Distributions of errors in steps, one for each magnitude of levels; the cells of the smallest levels are filled unevenly, and the
/// trellis leaves the nearest cell.
#[derive(Debug, Clone)]
pub struct CellErrors {
    /// Of each magnitude, how many errors lie below each border between bins, relative to all.
    below: Vec<[f32; BINS + 1]>,
}

/// Counts of errors, by magnitude and bin.
#[derive(Clone)]
pub struct ErrorCounts(Vec<[u64; BINS]>);

/// Magnitudes of levels that are told apart.
const MAGNITUDES: usize = 8;
const BINS: usize = 256;
/// The largest error that is told from larger ones, in steps.
const ERROR_MAX: f32 = 2.0;

/// The bin of an error, and where in it it lies. Errors of negative levels count with the other sign.
fn bin(error: f32, level: i32) -> (usize, f32) {
    let outward = if level < 0 { -error } else { error };
    let place = (outward / ERROR_MAX + 1.0) * (BINS / 2) as f32;
    let place = place.clamp(0.0, BINS as f32 - 0.001);
    (place as usize, place.fract())
}

fn magnitude(level: i32) -> usize {
    (level.unsigned_abs() as usize).min(MAGNITUDES - 1)
}

impl ErrorCounts {
    /// None yet.
    pub fn new() -> Self {
        ErrorCounts(vec![[0; BINS]; MAGNITUDES])
    }

    /// Counts an error, in steps, of a weight with this level.
    pub fn add(&mut self, error: f32, level: i32) {
        self.0[magnitude(level)][bin(error, level).0] += 1;
    }

    /// Their distributions.
    pub fn distributions(&self) -> CellErrors {
        let below = |counts: &[u64; BINS]| {
            let total = counts.iter().sum::<u64>().max(1) as f32;
            let mut below = [0.0; BINS + 1];
            let mut sum = 0;
            for (below, count) in below[1..].iter_mut().zip(counts) {
                sum += count;
                *below = sum as f32 / total;
            }
            below
        };
        CellErrors { below: self.0.iter().map(below).collect() }
    }
}

impl CellErrors {
    /// The part of the errors at levels of this magnitude that lie below one, 0 to 1.
    pub fn part_below(&self, error: f32, level: i32) -> f32 {
        let (bin, within) = bin(error, level);
        let below = &self.below[magnitude(level)];
        let part = below[bin] + within * (below[bin + 1] - below[bin]);
        // A change of nothing moves nothing.
        let part = part.clamp(0.0001, 0.9999);
        if level < 0 { 1.0 - part } else { part }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::Noise;

    #[test]
    fn parts_are_spread_evenly_whatever_the_errors_are() {
        let mut noise = Noise(1);
        let errors: Vec<(f32, i32)> = (0..50_000).map(|at| (0.3 * noise.normal(), at % 9 - 4)).collect();
        let mut counts = ErrorCounts::new();
        errors.iter().for_each(|&(error, level)| counts.add(error, level));
        let distributions = counts.distributions();
        for below in [0.1, 0.5, 0.8] {
            let parts = errors.iter().filter(|&&(error, level)| distributions.part_below(error, level) < below);
            let part = parts.count() as f32 / errors.len() as f32;
            assert!((part - below).abs() < 0.01, "{part} {below}");
        }
        assert!(distributions.part_below(0.5, 1) > 0.9 && distributions.part_below(-0.5, -1) < 0.1);
    }
}
