//! Adaptive payload -> bytes (FORMAT.md, section 6.2).
//!
//! Each byte is eight decisions down a tree, whose chances the bytes before it have taught: no table travels.

use std::hint::select_unpredictable;

use super::lanes::START;
use super::{PRECISION, TOTAL, take_array};
use crate::error::{Error, Result};

/// How a plane is modelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adaptation {
    /// Decisions after which a chance learns no slower; its slow half takes eight times as many.
    pub limit: u8,
    /// How far back the byte is that chooses the tree.
    pub distance: u8,
    /// How many of that byte's high bits choose.
    pub context_bits: u8,
}

/// Trees of chances.
pub struct Model {
    /// Of each inner node: a fast and a slow chance of a one, in 1/65536, and the decisions so far.
    nodes: Vec<[u16; 3]>,
    /// By the decisions so far, in 1/32768: how far a chance moves.
    rates: Vec<i32>,
    adaptation: Adaptation,
}

impl Model {
    /// The model before the first byte.
    pub fn new(adaptation: Adaptation) -> Self {
        let rates = (0..=8 * i32::from(adaptation.limit)).map(|count| (1 << 16) / (2 * count + 3)).collect();
        Model { nodes: vec![[1 << 15, 1 << 15, 0]; 256 << adaptation.context_bits], rates, adaptation }
    }

    /// Takes byte `at` of `plane` down its tree. `decide` is told the chance of a one in 1/4096 at each node, and tells the bit.
    pub fn byte(&mut self, plane: &[u8], at: usize, mut decide: impl FnMut(u32) -> bool) -> u8 {
        let Adaptation { limit, distance, context_bits } = self.adaptation;
        let back = at.checked_sub(distance.into()).map_or(0, |back| plane[back]);
        let tree = (usize::from(back) << context_bits >> 8) << 8;
        let mut place = 1;
        while place < 256 {
            let [fast, slow, count] = &mut self.nodes[tree | place];
            let chance = (u32::from(*fast) + u32::from(*slow)) >> (17 - PRECISION);
            let bit = decide(chance.max(1));
            let target = i32::from(bit) * 65535;
            let learn = |chance: &mut u16, count: u16| {
                let gap = target - i32::from(*chance);
                *chance = (i32::from(*chance) + ((gap * self.rates[usize::from(count)]) >> 15)) as u16;
            };
            learn(fast, (*count).min(limit.into()));
            learn(slow, *count);
            *count = (*count + 1).min(8 * u16::from(limit));
            place = place << 1 | usize::from(bit);
        }
        place as u8
    }

    /// Takes byte `at` of `plane`, which is known, down its tree: `code` is told each bit, and the chance of a one.
    #[cfg(feature = "encoder")]
    pub fn encode_byte(&mut self, plane: &[u8], at: usize, mut code: impl FnMut(bool, u32)) {
        let mut bits = (0..8).rev().map(|bit| plane[at] >> bit & 1 == 1);
        let decide = |chance| {
            let bit = bits.next().unwrap_or(false);
            code(bit, chance);
            bit
        };
        self.byte(plane, at, decide);
    }
}

/// Decodes the data of a plane of mode adaptive.
pub(super) fn decode_adaptive(payload: &mut &[u8], plane: &mut [u8]) -> Result<()> {
    let [limit, distance, context_bits] = take_array(payload, "adaptive")?;
    let mut state = u32::from_le_bytes(take_array(payload, "state")?);
    if limit == 0 || distance == 0 || context_bits > 8 || state < START {
        return Err(invalid());
    }
    let mut model = Model::new(Adaptation { limit, distance, context_bits });
    for at in 0..plane.len() {
        plane[at] = model.byte(plane, at, |chance| {
            let slot = state % TOTAL;
            let bit = slot < chance;
            let frequency = select_unpredictable(bit, chance, TOTAL - chance);
            let within = select_unpredictable(bit, slot, slot.wrapping_sub(chance));
            state = frequency * (state >> PRECISION) + within;
            if state < START {
                // Once the words run out, the state stays 0, which is not the one at the end.
                state =
                    take_array(payload, "words").map_or(0, |word| state << 16 | u32::from(u16::from_le_bytes(word)));
            }
            bit
        });
    }
    if state == START { Ok(()) } else { Err(invalid()) }
}

fn invalid() -> Error {
    Error::invalid("adaptive", "its parameters or states break a rule")
}

#[cfg(all(test, feature = "encoder"))]
mod tests {
    use proptest::prelude::*;

    use super::super::{MODE_ADAPTIVE, adaptive_plane, decode_planes};
    use super::*;

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

    proptest! {
        #[test]
        fn decoding_inverts_encoding_and_reads_no_further(plane in bytes(), adaptation in adaptations()) {
            let coded = adaptive_plane(&plane, adaptation);
            prop_assert_eq!(coded[0], MODE_ADAPTIVE);
            let followed = [&coded[1..], &[1, 2, 3]].concat();
            let (mut rest, mut decoded) = (&followed[..], vec![0; plane.len()]);
            decode_adaptive(&mut rest, &mut decoded).unwrap();
            prop_assert_eq!(decoded, plane);
            prop_assert_eq!(rest, [1, 2, 3]);
        }

        #[test]
        fn a_payload_cut_short_is_an_error(plane in bytes(), adaptation in adaptations(), cut in 1usize..9) {
            let coded = adaptive_plane(&plane, adaptation);
            let len = coded.len() - cut.min(coded.len() - 1);
            prop_assert!(decode_planes(&coded[..len], plane.len(), &mut vec![0; plane.len()]).is_err() || plane.is_empty());
        }

        #[test]
        fn any_bytes_decode_or_are_an_error(mut payload in proptest::collection::vec(any::<u8>(), 8..300), len in 0usize..3000) {
            payload[0] = MODE_ADAPTIVE;
            payload[3] %= 9;
            let _ = decode_planes(&payload, len, &mut vec![0; len]);
        }
    }

    #[test]
    fn parameters_out_of_range_are_invalid() {
        let coded = adaptive_plane(&[1, 2, 3], Adaptation { limit: 1, distance: 1, context_bits: 8 });
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
    fn chances_follow_the_page() {
        let mut model = Model::new(Adaptation { limit: 1, distance: 1, context_bits: 0 });
        let mut first_chances = Vec::new();
        for _ in 0..4 {
            let mut chances = Vec::new();
            model.byte(&[0], 0, |chance| {
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
