//! Counts of 8-bit levels in each class -> the tables of a frame of integers.
//!
//! Classes are of mean magnitude. Neighbours that do not differ enough to pay for two tables have the same.

use crate::encode::exact::tables::best_table;
use crate::encode::portable::log2;
use crate::entropy::Table;
use crate::format::{PRECISION, TOTAL};

/// Classes of mean magnitude.
pub const CLASSES: usize = 52;
/// What a symbol costs that a table does not know yet.
const UNKNOWN_BITS: f32 = 16.0;
/// Bits of a coded table for each symbol in its range.
const SYMBOL_BITS: f64 = 2.5;

/// How often each level, as a byte, occurs in each class, from the first to the last in which any does.
pub struct Counts {
    first_class: usize,
    by_class: Vec<[u64; 256]>,
}

impl Counts {
    /// The counts of all classes.
    pub fn new(mut by_class: Vec<[u64; 256]>) -> Self {
        let used = |counts: &[u64; 256]| counts.iter().any(|&count| count > 0);
        by_class.truncate(by_class.iter().rposition(used).map_or(0, |last| last + 1));
        let first_class = by_class.iter().position(used).unwrap_or(0);
        Counts { first_class, by_class: by_class[first_class..].to_vec() }
    }

    /// Those of several tensors.
    pub fn sum<'a>(parts: impl Iterator<Item = &'a Counts>) -> Self {
        let mut by_class = vec![[0; 256]; CLASSES];
        for part in parts {
            let pairs = by_class[part.first_class..].iter_mut().flatten().zip(part.by_class.iter().flatten());
            pairs.for_each(|(sum, count)| *sum += count);
        }
        Counts::new(by_class)
    }
}

/// Tables of neighbouring classes.
pub struct IntegerTables {
    /// The class that the first table serves.
    pub first_class: usize,
    groups: Vec<Group>,
}

impl IntegerTables {
    /// Merges neighbours as long as that saves something.
    pub fn new(counts: &Counts) -> Self {
        let mut groups: Vec<Group> = counts.by_class.iter().map(|&counts| Group::new(1, counts)).collect();
        let with_next = |groups: &[Group], index: usize| {
            let (group, next) = (groups.get(index)?, groups.get(index + 1)?);
            let merged = group.merged(next);
            Some((group.bits + next.bits - merged.bits, merged))
        };
        let mut merged: Vec<_> = (0..groups.len()).map_while(|index| with_next(&groups, index)).collect();
        loop {
            let savings = merged.iter().map(|(saving, _)| *saving).enumerate();
            let best = savings.max_by(|a, b| a.1.total_cmp(&b.1));
            let Some((index, _)) = best.filter(|(_, saving)| *saving >= 0.0) else { break };
            groups[index] = merged.remove(index).1;
            groups.remove(index + 1);
            for changed in [index.checked_sub(1), Some(index)].into_iter().flatten() {
                if let Some(with_next) = with_next(&groups, changed) {
                    merged[changed] = with_next;
                }
            }
        }
        // One tensor's wait for all others'.
        groups.shrink_to_fit();
        IntegerTables { first_class: counts.first_class, groups }
    }

    /// What the tables cost in the header.
    pub fn header_bytes(&self) -> f64 {
        self.groups.iter().map(|group| table_bits(&group.counts)).sum::<f64>() / 8.0
    }

    /// The table of every class from the first on.
    pub fn tables(&self) -> Vec<Table> {
        self.groups.iter().flat_map(|group| std::iter::repeat_n(group.table(), group.classes)).collect()
    }

    /// Bits of every symbol in every class.
    pub fn costs(&self) -> Vec<[f32; 256]> {
        let groups: Vec<[f32; 256]> = self.groups.iter().map(Group::costs).collect();
        let by_class =
            self.groups.iter().zip(&groups).flat_map(|(group, costs)| std::iter::repeat_n(costs, group.classes));
        let by_class: Vec<&[f32; 256]> = by_class.collect();
        let costs = |class: usize| match by_class.len().checked_sub(1) {
            Some(last) => *by_class[class.saturating_sub(self.first_class).min(last)],
            None => [UNKNOWN_BITS; 256],
        };
        (0..CLASSES).map(costs).collect()
    }

    /// Bytes of levels that occur so often.
    pub fn bytes(&self, counts: &Counts) -> f64 {
        let costs = self.costs();
        let pairs = counts.by_class.iter().flatten().zip(costs[counts.first_class..].iter().flatten());
        pairs.map(|(&count, &bits)| count as f64 * f64::from(bits)).sum::<f64>() / 8.0
    }
}

/// Neighbouring classes with one table.
struct Group {
    classes: usize,
    counts: [u64; 256],
    /// Of the symbols and the table.
    bits: f64,
}

impl Group {
    fn new(classes: usize, counts: [u64; 256]) -> Self {
        let len: u64 = counts.iter().sum();
        let bits = |&count: &u64| if count == 0 { 0.0 } else { count as f64 * log2(len as f64 / count as f64) };
        Group { classes, counts, bits: counts.iter().map(bits).sum::<f64>() + table_bits(&counts) }
    }

    fn merged(&self, other: &Group) -> Group {
        let mut counts = self.counts;
        counts.iter_mut().zip(&other.counts).for_each(|(count, other)| *count += other);
        Group::new(self.classes + other.classes, counts)
    }

    fn costs(&self) -> [f32; 256] {
        let len: u64 = self.counts.iter().sum();
        // No frequency is below one.
        let bits = |count: u64| log2(len as f32 / count as f32).clamp(1.0 / TOTAL as f32, PRECISION as f32);
        self.counts.map(|count| if count == 0 { UNKNOWN_BITS } else { bits(count) })
    }

    fn table(&self) -> Table {
        let mut counts = [0; 256];
        (0..256).for_each(|index| counts[index] = self.counts[(index + 128) % 256]);
        let kinds = counts.iter().filter(|&&count| count > 0).count();
        if kinds < 2 {
            // A table has two symbols at least.
            counts.iter_mut().for_each(|count| *count *= u64::from(TOTAL));
            [127, 128].into_iter().for_each(|index| counts[index] += 1);
        }
        let shifted = best_table(&counts);
        let table = shifted.map(|table| Table::new(table.first() - 128, table.frequencies().to_vec()));
        table.and_then(Result::ok).unwrap_or_else(|| unreachable!("two symbols occur"))
    }
}

/// What a table costs in the header.
fn table_bits(counts: &[u64; 256]) -> f64 {
    let symbols = (-128i16..128).filter(|&symbol| counts[usize::from(symbol as u8)] > 0);
    let range = symbols.clone().min().zip(symbols.max());
    range.map_or(0.0, |(first, last)| 24.0 + SYMBOL_BITS * f64::from(last - first + 1))
}
