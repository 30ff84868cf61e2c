//! Coefficients of a kernel <-> its taps: an orthonormal DCT-II (FORMAT.md, section 5.3). WGSL twin: `transform.wgsl`.

use std::f64::consts::PI;

/// The cosines of one kernel length.
///
/// ```
/// let mut kernel = [3.0, 1.0];
/// let basis = mcwc::stages::transform::Basis::new(2);
/// basis.forward(&mut kernel);
/// // Sum and difference, over the root of two.
/// assert_eq!(kernel.map(|coefficient| (coefficient * coefficient).round()), [8.0, 2.0]);
/// basis.inverse(&mut kernel);
/// assert_eq!(kernel.map(f32::round), [3.0, 1.0]);
/// ```
#[derive(Debug, Clone)]
pub struct Basis {
    taps: usize,
    /// `taps` rows, one for each coefficient.
    values: Vec<f32>,
}

impl Basis {
    /// The basis of kernels of `taps` taps.
    #[expect(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::indexing_slicing,
        reason = "there are 1 to 1024 taps, and remainders of 4 of each"
    )]
    pub fn new(taps: usize) -> Self {
        let cosines = cosines(4 * taps);
        let value = |at: usize| {
            let (row, tap) = (at / taps, at % taps);
            (norm(row, taps) * cosines[(2 * tap + 1) * row % (4 * taps)]) as f32
        };
        Basis { taps, values: (0..taps * taps).map(value).collect() }
    }

    /// The kernel length.
    pub fn taps(&self) -> usize {
        self.taps
    }

    /// Entry of a coefficient and a tap.
    #[expect(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        reason = "the caller asks for one of the basis"
    )]
    pub fn value(&self, coefficient: usize, tap: usize) -> f32 {
        self.values[coefficient * self.taps + tap]
    }

    /// Turns the coefficients of each kernel into taps.
    pub fn inverse(&self, kernels: &mut [f32]) {
        let mut taps = vec![0.0f32; self.taps];
        for kernel in kernels.chunks_exact_mut(self.taps) {
            taps.fill(0.0);
            for (&coefficient, row) in kernel.iter().zip(self.values.chunks_exact(self.taps)) {
                if coefficient != 0.0 {
                    taps.iter_mut().zip(row).for_each(|(tap, value)| *tap += coefficient * value);
                }
            }
            kernel.copy_from_slice(&taps);
        }
    }

    /// Turns the taps of each kernel into coefficients.
    pub fn forward(&self, kernels: &mut [f32]) {
        for kernel in kernels.chunks_exact_mut(self.taps) {
            let row = |row: &[f32]| row.iter().zip(&*kernel).map(|(value, tap)| value * tap).sum::<f32>();
            let coefficients: Vec<f32> = self.values.chunks_exact(self.taps).map(row).collect();
            kernel.copy_from_slice(&coefficients);
        }
    }
}

/// All that occur in a basis: entry `(2·tap + 1)·row mod 4·taps` for every row but the first, and the last for that one.
#[cfg(feature = "gpu")]
#[expect(clippy::arithmetic_side_effects, clippy::cast_possible_truncation, reason = "there are 1 to 1024 taps")]
pub(crate) fn entries(taps: usize) -> Vec<f32> {
    let others = cosines(4 * taps).into_iter().map(|cosine| norm(1, taps) * cosine);
    others.chain([norm(0, taps)]).map(|entry| entry as f32).collect()
}

fn norm(row: usize, taps: usize) -> f64 {
    (if row == 0 { 1.0 } else { 2.0 } / taps as f64).sqrt()
}

/// cos(2π·i / len) for every i, by turning a unit vector: no more than arithmetic, so that every machine gets the same.
#[expect(clippy::arithmetic_side_effects, reason = "orders are below 24")]
fn cosines(len: usize) -> Vec<f64> {
    let angle = 2.0 * PI / len as f64;
    let (mut term, mut cos, mut sin) = (1.0, 0.0, 0.0);
    for order in 0..24u32 {
        // Terms of both series in turn: 1, a, -a²/2, -a³/6, …
        let signed = if order % 4 < 2 { term } else { -term };
        if order % 2 == 0 {
            cos += signed
        } else {
            sin += signed
        }
        term *= angle / f64::from(order + 1);
    }
    let mut point = (1.0, 0.0);
    let mut turn = || {
        let (x, y) = point;
        point = (x * cos - y * sin, x * sin + y * cos);
        x
    };
    (0..len).map(|_| turn()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_formula() {
        for taps in [1, 2, 3, 8, 64, 512] {
            let basis = Basis::new(taps);
            for (k, t) in (0..taps).flat_map(|k| (0..taps).map(move |t| (k, t))) {
                let norm = (if k == 0 { 1.0 } else { 2.0 } / taps as f64).sqrt();
                let expected = norm * (PI * ((2 * t + 1) * k) as f64 / (2 * taps) as f64).cos();
                assert!((f64::from(basis.value(k, t)) - expected).abs() < 1e-7, "{taps}: {k} {t}");
            }
        }
    }

    #[cfg(feature = "gpu")]
    #[test]
    fn entries_are_those_of_the_basis() {
        for taps in [1, 2, 3, 8, 125, 1024] {
            let (basis, entries) = (Basis::new(taps), entries(taps));
            for (k, t) in (0..taps).flat_map(|k| (0..taps).map(move |t| (k, t))) {
                let entry = entries[if k == 0 { 4 * taps } else { (2 * t + 1) * k % (4 * taps) }];
                assert_eq!(entry, basis.value(k, t), "{taps}: {k} {t}");
            }
        }
    }

    #[test]
    fn inverse_undoes_forward() {
        let basis = Basis::new(37);
        let weights: Vec<f32> = (0..37 * 5).map(|i| ((i * 7919) % 101) as f32 - 50.0).collect();
        let mut kernels = weights.clone();
        basis.forward(&mut kernels);
        assert!(kernels.iter().zip(&weights).any(|(a, b)| (a - b).abs() > 1.0));
        basis.inverse(&mut kernels);
        assert!(kernels.iter().zip(&weights).all(|(a, b)| (a - b).abs() < 1e-3));
    }
}
