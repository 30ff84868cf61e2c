//! How much of a file is read, and what comes of a file that cannot be read.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// A file with gaps, where there are zeros that take no memory.
#[derive(Default)]
struct Gapped {
    parts: Vec<Part>,
    bytes: u64,
    bytes_read: AtomicU64,
}

enum Part {
    Bytes(Vec<u8>),
    Gap(u64),
}

impl Gapped {
    fn bytes(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        self.bytes += bytes.len() as u64;
        self.parts.push(Part::Bytes(bytes));
        self
    }

    fn gap(mut self, bytes: u64) -> Self {
        self.bytes += bytes;
        self.parts.push(Part::Gap(bytes));
        self
    }

    fn then(mut self, other: Gapped) -> Self {
        self.bytes += other.bytes;
        self.parts.extend(other.parts);
        self
    }

    /// As a protobuf field.
    fn field(number: u8, content: Gapped) -> Self {
        Gapped::default().bytes([number << 3 | 2]).bytes(varint(content.bytes)).then(content)
    }
}

impl Source for Gapped {
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        self.bytes_read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let needed = offset + bytes.len() as u64;
        if needed > self.bytes {
            return Err(Error::Incomplete { needed });
        }
        bytes.fill(0);
        let mut start = 0;
        for part in &self.parts {
            match part {
                Part::Gap(len) => start += len,
                Part::Bytes(part) => {
                    let end = start + part.len() as u64;
                    let common = start.max(offset)..end.min(needed);
                    if !common.is_empty() {
                        let from = &part[(common.start - start) as usize..(common.end - start) as usize];
                        bytes[(common.start - offset) as usize..][..from.len()].copy_from_slice(from);
                    }
                    start = end;
                }
            }
        }
        Ok(())
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// The tensors of a large file, of which all that is asked of it reads no more than one part in a thousand.
fn found_in(name: &str, file: &Gapped, format: Format) -> Vec<TensorLocation> {
    assert_eq!(detect(name, file).unwrap(), format);
    assert_eq!(companions(name, file).unwrap(), [""; 0]);
    let files = [source(name, file)];
    let tensors = find_tensors(&files).unwrap();
    if format == Format::Onnx {
        assert_eq!(graph(&files, 0).unwrap().constants.len(), tensors.len());
    }
    let read = file.bytes_read.load(Ordering::Relaxed);
    assert!(read < file.bytes / 1000, "{read} of {} bytes", file.bytes);
    tensors
}

const WEIGHT_BYTES: u64 = 1 << 27;

#[test]
fn weights_in_an_onnx_file_are_not_read() {
    let mut graph = Gapped::default();
    for index in 0..64u8 {
        let name = Gapped::default().bytes([b'w', index]);
        let dims_and_type = Gapped::default().bytes([1 << 3]).bytes(varint(WEIGHT_BYTES / 4)).bytes([2 << 3, 1]);
        let raw_data = Gapped::field(9, Gapped::default().gap(WEIGHT_BYTES));
        graph = graph.then(Gapped::field(5, dims_and_type.then(Gapped::field(8, name)).then(raw_data)));
    }
    let model = Gapped::default().bytes([1 << 3, 10]).then(Gapped::field(7, graph));
    let tensors = found_in("m.onnx", &model, Format::Onnx);
    assert_eq!(tensors.len(), 64);
    assert_eq!(tensors[63].offset + WEIGHT_BYTES, model.bytes);
}

#[test]
fn weights_in_a_safetensors_file_are_not_read() {
    let header = format!(r#"{{"w":{{"dtype":"U8","shape":[{WEIGHT_BYTES}],"data_offsets":[0,{WEIGHT_BYTES}]}}}}"#);
    let file = Gapped::default().bytes((header.len() as u64).to_le_bytes()).bytes(header).gap(WEIGHT_BYTES);
    assert_eq!(found_in("m.safetensors", &file, Format::Safetensors)[0].bytes, WEIGHT_BYTES);
}

#[test]
fn weights_in_a_gguf_file_are_not_read() {
    let head = [b"GGUF".as_slice(), &3u32.to_le_bytes(), &1u64.to_le_bytes(), &0u64.to_le_bytes()].concat();
    let name = [1u64.to_le_bytes().as_slice(), b"w"].concat();
    let shape = [1u32.to_le_bytes().as_slice(), &WEIGHT_BYTES.to_le_bytes()].concat();
    let info = [name, shape, 24u32.to_le_bytes().to_vec(), 0u64.to_le_bytes().to_vec()].concat();
    let padding = (head.len() + info.len()).next_multiple_of(32) - head.len() - info.len();
    let file = Gapped::default().bytes(head).bytes(info).gap(padding as u64).gap(WEIGHT_BYTES);
    assert_eq!(found_in("m.gguf", &file, Format::Gguf)[0].bytes, WEIGHT_BYTES);
}

#[test]
fn weights_in_a_checkpoint_are_not_read() {
    let pickle = crate::formats::torch::pickle_of(&[2, 3], &[3, 1], 0);
    let entries = [
        ("m/data.pkl", Gapped::default().bytes(pickle)),
        ("m/other", Gapped::default().gap(WEIGHT_BYTES)),
        ("m/data/0", Gapped::default().gap(24)),
    ];
    let (mut zip, mut directory) = (Gapped::default(), Vec::new());
    for (name, content) in entries {
        let size = u32::try_from(content.bytes).unwrap().to_le_bytes();
        let name_len = [name.len() as u8, 0];
        let about = [[20, 0].as_slice(), &[0; 12], &size, &size, &name_len, &[0, 0]].concat();
        let place = u32::try_from(zip.bytes).unwrap().to_le_bytes();
        let entry = [b"PK\x01\x02".as_slice(), &[20, 0], &about, &[0; 10], &place, name.as_bytes()].concat();
        directory.extend(entry);
        zip = zip.bytes([b"PK\x03\x04".as_slice(), &about, name.as_bytes()].concat()).then(content);
    }
    let [start, bytes] = [zip.bytes, directory.len() as u64].map(|value| u32::try_from(value).unwrap().to_le_bytes());
    let end = [b"PK\x05\x06".as_slice(), &[0; 4], &[3, 0, 3, 0], &bytes, &start, &[0, 0]].concat();
    let file = zip.bytes(directory).bytes(end);
    let tensors = found_in("m.pth", &file, Format::Torch);
    assert_eq!((tensors[0].name.as_str(), tensors[0].bytes), ("w", 24));
}

#[test]
fn json_beyond_the_limit_is_not_read() {
    let file = Gapped::default().bytes(*b"{").gap(MAX_JSON_BYTES);
    assert_eq!(found_in("model.json", &file, Format::Other), []);
    let error = companions("model.safetensors.index.json", &file).unwrap_err();
    assert!(matches!(error, Error::LimitExceeded { .. }), "{error}");
}

thread_local! {
    /// How many reads succeed before one fails; negative after that.
    static READS_LEFT: Cell<i64> = const { Cell::new(0) };
}

/// A file that cannot be read any more at some time.
struct Failing(&'static [u8]);

impl Source for Failing {
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<()> {
        let left = READS_LEFT.get() - 1;
        READS_LEFT.set(left);
        if left < 0 {
            return Err(Error::Io { path: "unplugged".to_owned(), source: "no such disk".into() });
        }
        self.0.read_at(offset, bytes)
    }

    fn bytes(&self) -> u64 {
        self.0.bytes()
    }
}

/// Lets each of the reads that a call makes fail in turn.
fn assert_every_failure_is_told<T>(what: &str, call: impl Fn() -> Result<T>) {
    for reads in 0.. {
        READS_LEFT.set(reads);
        let result = call();
        if READS_LEFT.get() >= 0 {
            assert!(result.is_ok() && reads > 0, "{what}");
            return;
        }
        assert!(matches!(result, Err(Error::Io { .. })), "{what} after {reads} reads");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_whatever_it_is() {
    for (name, case) in cases() {
        let contents: Vec<Failing> = case.files.iter().map(|name| Failing(fixture(name))).collect();
        let files: Vec<SourceFile> = case.files.iter().zip(&contents).map(|(name, file)| source(name, file)).collect();
        assert_every_failure_is_told(&name, || find_tensors(&files));
        for (index, file) in files.iter().enumerate() {
            let name = file.name.as_str();
            assert_every_failure_is_told(name, || detect(name, file.source));
            assert_every_failure_is_told(name, || companions(name, file.source));
            READS_LEFT.set(i64::MAX);
            if detect(name, file.source).unwrap() == Format::Onnx {
                assert_every_failure_is_told(name, || graph(&files, index));
            }
        }
    }
}
