//! Bytes -> literals and copies of earlier bytes: the parse that takes the fewest bits, by what those of the parse before it took.

use std::array;
use std::ops::Range;

use crate::encode::exact::finder::{Copy, Finder, LONG_ENOUGH, common_len};
use crate::encode::exact::planes::{encode_stream, entropy_bytes};
use crate::encode::exact::prices::{LastDistances, Prices, byte_prices, varint_price};
use crate::encode::portable::log2;
use crate::entropy::put_varint;
use crate::format::{COPY_LEN_MIN, DISTANCE_BYTES, MODE_COPIES};

/// Earlier places that are tried at each position, and in a sample.
const CHAIN_LEN: usize = 64;
const SAMPLE_CHAIN_LEN: usize = 4;
/// What is parsed at once.
const PART_BYTES: usize = 1 << 16;
/// Parses, each by the prices of the one before; the smallest is taken.
const PARSES: usize = 4;
/// What is searched of a plane to see whether copies save anything: so many windows of so many bytes.
const WINDOWS: usize = 8;
const WINDOW_BYTES: usize = 1 << 12;
/// What a copy in a sample costs beside the logarithm of its distance, in bits.
const COPY_BITS: f64 = 10.0;
/// Zeros that are copied at once where weights were pruned: those of a float32.
const ZEROS: usize = 4;

/// The plane as copies and literals.
pub fn copies_plane(plane: &[u8]) -> Vec<u8> {
    let finder = Finder::new(plane);
    let mut prices = Prices::first(plane);
    let payloads = (0..PARSES).map(|_| {
        let sequences = Sequences::cheapest(plane, &finder, &prices);
        prices = Prices::of(&sequences);
        sequences.payload()
    });
    payloads.min_by_key(Vec::len).unwrap_or_default()
}

/// The plane's zeros as copies where weights were pruned, if at least one of so many bytes is one of them.
pub fn zeros(plane: &[u8], parts: usize) -> Option<Sequences> {
    let fewest = plane.len().div_ceil(parts);
    if plane.iter().filter(|&&byte| byte == 0).count() < fewest {
        return None;
    }
    Some(Sequences::of_zeros(plane)).filter(|sequences| sequences.literals.len() + fewest <= plane.len())
}

/// The part of a plane that copies save, if without them it takes so many bits a byte: roughly, as windows of it tell. What they repeat
/// may lie anywhere before them.
pub fn saved_part(plane: &[u8], bits: f64) -> f64 {
    let finder = Finder::new(plane);
    let prices = byte_prices(plane, bits * plane.len() as f64 / (8.0 * entropy_bytes(plane)).max(1.0));
    let price = |bytes: &[u8]| bytes.iter().map(|&byte| f64::from(prices[usize::from(byte)])).sum::<f64>();
    let (mut saved, mut total) = (0.0, 0.0);
    let apart = if plane.len() > WINDOWS * WINDOW_BYTES { plane.len() / WINDOWS } else { WINDOW_BYTES };
    for start in (0..plane.len()).step_by(apart) {
        let end = plane.len().min(start + WINDOW_BYTES);
        let mut position = start;
        while position < end {
            let longest = finder.copies(position, SAMPLE_CHAIN_LEN).max_by_key(|copy| copy.len);
            let len = longest.map_or(1, |copy| copy.len.min(end - position));
            let bits = price(&plane[position..position + len]);
            let saves = longest.map_or(0.0, |copy| bits - COPY_BITS - log2(copy.distance as f64));
            if saves > 0.0 {
                saved += saves;
                position += len;
            } else {
                position += 1;
            }
        }
        total += price(&plane[start..end]);
    }
    saved / f64::max(total, 1.0)
}

/// Literals and copies, as the streams that code them.
#[derive(Default)]
pub struct Sequences {
    /// All literals.
    pub literals: Vec<u8>,
    /// How many come before each copy.
    pub literal_lens: Vec<u8>,
    /// How long each copy is.
    pub copy_lens: Vec<u8>,
    /// From how far back it comes.
    pub distances: [Vec<u8>; DISTANCE_BYTES],
}

impl Sequences {
    /// The sequences of the least sum of prices.
    fn cheapest(plane: &[u8], finder: &Finder, prices: &Prices) -> Self {
        let mut sequences = Sequences::default();
        let mut start = 0;
        for (position, copy) in path(plane, finder, prices) {
            sequences.push(&plane[start..position], copy);
            start = position + copy.len;
        }
        sequences.literals.extend_from_slice(&plane[start..]);
        sequences
    }

    /// Copies of zeros that lie as whole floats between others: the first float from the end of the zeros before, so that its
    /// distance says no more than the literals between do, and the others from the first.
    fn of_zeros(plane: &[u8]) -> Self {
        let mut sequences = Sequences::default();
        // Where what is not yet pushed begins: after zeros, but at first.
        let (mut at, mut start) = (0, 0);
        while at < plane.len() {
            let zeros = plane[at..].iter().take_while(|&&byte| byte == 0).count();
            let (first_end, end) = (at + ZEROS, at + zeros / ZEROS * ZEROS);
            if start > 0 && first_end <= end {
                sequences.push(&plane[start..at], Copy { len: ZEROS, distance: first_end - start });
                start = first_end;
            }
            if first_end < end {
                sequences.push(&plane[start..first_end], Copy { len: end - first_end, distance: ZEROS });
                start = end;
            }
            at += zeros.max(1);
        }
        sequences.literals.extend_from_slice(&plane[start..]);
        sequences
    }

    fn push(&mut self, literals: &[u8], copy: Copy) {
        self.literals.extend_from_slice(literals);
        put_varint(literals.len() as u32, &mut self.literal_lens);
        put_varint((copy.len - COPY_LEN_MIN) as u32, &mut self.copy_lens);
        self.distances.iter_mut().zip(distance_bytes(copy.distance)).for_each(|(plane, byte)| plane.push(byte));
    }

    /// The payload that they are.
    pub fn payload(&self) -> Vec<u8> {
        let mut payload = vec![MODE_COPIES];
        for len in [self.literals.len(), self.distances[0].len(), self.literal_lens.len(), self.copy_lens.len()] {
            put_varint(len as u32, &mut payload);
        }
        for plane in [&self.literals, &self.literal_lens, &self.copy_lens].into_iter().chain(&self.distances) {
            payload.extend(encode_stream(plane));
        }
        payload
    }
}

/// Its bytes, least significant first.
pub fn distance_bytes(distance: usize) -> [u8; DISTANCE_BYTES] {
    array::from_fn(|byte| ((distance - 1) >> (8 * byte)) as u8)
}

/// The cheapest distance that a copy of some length may have.
#[derive(Clone, Copy)]
struct Offer {
    price: f32,
    distance: usize,
}

const NO_OFFER: Offer = Offer { price: f32::INFINITY, distance: 0 };

impl Offer {
    fn cheaper(self, other: Offer) -> Offer {
        if other.price < self.price { other } else { self }
    }
}

/// The cheapest way to a position.
#[derive(Clone, Copy)]
struct Step {
    price: f32,
    /// Literals since the last copy.
    literal_len: u32,
    /// The last literal.
    literal: u8,
    /// Length of the copy that ends here; 0 after a literal.
    copy_len: u32,
    /// Distances of the last copies, the latest first.
    distances: LastDistances,
}

/// The copies of the cheapest parse, each with its position: part by part, for steps to take little memory.
fn path(plane: &[u8], finder: &Finder, prices: &Prices) -> Vec<(usize, Copy)> {
    let mut copies = Vec::new();
    let mut first = Step { price: 0.0, literal_len: 0, literal: 0, copy_len: 0, distances: LastDistances::default() };
    for start in (0..plane.len()).step_by(PART_BYTES) {
        let part = start..plane.len().min(start + PART_BYTES);
        let steps = Parse { plane, finder, prices }.steps(part, first);
        let mut end = steps.len() - 1;
        first = Step { price: 0.0, copy_len: 0, ..steps[end] };
        let before = copies.len();
        while end > 0 {
            let Step { copy_len, distances, .. } = steps[end];
            let len = copy_len as usize;
            end -= len.max(1);
            if len > 0 {
                copies.push((start + end, Copy { len, distance: distances.0[0] as usize }));
            }
        }
        copies[before..].reverse();
    }
    copies
}

struct Parse<'p> {
    plane: &'p [u8],
    finder: &'p Finder<'p>,
    prices: &'p Prices,
}

impl Parse<'_> {
    /// The cheapest ways to all positions of a part.
    fn steps(&self, part: Range<usize>, first: Step) -> Vec<Step> {
        let prices = self.prices;
        let mut steps = vec![Step { price: f32::INFINITY, ..first }; part.len() + 1];
        let run = |len: u32| varint_price(&prices.literal_lens, len as usize);
        let after_copy = run(0);
        let mut offers = Vec::new();
        steps[0] = first;
        let mut at = 0;
        while at < part.len() {
            let here = steps[at];
            let literal = self.plane[part.start + at];
            let more = run(here.literal_len + 1) - run(here.literal_len);
            let price = here.price + prices.literals[usize::from(here.literal)][usize::from(literal)] + more;
            if price < steps[at + 1].price {
                steps[at + 1] = Step { price, literal, literal_len: here.literal_len + 1, copy_len: 0, ..here };
            }
            self.offer(part.start + at..part.end, &here.distances, &mut offers);
            // What offers a long copy offers a shorter one, too.
            let mut offer = NO_OFFER;
            for len in (COPY_LEN_MIN..offers.len()).rev() {
                offer = offer.cheaper(offers[len]);
                let price = here.price + offer.price + varint_price(&prices.copy_lens, len - COPY_LEN_MIN) + after_copy;
                let step = &mut steps[at + len];
                if price < step.price {
                    let distances = here.distances.then(offer.distance);
                    *step = Step { price, literal_len: 0, copy_len: len as u32, distances, ..here };
                }
            }
            let longest = offers.len().saturating_sub(1);
            at += if longest > LONG_ENOUGH { longest } else { 1 };
        }
        steps
    }

    /// The cheapest distance for each length of a copy at the start of `rest`, from where bytes are found again or from as far back as
    /// the last copies.
    fn offer(&self, rest: Range<usize>, last: &LastDistances, offers: &mut Vec<Offer>) {
        offers.clear();
        let again = last.0.iter().map(|&distance| distance as usize).filter(|&distance| distance <= rest.start);
        let again = again.map(|distance| {
            let len = common_len(&self.plane[rest.clone()], &self.plane[rest.start - distance..]);
            Copy { len, distance }
        });
        let bytes = last.bytes();
        for copy in again.chain(self.finder.copies(rest.start, CHAIN_LEN)).filter(|copy| copy.len >= COPY_LEN_MIN) {
            let len = copy.len.min(rest.len());
            offers.resize(offers.len().max(len + 1), NO_OFFER);
            let offer = Offer { price: self.prices.distance(copy.distance, &bytes), distance: copy.distance };
            offers[len] = offers[len].cheaper(offer);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::entropy::decode_planes;
    use crate::noise::Noise;

    #[test]
    fn repeats_of_any_length_come_back() {
        let mut random = Noise(9);
        let noise: Vec<u8> = (0..3000).map(|_| random.next() as u8).collect();
        for (len, times) in
            [(1, 40_000), (2, 999), (3, 5000), (5, 2), (255, 30), (256, 9), (257, 9), (260, 3), (3000, 3)]
        {
            let plane = noise[..len].repeat(times);
            let payload = copies_plane(&plane);
            let mut decoded = vec![0; plane.len()];
            decode_planes(&payload, plane.len(), &mut decoded).unwrap();
            assert_eq!(decoded, plane);
            assert!(payload.len() < len + len / 2 + 60, "{len} × {times}: {}", payload.len());
        }
    }

    proptest! {
        #[test]
        fn zeros_of_any_length_come_back(
            runs in proptest::collection::vec((0usize..40, proptest::collection::vec(any::<u8>(), 0..13)), 0..200),
        ) {
            let plane: Vec<u8> = runs.into_iter().flat_map(|(zeros, others)| [vec![0; zeros], others].concat()).collect();
            let payload = Sequences::of_zeros(&plane).payload();
            let mut decoded = vec![0; plane.len()];
            decode_planes(&payload, plane.len(), &mut decoded).unwrap();
            prop_assert_eq!(decoded, plane);
        }
    }

    #[test]
    fn noise_saves_nothing_and_repeats_nearly_all() {
        let mut random = Noise(7);
        let noise: Vec<u8> = (0..20_000).map(|_| random.next() as u8 % 32).collect();
        assert!(saved_part(&noise, 5.0) < 0.01);
        assert!(saved_part(&noise[..500].repeat(40), 5.0) > 0.9);
    }
}
