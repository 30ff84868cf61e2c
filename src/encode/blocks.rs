//! Bytes whose statistics change along the way -> blocks, each with one of a few tables.
//!
//! Tables start as those of equal parts of the plane. Then the blocks choose among the tables, tables are made anew
//! from their blocks, and tables that do not pay for themselves are dropped.

use std::sync::LazyLock;

use super::planes::encode_flat_plane;
use super::tables::{best_table, coarse_table_bits};
use crate::entropy::{BLOCK_TABLES_MAX, Table, blocks_plane};

/// Lengths of a block that are tried, as powers of two.
const BLOCK_LOG2: [u32; 2] = [5, 8];
/// Fewest bytes for which a table may pay.
const PART_BYTES_MIN: usize = 512;
/// Most parts to start with.
const PARTS_MAX: usize = 128;
const ROUNDS: usize = 2;
/// What a block costs that has another table than the one before it, and one that has the same.
const CHANGE_BITS: f32 = 8.0;
const SAME_BITS: f32 = 0.3;

/// The plane as blocks; `None` where one table serves all.
pub fn encode_blocks(plane: &[u8]) -> Option<Vec<u8>> {
    let part_len = plane.len().div_ceil(PARTS_MAX).max(PART_BYTES_MIN);
    let mut counts: Vec<[u64; 256]> = plane.chunks(part_len).map(count).collect();
    merge(&mut counts);
    counts.truncate(BLOCK_TABLES_MAX);
    let payloads = BLOCK_LOG2.into_iter().filter_map(|log2| encode_blocks_of(plane, log2, counts.clone()));
    payloads.min_by_key(Vec::len)
}

fn encode_blocks_of(plane: &[u8], block_log2: u32, mut counts: Vec<[u64; 256]>) -> Option<Vec<u8>> {
    let mut classes = Vec::new();
    for _ in 0..ROUNDS {
        if counts.len() < 2 {
            return None;
        }
        classes = choose(plane, 1 << block_log2, &counts);
        counts.iter_mut().for_each(|counts| *counts = [0; 256]);
        for (block, &class) in plane.chunks(1 << block_log2).zip(&classes) {
            block.iter().for_each(|&byte| counts[usize::from(class)][usize::from(byte)] += 1);
        }
    }
    let used: Vec<usize> = (0..counts.len()).filter(|&class| counts[class].iter().any(|&count| count > 0)).collect();
    let tables: Vec<Table> = used.iter().map(|&class| table(&counts[class])).collect();
    let place = |class: &u8| used.iter().position(|used| used == &usize::from(*class)).unwrap_or(0) as u8;
    let classes: Vec<u8> = classes.iter().map(place).collect();
    let mut previous = 0;
    let changes: Vec<u8> = classes
        .iter()
        .map(|&class| {
            let change = (class + tables.len() as u8 - previous) % tables.len() as u8;
            previous = class;
            change
        })
        .collect();
    Some(blocks_plane(plane, block_log2, &tables, &classes, &encode_flat_plane(&changes)))
}

fn count(bytes: &[u8]) -> [u64; 256] {
    let mut counts = [0; 256];
    bytes.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
    counts
}

/// A table has two symbols at least.
fn table(counts: &[u64; 256]) -> Table {
    let mut counts = *counts;
    if counts.iter().filter(|&&count| count > 0).count() < 2 {
        let only = counts.iter().position(|&count| count > 0).unwrap_or(0);
        counts[only] = 1 << 20;
        counts[only ^ 1] = 1;
    }
    best_table(&counts).unwrap_or_else(|| unreachable!("two symbols occur"))
}

fn bits(counts: &[u64; 256]) -> f64 {
    let len: u64 = counts.iter().sum();
    let bits: f64 = counts.iter().map(|&count| times_log2(count)).sum();
    times_log2(len) - bits + coarse_table_bits(counts)
}

/// `count · log2(count)`.
fn times_log2(count: u64) -> f64 {
    static KNOWN: LazyLock<Vec<f64>> = LazyLock::new(|| (0..1 << 13).map(exactly).collect());
    fn exactly(count: u64) -> f64 {
        if count == 0 { 0.0 } else { count as f64 * (count as f64).log2() }
    }
    KNOWN.get(count as usize).copied().unwrap_or_else(|| exactly(count))
}

/// Makes one of two tables as long as that saves bits.
fn merge(counts: &mut Vec<[u64; 256]>) {
    let sum = |a: &[u64; 256], b: &[u64; 256]| std::array::from_fn(|symbol| a[symbol] + b[symbol]);
    let mut own: Vec<f64> = counts.iter().map(bits).collect();
    let saving =
        |counts: &[[u64; 256]], own: &[f64], a: usize, b: usize| own[a] + own[b] - bits(&sum(&counts[a], &counts[b]));
    let mut savings: Vec<Vec<f64>> =
        (0..counts.len()).map(|b| (0..b).map(|a| saving(counts, &own, a, b)).collect()).collect();
    loop {
        let pairs = savings
            .iter()
            .enumerate()
            .flat_map(|(b, row)| row.iter().enumerate().map(move |(a, &saved)| (saved, a, b)));
        let Some((_, a, b)) = pairs.filter(|(saved, ..)| *saved > 0.0).max_by(|x, y| x.0.total_cmp(&y.0)) else {
            return;
        };
        counts[a] = sum(&counts[a], &counts[b]);
        own[a] = bits(&counts[a]);
        counts.remove(b);
        own.remove(b);
        savings.remove(b);
        savings[b..].iter_mut().for_each(|row| {
            row.remove(b);
        });
        for other in (0..counts.len()).filter(|&other| other != a) {
            savings[a.max(other)][a.min(other)] = saving(counts, &own, a.min(other), a.max(other));
        }
    }
}

/// The table of each block, by dynamic programming over the changes.
fn choose(plane: &[u8], block_len: usize, counts: &[[u64; 256]]) -> Vec<u8> {
    let costs: Vec<[f32; 256]> = counts
        .iter()
        .map(|counts| {
            let sum = counts.iter().sum::<u64>() as f32 + 1.0;
            std::array::from_fn(|symbol| (sum / (counts[symbol] as f32 + 1.0 / 256.0)).log2().min(14.0))
        })
        .collect();
    let mut totals = vec![0.0f32; costs.len()];
    // For each block and table, the table of the block before.
    let mut from = Vec::new();
    for block in plane.chunks(block_len) {
        let best = (0..totals.len()).min_by(|&a, &b| totals[a].total_cmp(&totals[b])).unwrap_or(0);
        let changed = totals[best] + CHANGE_BITS;
        for (class, (total, costs)) in totals.iter_mut().zip(&costs).enumerate() {
            let stays = *total + SAME_BITS;
            from.push(if stays <= changed { class } else { best } as u8);
            *total = stays.min(changed) + block.iter().map(|&byte| costs[usize::from(byte)]).sum::<f32>();
        }
        let least = totals.iter().copied().fold(f32::INFINITY, f32::min);
        totals.iter_mut().for_each(|total| *total -= least);
    }
    let mut class = (0..totals.len()).min_by(|&a, &b| totals[a].total_cmp(&totals[b])).unwrap_or(0);
    let mut classes: Vec<u8> = from
        .chunks(totals.len())
        .rev()
        .map(|from| {
            let here = class as u8;
            class = usize::from(from[class]);
            here
        })
        .collect();
    classes.reverse();
    classes
}

#[cfg(test)]
mod tests {
    use super::super::noise::Noise;
    use super::*;
    use crate::entropy::{MODE_BLOCKS, decode_planes};
    use proptest::prelude::*;

    /// Parts of other lengths and other spreads.
    fn uneven(lens: &[usize]) -> Vec<u8> {
        let mut noise = Noise(7);
        let part =
            |(index, &len): (usize, &usize)| (0..len).map(|_| noise.next() as u8 >> (index % 8)).collect::<Vec<_>>();
        lens.iter().enumerate().flat_map(part).collect()
    }

    proptest! {
        #[test]
        fn decoding_inverts_encoding(lens in proptest::collection::vec(1usize..4000, 1..12)) {
            let plane = uneven(&lens);
            if let Some(payload) = encode_blocks(&plane) {
                let mut decoded = vec![0; plane.len()];
                decode_planes(&payload, plane.len(), &mut decoded).unwrap();
                prop_assert_eq!(&decoded, &plane);
            }
        }

        #[test]
        fn damaged_blocks_are_an_error_or_other_bytes(at in 0usize..200, by in 1u8..=255) {
            let plane = uneven(&[3000, 500, 0, 3000]);
            let mut payload = encode_blocks(&plane).unwrap();
            payload[at] ^= by;
            let mut decoded = vec![0; plane.len()];
            if let Err(error) = decode_planes(&payload, plane.len(), &mut decoded) {
                prop_assert!(["invalid", "unsupported"].contains(&error.code()), "{error}");
            }
        }
    }

    #[test]
    fn each_part_gets_its_own_table() {
        let plane = uneven(&[8000, 0, 0, 8000, 0, 0, 8000]);
        let payload = encode_blocks(&plane).unwrap();
        assert_eq!((payload[0], payload[2]), (MODE_BLOCKS, 3));
        // 8, 5 and 2 bits, and a little for tables and lanes.
        assert!(payload.len() < 15_000 + 500, "{}", payload.len());
    }

    #[test]
    fn rejects_lengths_and_counts_out_of_range() {
        let plane = uneven(&[3000, 500, 0, 3000]);
        let payload = encode_blocks(&plane).unwrap();
        for (at, value) in [(1, 3), (1, 13), (1, 255), (2, 0), (2, 65), (2, 255), (3, 3), (3, 4)] {
            let mut payload = payload.clone();
            payload[at] = value;
            assert!(decode_planes(&payload, plane.len(), &mut vec![0; plane.len()]).is_err(), "{at} {value}");
        }
        for len in 0..payload.len() {
            assert!(decode_planes(&payload[..len], plane.len(), &mut vec![0; plane.len()]).is_err(), "{len}");
        }
    }
}
