//! Weights -> indices under the trellis: the path of least distortion and rate down each column (Viterbi).

use crate::format::{TRELLIS_NEXT, TRELLIS_STATES};
use crate::stages::trellis::{level, quantizer};

use crate::encode::levels::model_fit::SymbolCosts;

/// Largest level at the finest step: half of what the format allows, because the trellis counts half steps.
pub const LEVEL_MAX: f32 = (1 << 22) as f32;

/// A way into a state.
#[derive(Clone, Copy)]
struct Branch {
    from: usize,
    /// Of the index.
    parity: usize,
}

/// The two ways into each state.
const BRANCHES: [[Branch; 2]; TRELLIS_STATES] = branches();

const fn branches() -> [[Branch; 2]; TRELLIS_STATES] {
    let mut branches = [[Branch { from: 0, parity: 0 }; 2]; TRELLIS_STATES];
    let mut arrived = [0; TRELLIS_STATES];
    let mut way = 0;
    while way < 2 * TRELLIS_STATES {
        let (from, parity) = (way / 2, way % 2);
        let to = TRELLIS_NEXT[from][parity] as usize;
        branches[to][arrived[to]] = Branch { from, parity };
        arrived[to] += 1;
        way += 1;
    }
    branches
}

/// What an index is to stand for.
#[derive(Clone, Copy)]
pub struct Goal {
    /// The weight less its prediction, in half steps under the trellis, else in steps.
    pub residual: f32,
    /// Its class.
    pub class: usize,
    /// The only index that keeps a zero, if there is one for sure; under the trellis that is 0.
    pub fixed: Option<i32>,
}

/// Finds paths; keeps its memory from column to column.
pub struct PathFinder<'c> {
    costs: &'c SymbolCosts,
    lambda: f32,
    /// For each row and state, the state before it on the best path.
    previous: Vec<[u8; TRELLIS_STATES]>,
    /// For each row, the candidate of each quantizer and parity.
    candidates: Vec<[[i32; 2]; 2]>,
    indices: Vec<i32>,
}

impl<'c> PathFinder<'c> {
    /// A finder for symbols of these costs, where a bit is worth `lambda` squared half steps.
    pub fn new(costs: &'c SymbolCosts, lambda: f32) -> Self {
        PathFinder { costs, lambda, previous: Vec::new(), candidates: Vec::new(), indices: Vec::new() }
    }

    /// Levels that follow no path, kept in the same memory.
    pub fn nearest(&mut self, levels: impl Iterator<Item = i32>) -> &[i32] {
        self.indices.clear();
        self.indices.extend(levels);
        &self.indices
    }

    /// Levels that follow no path: of the two next to each weight the one of least distortion and rate.
    pub fn cheapest(&mut self, rows: impl Iterator<Item = Goal>) -> &[i32] {
        let (costs, lambda) = (self.costs, self.lambda);
        let level = |Goal { residual: weight, class, fixed }| {
            if let Some(fixed) = fixed {
                return fixed;
            }
            let nearest = weight.round().clamp(-LEVEL_MAX, LEVEL_MAX);
            let inner = nearest - if nearest == 0.0 { 0.0 } else { 1f32.copysign(nearest) };
            let cost = |level: f32| (weight - level).powi(2) + lambda * costs.bits(0, class, level as i32);
            if cost(inner) < cost(nearest) { inner as i32 } else { nearest as i32 }
        };
        self.indices.clear();
        self.indices.extend(rows.map(level));
        &self.indices
    }

    /// The indices of a column.
    pub fn column(&mut self, rows: impl Iterator<Item = Goal>) -> &[i32] {
        self.previous.clear();
        self.candidates.clear();
        let mut cost = [f32::INFINITY; TRELLIS_STATES];
        cost[0] = 0.0;
        for Goal { residual: weight, class, fixed } in rows {
            let cost_of = |index: i32, q: usize| {
                let error = weight - level(index, q as u8) as f32;
                error * error + self.lambda * self.costs.bits(q, class, index)
            };
            // Zero is an even index of both.
            let candidates = if fixed.is_some() { [[0, 1]; 2] } else { [nearest(weight, 0), nearest(weight, 1)] };
            let mut costs = [[0.0; 2]; 2];
            for (q, (costs, candidates)) in costs.iter_mut().zip(&candidates).enumerate() {
                for (cost, &index) in costs.iter_mut().zip(candidates) {
                    *cost = cost_of(index, q);
                }
                if fixed.is_some() {
                    costs[1] = f32::INFINITY;
                }
            }
            let mut best = [0.0; TRELLIS_STATES];
            let mut previous = [0; TRELLIS_STATES];
            for (state, branches) in BRANCHES.iter().enumerate() {
                let [first, second] = branches.map(|Branch { from, parity }| cost[from] + costs[from & 1][parity]);
                let is_second = second < first;
                best[state] = if is_second { second } else { first };
                previous[state] = branches[usize::from(is_second)].from as u8;
            }
            // Costs stay small, so that float32 tells paths apart in a column of any length.
            let least = best.iter().fold(f32::INFINITY, |least, &cost| if cost < least { cost } else { least });
            cost = best.map(|cost| cost - least);
            self.previous.push(previous);
            self.candidates.push(candidates);
        }
        self.trace_back(&cost);
        &self.indices
    }

    fn trace_back(&mut self, cost: &[f32; TRELLIS_STATES]) {
        let mut state = (0..TRELLIS_STATES).min_by(|&a, &b| cost[a].total_cmp(&cost[b])).unwrap_or(0);
        self.indices.clear();
        self.indices.resize(self.previous.len(), 0);
        for row in (0..self.previous.len()).rev() {
            let before = self.previous[row][state];
            let parity = usize::from(usize::from(TRELLIS_NEXT[usize::from(before)][1]) == state);
            self.indices[row] = self.candidates[row][usize::from(quantizer(before))][parity];
            state = usize::from(before);
        }
    }
}

/// The even and the odd index of a quantizer nearest to a weight in half steps.
fn nearest(weight: f32, quantizer: u8) -> [i32; 2] {
    let position = ((weight + f32::from(quantizer).copysign(weight)) * 0.5).clamp(-LEVEL_MAX, LEVEL_MAX);
    let truncated = position as i32;
    let below = truncated - i32::from(truncated as f32 > position);
    let [even, odd] = if below & 1 == 0 { [below, below + 1] } else { [below + 1, below] };
    // Quantizer 1 has a narrower gap on either side of zero.
    if quantizer == 1 && weight.abs() < 1.5 { [0, odd] } else { [even, odd] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::levels::model_fit::{SymbolCounts, UNIT_CLASS};
    use crate::noise::Noise;
    use crate::stages::trellis::next;

    fn levels_of(indices: &[i32]) -> Vec<i32> {
        let mut state = 0;
        let step = |&index: &i32| {
            let level = level(index, quantizer(state));
            state = next(state, index);
            level
        };
        indices.iter().map(step).collect()
    }

    #[test]
    fn candidates_are_the_nearest_of_each_parity() {
        for weight in [-7.3f32, -1.2, -0.4, 0.0, 0.4, 1.2, 2.9, 8.1] {
            for q in [0, 1] {
                for (parity, found) in nearest(weight, q).into_iter().enumerate() {
                    let error = |index: i32| (weight - level(index, q) as f32).abs();
                    let best =
                        (-10..=10).filter(|index| (index & 1) as usize == parity).map(error).fold(99.0, f32::min);
                    assert_eq!(found & 1, parity as i32);
                    assert!(error(found) <= best + 1e-6, "{weight} {q} {parity}");
                }
            }
        }
    }

    #[test]
    fn beats_a_uniform_quantizer_of_equal_entropy_by_most_of_a_decibel() {
        let mut noise = Noise(1);
        let weights: Vec<f32> = (0..400_000).map(|_| noise.normal()).collect();
        let half_step = 0.3f32;
        let class = UNIT_CLASS as usize;
        let mut counts = SymbolCounts::new(2);
        let mut squared = 0.0f64;
        for _ in 0..3 {
            let costs = SymbolCosts::new(&counts.tables());
            let mut finder = PathFinder::new(&costs, 0.12);
            counts = SymbolCounts::new(2);
            squared = 0.0;
            for column in weights.chunks(500) {
                let goal = |weight: &f32| Goal { residual: weight / half_step, class, fixed: None };
                let scaled = column.iter().map(goal);
                let indices = finder.column(scaled).to_vec();
                let mut state = 0;
                for (&weight, (&index, level)) in column.iter().zip(indices.iter().zip(levels_of(&indices))) {
                    counts.add(usize::from(quantizer(state)), class, index);
                    state = next(state, index);
                    squared += f64::from(weight - level as f32 * half_step).powi(2);
                }
            }
        }
        let bits = counts.cost_bits(&SymbolCosts::new(&counts.tables())) / weights.len() as f64;
        let decibels = -10.0 * (squared / weights.len() as f64).log10();
        let uniform = 6.0206 * bits - 1.53;
        assert!(decibels > uniform + 0.75, "{bits:.3} bits: {decibels:.2} dB, uniform {uniform:.2}");
    }
}
