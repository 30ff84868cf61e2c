//! Known bytes -> their decisions down an adaptive model's trees: the encoder's fast twin of `AdaptiveModel`.
//!
//! Who knows a byte knows its eight nodes at once, and no decision waits for the one above. A node is one load and one store, and its
//! two rates are one load.

use crate::entropy::adaptive::{Adaptation, mean, moved, rate};
use crate::format::{CHANCE_START, CONTEXT_BITS_MAX, PRECISION, SLOW_LIMITS, TOTAL};

/// A bit and the chance of a one, in 1/4096: bit 12, and those below.
#[derive(Clone, Copy, Debug, Default)]
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
static RATES: [u16; SLOW_LIMITS as usize * 256] = {
    let mut rates = [0; SLOW_LIMITS as usize * 256];
    let mut count = 0;
    while count < rates.len() {
        rates[count] = rate(count as u16) as u16;
        count += 1;
    }
    rates
};

/// Trees of chances, and how fast they learn.
#[derive(Clone)]
pub struct Learner {
    /// Of each inner node: a fast and a slow chance of a one, in 1/65536, the decisions so far, and nothing.
    nodes: Vec<[u16; 4]>,
    /// By the decisions so far: how far the fast and the slow chance move, the decisions after the next, and nothing.
    rates: Vec<[u16; 4]>,
    context_bits: u8,
}

impl Learner {
    /// The model before the first byte.
    pub fn new(adaptation: Adaptation) -> Self {
        let Adaptation { limit, context_bits, .. } = adaptation;
        let count_max = SLOW_LIMITS * u16::from(limit);
        let rates = |count: u16| {
            let [fast, slow] = [count.min(limit.into()), count].map(|count| RATES[usize::from(count)]);
            [fast, slow, (count + 1).min(count_max), 0]
        };
        Learner {
            nodes: vec![[CHANCE_START, CHANCE_START, 0, 0]; 256 << context_bits],
            rates: (0..=count_max).map(rates).collect(),
            context_bits,
        }
    }

    /// Takes a byte down the tree that `context` chooses; `decided` is told each decision.
    #[inline]
    pub fn learn(&mut self, byte: u8, context: u8, mut decided: impl FnMut(Decision)) {
        let tree = (usize::from(context) << self.context_bits >> CONTEXT_BITS_MAX) << 8;
        let nodes = self.nodes[tree..].first_chunk_mut::<256>().expect("every tree has its nodes");
        for depth in (0..8).rev() {
            let node = &mut nodes[(256 | usize::from(byte)) >> (depth + 1)];
            let [fast, slow, count, _] = *node;
            let bit = byte >> depth & 1 == 1;
            decided(Decision(u16::from(bit) << PRECISION | mean(fast, slow) as u16));
            let [fast_rate, slow_rate, count, _] = self.rates[usize::from(count)];
            *node = [moved(fast, bit, fast_rate.into()), moved(slow, bit, slow_rate.into()), count, 0];
        }
    }
}
