// Residuals of a predicted frame -> its levels, in place (FORMAT.md, section 5.5).
//
// Both frames' levels are in one buffer. Frames follow their references, one dispatch each.

const LEVEL_END: i32 = 1 << 24;
const OUT_OF_RANGE: u32 = 0x10000;

struct PredictedFrame {
    level_at: u32,
    level_len: u32,
    row_len: u32,
    reference_at: u32,
    // Levels of the reference; the prediction of others is 0.
    reference_len: u32,
    // Its first chunk's status.
    status_at: u32,
    chunk_len: u32,
    // Chunks that make up a row, if they are parts of rows, else 0.
    row_chunks: u32,
}

@group(0) @binding(0) var<uniform> predicted: PredictedFrame;
// In 1/256, of each row; or one for all.
@group(0) @binding(1) var<storage, read> gains: array<i32>;

@compute @workgroup_size(64)
fn add_predictions(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let index = id.y * workgroups.x * 64u + id.x;
    if index >= min(predicted.level_len, predicted.reference_len) {
        return;
    }
    let row = index / predicted.row_len;
    let added = prediction(levels[predicted.reference_at + index], gains[min(row, arrayLength(&gains) - 1u)]);
    let level = levels[predicted.level_at + index] + added;
    levels[predicted.level_at + index] = level;
    if !is_level(added) || !is_level(level) {
        atomicOr(&status[predicted.status_at + chunk_of(row, index)], OUT_OF_RANGE);
    }
}

fn is_level(value: i32) -> bool {
    return -LEVEL_END < value && value < LEVEL_END;
}

fn chunk_of(row: u32, index: u32) -> u32 {
    if predicted.row_chunks > 0u {
        return row * predicted.row_chunks + index % predicted.row_len / predicted.chunk_len;
    }
    return index / predicted.chunk_len;
}
