// The browser's part of decode.mjs: every method once to compare its output, then all of them in turn, many times.

const SETTLE_MS = 50;

/** @typedef {{name: string, weights?: number, run: () => unknown, check: () => Promise<boolean> | boolean}} Method */

/**
 * `archives`: their folders. The first one is also decoded by everything else.
 * @returns {Promise<{weights: Record<string, number>, streamBytes: number, wrong: string[], samplesMs: Record<string, number[]>}>}
 */
export async function measure({ rounds, archives, packed }) {
  const [first, ...others] = await Promise.all(archives.map(load));
  const baseline = await constriction(first.bytes);
  const symbols = baseline.symbols();
  const methods = [
    kernel(first),
    ...others.map((other) => kernel(other)),
    kernel(first, { verify: true }),
    baseline.method,
    ...(await byteCoders(first.name, packed, symbols)),
    ...(await endToEnd(first)),
  ];
  const wrong = [];
  for (const { name, run, check } of methods) {
    await run();
    if (!(await check())) wrong.push(name);
  }
  const samplesMs = Object.fromEntries(methods.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    for (const { name, run } of methods) {
      await settled();
      const started = performance.now();
      await run();
      samplesMs[name].push(performance.now() - started);
    }
  }
  const weights = Object.fromEntries(methods.map(({ name, weights }) => [name, weights ?? symbols.length]));
  return { weights, streamBytes: baseline.bytes, wrong, samplesMs };
}

/** Lets threads and the garbage collector finish what one method has left, so that the next does not pay for it. */
function settled() {
  return new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
}

async function bytesOf(address) {
  return new Uint8Array(await (await fetch(address)).arrayBuffer());
}

function equal(a, b) {
  if (a.length !== b.length) return false;
  if (a.length % 4 === 0 && a.byteOffset % 4 === 0 && b.byteOffset % 4 === 0) {
    const [left, right] = [a, b].map(({ buffer, byteOffset, length }) => new Uint32Array(buffer, byteOffset, length / 4));
    return left.every((value, index) => value === right[index]);
  }
  return a.every((value, index) => value === b[index]);
}

/** An archive, what the native command makes of it, and what its header says about the tensors that are coded as levels. */
async function load(name) {
  const [bytes, expected] = await Promise.all(['mcwc', 'safetensors'].map((type) => bytesOf(`/data/${name}/model.${type}`)));
  const { Archive, initSync } = await import('/bindings/mcwc.js');
  const { memory } = initSync({ module: await bytesOf('/pkg/mcwc_bg.wasm') });
  const archive = new Archive(bytes.subarray(0, Archive.headBytes(bytes.subarray(0, 32))));
  // In the order that js/description.ts names.
  const [, , , files, tensorLists, frameLists] = archive.describe();
  const tensors = tensorLists.map(([name, , , bytes, , offset, frames]) => ({ name, bytes, offset, frame: frames.at(-1) }));
  const frames = frameLists.map(([sideChunk, firstChunk, chunkCount, reference, onGpu]) => {
    return { sideChunk, firstChunk, chunkCount, reference, onGpu };
  });
  if (files.length !== 1) throw new Error('the benchmark expects one file, so that offsets of tensors are offsets in it');
  const coded = tensors.filter(({ frame }) => frames[frame]?.onGpu);
  return { name, bytes, expected, memory, archive, frames, coded };
}

/** The shipped module on one thread, chunk by chunk, results left in its memory. */
function kernel({ name, bytes: archiveBytes, expected, memory, archive, frames, coded }, { verify = false } = {}) {
  const chunks = archive.chunks();
  const write = (chunk) => {
    const [, offset, length] = chunks.subarray(3 * chunk);
    const at = archive.payload(length);
    new Uint8Array(memory.buffer, at, length).set(archiveBytes.subarray(offset, offset + length));
    if (verify) archive.verify(chunk);
  };
  const openFrame = (frame) => {
    const { sideChunk, reference } = frames[frame];
    if (reference >= 0) openFrame(reference);
    if (sideChunk >= 0) write(sideChunk);
    archive.openFrame(frame);
  };
  /** Makes a chunk the payload when the same chunk of the frame's reference has been decoded. */
  const prepare = (frame, index) => {
    const { firstChunk, reference } = frames[frame];
    if (index < frames[reference]?.chunkCount) {
      prepare(reference, index);
      archive.decodeReference(reference, index);
    }
    write(firstChunk + index);
  };
  const decode = (take = () => {}) => {
    for (const { frame, offset } of coded) {
      openFrame(frame);
      for (let index = 0, at = offset; index < frames[frame].chunkCount; index++) {
        prepare(frame, index);
        const bytes = archive.decodeChunk(index);
        take(at, bytes);
        at += bytes;
      }
    }
  };
  const check = () => {
    let same = true;
    decode((at, bytes) => {
      same &&= equal(new Uint8Array(memory.buffer, archive.decoded(), bytes), expected.subarray(at, at + bytes));
    });
    return same;
  };
  const weights = coded.reduce((sum, { bytes }) => sum + bytes / Float32Array.BYTES_PER_ELEMENT, 0);
  return { name: verify ? `kernel-${name}-sha` : `kernel-${name}`, weights, run: () => decode(), check };
}

async function constriction(archiveBytes) {
  const { Baseline, initSync } = await import('/baseline/baseline.js');
  const { memory } = initSync({ module: await bytesOf('/baseline/baseline_bg.wasm') });
  const baseline = new Baseline(archiveBytes);
  const view = (at) => new Uint8Array(memory.buffer, at, baseline.len());
  return {
    symbols: () => view(baseline.symbols()),
    bytes: baseline.bytes(),
    method: {
      name: 'constriction',
      run: () => baseline.decode(),
      check: () => equal(view(baseline.decoded()), view(baseline.symbols())),
    },
  };
}

/** General-purpose coders on the symbols, one byte each. */
async function byteCoders(archive, packed, symbols) {
  const { ZSTDDecoder } = await import('/modules/zstddec/dist/zstddec.mjs');
  const [zstdExports, zstd] = await withExports(async () => {
    const decoder = new ZSTDDecoder();
    await decoder.init();
    return decoder;
  });
  const { default: brotliReady } = await import('/modules/brotli-wasm/index.web.js');
  const brotli = await brotliReady;
  const bytes = Object.fromEntries(await Promise.all(packed.map(async (name) => [name, await bytesOf(`/data/${archive}/symbols.${name}`)])));

  let result;
  const check = () => equal(result, symbols);
  const gunzip = () => new Blob([bytes.gzip]).stream().pipeThrough(new DecompressionStream('gzip'));
  return [
    { name: 'zstd', run: () => (result = zstd.decode(bytes.zstd, symbols.length)), check },
    zstdInPlace(zstdExports, bytes.zstd, symbols),
    { name: 'brotli', run: () => (result = brotli.decompress(bytes.brotli)), check },
    { name: 'gzip', run: async () => (result = new Uint8Array(await new Response(gunzip()).arrayBuffer())), check },
  ];
}

/** The same zstd without the package's copy of the result out of wasm memory: as the kernels are measured. */
function zstdInPlace({ memory, malloc, ZSTD_decompress }, bytes, symbols) {
  const from = malloc(bytes.length);
  const to = malloc(symbols.length);
  const run = () => {
    new Uint8Array(memory.buffer).set(bytes, from);
    ZSTD_decompress(to, symbols.length, from, bytes.length);
  };
  return { name: 'zstd-in-place', run, check: () => equal(new Uint8Array(memory.buffer, to, symbols.length), symbols) };
}

/** What `load` gives, and the exports of the wasm that it instantiates meanwhile. */
async function withExports(load) {
  const { instantiate } = WebAssembly;
  let exports;
  WebAssembly.instantiate = async (...args) => {
    const result = await instantiate(...args);
    ({ exports } = result.instance);
    return result;
  };
  try {
    const loaded = await load();
    return [exports, loaded];
  } finally {
    WebAssembly.instantiate = instantiate;
  }
}

/** The public functions, from an archive in memory, while this thread has nothing else to do. */
async function endToEnd({ coded, bytes: archiveBytes, expected }) {
  const { open } = await import('/pkg/index.js');
  const configurations = [['1', 1], ['default', undefined]];
  const methods = [];
  for (const [name, workers] of configurations) {
    const archive = await open(archiveBytes, { backend: 'cpu', workers });
    methods.push(atOnce(`tensors-${name}`, archive, coded, expected, true), atOnce(`tensors-${name}-fresh`, archive, coded, expected, false));
    methods.push(...inTurn(name, archive, coded, expected), ...wholeFile(name, archive, expected));
  }
  return methods;
}

/** All coded tensors at once; `reuse`: into the buffers of the round before. */
function atOnce(name, archive, coded, expected, reuse) {
  const buffers = new Map();
  let results;
  const read = async ({ name, offset }) => {
    const { data } = await archive.tensor(name, { buffer: buffers.get(name) });
    if (reuse) buffers.set(name, data.buffer);
    return { offset, bytes: bytesIn(data) };
  };
  const run = async () => (results = await Promise.all(coded.map(read)));
  const check = () => results.every(({ offset, bytes }) => equal(bytes, expected.subarray(offset, offset + bytes.length)));
  return { name, run, check };
}

/** One coded tensor after another, each used and let go, as a page does that hands them to a runtime. */
function inTurn(name, archive, coded, expected) {
  const isRight = ({ data }, { offset }) => equal(bytesIn(data), expected.subarray(offset, offset + data.byteLength));
  const read = async (use) => {
    for (const tensor of coded) use(await archive.tensor(tensor.name), tensor);
  };
  const each = async (use) => {
    let index = 0;
    for await (const tensor of archive.each(coded.map(({ name }) => name))) use(tensor, coded[index++]);
  };
  const methods = { [`turn-${name}-fresh`]: read, [`each-${name}`]: each };
  return Object.entries(methods).map(([name, decode]) => {
    const check = async () => {
      let same = true;
      await decode((tensor, expectedTensor) => (same &&= isRight(tensor, expectedTensor)));
      return same;
    };
    return { name, run: () => decode(() => {}), check };
  });
}

/** The file that holds them, into new memory and into memory that the caller has, as that of a runtime. */
function wholeFile(name, archive, expected) {
  const file = archive.file(archive.files[0].name);
  const target = new Uint8Array(file.size).fill(1);
  let bytes;
  return [
    { name: `bytes-${name}`, run: async () => (bytes = await file.bytes()), check: () => equal(bytes, expected) },
    { name: `read-${name}`, run: () => file.read(target), check: () => equal(target, expected) },
  ];
}

function bytesIn({ buffer, byteOffset, byteLength }) {
  return new Uint8Array(buffer, byteOffset, byteLength);
}
