//! Bytes -> literals and copies of earlier bytes: the parse that takes the fewest bits, by what those of the parse before it took.

use std::array;
use std::ops::Range;

use crate::encode::exact::planes::{encode_coded_plane, entropy_bytes};
use crate::encode::portable::log2;
use crate::fields::put_varint;
use crate::format::{COPY_LEN_MIN, DISTANCE_BYTES, MODE_COPIES};

const HASH_BITS_MAX: u32 = 16;
/// Earlier places that are tried at each position in the last parse, in those before it, and in a sample.
const CHAIN_LEN: usize = 32;
const FIRST_CHAIN_LEN: usize = 8;
const SAMPLE_CHAIN_LEN: usize = 4;
/// A copy this long is taken without looking further.
const LONG_ENOUGH: usize = 256;
/// What is parsed at once.
const PART_BYTES: usize = 1 << 16;
/// Parses, each by the prices of the one before.
const PARSES: usize = 2;
/// The same of planes that are parsed in one part: they are soon done.
const SHORT_PARSES: usize = 3;
/// The part of a plane's bytes without copies that prices must be below where contexts are known to make literals smaller: they leave out
/// tables and what models have to learn. Elsewhere literals may take less than their price.
const EXPECTED_PART: f64 = 0.97;
/// What is searched of a plane to see whether copies save anything: so many windows of so many bytes.
const WINDOWS: usize = 8;
const WINDOW_BYTES: usize = 1 << 12;
/// What a copy in a sample costs beside the logarithm of its distance, in bits.
const COPY_BITS: f64 = 10.0;

/// A plane as copies and literals, if that may take less than the bytes that it takes without copies.
pub fn copies_plane(finder: Finder, plain_bytes: f64) -> Option<Vec<u8>> {
    let plane = finder.plane;
    let finder = finder.sorted_out();
    // Contexts make literals smaller, too.
    let literal_part = (plain_bytes / entropy_bytes(plane).max(1.0)).clamp(0.3, 1.0);
    let mut prices = Prices::first(plane, literal_part);
    let parses = if plane.len() <= PART_BYTES { SHORT_PARSES } else { PARSES };
    for _ in 1..parses {
        prices = Prices::of(&Sequences::cheapest(&finder, &prices, FIRST_CHAIN_LEN).0, literal_part);
    }
    let (sequences, bits) = Sequences::cheapest(&finder, &prices, CHAIN_LEN);
    // Several times the plane, which coding the sequences takes again.
    drop(finder);
    let expected_part = if literal_part < 1.0 { EXPECTED_PART } else { 1.0 };
    (bits < 8.0 * expected_part * plain_bytes).then(|| sequences.payload())
}

/// The part of a plane that copies save, if without them it takes so many bits a byte: roughly, as windows of it tell. What they repeat
/// may lie anywhere before them.
pub fn saved_part(finder: &Finder, bits: f64) -> f64 {
    let plane = finder.plane;
    let prices = byte_prices(plane, bits * plane.len() as f64 / (8.0 * entropy_bytes(plane)).max(1.0));
    let (mut saved, mut total) = (0.0, 0.0);
    let apart = if plane.len() > WINDOWS * WINDOW_BYTES { plane.len() / WINDOWS } else { WINDOW_BYTES };
    for start in (0..plane.len()).step_by(apart) {
        let end = plane.len().min(start + WINDOW_BYTES);
        // What the window takes up to each of its bytes.
        let mut sums = vec![0.0];
        sums.extend(plane[start..end].iter().scan(0.0, |sum, &byte| {
            *sum += f64::from(prices[usize::from(byte)]);
            Some(*sum)
        }));
        let mut position = start;
        while position < end {
            let longest = finder.copies(position, end, SAMPLE_CHAIN_LEN).max_by_key(|copy| copy.len);
            let saves = longest.map_or(0.0, |copy| {
                let bits = sums[position + copy.len - start] - sums[position - start];
                bits - COPY_BITS - log2(copy.distance as f64)
            });
            if saves > 0.0 {
                saved += saves;
                position += longest.map_or(1, |copy| copy.len);
            } else {
                position += 1;
            }
        }
        total += sums[end - start];
    }
    saved / f64::max(total, 1.0)
}

#[derive(Default)]
struct Sequences {
    literals: Vec<u8>,
    literal_lens: Vec<u8>,
    copy_lens: Vec<u8>,
    distances: [Vec<u8>; DISTANCE_BYTES],
}

impl Sequences {
    /// The sequences of the least sum of prices, and this sum: part by part, for steps to take little memory.
    fn cheapest(finder: &Finder, prices: &Prices, chain_len: usize) -> (Self, f64) {
        let plane = finder.plane;
        let mut sequences = Sequences { literals: Vec::with_capacity(plane.len()), ..Sequences::default() };
        let (mut start, mut bits) = (0, 0.0);
        for part in (0..plane.len()).step_by(PART_BYTES) {
            let part = part..plane.len().min(part + PART_BYTES);
            let (copies, price) = path(finder, part, prices, chain_len);
            for (position, copy) in copies {
                sequences.push(&plane[start..position], copy);
                start = position + copy.len;
            }
            bits += f64::from(price);
        }
        sequences.literals.extend_from_slice(&plane[start..]);
        (sequences, bits)
    }

    fn push(&mut self, literals: &[u8], copy: Copy) {
        self.literals.extend_from_slice(literals);
        put_varint(literals.len() as u32, &mut self.literal_lens);
        put_varint((copy.len - COPY_LEN_MIN) as u32, &mut self.copy_lens);
        self.distances.iter_mut().zip(distance_bytes(copy.distance)).for_each(|(plane, byte)| plane.push(byte));
    }

    fn payload(&self) -> Vec<u8> {
        let mut payload = vec![MODE_COPIES];
        for len in [self.literals.len(), self.distances[0].len(), self.literal_lens.len(), self.copy_lens.len()] {
            put_varint(len as u32, &mut payload);
        }
        for plane in [&self.literals, &self.literal_lens, &self.copy_lens].into_iter().chain(&self.distances) {
            payload.extend(encode_coded_plane(plane));
        }
        payload
    }
}

fn distance_bytes(distance: usize) -> [u8; DISTANCE_BYTES] {
    array::from_fn(|byte| ((distance - 1) >> (8 * byte)) as u8)
}

/// Bits of each byte of a plane.
type BytePrices = [f32; 256];

/// What literals, lengths and distances cost, in bits.
struct Prices {
    literals: BytePrices,
    literal_lens: BytePrices,
    copy_lens: BytePrices,
    distances: [BytePrices; DISTANCE_BYTES],
}

impl Prices {
    /// Before anything is known but the plane: small numbers are likely.
    fn first(plane: &[u8], literal_part: f64) -> Self {
        let number = array::from_fn(|number| 2.0 + 1.2 * log2(number as f32 + 1.0));
        Prices {
            literals: byte_prices(plane, literal_part),
            literal_lens: number,
            copy_lens: number,
            distances: array::from_fn(|byte| if byte == 0 { [8.0; 256] } else { number }),
        }
    }

    fn of(sequences: &Sequences, literal_part: f64) -> Self {
        Prices {
            literals: byte_prices(&sequences.literals, literal_part),
            literal_lens: byte_prices(&sequences.literal_lens, 1.0),
            copy_lens: byte_prices(&sequences.copy_lens, 1.0),
            distances: sequences.distances.each_ref().map(|plane| byte_prices(plane, 1.0)),
        }
    }

    fn distance(&self, distance: usize) -> f32 {
        distance_bytes(distance).into_iter().zip(&self.distances).map(|(byte, prices)| prices[usize::from(byte)]).sum()
    }
}

fn varint_price(prices: &BytePrices, mut number: usize) -> f32 {
    let mut price = 0.0;
    while number >= 0x80 {
        price += prices[number & 0x7f | 0x80];
        number >>= 7;
    }
    price + prices[number]
}

/// What bytes take by how often each occurs, times a factor.
fn byte_prices(plane: &[u8], factor: f64) -> BytePrices {
    let mut counts = [0.5f32; 256];
    plane.iter().for_each(|&byte| counts[usize::from(byte)] += 1.0);
    let sum: f32 = counts.iter().sum();
    counts.map(|count| factor as f32 * log2(sum / count))
}

/// A copy of `len` bytes from `distance` bytes before.
#[derive(Clone, Copy)]
struct Copy {
    len: usize,
    distance: usize,
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
    /// Literals since the last copy, or bytes of the copy that ends here.
    len: u32,
    /// Distance of that copy; 0 after a literal.
    distance: u32,
}

/// The copies of the cheapest parse of a part, each with its position in the plane, and what it costs.
fn path(finder: &Finder, part: Range<usize>, prices: &Prices, chain_len: usize) -> (Vec<(usize, Copy)>, f32) {
    let plane = finder.plane;
    let mut steps = vec![Step { price: f32::INFINITY, len: 0, distance: 0 }; part.len() + 1];
    let run = |len: u32| varint_price(&prices.literal_lens, len as usize);
    let after_copy = run(0);
    let mut offers = Vec::new();
    steps[0].price = after_copy;
    let mut at = 0;
    while at < part.len() {
        let Step { price, len, distance } = steps[at];
        let literal_len = if distance == 0 { len } else { 0 };
        let literal = prices.literals[usize::from(plane[part.start + at])] + run(literal_len + 1) - run(literal_len);
        if price + literal < steps[at + 1].price {
            steps[at + 1] = Step { price: price + literal, len: literal_len + 1, distance: 0 };
        }
        offers.clear();
        for copy in finder.copies(part.start + at, plane.len(), chain_len) {
            let len = copy.len.min(part.len() - at);
            offers.resize(offers.len().max(len + 1), NO_OFFER);
            let offer = Offer { price: prices.distance(copy.distance), distance: copy.distance };
            offers[len] = offers[len].cheaper(offer);
        }
        // What offers a long copy offers a shorter one, too.
        let mut offer = NO_OFFER;
        for len in (COPY_LEN_MIN..offers.len()).rev() {
            offer = offer.cheaper(offers[len]);
            let price = price + offer.price + varint_price(&prices.copy_lens, len - COPY_LEN_MIN) + after_copy;
            let step = &mut steps[at + len];
            if price < step.price {
                *step = Step { price, len: len as u32, distance: offer.distance as u32 };
            }
        }
        let longest = offers.len().saturating_sub(1);
        at += if longest > LONG_ENOUGH { longest } else { 1 };
    }
    let mut copies = Vec::new();
    let mut end = part.len();
    while end > 0 {
        let [len, distance] = [steps[end].len, steps[end].distance].map(|number| number as usize);
        end -= len;
        if distance > 0 {
            copies.push((part.start + end, Copy { len, distance }));
        }
    }
    copies.reverse();
    (copies, steps[part.len()].price)
}

/// Earlier places of the same four bytes, the latest first.
pub struct Finder<'p> {
    plane: &'p [u8],
    /// Of each place, the one before it in its chain: the same hash, and the same bytes if there are `links`.
    previous: Vec<u32>,
    /// Links between the two in a chain of one hash.
    links: Vec<u8>,
}

const NOWHERE: u32 = u32::MAX;

impl<'p> Finder<'p> {
    /// Of all places of a plane.
    pub fn new(plane: &'p [u8]) -> Self {
        let hash_bits = HASH_BITS_MAX.min(plane.len().max(1).ilog2() + 2);
        let mut head = vec![NOWHERE; 1 << hash_bits];
        let previous = plane.windows(COPY_LEN_MIN).zip(0..).map(|(bytes, position)| {
            let key = bytes.iter().rev().fold(0, |key: u32, &byte| key << 8 | u32::from(byte));
            let slot = key.wrapping_mul(2_654_435_761) >> (32 - hash_bits);
            std::mem::replace(&mut head[slot as usize], position)
        });
        Finder { plane, previous: previous.collect(), links: Vec::new() }
    }

    /// The same copies, found faster: chains leave out other bytes of the same hash. It takes a while, for who looks everywhere and often.
    fn sorted_out(mut self) -> Self {
        let mut links = vec![1; self.previous.len()];
        // What is further back is still as it was.
        for (position, links) in links.iter_mut().enumerate().rev() {
            let mut place = self.previous[position];
            while place != NOWHERE && !self.are_same(position, place as usize) {
                *links += 1;
                place = if usize::from(*links) > CHAIN_LEN { NOWHERE } else { self.previous[place as usize] };
            }
            self.previous[position] = place;
        }
        Finder { links, ..self }
    }

    fn are_same(&self, a: usize, b: usize) -> bool {
        self.plane[a..][..COPY_LEN_MIN] == self.plane[b..][..COPY_LEN_MIN]
    }

    /// Copies that could be made at `position`, up to `end`, from ever further away; none after a long one.
    fn copies(&self, position: usize, end: usize, chain_len: usize) -> impl Iterator<Item = Copy> {
        let here = &self.plane[position..end];
        let (mut place, mut links, mut longest) = (position, 0, 0);
        let next = move || loop {
            let previous = *self.previous.get(place)?;
            links += self.links.get(place).map_or(1, |&links| usize::from(links));
            if previous == NOWHERE || links > chain_len || longest > LONG_ENOUGH {
                return None;
            }
            place = previous as usize;
            if self.are_same(position, place) {
                let len = common_len(here, &self.plane[place..]);
                longest = len;
                return Some(Copy { len, distance: position - place });
            }
        };
        std::iter::from_fn(next)
    }
}

/// How many bytes are the same, from the first on.
fn common_len(a: &[u8], b: &[u8]) -> usize {
    let words = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0);
    let mut len = 0;
    for (&a, &b) in words {
        let differing = u64::from_le_bytes(a) ^ u64::from_le_bytes(b);
        if differing != 0 {
            return len + differing.trailing_zeros() as usize / 8;
        }
        len += 8;
    }
    len + a[len..].iter().zip(&b[len..]).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
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
            let payload = copies_plane(Finder::new(&plane), f64::INFINITY).unwrap();
            let mut decoded = vec![0; plane.len()];
            decode_planes(&payload, plane.len(), &mut decoded).unwrap();
            assert_eq!(decoded, plane);
            assert!(payload.len() < len + len / 2 + 60, "{len} × {times}: {}", payload.len());
        }
    }

    #[test]
    fn sorted_out_chains_hold_the_same_copies() {
        let mut random = Noise(11);
        let plane: Vec<u8> = (0..30_000).map(|_| (random.normal() * 3.0) as i8 as u8).collect();
        let (finder, sorted_out) = (Finder::new(&plane), Finder::new(&plane).sorted_out());
        let copies = |finder: &Finder, position: usize, chain_len: usize| -> Vec<[usize; 2]> {
            finder.copies(position, plane.len(), chain_len).map(|copy| [copy.len, copy.distance]).collect()
        };
        let mut found = 0;
        for (position, chain_len) in (0..plane.len()).flat_map(|position| [(position, 4), (position, CHAIN_LEN)]) {
            let expected = copies(&finder, position, chain_len);
            assert_eq!(copies(&sorted_out, position, chain_len), expected, "{position}");
            found += expected.len();
        }
        assert!(found > plane.len(), "{found}");
    }

    #[test]
    fn noise_saves_nothing_and_repeats_nearly_all() {
        let mut random = Noise(7);
        let noise: Vec<u8> = (0..20_000).map(|_| random.next() as u8 % 32).collect();
        assert!(saved_part(&Finder::new(&noise), 5.0) < 0.01);
        assert!(copies_plane(Finder::new(&noise), 5.0 / 8.0 * noise.len() as f64).is_none());
        let repeats = noise[..500].repeat(40);
        assert!(saved_part(&Finder::new(&repeats), 5.0) > 0.9);
        // Contexts halve its literals, too.
        let payload = copies_plane(Finder::new(&repeats), 2.5 / 8.0 * repeats.len() as f64).unwrap();
        let mut decoded = vec![0; repeats.len()];
        decode_planes(&payload, repeats.len(), &mut decoded).unwrap();
        assert_eq!(decoded, repeats);
    }
}
