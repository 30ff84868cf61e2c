//! What must hold of any bytes: a result or a typed error, in little memory, and every way to read a part gives the same.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use mcwc::container::Archive;
use mcwc::decode::{Opened, Reader};
use mcwc::encode::{Options, Statistics, Target, encode_to_vec};
use mcwc::formats::{SourceFile, companions, find_tensors};
#[cfg(feature = "gpu")]
use mcwc::gpu::{Layout, LevelFrame, NeededChunk};
use mcwc::source::Source;
use mcwc::tensor::{DType, Limits};
use mcwc::{Error, Result};

use super::seeds::{self, Model};
use super::split_pair;
use crate::memory::with_peak;

/// What reading may take beyond what it gives.
const MEMORY_MAX: usize = 64 << 20;
/// Of a file below 100 kB.
const MODEL_MEMORY_MAX: usize = 16 << 20;
/// Tensors of an archive that are read one by one.
pub const TENSORS_MAX: usize = 100;

/// The default limits, but for output: what is many bytes takes long, and tells nothing more.
pub fn small_limits() -> Limits {
    Limits { tensor_bytes: 1 << 18, output_bytes: 1 << 20, ..Limits::default() }
}

/// What reading a file or a tensor gave: its bytes, or the code of an error.
pub type Outcome = std::result::Result<Vec<u8>, &'static str>;

/// What reading an archive gave.
pub struct Read {
    pub files: Vec<Outcome>,
    /// The first ones, by name and file.
    pub tensors: Vec<Outcome>,
    /// How the first was taken that failed, or `ok`.
    pub told: String,
}

/// Reads all files and the first tensors of an archive, on its base.
pub fn read(archive: &[u8], base: Option<&[u8]>, limits: &Limits) -> Result<Read> {
    let mut reader = Reader::open(archive, limits)?;
    match base {
        Some(base) => reader = reader.with_base(&Reader::open(base, limits)?)?,
        None => reader.archive().require_base()?,
    }
    let parsed = reader.archive();
    let mut first_told = None;
    let mut outcome = |read: Result<Vec<u8>>| {
        read.map_err(|error| {
            first_told.get_or_insert_with(|| told(Some(&error)));
            error.code()
        })
    };
    let files: Vec<Result<Vec<u8>>> = (0..parsed.files.len()).map(|file| reader.file(file)).collect();
    let mut opened = Opened::default();
    let (mut tensors, mut frames) = (Vec::new(), Vec::new());
    for tensor in parsed.tensors.iter().take(TENSORS_MAX) {
        // Where names are equal, the first is found.
        let same = |other: &mcwc::container::Tensor| other.file == tensor.file && other.name == tensor.name;
        let index = parsed.tensors.iter().position(same).unwrap();
        let tensor = &parsed.tensors[index];
        let bytes = reader.read_tensor(index, &mut opened);
        if let Ok(file) = &files[tensor.file] {
            let place = tensor.offset as usize..(tensor.offset + tensor.bytes) as usize;
            assert_eq!(bytes.as_ref().unwrap(), &file[place], "{} is what lies in its file", tensor.name);
        }
        tensors.push(outcome(bytes));
        frames.extend(tensor.frames.last().copied());
    }
    for (file, read) in parsed.files.iter().zip(&files) {
        if let Ok(bytes) = read {
            assert_eq!(bytes.len() as u64, file.bytes, "{}", file.name);
        }
    }
    let passes = parsed.tensors.iter().map(|tensor| tensor.frames.len()).max().unwrap_or(0);
    for pass in 1..passes {
        let _ = reader.write_pass(0, pass - 1, &mut std::io::sink(), &mut |_| {});
    }
    #[cfg(feature = "gpu")]
    lay_out(&reader, &frames, tensors.iter().all(|tensor| tensor.is_ok()));
    let files = files.into_iter().map(outcome).collect();
    Ok(Read { files, tensors, told: first_told.unwrap_or_else(|| told(None)) })
}

/// Lays out frames of the tensors for a GPU, which proves its places as it goes; where the CPU reads all, it may decline them, and no more.
#[cfg(feature = "gpu")]
fn lay_out(reader: &Reader<[u8]>, frames: &[usize], is_sound: bool) {
    let lay_out = |frames: &[usize]| {
        let mut layout = Layout::new(reader.archive(), frames, None, u32::MAX.into())?;
        for NeededChunk { chunk, frame, index } in layout.needed_chunks() {
            let payload = reader.payload(chunk)?;
            match index {
                Some(index) => layout.add_chunk(frame, index, &payload)?,
                None => layout.add_side(frame, &payload)?,
            }
        }
        layout.tensors()?.iter().try_for_each(LevelFrame::check)
    };
    // Together, or one by one where the GPU does not take one of them.
    let by_one = |error| frames.iter().map(|frame| lay_out(&[*frame])).chain([Err(error)]).collect::<Vec<_>>();
    for error in lay_out(frames).map_or_else(by_one, |()| Vec::new()).into_iter().filter_map(Result::err) {
        assert!(!is_sound || error.code() == "unsupported", "what the CPU reads is broken on a GPU: {error}");
    }
}

/// How bytes were taken, in words without names and numbers: what is new there may lead on.
fn told(error: Option<&Error>) -> String {
    let text = error.map_or_else(|| "ok".to_owned(), ToString::to_string);
    let words =
        text.split(' ').filter(|word| word.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'_' | b':' | b',')));
    words.take(12).collect::<Vec<_>>().join(" ")
}

fn reading(archive: &[u8], base: Option<&[u8]>) -> String {
    let (read, peak) = with_peak(|| read(archive, base, &small_limits()));
    assert!(peak <= MEMORY_MAX, "reading takes {peak} bytes");
    match read {
        Ok(read) => read.told,
        Err(error) => {
            if error.code() == "limit-exceeded" {
                let (_, peak) = with_peak(|| Archive::parse(archive, &Limits::default()).is_ok());
                assert!(peak <= MEMORY_MAX, "opening takes {peak} bytes");
            }
            told(Some(&error))
        }
    }
}

pub fn archive(archive: &[u8]) -> String {
    reading(archive, None)
}

pub fn delta(base: &[u8], delta: &[u8]) -> String {
    reading(delta, Some(base))
}

/// The file in the place of the first one of a model.
pub fn model(index: &[u8], file: &[u8]) -> String {
    static MODELS: LazyLock<Vec<Model>> = LazyLock::new(seeds::models);
    let Some(model) = index.first().and_then(|&index| MODELS.get(usize::from(index))) else { return String::new() };
    let (found, peak) = with_peak(|| {
        let names = companions(&model[0].0, &file)?;
        let file_of = |(name, bytes): &'static (String, Vec<u8>)| SourceFile { name: name.clone(), source: bytes };
        let mut files: Vec<SourceFile> = model.iter().map(file_of).collect();
        files[0].source = &file;
        let sizes: Vec<u64> = files.iter().map(|file| file.bytes()).collect();
        for tensor in find_tensors(&files)? {
            assert!(
                tensor.offset.checked_add(tensor.bytes).unwrap() <= sizes[tensor.file],
                "{} lies in its file",
                tensor.name
            );
            assert_eq!(
                tensor.dtype.byte_len(tensor.shape.element_len().unwrap()),
                Some(tensor.bytes),
                "{}",
                tensor.name
            );
        }
        Ok(names.len())
    });
    assert!(peak <= MODEL_MEMORY_MAX, "finding tensors takes {peak} bytes");
    told(found.err().as_ref())
}

pub fn statistics(file: &[u8]) -> String {
    let (parsed, peak) = with_peak(|| Statistics::parse("statistics", &file).map(drop));
    assert!(peak <= MODEL_MEMORY_MAX, "parsing takes {peak} bytes");
    told(parsed.err().as_ref())
}

/// Encodes a file, as some options say, and decodes it; `None` where the bytes are no case.
pub fn encoding(case: &[u8]) -> Option<String> {
    let (choice, inputs) = split_pair(case)?;
    let (base, file) = split_pair(inputs)?;
    let choice: [u8; 4] = choice.get(..4)?.try_into().ok()?;
    let limits = small_limits();
    let base = if base.is_empty() { None } else { Some(base) };
    let source: Option<&dyn Source> = base.as_ref().map(|base| base as _);
    let opened = source.map(|source| Reader::open(source, &limits)).transpose();
    let base_reader = match opened {
        Ok(reader) => reader,
        Err(error) => return Some(told(Some(&error))),
    };
    let has = |bit: u8| choice[0] >> bit & 1 == 1;
    let target = match choice[1] % 4 {
        0 => Target::Lossless,
        1 => Target::Quality(f64::from(choice[2]) / 2000.0 + 1e-6),
        2 => Target::Size(u64::from(choice[2]) * 16),
        _ => Target::Bits(f64::from(choice[2]) / 16.0),
    };
    let options = Options {
        target,
        trellis: has(0),
        transform: has(1),
        prediction: has(2),
        alignment: has(3),
        entropy_model: has(4),
        lenient: has(5),
        adaptive: has(7),
        passes: if has(6) && choice[1] % 4 == 3 { &[1.5, 2.5] } else { &[] },
        key_interval: 1 + usize::from(choice[3] % 16),
        base: base_reader.as_ref(),
        ..Options::default()
    };
    let name = if choice[3] & 16 == 0 { "m.safetensors" } else { "m.bin" };
    if choice[3] & 32 != 0 {
        let source = Changing { file, reads: AtomicUsize::new(usize::from(choice[2])) };
        let encoded = encode_to_vec(&[SourceFile { name: name.into(), source: &source }], None, &options);
        return Some(told(encoded.err().as_ref()));
    }
    let files = [SourceFile { name: name.into(), source: &file }];
    let archive = match encode_to_vec(&files, None, &options) {
        Ok((archive, _)) => archive,
        Err(error) => return Some(told(Some(&error))),
    };
    check_encoded(&archive, base, file, &options);
    Some(format!("ok {}", archive.len().ilog2()))
}

/// A file that is written to while it is read: what is read of it does not fit together.
struct Changing<'f> {
    file: &'f [u8],
    reads: AtomicUsize,
}

impl Source for Changing<'_> {
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        self.file.read_at(offset, bytes)?;
        let read = self.reads.fetch_add(1, Ordering::Relaxed);
        let place = read.wrapping_mul(31) % (bytes.len().max(1) * 2);
        if let Some(byte) = bytes.get_mut(place) {
            *byte ^= 1 << (read % 8);
        }
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.file.len() as u64
    }
}

/// The archive of one file holds it, exactly where it has to.
fn check_encoded(archive: &[u8], base: Option<&[u8]>, file: &[u8], options: &Options) {
    let limits = Limits::default();
    let mut reader = Reader::open(archive, &limits).unwrap();
    if let Some(base) = base {
        reader = reader.with_base(&Reader::open(base, &limits).unwrap()).unwrap();
    }
    let decoded = reader.file(0).unwrap();
    assert_eq!(decoded.len(), file.len());
    if options.target == Target::Lossless {
        assert!(decoded == file, "every byte comes back");
    }
    let mut end = 0;
    for tensor in reader.archive().tensors.iter().filter(|tensor| !tensor.frames.is_empty()) {
        let (start, next) = (tensor.offset as usize, (tensor.offset + tensor.bytes) as usize);
        assert!(decoded[end..start] == file[end..start], "what lies between tensors is exact");
        if tensor.dtype == DType::F32 {
            let [before, after] = [file, &decoded].map(|file| file[start..next].as_chunks::<4>().0);
            let zeros = before.iter().zip(after).filter(|(before, _)| f32::from_le_bytes(**before) == 0.0);
            zeros.for_each(|(_, after)| assert_eq!(f32::from_le_bytes(*after), 0.0, "zeros stay zeros"));
        }
        end = next;
    }
    assert!(decoded[end..] == file[end..], "what follows tensors is exact");
}
