//! Where loss is safe: what is no larger exact is exact, zeros stay zeros, and no weight takes more bits than it needs.

#![cfg(feature = "encoder")]

mod common;

use common::{Noise, Tensor, safetensors};
use mcwc::decode::Reader;
use mcwc::encode::{Options, Preset, Report, Statistics, Target, encode_to_vec, to_f32};
use mcwc::formats::SourceFile;
use mcwc::source::Source;
use mcwc::tensor::{DType, Limits};

const ROWS: usize = 256;
const COLUMNS: usize = 320;

fn encode(tensors: &[Tensor], statistics: Option<Statistics>, options: &Options) -> (Vec<u8>, Report) {
    let file = safetensors(tensors);
    let files = [SourceFile { name: "m.safetensors".into(), source: &file }];
    encode_to_vec(&files, statistics, options).unwrap_or_else(|error| panic!("{:?}: {error}", options.target))
}

fn target(target: Target) -> Options<'static> {
    Options { target, ..Options::default() }
}

fn decoded(archive: &[u8], tensor: &Tensor) -> Vec<f32> {
    let reader = Reader::open(archive, &Limits::default()).unwrap();
    to_f32(&reader.tensor(&tensor.name).unwrap(), tensor.dtype)
}

fn matrix(name: &str, weights: &[f32]) -> Tensor {
    Tensor::floats(name, DType::F32, &[(weights.len() / COLUMNS) as u64, COLUMNS as u64], weights)
}

fn normals(seed: u64) -> Vec<f32> {
    Noise(seed).normals(ROWS * COLUMNS, 0.05)
}

/// The smallest weights of each group of `len` are zero, but for `kept`.
fn pruned(mut weights: Vec<f32>, len: usize, kept: usize) -> Vec<f32> {
    for group in weights.chunks_mut(len) {
        let mut magnitudes: Vec<f32> = group.iter().map(|weight| weight.abs()).collect();
        magnitudes.sort_by(|a, b| b.total_cmp(a));
        let least = magnitudes.get(kept.saturating_sub(1)).filter(|_| kept > 0).copied().unwrap_or(f32::INFINITY);
        group.iter_mut().filter(|weight| weight.abs() < least).for_each(|weight| *weight = 0.0);
    }
    weights
}

fn zeros_kept(original: &[f32], decoded: &[f32]) -> bool {
    original.iter().zip(decoded).all(|(original, decoded)| *original != 0.0 || decoded.to_bits() == 0)
}

#[test]
fn grids_masks_ids_and_one_hot_rows_are_exact() {
    let cells = || (0..ROWS * COLUMNS).map(|at| (at / COLUMNS, at % COLUMNS));
    let mut random = Noise(1);
    let tables = [
        matrix("anchors", &cells().map(|(row, column)| 8.0 * (row + column) as f32 + 4.0).collect::<Vec<_>>()),
        matrix("mask", &cells().map(|(row, column)| if column > row { -1e4 } else { 0.0 }).collect::<Vec<_>>()),
        matrix("eye", &cells().map(|(row, column)| f32::from(u8::from(row == column))).collect::<Vec<_>>()),
        matrix("ids", &cells().map(|_| (random.next() % 30_000) as f32).collect::<Vec<_>>()),
        matrix("signs", &cells().map(|_| (random.next() % 2) as f32 - 0.5).collect::<Vec<_>>()),
    ];
    let weights = matrix("weights", &normals(2));
    for options in [target(Target::Bits(4.0)), target(Target::Quality(1e-3)), target(Target::Bits(1.5))] {
        let tensors = [&tables[..], std::slice::from_ref(&weights)].concat();
        let (archive, report) = encode(&tensors, None, &options);
        for table in &tables {
            assert_eq!(decoded(&archive, table), to_f32(&table.bytes, DType::F32), "{}", table.name);
        }
        let lossy: Vec<&str> =
            report.tensors.iter().filter(|tensor| tensor.lossy).map(|tensor| tensor.name.as_str()).collect();
        assert_eq!(lossy, ["weights"]);
    }
}

/// Boxes of a detector: on a grid of a picture's width, some of each shape around every place.
fn boxes(side: usize, shapes: &[[f32; 2]]) -> Vec<f32> {
    let centre = |at: usize| (at as f32 + 0.5) / side as f32;
    let places = (0..side * side).map(|at| [centre(at / side), centre(at % side)]);
    let around =
        |[y, x]: [f32; 2]| shapes.iter().flat_map(move |[h, w]| [y - h / 2.0, x - w / 2.0, y + h / 2.0, x + w / 2.0]);
    places.flat_map(around).collect()
}

#[test]
fn boxes_are_exact_where_that_takes_no_more() {
    let shapes = [[0.1, 0.1], [0.2, 0.14], [0.14, 0.2], [0.25, 0.25], [0.37, 0.18], [0.18, 0.37]];
    let table = Tensor::floats("boxes", DType::F32, &[1, 32 * 32 * 6, 4], &boxes(32, &shapes));
    let weights = matrix("weights", &normals(3));
    let exact_bytes = encode(std::slice::from_ref(&table), None, &target(Target::Lossless)).0.len();
    let cases = [
        (Target::Preset(Preset::High), true),
        (Target::Quality(1e-3), true),
        (Target::Bits(6.0), true),
        (Target::Bits(4.0), false),
        (Target::Bits(2.0), false),
    ];
    for (asked, is_exact) in cases {
        let (archive, report) = encode(&[table.clone(), weights.clone()], None, &target(asked));
        assert!((decoded(&archive, &table) == to_f32(&table.bytes, DType::F32)) == is_exact, "{asked:?}");
        let lossy = report.tensors.iter().find(|tensor| tensor.name == "boxes" && tensor.lossy);
        assert!(lossy.is_none_or(|tensor| !is_exact && tensor.coded_bytes < exact_bytes as u64), "{asked:?}");
    }
}

#[test]
fn filters_of_transforms_are_exact_in_any_layout() {
    let windowed = |bin: usize, at: usize, len: usize| {
        let wave = |bin: usize| (std::f32::consts::TAU * (bin * at) as f32 / len as f32).cos();
        (0.5 - 0.5 * wave(1)) * wave(bin)
    };
    let cells = || (0..ROWS * COLUMNS).map(|at| (at / COLUMNS, at % COLUMNS));
    let filters = [
        matrix("rows", &cells().map(|(row, column)| windowed(row, column, COLUMNS)).collect::<Vec<_>>()),
        matrix("columns", &cells().map(|(row, column)| windowed(column, row, ROWS)).collect::<Vec<_>>()),
    ];
    let tensors = [&filters[..], &[matrix("weights", &normals(11))]].concat();
    for options in [target(Target::Bits(4.0)), target(Target::Quality(1e-3))] {
        let (archive, report) = encode(&tensors, None, &options);
        for filters in &filters {
            assert_eq!(decoded(&archive, filters), to_f32(&filters.bytes, DType::F32), "{}", filters.name);
        }
        let lossy = report.tensors.iter().filter(|tensor| tensor.lossy).map(|tensor| tensor.name.as_str());
        assert_eq!(lossy.collect::<Vec<_>>(), ["weights"]);
    }
}

#[test]
fn exact_floats_that_repeat_have_no_frame_but_for_those_that_share_or_predict_one() {
    let mut random = Noise(12);
    let values = random.normals(64, 0.1);
    let palette: Vec<f32> = (0..ROWS * COLUMNS).map(|_| values[random.below(values.len())]).collect();
    let [one, other] = ["one", "other"].map(|name| matrix(name, &palette));
    let frames = |archive: &[u8]| -> Vec<Vec<usize>> {
        let reader = Reader::open(archive, &Limits::default()).unwrap();
        reader.archive().tensors.iter().map(|tensor| tensor.frames.clone()).collect()
    };
    let lossless = target(Target::Lossless);
    let (alone, _) = encode(std::slice::from_ref(&one), None, &lossless);
    assert!(frames(&alone)[0].is_empty());
    assert_eq!(decoded(&alone, &one), palette);
    // Its errors may be those of weights.
    assert_eq!(frames(&encode(std::slice::from_ref(&one), None, &target(Target::Bits(4.0))).0)[0].len(), 1);
    let (twice, _) = encode(&[one.clone(), other.clone()], None, &lossless);
    assert_eq!(frames(&twice), [[0], [0]]);
    assert!(2 * alone.len() < twice.len(), "{} bytes instead of a frame of {}", alone.len(), twice.len());
    assert_eq!([&one, &other].map(|tensor| decoded(&twice, tensor)), [&palette, &palette].map(Vec::clone));
    let base = Reader::open(&twice as &dyn Source, &Limits::default()).unwrap();
    let delta = Options { base: Some(&base), ..target(Target::Lossless) };
    let (delta, _) = encode(std::slice::from_ref(&one), None, &delta);
    assert_eq!(frames(&delta)[0].len(), 1);
    assert!(delta.len() < 1000, "{} bytes of what has not changed", delta.len());
}

#[test]
fn nothing_coded_with_loss_is_larger_than_exact() {
    let tensors: Vec<Tensor> = [DType::F32, DType::F16, DType::BF16]
        .into_iter()
        .map(|dtype| Tensor::floats(dtype.name(), dtype, &[ROWS as u64, COLUMNS as u64], &normals(3)))
        .collect();
    let bytes = |report: Report| report.tensors.into_iter().map(|tensor| tensor.coded_bytes).collect::<Vec<_>>();
    let exact = bytes(encode(&tensors, None, &target(Target::Lossless)).1);
    for error in [1e-3, 1e-6, 1e-9] {
        let lossy = bytes(encode(&tensors, None, &target(Target::Quality(error))).1);
        assert!(lossy.iter().zip(&exact).all(|(lossy, exact)| lossy <= exact), "{error}: {lossy:?} {exact:?}");
    }
}

#[test]
fn a_rate_is_a_ceiling() {
    let tensors = [matrix("weights", &normals(4))];
    let (_, report) = encode(&tensors, None, &target(Target::Bits(14.0)));
    let [tensor] = &report.tensors[..] else { panic!() };
    let bits = 8.0 * tensor.coded_bytes as f64 / tensor.weights as f64;
    assert!(bits < 10.5 && tensor.squared_error / tensor.energy < 1.1e-6, "{bits} {}", tensor.squared_error);
    assert!(report.near_lossless && report.notes[0].contains(" of 14 bits"), "{:?}", report.notes);
    let (_, report) = encode(&tensors, None, &target(Target::Bits(6.0)));
    assert!(!report.near_lossless && report.notes.is_empty(), "{:?}", report.notes);
}

#[test]
fn zeros_stay_zeros_at_every_rate() {
    let weights = normals(5).split_off((ROWS - 64) * COLUMNS);
    let mut channels = weights.clone();
    channels.chunks_mut(COLUMNS).step_by(3).for_each(|row| row.fill(0.0));
    let quartets = pruned(normals(5), 4, 2);
    let variants = [pruned(weights.clone(), 1000, 500), pruned(weights, 1000, 20), quartets, channels];
    let uniform = Options { trellis: false, ..target(Target::Bits(2.0)) };
    let passes = Options { passes: &[0.5, 1.0], ..target(Target::Bits(1.0)) };
    let modes = [1e-3, 1e-6].map(|error| target(Target::Quality(error)));
    for weights in variants {
        let tensors = [matrix("weights", &weights)];
        for options in modes.iter().chain([&uniform, &passes, &target(Target::Bits(0.5))]) {
            let (archive, _) = encode(&tensors, None, options);
            assert!(zeros_kept(&weights, &decoded(&archive, &tensors[0])), "{:?}", options.target);
        }
    }
}

#[test]
fn zeros_stay_zeros_where_columns_make_up_for_each_other() {
    let weights = pruned(normals(6), 1000, 300);
    let tensors = [matrix("weights", &weights)];
    let moments: Vec<f32> =
        (0..COLUMNS * COLUMNS).map(|at| 0.9f32.powi((at / COLUMNS).abs_diff(at % COLUMNS) as i32)).collect();
    let columns = Tensor::floats("weights/columns", DType::F32, &[COLUMNS as u64; 2], &moments);
    let file = common::statistics(r#"{"format": "mcwc-statistics", "version": "1", "inputs": "samples"}"#, &[columns]);
    let statistics = Statistics::parse("stats", &file).unwrap();
    let (archive, _) = encode(&tensors, Some(statistics), &target(Target::Bits(1.5)));
    assert!(zeros_kept(&weights, &decoded(&archive, &tensors[0])));
}

#[test]
fn zeros_stay_zeros_in_a_delta_and_in_a_copy() {
    for (len, kept) in [(1000, 200), (4, 2)] {
        zeros_stay_zeros_in_deltas_and_copies_of(&pruned(normals(7), len, kept));
    }
}

fn zeros_stay_zeros_in_deltas_and_copies_of(weights: &[f32]) {
    let mut random = Noise(8);
    let tuned: Vec<f32> =
        weights.iter().map(|weight| if *weight == 0.0 { 0.0 } else { weight + random.normal() * 2e-3 }).collect();
    for trellis in [false, true] {
        let options = Options { trellis, ..target(Target::Quality(1e-3)) };
        let (base, alone) = encode(&[matrix("weights", weights)], None, &options);
        let reader = Reader::<dyn mcwc::source::Source>::open(&base, &Limits::default()).unwrap();
        let file = safetensors(&[matrix("weights", &tuned)]);
        let files = [SourceFile { name: "m.safetensors".into(), source: &file }];
        let options = Options { base: Some(&reader), ..options };
        let (delta, report) = encode_to_vec(&files, None, &options).unwrap();
        assert!(2 * report.archive_bytes < alone.archive_bytes, "{} of {}", report.archive_bytes, alone.archive_bytes);
        let delta = Reader::<dyn mcwc::source::Source>::open(&delta, &Limits::default()).unwrap();
        let bytes = delta.with_base(&reader).unwrap().tensor("weights").unwrap();
        assert!(zeros_kept(&tuned, &to_f32(&bytes, DType::F32)), "{trellis}");
    }
    let copies = [matrix("a", weights), matrix("b", &tuned)];
    let quality = target(Target::Quality(1e-3));
    let [alone, both] = [&copies[..1], &copies].map(|tensors| encode(tensors, None, &quality).1.archive_bytes);
    assert!(2 * both < 3 * alone, "{both} of {alone}");
    let (archive, _) = encode(&copies, None, &target(Target::Bits(1.0)));
    assert!(copies.iter().all(|copy| zeros_kept(weights, &decoded(&archive, copy))));
}

#[test]
fn zeros_of_kernels_survive_where_others_are_transformed() {
    // Smooth kernels, which a transform pays for.
    let mut random = Noise(9);
    let mut kernels: Vec<f32> = Vec::new();
    for _ in 0..64 * 16 {
        let [level, slope] = [random.normal(), random.normal()];
        kernels.extend((0..32).map(|tap| level + slope * tap as f32 / 16.0 + 0.01 * random.normal()));
    }
    let mut whole = kernels.clone();
    whole.chunks_mut(32).step_by(2).for_each(|kernel| kernel.fill(0.0));
    let mut single = kernels;
    single.iter_mut().step_by(3).for_each(|weight| *weight = 0.0);
    for weights in [whole, single] {
        let tensors = [Tensor::floats("kernels", DType::F32, &[64, 16, 32], &weights)];
        let (archive, _) = encode(&tensors, None, &target(Target::Quality(1e-3)));
        assert!(zeros_kept(&weights, &decoded(&archive, &tensors[0])));
    }
}

#[test]
fn sparse_weights_take_the_entropy_of_their_places_and_their_own_bits() {
    let dense = 8.0
        * encode(&[matrix("weights", &normals(10))], None, &target(Target::Quality(2.6e-4))).1.tensors[0].coded_bytes
            as f64;
    let count = (ROWS * COLUMNS) as f64;
    let binary = |kept: f64| -kept * kept.log2() - (1.0 - kept) * (1.0 - kept).log2();
    let scattered = [500, 200, 100, 50].map(|kept| (1000, kept, binary(kept as f64 / 1000.0)));
    let quartets = [(4, 1, 0.5), (4, 2, 6f64.log2() / 4.0), (4, 3, 0.5)];
    for (len, kept, places) in scattered.into_iter().chain(quartets) {
        let tensors = [matrix("weights", &pruned(normals(10), len, kept))];
        let (_, report) = encode(&tensors, None, &target(Target::Quality(2.6e-4)));
        let bound = count * places + kept as f64 / len as f64 * dense;
        let bits = 8.0 * report.tensors[0].coded_bytes as f64;
        assert!(report.tensors[0].lossy && bits <= 1.05 * bound, "{kept} of {len}: {bits} of {bound}");
    }
}
