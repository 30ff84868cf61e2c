//! Predicted frames that the encoder chooses: deltas, resembling layers, exact deltas, passes.

#![cfg(feature = "encoder")]

mod common;

use common::{Noise, Tensor, safetensors};
use mcwc::container::Coding;
use mcwc::decode::Reader;
use mcwc::encode::{Options, Target, encode_to_vec, to_f32};
use mcwc::error::Error;
use mcwc::formats::SourceFile;
use mcwc::source::Source;
use mcwc::tensor::{DType, Limits};

const HIDDEN: usize = 96;
const UNITS: usize = 200;

/// Weights by name, in the layout of BERT: matrices and biases of feed-forward layers.
type Model = Vec<(String, Vec<u64>, Vec<f32>)>;

fn model(layers: usize, random: &mut Noise) -> Model {
    let mut model =
        vec![("embeddings.word_embeddings.weight".to_string(), vec![300, 96], random.normals(300 * 96, 0.05))];
    for layer in 0..layers {
        let name = |part: &str| format!("encoder.layer.{layer}.{part}");
        let (units, hidden) = (UNITS as u64, HIDDEN as u64);
        model.push((name("intermediate.dense.weight"), vec![units, hidden], random.normals(UNITS * HIDDEN, 0.04)));
        model.push((name("intermediate.dense.bias"), vec![units], random.normals(UNITS, 0.1)));
        model.push((name("output.dense.weight"), vec![hidden, units], random.normals(UNITS * HIDDEN, 0.03)));
        model.push((name("output.dense.bias"), vec![hidden], random.normals(HIDDEN, 0.1)));
    }
    model
}

fn file(model: &Model) -> Vec<u8> {
    let tensor =
        |(name, shape, weights): &(String, Vec<u64>, Vec<f32>)| Tensor::floats(name, DType::F32, shape, weights);
    safetensors(&model.iter().map(tensor).collect::<Vec<_>>())
}

/// A file of two layers, the second like the first but for noise and the order of its units.
fn resembling(random: &mut Noise) -> Vec<u8> {
    let lower = model(1, random);
    let mut second = permuted(&moved(&lower, 0.3, random), random);
    second.iter_mut().for_each(|(name, ..)| *name = name.replace("layer.0", "layer.1"));
    file(&[lower, second.split_off(1)].concat())
}

/// Every weight moved by noise of this part of its tensor's root mean square.
fn moved(model: &Model, by: f32, random: &mut Noise) -> Model {
    let mut moved = model.clone();
    for (_, _, weights) in &mut moved {
        let rms = (weights.iter().map(|w| w * w).sum::<f32>() / weights.len() as f32).sqrt();
        let noise = random.normals(weights.len(), by * rms);
        weights.iter_mut().zip(noise).for_each(|(weight, noise)| *weight += noise);
    }
    moved
}

/// The same function: hidden units of every layer in another order.
fn permuted(model: &Model, random: &mut Noise) -> Model {
    let mut permuted = model.clone();
    let layers = model.iter().filter(|(name, ..)| name.ends_with("intermediate.dense.weight")).count();
    for layer in 0..layers {
        let mut order: Vec<usize> = (0..UNITS).collect();
        (1..UNITS).for_each(|i| order.swap(i, (random.next() % (i as u64 + 1)) as usize));
        for part in ["intermediate.dense.weight", "intermediate.dense.bias", "output.dense.weight"] {
            let name = format!("encoder.layer.{layer}.{part}");
            let (_, _, weights) = permuted.iter_mut().find(|(other, ..)| *other == name).unwrap();
            let before = weights.clone();
            for (at, weight) in weights.iter_mut().enumerate() {
                *weight = match part {
                    "intermediate.dense.weight" => before[order[at / HIDDEN] * HIDDEN + at % HIDDEN],
                    "output.dense.weight" => before[at / UNITS * UNITS + order[at % UNITS]],
                    _ => before[order[at]],
                };
            }
        }
    }
    permuted
}

fn encoded(file: &[u8], options: &Options) -> Vec<u8> {
    encode_to_vec(&[SourceFile { name: "model.safetensors".into(), source: &file }], None, options).unwrap().0
}

type Archive = Vec<u8>;

fn open<'a>(archive: &'a Archive) -> Reader<'a, dyn Source> {
    Reader::open(archive as &dyn Source, &Limits::default()).unwrap()
}

fn predicted(archive: &Archive) -> usize {
    open(archive).archive().frames.iter().filter(|frame| frame.reference.is_some()).count()
}

/// Squared error over energy of all floats of a file.
fn error(original: &[u8], decoded: &[u8]) -> f64 {
    assert_eq!(original.len(), decoded.len());
    let header = 8 + u64::from_le_bytes(original[..8].try_into().unwrap()) as usize;
    let [x, y] = [original, decoded].map(|file| to_f32(&file[header..], DType::F32));
    let sums = x
        .iter()
        .zip(y)
        .fold((0.0, 0.0), |(error, energy), (&x, y)| (error + f64::from(x - y).powi(2), energy + f64::from(x).powi(2)));
    sums.0 / sums.1
}

fn uniform(bits: f64) -> Options<'static> {
    Options { target: Target::Bits(bits), trellis: false, ..Options::default() }
}

#[test]
fn a_delta_is_a_fraction_of_its_model_and_as_good() {
    let mut random = Noise(1);
    let base_model = model(3, &mut random);
    let tuned = file(&moved(&base_model, 0.01, &mut random));
    let base_archive = encoded(&file(&base_model), &uniform(4.0));
    let base = open(&base_archive);
    let alone = encoded(&tuned, &uniform(4.0));
    let delta = encoded(&tuned, &Options { base: Some(&base), ..uniform(4.0) });
    let exact_bytes = 4 * (3 * (UNITS + HIDDEN)) / 2;
    assert!(delta.len() < alone.len() / 5 + exact_bytes, "{} {}", delta.len(), alone.len());
    let decoded = open(&delta).with_base(&base).unwrap().file(0).unwrap();
    let [of_delta, of_alone] = [decoded, open(&alone).file(0).unwrap()].map(|decoded| error(&tuned, &decoded));
    assert!(of_delta < 1.05 * of_alone, "{of_delta} {of_alone}");
    assert!(open(&delta).file(0).is_err());
}

#[test]
fn a_permuted_copy_is_found_again() {
    let mut random = Noise(2);
    let base_model = model(3, &mut random);
    let tuned = moved(&base_model, 0.01, &mut random);
    let base_archive = encoded(&file(&base_model), &uniform(4.0));
    let base = open(&base_archive);
    let options = Options { base: Some(&base), ..uniform(4.0) };
    let shuffled = file(&permuted(&tuned, &mut random));
    let in_order = encoded(&file(&tuned), &options);
    let delta = encoded(&shuffled, &options);
    let unaligned = encoded(&shuffled, &Options { alignment: false, ..options });
    // A permutation of 200 units takes 156 bytes, twice in each layer; exact biases are in another order than the base's.
    let slack = 3 * (2 * 170 + 4 * UNITS);
    assert!(delta.len() < in_order.len() + slack, "{} {}", delta.len(), in_order.len());
    assert!(unaligned.len() > 2 * delta.len(), "{} {}", unaligned.len(), delta.len());
    let decoded = open(&delta).with_base(&base).unwrap().file(0).unwrap();
    assert!(error(&shuffled, &decoded) < 0.01);
}

/// A delta to a base, with the weights that it was made of; its bytes, and the decoded file.
fn delta_with_weights(base: &Archive, weights: &[u8], tuned: &[u8], options: Options) -> (usize, Vec<u8>) {
    let reader = open(base);
    let weights = [SourceFile { name: "base.safetensors".into(), source: &weights }];
    let delta = encoded(tuned, &Options { base: Some(&reader), base_weights: Some(&weights), ..options });
    (delta.len(), open(&delta).with_base(&reader).unwrap().file(0).unwrap())
}

/// ⟨true change, decoded change⟩ over the energy of the true change: 1 if all of it arrives.
fn part_of_change(before: &[u8], tuned: &[u8], decoded_base: &[u8], decoded: &[u8]) -> f64 {
    let header = 8 + u64::from_le_bytes(before[..8].try_into().unwrap()) as usize;
    let [before, tuned, decoded_base, decoded] =
        [before, tuned, decoded_base, decoded].map(|file| to_f32(&file[header..], DType::F32));
    let (mut product, mut energy) = (0.0, 0.0);
    for at in 0..before.len() {
        let change = f64::from(tuned[at] - before[at]);
        product += change * f64::from(decoded[at] - decoded_base[at]);
        energy += change * change;
    }
    product / energy
}

#[test]
fn with_the_weights_of_a_base_only_the_change_is_coded() {
    let mut random = Noise(12);
    let base_model = model(3, &mut random);
    let tuned_model = moved(&base_model, 0.01, &mut random);
    let (weights, tuned) = (file(&base_model), file(&tuned_model));
    let options = || Options { target: Target::Bits(4.0), ..Options::default() };
    let base = encoded(&weights, &options());
    let reader = open(&base);
    let against_levels = encoded(&tuned, &Options { base: Some(&reader), ..options() }).len();
    let (bytes, decoded) = delta_with_weights(&base, &weights, &tuned, options());
    assert!(bytes < 2 * against_levels / 5, "{bytes} {against_levels}");
    let decoded_base = reader.file(0).unwrap();
    let [of_delta, of_base] = [error(&tuned, &decoded), error(&weights, &decoded_base)];
    assert!(of_delta < 1.02 * of_base, "{of_delta} {of_base}");
    let part = part_of_change(&weights, &tuned, &decoded_base, &decoded);
    assert!((part - 1.0).abs() < 0.05, "{part}");
    // Of nearest levels, too, and of changes of many levels.
    let nearest = encoded(&weights, &uniform(4.0));
    let of_nearest = error(&weights, &open(&nearest).file(0).unwrap());
    for by in [0.01, 1.0] {
        let tuned = file(&moved(&base_model, by, &mut random));
        let (_, decoded) = delta_with_weights(&nearest, &weights, &tuned, uniform(4.0));
        let of_delta = error(&tuned, &decoded);
        assert!(of_delta < 1.1 * of_nearest, "{by}: {of_delta} {of_nearest}");
    }
    let shuffled = file(&permuted(&tuned_model, &mut random));
    let (moved_bytes, decoded) = delta_with_weights(&base, &weights, &shuffled, options());
    assert!(moved_bytes < bytes + 3 * (2 * 170 + 4 * UNITS), "{moved_bytes} {bytes}");
    assert!(error(&shuffled, &decoded) < 1.02 * of_base);
}

#[test]
fn weights_that_the_base_was_not_made_of_are_refused() {
    let mut random = Noise(13);
    let base_model = model(2, &mut random);
    let tuned = file(&moved(&base_model, 0.01, &mut random));
    let base = encoded(&file(&base_model), &uniform(4.0));
    let reader = open(&base);
    let other = file(&model(2, &mut random));
    for base in [Some(&reader), None] {
        let weights = [SourceFile { name: "base.safetensors".into(), source: &other }];
        let options = Options { base, base_weights: Some(&weights), ..uniform(4.0) };
        let files = [SourceFile { name: "model.safetensors".into(), source: &tuned }];
        assert!(matches!(encode_to_vec(&files, None, &options), Err(Error::Argument(_))));
    }
}

#[test]
fn a_base_of_no_use_is_not_needed_but_accepted() {
    let mut random = Noise(14);
    let base_archive = encoded(&file(&model(2, &mut random)), &uniform(4.0));
    let base = open(&base_archive);
    let other = file(&model(2, &mut random));
    let files = [SourceFile { name: "model.safetensors".into(), source: &other }];
    let (delta, report) = encode_to_vec(&files, None, &Options { base: Some(&base), ..uniform(4.0) }).unwrap();
    assert!(!report.needs_base && report.notes.iter().any(|note| note.contains("does not need it")), "{report:?}");
    let alone = open(&delta).file(0).unwrap();
    assert_eq!(open(&delta).with_base(&base).unwrap().file(0).unwrap(), alone);
}

#[test]
fn an_exact_delta_gives_every_byte_back() {
    let mut random = Noise(3);
    let base_model = model(2, &mut random);
    let tuned = file(&moved(&base_model, 1e-4, &mut random));
    let lossless = Options { target: Target::Lossless, ..Options::default() };
    let base_archive = encoded(&file(&base_model), &lossless);
    let base = open(&base_archive);
    let delta = encoded(&tuned, &Options { base: Some(&base), ..lossless });
    assert!(delta.len() < base_archive.len() * 2 / 3, "{} {}", delta.len(), base_archive.len());
    assert!(open(&delta).with_base(&base).unwrap().file(0).unwrap() == tuned);
}

#[test]
fn layers_that_resemble_each_other_are_predicted_and_others_are_not() {
    let mut random = Noise(4);
    let lower = model(3, &mut random);
    let mut grown = lower.clone();
    for (name, shape, weights) in moved(&lower, 0.1, &mut random).into_iter().skip(1) {
        let digit = name.as_bytes()["encoder.layer.".len()] - b'0';
        grown.push((name.replace(&format!("layer.{digit}"), &format!("layer.{}", digit + 3)), shape, weights));
    }
    let quality = Options { target: Target::Quality(4e-3), ..Options::default() };
    let alone = Options { prediction: false, ..quality };
    let [of_grown, of_other] = [grown, model(6, &mut random)].map(|model| file(&model));
    let (with, without) = (encoded(&of_grown, &quality), encoded(&of_grown, &alone));
    assert!(with.len() < without.len() * 3 / 4, "{} {}", with.len(), without.len());
    assert_eq!(predicted(&with), 6);
    let errors = [&with, &without].map(|archive| error(&of_grown, &open(archive).file(0).unwrap()));
    assert!(errors[0] < 1.02 * errors[1], "{errors:?}");

    let (with, without) = (encoded(&of_other, &quality), encoded(&of_other, &alone));
    assert_eq!(predicted(&with), 0);
    assert_eq!(with.len(), without.len());
}

/// A tensor of a hundred thousand weights, and copies of it with noise.
fn copies(count: usize, noise: f32, random: &mut Noise) -> Model {
    let first = random.normals(400 * 256, 0.05);
    let copy = |index: usize| {
        let noise = random.normals(first.len(), if index == 0 { 0.0 } else { 0.05 * noise });
        let weights = first.iter().zip(noise).map(|(weight, noise)| weight + noise).collect();
        (format!("copy.{index}.weight"), vec![400, 256], weights)
    };
    (0..count).map(copy).collect()
}

#[test]
fn a_reference_meets_its_followers_and_none_errs_more_than_alone() {
    let mut random = Noise(11);
    const NOISE: f64 = 0.1;
    for count in [2, 3, 5] {
        let copies = copies(count, NOISE as f32, &mut random);
        let original = file(&copies);
        let keys = encoded(&original, &Options { prediction: false, ..Options::default() });
        let errors = |archive: &Archive| -> Vec<f64> {
            let reader = open(archive);
            let of = |(name, _, weights): &(String, Vec<u64>, Vec<f32>)| {
                let decoded = to_f32(&reader.tensor(name).unwrap(), DType::F32);
                let sum = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>();
                sum(&mut weights.iter().zip(&decoded).map(|(w, d)| w - d)) / sum(&mut weights.iter().copied())
            };
            copies.iter().map(of).collect()
        };
        let alone = errors(&keys).iter().sum::<f64>() / count as f64;
        let predicted_archive = encoded(&original, &Options { target: Target::Quality(alone), ..Options::default() });
        assert_eq!(predicted(&predicted_archive), count - 1);
        let together = errors(&predicted_archive);
        assert!(together.iter().all(|error| (0.85..1.15).contains(&(error / alone))), "{together:?} {alone}");
        // Even an ideal coder of Gaussian residuals would save less, if its reference did not meet them.
        let weights = (count * 400 * 256) as f64;
        let saved = 8.0 * (keys.len() - predicted_archive.len()) as f64 / weights;
        let ideal = 0.5 * (1.0 / (alone + NOISE * NOISE)).log2() * (count - 1) as f64 / count as f64;
        assert!(saved > ideal, "{count} copies: {saved} {ideal}");
    }
}

#[test]
fn what_differs_in_single_weights_is_not_met() {
    let mut random = Noise(12);
    let mut copies = copies(2, 0.1, &mut random);
    let places: Vec<usize> = (0..10).map(|index| 10_230 * index).collect();
    places.iter().for_each(|&place| copies[1].2[place] += 2.0);
    let original = file(&copies);
    let archive = encoded(&original, &Options { target: Target::Bits(3.0), ..Options::default() });
    assert_eq!(predicted(&archive), 1);
    let reader = open(&archive);
    let Coding::Levels(levels) = &reader.archive().frames[0].coding else { panic!("coded with loss") };
    let decoded = to_f32(&reader.tensor(&copies[0].0).unwrap(), DType::F32);
    // As much as to the next level of either parity, and half a step of their quantizer.
    let bound = 3.0 * levels.scale.unwrap();
    assert!(places.iter().all(|&place| (copies[0].2[place] - decoded[place]).abs() < bound));
}

#[test]
fn chains_are_no_longer_than_the_interval() {
    let mut random = Noise(5);
    let mut tensors: Model = vec![("w0".into(), vec![64, 64], random.normals(64 * 64, 1.0))];
    for index in 1..7 {
        let mut next = moved(&tensors[index - 1..].to_vec(), 0.1, &mut random);
        next[0].0 = format!("w{index}");
        tensors.append(&mut next);
    }
    let file = file(&tensors);
    for key_interval in [1, 2, 3, 7] {
        let archive = encoded(&file, &Options { key_interval, ..Options::default() });
        let archive = open(&archive);
        let depths: Vec<usize> =
            (0..archive.archive().frames.len()).map(|frame| archive.archive().references(frame).len()).collect();
        assert!(depths.iter().all(|&depth| depth < key_interval), "{depths:?}");
        assert_eq!(depths.iter().any(|&depth| depth > 0), key_interval > 1);
        assert!(error(&file, &archive.file(0).unwrap()) < 0.01);
    }
}

#[test]
fn free_units_are_the_same_units_in_another_order() {
    let mut random = Noise(6);
    let file = resembling(&mut random);
    let options = Options { target: Target::Quality(1e-3), ..Options::default() };
    let free = Options { unit_order_free: true, ..options };
    let (original, free) = (encoded(&file, &options), encoded(&file, &free));
    assert!(free.len() < original.len() * 95 / 100, "{} {}", free.len(), original.len());
    let sorted_rows = |archive: &Archive| {
        let reader = open(archive);
        let bytes = reader.tensor("encoder.layer.1.intermediate.dense.bias").unwrap();
        let mut units: Vec<[u8; 4]> = bytes.as_chunks().0.to_vec();
        let in_order = units.clone();
        units.sort();
        (units, in_order)
    };
    let ((units, order), (free_units, free_order)) = (sorted_rows(&original), sorted_rows(&free));
    assert_eq!(units, free_units);
    assert_ne!(order, free_order);
}

#[test]
fn passes_refine_each_other() {
    let mut random = Noise(7);
    let model = file(&model(2, &mut random));
    let archive = encoded(&model, &Options { passes: &[2.5, 4.0, 6.0], ..uniform(6.0) });
    let reader = open(&archive);
    let header = reader.archive();
    for tensor in header.tensors.iter().filter(|tensor| tensor.shape.0.len() > 1) {
        assert_eq!(tensor.frames.len(), 3, "{}", tensor.name);
        for pair in tensor.frames.windows(2) {
            assert_eq!(header.frames[pair[1]].reference, Some(pair[0]));
            assert!(matches!(header.frames[pair[1]].coding, Coding::Levels(_)));
        }
    }
    // All of a pass lies before anything of the next.
    let first_chunks = |pass: usize| header.tensors.iter().filter_map(move |tensor| tensor.frames.get(pass));
    let last_coarse = first_chunks(0).map(|&frame| header.frames[frame].first_chunk).max().unwrap();
    assert!(first_chunks(1).all(|&frame| header.frames[frame].first_chunk > last_coarse));
    let one = encoded(&model, &uniform(6.0));
    let errors = [&archive, &one].map(|archive| error(&model, &open(archive).file(0).unwrap()));
    // Half a bit of each weight: tensors of this size pay for their chunks three times.
    assert!(errors[0] < 2.0 * errors[1], "{errors:?}");
}

#[test]
fn predictions_are_deterministic() {
    let mut random = Noise(8);
    let base_model = model(2, &mut random);
    let tuned = file(&permuted(&moved(&base_model, 0.05, &mut random), &mut random));
    let base_archive = encoded(&file(&base_model), &uniform(3.0));
    let base = open(&base_archive);
    let delta = Options { base: Some(&base), ..uniform(3.0) };
    let free = Options { unit_order_free: true, ..uniform(3.0) };
    for (file, options) in [(&tuned, &delta), (&resembling(&mut random), &free)] {
        let [one, others @ ..] = [1, 2, 5].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| encoded(file, options))
        });
        assert!(open(&one).archive().frames.iter().any(|frame| frame.reference.is_some()));
        assert!(others.iter().all(|other| *other == one), "the number of threads shows in the archive");
    }
}

#[test]
fn what_an_exact_base_has_is_exact() {
    let mut random = Noise(15);
    let weights = file(&model(2, &mut random));
    let base_archive = encoded(&weights, &Options { target: Target::Lossless, ..Options::default() });
    let base = open(&base_archive);
    let delta = encoded(&weights, &Options { base: Some(&base), ..uniform(4.0) });
    assert!(delta.len() < 3000, "{}", delta.len());
    assert_eq!(open(&delta).with_base(&base).unwrap().file(0).unwrap(), weights);
}
