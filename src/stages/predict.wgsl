// Levels of a reference -> predictions (twin of predict.rs, FORMAT.md, section 5.5).

// The product of gain and level may need 41 bits. Where even this sum wraps, it leaves the range of levels all the same.
fn prediction(reference: i32, gain: i32) -> i32 {
    return gain * (reference >> 8u) + ((gain * (reference & 255) + 128) >> 8u);
}
