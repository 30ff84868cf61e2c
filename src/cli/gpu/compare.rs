//! Tensors of an archive, made by a GPU -> whether they are those of the CPU.

use super::super::output::progress_bar;
use super::{Share, decoder, frame_of, made};
use crate::container::{Coding, Levels};
use crate::decode::{Opened, Reader};
use crate::error::{Error, Result};
use crate::gpu::{cast, transform_tolerances};
use crate::source::FileSource;
use crate::tensor::DType;

/// What a GPU made of an archive.
pub struct Compared {
    pub share: Share,
    /// Elements that are one unit in the last place apart.
    pub neighbours: u64,
    /// Others, of kernels under a transform, that are as close as the format asks.
    pub rounded: u64,
}

/// Decodes each tensor that a GPU takes on both.
///
/// # Errors
/// `Gpu` if there is none, if it fails, or if a tensor is another one there.
pub fn compare(reader: &Reader<FileSource>, json: bool) -> Result<Compared> {
    let gpu = decoder()?;
    let archive = reader.archive();
    let mut compared = Compared { share: Share::new(&gpu), neighbours: 0, rounded: 0 };
    let bar =
        progress_bar(archive.tensors.len() as u64, json, "decoding {bar:40} {pos:>7} of {len} tensors on the GPU");
    let mut opened = Opened::default();
    for (index, tensor) in archive.tensors.iter().enumerate() {
        bar.inc(1);
        let (frame, found) = match frame_of(tensor).and_then(|frame| Ok((frame, made(&gpu, reader, &[frame])?))) {
            Err(reason @ Error::Unsupported { .. }) => {
                compared.share.leave(tensor, &reason);
                continue;
            }
            found => found?,
        };
        let expected = reader.read_tensor(index, &mut opened)?;
        let transformed = match &archive.frames[frame].coding {
            Coding::Levels(levels) => Some(levels).filter(|levels| levels.dct),
            Coding::Planes(_) => None,
        };
        let tolerances = transformed.map(|levels| tolerances(levels, tensor.dtype, &expected)).transpose()?;
        let apart = apart(tensor.dtype, &expected, &found.concat(), &tolerances.unwrap_or_default());
        let differs = || Error::Gpu(format!("tensor {} is another one on the GPU", tensor.name).into());
        let (neighbours, rounded) = apart.ok_or_else(differs)?;
        compared.neighbours += neighbours;
        compared.rounded += rounded;
        compared.share.take(tensor);
    }
    bar.finish_and_clear();
    Ok(compared)
}

/// How far each weight of a tensor under a transform may be from what it should be.
fn tolerances(levels: &Levels, dtype: DType, expected: &[u8]) -> Result<Vec<f32>> {
    Ok(transform_tolerances(&floats(dtype, expected)?, dtype, levels.taps, levels.column_major.then_some(levels.rows)))
}

fn floats(dtype: DType, elements: &[u8]) -> Result<Vec<f32>> {
    let bytes = cast(elements, dtype, DType::F32)?;
    Ok(bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
}

/// How many floats are one unit in the last place apart, and how many further but within their tolerances, if there are any;
/// `None` if an element is further from what it should be.
fn apart(dtype: DType, expected: &[u8], found: &[u8], tolerances: &[f32]) -> Option<(u64, u64)> {
    let bytes = dtype.element_bytes();
    let pairs = expected.chunks_exact(bytes).zip(found.chunks_exact(bytes)).enumerate();
    let (mut neighbours, mut rounded) = (0, 0);
    for (at, (a, b)) in pairs.filter(|(_, (a, b))| a != b) {
        if dtype.is_float() && ordered(dtype, a).abs_diff(ordered(dtype, b)) == 1 {
            neighbours += 1;
            continue;
        }
        let [a, b] = [a, b].map(|element| floats(dtype, element).ok()?.first().copied());
        let is_close = |tolerance: f32| a.zip(b).is_some_and(|(a, b)| (a - b).abs() <= tolerance);
        // A sum beyond f32's range may be anything on a GPU.
        tolerances.get(at).filter(|&&tolerance| tolerance.is_infinite() || is_close(tolerance))?;
        rounded += 1;
    }
    (expected.len() == found.len()).then_some((neighbours, rounded))
}

/// Neighbouring floats are neighbouring integers. An f64 holds a widened f32, and counts as that.
fn ordered(dtype: DType, element: &[u8]) -> i64 {
    let raw = element.iter().rev().fold(0u64, |value, &byte| value << 8 | u64::from(byte));
    let (raw, bits) = match dtype {
        DType::F64 => (u64::from((f64::from_bits(raw) as f32).to_bits()), 32),
        _ => (raw, dtype.bits()),
    };
    let sign = 1u64 << (bits - 1);
    if raw & sign != 0 { -((raw & !sign) as i64) } else { raw as i64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_unit_in_the_last_place_is_let_pass_and_no_more() {
        let bytes = |bits: [u32; 2]| bits.map(u32::to_le_bytes).concat();
        let one = 1f32.to_bits();
        let of = |found| apart(DType::F32, &bytes([one, 0]), &bytes(found), &[]);
        assert_eq!(of([one, 0]), Some((0, 0)));
        assert_eq!(of([one - 1, 1]), Some((2, 0)));
        assert_eq!(of([one + 2, 0]), None);
        assert_eq!(apart(DType::I8, &[3, 4], &[3, 5], &[]), None);
        assert_eq!(apart(DType::I8, &[3], &[3, 5], &[]), None);
    }

    #[test]
    fn roundings_of_a_transform_are_let_pass_and_no_more() {
        let bytes = |values: [f32; 2]| values.map(f32::to_le_bytes).concat();
        let of = |found| apart(DType::F32, &bytes([1.0, 0.0]), &bytes(found), &[1e-6, 2e-6]);
        assert_eq!(of([1.0 + f32::EPSILON, -2e-6]), Some((1, 1)));
        assert_eq!(of([1.0 + 1.1e-6, 0.0]), None);
        assert_eq!(of([1.0, 2.1e-6]), None);
        assert_eq!(of([1.0, f32::NAN]), None);
        let [out_of_range, anything] = [f32::INFINITY, f32::NAN].map(|value| value.to_le_bytes());
        assert_eq!(apart(DType::F32, &out_of_range, &anything, &[f32::INFINITY]), Some((0, 1)));
    }
}
