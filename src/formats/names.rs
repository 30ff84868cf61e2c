//! What the tensors of several files are called: by names that are unique, from which their own can be told.

use std::collections::{HashMap, HashSet};

use super::{SourceFile, base_name};
use crate::format::FILE_NAME_BYTES_MAX;
use crate::tensor::TensorLocation;

/// Where a tensor is mentioned, and as what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mention {
    /// The name of the file that mentions it. Its bytes may lie in another.
    pub file: String,
    /// What it is called among the tensors of that file.
    pub name: String,
}

/// The mentions of all tensors, by their names.
#[derive(Default)]
pub(crate) struct Names {
    mentions: HashMap<String, Mention>,
}

impl Names {
    /// Where the tensor of this name is mentioned.
    pub fn mention(&self, name: &str) -> Option<&Mention> {
        self.mentions.get(name)
    }

    /// Whether one of the names that a tensor goes by is chosen: its own, or that with its file's name before it.
    pub fn any(&self, name: &str, choose: impl Fn(&str) -> bool) -> bool {
        let of_mention = |Mention { file, name }: &Mention| choose(name) || choose(&format!("{file}/{name}"));
        choose(name) || self.mention(name).is_some_and(of_mention)
    }
}

/// Names the tensors that each of the files mentions.
pub(super) fn settle(
    files: &[SourceFile],
    mentioned: impl Iterator<Item = Vec<TensorLocation>>,
) -> (Vec<TensorLocation>, Names) {
    let mut mentioned: Vec<Vec<TensorLocation>> = mentioned.collect();
    mentioned.iter_mut().for_each(|tensors| number_repeated(tensors));
    let own_names = mentioned.iter().zip(files).flat_map(|(tensors, file)| {
        tensors.iter().map(|tensor| Mention { file: file.name.clone(), name: tensor.name.clone() })
    });
    let own_names: Vec<Mention> = own_names.collect();
    prefix_ambiguous(files, &mut mentioned);
    let mut tensors: Vec<TensorLocation> = mentioned.into_iter().flatten().collect();
    number_repeated(&mut tensors);
    let mentions = tensors.iter().map(|tensor| tensor.name.clone()).zip(own_names).collect();
    (tensors, Names { mentions })
}

/// Puts the file's name before each name that another file has too, or that looks as if it had such a prefix.
fn prefix_ambiguous(files: &[SourceFile], mentioned: &mut [Vec<TensorLocation>]) {
    if mentioned.iter().filter(|tensors| !tensors.is_empty()).count() < 2 {
        return;
    }
    let mut seen = HashSet::new();
    let mut shared = HashSet::new();
    for tensor in mentioned.iter().flatten() {
        if !seen.insert(tensor.name.as_str()) {
            shared.insert(tensor.name.clone());
        }
    }
    let file_names: HashSet<&str> = files.iter().map(|file| file.name.as_str()).collect();
    let looks_prefixed = |name: &str| {
        let slashes = name.match_indices('/').map(|(place, _)| place).take_while(|&place| place <= FILE_NAME_BYTES_MAX);
        slashes.filter_map(|place| name.get(..place)).any(|prefix| file_names.contains(prefix))
    };
    for (tensors, file) in mentioned.iter_mut().zip(files) {
        for tensor in tensors.iter_mut() {
            if shared.contains(&tensor.name) || looks_prefixed(&tensor.name) {
                tensor.name = format!("{}/{}", file.name, tensor.name);
            }
        }
    }
}

/// Appends `#2`, `#3`, … to every further tensor of the same name, passing over names that exist already.
fn number_repeated(tensors: &mut [TensorLocation]) {
    let mut taken = HashSet::new();
    let repeats: Vec<&mut TensorLocation> =
        tensors.iter_mut().filter_map(|tensor| (!taken.insert(tensor.name.clone())).then_some(tensor)).collect();
    let mut next_numbers: HashMap<String, u64> = HashMap::new();
    for tensor in repeats {
        let next = next_numbers.entry(tensor.name.clone()).or_insert(2);
        for number in *next.. {
            let name = format!("{}#{number}", tensor.name);
            if taken.insert(name.clone()) {
                *next = number.saturating_add(1);
                tensor.name = name;
                break;
            }
        }
    }
}

/// A file's place among those of a model in several: `name-00001-of-00003.gguf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shard {
    /// What comes before the number, and after the count.
    pub stem: String,
    pub ending: String,
    pub number: u32,
    pub count: u32,
    digits: usize,
}

impl Shard {
    /// The names of all, without folders.
    pub fn names(&self) -> impl Iterator<Item = String> {
        let Shard { stem, ending, count, digits, .. } = self.clone();
        (1..=count).map(move |number| format!("{}-{number:0digits$}-of-{count:0digits$}{ending}", base_name(&stem)))
    }
}

/// Digits of a shard's number, few enough for all names to fit in memory.
const SHARD_DIGITS: std::ops::RangeInclusive<usize> = 2..=5;

/// What the name of a file says about its place among others.
pub(crate) fn shard(name: &str) -> Option<Shard> {
    let (rest, count) = name.rsplit_once("-of-")?;
    let (count, ending) = count.split_at(count.find('.')?);
    let (stem, number) = rest.rsplit_once('-')?;
    let is_number = |text: &str| SHARD_DIGITS.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(number) || number.len() != count.len() || !is_number(count) {
        return None;
    }
    let (ending, stem) = (ending.to_owned(), stem.to_owned());
    let shard = Shard { stem, ending, number: number.parse().ok()?, count: count.parse().ok()?, digits: count.len() };
    (1..=shard.count).contains(&shard.number).then_some(shard)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::{Axes, DType, Shape};

    fn named(name: &str) -> TensorLocation {
        TensorLocation {
            name: name.to_owned(),
            dtype: DType::U8,
            shape: Shape(vec![0]),
            file: 0,
            offset: 0,
            bytes: 0,
            axes: Axes::OutputFirst,
            record: &[],
        }
    }

    static NO_BYTES: &[u8] = &[];

    /// What the tensors of these files are called.
    fn settled(files: &[(&str, &[&str])]) -> Vec<String> {
        let source = |(name, _): &(&str, &[&str])| SourceFile { name: (*name).to_owned(), source: &NO_BYTES };
        let sources: Vec<SourceFile> = files.iter().map(source).collect();
        let mentioned = files.iter().map(|(_, names)| names.iter().map(|name| named(name)).collect());
        let (tensors, names) = settle(&sources, mentioned);
        let mut own: Vec<&Mention> = tensors.iter().map(|tensor| names.mention(&tensor.name).unwrap()).collect();
        own.dedup();
        assert_eq!(own.len(), tensors.len(), "mentions are unique");
        tensors.into_iter().map(|tensor| tensor.name).collect()
    }

    #[test]
    fn names_that_files_share_are_prefixed_in_all_of_them() {
        assert_eq!(settled(&[("a", &["w", "x"]), ("b", &["w"]), ("c", &[])]), ["a/w", "x", "b/w"]);
        assert_eq!(settled(&[("a", &["w"]), ("c", &[])]), ["w"]);
    }

    #[test]
    fn a_prefix_always_tells_the_file() {
        assert_eq!(settled(&[("a", &["w"]), ("b", &["w"]), ("c", &["a/w"])]), ["a/w", "b/w", "c/a/w"]);
        assert_eq!(
            settled(&[("a", &["x"]), ("d/e", &["y"]), ("c", &["a/w", "d/e/y"])]),
            ["x", "y", "c/a/w", "c/d/e/y"]
        );
        assert_eq!(settled(&[("a", &["a/w"])]), ["a/w"], "one file needs no prefixes");
    }

    #[test]
    fn names_within_a_file_do_not_depend_on_others() {
        assert_eq!(settled(&[("a", &["b", "b"])]), ["b", "b#2"]);
        assert_eq!(settled(&[("a", &["b", "b"]), ("c", &["b"])]), ["a/b", "b#2", "c/b"]);
        assert_eq!(settled(&[("a", &["b", "b"]), ("c", &["b#2"])]), ["b", "a/b#2", "c/b#2"]);
        // A file and a folder of one name.
        assert_eq!(settled(&[("a", &["b/w", "w"]), ("a/b", &["w"])]), ["b/w", "a/w", "a/b/w"]);
    }

    #[test]
    fn numbering_passes_over_names_that_exist() {
        let mut tensors = ["a", "a", "a#2", "b", "a", "a#2", "b"].map(named);
        number_repeated(&mut tensors);
        assert_eq!(tensors.map(|tensor| tensor.name), ["a", "a#3", "a#2", "b", "a#4", "a#2#2", "b#2"]);
    }

    #[test]
    fn any_of_its_names_chooses_a_tensor() {
        let mention = Mention { file: "a".into(), name: "w".into() };
        let names = Names { mentions: [("a/w".to_owned(), mention)].into() };
        for (chosen, expected) in [("a/w", true), ("w", true), ("b/w", false), ("a", false)] {
            assert_eq!(names.any("a/w", |name| name == chosen), expected, "{chosen}");
        }
        assert!(names.any("unknown", |name| name == "unknown"));
    }

    #[test]
    fn shards_are_told_by_their_names() {
        let found = shard("m/q4-00002-of-00003.gguf").unwrap();
        assert_eq!((found.stem.as_str(), found.ending.as_str(), found.number, found.count), ("m/q4", ".gguf", 2, 3));
        let names: Vec<String> = found.names().collect();
        assert_eq!(names, ["q4-00001-of-00003.gguf", "q4-00002-of-00003.gguf", "q4-00003-of-00003.gguf"]);
        assert_eq!(shard("a-01-of-12.safetensors.x").unwrap().ending, ".safetensors.x");
        for name in ["m.gguf", "a-1-of-2.gguf", "a-00004-of-00003.gguf", "a-00000-of-00003.gguf", "a-00001-of-00003"] {
            assert_eq!(shard(name), None, "{name}");
        }
        for name in
            ["00001-of-00003.gguf", "a-0x001-of-00003.gguf", "a-001-of-00003.gguf", "a-99999999999-of-99999999999.gguf"]
        {
            assert_eq!(shard(name), None, "{name}");
        }
    }
}
