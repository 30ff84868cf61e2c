//! Files through the encoder and back: exact where exactness is promised, close where loss was asked for.

#![cfg(feature = "encoder")]

mod common;

use common::{Noise, Tensor, archive, every_kind, records_archive, safetensors};
use mcwc::container::{Archive, Coding, Levels};
use mcwc::decode::Reader;
use mcwc::encode::{Options, Target, encode_to_vec, to_f32};
use mcwc::formats::SourceFile;
use mcwc::tensor::{DType, Limits};
use proptest::prelude::*;

fn reader(archive: &[u8]) -> Reader<'_, [u8]> {
    Reader::open(archive, &Limits::default()).unwrap()
}

/// Half a step; under the trellis, where `scale` is half a step, as much as to the next level of either parity.
fn largest_error(levels: &Levels) -> f32 {
    levels.scale.unwrap() * if levels.trellis { 2.0001 } else { 0.5001 }
}

#[test]
fn lossless_files_come_back_byte_for_byte() {
    let file = safetensors(&every_kind(1));
    let archive = archive(&file, Target::Lossless);
    assert_eq!(reader(&archive).file(0).unwrap(), file);
    assert!(archive.len() < file.len());
}

/// Normal noise in bytes of this type, wider from row to row.
fn integers(name: &str, dtype: DType, shape: &[u64]) -> Tensor {
    let mut random = Noise(12);
    let len: u64 = shape.iter().product();
    let columns = shape.last().map_or(1, |&columns| columns as usize);
    let level = |index: usize| random.normal() * (1 + index / columns % 30) as f32;
    let bytes = (0..len as usize).map(level).map(|level| level.round().clamp(-128.0, 127.0) as i8 as u8);
    let bytes = bytes.map(|byte| if dtype == DType::U8 { byte ^ 0x80 } else { byte }).collect();
    Tensor { name: name.into(), dtype, shape: shape.to_vec(), bytes }
}

#[test]
fn integers_of_every_shape_come_back_and_take_little_more_than_their_entropy() {
    for dtype in [DType::I8, DType::U8] {
        for shape in [
            &[300_000][..],
            &[1, 300_000],
            &[2, 150_000],
            &[30, 10_000],
            &[10_000, 30],
            &[3, 3, 64, 512],
            &[1, 1, 9000, 1],
        ] {
            let tensor = integers("w", dtype, shape);
            let mut counts = [0u32; 256];
            tensor.bytes.iter().for_each(|&byte| counts[usize::from(byte)] += 1);
            let len = tensor.bytes.len() as f64;
            let bits: f64 = counts
                .iter()
                .filter(|&&count| count > 0)
                .map(|&count| f64::from(count) * (len / f64::from(count)).log2())
                .sum();
            let file = safetensors(&[tensor]);
            let archive = archive(&file, Target::Lossless);
            assert_eq!(reader(&archive).file(0).unwrap(), file, "{dtype:?} {shape:?}");
            assert!(
                (archive.len() as f64) < 1.02 * bits / 8.0 + 700.0,
                "{dtype:?} {shape:?}: {} of {bits} bits",
                archive.len()
            );
        }
    }
}

#[test]
fn rows_of_integers_that_differ_get_classes() {
    let tensor = integers("w", DType::I8, &[256, 1024]);
    let archive = archive(&safetensors(&[tensor]), Target::Lossless);
    let reader = reader(&archive);
    assert!(matches!(&reader.archive().frames[0].coding, Coding::Levels(levels) if levels.scale.is_none()));
}

#[test]
fn only_a_model_of_mostly_integers_is_called_quantized() {
    let floats =
        |len: u64| Tensor { name: "f".into(), dtype: DType::F32, shape: vec![len], bytes: vec![1; 4 * len as usize] };
    let notes = |tensors: &[Tensor]| {
        let file = safetensors(tensors);
        let files = [SourceFile { name: "model.safetensors".into(), source: &file }];
        let report =
            encode_to_vec(&files, None, &Options { target: Target::Lossless, ..Options::default() }).unwrap().1;
        report.notes.iter().filter(|note| note.contains("quantized already")).count()
    };
    assert_eq!(notes(&[integers("w", DType::I8, &[100, 100]), floats(9000)]), 1);
    assert_eq!(notes(&[integers("w", DType::I8, &[100, 100]), floats(11_000)]), 0);
}

#[test]
fn records_come_back_byte_for_byte() {
    let bytes = Noise(10).bytes(36 * 16_000);
    for record in [vec![36], vec![1, 1, 4, 30], vec![1; 36], vec![2, 16], vec![]] {
        let archive = records_archive(&bytes, &record);
        let reader = reader(&archive);
        assert!(reader.archive().frames[0].chunk_count >= 3, "{record:?}");
        assert_eq!(reader.file(0).unwrap(), bytes, "{record:?}");
    }
}

#[test]
fn fields_of_a_record_are_coded_apart() {
    // A constant, a counter and noise: mixed, they hide each other.
    let mut random = Noise(11);
    let record = |index: u32| [7, (index % 3) as u8, random.next() as u8, random.next() as u8];
    let bytes: Vec<u8> = (0..20_000).flat_map(record).collect();
    let apart = records_archive(&bytes, &[1, 1, 2]).len();
    let mixed = records_archive(&bytes, &[4]).len();
    assert!(apart < 41_000 && mixed > 50_000, "{apart} and {mixed}");
}

#[test]
fn models_of_every_format_come_back_byte_for_byte() {
    let groups: [&[&str]; 5] = [
        &["types.gguf"],
        &["checkpoint.pth"],
        &["model.json", "group1-shard1of2.bin", "group1-shard2of2.bin", "group2-shard1of1.bin"],
        &["face-weights_manifest.json", "face_model.bin"],
        &["external.onnx", "external.bin", "weights/c.bin"],
    ];
    for names in groups {
        let contents: Vec<Vec<u8>> =
            names.iter().map(|name| std::fs::read(format!("tests/data/formats/{name}")).unwrap()).collect();
        let sources = names.iter().zip(&contents).map(|(name, source)| SourceFile { name: name.to_string(), source });
        let options = Options { target: Target::Lossless, ..Options::default() };
        let archive = encode_to_vec(&sources.collect::<Vec<_>>(), None, &options).unwrap().0;
        let reader = reader(&archive);
        for (index, bytes) in contents.iter().enumerate() {
            assert_eq!(&reader.file(index).unwrap(), bytes, "{}", names[index]);
        }
        let of_records = |frame: &mcwc::container::Frame| matches!(&frame.coding, Coding::Planes(r) if r.len() > 2);
        assert_eq!(reader.archive().frames.iter().any(of_records), names[0] == "types.gguf");
    }
}

#[test]
fn lossy_files_keep_their_length_and_everything_but_matrices() {
    let tensors = every_kind(2);
    let file = safetensors(&tensors);
    let archive = archive(&file, Target::Bits(6.0));
    let reader = reader(&archive);
    let decoded = reader.file(0).unwrap();
    assert_eq!(decoded.len(), file.len());
    let mut lossy = 0;
    for (tensor, entry) in tensors.iter().zip(&reader.archive().tensors) {
        let original = &file[entry.offset as usize..(entry.offset + entry.bytes) as usize];
        assert_eq!(original, tensor.bytes, "{}", tensor.name);
        let bytes = reader.tensor(&tensor.name).unwrap();
        assert_eq!(bytes, decoded[entry.offset as usize..(entry.offset + entry.bytes) as usize], "{}", tensor.name);
        let frame = entry.frames.first().map(|&frame| &reader.archive().frames[frame].coding);
        if let Some(Coding::Levels(levels)) = frame {
            lossy += 1;
            // Besides what the cast to the tensor's own type may add.
            let bound = largest_error(levels);
            for (x, y) in to_f32(&tensor.bytes, tensor.dtype).iter().zip(to_f32(&bytes, tensor.dtype)) {
                let rounding = x.abs() * if tensor.dtype == DType::BF16 { 1.0 / 128.0 } else { 1.0 / 1024.0 };
                assert!((x - y).abs() <= bound + rounding, "{}: {x} -> {y}", tensor.name);
            }
        } else {
            assert_eq!(bytes, tensor.bytes, "{}", tensor.name);
        }
    }
    assert_eq!(lossy, 4 * 4, "matrix, convolution, cube and outliers of each float type");
}

#[test]
fn outliers_of_175_sigma_survive_any_rate() {
    let mut random = Noise(3);
    let mut weights = random.normals(96 * 96, 0.02);
    weights[1234] = 3.5;
    let file = safetensors(&[Tensor::floats("w", DType::F32, &[96, 96], &weights)]);
    for bits in [1.0, 2.0, 4.0, 8.0, 12.0] {
        let archive = archive(&file, Target::Bits(bits));
        let decoded = to_f32(&reader(&archive).tensor("w").unwrap(), DType::F32);
        assert!((decoded[1234] - 3.5).abs() < 0.08, "{bits} bits: {}", decoded[1234]);
    }
}

#[test]
fn targets_are_met() {
    let mut random = Noise(4);
    let mut tensors: Vec<Tensor> = (0..4)
        .map(|i| {
            let weights: Vec<f32> = random.normals(256 * 300, 0.02 * (i + 1) as f32);
            Tensor::floats(&format!("w{i}"), DType::F32, &[256, 300], &weights)
        })
        .collect();
    tensors.push(Tensor::floats("bias", DType::F32, &[1000], &random.normals(1000, 1.0)));
    let file = safetensors(&tensors);
    let weights = 4.0 * 256.0 * 300.0;
    for bits in [1.5, 3.0, 4.0, 6.0, 9.0] {
        let archive = archive(&file, Target::Bits(bits));
        let archive = Archive::parse(&archive, &Limits::default()).unwrap();
        let coded = archive.frames.iter().filter(|frame| matches!(frame.coding, Coding::Levels(_)));
        let chunks = coded.flat_map(|f| f.side_chunk.into_iter().chain(f.first_chunk..f.first_chunk + f.chunk_count));
        let spent: u64 = chunks.map(|chunk| 8 * (u64::from(archive.chunks[chunk].bytes) + 20)).sum();
        let spent = spent as f64 / weights;
        assert!(spent <= bits && spent > 0.99 * bits, "{bits}: {spent}");
    }
    for size in [60_000, 150_000, 300_000] {
        let len = archive(&file, Target::Size(size)).len() as u64;
        assert!(len <= size && len > size * 97 / 100, "{size}: {len}");
    }
    let too_small = encode_to_vec(
        &[SourceFile { name: "m".into(), source: &file }],
        None,
        &Options { target: Target::Size(2000), ..Options::default() },
    );
    assert_eq!(too_small.unwrap_err().code(), "argument");
}

#[test]
fn equal_tensors_share_one_frame() {
    let mut random = Noise(5);
    let weights = random.normals(128 * 64, 1.0);
    let twice = ["a", "b"].map(|name| Tensor::floats(name, DType::F32, &[128, 64], &weights));
    let file = safetensors(&twice);
    let archive = archive(&file, Target::Bits(4.0));
    let reader = reader(&archive);
    assert_eq!(reader.archive().frames.len(), 1);
    assert_eq!(reader.tensor("a").unwrap(), reader.tensor("b").unwrap());
}

#[test]
fn excluded_tensors_stay_exact() {
    let mut random = Noise(6);
    let tensors = ["keep", "code"].map(|name| Tensor::floats(name, DType::F32, &[64, 64], &random.normals(4096, 1.0)));
    let file = safetensors(&tensors);
    let files = [SourceFile { name: "m.safetensors".into(), source: &file }];
    let options = Options { keep_exact: &|name| name == "keep", ..Options::default() };
    let archive = encode_to_vec(&files, None, &options).unwrap().0;
    assert_eq!(reader(&archive).tensor("keep").unwrap(), tensors[0].bytes);
    assert_ne!(reader(&archive).tensor("code").unwrap(), tensors[1].bytes);
}

#[test]
fn encoding_twice_gives_the_same_bytes() {
    let file = safetensors(&every_kind(7));
    assert_eq!(archive(&file, Target::Bits(3.0)), archive(&file, Target::Bits(3.0)));
}

#[test]
fn rows_longer_than_a_chunk_are_cut() {
    let mut random = Noise(8);
    let columns = (1 << 18) + 1000;
    let weights = random.normals(2 * columns, 1.0);
    let file = safetensors(&[Tensor::floats("long", DType::F32, &[2, columns as u64], &weights)]);
    let archive = archive(&file, Target::Bits(4.0));
    let reader = reader(&archive);
    assert_eq!(reader.archive().frames[0].chunk_count, 4);
    let decoded = to_f32(&reader.tensor("long").unwrap(), DType::F32);
    assert!(weights.iter().zip(&decoded).all(|(x, y)| (x - y).abs() < 0.2));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_a_file(bytes in proptest::collection::vec(any::<u8>(), 0..3000), name in "[a-z]{1,8}(/[a-z]{1,8}){0,2}") {
        let files = [SourceFile { name: name.clone(), source: &bytes }];
        let archive = encode_to_vec(&files, None, &Options::default()).unwrap().0;
        let reader = reader(&archive);
        prop_assert_eq!(reader.file(0).unwrap(), bytes);
        prop_assert_eq!(&reader.archive().files[0].name, &name);
    }

    #[test]
    fn lossy_error_stays_within_a_step(rows in 1u64..70, columns in 1u64..70, bits in 1.0f64..8.0, seed: u64) {
        prop_assume!(rows > 1 && columns > 1 && rows * columns >= 1024);
        let weights = Noise(seed).normals((rows * columns) as usize, 0.3);
        let file = safetensors(&[Tensor::floats("w", DType::F32, &[rows, columns], &weights)]);
        let files = [SourceFile { name: "m.safetensors".into(), source: &file }];
        let Ok((archive, _)) = encode_to_vec(&files, None, &Options { target: Target::Bits(bits), ..Options::default() }) else {
            // So few bits cannot pay for the hashes of so small a tensor.
            prop_assert!(bits < 2.0);
            return Ok(());
        };
        let reader = reader(&archive);
        let Coding::Levels(levels) = &reader.archive().frames[0].coding else { panic!("coded with loss") };
        let decoded = to_f32(&reader.tensor("w").unwrap(), DType::F32);
        let bound = largest_error(levels);
        prop_assert!(weights.iter().zip(&decoded).all(|(x, y)| (x - y).abs() <= bound));
    }
}

/// Relative squared errors of these tensors after an archive of `target`.
fn relative_errors(tensors: &[(&str, [u64; 2], Vec<f32>)], target: Target) -> Vec<f64> {
    let tensor = |(name, shape, weights): &(&str, [u64; 2], Vec<f32>)| Tensor::floats(name, DType::F32, shape, weights);
    let archive = archive(&safetensors(&tensors.iter().map(tensor).collect::<Vec<_>>()), target);
    let reader = reader(&archive);
    let energy = |values: &mut dyn Iterator<Item = f32>| values.map(|value| f64::from(value).powi(2)).sum::<f64>();
    let error = |(name, _, weights): &(&str, [u64; 2], Vec<f32>)| {
        let decoded = to_f32(&reader.tensor(name).unwrap(), DType::F32);
        let errors = &mut weights.iter().zip(&decoded).map(|(weight, decoded)| weight - decoded);
        energy(errors) / energy(&mut weights.iter().copied())
    };
    tensors.iter().map(error).collect()
}

#[test]
fn small_tensors_err_less_and_equal_ones_alike() {
    let mut random = Noise(12);
    let mut tensor =
        |name, shape: [u64; 2], sigma| (name, shape, random.normals((shape[0] * shape[1]) as usize, sigma));
    let large = [tensor("a", [512, 512], 0.1), tensor("b", [256, 1024], 3.0)];
    let tensors = [&large[..], &[tensor("c", [64, 64], 1.0)]].concat();
    let [a, b, c] = relative_errors(&tensors, Target::Bits(4.0))[..] else { unreachable!() };
    assert!((a / b - 1.0).abs() < 0.1, "{a} {b}");
    // A part of 1/64 in weights: an eighth of the error.
    assert!((0.09..0.18).contains(&(c / a)), "{c} {a}");
}

#[test]
fn tensors_too_short_for_the_trellis_err_as_much_as_others() {
    let mut random = Noise(13);
    let mut tensor = |name, shape: [u64; 2]| (name, shape, random.normals(1 << 18, 0.1));
    let tensors = [tensor("long", [512, 512]), tensor("short", [4, 1 << 16])];
    let [long, short] = relative_errors(&tensors, Target::Bits(4.0))[..] else { unreachable!() };
    // 1.37 times as much at an equal step.
    assert!((0.9..1.2).contains(&(short / long)), "{long} {short}");
}

#[test]
fn integers_with_uneven_rows_and_columns_become_exact_levels() {
    let mut random = Noise(11);
    let mut weights = |name: &str, dtype: DType, zero: u8| {
        let spread = |row: usize, column: usize| (row % 7 * 3) as f32 / (1 + column % 5) as f32;
        let element = |i: usize| zero.wrapping_add((spread(i / 512, i % 512) * random.normal()).round() as i8 as u8);
        let bytes = (0..300 * 512).map(element).collect();
        Tensor::bytes(name, dtype, &[3, 100, 512], bytes)
    };
    let tensors = [weights("a", DType::U8, 250), weights("b", DType::I8, 3), weights("c", DType::U8, 130)];
    let file = safetensors(&tensors);
    let archive = archive(&file, Target::Lossless);
    let reader = reader(&archive);
    assert_eq!(reader.file(0).unwrap(), file);
    for frame in &reader.archive().frames {
        assert!(matches!(&frame.coding, Coding::Levels(levels) if levels.scale.is_none()));
    }
}

#[test]
fn integers_beside_lossy_tensors_stay_exact() {
    let mut random = Noise(12);
    let bytes: Vec<u8> =
        (0..256 * 1024).map(|i| 128u8.wrapping_add(((i / 1024 % 9) as f32 * random.normal()) as i8 as u8)).collect();
    let floats = Tensor::floats("w", DType::F32, &[64, 64], &random.normals(64 * 64, 0.1));
    let file = safetensors(&[floats, Tensor::bytes("q", DType::U8, &[256, 1024], bytes.clone())]);
    let archive = archive(&file, Target::Bits(4.0));
    assert_eq!(reader(&archive).tensor("q").unwrap(), bytes);
}
