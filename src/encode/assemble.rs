//! Payloads and what describes them -> an archive: the header first, then chunks in the order of their use.

use std::io::Write;

use crate::container::{Archive, FileEntry, Hash, Header, TensorEntry, serialize_head};
use crate::encode::coded::Lossy;
use crate::encode::exact::frame::{CodedFrame, KeptFrame, Payload};
use crate::encode::exact::planes::encode_plane;
use crate::encode::fixed::Fixed;
use crate::encode::report::{Report, TensorReport};
use crate::encode::scratch::Scratch;
use crate::encode::search::attempt::Quantized;
use crate::error::{Error, Result};
use crate::source::Source;
use crate::tensor::Limits;

/// An archive whose bytes are known, and what became of its model.
pub struct Assembled {
    builder: ArchiveBuilder,
    head: Vec<u8>,
    /// What became of the model.
    pub report: Report,
}

impl Assembled {
    /// Puts header and chunks together: raw streams first, so that what describes a model arrives before its weights.
    ///
    /// # Errors
    /// `LimitExceeded` if the header is too long.
    pub fn new(lossy: &Lossy, fixed: &Fixed, quantized: Quantized, base: Option<Hash>) -> Result<Self> {
        let contents = lossy.contents;
        let mut builder = ArchiveBuilder::default();
        for (file, payloads) in contents.files.iter().zip(&fixed.raw) {
            let first_raw_chunk = builder.push_payloads(payloads.clone());
            builder.header.files.push(FileEntry { name: file.name.clone(), bytes: file.bytes(), first_raw_chunk });
        }
        let tables = &quantized.tables;
        for table in tables.iter().chain(&fixed.integers.tables) {
            table.serialize(&mut builder.header.tables);
        }
        let mut report = Report {
            raw_bytes: fixed.raw_bytes(),
            distortion: quantized.distortion(lossy),
            near_lossless: quantized.near_lossless,
            ..Report::default()
        };
        let mut coded = lossy.coded.iter().zip(quantized.tensors).peekable();
        let mut refinements = Vec::new();
        for index in 0..contents.frame_count() {
            let lossy = coded.next_if(|(coded, _)| coded.frame == index);
            let loss = lossy.as_ref().and_then(|(coded, tensor)| Some([coded.squares, tensor.squared_error?]));
            let frames: Vec<KeptFrame> = match lossy {
                Some((_, tensor)) => tensor.frames,
                None => fixed.frame(index, tables.len()).into_iter().collect(),
            };
            let bytes = frames.iter().map(KeptFrame::bytes).sum();
            report.tensors.push(TensorReport::new(contents.tensor(index), bytes, loss));
            let mut frames = frames.into_iter();
            let frame = frames.next().ok_or_else(|| Error::argument("a frame was not coded"))?;
            if frame.entry.reference.as_deref().is_some_and(|reference| reference[0] == 1) {
                builder.header.base = base.map(|integrity| integrity.0.to_vec());
            }
            builder.push_kept(frame);
            refinements.push(frames);
        }
        let frames_of = builder.push_refinements(refinements, &mut report);
        for (tensor, frame) in contents.tensors.iter().zip(&contents.frame_of) {
            builder.header.tensors.push(TensorEntry {
                name: tensor.name.clone(),
                dtype: tensor.dtype as u32,
                shape: tensor.shape.0.clone(),
                file: tensor.file as u32,
                offset: tensor.offset,
                frames: frame.map(|frame| frames_of[frame].clone()),
            });
        }
        report.needs_base = builder.header.base.is_some();
        let head = builder.head()?;
        // No reader would take what this refuses.
        Archive::parse(&head, &Limits::default())?;
        report.pass_bytes.iter_mut().for_each(|bytes| *bytes += head.len() as u64);
        report.original_bytes = contents.files.iter().map(Source::bytes).sum();
        report.archive_bytes = head.len() as u64 + builder.bytes;
        Ok(Assembled { builder, head, report })
    }

    /// Writes the archive.
    ///
    /// # Errors
    /// `Io` if it cannot be written, or a payload not be read.
    pub fn write(&self, out: &mut dyn Write) -> Result<()> {
        self.builder.write(&self.head, out)
    }
}

/// Collects chunks and header entries into an archive.
#[derive(Default)]
pub struct ArchiveBuilder {
    /// The header so far; `chunks` is filled in as payloads come.
    pub header: Header,
    payloads: Vec<Payload>,
    bytes: u64,
}

impl ArchiveBuilder {
    /// Appends chunks; returns the index of the first.
    ///
    /// # Errors
    /// `LimitExceeded` if one is too long.
    pub fn push_chunks(&mut self, payloads: Vec<Vec<u8>>) -> Result<u32> {
        let payloads = payloads.into_iter().map(|payload| Payload::new(payload, &Scratch::memory()));
        Ok(self.push_payloads(payloads.collect::<Result<_>>()?))
    }

    /// Appends a frame and its chunks; returns its index.
    ///
    /// # Errors
    /// `LimitExceeded` if a chunk is too long.
    pub fn push_frame(&mut self, frame: CodedFrame) -> Result<u32> {
        Ok(self.push_kept(frame.kept(&Scratch::memory())?))
    }

    fn push_payloads(&mut self, payloads: Vec<Payload>) -> u32 {
        let first = self.payloads.len() as u32;
        for payload in &payloads {
            self.header.chunks.extend_from_slice(&payload.entry);
            self.bytes += payload.kept.len() as u64;
        }
        self.payloads.extend(payloads);
        first
    }

    fn push_kept(&mut self, mut frame: KeptFrame) -> u32 {
        frame.entry.first_chunk = self.push_payloads(frame.payloads);
        self.header.frames.push(frame.entry);
        self.header.frames.len() as u32 - 1
    }

    /// Appends what refines each frame, pass after pass, so that all tensors can be used before any is refined; gives the frames
    /// of each tensor that had the frame of that index.
    fn push_refinements(
        &mut self,
        mut refinements: Vec<std::vec::IntoIter<KeptFrame>>,
        report: &mut Report,
    ) -> Vec<Vec<u64>> {
        let mut frames_of: Vec<Vec<u64>> = (0..refinements.len() as u64).map(|frame| vec![frame]).collect();
        while refinements.iter().any(|frames| frames.len() > 0) {
            report.pass_bytes.push(self.bytes);
            for (frames, refinements) in frames_of.iter_mut().zip(&mut refinements) {
                if let Some(mut refinement) = refinements.next() {
                    refinement.entry.reference = frames.last().map(|&frame| vec![0, frame]);
                    frames.push(self.push_kept(refinement).into());
                }
            }
        }
        frames_of
    }

    /// The archive.
    ///
    /// # Errors
    /// `LimitExceeded` if the header is too long.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        let head = self.head()?;
        let mut archive = Vec::with_capacity(head.len() + self.bytes as usize);
        self.write(&head, &mut archive)?;
        Ok(archive)
    }

    /// Preamble and header.
    fn head(&mut self) -> Result<Vec<u8>> {
        let generator = ("generator".to_string(), concat!("mcwc ", env!("CARGO_PKG_VERSION")).to_string());
        self.header.metadata.get_or_insert_default().push(generator);
        serialize_head(&self.header, Some(encode_plane))
    }

    fn write(&self, head: &[u8], out: &mut dyn Write) -> Result<()> {
        let io = |error: std::io::Error| Error::Io { path: "the archive".into(), source: error.into() };
        out.write_all(head).map_err(io)?;
        self.payloads.iter().try_for_each(|payload| out.write_all(&payload.kept.bytes()?).map_err(io))
    }
}
