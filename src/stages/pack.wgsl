// Packed levels -> levels (twin of pack.rs): 8, 16 or 32 bits each in two's complement, little-endian.

fn unpack_level(index: u32) -> i32 {
    let per_word = 32u / frame.level_bits;
    let word = bitcast<i32>(levels[index / per_word]);
    return extractBits(word, index % per_word * frame.level_bits, frame.level_bits);
}
