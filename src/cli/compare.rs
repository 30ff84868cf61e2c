//! `mcwc compare`

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{BaseArgument, file_name, json_text, read, table};
use crate::decode::Reader;
use crate::encode::to_f32;
use crate::error::{Error, Result};
use crate::format::MAGIC;
use crate::formats::{self, SourceFile};
use crate::tensor::{DType, Limits, Shape};

/// Compare the tensors of two models
///
/// Either side may be a model file of any format, or an archive; a delta needs its base.
#[derive(clap::Args)]
pub struct Arguments {
    /// The reference
    a: PathBuf,
    /// The other model
    b: PathBuf,
    #[command(flatten)]
    base: BaseArgument,
}

struct Tensor {
    dtype: DType,
    shape: Shape,
    bytes: Vec<u8>,
}

#[derive(Serialize)]
struct Comparison {
    name: String,
    dtype: &'static str,
    shape: Vec<u64>,
    identical: bool,
    /// Sum of squared differences over the sum of squares of the reference.
    nmse: Option<f64>,
    max_error: Option<f64>,
    note: Option<String>,
    #[serde(skip)]
    squared: (f64, f64),
}

pub fn run(arguments: &Arguments, json: bool) -> Result<String> {
    let (names, a) = load(&arguments.a, &arguments.base)?;
    let (other_names, mut b) = load(&arguments.b, &arguments.base)?;
    if names.is_empty() && other_names.is_empty() {
        return Err(Error::argument("neither side has tensors"));
    }
    let mut comparisons = Vec::new();
    for name in &names {
        comparisons.push(compare(name, &a[name], b.remove(name).as_ref()));
    }
    let missing = other_names.iter().filter(|name| b.contains_key(*name));
    comparisons.extend(missing.map(|name| only_one_side(name, &b[name], "only in the second")));
    let identical = comparisons.iter().filter(|comparison| comparison.identical).count();
    let squared = comparisons.iter().fold((0.0, 0.0), |sum, c| (sum.0 + c.squared.0, sum.1 + c.squared.1));
    let nmse = squared.0 / squared.1.max(f64::MIN_POSITIVE);
    if json {
        return json_text(&serde_json::json!({
            "tensors": comparisons, "count": comparisons.len(), "identical": identical, "nmse": nmse,
        }));
    }
    let rows: Vec<Vec<String>> = comparisons.iter().map(row).collect();
    let table = table::text(&["tensor", "dtype", "shape", "NMSE", "max error", "note"], &rows, 3);
    let count = comparisons.len();
    Ok(format!("{table}\n{identical} of {count} tensors are identical; NMSE over all floats {nmse:.3e}\n"))
}

fn row(comparison: &Comparison) -> Vec<String> {
    let number = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.2e}"));
    vec![
        comparison.name.clone(),
        comparison.dtype.into(),
        Shape(comparison.shape.clone()).to_string(),
        if comparison.identical { String::new() } else { number(comparison.nmse) },
        if comparison.identical { String::new() } else { number(comparison.max_error) },
        comparison.note.clone().unwrap_or_default(),
    ]
}

fn only_one_side(name: &str, tensor: &Tensor, note: &str) -> Comparison {
    Comparison {
        name: name.into(),
        dtype: tensor.dtype.name(),
        shape: tensor.shape.0.clone(),
        identical: false,
        nmse: None,
        max_error: None,
        note: Some(note.into()),
        squared: (0.0, 0.0),
    }
}

fn compare(name: &str, a: &Tensor, b: Option<&Tensor>) -> Comparison {
    let Some(b) = b else { return only_one_side(name, a, "only in the first") };
    if a.dtype != b.dtype || a.shape != b.shape {
        return only_one_side(name, a, &format!("{} {} in the second", b.dtype.name(), b.shape));
    }
    let identical = a.bytes == b.bytes;
    let (x, y) = (to_f32(&a.bytes, a.dtype), to_f32(&b.bytes, b.dtype));
    let mut squared = (0.0, 0.0);
    let mut max_error = 0.0f64;
    for (&x, &y) in x.iter().zip(&y).filter(|(x, y)| x.is_finite() && y.is_finite()) {
        let difference = f64::from(x) - f64::from(y);
        squared = (squared.0 + difference * difference, squared.1 + f64::from(x) * f64::from(x));
        max_error = max_error.max(difference.abs());
    }
    let measured = a.dtype.is_float() && !identical;
    Comparison {
        name: name.into(),
        dtype: a.dtype.name(),
        shape: a.shape.0.clone(),
        identical,
        nmse: measured.then(|| squared.0 / squared.1.max(f64::MIN_POSITIVE)),
        max_error: measured.then_some(max_error),
        note: Some(
            if identical {
                "identical"
            } else if measured {
                ""
            } else {
                "differs"
            }
            .into(),
        ),
        squared,
    }
}

/// Names in order, and the tensors, of a model or an archive.
fn load(path: &Path, base: &BaseArgument) -> Result<(Vec<String>, HashMap<String, Tensor>)> {
    let bytes = read(path)?;
    let mut names = Vec::new();
    let mut tensors = HashMap::new();
    if bytes.starts_with(&MAGIC) {
        let open = |bytes| Reader::open(bytes, &Limits::default());
        let is_delta = open(bytes.as_slice())?.archive().base.is_some();
        let base_bytes = base.base.as_deref().filter(|_| is_delta).map(read).transpose()?;
        let mut reader = open(bytes.as_slice())?;
        if let Some(bytes) = &base_bytes {
            reader = reader.with_base(&open(bytes)?)?;
        }
        reader.archive().require_base()?;
        for tensor in &reader.archive().tensors {
            let found =
                Tensor { dtype: tensor.dtype, shape: tensor.shape.clone(), bytes: reader.tensor(&tensor.name)? };
            names.push(tensor.name.clone());
            tensors.insert(tensor.name.clone(), found);
        }
        return Ok((names, tensors));
    }
    let mut files = vec![(file_name(path)?, bytes)];
    for companion in formats::companions(&files[0].0, &files[0].1)? {
        files.push((companion.clone(), read(&path.with_file_name(&companion))?));
    }
    let sources: Vec<SourceFile> = files.iter().map(|(name, bytes)| SourceFile { name: name.clone(), bytes }).collect();
    for location in formats::find_tensors(&sources)? {
        let range = location.offset as usize..(location.offset + location.bytes) as usize;
        let bytes = files[location.file].1[range].to_vec();
        names.push(location.name.clone());
        tensors.insert(location.name, Tensor { dtype: location.dtype, shape: location.shape, bytes });
    }
    Ok((names, tensors))
}
