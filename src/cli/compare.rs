//! `mcwc compare`

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::files::{BaseArgument, Sources, file_name};
use super::output::json_text;
use super::table;
use crate::container;
use crate::decode::{Opened, Reader};
use crate::encode::to_f32;
use crate::error::{Error, Result};
use crate::format::MAGIC;
use crate::formats::{self, SourceFile};
use crate::source::{Source, read_range};
use crate::tensor::{DType, Limits, Shape, TensorLocation};

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
    name: String,
    dtype: DType,
    shape: Shape,
}

impl Tensor {
    fn new(name: &str, dtype: DType, shape: &Shape) -> Self {
        Tensor { name: name.to_owned(), dtype, shape: shape.clone() }
    }
}

/// The files of a model or of an archive.
struct Files {
    /// By name; the archive alone if it is one.
    files: Vec<(String, Box<dyn Source>)>,
    is_archive: bool,
    /// What a delta was made against.
    base: Option<Box<dyn Source>>,
}

/// The tensors of a model or an archive, in order.
struct Side<'a> {
    tensors: Vec<Tensor>,
    /// Reads the tensor of this index.
    read: Box<dyn FnMut(usize) -> Result<Vec<u8>> + 'a>,
    is_archive: bool,
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
    let sources = Sources::default();
    let open = |path| Files::open(path, &arguments.base, &sources);
    let (a, b) = (open(&arguments.a)?, open(&arguments.b)?);
    let (mut a, mut b) = (a.side()?, b.side()?);
    if a.tensors.is_empty() && b.tensors.is_empty() {
        return Err(Error::argument("neither side has tensors"));
    }
    let others = b.tensors.iter().enumerate();
    let mut others: HashMap<&str, usize> = others.map(|(index, tensor)| (tensor.name.as_str(), index)).collect();
    let mut comparisons: Vec<Option<Comparison>> = Vec::new();
    let mut pairs = Vec::new();
    for (index, tensor) in a.tensors.iter().enumerate() {
        let Some(other) = others.remove(tensor.name.as_str()) else {
            comparisons.push(Some(only_one_side(tensor, "only in the first")));
            continue;
        };
        let Tensor { dtype, shape, .. } = &b.tensors[other];
        let alike = (tensor.dtype, &tensor.shape) == (*dtype, shape);
        if alike {
            pairs.push((index, other));
        }
        let note = || format!("{} {shape} in the second", dtype.name());
        comparisons.push((!alike).then(|| only_one_side(tensor, &note())));
    }
    // An archive's tensors in their order: neighbours are decoded together.
    if b.is_archive {
        pairs.sort_by_key(|&(_, other)| other);
    }
    for (index, other) in pairs {
        comparisons[index] = Some(compare(&a.tensors[index], &(a.read)(index)?, &(b.read)(other)?));
    }
    let mut comparisons: Vec<Comparison> = comparisons.into_iter().flatten().collect();
    let missing = b.tensors.iter().filter(|tensor| others.contains_key(tensor.name.as_str()));
    comparisons.extend(missing.map(|tensor| only_one_side(tensor, "only in the second")));
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

fn only_one_side(tensor: &Tensor, note: &str) -> Comparison {
    Comparison {
        name: tensor.name.clone(),
        dtype: tensor.dtype.name(),
        shape: tensor.shape.0.clone(),
        identical: false,
        nmse: None,
        max_error: None,
        note: Some(note.into()),
        squared: (0.0, 0.0),
    }
}

/// Compares the bytes of two tensors that are alike otherwise.
fn compare(tensor: &Tensor, a: &[u8], b: &[u8]) -> Comparison {
    let identical = a == b;
    let (x, y) = (to_f32(a, tensor.dtype), to_f32(b, tensor.dtype));
    let mut squared = (0.0, 0.0);
    let mut max_error = 0.0f64;
    for (&x, &y) in x.iter().zip(&y).filter(|(x, y)| x.is_finite() && y.is_finite()) {
        let difference = f64::from(x) - f64::from(y);
        squared = (squared.0 + difference * difference, squared.1 + f64::from(x) * f64::from(x));
        max_error = max_error.max(difference.abs());
    }
    let measured = tensor.dtype.is_float() && !identical;
    Comparison {
        name: tensor.name.clone(),
        dtype: tensor.dtype.name(),
        shape: tensor.shape.0.clone(),
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

impl Files {
    /// Opens the file at `path` and whatever it needs.
    fn open(path: &Path, base: &BaseArgument, sources: &Sources) -> Result<Self> {
        let (name, source) = (file_name(path)?, sources.open(path)?);
        let begins = read_range(&*source, 0..source.bytes().min(MAGIC.len() as u64))?;
        if begins == MAGIC {
            let is_delta = Reader::open(&*source, &Limits::default())?.archive().base.is_some();
            let base = base.base.as_deref().filter(|_| is_delta).map(|base| sources.open(base)).transpose()?;
            return Ok(Files { files: vec![(name, source)], is_archive: true, base });
        }
        let companions = formats::companions(&name, &*source)?;
        let mut files = vec![(name, source)];
        for companion in companions {
            let source = sources.open(&path.with_file_name(&companion))?;
            files.push((companion, source));
        }
        Ok(Files { files, is_archive: false, base: None })
    }

    fn side(&self) -> Result<Side<'_>> {
        if self.is_archive { self.archive() } else { self.model() }
    }

    fn archive(&self) -> Result<Side<'_>> {
        let open = |source| Reader::open(source, &Limits::default());
        let mut reader = open(&*self.files[0].1)?;
        if let Some(base) = &self.base {
            reader = reader.with_base(&open(&**base)?)?;
        }
        reader.archive().require_base()?;
        let tensor = |tensor: &container::Tensor| Tensor::new(&tensor.name, tensor.dtype, &tensor.shape);
        let tensors = reader.archive().tensors.iter().map(tensor).collect();
        let mut opened = Opened::default();
        let read = move |index: usize| reader.read_tensor(index, &mut opened);
        Ok(Side { tensors, read: Box::new(read), is_archive: true })
    }

    fn model(&self) -> Result<Side<'_>> {
        let files = self.files.iter();
        let files: Vec<SourceFile> =
            files.map(|(name, source)| SourceFile { name: name.clone(), source: &**source }).collect();
        let locations = formats::find(&files, true)?.tensors;
        let tensor = |tensor: &TensorLocation| Tensor::new(&tensor.name, tensor.dtype, &tensor.shape);
        let tensors = locations.iter().map(tensor).collect();
        let read = move |index: usize| {
            let tensor = &locations[index];
            read_range(files[tensor.file].source, tensor.offset..tensor.offset + tensor.bytes)
        };
        Ok(Side { tensors, read: Box::new(read), is_archive: false })
    }
}
