//! Decisions -> words, the last decision first: those of constriction's `AnsCoder<u16, u32>`, with multiplications in place of divisions.

use super::learner::Decision;
use crate::format::{PRECISION, STATE_START, TOTAL, WORD_BITS};

/// Codes decisions.
pub struct DecisionCoder {
    state: u32,
    words: Vec<u16>,
}

impl Default for DecisionCoder {
    fn default() -> Self {
        DecisionCoder { state: STATE_START, words: Vec::new() }
    }
}

impl DecisionCoder {
    /// Codes one more decision, to be decoded before all others.
    #[inline]
    pub fn push(&mut self, decision: Decision) {
        let chance = u32::from(decision.chance());
        let (cumulative, frequency) = if decision.bit() { (0, chance) } else { (chance, TOTAL - chance) };
        let mut state = self.state;
        if state >> (u32::BITS - PRECISION) >= frequency {
            self.words.push(state as u16);
            state >>= WORD_BITS;
        }
        let quotient = (u64::from(state) * RECIPROCALS[frequency as usize]) >> RECIPROCAL_BITS;
        self.state = state + cumulative + quotient as u32 * (TOTAL - frequency);
    }

    /// The last state, and the words, the last to be decoded first.
    pub fn finish(self) -> (u32, Vec<u16>) {
        (self.state, self.words)
    }
}

/// States are below 2^20 times the frequency that divides them. Its reciprocal, rounded up, is too large by less than one part in 2^44,
/// and frequencies are below 2^12: so quotients are exact, and products stay below 2^64.
const RECIPROCAL_BITS: u32 = 44;

/// Of each frequency, its reciprocal in 2^-44.
static RECIPROCALS: [u64; TOTAL as usize] = {
    let mut reciprocals = [0; TOTAL as usize];
    let mut frequency = 1;
    while frequency < TOTAL as usize {
        reciprocals[frequency] = (1u64 << RECIPROCAL_BITS).div_ceil(frequency as u64);
        frequency += 1;
    }
    reciprocals
};

#[cfg(test)]
mod tests {
    use std::borrow::Borrow;
    use std::num::NonZeroU16;

    use constriction::stream::model::{EncoderModel, EntropyModel};
    use constriction::stream::stack::SmallAnsCoder;
    use constriction::stream::{Code, Encode};

    use super::*;
    use crate::noise::Noise;

    impl EntropyModel<{ PRECISION as usize }> for Decision {
        type Symbol = bool;
        type Probability = u16;
    }

    impl EncoderModel<{ PRECISION as usize }> for Decision {
        fn left_cumulative_and_probability(&self, bit: impl Borrow<bool>) -> Option<(u16, NonZeroU16)> {
            let chance = self.chance();
            let (cumulative, frequency) = if *bit.borrow() { (0, chance) } else { (chance, TOTAL as u16 - chance) };
            Some((cumulative, NonZeroU16::new(frequency)?))
        }
    }

    #[test]
    fn words_are_those_of_constriction() {
        let all: Vec<Decision> = Decision::all().collect();
        let mut random = Noise(8);
        let mut coder = DecisionCoder::default();
        let mut expected = SmallAnsCoder::from_raw_parts(Vec::new(), STATE_START);
        for _ in 0..1_000_000 {
            let decision = all[random.below(all.len())];
            coder.push(decision);
            expected.encode_symbol(decision.bit(), decision).unwrap();
            assert_eq!(coder.state, expected.state());
        }
        assert_eq!(coder.finish().1, expected.into_raw_parts().0);
    }

    #[test]
    fn quotients_are_exact_up_to_the_largest_state() {
        for (frequency, &reciprocal) in RECIPROCALS.iter().enumerate().skip(1) {
            let end = (frequency as u64) << (u32::BITS - PRECISION);
            for state in [end - 1, end - frequency as u64, end - frequency as u64 - 1, u64::from(STATE_START)] {
                assert_eq!((state * reciprocal) >> RECIPROCAL_BITS, state / frequency as u64);
            }
        }
    }
}
