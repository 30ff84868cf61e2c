// Index of a quantizer -> level, and the next state (twin of trellis.rs, FORMAT.md, section 5.2).

// The next states of states 0 to 3, and of 4 to 7: three bits each, of even and odd indices in turn.
const NEXT_LOW: u32 = 0x999f50;
const NEXT_HIGH: u32 = 0xbcbd02;

// `trellis` is 1, or 0 without one: then there is but quantizer 0.
fn trellis_level(index: i32, trellis: u32, quantizer: u32) -> i32 {
    return (index << trellis) - i32(quantizer) * sign(index);
}

fn next_trellis_state(state: u32, index: i32) -> u32 {
    let branch = 2u * (state & 3u) + (bitcast<u32>(index) & 1u);
    return extractBits(select(NEXT_LOW, NEXT_HIGH, state > 3u), 3u * branch, 3u);
}
