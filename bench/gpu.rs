//! How fast a GPU makes weights of payloads, against the CPU decoder and against sending the weights themselves. The binary needs
//! nothing beside itself, so that it can be carried to a machine with a GPU.
//!
//!     cargo bench --features gpu --bench gpu -- 4 64 256     # millions of weights

use std::time::Instant;

use mcwc::container::TensorEntry;
use mcwc::encode::assemble::ArchiveBuilder;
use mcwc::encode::levels::frame::LevelPlan;
use mcwc::encode::levels::matrix::Matrix;
use mcwc::encode::levels::model_fit::{CLASS_COUNT, Classes, SymbolCounts, TableSet};
use mcwc::entropy::EncoderTable;
use mcwc::gpu::{Decoder, Device};
use mcwc::{DType, Limits, Reader};

#[path = "../src/noise.rs"]
mod noise;

/// Rows and columns of each tensor.
const SIDE: usize = 2048;
const REPETITIONS: usize = 7;
/// Weights that are decoded together at most: their levels take four bytes each.
const BATCH_LEN: usize = 64 << 20;

fn main() {
    let sizes: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![4, 16, 64] } else { sizes };
    let gpu = pollster::block_on(async { Decoder::new(Device::request().await?).await }).expect("a GPU");
    println!("{}, medians of {REPETITIONS}", gpu.device().name());
    println!("{:>6} {:>6} {:>5} {:>9} {:>9} {:>9} {:>7}", "M", "lanes", "", "MB up", "upload ms", "decode ms", "G/s");
    for lanes in [16, 64, 256] {
        let archive = archive(sizes.iter().max().map_or(1, |size| tensor_len(*size)), lanes);
        let reader = Reader::open(archive.as_slice(), &Limits::default()).expect("the archive is sound");
        if lanes == 16 {
            cpu(&reader);
        }
        for &size in &sizes {
            for dtype in [DType::F32, DType::F16] {
                let mut times: Vec<[f64; 2]> = (0..REPETITIONS).map(|_| decode(&gpu, &reader, size, dtype)).collect();
                times.sort_by(|a, b| (a[0] + a[1]).total_cmp(&(b[0] + b[1])));
                let [upload, decode] = times[REPETITIONS / 2];
                let weights = (tensor_len(size) * SIDE * SIDE) as f64;
                let up = payload_bytes(&reader) as f64 * tensor_len(size) as f64 / 1e6;
                let rate = weights / (upload + decode) / 1e6;
                println!("{size:>6} {lanes:>6} {:>5} {up:>9.1} {upload:>9.2} {decode:>9.2} {rate:>7.2}", dtype.name());
            }
        }
    }
    for &size in &sizes {
        for (name, element_bytes) in [("f16", 2), ("f32", 4)] {
            let ms = plain_upload(tensor_len(size) * SIDE * SIDE * element_bytes);
            println!("{size:>6} plain {name:>6} {:>9} {ms:>9.2}", "");
        }
    }
}

fn tensor_len(millions: usize) -> usize {
    ((millions << 20) / (SIDE * SIDE)).max(1)
}

/// Tensors of normal weights at about 4 bits, under the trellis; all are the same chunks.
fn archive(tensor_len: usize, lanes: usize) -> Vec<u8> {
    let mut random = noise::Noise(1);
    let matrix = Matrix { rows: SIDE, columns: SIDE, taps: 1 };
    let levels: Vec<i32> = (0..SIDE * SIDE).map(|_| (2.5 * random.normal()).round() as i32).collect();
    let row = (0..SIDE).map(|_| random.below(3) as i8 + 7).collect();
    let column = (0..SIDE).map(|_| random.below(3) as i8 - 1).collect();
    let plan = LevelPlan {
        matrix,
        scale: Some(0.01),
        zero_point: 0,
        low_bits: 0,
        column_major: false,
        dct: false,
        trellis: true,
        sparsity: 0,
        classes: Classes { base: 8, row, column, tap: Vec::new() },
        exponents: Default::default(),
        row_permutation: None,
        column_permutation: None,
        prediction: None,
        lanes,
    };
    let mut counts = SymbolCounts::new(2);
    for (quantizer, class) in (0..2).flat_map(|quantizer| (0..CLASS_COUNT).map(move |class| (quantizer, class))) {
        levels.iter().take(5000).for_each(|&level| counts.add(quantizer, class, level));
    }
    let TableSet { first_class, tables, .. } = counts.tables();
    let models: Vec<EncoderTable> = tables.iter().map(EncoderTable::new).collect();
    let mut builder = ArchiveBuilder::default();
    tables.iter().for_each(|table| table.serialize(&mut builder.header.tables));
    let frame = plan.encode(&levels.as_slice().into(), first_class, &models).expect("levels are small");
    builder.push_frame(frame).expect("chunks are short");
    let bytes = (SIDE * SIDE * 4) as u64;
    let file = mcwc::container::FileEntry { name: "f".into(), bytes: bytes * tensor_len as u64, first_raw_chunk: 0 };
    builder.header.files.push(file);
    for index in 0..tensor_len as u64 {
        if index > 0 {
            builder.header.frames.push(builder.header.frames[0].clone());
        }
        builder.header.tensors.push(TensorEntry {
            name: format!("{index}"),
            dtype: DType::F32 as u32,
            shape: vec![SIDE as u64; 2],
            file: 0,
            offset: index * bytes,
            frames: Some(vec![index]),
        });
    }
    builder.finish().expect("the header is short")
}

fn payload_bytes(reader: &Reader<[u8]>) -> u64 {
    reader.archive().chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum()
}

/// Milliseconds of sending the payloads of so many millions of weights up, and of decoding them.
fn decode(gpu: &Decoder, reader: &Reader<[u8]>, millions: usize, dtype: DType) -> [f64; 2] {
    let payloads: Vec<Vec<u8>> =
        (0..reader.archive().chunks.len()).map(|chunk| reader.payload(chunk).unwrap()).collect();
    let frames: Vec<usize> = (0..tensor_len(millions)).collect();
    let mut times = [0.0; 2];
    for frames in frames.chunks(BATCH_LEN / (SIDE * SIDE)) {
        let run = async {
            let began = Instant::now();
            let mut batch = gpu.begin(reader.archive(), frames, Some(dtype)).await?;
            for needed in batch.needed_chunks() {
                match needed.index {
                    Some(index) => batch.add_chunk(needed.frame, index, &payloads[needed.chunk]).await?,
                    None => batch.add_side(needed.frame, &payloads[needed.chunk])?,
                }
            }
            times[0] += 1e3 * began.elapsed().as_secs_f64();
            let began = Instant::now();
            let buffers = gpu.finish(batch).await?;
            times[1] += 1e3 * began.elapsed().as_secs_f64();
            buffers.iter().for_each(wgpu::Buffer::destroy);
            mcwc::Result::Ok(())
        };
        pollster::block_on(run).expect("the GPU decodes it");
    }
    times
}

/// The CPU's rate on one core.
fn cpu(reader: &Reader<[u8]>) {
    let began = Instant::now();
    let mut bytes = 0;
    while began.elapsed().as_secs_f64() < 1.0 {
        bytes += reader.tensor("0").expect("the archive is sound").len();
    }
    println!("CPU, one core: {:.2} G/s", bytes as f64 / 4e9 / began.elapsed().as_secs_f64());
}

/// Milliseconds of sending so many bytes up as they are.
fn plain_upload(bytes: usize) -> f64 {
    let run = async {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let adapter = instance.request_adapter(&Default::default()).await.expect("a GPU");
        let descriptor = wgpu::DeviceDescriptor { required_limits: adapter.limits(), ..Default::default() };
        adapter.request_device(&descriptor).await.expect("a device")
    };
    let (device, queue) = pollster::block_on(run);
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
    let data = vec![1; bytes];
    let mut times: Vec<f64> = (0..REPETITIONS)
        .map(|_| {
            let began = Instant::now();
            let descriptor =
                wgpu::BufferDescriptor { label: None, size: bytes as u64, usage, mapped_at_creation: false };
            let buffer = device.create_buffer(&descriptor);
            queue.write_buffer(&buffer, 0, &data);
            queue.submit([]);
            device.poll(wgpu::PollType::wait_indefinitely()).expect("the device works");
            buffer.destroy();
            1e3 * began.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[REPETITIONS / 2]
}
