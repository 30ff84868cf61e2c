// Element of the tensor -> where it was coded (twin of permute.rs, FORMAT.md, section 5.4).
//
// A gather: each element looks its coded row and column up in the inverse permutations, so that stores stay contiguous.

// Coded row and coded column (with its tap) of an element.
fn coded_place(element: u32) -> vec2<u32> {
    var row = element / frame.row_len;
    var column = element % frame.row_len;
    if frame.column_len > 0u {
        row = element % frame.column_len;
        column = element / frame.column_len;
    }
    return vec2(coded_index(frame.row_inverse_at, row), coded_index(frame.column_inverse_at, column));
}

fn coded_index(inverse_at: u32, place: u32) -> u32 {
    if inverse_at == ABSENT {
        return place;
    }
    return side[inverse_at + place];
}
