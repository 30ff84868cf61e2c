// Packed levels of a frame -> bytes of its tensor: the WGSL stages composed (twin of LevelFrame::reconstruct).
//
// Compiled together with stages/pack.wgsl, permute.wgsl and quantize.wgsl. Each invocation makes one 32-bit word of the
// tensor: half an f64, one f32, two 16-bit or four 8-bit elements.

const ABSENT: u32 = 0xffffffff;

const CAST_F32: u32 = 0;
const CAST_F16: u32 = 1;
const CAST_BF16: u32 = 2;
const CAST_F64: u32 = 3;
const CAST_INTEGER_8: u32 = 4;
const CAST_INTEGER_16: u32 = 5;

struct LevelFrame {
    element_len: u32,
    row_len: u32,
    // Elements of a column if the tensor is the transpose of the matrix, else 0.
    column_len: u32,
    taps: u32,
    level_bits: u32,
    element_cast: u32,
    zero_point: i32,
    first_exponent: i32,
    // Invocations in one row of the dispatch.
    dispatch_len: u32,
    // Where each side array starts, in words of `side`, or ABSENT. The scales start at 0.
    row_exponent_at: u32,
    column_exponent_at: u32,
    tap_exponent_at: u32,
    row_inverse_at: u32,
    column_inverse_at: u32,
}

@group(0) @binding(0) var<uniform> frame: LevelFrame;
@group(0) @binding(1) var<storage, read> levels: array<u32>;
@group(0) @binding(2) var<storage, read> side: array<u32>;
@group(0) @binding(3) var<storage, read_write> tensor: array<u32>;

@compute @workgroup_size(64)
fn reconstruct(@builtin(global_invocation_id) id: vec3<u32>) {
    let word = id.y * frame.dispatch_len + id.x;
    if word >= arrayLength(&tensor) {
        return;
    }
    switch frame.element_cast {
        case CAST_F64: {
            tensor[word] = to_f64(weight(word / 2u))[word % 2u];
        }
        case CAST_F16: {
            tensor[word] = to_f16(weight(word * 2u)) | (to_f16(weight(word * 2u + 1u)) << 16u);
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
            tensor[word] = bitcast<u32>(weight(word));
        }
    }
}

// The weight of an element; 0 in the padding after the last.
fn weight(element: u32) -> f32 {
    if element >= frame.element_len {
        return 0.0;
    }
    let place = coded_place(element);
    return dequantize(level_at(place), scale_at(place.x, place.y));
}

// A word of integers, from `first` on.
fn integers(first: u32, bits: u32) -> u32 {
    var word = 0u;
    for (var i = 0u; i < 32u / bits; i++) {
        if first + i < frame.element_len {
            let integer = bitcast<u32>(level_at(coded_place(first + i)) + frame.zero_point);
            word = insertBits(word, integer, i * bits, bits);
        }
    }
    return word;
}

fn level_at(place: vec2<u32>) -> i32 {
    return unpack_level(place.x * frame.row_len + place.y);
}
