// Levels -> weights and their bits (twin of quantize.rs, FORMAT.md, section 5.1).
//
// One float multiplication; the scale is looked up and every cast is integer arithmetic. Scales lie in 2^-100 to 2^100 and
// levels below 2^24, so that no product is subnormal, infinite or NaN: the values that WGSL lets a device change.

// S(e) of a coded row, column and tap.
fn scale_at(row: u32, column: u32, tap: u32) -> f32 {
    let e = exponent(frame.row_exponent_at, row)
        + exponent(frame.column_exponent_at, column)
        + exponent(frame.tap_exponent_at, tap);
    return bitcast<f32>(side[u32(e - frame.first_exponent)]);
}

fn exponent(array_at: u32, index: u32) -> i32 {
    if array_at == ABSENT {
        return 0;
    }
    return extractBits(bitcast<i32>(side[array_at + index / 4u]), index % 4u * 8u, 8u);
}

fn dequantize(level: i32, scale: f32) -> f32 {
    return f32(level) * scale;
}

fn to_f16(weight: f32) -> u32 {
    let bits = bitcast<u32>(weight);
    let sign = (bits >> 16u) & 0x8000u;
    let magnitude = bits & 0x7fffffffu;
    if magnitude >= 113u << 23u {
        return sign | min(round_shift(magnitude - (112u << 23u), 13u), 0x7bffu);
    }
    // Subnormal in f16: shift the whole significand so that its unit is 2^-24.
    let shift = 126u - (magnitude >> 23u);
    if shift > 24u {
        return sign;
    }
    return sign | round_shift((magnitude & 0x7fffffu) | 0x800000u, shift);
}

// The value of an f16 that is finite.
fn from_f16(half: u32) -> f32 {
    let sign = (half & 0x8000u) << 16u;
    let magnitude = half & 0x7fffu;
    if magnitude < 0x400u {
        // A multiple of 2^-24, which is normal as a float.
        return bitcast<f32>(bitcast<u32>(f32(magnitude) * bitcast<f32>(103u << 23u)) | sign);
    }
    return bitcast<f32>(((magnitude << 13u) + (112u << 23u)) | sign);
}

fn to_bf16(weight: f32) -> u32 {
    let bits = bitcast<u32>(weight);
    return ((bits >> 16u) & 0x8000u) | min(round_shift(bits & 0x7fffffffu, 16u), 0x7f7fu);
}

// The low and the high half of the f64 equal to a normal or zero f32.
fn to_f64(weight: f32) -> vec2<u32> {
    let bits = bitcast<u32>(weight);
    let magnitude = bits & 0x7fffffffu;
    let rebiased = select(0u, (magnitude >> 3u) + (896u << 20u), magnitude != 0u);
    return vec2(magnitude << 29u, (bits & 0x80000000u) | rebiased);
}

// value / 2^shift, ties to even; shift from 1 to 24.
fn round_shift(value: u32, shift: u32) -> u32 {
    let half_less_one = (1u << (shift - 1u)) - 1u;
    return (value + half_less_one + ((value >> shift) & 1u)) >> shift;
}
