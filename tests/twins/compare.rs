//! The adapter, and what counts as the same.

use std::sync::OnceLock;

use crate::case::Case;
use mcwc::gpu::{Decoder, Device, cast, transform_tolerances};
use mcwc::tensor::DType;

pub fn gpu_decoder() -> Option<&'static Decoder> {
    static DECODER: OnceLock<Option<Decoder>> = OnceLock::new();
    let request = || {
        if std::env::var_os("MCWC_NO_GPU").is_some_and(|value| value == "1") {
            eprintln!("skipped: MCWC_NO_GPU=1");
            return None;
        }
        let create = async { Decoder::new(Device::request().await?).await };
        Some(pollster::block_on(create).expect("an adapter, or MCWC_NO_GPU=1"))
    };
    DECODER.get_or_init(request).as_ref()
}

/// What is in a tensor's buffer.
pub async fn read(gpu: &Decoder, tensor: &wgpu::Buffer, bytes: u64) -> mcwc::Result<Vec<u8>> {
    assert_eq!(tensor.size(), bytes.next_multiple_of(16));
    let mut read = gpu.device().read(tensor, tensor.size()).await?;
    let padding = read.split_off(bytes as usize);
    assert!(padding.iter().all(|&byte| byte == 0), "the padding is zeros");
    Ok(read)
}

pub fn case_on_gpu(gpu: &Decoder, case: &Case) -> Vec<u8> {
    let frame = case.frame();
    let run = async { read(gpu, &gpu.reconstruct(&frame, &case.levels).await?, frame.bytes()).await };
    pollster::block_on(run).unwrap()
}

/// Elements further apart than the contract allows.
pub fn differences(dtype: DType, expected: &[u8], found: &[u8]) -> usize {
    assert_eq!(expected.len(), found.len());
    let element_bytes = (dtype.bits() / 8) as usize;
    let elements = expected.chunks_exact(element_bytes).zip(found.chunks_exact(element_bytes));
    elements.filter(|(expected, found)| distance(dtype, expected, found) > u64::from(dtype.is_float())).count()
}

/// As [`differences`], of weights in kernels of so many taps under a transform, in a tensor that is the transpose of a matrix
/// of so many rows if it has any: made of elements of type `from`, and held to the tolerances for those.
pub fn transform_differences(
    [from, to]: [DType; 2],
    (taps, rows): (usize, Option<usize>),
    expected: &[u8],
    found: &[u8],
) -> usize {
    assert_eq!(expected.len(), found.len());
    let element_bytes = to.element_bytes();
    let floats = |bytes: &[u8]| -> Vec<f32> {
        let floats = cast(bytes, to, DType::F32).unwrap();
        floats.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
    };
    let [weights, made] = [expected, found].map(floats);
    let tolerances = transform_tolerances(&weights, from, taps, rows);
    let is_far = |&at: &usize| {
        let range = at * element_bytes..(at + 1) * element_bytes;
        // Where a sum is beyond the range, any value will do; elsewhere none that is no number.
        let is_close = tolerances[at].is_infinite() || (weights[at] - made[at]).abs() <= tolerances[at];
        distance(to, &expected[range.clone()], &found[range]) > 1 && !is_close
    };
    (0..weights.len()).filter(is_far).count()
}

/// Steps between two elements: units in the last place for floats. A float64 holds a widened float32, and counts as that.
pub fn distance(dtype: DType, a: &[u8], b: &[u8]) -> u64 {
    let ordered = |bytes: &[u8]| {
        let raw = bytes.iter().rev().fold(0u64, |value, &byte| value << 8 | u64::from(byte));
        let (raw, bits) = match dtype {
            DType::F64 if f64::from(f64::from_bits(raw) as f32).to_bits() != raw => return i64::MIN / 2,
            DType::F64 => (u64::from((f64::from_bits(raw) as f32).to_bits()), 32),
            _ => (raw, dtype.bits()),
        };
        let sign = 1 << (bits - 1);
        if dtype.is_float() && raw & sign != 0 { -((raw & !sign) as i64) } else { raw as i64 }
    };
    ordered(a).abs_diff(ordered(b))
}

/// Elements of a case that are further apart than the contract allows.
pub fn case_differences(case: &Case, expected: &[u8], found: &[u8]) -> usize {
    if !case.dct {
        return differences(case.output, expected, found);
    }
    let kernels = (case.shape[2], case.column_major.then_some(case.shape[0]));
    transform_differences([case.dtype, case.output], kernels, expected, found)
}

#[track_caller]
pub fn assert_twins(case: &Case) {
    let Some(gpu) = gpu_decoder() else { return };
    let (expected, found) = (case.on_cpu(), case_on_gpu(gpu, case));
    assert_eq!(case_differences(case, &expected, &found), 0, "{}", case.name());
}

/// For products that need no rounding: then everything else is integer arithmetic, and must be identical.
#[track_caller]
pub fn assert_identical(case: &Case) {
    let Some(gpu) = gpu_decoder() else { return };
    let same = case.on_cpu() == case_on_gpu(gpu, case);
    assert!(same, "{}", case.name());
}
