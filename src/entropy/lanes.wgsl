// Words of lanes -> levels (twin of lanes.rs, FORMAT.md, section 7.1): one invocation a lane, which needs no other.
//
// Whoever fills these buffers has proven that each place in them lies inside: of the words too, as a lane reads none past its
// own end. So a lane that lies gives wrong levels inside its own chunk, and is seen not to end where it should.

const STATE_START: u32 = 0x10000;
const SLOT_MASK: u32 = 0xfff;
// Of a table: the number of the interval that each slot lies in, four to a word; then the intervals.
const TABLE_LEN: u32 = 1280;
const INTERVALS_AT: u32 = 1024;
// More than any lane's number in its chunk.
const LANE_END: u32 = 256;

// Where the intervals of each table begin, and all of them.
@group(0) @binding(0) var<storage, read> interval_starts: array<u32>;
@group(0) @binding(1) var<storage, read> intervals: array<u32>;
@group(0) @binding(2) var<storage, read_write> expanded: array<u32>;

// A word of a table: intervals, and for each slot the last that begins before it.
@compute @workgroup_size(64)
fn expand_tables(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let word = id.y * workgroups.x * 64u + id.x;
    let table = word / TABLE_LEN;
    if table >= arrayLength(&interval_starts) {
        return;
    }
    let start = interval_starts[table];
    var end = arrayLength(&intervals);
    if table + 1u < arrayLength(&interval_starts) {
        end = interval_starts[table + 1u];
    }
    let at = word % TABLE_LEN;
    if at >= INTERVALS_AT {
        if start + at - INTERVALS_AT < end {
            expanded[word] = intervals[start + at - INTERVALS_AT];
        }
        return;
    }
    var four = 0u;
    var next = start + 1u;
    for (var slot = 4u * at; slot < 4u * at + 4u; slot++) {
        while next < end && cumulative(intervals[next]) <= slot {
            next++;
        }
        four = insertBits(four, next - 1u - start, (slot & 3u) * 8u, 8u);
    }
    expanded[word] = four;
}

// Of an interval: frequency (12 bits), cumulative (12), symbol (8).
fn cumulative(interval: u32) -> u32 {
    return (interval >> 8u) & SLOT_MASK;
}

struct Lane {
    chunk: u32,
    // Of `words`, in 16-bit words: where it begins, and where it should end.
    word: u32,
    end: u32,
    state: u32,
}

struct Chunk {
    first_lane: u32,
    lane_len: u32,
    rows: u32,
    columns: u32,
    // Of its matrix.
    row_len: u32,
    // Its first level.
    level_at: u32,
    // In `classes`, or ABSENT.
    row_class_at: u32,
    column_class_at: u32,
    first_table: u32,
    class_len: u32,
    trellis: u32,
    low_bits: u32,
    // In `words`, in 32-bit words.
    low_at: u32,
}

@group(0) @binding(0) var<storage, read> lanes: array<Lane>;
@group(0) @binding(1) var<storage, read> chunks: array<Chunk>;
@group(0) @binding(2) var<storage, read> classes: array<u32>;
@group(0) @binding(3) var<storage, read> tables: array<u32>;
@group(0) @binding(4) var<storage, read> words: array<u32>;
@group(0) @binding(5) var<storage, read_write> levels: array<i32>;
// One for each chunk: 0 if it is whole.
@group(0) @binding(6) var<storage, read_write> status: array<atomic<u32>>;
@group(0) @binding(7) var<storage, read> escapes: array<Escape>;

@compute @workgroup_size(64)
fn walk_lanes(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let lane_index = id.y * workgroups.x * 64u + id.x;
    if lane_index >= arrayLength(&lanes) {
        return;
    }
    let lane = lanes[lane_index];
    let chunk = chunks[lane.chunk];
    let quantizer_len = chunk.trellis * chunk.class_len;
    let last_class = i32(chunk.class_len) - 1;
    let number = lane_index - chunk.first_lane;
    var state = lane.state;
    var word = lane.word;
    for (var column = number; column < chunk.columns; column += chunk.lane_len) {
        let column_class = class_at(chunk.column_class_at, column);
        var trellis_state = 0u;
        for (var row = 0u; row < chunk.rows; row++) {
            let table_class = clamp(class_at(chunk.row_class_at, row) + column_class, 0, last_class);
            let quantizer = trellis_state & chunk.trellis;
            let table = TABLE_LEN * (chunk.first_table + u32(table_class) + quantizer * quantizer_len);
            let slot = state & SLOT_MASK;
            let index = extractBits(tables[table + (slot >> 2u)], (slot & 3u) * 8u, 8u);
            let interval = tables[table + INTERVALS_AT + index];
            let next = (interval >> 20u) * (state >> 12u) + slot - cumulative(interval);
            let at = min(word, lane.end);
            let refill = next < STATE_START;
            state = select(next, (next << 16u) | extractBits(words[at >> 1u], (at & 1u) * 16u, 16u), refill);
            word += u32(refill);
            let symbol = extractBits(bitcast<i32>(interval), 0u, 8u);
            var level = symbol;
            if chunk.trellis > 0u {
                level = trellis_level(symbol, quantizer);
                trellis_state = next_trellis_state(trellis_state, symbol);
            }
            if chunk.low_bits > 0u {
                level = (level << chunk.low_bits) | low_bits_of(chunk, row * chunk.columns + column);
            }
            levels[chunk.level_at + row * chunk.row_len + column] = level;
        }
    }
    if state != STATE_START || word != lane.end {
        // The largest is the first lane's.
        atomicMax(&status[lane.chunk], LANE_END - number);
    }
}

fn class_at(array_at: u32, index: u32) -> i32 {
    if array_at == ABSENT {
        return 0;
    }
    let at = array_at + index;
    return extractBits(bitcast<i32>(classes[at >> 2u]), (at & 3u) * 8u, 8u);
}

fn low_bits_of(chunk: Chunk, element: u32) -> i32 {
    let bit = element * chunk.low_bits;
    let at = chunk.low_at + (bit >> 5u);
    let first = bit & 31u;
    var low = words[at] >> first;
    if first + chunk.low_bits > 32u {
        low |= words[at + 1u] << (32u - first);
    }
    return i32(extractBits(low, 0u, chunk.low_bits));
}

// A level that no table can code, in place of what was decoded there.
struct Escape {
    level_at: u32,
    level: i32,
}

@compute @workgroup_size(64)
fn place_escapes(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) workgroups: vec3<u32>) {
    let index = id.y * workgroups.x * 64u + id.x;
    if index < arrayLength(&escapes) {
        levels[escapes[index].level_at] = escapes[index].level;
    }
}
