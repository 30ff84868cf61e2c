//! The adapter, and what counts as the same.

use std::sync::OnceLock;

use crate::case::Case;
use crate::differences::{differences, transform_differences};
use mcwc::gpu::{Decoder, Device};

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
