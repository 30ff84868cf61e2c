//! How fast a GPU makes weights of payloads, against the CPU decoder and against sending the weights themselves. The binary needs
//! nothing beside itself, so that it can be carried to a machine with a GPU.
//!
//!     cargo bench --features gpu --bench gpu -- 4 16 64 256 1024     # millions of weights

use std::time::Instant;

use mcwc::container::{Archive, TensorEntry};
use mcwc::encode::assemble::ArchiveBuilder;
use mcwc::encode::levels::frame::LevelPlan;
use mcwc::encode::levels::matrix::Matrix;
use mcwc::encode::levels::model_fit::{CLASS_COUNT, Classes, SymbolCounts, TableSet};
use mcwc::entropy::EncoderTable;
use mcwc::gpu::{Batch, Decoder, Device, NeededChunk};
use mcwc::{DType, Limits, Reader};

#[path = "../src/noise.rs"]
mod noise;

/// Rows and columns of each tensor.
const SIDE: usize = 2048;
const REPETITIONS: usize = 7;
/// Weights that are decoded together at most: their levels take four bytes each.
const BATCH_LEN: usize = 256 << 20;

fn main() {
    let sizes: Vec<usize> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![4, 16, 64] } else { sizes };
    let gpu = pollster::block_on(Gpu::new());
    println!("{}, medians of {REPETITIONS}", gpu.decoder.device().name());
    println!(
        "ms of writing the words while tensors' buffers are made, of recording, of the GPU (entropy decoding, reconstruction),"
    );
    println!("and of all of it from host memory to tensors, with one wait a batch; billions of weights a second");
    let columns = ["M", "lanes", "", "MB up", "write", "record", "GPU", "all", "G/s GPU", "G/s all"];
    println!("{}", columns.map(|column| format!("{column:>8}")).concat());
    for lanes in [16, 64, 256] {
        let archive = archive(sizes.iter().max().map_or(1, |size| tensor_len(*size)), lanes);
        let reader = Reader::open(archive.as_slice(), &Limits::default()).expect("the archive is sound");
        if lanes == 16 {
            cpu(&reader);
        }
        let chunks =
            (0..reader.archive().chunks.len()).map(|chunk| reader.payload(chunk).expect("the archive is sound"));
        let payloads = Payloads { archive: reader.archive(), chunks: chunks.collect() };
        for &size in &sizes {
            for dtype in [DType::F32, DType::F16] {
                let mut times: Vec<[f64; 3]> = (0..REPETITIONS).map(|_| gpu.decode(&payloads, size, dtype)).collect();
                times.sort_by(|a, b| a.iter().sum::<f64>().total_cmp(&b.iter().sum()));
                let [write, record, wait] = times[REPETITIONS / 2];
                let all = median(|| gpu.decode_at_once(&payloads, size, dtype));
                let weights = (tensor_len(size) * SIDE * SIDE) as f64;
                let up = payload_bytes(&reader) as f64 * tensor_len(size) as f64 / 1e6;
                let [gpu_rate, rate] = [wait, all].map(|ms| weights / ms / 1e6);
                println!(
                    "{size:>8}{lanes:>8}{:>8}{up:>8.1}{write:>8.2}{record:>8.2}{wait:>8.2}{all:>8.2}{gpu_rate:>8.2}{rate:>8.2}",
                    dtype.name()
                );
            }
        }
    }
    for &size in &sizes {
        for (name, element_bytes) in [("f16", 2), ("f32", 4)] {
            let [ms, kept, copy] = gpu.plain_upload(tensor_len(size) * SIDE * SIDE * element_bytes);
            println!(
                "{size:>8} M as {name}: {ms:.2} ms to write, {kept:.2} into a buffer that exists, {copy:.2} to copy there"
            );
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
        pruning: None,
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

/// An archive, and the payloads of its chunks.
struct Payloads<'a> {
    archive: &'a Archive,
    chunks: Vec<Vec<u8>>,
}

/// Frames of so many millions of weights, in batches.
fn batches(millions: usize) -> impl Iterator<Item = Vec<usize>> {
    let (tensors, batch_len) = (tensor_len(millions), BATCH_LEN / (SIDE * SIDE));
    (0..tensors).step_by(batch_len).map(move |first| (first..tensors.min(first + batch_len)).collect())
}

fn ms_since(began: Instant) -> f64 {
    1e3 * began.elapsed().as_secs_f64()
}

/// A device, what decodes on it, and what its time is told by.
struct Gpu {
    device: wgpu::Device,
    queue: wgpu::Queue,
    decoder: Decoder,
    clock: Option<Clock>,
}

/// Time stamps; and two buffers to copy between, so that the GPU has not yet come to the first stamp when the last is sent.
struct Clock {
    stamps: wgpu::QuerySet,
    resolved: wgpu::Buffer,
    read: wgpu::Buffer,
    busy: [wgpu::Buffer; 2],
}

impl Gpu {
    async fn new() -> Self {
        let instance = wgpu::Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
        let options = wgpu::RequestAdapterOptions {
            power_preference: wgpu::PowerPreference::HighPerformance,
            ..Default::default()
        };
        let adapter = instance.request_adapter(&options).await.expect("a GPU");
        let stamps = wgpu::Features::TIMESTAMP_QUERY | wgpu::Features::TIMESTAMP_QUERY_INSIDE_ENCODERS;
        let is_timed = adapter.features().contains(stamps) && adapter.get_info().device_type != wgpu::DeviceType::Cpu;
        let descriptor = wgpu::DeviceDescriptor {
            required_limits: adapter.limits(),
            required_features: if is_timed { stamps } else { wgpu::Features::empty() },
            ..Default::default()
        };
        let (device, queue) = adapter.request_device(&descriptor).await.expect("a device");
        let ours = Device::new(device.clone(), queue.clone(), &adapter.get_info());
        let decoder = Decoder::new(ours).await.expect("the device takes the shaders");
        let clock = is_timed.then(|| Clock::new(&device));
        Gpu { device, queue, decoder, clock }
    }

    fn wait(&self) {
        self.device.poll(wgpu::PollType::wait_indefinitely()).expect("the device works");
    }

    /// Milliseconds of writing the payloads of so many millions of weights, of recording what decodes them, and of the GPU.
    fn decode(&self, payloads: &Payloads, millions: usize, dtype: DType) -> [f64; 3] {
        let mut times = [0.0; 3];
        for frames in batches(millions) {
            let run = async {
                let began = Instant::now();
                let batch = self.written(payloads, &frames, dtype).await?;
                self.queue.submit([]);
                self.wait();
                times[0] += ms_since(began);
                self.clock.iter().for_each(|clock| clock.begin(self));
                let began = Instant::now();
                let started = self.decoder.start(batch).await?;
                times[1] += ms_since(began);
                self.clock.iter().for_each(|clock| clock.end(self));
                let began = Instant::now();
                let buffers = started.finish().await?;
                let waited = ms_since(began);
                times[2] += self.clock.as_ref().map_or(waited, |clock| clock.read(self));
                buffers.iter().for_each(wgpu::Buffer::destroy);
                mcwc::Result::Ok(())
            };
            pollster::block_on(run).expect("the GPU decodes it");
        }
        times
    }

    /// Milliseconds of the same with one wait for each batch, but for what ends the tensors.
    fn decode_at_once(&self, payloads: &Payloads, millions: usize, dtype: DType) -> f64 {
        let run = async {
            let mut ms = 0.0;
            for frames in batches(millions) {
                let began = Instant::now();
                let batch = self.written(payloads, &frames, dtype).await?;
                let tensors = self.decoder.finish(batch).await?;
                ms += ms_since(began);
                tensors.iter().for_each(wgpu::Buffer::destroy);
            }
            mcwc::Result::Ok(ms)
        };
        pollster::block_on(run).expect("the GPU decodes it")
    }

    async fn written(&self, payloads: &Payloads<'_>, frames: &[usize], dtype: DType) -> mcwc::Result<Batch> {
        let mut batch = self.decoder.begin(payloads.archive, frames, Some(dtype)).await?;
        let payload = |needed: NeededChunk| (needed, &payloads.chunks[needed.chunk]);
        let payloads: Vec<_> = batch.needed_chunks().into_iter().map(payload).collect();
        self.decoder.add(&mut batch, &payloads)?;
        Ok(batch)
    }

    /// Milliseconds of sending so many bytes up as they are, to a new buffer and to one that exists, and of a copy on the device.
    fn plain_upload(&self, bytes: usize) -> [f64; 3] {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
        let new = || {
            let descriptor =
                wgpu::BufferDescriptor { label: None, size: bytes as u64, usage, mapped_at_creation: false };
            self.device.create_buffer(&descriptor)
        };
        let data = vec![1; bytes];
        let write = |buffer: &wgpu::Buffer| {
            self.queue.write_buffer(buffer, 0, &data);
            self.queue.submit([]);
            self.wait();
        };
        let (kept, other) = (new(), new());
        let to_kept = || {
            let began = Instant::now();
            write(&kept);
            ms_since(began)
        };
        let copy = || {
            let began = Instant::now();
            let mut encoder = self.device.create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(&kept, 0, &other, 0, bytes as u64);
            self.queue.submit([encoder.finish()]);
            self.wait();
            ms_since(began)
        };
        let to_new = || {
            let began = Instant::now();
            let buffer = new();
            write(&buffer);
            let ms = ms_since(began);
            buffer.destroy();
            ms
        };
        [median(to_new), median(to_kept), median(copy)]
    }
}

impl Clock {
    const BUSY_BYTES: u64 = 1 << 30;
    /// Copies of about a millisecond each: together longer than recording a batch takes.
    const BUSY_COPIES: usize = 100;

    fn new(device: &wgpu::Device) -> Self {
        use wgpu::BufferUsages as Usage;
        let buffer = |size, usage| {
            device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
        };
        Clock {
            stamps: device.create_query_set(&wgpu::QuerySetDescriptor {
                label: None,
                ty: wgpu::QueryType::Timestamp,
                count: 2,
            }),
            resolved: buffer(16, Usage::QUERY_RESOLVE | Usage::COPY_SRC),
            read: buffer(16, Usage::MAP_READ | Usage::COPY_DST),
            busy: [(); 2].map(|()| buffer(Self::BUSY_BYTES, Usage::COPY_SRC | Usage::COPY_DST)),
        }
    }

    fn begin(&self, gpu: &Gpu) {
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        for _ in 0..Self::BUSY_COPIES {
            encoder.copy_buffer_to_buffer(&self.busy[0], 0, &self.busy[1], 0, Self::BUSY_BYTES);
        }
        encoder.write_timestamp(&self.stamps, 0);
        gpu.queue.submit([encoder.finish()]);
    }

    fn end(&self, gpu: &Gpu) {
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        encoder.write_timestamp(&self.stamps, 1);
        encoder.resolve_query_set(&self.stamps, 0..2, &self.resolved, 0);
        encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.read, 0, 16);
        gpu.queue.submit([encoder.finish()]);
    }

    /// Milliseconds between the two stamps.
    fn read(&self, gpu: &Gpu) -> f64 {
        self.read.map_async(wgpu::MapMode::Read, .., |result| result.expect("the device works"));
        gpu.wait();
        let stamps: [u64; 2] = bytemuck::pod_read_unaligned(&self.read.get_mapped_range(..).expect("it is mapped"));
        self.read.unmap();
        (stamps[1] - stamps[0]) as f64 * f64::from(gpu.queue.get_timestamp_period()) / 1e6
    }
}

/// The CPU's rate on one core, and on all.
fn cpu(reader: &Reader<[u8]>) {
    let rate = || {
        let (began, mut bytes) = (Instant::now(), 0);
        while began.elapsed().as_secs_f64() < 1.0 {
            bytes += reader.tensor("0").expect("the archive is sound").len();
        }
        bytes as f64 / 4e9 / began.elapsed().as_secs_f64()
    };
    let one = rate();
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let all: f64 = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores).map(|_| scope.spawn(rate)).collect();
        threads.into_iter().map(|thread| thread.join().expect("decoding does not panic")).sum()
    });
    println!("CPU, one core: {one:.2} G/s; {cores} cores: {all:.2} G/s");
}

/// The median of a few times, after one that is not counted.
fn median(ms: impl Fn() -> f64) -> f64 {
    ms();
    let mut times: Vec<f64> = (0..REPETITIONS).map(|_| ms()).collect();
    times.sort_by(f64::total_cmp);
    times[REPETITIONS / 2]
}
