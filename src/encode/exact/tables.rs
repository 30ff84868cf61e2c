//! Counts of bytes -> the table that codes them in the fewest bytes, its own included.

use crate::encode::portable::log2;
use crate::entropy::{Table, step};
use crate::format::{STEPS, TOTAL};

/// The better of an exact and a coarse table for every byte that occurs; `None` if fewer than two do.
pub fn best_table(counts: &[u64; 256]) -> Option<Table> {
    let exact = exact_table(counts)?;
    let bits = |table: &Table| {
        let mut bytes = Vec::new();
        table.serialize(&mut bytes);
        let symbols = (table.first()..).zip(table.frequencies()).filter(|(_, frequency)| **frequency > 0);
        let bits = symbols.map(|(symbol, &frequency)| {
            counts[usize::from(symbol as u8)] as f64 * log2(f64::from(TOTAL) / f64::from(frequency))
        });
        8.0 * bytes.len() as f64 + bits.sum::<f64>()
    };
    let coarse = coarse_table(counts);
    Some(match coarse {
        Some(coarse) if bits(&coarse) < bits(&exact) => coarse,
        _ => exact,
    })
}

/// A table that has a coarse form: frequencies are steps, and the largest takes what is left.
fn coarse_table(counts: &[u64; 256]) -> Option<Table> {
    let sum: u64 = counts.iter().sum();
    let first = counts.iter().position(|&count| count > 0)?;
    let last = counts.iter().rposition(|&count| count > 0)?;
    let likeliest = (first..=last).max_by_key(|&symbol| (counts[symbol], std::cmp::Reverse(symbol)))?;
    let target = |symbol: usize| counts[symbol] as f64 / sum as f64 * f64::from(TOTAL);
    let mut frequencies: Vec<u16> = (first..=last).map(|symbol| nearest_step(target(symbol))).collect();
    // Rounding adds up. Where it leaves the likeliest symbol off its share by more than a step, others make room.
    let likeliest = likeliest - first;
    frequencies[likeliest] = 0;
    let share = target(likeliest + first);
    let ends = [0, frequencies.len() - 1];
    loop {
        let others: u32 = frequencies.iter().map(|&frequency| u32::from(frequency)).sum();
        let excess = f64::from(others) + share - f64::from(TOTAL);
        let largest = frequencies.iter().copied().max().unwrap_or(0);
        let rest = TOTAL.checked_sub(others).filter(|&rest| rest >= u32::from(largest));
        if let Some(rest) = rest
            && excess.abs() <= (share / 16.0).max(1.0)
        {
            frequencies[likeliest] = u16::try_from(rest).ok().filter(|&rest| u32::from(rest) < TOTAL)?;
            break;
        }
        let moved = |index: usize| {
            let at = (0..STEPS).find(|&at| step(at) == frequencies[index])?;
            let to = step(if excess > 0.0 { at.checked_sub(1)? } else { (at + 1).min(STEPS - 1) });
            let by = f64::from(to) - f64::from(frequencies[index]);
            let must_stay = to == 0 && counts[first + index] > 0;
            (by != 0.0 && !must_stay && by.abs() < 2.0 * excess.abs()).then_some((index, to, by))
        };
        let possible = |&index: &usize| index != likeliest && frequencies[index] > 0;
        let loss = |&(index, to, by): &(usize, u16, f64)| {
            let count = counts[first + index] as f64;
            count * log2(f64::from(frequencies[index]) / f64::from(to)) / by.abs()
        };
        let best = (0..frequencies.len()).filter(possible).filter_map(moved).min_by(|a, b| loss(a).total_cmp(&loss(b)));
        let Some((index, to, _)) = best else {
            // No single step is small enough any more.
            frequencies[likeliest] = u16::try_from(rest?).ok().filter(|&rest| u32::from(rest) < TOTAL)?;
            break;
        };
        frequencies[index] = to;
    }
    ends.iter().all(|&end| frequencies[end] > 0).then_some(())?;
    Table::new(first as i16, frequencies).ok()
}

fn nearest_step(target: f64) -> u16 {
    let above = (1..STEPS).find(|&at| f64::from(step(at)) >= target).unwrap_or(STEPS - 1);
    let (low, high) = (step(above - 1), step(above));
    if target == 0.0 {
        0
    } else if low > 0 && target * target < f64::from(low) * f64::from(high) {
        low
    } else {
        high
    }
}

/// A table in which every byte that occurs can be coded; `None` if fewer than two do.
pub fn exact_table(counts: &[u64; 256]) -> Option<Table> {
    if counts.iter().filter(|&&count| count > 0).count() < 2 {
        return None;
    }
    let weights: Vec<f64> = counts.iter().map(|&count| count as f64).collect();
    Some(trimmed(0, normalize(&weights, |_, weight| weight > 0.0)))
}

/// A table of these frequencies from the first to the last that is not zero, of two symbols at least.
pub fn trimmed(first: i16, mut frequencies: Vec<u16>) -> Table {
    if frequencies.iter().filter(|&&frequency| frequency > 0).count() < 2 {
        let likely = frequencies.iter().position(|&frequency| frequency > 0).unwrap_or(0);
        let other = if likely == 0 { 1 } else { likely - 1 };
        (frequencies[likely], frequencies[other]) = ((TOTAL - 1) as u16, 1);
    }
    let start = frequencies.iter().position(|&frequency| frequency > 0).unwrap_or(0);
    let end = frequencies.iter().rposition(|&frequency| frequency > 0).unwrap_or(0);
    Table::new(first + start as i16, frequencies[start..=end].to_vec())
        .unwrap_or_else(|error| unreachable!("two symbols at least and a sum of {TOTAL}: {error}"))
}

/// Frequencies that sum to [`TOTAL`], at least 1 where `keep` says so and 0 elsewhere, of least expected code length.
pub fn normalize(weights: &[f64], keep: impl Fn(usize, f64) -> bool) -> Vec<u16> {
    let kept: Vec<usize> = (0..weights.len()).filter(|&index| keep(index, weights[index])).collect();
    let sum: f64 = kept.iter().map(|&index| weights[index]).sum();
    let mut frequencies = vec![0u32; weights.len()];
    for &index in &kept {
        frequencies[index] = ((weights[index] / sum * f64::from(TOTAL)).round() as u32).max(1);
    }
    let mut excess = frequencies.iter().sum::<u32>() as i32 - TOTAL as i32;
    while excess != 0 && !kept.is_empty() {
        let step = -excess.signum();
        // Code length gained (or lost least) by moving this frequency by one step.
        let gain = |&index: &usize| {
            let frequency = f64::from(frequencies[index]);
            weights[index] * log2((frequency + f64::from(step)) / frequency)
        };
        let movable = kept.iter().filter(|&&index| step > 0 || frequencies[index] > 1);
        let Some(&best) = movable.max_by(|a, b| gain(a).total_cmp(&gain(b))) else { break };
        frequencies[best] = frequencies[best].wrapping_add_signed(step);
        excess += step;
    }
    frequencies.into_iter().map(|frequency| frequency as u16).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn exact_tables_can_code_every_byte_that_occurs(counts in proptest::collection::vec(prop_oneof![Just(0u64), 1u64..5, 1u64..1_000_000], 256)) {
            let counts: [u64; 256] = counts.try_into().unwrap();
            let kinds = counts.iter().filter(|&&count| count > 0).count();
            let table = exact_table(&counts);
            prop_assert_eq!(table.is_some(), kinds >= 2);
            if let Some(table) = table {
                for (byte, _) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                    prop_assert!(table.is_possible(byte as i16));
                }
            }
        }
    }

    proptest! {
        #[test]
        fn tables_code_every_byte_that_occurs_and_read_as_written(
            counts in proptest::collection::vec(prop_oneof![Just(0u64), 1u64..5, 1u64..1000, 1u64..10_000_000], 256),
            first in 0usize..256,
            len in 1usize..256,
        ) {
            let kept = |symbol: usize| symbol >= first && symbol < first + len;
            let counts = std::array::from_fn(|symbol| if kept(symbol) { counts[symbol] } else { 0 });
            let kinds = counts.iter().filter(|&&count| count > 0).count();
            let table = best_table(&counts);
            prop_assert_eq!(table.is_some(), kinds >= 2);
            for table in table.into_iter().chain(coarse_table(&counts)) {
                for symbol in (0..256).filter(|&symbol| counts[symbol] > 0) {
                    prop_assert!(table.is_possible(symbol as i16));
                }
                let mut bytes = Vec::new();
                table.serialize(&mut bytes);
                let mut rest = bytes.as_slice();
                prop_assert_eq!(Table::parse_bytes(&mut rest).unwrap(), table);
                prop_assert!(rest.is_empty());
            }
        }
    }

    #[test]
    fn a_few_bytes_of_many_kinds_take_a_coarse_table() {
        let counts = std::array::from_fn(|symbol| 40 - (symbol as u64).abs_diff(128).min(40));
        let mut bytes = Vec::new();
        best_table(&counts).unwrap().serialize(&mut bytes);
        assert!(bytes[0] > bytes[1] && bytes.len() < 40, "{bytes:?}");
    }
}
