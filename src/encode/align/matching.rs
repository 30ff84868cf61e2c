//! Weight matching: units and those of a reference -> the order of the units in which each resembles its reference most.
//!
//! Resemblance is the cosine of two units' weights. Units that resemble what is in their own place closely stay there, as all do
//! in a fine-tune, which would take the time of all pairs to find. The order of the others is the one of the largest sum of cosines:
//! exactly, by the Hungarian method, for groups of usual width; for wider ones nearly, by exchanges among the likeliest pairs.
//! Among orders of equal sum the one that leaves more units where they are is taken.

use nalgebra::{DMatrix, DMatrixView};
use pathfinding::kuhn_munkres::kuhn_munkres;
use pathfinding::matrix::Matrix;
use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::stages::permute::Permutation;

/// Cosine at which a unit stays where it is: what lies in other places resembles it less, if units are not much alike.
const STAYS_COSINE: f64 = 0.9;
/// Most units that are matched exactly: some seconds, and a fraction of one where units have clear counterparts.
const EXACT_UNITS_MAX: usize = 3072;
/// Resolution of cosines. Finer differences are rounding errors of single precision.
const COSINE_SCALE: f64 = (1u64 << 20) as f64;
/// Units multiplied at once.
const BLOCK_UNITS: usize = 64;
/// Likeliest counterparts of each unit that a wide group considers.
const SHORTLIST_LEN: usize = 32;
/// Most rounds of exchanges; in practice few are needed.
const EXCHANGE_ROUNDS_MAX: usize = 20;

/// An order of units, and how much they then resemble the reference.
#[derive(Debug, Clone, PartialEq)]
pub struct Matching {
    /// Unit `permutation.places()[r]` is the counterpart of the reference's unit `r`.
    pub permutation: Permutation,
    /// Mean cosine of the units and their counterparts.
    pub cosine: f64,
}

/// Matches units to a reference's. Both are matrices of `unit_len` columns, row-major, a unit a row.
///
/// # Errors
/// `Argument` if they have not equally many units, or rows are not whole.
pub fn match_units(units: Vec<f32>, reference: Vec<f32>, unit_len: usize) -> Result<Matching> {
    if unit_len == 0 || units.len() != reference.len() || !units.len().is_multiple_of(unit_len) {
        return Err(Error::argument("units and their reference must be matrices of one shape"));
    }
    let [units, reference] = [units, reference].map(|rows| normalized(rows, unit_len));
    let pairs = units.par_chunks(unit_len).zip(reference.par_chunks(unit_len));
    let own: Vec<f64> = pairs.map(|(unit, reference)| dot(unit, reference)).collect();
    let (staying, moving): (Vec<usize>, Vec<usize>) = (0..own.len()).partition(|&u| own[u] >= STAYS_COSINE);
    let [units, reference] = [units, reference].map(|rows| only(rows, &moving, unit_len));
    let found = if moving.len() <= EXACT_UNITS_MAX {
        exact(&units, &reference, unit_len)
    } else {
        shortlisted(&units, &reference, unit_len)
    };
    let counterparts = found.iter().zip(reference.chunks(unit_len));
    let cosines = counterparts.map(|(&u, reference)| dot(reference, row(&units, unit_len, u as usize)));
    let cosine = staying.iter().map(|&u| own[u]).chain(cosines).sum::<f64>() / own.len().max(1) as f64;
    let mut places: Vec<u32> = (0..own.len() as u32).collect();
    for (&r, u) in moving.iter().zip(found) {
        places[r] = moving[u as usize] as u32;
    }
    Ok(Matching { permutation: Permutation::new(places)?, cosine })
}

/// Some of the rows, in their order.
fn only(mut matrix: Vec<f32>, rows: &[usize], unit_len: usize) -> Vec<f32> {
    for (to, from) in rows.iter().enumerate() {
        matrix.copy_within(from * unit_len..(from + 1) * unit_len, to * unit_len);
    }
    matrix.truncate(rows.len() * unit_len);
    matrix
}

/// Rows of length one; rows that have no length become zero and resemble nothing.
fn normalized(mut matrix: Vec<f32>, unit_len: usize) -> Vec<f32> {
    matrix.par_chunks_mut(unit_len).for_each(|row| {
        let length = dot(row, row).sqrt();
        row.iter_mut().for_each(|weight| {
            *weight = if length.is_normal() { (f64::from(*weight) / length) as f32 } else { 0.0 };
        });
    });
    matrix
}

fn row(matrix: &[f32], unit_len: usize, index: usize) -> &[f32] {
    &matrix[index * unit_len..(index + 1) * unit_len]
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// What each pair is worth: its cosine, and where that is equal, whether the unit stays in its place.
fn worth(cosine: f32, count: usize, stays: bool) -> i64 {
    (f64::from(cosine) * COSINE_SCALE).round() as i64 * (count as i64 + 1) + i64::from(stays)
}

/// Calls `take` for every unit of the reference, with the cosines of all units to it.
fn for_each_reference<T: Send>(
    units: &[f32],
    reference: &[f32],
    unit_len: usize,
    take: impl Fn(usize, &[f32]) -> T + Sync,
) -> Vec<T> {
    let units = DMatrix::from_row_slice(units.len() / unit_len, unit_len, units);
    let blocks = reference.par_chunks(BLOCK_UNITS * unit_len).enumerate();
    let taken = blocks.flat_map_iter(|(block, rows)| {
        let products = &units * DMatrixView::from_slice(rows, unit_len, rows.len() / unit_len);
        let first = block * BLOCK_UNITS;
        let columns = products.column_iter().enumerate();
        columns.map(|(column, cosines)| take(first + column, cosines.as_slice())).collect::<Vec<_>>()
    });
    taken.collect()
}

fn exact(units: &[f32], reference: &[f32], unit_len: usize) -> Vec<u32> {
    let count = units.len() / unit_len;
    let worths = for_each_reference(units, reference, unit_len, |r, cosines| {
        cosines.iter().enumerate().map(|(u, &cosine)| worth(cosine, count, u == r)).collect::<Vec<_>>()
    });
    let Ok(worths) = Matrix::from_vec(count, count, worths.concat()) else { return (0..count as u32).collect() };
    kuhn_munkres(&worths).1.into_iter().map(|u| u as u32).collect()
}

/// The likeliest pairs first, each if both are still free; then exchanges of two for as long as they gain.
fn shortlisted(units: &[f32], reference: &[f32], unit_len: usize) -> Vec<u32> {
    let count = units.len() / unit_len;
    let lists = for_each_reference(units, reference, unit_len, |r, cosines| {
        let mut list: Vec<(i64, usize)> =
            cosines.iter().enumerate().map(|(u, &cosine)| (worth(cosine, count, u == r), u)).collect();
        let by_worth = |a: &(i64, usize), b: &(i64, usize)| b.0.cmp(&a.0).then(a.1.cmp(&b.1));
        if list.len() > SHORTLIST_LEN {
            list.select_nth_unstable_by(SHORTLIST_LEN, by_worth);
            list.truncate(SHORTLIST_LEN);
            list.shrink_to_fit();
        }
        list.sort_unstable_by(by_worth);
        list
    });
    let mut pairs: Vec<(i64, usize, usize)> =
        lists.iter().enumerate().flat_map(|(r, list)| list.iter().map(move |&(worth, u)| (worth, r, u))).collect();
    pairs.par_sort_unstable_by(|a, b| b.0.cmp(&a.0).then((a.1, a.2).cmp(&(b.1, b.2))));
    let (mut unit_of, mut reference_of) = (vec![None; count], vec![None; count]);
    for (_, r, u) in pairs {
        if unit_of[r].is_none() && reference_of[u].is_none() {
            (unit_of[r], reference_of[u]) = (Some(u), Some(r));
        }
    }
    // What found nobody stays where it is, or takes what is left.
    for at in 0..count {
        if unit_of[at].is_none() && reference_of[at].is_none() {
            (unit_of[at], reference_of[at]) = (Some(at), Some(at));
        }
    }
    let mut left = (0..count).filter(|&u| reference_of[u].is_none()).collect::<Vec<_>>().into_iter();
    let mut unit_of: Vec<usize> = unit_of.into_iter().map(|unit| unit.or_else(|| left.next()).unwrap_or(0)).collect();
    exchange(&mut unit_of, &lists, |r, u| {
        worth(dot(row(reference, unit_len, r), row(units, unit_len, u)) as f32, count, r == u)
    });
    unit_of.into_iter().map(|u| u as u32).collect()
}

/// Lets two units change places wherever one of them comes to a counterpart of its shortlist and both together gain.
fn exchange(unit_of: &mut [usize], lists: &[Vec<(i64, usize)>], worth: impl Fn(usize, usize) -> i64) {
    let mut reference_of = vec![0; unit_of.len()];
    for (r, &u) in unit_of.iter().enumerate() {
        reference_of[u] = r;
    }
    let mut worths: Vec<i64> = unit_of.iter().enumerate().map(|(r, &u)| worth(r, u)).collect();
    for _ in 0..EXCHANGE_ROUNDS_MAX {
        let mut gained = false;
        for (r, list) in lists.iter().enumerate() {
            for &(wanted, u) in list {
                let other = reference_of[u];
                if wanted <= worths[r] || other == r {
                    break;
                }
                let given = worth(other, unit_of[r]);
                if wanted + given > worths[r] + worths[other] {
                    unit_of.swap(r, other);
                    (reference_of[unit_of[r]], reference_of[unit_of[other]]) = (r, other);
                    (worths[r], worths[other]) = (wanted, given);
                    gained = true;
                }
            }
        }
        if !gained {
            break;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::noise::Noise;

    fn matrix(noise: &mut Noise, count: usize, unit_len: usize) -> Vec<f32> {
        (0..count * unit_len).map(|_| noise.normal()).collect()
    }

    fn shuffled(noise: &mut Noise, count: usize) -> Vec<u32> {
        let mut order: Vec<u32> = (0..count as u32).collect();
        (1..count).rev().for_each(|last| order.swap(last, noise.next() as usize % (last + 1)));
        order
    }

    /// Units in another order and changed by noise, beside their reference: unit `places[r]` is reference `r`.
    fn disguised(seed: u64, count: usize, unit_len: usize, strength: f32) -> (Vec<f32>, Vec<f32>, Vec<u32>) {
        let mut noise = Noise(seed);
        let reference = matrix(&mut noise, count, unit_len);
        let places = shuffled(&mut noise, count);
        let mut units = vec![0.0; reference.len()];
        for (r, &u) in places.iter().enumerate() {
            for column in 0..unit_len {
                units[u as usize * unit_len + column] = reference[r * unit_len + column] + strength * noise.normal();
            }
        }
        (units, reference, places)
    }

    fn sum_of_cosines(units: &[f32], reference: &[f32], unit_len: usize, places: &[u32]) -> f64 {
        let [units, reference] = [units, reference].map(|rows| normalized(rows.to_vec(), unit_len));
        let pairs = places.iter().enumerate();
        pairs.map(|(r, &u)| dot(row(&reference, unit_len, r), row(&units, unit_len, u as usize))).sum()
    }

    #[test]
    fn finds_the_order_of_disguised_units() {
        let (units, reference, places) = disguised(1, 300, 128, 1.0);
        let found = match_units(units.clone(), reference.clone(), 128).unwrap();
        assert_eq!(found.permutation.places(), places);
        assert!((0.6..0.8).contains(&found.cosine), "{}", found.cosine);
    }

    #[test]
    fn wide_groups_are_found_too() {
        let count = EXACT_UNITS_MAX + 100;
        let (units, reference, places) = disguised(2, count, 64, 0.5);
        assert_eq!(match_units(units.clone(), reference.clone(), 64).unwrap().permutation.places(), places);
    }

    #[test]
    fn exchanges_come_close_to_the_best_order() {
        let mut noise = Noise(3);
        let [units, reference] = [(); 2].map(|()| matrix(&mut noise, 400, 48));
        let [best, near] = [exact, shortlisted].map(|solve| solve(&units, &reference, 48));
        let [best, near] = [best, near].map(|places| sum_of_cosines(&units, &reference, 48, &places));
        assert!(near <= best + 1e-6 && near > 0.93 * best, "{near} of {best}");
    }

    #[test]
    fn units_stay_where_nothing_is_gained() {
        let stays: Vec<u32> = (0..50).collect();
        let alike = vec![0.25; 50 * 8];
        let silent = vec![0.0; 50 * 8];
        for (units, reference) in [(&alike, &alike), (&alike, &silent), (&silent, &silent)] {
            for solve in [exact, shortlisted] {
                assert_eq!(solve(&normalized(units.to_vec(), 8), &normalized(reference.to_vec(), 8), 8), stays);
            }
        }
        // Two pairs of twins among others.
        let mut noise = Noise(4);
        let mut twins = matrix(&mut noise, 50, 8);
        twins.copy_within(0..16, 300);
        assert_eq!(match_units(twins.clone(), twins.clone(), 8).unwrap().permutation.places(), stays);
    }

    #[test]
    fn the_few_that_have_moved_are_found_among_those_that_have_not() {
        let (units, reference, mut places) = disguised(7, 60, 64, 0.0);
        let mut tuned = Vec::new();
        for (r, &u) in places.iter().enumerate() {
            // Two changed places, one is another altogether.
            let from = [(11, 12), (12, 11)].into_iter().find(|&(to, _)| to == r).map_or(u, |(_, from)| places[from]);
            tuned.extend_from_slice(if r == 40 { &[1.0; 64] } else { row(&units, 64, from as usize) });
        }
        places = (0..60).collect();
        places.swap(11, 12);
        let found = match_units(tuned, reference, 64).unwrap();
        assert_eq!(found.permutation.places(), places);
        assert!((0.97..0.99).contains(&found.cosine), "{}", found.cosine);
    }

    #[test]
    fn scale_means_nothing() {
        let (mut units, reference, places) = disguised(5, 40, 32, 0.1);
        units
            .chunks_mut(32)
            .zip(1..)
            .for_each(|(unit, factor)| unit.iter_mut().for_each(|weight| *weight *= factor as f32));
        assert_eq!(match_units(units.clone(), reference.clone(), 32).unwrap().permutation.places(), places);
    }

    #[test]
    fn refuses_matrices_of_other_shapes() {
        for (units, reference, unit_len) in [(6, 4, 2), (5, 5, 2), (4, 4, 0)] {
            assert!(match_units(vec![1.0; units], vec![1.0; reference], unit_len).is_err());
        }
        assert_eq!(match_units(Vec::new(), Vec::new(), 3).unwrap().permutation.places(), [0; 0]);
    }

    #[test]
    fn weights_that_are_no_numbers_do_no_harm() {
        let mut noise = Noise(6);
        let reference = matrix(&mut noise, 20, 8);
        let mut units = reference.clone();
        (units[3], units[17], units[33]) = (f32::NAN, f32::INFINITY, f32::MAX);
        let found = match_units(units.clone(), reference.clone(), 8).unwrap();
        assert_eq!(found.permutation.places()[10..], (10..20).collect::<Vec<u32>>());
        assert!((0.8..1.0).contains(&found.cosine), "{}", found.cosine);
    }

    proptest! {
        #[test]
        fn no_order_of_few_units_is_better(seed: u64, count in 1usize..7) {
            let mut noise = Noise(seed);
            let [units, reference] = [(); 2].map(|()| matrix(&mut noise, count, 3));
            let [normal_units, normal_reference] = [&units, &reference].map(|rows| normalized(rows.clone(), 3));
            let found = sum_of_cosines(&units, &reference, 3, &exact(&normal_units, &normal_reference, 3));
            let mut orders: Vec<Vec<u32>> = vec![Vec::new()];
            for _ in 0..count {
                let longer = |order: &Vec<u32>| {
                    let order = order.clone();
                    let rest = (0..count as u32).filter(|u| !order.contains(u)).collect::<Vec<_>>();
                    rest.into_iter().map(move |u| [&order[..], &[u]].concat())
                };
                orders = orders.iter().flat_map(longer).collect();
            }
            for order in orders {
                // Cosines are rounded to 2^-20.
                prop_assert!(sum_of_cosines(&units, &reference, 3, &order) <= found + count as f64 * 2e-6);
            }
        }
    }
}
