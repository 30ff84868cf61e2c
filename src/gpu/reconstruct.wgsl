// Levels of a frame -> elements of its tensor: the WGSL stages composed (twin of LevelFrame::reconstruct).
//
// Each invocation makes one 32-bit word of the tensor: half an f64, one f32, two 16-bit or four 8-bit elements.

const ABSENT: u32 = 0xffffffff;

const CAST_F32: u32 = 0;
const CAST_F16: u32 = 1;
const CAST_BF16: u32 = 2;
const CAST_F64: u32 = 3;
const CAST_INTEGER_8: u32 = 4;
const CAST_INTEGER_16: u32 = 5;

const VALUE_WEIGHT: u32 = 0;
const VALUE_F16: u32 = 1;
const VALUE_BF16: u32 = 2;
const VALUE_SIGNED: u32 = 3;
const VALUE_UNSIGNED: u32 = 4;

struct LevelFrame {
    element_len: u32,
    row_len: u32,
    // Elements of a column if the tensor is the transpose of the matrix, else 0.
    column_len: u32,
    taps: u32,
    // The frame's first level.
    level_at: u32,
    // What the tensor's elements are to be, and which values they are to have: those of the archive's type.
    element_cast: u32,
    value: u32,
    integer_bits: u32,
    zero_point: i32,
    first_exponent: i32,
    // Where each side array starts, in words of `side`, or ABSENT. The scales start at 0.
    row_exponent_at: u32,
    column_exponent_at: u32,
    tap_exponent_at: u32,
    row_inverse_at: u32,
    column_inverse_at: u32,
    basis_at: u32,
}

@group(0) @binding(0) var<uniform> frame: LevelFrame;
@group(0) @binding(1) var<storage, read> side: array<u32>;
@group(0) @binding(2) var<storage, read_write> tensor: array<u32>;
// `levels`, read only: so tensors need not wait for each other.
@group(0) @binding(5) var<storage, read> all_levels: array<i32>;

@compute @workgroup_size(256)
fn reconstruct(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let word = id.y * workgroups.x * 256u + id.x;
    if word >= arrayLength(&tensor) {
        return;
    }
    switch frame.element_cast {
        case CAST_F64: {
            tensor[word] = to_f64(weight(word / 2u))[word % 2u];
        }
        case CAST_F16: {
            tensor[word] = to_f16(value(word * 2u)) | (to_f16(value(word * 2u + 1u)) << 16u);
        }
        case CAST_BF16: {
            tensor[word] = to_bf16(weight(word * 2u)) | (to_bf16(weight(word * 2u + 1u)) << 16u);
        }
        case CAST_INTEGER_8: {
            tensor[word] = integers(word * 4u, 8u);
        }
        case CAST_INTEGER_16: {
            tensor[word] = integers(word * 2u, 16u);
        }
        default: {
            tensor[word] = bitcast<u32>(value(word));
        }
    }
}

// What the archive's type makes of a weight, or its integer; 0 in the padding after the last.
fn value(element: u32) -> f32 {
    switch frame.value {
        case VALUE_F16: {
            return from_f16(to_f16(weight(element)));
        }
        case VALUE_BF16: {
            return bitcast<f32>(to_bf16(weight(element)) << 16u);
        }
        case VALUE_SIGNED: {
            return f32(extractBits(integer(element), 0u, frame.integer_bits));
        }
        case VALUE_UNSIGNED: {
            return f32(extractBits(bitcast<u32>(integer(element)), 0u, frame.integer_bits));
        }
        default: {
            return weight(element);
        }
    }
}

// The weight of an element; 0 in the padding after the last.
fn weight(element: u32) -> f32 {
    if element >= frame.element_len {
        return 0.0;
    }
    let place = coded_place(element);
    let column = place.y / frame.taps;
    let tap = place.y % frame.taps;
    if frame.basis_at == ABSENT {
        return scaled(place.x, column, tap);
    }
    return inverse(place.x, column, tap);
}

// A level times its scale: a weight, or a coefficient of a transform.
fn scaled(row: u32, column: u32, tap: u32) -> f32 {
    return dequantize(level_at(vec2(row, column * frame.taps + tap)), scale_at(row, column, tap));
}

// A word of integers, from `first` on.
fn integers(first: u32, bits: u32) -> u32 {
    var word = 0u;
    for (var i = 0u; i < 32u / bits; i++) {
        word = insertBits(word, bitcast<u32>(integer(first + i)), i * bits, bits);
    }
    return word;
}

// The integer of an element; 0 in the padding after the last.
fn integer(element: u32) -> i32 {
    if element >= frame.element_len {
        return 0;
    }
    return level_at(coded_place(element)) + frame.zero_point;
}

fn level_at(place: vec2<u32>) -> i32 {
    return all_levels[frame.level_at + place.x * frame.row_len + place.y];
}
