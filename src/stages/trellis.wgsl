// Index of a quantizer -> level, and the next state (twin of trellis.rs, FORMAT.md, section 5.2).

// The next state of each state after an even index, four bits each; odd ones change its second bit.
const NEXT_STATES: u32 = 0x73426150;

// `trellis` is 1, or 0 without one: then there is but quantizer 0.
fn trellis_level(index: i32, trellis: u32, quantizer: u32) -> i32 {
    return (index << trellis) - (sign(index) & -i32(quantizer));
}

fn next_trellis_state(state: u32, index: i32) -> u32 {
    return ((NEXT_STATES >> (state << 2u)) & 7u) ^ ((bitcast<u32>(index) & 1u) << 1u);
}
