//! The WGSL source: the twins of the stages in one module, as short as pages should have to download it.

/// The shader: all stages in one module.
pub const SHADER: &str = match str::from_utf8(SOURCE_AND_LEN.0.split_at(SOURCE_AND_LEN.1).0) {
    Ok(source) => source,
    Err(_) => panic!("cutting at ASCII keeps UTF-8 whole"),
};
const COMMENTED: &str = concat!(
    include_str!("../entropy/lanes.wgsl"),
    include_str!("../stages/trellis.wgsl"),
    include_str!("predict.wgsl"),
    include_str!("../stages/predict.wgsl"),
    include_str!("reconstruct.wgsl"),
    include_str!("../stages/permute.wgsl"),
    include_str!("../stages/quantize.wgsl"),
    include_str!("../stages/transform.wgsl"),
);
const SOURCE_AND_LEN: ([u8; COMMENTED.len()], usize) = without_comments(COMMENTED.as_bytes());

/// Leaves out comments, indentation and empty lines: a third of what pages would download.
const fn without_comments<const N: usize>(source: &[u8]) -> ([u8; N], usize) {
    let (mut kept, mut len) = ([0; N], 0);
    let (mut at, mut in_comment) = (0, false);
    while at < N {
        let byte = source[at];
        let starts_line = len == 0 || kept[len - 1] == b'\n';
        in_comment = byte != b'\n' && (in_comment || (byte == b'/' && at + 1 < N && source[at + 1] == b'/'));
        if !in_comment && !(starts_line && (byte == b' ' || byte == b'\n')) {
            kept[len] = byte;
            len += 1;
        }
        at += 1;
    }
    (kept, len)
}

/// Invocations in a workgroup of every shader but `reconstruct`.
pub const WORKGROUP_LEN: u32 = 64;
/// Invocations in a workgroup of `reconstruct`: each is short, and starting workgroups of 64 would take longer than they run.
pub const TENSOR_WORKGROUP_LEN: u32 = 256;
