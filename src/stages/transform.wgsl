// Coefficients of a kernel -> its taps (twin of transform.rs, FORMAT.md, section 5.3).
//
// A sum of `taps` products, in the order of the CPU. A device may fuse its multiplications and additions, or order them in
// its own way: src/gpu/tolerance.rs.

// The basis's entry of a coefficient and a tap.
fn basis(coefficient: u32, tap: u32) -> f32 {
    let period = 4u * frame.taps;
    let entry = select((2u * tap + 1u) * coefficient % period, period, coefficient == 0u);
    return bitcast<f32>(side[frame.basis_at + entry]);
}

// The weight of a coded row and column.
fn inverse(row: u32, column: u32) -> f32 {
    let tap = column % frame.taps;
    var weight = 0.0;
    for (var k = 0u; k < frame.taps; k++) {
        weight += coefficient(vec2(row, column - tap + k)) * basis(k, tap);
    }
    return weight;
}
