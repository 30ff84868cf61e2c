// Coefficients of a kernel -> its taps (twin of transform.rs, FORMAT.md, section 5.3).
//
// The sum is in the CPU's order, but a device may fuse multiplications and additions, or order them in its own way: see
// src/gpu/tolerance.rs.

// The weight of a coded row, column and tap.
fn inverse(row: u32, column: u32, tap: u32) -> f32 {
    let period = 4u * frame.taps;
    // The first coefficient's entry lies after those of all others.
    var weight = scaled(row, column, 0u) * basis(period);
    var entry = 0u;
    for (var k = 1u; k < frame.taps; k++) {
        entry += 2u * tap + 1u;
        entry -= select(0u, period, entry >= period);
        weight += scaled(row, column, k) * basis(entry);
    }
    return weight;
}

fn basis(entry: u32) -> f32 {
    return bitcast<f32>(side[frame.basis_at + entry]);
}
