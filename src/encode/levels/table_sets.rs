//! Which frames share tables: key frames or predicted ones, as sparse as each other, with or without the trellis.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::encode::levels::model_fit::{SymbolCosts, SymbolCounts, TableSet};
use crate::encode::levels::quartets::Pruning;
use crate::encode::portable::log2;

/// What frames that share tables have in common, in the order of their tables in a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sharing {
    /// Of their weights, as [`sparsity`] gives it.
    pub sparsity: u8,
    /// Whether they are predicted.
    pub predicted: bool,
    /// Whether they follow the trellis.
    pub trellis: bool,
    /// How quartets are coded, if they are told apart.
    pub pruning: Option<Pruning>,
}

impl Sharing {
    fn quantizers(self) -> usize {
        if self.trellis { 2 } else { 1 }
    }
}

/// How sparse weights are: 0 if most are not zero, then one more for each half octave by which fewer are. Within one, tables of
/// the mean waste half a percent at most.
pub fn sparsity(zeros: usize, len: usize) -> u8 {
    let density = len.saturating_sub(zeros).max(1) as f64 / len.max(1) as f64;
    (-2.0 * log2(density)).round().clamp(0.0, SPARSITY_MAX) as u8
}

/// From here on, zeros cost next to nothing.
const SPARSITY_MAX: f64 = 14.0;

/// Symbols of all frames.
#[derive(Clone, Default)]
pub struct SharedCounts(BTreeMap<Sharing, SymbolCounts>);

impl SharedCounts {
    /// Adds the symbols of a frame.
    pub fn add(&mut self, sharing: Sharing, counts: &SymbolCounts) {
        self.0.entry(sharing).or_insert_with(|| SymbolCounts::new(sharing.quantizers())).add_all(counts);
    }

    /// Number of symbols.
    pub fn total(&self) -> u64 {
        self.0.values().map(SymbolCounts::total).sum()
    }

    /// Bits that each symbol takes with the tables that serve them.
    pub fn costs(&self) -> SharedCosts {
        let of_set = |(&sharing, counts): (&Sharing, &SymbolCounts)| (sharing, SymbolCosts::new(&counts.tables()));
        SharedCosts(self.0.iter().map(of_set).collect())
    }

    /// Bits that all of them take.
    pub fn cost_bits(&self, costs: &SharedCosts) -> f64 {
        self.0.iter().map(|(&sharing, counts)| counts.cost_bits(costs.of(sharing))).sum()
    }

    /// As [`SymbolCounts::equal`].
    pub fn equal(&self) -> Self {
        SharedCounts(self.0.iter().map(|(&sharing, counts)| (sharing, counts.equal())).collect())
    }

    /// The tables that serve them.
    pub fn sets(&self) -> BTreeMap<Sharing, TableSet> {
        let tables = |sharing: Sharing, counts: &SymbolCounts| match sharing.pruning {
            Some(pruning) => pruning.tables(counts),
            None => counts.tables(),
        };
        self.0.iter().map(|(&sharing, counts)| (sharing, tables(sharing, counts))).collect()
    }
}

/// Bits that each symbol takes with the tables of each set.
#[derive(Default)]
pub struct SharedCosts(BTreeMap<Sharing, SymbolCosts>);

/// Without and with the trellis, of sets of which no symbol is known: those of Gaussians.
static UNKNOWN: LazyLock<[SymbolCosts; 2]> =
    LazyLock::new(|| [1, 2].map(|quantizers| SymbolCosts::new(&SymbolCounts::new(quantizers).tables())));

impl SharedCosts {
    /// Those of a set.
    pub fn of(&self, sharing: Sharing) -> &SymbolCosts {
        self.0.get(&sharing).unwrap_or(&UNKNOWN[usize::from(sharing.trellis)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_half_octave_of_density_has_its_tables() {
        let of = |percent: usize| sparsity(percent, 100);
        assert_eq!([0, 10, 50, 80, 90, 95].map(of), [0, 0, 2, 5, 7, 9]);
        assert_eq!([sparsity(100, 100), sparsity(0, 0)], [13, 0]);
    }
}
