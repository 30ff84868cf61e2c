//! Aligned order <-> the tensor's own order (FORMAT.md, section 5.4). WGSL twin: `permute.wgsl`.

use crate::error::{Error, Result};
use crate::fields::take_bits;

/// A bijection of `0..len`: coded row (or column) `i` belongs at `self.places()[i]`.
///
/// ```
/// use mcwc::stages::permute::Permutation;
/// let permutation = Permutation::new(vec![2, 0, 1]).unwrap();
/// assert_eq!(permutation.inverse(), [1, 2, 0]);
/// // The digits 2, 0, 0 of bases 3, 2, 1 are one group, of 3 bits.
/// assert_eq!(permutation.serialize(), [2]);
/// assert_eq!(Permutation::parse(3, &mut &[2][..]).unwrap(), permutation);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permutation(Vec<u32>);

impl Permutation {
    /// A permutation, checked.
    ///
    /// # Errors
    /// `Argument` if a place is missing or occurs twice.
    pub fn new(places: Vec<u32>) -> Result<Self> {
        let mut seen = vec![false; places.len()];
        let bijective =
            places.iter().all(|&place| seen.get_mut(place as usize).is_some_and(|seen| !std::mem::replace(seen, true)));
        if bijective { Ok(Permutation(places)) } else { Err(Error::argument("a permutation must be a bijection")) }
    }

    /// Where each coded row belongs.
    pub fn places(&self) -> &[u32] {
        &self.0
    }

    /// For each place, the coded row that belongs there.
    #[expect(clippy::indexing_slicing, reason = "places of a bijection are below its length")]
    pub fn inverse(&self) -> Vec<u32> {
        let mut inverse = vec![0; self.0.len()];
        for (coded, &place) in (0..).zip(&self.0) {
            inverse[place as usize] = coded;
        }
        inverse
    }

    /// The stored form: the Lehmer code, its digits grouped into bit fields.
    #[expect(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        reason = "groups are of digits that exist, and their values below 2^64"
    )]
    pub fn serialize(&self) -> Vec<u8> {
        let digits = lehmer_digits(&self.0);
        let mut bits = BitWriter::default();
        for group in digit_groups(self.0.len()) {
            let digits = &digits[group.first..group.first + group.len];
            let value = digits.iter().zip(group.bases(self.0.len())).rev();
            bits.put(value.fold(0, |value, (&digit, base)| value * base + u64::from(digit)), group.width());
        }
        bits.bytes
    }

    /// Reads the stored form of a permutation of `len` from the front of `bytes`.
    ///
    /// # Errors
    /// `Invalid` if the bytes end early, a group is out of range, or more than zeros pad the last byte.
    #[expect(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        reason = "bases are 1 to the length, which a u32 counts"
    )]
    pub fn parse(len: usize, bytes: &mut &[u8]) -> Result<Self> {
        let mut bits = BitReader { bytes, position: 0 };
        let mut free = FreeValues::all(len);
        let mut places = Vec::with_capacity(len);
        for group in digit_groups(len) {
            let mut value = bits.take(group.width()).ok_or(Error::invalid("permutation", "ends early"))?;
            if value >= group.product {
                return Err(Error::invalid("permutation", "a group is out of range"));
            }
            for base in group.bases(len) {
                let place = free.nth((value % base) as u32);
                free.take(place);
                places.push(place as u32);
                value /= base;
            }
        }
        let bit_len = bits.position;
        take_bits(bytes, bit_len, "permutation")?;
        Ok(Permutation(places))
    }
}

/// Neighbouring Lehmer digits whose bases multiply to less than 2^64, stored as one number.
struct DigitGroup {
    first: usize,
    len: usize,
    product: u64,
}

impl DigitGroup {
    #[expect(clippy::arithmetic_side_effects, reason = "a group ends where the permutation does")]
    fn bases(&self, permutation_len: usize) -> impl ExactSizeIterator<Item = u64> + DoubleEndedIterator + use<> {
        let first = self.first;
        (0..self.len).map(move |i| (permutation_len - first - i) as u64)
    }

    /// Bits of the largest value, `product - 1`.
    #[expect(clippy::arithmetic_side_effects, reason = "a product is 1 at least")]
    fn width(&self) -> u32 {
        u64::BITS - (self.product - 1).leading_zeros()
    }
}

#[expect(clippy::arithmetic_side_effects, reason = "the next digit is below the length")]
fn digit_groups(permutation_len: usize) -> impl Iterator<Item = DigitGroup> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let mut group = DigitGroup { first: next, len: 0, product: 1 };
        while next < permutation_len
            && let Some(product) = group.product.checked_mul((permutation_len - next) as u64)
        {
            group.product = product;
            group.len += 1;
            next += 1;
        }
        (group.len > 0).then_some(group)
    })
}

/// Counts of the values that are still free, as a binary indexed tree: both directions in n log n.
struct FreeValues(Vec<u32>);

#[expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    reason = "nodes are 1 to the length, and values below it are free until they are taken"
)]
impl FreeValues {
    fn all(len: usize) -> Self {
        FreeValues((0..=len).map(|node| (node & node.wrapping_neg()) as u32).collect())
    }

    fn take(&mut self, value: usize) {
        let mut node = value + 1;
        while node < self.0.len() {
            self.0[node] -= 1;
            node += node & node.wrapping_neg();
        }
    }

    fn count_below(&self, value: usize) -> u32 {
        let (mut node, mut count) = (value, 0);
        while node > 0 {
            count += self.0[node];
            node &= node - 1;
        }
        count
    }

    /// The free value with exactly `count` free values below it.
    fn nth(&self, mut count: u32) -> usize {
        let mut node = 0;
        let mut step = self.0.len().next_power_of_two();
        while step > 0 {
            if let Some(&below) = self.0.get(node + step)
                && below <= count
            {
                node += step;
                count -= below;
            }
            step /= 2;
        }
        node
    }
}

/// Rows of elements to columns of elements, `N` bytes each.
#[expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "rows times columns are no more than elements; both arrays hold as many"
)]
pub fn transpose<const N: usize>(from: &[u8], cols: usize, to: &mut [u8]) {
    let (from, to) = (from.as_chunks::<N>().0, to.as_chunks_mut::<N>().0);
    let rows = from.len() / cols.max(1);
    // Few rows at a time, so that the columns they go to stay in the first cache.
    for first_row in (0..rows).step_by(TRANSPOSE_ROWS) {
        let block = first_row..rows.min(first_row + TRANSPOSE_ROWS);
        for col in 0..cols {
            let column = &mut to[col * rows..][block.clone()];
            for (place, row) in column.iter_mut().zip(block.clone()) {
                *place = from[row * cols + col];
            }
        }
    }
}

const TRANSPOSE_ROWS: usize = 16;

fn lehmer_digits(places: &[u32]) -> Vec<u32> {
    let mut free = FreeValues::all(places.len());
    let digit = |&place: &u32| {
        free.take(place as usize);
        free.count_below(place as usize)
    };
    places.iter().map(digit).collect()
}

#[derive(Default)]
struct BitWriter {
    bytes: Vec<u8>,
    used: u32,
}

impl BitWriter {
    #[expect(clippy::arithmetic_side_effects, reason = "fewer bits than memory has")]
    fn put(&mut self, value: u64, width: u32) {
        for bit in 0..width {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= ((value >> bit & 1) as u8) << (self.used % 8);
            }
            self.used += 1;
        }
    }
}

struct BitReader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl BitReader<'_> {
    #[expect(clippy::arithmetic_side_effects, reason = "a width is 64 at most")]
    fn take(&mut self, width: u32) -> Option<u64> {
        let mut value = 0;
        for bit in 0..width {
            let byte = self.bytes.get(self.position / 8)?;
            value |= u64::from(byte >> (self.position % 8) & 1) << bit;
            self.position += 1;
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shuffled(len: usize, seed: u64) -> Vec<u32> {
        let mut keyed: Vec<(u64, u32)> = (0..len as u32)
            .map(|i| ((u64::from(i) ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23), i))
            .collect();
        keyed.sort_unstable();
        keyed.into_iter().map(|(_, i)| i).collect()
    }

    proptest! {
        #[test]
        fn parse_inverts_serialize(len in 0usize..700, seed: u64) {
            let permutation = Permutation::new(shuffled(len, seed)).unwrap();
            let mut stored = permutation.serialize();
            stored.push(0xaa);
            let mut rest = stored.as_slice();
            prop_assert_eq!(Permutation::parse(len, &mut rest).unwrap(), permutation);
            prop_assert_eq!(rest, [0xaa]);
        }

        #[test]
        fn any_bytes_give_a_bijection_or_an_error(len in 0usize..50, bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Ok(permutation) = Permutation::parse(len, &mut bytes.as_slice()) {
                prop_assert!(Permutation::new(permutation.places().to_vec()).is_ok());
            }
        }

        #[test]
        fn inverse_undoes_places(len in 1usize..100, seed: u64) {
            let permutation = Permutation::new(shuffled(len, seed)).unwrap();
            let inverse = permutation.inverse();
            let back: Vec<u32> = permutation.places().iter().map(|&place| inverse[place as usize]).collect();
            prop_assert_eq!(back, (0..len as u32).collect::<Vec<_>>());
        }
    }

    #[test]
    fn takes_hardly_more_than_log2_of_the_factorial() {
        let len = 1536;
        let ideal: f64 = (1..=len).map(|i| f64::from(i).log2()).sum();
        let stored = Permutation::new(shuffled(len as usize, 7)).unwrap().serialize();
        assert!((stored.len() * 8) as f64 <= ideal * 1.01, "{} bits for {ideal:.0}", stored.len() * 8);
    }

    #[test]
    fn refuses_what_is_not_a_bijection() {
        assert!(Permutation::new(vec![0, 0]).is_err());
        assert!(Permutation::new(vec![0, 2]).is_err());
    }
}
