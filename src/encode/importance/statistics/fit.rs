//! Statistics files and the tensors of an archive -> what is known of each tensor.
//!
//! Statistics name weights as their model does. In an archive of several models these names may be shared, so that a file of
//! statistics is taken for those of the one model that all of it fits.

use std::collections::{BTreeMap, HashMap};

use super::{Statistics, WeightStatistics};
use crate::error::{Error, Result};
use crate::formats::{Names, shard};
use crate::tensor::TensorLocation;

/// The tensors of a model by the names that statistics may give them.
type Model<'a> = HashMap<&'a str, &'a TensorLocation>;

/// What is known of tensors, by their names in the archive.
///
/// # Errors
/// `Argument` if statistics fit no model, or more than one, or if two files tell of one tensor.
pub(crate) fn fit(
    files: impl IntoIterator<Item = Statistics>,
    tensors: &[TensorLocation],
    names: &Names,
) -> Result<HashMap<String, WeightStatistics>> {
    let mut known: HashMap<String, WeightStatistics> = HashMap::new();
    let whole: Model = tensors.iter().map(|tensor| (tensor.name.as_str(), tensor)).collect();
    let models = models(tensors, names);
    for Statistics { name: file, weights, .. } in files {
        let model = model_of(&file, &weights, &whole, &models)?;
        let mut weights: Vec<_> = weights.into_iter().collect();
        weights.sort_by(|(one, _), (other, _)| one.cmp(other));
        for (weight, statistics) in weights {
            let Some(tensor) = model.get(weight.as_str()) else { continue };
            if known.insert(tensor.name.clone(), statistics).is_some() {
                return Err(Error::argument(format!("{file}: {:?} has statistics in another file too", tensor.name)));
            }
        }
    }
    Ok(known)
}

/// The tensors of each model by their own names. The shards of one are a model.
fn models<'a>(tensors: &'a [TensorLocation], names: &'a Names) -> BTreeMap<String, Model<'a>> {
    let mut models: BTreeMap<String, Model> = BTreeMap::new();
    for (tensor, mention) in tensors.iter().filter_map(|tensor| Some((tensor, names.mention(&tensor.name)?))) {
        let model = shard(&mention.file).map_or(mention.file.clone(), |shard| shard.stem + &shard.ending);
        models.entry(model).or_default().insert(&mention.name, tensor);
    }
    models
}

/// The model that all of a file's statistics fit.
fn model_of<'m, 'a>(
    file: &str,
    weights: &HashMap<String, WeightStatistics>,
    whole: &'m Model<'a>,
    models: &'m BTreeMap<String, Model<'a>>,
) -> Result<&'m Model<'a>> {
    let Some(misfit) = misfit(weights, whole) else { return Ok(whole) };
    let fitting: Vec<(&String, &Model)> =
        models.iter().filter(|(_, model)| self::misfit(weights, model).is_none()).collect();
    let argument = |reason: String| Err(Error::argument(format!("{file}: {reason}")));
    match fitting.as_slice() {
        [(_, model)] => Ok(model),
        [] if models.len() < 2 => argument(format!("the statistics are of another model: {misfit}")),
        [] => {
            let found = |model: &Model| weights.keys().filter(|name| model.contains_key(name.as_str())).count();
            let nearest = models.iter().max_by_key(|(_, model)| found(model));
            let why = nearest.and_then(|(name, model)| Some(format!("{name}: {}", self::misfit(weights, model)?)));
            argument(format!(
                "the statistics fit none of the models, the least unlike of which is {}",
                why.unwrap_or_default()
            ))
        }
        several => {
            let names: Vec<&str> = several.iter().map(|(name, _)| name.as_str()).collect();
            argument(format!("the statistics fit more than one model ({}): encode these apart", names.join(", ")))
        }
    }
}

/// Why statistics are not of this model.
fn misfit(weights: &HashMap<String, WeightStatistics>, model: &Model) -> Option<String> {
    let mut names: Vec<&String> = weights.keys().collect();
    names.sort();
    names.into_iter().find_map(|name| {
        let Some(tensor) = model.get(name.as_str()) else {
            return Some(format!("it has no tensor {name:?}"));
        };
        let reason = weights.get(name)?.check(&tensor.shape).err()?;
        Some(format!("its {name:?} has the shape {}, and the file a {reason}", tensor.shape))
    })
}

#[cfg(test)]
mod tests {
    use super::super::Inputs;
    use super::*;
    use crate::formats::{self, SourceFile};

    /// A safetensors file of bytes, two by three.
    fn model(names: &[&str]) -> Vec<u8> {
        let entry = |(index, name): (usize, &&str)| {
            format!(r#""{name}":{{"dtype":"U8","shape":[2,3],"data_offsets":[{},{}]}}"#, 6 * index, 6 * index + 6)
        };
        let header = format!("{{{}}}", names.iter().enumerate().map(entry).collect::<Vec<_>>().join(","));
        [(header.len() as u64).to_le_bytes().to_vec(), header.into_bytes(), vec![0; 6 * names.len()]].concat()
    }

    fn statistics(name: &str, weights: &[&str]) -> Statistics {
        let weights = weights.iter().map(|weight| ((*weight).to_owned(), WeightStatistics::default())).collect();
        Statistics { name: name.to_owned(), inputs: Inputs::Samples, weights }
    }

    /// The tensors of these models that these statistics are of.
    fn fitted(models: &[(&str, &[&str])], files: &[(&str, &[&str])]) -> std::result::Result<Vec<String>, String> {
        let bytes: Vec<Vec<u8>> = models.iter().map(|(_, names)| model(names)).collect();
        let source = |((name, _), source): (&(&str, &[&str]), _)| SourceFile { name: (*name).to_owned(), source };
        let sources: Vec<SourceFile> = models.iter().zip(bytes.iter().map(|bytes| bytes as _)).map(source).collect();
        let found = formats::find(&sources, false).unwrap();
        let files = files.iter().map(|(name, weights)| statistics(name, weights));
        let known = fit(files, &found.tensors, &found.names).map_err(|error| error.to_string())?;
        let mut names: Vec<String> = known.into_keys().collect();
        names.sort();
        Ok(names)
    }

    #[test]
    fn statistics_are_of_the_model_that_all_of_them_fit() {
        let models: [(&str, &[&str]); 2] = [("det", &["w", "box"]), ("rec", &["w", "text"])];
        assert_eq!(fitted(&models, &[("s", &["w", "text"])]).unwrap(), ["rec/w", "text"]);
        assert_eq!(
            fitted(&models, &[("s", &["det/w", "text"])]).unwrap(),
            ["det/w", "text"],
            "by names in the archive"
        );
        assert_eq!(fitted(&models, &[("s", &["box"]), ("t", &["w", "text"])]).unwrap(), ["box", "rec/w", "text"]);
        assert_eq!(
            fitted(&models, &[("s", &["w"])]).unwrap_err(),
            "s: the statistics fit more than one model (det, rec): encode these apart"
        );
        let none = fitted(&models, &[("s", &["w", "box", "text"])]).unwrap_err();
        assert!(none.starts_with("s: the statistics fit none of the models, the least unlike of which is "), "{none}");
        let twice = fitted(&models, &[("s", &["box"]), ("t", &["w", "box"])]).unwrap_err();
        assert_eq!(twice, "t: \"box\" has statistics in another file too");
    }

    #[test]
    fn the_shards_of_a_model_are_one() {
        let shards: [(&str, &[&str]); 3] = [
            ("a-00001-of-00002.safetensors", &["w"]),
            ("a-00002-of-00002.safetensors", &["v"]),
            ("b.safetensors", &["w", "u"]),
        ];
        let known = fitted(&shards, &[("s", &["w", "v"]), ("t", &["w", "u"])]).unwrap();
        assert_eq!(known, ["a-00001-of-00002.safetensors/w", "b.safetensors/w", "u", "v"]);
    }
}
