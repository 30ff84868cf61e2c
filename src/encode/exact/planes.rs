//! Exact bytes -> planes payloads: which mode each plane takes.

use crate::encode::exact::adaptive::Way;
use crate::encode::exact::copies::{Finder, copies_plane, saved_part};
use crate::encode::exact::tables::best_table;
use crate::encode::portable::log2;
use crate::entropy::{Guide, constant_plane, rans_plane, raw_plane};
use crate::stages::planes::{residuals, rotated, split, split_field};
use crate::tensor::DType;

/// Above this order-0 entropy, in bits a byte, a plane counts as noise.
const NOISE_BITS: f64 = 7.95;
/// A plane of more bytes is long: what is slow to decode must pay for that, and what hardly saves anything is not tried.
const LONG_BYTES: usize = 1 << 15;
/// Planes that are no longer than this when coded are left so.
const COPIES_BYTES_MIN: f64 = 48.0;
/// What copies must save as far as a sample tells: their lengths and modes take more.
const COPIES_SAVE_MIN: f64 = 11.0;
/// What a way to adapt is chosen on, one part of so many; and what tells roughly what a plane takes.
const SAMPLE_PARTS: usize = 4;
const ROUGH_SAMPLE_PARTS: usize = 16;
/// The part of a sample that copies must save for all of a plane to be searched for repeats; and if few bytes count more than time.
const COPIES_PART: f64 = 0.01;
const COPIES_PART_MIN: f64 = 0.003;
/// How far what a sample tells may be off.
const DOUBT: f64 = 1.01;
/// What is expected to take less than this part is taken for smaller, without coding the other.
const CERTAIN_PART: f64 = 0.95;
/// The part of a long plane that adapting must save, because it is slower to decode.
const ADAPTIVE_PART: usize = 1024;

/// Payload of the planes of some elements, every plane in its smallest mode. Long planes of elements of several bytes are many
/// and gain little by adapting: they do only if it is asked for.
pub fn encode_elements(elements: &[u8], dtype: DType, adaptive: bool) -> Vec<u8> {
    let element_bytes = (dtype.bits() as usize).div_ceil(8);
    if element_bytes == 1 {
        return encode_plane(elements);
    }
    let effort = if adaptive { Effort::Most } else { Effort::Fast };
    (0..element_bytes).flat_map(|plane| smallest(&split(elements, dtype, plane), effort, None)).collect()
}

/// Payload of the planes of some predicted elements, or records of fields of these many bytes, every plane in its smallest mode.
/// The reference is elements of the same type; where it is shorter, the elements are predicted from zeros.
pub fn encode_predicted(elements: &[u8], reference: &[u8], dtype: DType, record: &[usize]) -> Vec<u8> {
    let reference = rotated(reference, dtype, elements.len());
    let residuals = residuals(elements, &reference, dtype);
    let record_bytes = record.iter().sum();
    let plane = |field: usize| {
        let offset = record[..field].iter().sum();
        let guide = Guide { reference: &reference, record_bytes, offset, field: record[field] };
        // The bytes above one in its element say how large its residual may be.
        let reach = if dtype.bits() > 8 { record_bytes - 1 - offset } else { 0 };
        smallest(&split_field(&residuals, record, field), Effort::Usual, Some((&guide, reach as u8)))
    };
    (0..record.len()).flat_map(plane).collect()
}

/// One plane in its smallest mode.
pub fn encode_plane(plane: &[u8]) -> Vec<u8> {
    smallest(plane, Effort::Usual, None)
}

/// What guides a plane, and up to how many places ahead.
type Guidance<'a> = Option<(&'a Guide<'a>, u8)>;

/// What a long plane may take.
#[derive(Clone, Copy, PartialEq)]
enum Effort {
    /// No mode that is slow to decode.
    Fast,
    /// Slow modes, where they save enough.
    Usual,
    /// A search for repeats, too, where a sample has few.
    Most,
}

/// One plane in its smallest mode.
fn smallest(plane: &[u8], effort: Effort, guidance: Guidance) -> Vec<u8> {
    let plain = Plain::of(plane, effort != Effort::Fast, guidance);
    let copies = copies(plane, plain.bytes(), if effort == Effort::Most { COPIES_PART_MIN } else { COPIES_PART });
    match copies {
        Some(copies) if (copies.len() as f64) < CERTAIN_PART * plain.bytes() => copies,
        Some(copies) => {
            let coded = plain.encode(plane);
            if copies.len() < coded.len() { copies } else { coded }
        }
        None => plain.encode(plane),
    }
}

/// A plane as copies, if they may save some of the bytes that it takes without; of a long one, this part.
fn copies(plane: &[u8], plain_bytes: f64, part_min: f64) -> Option<Vec<u8>> {
    if plain_bytes <= COPIES_BYTES_MIN {
        return None;
    }
    let finder = Finder::new(plane);
    let saved = saved_by_copies(&finder, plane, plain_bytes, part_min) * plain_bytes;
    if saved > COPIES_SAVE_MIN { copies_plane(finder, plain_bytes) } else { None }
}

/// One plane in the smallest mode that sees no repeats.
pub(super) fn encode_coded_plane(plane: &[u8]) -> Vec<u8> {
    Plain::of(plane, true, None).encode(plane)
}

/// The smallest mode of a plane that sees no repeats.
enum Plain<'a> {
    /// What the plane is coded as.
    Coded(Vec<u8>),
    /// A way to adapt that is taken for smaller: the plane is yet to be coded.
    Adaptive(Way<'a>),
}

impl<'a> Plain<'a> {
    fn of(plane: &[u8], slow_to_decode: bool, guidance: Guidance<'a>) -> Self {
        if let Some(&first) = plane.first()
            && plane.iter().all(|&byte| byte == first)
        {
            return Plain::Coded(constant_plane(first));
        }
        let counts = byte_counts(plane);
        let entropy = entropy_bits(&counts, plane.len());
        let noise = entropy >= NOISE_BITS;
        let coded = || {
            let table = if noise { None } else { best_table(&counts) };
            let coded = table.map(|table| rans_plane(plane, &table)).filter(|coded| coded.len() <= plane.len());
            coded.unwrap_or_else(|| raw_plane(plane))
        };
        if (noise || !slow_to_decode) && plane.len() > LONG_BYTES {
            return Plain::Coded(coded());
        }
        let (guide, reach) = guidance.unzip();
        let way = Way::best(plane, SAMPLE_PARTS, guide, reach.unwrap_or(0));
        let slow_bytes = slow_bytes(plane);
        if way.bytes + (slow_bytes as f64) < CERTAIN_PART * entropy * plane.len() as f64 / 8.0 {
            return Plain::Adaptive(way);
        }
        let coded = coded();
        let bytes_max = (coded.len() - slow_bytes.min(coded.len())) as f64;
        if way.bytes > DOUBT * bytes_max {
            return Plain::Coded(coded);
        }
        let adaptive = way.encode(plane);
        Plain::Coded(if (adaptive.len() as f64) < bytes_max { adaptive } else { coded })
    }

    /// Bytes of the coded plane, as far as is known.
    fn bytes(&self) -> f64 {
        match self {
            Plain::Coded(coded) => coded.len() as f64,
            Plain::Adaptive(way) => way.bytes,
        }
    }

    fn encode(self, plane: &[u8]) -> Vec<u8> {
        match self {
            Plain::Coded(coded) => coded,
            Plain::Adaptive(way) => way.encode(plane),
        }
    }
}

/// What adapting must save of a plane.
fn slow_bytes(plane: &[u8]) -> usize {
    if plane.len() > LONG_BYTES { plane.len() / ADAPTIVE_PART } else { 0 }
}

/// Bytes of one plane in its smallest mode, as far as a sample tells.
pub fn estimated_bytes(plane: &[u8]) -> f64 {
    let coded = coded_bytes(plane);
    coded * (1.0 - saved_by_copies(&Finder::new(plane), plane, coded, COPIES_PART))
}

/// The same, in the smallest mode that sees no repeats.
fn coded_bytes(plane: &[u8]) -> f64 {
    entropy_bytes(plane).min(Way::best(plane, ROUGH_SAMPLE_PARTS, None, 0).bytes + slow_bytes(plane) as f64)
}

/// Bytes of one plane by how often each byte occurs, without what that takes to say.
pub fn entropy_bytes(plane: &[u8]) -> f64 {
    entropy_bits(&byte_counts(plane), plane.len()) * plane.len() as f64 / 8.0
}

/// The part of a plane that copies save, as far as a sample tells. Looking for repeats is slow, and numbers rarely have any.
fn saved_by_copies(finder: &Finder, plane: &[u8], coded_bytes: f64, part_min: f64) -> f64 {
    let saved = saved_part(finder, 8.0 * coded_bytes / plane.len().max(1) as f64);
    if plane.len() <= LONG_BYTES || saved > part_min { saved } else { 0.0 }
}

fn byte_counts(plane: &[u8]) -> [u64; 256] {
    let mut counts = [0; 256];
    plane.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
    counts
}

fn entropy_bits(counts: &[u64; 256], len: usize) -> f64 {
    let bits = |&count: &u64| if count == 0 { 0.0 } else { count as f64 * log2(len as f64 / count as f64) };
    counts.iter().map(bits).sum::<f64>() / len.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::decode_planes;
    use crate::format::{MODE_ADAPTIVE, MODE_RANS};
    use crate::noise::Noise;
    use crate::reconstruct::decode_fields;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn decoding_inverts_encoding(plane in prop_oneof![
            proptest::collection::vec(any::<u8>(), 1..5000),
            proptest::collection::vec(0u8..3, 1..5000),
            proptest::collection::vec(prop_oneof![9 => Just(7u8), 1 => any::<u8>()], 1..9000),
            (proptest::collection::vec(any::<u8>(), 1..300), 1usize..60).prop_map(|(bytes, times)| bytes.repeat(times)),
        ]) {
            let payload = encode_plane(&plane);
            let mut decoded = vec![0; plane.len()];
            decode_planes(&payload, plane.len(), &mut decoded).unwrap();
            prop_assert_eq!(&decoded, &plane);
            prop_assert!(payload.len() <= plane.len() + 1);
        }
    }

    proptest! {
        #[test]
        fn decoding_inverts_encoding_of_predicted_elements(
            (dtype, record) in kinds(),
            (seed, reach, missing) in (any::<u64>(), 1u32..64, 0usize..2000),
            cut in 1usize..40,
            (flip, bit) in (any::<prop::sample::Index>(), 0u32..8),
        ) {
            let mut random = Noise(seed);
            let reference: Vec<u8> = (0..1200).map(|_| random.next() as u8).collect();
            let elements: Vec<u8> = reference.iter().map(|&byte| byte ^ (random.next() >> reach) as u8).collect();
            let reference = &reference[..reference.len().saturating_sub(missing)];
            let payload = encode_predicted(&elements, reference, dtype, &record);
            let decode = |payload: &[u8]| {
                let mut decoded = vec![0; elements.len()];
                decode_fields(payload, &record, dtype, Some(reference), &mut Vec::new(), &mut decoded).map(|()| decoded)
            };
            prop_assert_eq!(&decode(&payload).unwrap(), &elements);
            prop_assert!(decode(&payload[..payload.len().saturating_sub(cut)]).is_err());
            let mut flipped = payload.clone();
            flipped[flip.index(payload.len())] ^= 1 << bit;
            // Whether it is an error depends on the bit; that it ends is what counts.
            let _ = decode(&flipped);
        }
    }

    /// Types, each with the fields that its elements are seen as; records of blocks of integers.
    fn kinds() -> impl Strategy<Value = (DType, Vec<usize>)> {
        let elements = prop::sample::select(&DType::ALL[..])
            .prop_map(|dtype| (dtype, vec![1; (dtype.bits() as usize).div_ceil(8)]));
        prop_oneof![4 => elements, 1 => Just((DType::U8, vec![1, 1, 18])), 1 => Just((DType::U8, vec![2, 8]))]
    }

    #[test]
    fn residuals_are_guided_by_the_exponents_of_their_reference() {
        let mut random = Noise(3);
        let floats: Vec<f32> = (0..20000).map(|_| (random.next() % 2000) as f32 * 1e-3 - 1.0).collect();
        let moved = floats.iter().map(|float| float + (random.next() % 64) as f32 * 1e-6);
        let elements: Vec<u8> = moved.flat_map(f32::to_le_bytes).collect();
        let reference: Vec<u8> = floats.iter().flat_map(|float| float.to_le_bytes()).collect();
        let payload = encode_predicted(&elements, &reference, DType::F32, &[1; 4]);
        let alone = encode_elements(
            &residuals(&elements, &rotated(&reference, DType::F32, elements.len()), DType::F32),
            DType::U32,
            false,
        );
        assert!(payload.len() < alone.len() * 9 / 10, "{} of {} bytes", payload.len(), alone.len());
    }

    #[test]
    fn long_planes_of_floats_adapt_only_if_that_is_asked_for() {
        let mut random = Noise(5);
        // So many exponents that hardly any row of them occurs again.
        let drifting = (0..1 << 16).map(|at| random.normal() * (16.0 * random.uniform() + at as f32 / 4096.0).exp2());
        let elements: Vec<u8> = drifting.flat_map(f32::to_le_bytes).collect();
        let plane = |payload: &[u8]| {
            let top = &payload[3 * (1 + (1 << 16))..];
            (top[0], top.len())
        };
        let [usual, adaptive] = [false, true].map(|adaptive| encode_elements(&elements, DType::F32, adaptive));
        let ((usual_mode, usual_bytes), (mode, bytes)) = (plane(&usual), plane(&adaptive));
        assert_eq!((usual_mode, mode), (MODE_RANS, MODE_ADAPTIVE));
        assert!(bytes < usual_bytes * 98 / 100, "{bytes} of {usual_bytes} bytes");
        let mut decoded = vec![0; elements.len()];
        decode_fields(&adaptive, &[1; 4], DType::F32, None, &mut Vec::new(), &mut decoded).unwrap();
        assert_eq!(decoded, elements);
    }

    #[test]
    fn what_does_not_change_takes_hardly_any_bytes() {
        let mut random = Noise(4);
        let elements: Vec<u8> = (0..40000).map(|_| random.next() as u8).collect();
        assert_eq!(encode_predicted(&elements, &elements, DType::F32, &[1; 4]), [1, 0].repeat(4));
    }

    #[test]
    fn each_kind_of_plane_takes_its_mode() {
        let mut random = Noise(1);
        let noise: Vec<u8> = (0..40000).map(|_| random.next() as u8).collect();
        let skewed: Vec<u8> = noise.iter().map(|&byte| (byte.leading_zeros() + u32::from(byte & 1)) as u8).collect();
        let repeated = noise[..1000].repeat(40);
        let changing: Vec<u8> = skewed.iter().zip(0u32..).map(|(&byte, at)| byte + (at / 4000 * 20) as u8).collect();
        let modes = [&noise, &vec![5; 99], &skewed, &repeated, &changing].map(|plane| encode_plane(plane)[0]);
        assert_eq!(modes, [0, 1, 2, 3, 4]);
    }
}
