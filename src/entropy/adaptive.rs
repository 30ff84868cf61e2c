//! Adaptive payload -> bytes (FORMAT.md, sections 6.2 and 6.3).
//!
//! Each byte is eight decisions down a tree, whose chances the bytes before it have taught: no table travels. A byte of the same
//! plane chooses the tree, or one of a reference.

use std::hint::select_unpredictable;

use crate::error::{Error, Result};
use crate::fields::take_array;
use crate::format::{
    CHANCE_START, CHANCE_TARGET, CONTEXT_BITS_MAX, PRECISION, RATE_BITS, SLOW_LIMITS, STATE_START, TOTAL, WORD_BITS,
};

/// How a plane is modelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adaptation {
    /// Decisions after which a chance learns no slower; its slow half takes eight times as many.
    pub limit: u8,
    /// How far back the byte is that chooses the tree; with a guide, how far ahead in the reference.
    pub distance: u8,
    /// How many of that byte's high bits choose.
    pub context_bits: u8,
}

/// The reference of a plane's bytes: where in it each of them has its own place.
#[derive(Clone, Copy, Debug)]
pub struct Guide<'a> {
    /// The reference's bytes, record by record.
    pub reference: &'a [u8],
    /// Bytes of a record.
    pub record_bytes: usize,
    /// Where the plane's field begins in a record.
    pub offset: usize,
    /// Bytes of the field.
    pub field: usize,
}

impl Guide<'_> {
    /// The reference's byte `distance` places after that of byte `at` of the plane; 0 after the last.
    #[expect(
        clippy::arithmetic_side_effects,
        reason = "fields have bytes, and places lie inside a chunk or shortly after"
    )]
    pub fn byte(&self, at: usize, distance: u8) -> u8 {
        let place = at / self.field * self.record_bytes + self.offset + at % self.field;
        self.reference.get(place + usize::from(distance)).copied().unwrap_or(0)
    }
}

/// The byte that chooses the tree of byte `at` of `plane`.
pub fn context(plane: &[u8], at: usize, distance: u8, guide: Option<&Guide>) -> u8 {
    match guide {
        Some(guide) => guide.byte(at, distance),
        None => at.checked_sub(distance.into()).and_then(|back| plane.get(back)).copied().unwrap_or(0),
    }
}

/// Trees of chances.
pub struct AdaptiveModel {
    /// Of each inner node: a fast and a slow chance of a one, in 1/65536, and the decisions so far.
    nodes: Vec<[u16; 3]>,
    /// By the decisions so far, in 1/32768: how far a chance moves.
    rates: Vec<i32>,
    adaptation: Adaptation,
}

impl AdaptiveModel {
    /// The model before the first byte.
    pub fn new(adaptation: Adaptation) -> Self {
        let rates = (0..=SLOW_LIMITS * u16::from(adaptation.limit)).map(rate).collect();
        AdaptiveModel {
            nodes: vec![[CHANCE_START, CHANCE_START, 0]; 256 << adaptation.context_bits],
            rates,
            adaptation,
        }
    }

    /// Takes a byte down the tree that `context` chooses. `decide` is told the chance of a one in 1/4096 at each node, and tells
    /// the bit.
    #[expect(
        clippy::arithmetic_side_effects,
        clippy::cast_possible_truncation,
        clippy::indexing_slicing,
        reason = "there is a node for each prefix and a rate for each count; chances stay between 0 and 65535"
    )]
    pub fn byte(&mut self, context: u8, mut decide: impl FnMut(u32) -> bool) -> u8 {
        let Adaptation { limit, context_bits, .. } = self.adaptation;
        let tree = (usize::from(context) << context_bits >> CONTEXT_BITS_MAX) << 8;
        let mut place = 1;
        while place < 256 {
            let [fast, slow, count] = &mut self.nodes[tree | place];
            let bit = decide(mean(*fast, *slow).max(1));
            let learn = |chance: &mut u16, count: u16| *chance = moved(*chance, bit, self.rates[usize::from(count)]);
            learn(fast, (*count).min(limit.into()));
            learn(slow, *count);
            *count = (*count + 1).min(SLOW_LIMITS * u16::from(limit));
            place = place << 1 | usize::from(bit);
        }
        place as u8
    }
}

/// How far a chance moves after so many decisions, in 1/32768.
#[expect(clippy::arithmetic_side_effects, reason = "counts have 16 bits")]
pub(super) const fn rate(count: u16) -> i32 {
    (1 << 16) / (2 * count as i32 + 3)
}

/// The chance of a one in 1/4096, which may be 0, of a fast and a slow one in 1/65536.
#[inline]
#[expect(clippy::arithmetic_side_effects, reason = "chances have 16 bits")]
pub(super) fn mean(fast: u16, slow: u16) -> u32 {
    (u32::from(fast) + u32::from(slow)) >> (17 - PRECISION)
}

/// A chance that has seen a bit.
#[inline]
#[expect(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    reason = "rates are below 1, so that chances stay between 0 and 65535"
)]
pub(super) fn moved(chance: u16, bit: bool, rate: i32) -> u16 {
    let gap = i32::from(bit) * CHANCE_TARGET - i32::from(chance);
    (i32::from(chance) + ((gap * rate) >> RATE_BITS)) as u16
}

/// Decodes the data of a plane of mode adaptive, or guided if there is a guide.
#[expect(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "as many bytes as the plane has; chances are between 1 and 4095"
)]
pub(super) fn decode_adaptive(payload: &mut &[u8], plane: &mut [u8], guide: Option<&Guide>) -> Result<()> {
    let [limit, distance, context_bits] = take_array(payload, "adaptive")?;
    let mut state = u32::from_le_bytes(take_array(payload, "state")?);
    if limit == 0 || (distance == 0 && guide.is_none()) || context_bits > CONTEXT_BITS_MAX || state < STATE_START {
        return Err(invalid());
    }
    let mut model = AdaptiveModel::new(Adaptation { limit, distance, context_bits });
    for at in 0..plane.len() {
        plane[at] = model.byte(context(plane, at, distance, guide), |chance| {
            let slot = state % TOTAL;
            let bit = slot < chance;
            let frequency = select_unpredictable(bit, chance, TOTAL - chance);
            let within = select_unpredictable(bit, slot, slot.wrapping_sub(chance));
            state = frequency * (state >> PRECISION) + within;
            if state < STATE_START {
                // Once the words run out, the state stays 0, which is not the one at the end.
                state = take_array(payload, "words")
                    .map_or(0, |word| state << WORD_BITS | u32::from(u16::from_le_bytes(word)));
            }
            bit
        });
    }
    if state == STATE_START { Ok(()) } else { Err(invalid()) }
}

fn invalid() -> Error {
    Error::invalid("adaptive", "its parameters or states break a rule")
}

#[cfg(all(test, feature = "encoder"))]
mod tests {
    use proptest::prelude::*;

    use super::super::{adaptive_plane, decode_plane, decode_planes};
    use super::*;
    use crate::format::{MODE_ADAPTIVE, MODE_GUIDED};

    fn adaptations() -> impl Strategy<Value = Adaptation> {
        (1..=255u8, 1..=255u8, 0..=8u8).prop_map(|(limit, distance, context_bits)| Adaptation {
            limit,
            distance,
            context_bits,
        })
    }

    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..3000),
            proptest::collection::vec(prop_oneof![60 => Just(7u8), 1 => any::<u8>()], 0..20000),
        ]
    }

    /// Records of five bytes, of which a plane holds two; some references end early.
    const GUIDE: Guide = Guide { reference: &[], record_bytes: 5, offset: 1, field: 2 };

    proptest! {
        #[test]
        fn decoding_inverts_encoding_and_reads_no_further(
            plane in bytes(),
            adaptation in adaptations(),
            reference in proptest::option::of(bytes()),
        ) {
            let guide = reference.as_ref().map(|reference| Guide { reference, ..GUIDE });
            let coded = adaptive_plane(&plane, adaptation, guide.as_ref());
            prop_assert_eq!(coded[0], if guide.is_some() { MODE_GUIDED } else { MODE_ADAPTIVE });
            let followed = [&coded[1..], &[1, 2, 3]].concat();
            let (mut rest, mut decoded) = (&followed[..], vec![0; plane.len()]);
            decode_adaptive(&mut rest, &mut decoded, guide.as_ref()).unwrap();
            prop_assert_eq!(decoded, plane);
            prop_assert_eq!(rest, [1, 2, 3]);
        }

        #[test]
        fn a_payload_cut_short_is_an_error(
            plane in bytes(),
            adaptation in adaptations(),
            reference in proptest::option::of(bytes()),
            cut in 1usize..9,
        ) {
            let guide = reference.as_ref().map(|reference| Guide { reference, ..GUIDE });
            let coded = adaptive_plane(&plane, adaptation, guide.as_ref());
            let mut rest = &coded[..coded.len() - cut.min(coded.len() - 1)];
            prop_assert!(decode_plane(&mut rest, &mut vec![0; plane.len()], guide.as_ref()).is_err());
        }

        #[test]
        fn any_bytes_decode_or_are_an_error(
            mut payload in proptest::collection::vec(any::<u8>(), 8..300),
            guided: bool,
            reference in bytes(),
            len in 0usize..3000,
        ) {
            payload[0] = if guided { MODE_GUIDED } else { MODE_ADAPTIVE };
            payload[3] %= 9;
            let guide = Guide { reference: &reference, ..GUIDE };
            let _ = decode_plane(&mut &payload[..], &mut vec![0; len], Some(&guide));
        }
    }

    #[test]
    fn planes_of_several_parts_come_back() {
        let plane: Vec<u8> = (0..100_000u32).map(|at| (at.wrapping_mul(at) >> 9) as u8).collect();
        for context_bits in [0, 8] {
            let coded = adaptive_plane(&plane, Adaptation { limit: 31, distance: 1, context_bits }, None);
            let mut decoded = vec![0; plane.len()];
            decode_planes(&coded, plane.len(), &mut decoded).unwrap();
            assert!(decoded == plane, "{context_bits}");
        }
    }

    #[test]
    fn parameters_out_of_range_are_invalid() {
        let coded = adaptive_plane(&[1, 2, 3], Adaptation { limit: 1, distance: 1, context_bits: 8 }, None);
        let code = |index: usize, value: u8| {
            let mut coded = coded.clone();
            coded[index] = value;
            decode_planes(&coded, 3, &mut [0; 3]).map_or_else(|error| error.code(), |()| "ok")
        };
        assert_eq!(code(1, 1), "ok");
        // The limit, the distance, the bits; a state below 2^16; a state that does not end where it should.
        assert_eq!(
            [(1, 0), (2, 0), (3, 9), (4, coded[4] ^ 1)].map(|(index, value)| code(index, value)),
            ["invalid"; 4]
        );
        let low_state = [&coded[..4], &[255, 255, 0, 0], &coded[8..]].concat();
        assert!(decode_planes(&low_state, 3, &mut [0; 3]).is_err());
    }

    #[test]
    fn a_guide_may_point_at_a_bytes_own_place_and_is_needed() {
        let plane = [1, 2, 3, 4];
        let guide = Guide { reference: &[0, 5, 6, 0, 0, 0, 7], ..GUIDE };
        let coded = adaptive_plane(&plane, Adaptation { limit: 1, distance: 0, context_bits: 8 }, Some(&guide));
        let mut decoded = [0; 4];
        decode_plane(&mut &coded[..], &mut decoded, Some(&guide)).unwrap();
        assert_eq!(decoded, plane);
        assert_eq!(decode_planes(&coded, 4, &mut decoded).unwrap_err().code(), "invalid");
    }

    #[test]
    fn a_guide_looks_ahead_from_each_bytes_own_place() {
        let reference: Vec<u8> = (0..12).collect();
        let guide = Guide { reference: &reference, ..GUIDE };
        let ahead = |distance| [0, 1, 2, 3, 4].map(|at| guide.byte(at, distance));
        assert_eq!([ahead(0), ahead(1), ahead(5)], [[1, 2, 6, 7, 11], [2, 3, 7, 8, 0], [6, 7, 11, 0, 0]]);
    }

    #[test]
    fn chances_follow_the_page() {
        let mut model = AdaptiveModel::new(Adaptation { limit: 1, distance: 1, context_bits: 0 });
        let mut first_chances = Vec::new();
        for _ in 0..4 {
            let mut chances = Vec::new();
            model.byte(0, |chance| {
                chances.push(chance);
                true
            });
            first_chances.push(chances[0]);
        }
        // What they lack of 65535 falls by 2/3, by 2/5, and then by 2/5 of the fast half's and 2/7 of the slow one's.
        let expected = [(32768, 32768), (54612, 54612), (58981, 58981), (61602, 60853)];
        assert_eq!(first_chances, expected.map(|(fast, slow): (u32, u32)| (fast + slow) >> 5));
    }
}
