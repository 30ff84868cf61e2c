//! The WGSL stages against their CPU twins, on whatever adapter there is (in CI: lavapipe).
//!
//! Integers must be identical, weights within one unit in the last place of the element type; under a transform, within its
//! tolerances. Every comparison is also shown a frame that was tampered with on one side, and must notice. Without an adapter
//! these tests fail, unless `MCWC_NO_GPU=1` says that there is none.
#![cfg(feature = "gpu")]

#[cfg(feature = "encoder")]
mod archives;
mod case;
#[cfg(feature = "encoder")]
#[path = "../common/mod.rs"]
mod common;
mod compare;
#[path = "../common/differences.rs"]
mod differences;
#[cfg(not(feature = "encoder"))]
#[path = "../../src/noise.rs"]
mod noise;

#[cfg(feature = "encoder")]
use common::Noise;
#[cfg(not(feature = "encoder"))]
use noise::Noise;

use case::{Case, FLOATS, INTEGERS, OUTPUTS};
use compare::{assert_identical, assert_twins, case_differences, case_on_gpu, gpu_decoder};
use differences::differences;
use mcwc::Error;
use mcwc::entropy::Table;
use mcwc::gpu::{Decoder, Device, LevelFrame, expanded_tables};
use mcwc::stages::permute::Permutation;
use mcwc::stages::quantize::scales;
use mcwc::tensor::DType;

const SHAPES: [[usize; 3]; 9] =
    [[1, 1, 1], [1, 257, 1], [257, 1, 1], [13, 17, 1], [7, 11, 9], [1, 3, 25], [31, 1, 3], [64, 96, 1], [9, 3, 4]];

#[test]
fn floats_agree_over_shapes_arrays_and_types() {
    let mut seed = 0;
    for dtype in FLOATS {
        for shape in SHAPES {
            for arrays in [0b00000, 0b00111, 0b11000, 0b01010, 0b10101, 0b11111, 0b100000, 0b111111] {
                seed += 1;
                let case = Case::new(dtype, shape, [8, 16, 32][seed as usize % 3], arrays, 0.0123, seed);
                assert_twins(&case);
                OUTPUTS.into_iter().for_each(|output| assert_twins(&Case { output, ..case.clone() }));
            }
        }
    }
}

/// Kernels under a transform, of weights of about the same size.
fn transformed(dtype: DType, shape: [usize; 3], level_bits: u32, arrays: u32, seed: u64) -> Case {
    let mut case = Case::new(dtype, shape, level_bits, arrays, 1.0, seed);
    case.exponents.iter_mut().flatten().for_each(|exponent| *exponent /= 8);
    case.set_scale(0.0123);
    Case { dct: true, ..case }
}

#[test]
fn transformed_kernels_agree_over_taps_arrays_and_types() {
    let mut seed = 2000;
    for dtype in FLOATS {
        for shape in [[7, 11, 1], [5, 3, 2], [40, 3, 9], [3, 2, 64], [9, 2, 125], [2, 1, 1024]] {
            for arrays in [0b00000, 0b00111, 0b01010, 0b101101] {
                seed += 1;
                let case = transformed(dtype, shape, [8, 16, 24][seed as usize % 3], arrays, seed);
                assert_twins(&case);
                OUTPUTS.into_iter().for_each(|output| assert_twins(&Case { output, ..case.clone() }));
            }
        }
    }
}

#[test]
fn transforms_that_were_tampered_with_are_noticed() {
    let Some(gpu) = gpu_decoder() else { return };
    type Tamper<'a> = (&'a str, &'a dyn Fn(&mut Case));
    let tampers: [Tamper; 6] = [
        ("no transform", &|case| case.dct = false),
        ("the first coefficient", &|case| case.levels[0] += 1),
        ("the last coefficient", &|case| *case.levels.last_mut().unwrap() += 1),
        ("two coefficients", &|case| case.levels.swap(64, 65)),
        ("a tap exponent", &|case| case.exponents[2][5] += 1),
        ("another layout", &|case| case.column_major = !case.column_major),
    ];
    for dtype in FLOATS {
        for layout in [0b000111, 0b100111] {
            let mut case = transformed(dtype, [3, 2, 64], 8, layout, 3000);
            case.levels = (0..3 * 2 * 64).map(|i| (i * 37 % 61 - 30) / (1 + i % 64 / 8)).collect();
            case.scales = scales(0.0123, case.first_exponent, case.first_exponent + 120).unwrap();
            for output in [dtype].into_iter().chain(OUTPUTS) {
                case.output = output;
                let found = case_on_gpu(gpu, &case);
                assert_eq!(case_differences(&case, &case.on_cpu(), &found), 0, "{}", case.name());
                let no_number: Vec<u8> =
                    found.iter().enumerate().map(|(at, &b)| if at < 8 { 255 } else { b }).collect();
                assert!(case_differences(&case, &case.on_cpu(), &no_number) > 0, "{}", case.name());
                for (name, tamper) in &tampers {
                    let mut tampered = case.clone();
                    tamper(&mut tampered);
                    assert!(case_differences(&case, &tampered.on_cpu(), &found) > 0, "{name}: {}", case.name());
                }
            }
        }
    }
}

#[test]
fn tables_are_expanded_alike() {
    let Some(gpu) = gpu_decoder() else { return };
    let mut random = Noise(7);
    let mut frequencies = |len: usize| {
        let mut frequencies: Vec<u16> = (0..len).map(|_| random.below(3) as u16 * random.below(8) as u16).collect();
        (frequencies[0], frequencies[len - 1]) = (1, 1);
        frequencies[len / 2] += 4096 - frequencies.iter().sum::<u16>();
        frequencies
    };
    let lens = [2, 3, 17, 64, 255, 256];
    let tables = lens.map(|len| Table::new(-(len as i16) / 2, frequencies(len)).unwrap());
    let expected = expanded_tables(&tables);
    let found = pollster::block_on(gpu.expand_tables(&tables)).unwrap();
    assert!(expected == found);
    let mut changed = tables[2].frequencies().to_vec();
    (changed[0], changed[8]) = (2, changed[8] - 1);
    let tampered = Table::new(tables[2].first(), changed).unwrap();
    let tampered = pollster::block_on(gpu.expand_tables(&[tampered])).unwrap();
    let len = expected.len() / tables.len();
    assert_eq!(tampered.len(), len);
    assert!(expected[2 * len..3 * len] != tampered);
}

#[test]
fn integers_agree_over_shapes_permutations_and_types() {
    let mut seed = 1000;
    for dtype in INTEGERS {
        for shape in SHAPES {
            for arrays in [0b00000, 0b01000, 0b10000, 0b11000, 0b100000] {
                seed += 1;
                let case = Case::new(dtype, shape, [8, 16, 32][seed as usize % 3], arrays, 1.0, seed);
                assert_identical(&case);
                OUTPUTS.into_iter().for_each(|output| assert_identical(&Case { output, ..case.clone() }));
            }
        }
    }
}

#[test]
fn casts_agree_from_the_smallest_scale_to_the_largest() {
    // Exponents reach from 2^-24 to 2^24; f16 and bf16 saturate at one end, f16 turns subnormal and zero at the other.
    for dtype in FLOATS {
        for octave in [-76, -60, -36, -30, -24, -20, -12, 0, 12, 40, 76] {
            let scale = 1.1 * (octave as f32).exp2();
            let case = Case::new(dtype, [19, 23, 3], 32, 0b11111, scale, octave as u64);
            assert_twins(&case);
            OUTPUTS.into_iter().for_each(|output| assert_twins(&Case { output, ..case.clone() }));
        }
    }
}

#[test]
fn exact_products_are_cast_identically() {
    // Scales are powers of two: significands of up to 24 bits with all the ties between those of f16 and bf16, from where
    // f16 is zero to where it saturates.
    for dtype in FLOATS {
        let mut case = Case::new(dtype, [2, 1 << 15, 1], 32, 0, 1.0, 5);
        case.levels = (0..1 << 16).map(|i| if i % 2 == 0 { i / 2 } else { -(i / 2) * 511 }).collect();
        for octave in [-90, -40, -36, -32, -28, -24, -12, 0, 8, 90] {
            case.set_scale((octave as f32).exp2());
            assert_identical(&case);
            OUTPUTS.into_iter().for_each(|output| assert_identical(&Case { output, ..case.clone() }));
        }
    }
}

#[test]
fn dispatches_of_more_than_one_row_agree() {
    if gpu_decoder().is_none() {
        return;
    }
    // Three workgroups of 256 times 16 bytes in one row.
    let max_compute_workgroups_per_dimension = 3;
    let limits = wgpu::Limits { max_compute_workgroups_per_dimension, ..Default::default() };
    let gpu = pollster::block_on(decoder_within(limits)).unwrap();
    let plain = Case::new(DType::F32, [3, 2500, 1], 8, 0b00010, 0.01, 6);
    let odd = Case::new(DType::F32, [1, 2501, 3], 8, 0b00110, 0.01, 6);
    for case in [plain, odd] {
        assert_eq!(case_differences(&case, &case.on_cpu(), &case_on_gpu(&gpu, &case)), 0, "{}", case.name());
    }
}

#[test]
fn every_tampered_field_is_noticed() {
    let Some(gpu) = gpu_decoder() else { return };
    let swapped = |permutation: &mut Option<Permutation>| {
        let mut places = permutation.as_ref().unwrap().places().to_vec();
        places.swap(0, 1);
        *permutation = Some(Permutation::new(places).unwrap());
    };
    type Tamper<'a> = (&'a str, &'a dyn Fn(&mut Case));
    let tampers: [Tamper; 8] = [
        ("a level", &|case| case.levels[4] += 1),
        ("the last level", &|case| *case.levels.last_mut().unwrap() += 1),
        ("a row exponent", &|case| case.exponents[0][4] += 1),
        ("a column exponent", &|case| case.exponents[1][4] += 1),
        ("a tap exponent", &|case| case.exponents[2][2] += 1),
        ("the row permutation", &|case| swapped(&mut case.permutations[0])),
        ("the column permutation", &|case| swapped(&mut case.permutations[1])),
        ("the zero point", &|case| case.zero_point += 1),
    ];
    // The second is plain.
    let cases = [([7, 11, 3], 0b11111), ([7, 8, 3], 0b01111)];
    let dtypes = FLOATS.into_iter().chain(INTEGERS);
    for (dtype, (shape, arrays)) in dtypes.flat_map(|dtype| cases.map(|case| (dtype, case))) {
        let mut case = Case::new(dtype, shape, 8, arrays, 1.0, 7);
        case.levels = (0..shape.iter().product::<usize>() as i32).map(|i| 1 + i % 100).collect();
        // Integers that f16 holds.
        case.zero_point = case.zero_point.abs() % 100;
        if dtype.is_float() {
            // Values that no dtype saturates, and one more step of exponent within the table.
            case.exponents.iter_mut().flatten().for_each(|exponent| *exponent /= 16);
            case.set_scale(0.01);
            case.scales = scales(0.01, case.first_exponent, case.first_exponent + 60).unwrap();
        }
        for output in [dtype].into_iter().chain(OUTPUTS) {
            case.output = output;
            let found = case_on_gpu(gpu, &case);
            assert_eq!(differences(output, &case.on_cpu(), &found), 0, "{}", case.name());
            for (name, tamper) in &tampers {
                let applies = match *name {
                    "the zero point" => !dtype.is_float(),
                    "the column permutation" => case.permutations[1].is_some(),
                    name => dtype.is_float() || !name.contains("exponent"),
                };
                if applies {
                    let mut tampered = case.clone();
                    tamper(&mut tampered);
                    assert!(differences(output, &tampered.on_cpu(), &found) > 0, "{name}: {}", case.name());
                }
            }
        }
    }
}

#[test]
fn comparison_allows_one_unit_in_the_last_place_and_no_more() {
    let steps = |value: f32, steps: u32| f32::from_bits(value.to_bits() + steps).to_le_bytes();
    let differ = |a: &[u8], b: &[u8]| differences(DType::F32, a, b);
    assert_eq!(differ(&steps(1.5, 0), &steps(1.5, 1)), 0);
    assert_eq!(differ(&steps(1.5, 0), &steps(1.5, 2)), 1);
    assert_eq!(differ(&steps(1.5, 0), &(-1.5f32).to_le_bytes()), 1);
    let widened = |value: f32| f64::from(value).to_le_bytes();
    let next = f32::from_bits(1.5f32.to_bits() + 1);
    assert_eq!(differences(DType::F64, &widened(1.5), &widened(next)), 0);
    assert_eq!(differences(DType::F64, &widened(1.5), &1.500_000_000_1f64.to_le_bytes()), 1);
    assert_eq!(differences(DType::U8, &[7], &[8]), 1);
}

#[test]
fn self_test_passes() {
    let Some(gpu) = gpu_decoder() else { return };
    eprintln!("{} (fallback: {})", gpu.device().name(), gpu.device().is_fallback());
    pollster::block_on(gpu.self_test()).unwrap();
}

#[test]
fn refuses_what_does_not_fit() {
    let Some(gpu) = gpu_decoder() else { return };
    let case = Case::new(DType::F32, [4, 4, 1], 8, 0b11111, 1.0, 8);
    let error = |frame: &LevelFrame, levels: &[i32]| {
        pollster::block_on(gpu.reconstruct(frame, levels)).expect_err("must be refused")
    };
    let frame = case.frame();
    assert!(matches!(error(&frame, &[0; 15]), Error::Argument(_)));
    assert!(matches!(error(&frame, &[0; 17]), Error::Argument(_)));
    let short = LevelFrame { scales: &case.scales[1..], ..frame.clone() };
    assert!(matches!(error(&short, &[0; 16]), Error::Argument(_)));
    let low = LevelFrame { first_exponent: frame.first_exponent + 1, ..frame.clone() };
    assert!(matches!(error(&low, &[0; 16]), Error::Argument(_)));
    let steps = vec![1.0; 1 << 17];
    let far = LevelFrame { scales: &steps, first_exponent: -1 << 16, ..frame.clone() };
    assert!(matches!(error(&far, &[0; 16]), Error::Argument(_)));
    let long = LevelFrame { columns: 5, ..frame.clone() };
    assert!(matches!(error(&long, &[0; 20]), Error::Argument(_)));
    let whole = LevelFrame { dtype: DType::I64, scales: &[], ..frame.clone() };
    assert!(matches!(error(&whole, &[0; 16]), Error::Unsupported { .. }));
    let other = LevelFrame { output: DType::BF16, ..frame.clone() };
    assert!(matches!(error(&other, &[0; 16]), Error::Unsupported { .. }));
    let huge = LevelFrame { rows: 1 << 20, columns: 1 << 12, row_exponent: &[], column_exponent: &[], ..frame.clone() };
    assert!(matches!(error(&huge, &[]), Error::Unsupported { .. }));
    let scattered = LevelFrame { dct: true, ..frame.clone() };
    assert!(matches!(error(&scattered, &[0; 16]), Error::Argument(_)));
    let transformed = LevelFrame { dct: true, row_permutation: None, column_permutation: None, ..frame.clone() };
    let whole = LevelFrame { dtype: DType::I8, output: DType::I8, scales: &[], ..transformed.clone() };
    assert!(matches!(error(&whole, &[0; 16]), Error::Argument(_)));
    let long = LevelFrame {
        rows: 1,
        columns: 1,
        taps: 1025,
        row_exponent: &[],
        column_exponent: &[],
        tap_exponent: &[],
        ..transformed
    };
    assert!(matches!(error(&long, &[0; 1025]), Error::Argument(_)));
    let empty = LevelFrame { rows: 0, ..frame };
    assert!(matches!(error(&empty, &[]), Error::Unsupported { .. }));
}

#[test]
fn refuses_a_tensor_above_the_binding_limit() {
    let Some(gpu) = gpu_decoder() else { return };
    let rows = (gpu.device().binding_bytes_max() / (1 << 20)) as usize + 1;
    let case = Case::new(DType::F64, [1, 1, 1], 8, 0, 1.0, 9);
    let frame = LevelFrame { rows, columns: 1 << 17, ..case.frame() };
    let refused = pollster::block_on(gpu.reconstruct(&frame, &[]));
    assert!(matches!(refused, Err(Error::Unsupported { .. })), "{refused:?}");
}

#[test]
fn a_lost_device_is_an_error() {
    if gpu_decoder().is_none() {
        return;
    }
    let lost = async {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let adapter = instance.request_adapter(&Default::default()).await.unwrap();
        let (device, queue) = adapter.request_device(&Default::default()).await.unwrap();
        let gpu = Decoder::new(Device::new(device.clone(), queue, &adapter.get_info())).await.unwrap();
        gpu.self_test().await.expect("a device of the host serves as well as our own");
        device.destroy();
        gpu.self_test().await
    };
    let error = pollster::block_on(lost).expect_err("the device is gone");
    assert_eq!(error.code(), "gpu", "{error}");
}

#[test]
fn decodes_on_a_device_of_the_least_limits_and_no_features() {
    if gpu_decoder().is_none() {
        return;
    }
    let least = async {
        let limits = wgpu::Limits::default();
        assert_eq!(limits.max_storage_buffers_per_shader_stage, 8);
        let gpu = decoder_within(limits).await?;
        assert_eq!(gpu.device().binding_bytes_max(), 128 << 20);
        gpu.self_test().await
    };
    pollster::block_on(least).unwrap();
}

/// A decoder on a device of no features.
async fn decoder_within(required_limits: wgpu::Limits) -> mcwc::Result<Decoder> {
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let adapter = instance.request_adapter(&Default::default()).await.unwrap();
    let descriptor = wgpu::DeviceDescriptor { required_limits, ..Default::default() };
    let (device, queue) = adapter.request_device(&descriptor).await.unwrap();
    assert!(device.features().is_empty());
    Decoder::new(Device::new(device, queue, &adapter.get_info())).await
}
