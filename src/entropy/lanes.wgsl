// Words of lanes -> levels (twin of lanes.rs, FORMAT.md, section 7.1): one invocation a lane, which needs no other.
//
// Whoever fills these buffers has proven that each place in them lies inside: of the words too, as a lane reads none past its
// own end. So a lane that lies gives wrong levels inside its own chunk, and is seen not to end where it should.

const STATE_START: u32 = 0x10000;
const SLOT_MASK: u32 = 0xfff;
// Of a table, for each 16 slots in turn: the interval that the first lies in, and the next one; the number of the former, four
// to a word; then all intervals, the last one repeated.
const TABLE_LEN: u32 = 832;
const NUMBERS_AT: u32 = 512;
const INTERVALS_AT: u32 = 576;
// Words ahead: a lane reads one in about four steps, so they have 160 steps to come.
const TOUCH_AHEAD: u32 = 40;
// More than any lane's number in its chunk.
const LANE_END: u32 = 256;

// Where the intervals of each table begin, and all of them.
@group(0) @binding(0) var<storage, read> interval_starts: array<u32>;
@group(0) @binding(1) var<storage, read> intervals: array<u32>;
@group(0) @binding(2) var<storage, read_write> expanded: array<u32>;

// One word of a table.
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
        expanded[word] = intervals[min(start + at - INTERVALS_AT, end - 1u)];
        return;
    }
    if at < NUMBERS_AT {
        let first = last_interval_by(16u * (at / 2u), start, end);
        expanded[word] = intervals[min(first + (at & 1u), end - 1u)];
        return;
    }
    var four = 0u;
    for (var i = 0u; i < 4u; i++) {
        let number = last_interval_by(16u * (4u * (at - NUMBERS_AT) + i), start, end) - start;
        four = insertBits(four, number, i * 8u, 8u);
    }
    expanded[word] = four;
}

// The last interval that begins at a slot or before it.
fn last_interval_by(slot: u32, start: u32, end: u32) -> u32 {
    var next = start + 1u;
    while next < end && cumulative(intervals[next]) <= slot {
        next++;
    }
    return next - 1u;
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
@group(0) @binding(3) var<storage, read> tables: array<vec2<u32>>;
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
    // The steps of a lane are a chain, which waits for all that it loads: so loads stand a step before their values are needed,
    // and words that will be needed are touched, to be in a cache by then.
    var next_words = words[word >> 1u];
    var touched = 0u;
    var ahead = 0u;
    // `trellis` is 0 or 1, which no compiler knows: so what is touched counts as used, and adds nothing.
    let zero = chunk.trellis >> 1u;
    for (var column = number; column < chunk.columns; column += chunk.lane_len) {
        let column_class = class_at(chunk.column_class_at, column);
        var trellis_state = 0u;
        var row_class = class_at(chunk.row_class_at, 0u);
        var level_at = chunk.level_at + column;
        for (var row = 0u; row < chunk.rows; row++) {
            if (row & 15u) == 0u {
                touched |= ahead;
                ahead = words[min(word + TOUCH_AHEAD, lane.end) >> 1u];
            }
            let next_class = class_at(chunk.row_class_at, min(row + 1u, chunk.rows - 1u));
            let table_class = clamp(row_class + column_class, 0, last_class);
            let quantizer = trellis_state & chunk.trellis;
            let table_at = (chunk.first_table + u32(table_class) + quantizer * quantizer_len) * (TABLE_LEN / 2u);
            let slot = state & SLOT_MASK;
            var interval = near_interval(table_at, slot);
            var offset = slot - cumulative(interval);
            if offset >= interval >> 20u {
                interval = far_interval(table_at, slot);
                offset = slot - cumulative(interval);
            }
            let next = (interval >> 20u) * (state >> 12u) + offset;
            let refill = next < STATE_START;
            let next_word = (next_words >> ((word & 1u) * 16u)) & 0xffffu;
            state = select(next, (next << 16u) | next_word, refill);
            word += u32(refill);
            next_words = words[min(word, lane.end) >> 1u];
            row_class = next_class;
            let symbol = extractBits(bitcast<i32>(interval), 0u, 8u);
            var level = trellis_level(symbol, chunk.trellis, quantizer);
            trellis_state = next_trellis_state(trellis_state, symbol);
            if chunk.low_bits > 0u {
                level = (level << chunk.low_bits) | low_bits_of(chunk.low_at, chunk.low_bits, row * chunk.columns + column);
            }
            levels[level_at] = level;
            level_at += chunk.row_len;
        }
    }
    if state != STATE_START || word != lane.end + (touched & zero) {
        // The largest is the first lane's.
        atomicMax(&status[lane.chunk], LANE_END - number);
    }
}

// Of a table, which begins there in `tables`, the interval that a slot lies in if it is one of the two at hand, as nearly always.
fn near_interval(table_at: u32, slot: u32) -> u32 {
    let two = tables[table_at + (slot >> 4u)];
    return select(two.x, two.y, slot >= cumulative(two.y));
}

// The interval that a slot lies in, looked for among all of the table.
fn far_interval(table_at: u32, slot: u32) -> u32 {
    let numbers = tables[table_at + NUMBERS_AT / 2u + (slot >> 7u)][(slot >> 6u) & 1u];
    // No more than 15 begin after the first of 16 slots. Some drivers end loops after 65535 rounds in all, so this is no loop.
    var number = extractBits(numbers, ((slot >> 4u) & 3u) * 8u, 8u);
    number = advanced(table_at, number, 8u, slot);
    number = advanced(table_at, number, 4u, slot);
    number = advanced(table_at, number, 2u, slot);
    number = advanced(table_at, number, 1u, slot);
    return numbered(table_at, number);
}

// A number, or that of a later interval if it begins at the slot or before it.
fn advanced(table_at: u32, number: u32, by: u32, slot: u32) -> u32 {
    let later = min(number + by, 255u);
    return select(number, later, cumulative(numbered(table_at, later)) <= slot);
}

fn numbered(table_at: u32, number: u32) -> u32 {
    return tables[table_at + (INTERVALS_AT + number) / 2u][number & 1u];
}

// Without a branch: of an array that is absent the first class of all is read (an empty buffer has a zero), and counts nothing.
fn class_at(array_at: u32, index: u32) -> i32 {
    let is_present = array_at != ABSENT;
    let at = select(0u, array_at + index, is_present);
    return select(0, extractBits(bitcast<i32>(classes[at >> 2u] >> ((at & 3u) * 8u)), 0u, 8u), is_present);
}

// The low bits of an element, of which those of a chunk begin at a 32-bit word.
fn low_bits_of(low_at: u32, low_bits: u32, element: u32) -> i32 {
    let bit = element * low_bits;
    let at = low_at + (bit >> 5u);
    let first = bit & 31u;
    var low = words[at] >> first;
    if first + low_bits > 32u {
        low |= words[at + 1u] << (32u - first);
    }
    return i32(extractBits(low, 0u, low_bits));
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
