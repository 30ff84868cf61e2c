//! Known bytes -> their decisions down an adaptive model's trees: the encoder's fast twin of `AdaptiveModel`.
//!
//! Who knows a byte knows its eight nodes at once, and no decision waits for the one above. A node is one load and one store, and its
//! two rates are one load.

use crate::entropy::adaptive::{Adaptation, mean, moved, rate};
use crate::format::{CHANCE_START, CONTEXT_BITS_MAX, PRECISION, SLOW_LIMITS, TOTAL};

/// A bit and the chance of a one, in 1/4096: bit 12, and those below.
#[derive(Clone, Copy, Debug)]
pub struct Decision(u16);

impl Decision {
    /// All of them, by their [index](Self::index).
    pub fn all() -> impl Iterator<Item = Self> {
        (0..2 << PRECISION).map(Decision)
    }

    /// The bit and the chance as one number.
    pub fn index(self) -> usize {
        self.0.into()
    }

    /// The bit.
    pub fn bit(self) -> bool {
        self.0 >> PRECISION == 1
    }

    /// The chance of a one; never 0.
    pub fn chance(self) -> u16 {
        (self.0 % TOTAL as u16).max(1)
    }
}

/// How far a chance moves after so many decisions, in 1/32768.
static RATES: [i32; SLOW_LIMITS as usize * 256] = {
    let mut rates = [0; SLOW_LIMITS as usize * 256];
    let mut count = 0;
    while count < rates.len() {
        rates[count] = rate(count as u16);
        count += 1;
    }
    rates
};

/// Trees of chances, and how fast they learn.
#[derive(Clone)]
pub struct Learner {
    /// Of each inner node: a fast and a slow chance of a one, in 1/65536, the decisions so far, and nothing.
    nodes: Vec<[u16; 4]>,
    /// By the decisions so far: how far the fast and the slow chance move.
    rates: Vec<[i32; 2]>,
    adaptation: Adaptation,
}

impl Learner {
    /// The model before the first byte.
    pub fn new(adaptation: Adaptation) -> Self {
        let limit = usize::from(adaptation.limit);
        let rates =
            (0..=usize::from(SLOW_LIMITS) * limit).map(|count| [RATES[count.min(limit)], RATES[count]]).collect();
        let nodes = vec![[CHANCE_START, CHANCE_START, 0, 0]; 256 << adaptation.context_bits];
        Learner { nodes, rates, adaptation }
    }

    /// Takes a byte down the tree that `context` chooses; `decided` is told each decision.
    #[inline]
    pub fn learn(&mut self, byte: u8, context: u8, mut decided: impl FnMut(Decision)) {
        let Adaptation { limit, context_bits, .. } = self.adaptation;
        let tree = (usize::from(context) << context_bits >> CONTEXT_BITS_MAX) << 8;
        let nodes = self.nodes[tree..].first_chunk_mut::<256>().expect("every tree has its nodes");
        for depth in (0..8).rev() {
            let node = &mut nodes[(256 | usize::from(byte)) >> (depth + 1)];
            let [fast, slow, count, _] = *node;
            let bit = byte >> depth & 1 == 1;
            decided(Decision(u16::from(bit) << PRECISION | mean(fast, slow) as u16));
            let [fast_rate, slow_rate] = self.rates[usize::from(count)];
            let count = (count + 1).min(SLOW_LIMITS * u16::from(limit));
            *node = [moved(fast, bit, fast_rate), moved(slow, bit, slow_rate), count, 0];
        }
    }
}
