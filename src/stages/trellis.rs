//! The 8-state trellis: which of two quantizers a level belongs to (FORMAT.md, section 5.2).
//!
//! Quantizer 0 has the even multiples of the scale, quantizer 1 the odd ones and zero; the parities of the levels before
//! choose. The entropy loop runs it, because the quantizer also chooses the table of the next symbol.

use crate::format::{TRELLIS_NEXT, TRELLIS_STATES};

/// The quantizer of a state.
pub fn quantizer(state: u8) -> u8 {
    state & 1
}

/// The level, in half steps, of an index of a quantizer.
#[expect(clippy::arithmetic_side_effects, reason = "symbols and indices are far below 2^30")]
pub fn level(index: i32, quantizer: u8) -> i32 {
    2 * index - i32::from(quantizer) * index.signum()
}

/// The state after an index.
#[expect(clippy::indexing_slicing, reason = "a remainder of 8, and one bit")]
pub fn next(state: u8, index: i32) -> u8 {
    TRELLIS_NEXT[usize::from(state) % TRELLIS_STATES][(index & 1) as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_quantizers_share_out_the_integers() {
        let levels = |quantizer| (-5..=5).map(move |index| level(index, quantizer));
        assert!(levels(0).all(|level| level % 2 == 0));
        assert!(levels(1).all(|level| level == 0 || level % 2 != 0));
        let mut all: Vec<i32> = levels(0).chain(levels(1)).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all, [-10, -9, -8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    }

    #[test]
    fn every_state_is_reached_by_two_branches() {
        let mut arrivals = [0; TRELLIS_STATES];
        TRELLIS_NEXT.iter().flatten().for_each(|&state| arrivals[usize::from(state)] += 1);
        assert_eq!(arrivals, [2; TRELLIS_STATES]);
    }
}
