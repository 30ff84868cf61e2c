// The packed package, installed as a user would, in Chromium under a strict Content-Security-Policy and in Node:
// whatever it decodes is compared with what the native command decodes.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { copyFile, mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { extname, join, relative } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { gzipSync } from 'node:zlib';
import { chromium } from 'playwright-core';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const CLI = join(process.env.CARGO_TARGET_DIR ?? join(ROOT, 'target'), 'release/mcwc');
const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const CHROMIUM_ARGS = [
  '--no-sandbox',
  '--enable-unsafe-webgpu',
  '--use-webgpu-adapter=swiftshader',
  // A host that is not localhost is no secure context over http, so it has no crypto.subtle.
  '--host-resolver-rules=MAP insecure.test 127.0.0.1',
];
const POLICY = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'";
const TYPES = { '.js': 'text/javascript', '.wasm': 'application/wasm', '.html': 'text/html' };
/** Archives that every reader has to read. */
const VECTORS = join(ROOT, 'tests/vectors/valid');
const LARGE = { tensors: 12, side: 1024 };
const MEMORY_BYTES_MAX = 16 << 20;
const TASK_MS_MAX = 50;

let folder;
let server;
let origin;
let browser;
/** Integrity of small.mcwc, and its tensors as the native command decodes them. */
let small;
/** Hashes of the files in each vector. */
let vectors;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'mcwc-package-'));
  installPackage();
  await writeModels();
  vectors = await restoreVectors();
  small = await describeRestored('small');
  server = createServer((request, response) => serve(request, response));
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  origin = `http://localhost:${server.address().port}`;
  browser = await chromium.launch({ executablePath: CHROMIUM, args: CHROMIUM_ARGS });
});

after(async () => {
  await browser?.close();
  server?.closeAllConnections();
  server?.close();
  await rm(folder, { recursive: true, force: true });
});

function installPackage() {
  const options = { cwd: ROOT, encoding: 'utf8' };
  const [{ filename }] = JSON.parse(execFileSync('npm', ['pack', '--json', '--pack-destination', folder], options));
  execFileSync('npm', ['init', '--yes'], { cwd: folder, stdio: 'ignore' });
  execFileSync('npm', ['install', '--offline', '--no-audit', '--no-fund', join(folder, filename)], { cwd: folder });
}

/** small.mcwc has every dtype, lossy and exact, in two files; large.mcwc many equal matrices. */
async function writeModels() {
  const random = gaussian(1);
  const floats = (length, scale) => Float32Array.from({ length }, () => random() * scale);
  const small = {
    wide: ['F32', [96, 512], floats(96 * 512, 0.02)],
    kernel: ['F32', [32, 16, 3, 3], floats(32 * 16 * 9, 0.1)],
    half: ['F16', [128, 64], Uint16Array.from(floats(128 * 64, 1), halfBits)],
    brain: ['BF16', [128, 64], Uint16Array.from(floats(128 * 64, 1), (x) => new Uint32Array(Float32Array.of(x).buffer)[0] >>> 16)],
    double: ['F64', [64, 64], Float64Array.from(floats(64 * 64, 3))],
    bias: ['F32', [96], floats(96, 1)],
    scalar: ['F32', [], floats(1, 1)],
    empty: ['F32', [0, 4], new Float32Array()],
    signed: ['I8', [64, 64], Int8Array.from(floats(64 * 64, 30))],
    unsigned: ['U8', [64, 64], Uint8Array.from(floats(64 * 64, 20), (x) => x + 128)],
    ids: ['I64', [5], BigInt64Array.of(1n, -2n, 3n, 2n ** 60n, 0n)],
    mask: ['BOOL', [7], Uint8Array.of(1, 0, 1, 1, 0, 0, 1)],
  };
  await writeFile(join(folder, 'small.safetensors'), safetensors(small));
  await writeFile(join(folder, 'notes.txt'), 'exact\n'.repeat(500_000));
  encode('small', ['small.safetensors', 'notes.txt'], ['--bits', '4']);
  const { tensors, side } = LARGE;
  const large = {};
  for (let index = 0; index < tensors; index++) large[`layer${index}`] = ['F32', [side, side], floats(side * side, 0.02)];
  await writeFile(join(folder, 'large.safetensors'), safetensors(large));
  encode('large', ['large.safetensors'], ['--bits', '3']);
}

function encode(name, inputs, options) {
  const run = { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] };
  execFileSync(CLI, ['encode', ...inputs, '-o', `${name}.mcwc`, ...options, '--json'], run);
  execFileSync(CLI, ['decode', `${name}.mcwc`, '-o', `${name}-restored`, '--json'], run);
}

/** The vectors' files, as the native command decodes them. */
async function restoreVectors() {
  const names = (await readdir(VECTORS)).filter((name) => name.endsWith('.mcwc'));
  const restored = names.map(async (name) => {
    await copyFile(join(VECTORS, name), join(folder, name));
    const out = join(folder, `${name}-restored`);
    execFileSync(CLI, ['decode', name, '-o', out, '--json'], { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] });
    const files = await readdir(out, { recursive: true, withFileTypes: true });
    const paths = files.filter((file) => file.isFile()).map((file) => join(file.parentPath, file.name));
    const hashes = paths.map(async (path) => [relative(out, path).replaceAll('\\', '/'), fnv(await readFile(path))]);
    return [name, Object.fromEntries(await Promise.all(hashes))];
  });
  return Object.fromEntries(await Promise.all(restored));
}

async function describeRestored(name) {
  const restored = await readFile(join(folder, `${name}-restored/${name}.safetensors`));
  const archive = await readFile(join(folder, `${name}.mcwc`));
  const headerBytes = Number(restored.readBigUInt64LE(0));
  const header = JSON.parse(restored.subarray(8, 8 + headerBytes).toString());
  const data = restored.subarray(8 + headerBytes);
  const tensors = Object.entries(header).map(([name, { dtype, shape, data_offsets: [start, end] }]) => {
    return [name, { dtype: dtype.toLowerCase(), shape, bytes: data.subarray(start, end) }];
  });
  return { integrity: archive.subarray(16, 32).toString('hex'), archive, tensors: Object.fromEntries(tensors) };
}

function safetensors(tensors) {
  let end = 0;
  const entries = Object.entries(tensors).map(([name, [dtype, shape, data]]) => {
    const start = end;
    end += data.byteLength;
    return [name, { dtype, shape, data_offsets: [start, end] }];
  });
  let header = JSON.stringify(Object.fromEntries(entries));
  header = header.padEnd(Math.ceil(header.length / 8) * 8);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  const data = Object.values(tensors).map(([, , { buffer, byteOffset, byteLength }]) => Buffer.from(buffer, byteOffset, byteLength));
  return Buffer.concat([length, Buffer.from(header), ...data]);
}

/** Normal numbers, the same ones on every run. */
function gaussian(seed) {
  const uniform = () => {
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    return (seed + 0.5) / 2 ** 32;
  };
  return () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}

/** The float16 below a normal number in its range. */
function halfBits(value) {
  const [bits] = new Uint32Array(Float32Array.of(value).buffer);
  const exponent = ((bits >>> 23) & 255) - 112;
  return exponent <= 0 ? 0 : ((bits >>> 16) & 0x8000) | (exponent << 10) | ((bits >>> 13) & 1023);
}

async function serve(request, response) {
  const { pathname, searchParams } = new URL(request.url, origin);
  const policy = searchParams.get('policy') ?? POLICY;
  if (pathname === '/') {
    response.writeHead(200, { 'content-type': 'text/html', 'content-security-policy': policy });
    return response.end('<!doctype html><title>mcwc</title>');
  }
  const path = join(folder, pathname.replace(/^\/pkg\//, '/node_modules/mcwc/pkg/'));
  const info = await stat(path).catch(() => undefined);
  if (!info?.isFile()) return response.writeHead(404).end();
  const headers = { 'content-type': TYPES[extname(path)] ?? 'application/octet-stream', 'content-security-policy': POLICY };
  if (searchParams.has('gzip')) {
    const body = gzipSync(await readFile(path));
    return response.writeHead(200, { ...headers, 'content-encoding': 'gzip', 'content-length': body.length }).end(body);
  }
  const stopAt = Number(searchParams.get('stopAt') ?? info.size);
  response.writeHead(200, { ...headers, 'content-length': info.size });
  // `stopAt` leaves the rest of the file on its way for ever.
  createReadStream(path, { end: stopAt - 1 }).pipe(response, { end: stopAt === info.size });
}

/** Both places where the package runs: `run` calls a function that uses nothing from outside but its argument. */
const places = {
  Chromium: {
    async run(scenario, argument, { host = 'localhost', query = '' } = {}) {
      const page = await browser.newPage();
      const problems = [];
      page.on('pageerror', (error) => problems.push(String(error)));
      const { port } = server.address();
      try {
        await page.goto(`http://${host}:${port}/${query}`);
        const base = `http://${host}:${port}`;
        const result = await page.evaluate(scenario, { entry: `${base}/pkg/index.js`, base, ...argument });
        assert.deepEqual(problems, []);
        return result;
      } finally {
        await page.close();
      }
    },
  },
  Node: {
    run: (scenario, argument) => {
      const entry = pathToFileURL(join(folder, 'node_modules/mcwc/pkg/index.js')).href;
      return scenario({ entry, base: origin, ...argument });
    },
  },
};

/** Opens `path` from a source of some kind and hashes everything in it. */
async function readEverything({ entry, base, path, kind = 'string', options, streamed = false }) {
  const { open } = await import(entry);
  const url = `${base}/${path}`;
  const bytes = async () => new Uint8Array(await (await fetch(url)).arrayBuffer());
  const sources = {
    string: () => url,
    URL: () => new URL(url),
    Request: () => new Request(url),
    Response: () => fetch(url),
    Blob: async () => new Blob([await bytes()]),
    ArrayBuffer: async () => (await bytes()).buffer,
    view: async () => {
      const given = await bytes();
      const larger = new Uint8Array(given.length + 11);
      larger.set(given, 5);
      return larger.subarray(5, 5 + given.length);
    },
    stream: async () => (await fetch(url)).body,
  };
  const hex = (bytes) => Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, '0')).join('');
  /** FNV-1a, as there is no crypto.subtle in an insecure context. */
  const hash = (bytes) => {
    let state = 0x811c9dc5;
    for (const byte of bytes) state = Math.imul(state ^ byte, 0x01000193);
    return `${bytes.length} ${hex(Uint32Array.of(state).buffer)}`;
  };
  const archive = await open(await sources[kind](), options);
  const files = {};
  const tensors = {};
  for (const { name } of archive.files) {
    if (streamed) {
      const parts = [];
      for (let reader = archive.file(name).stream().getReader(); ; ) {
        const { done, value } = await reader.read();
        if (done) break;
        parts.push(value);
      }
      files[name] = hash(new Uint8Array(await new Blob(parts).arrayBuffer()));
    } else {
      files[name] = hash(await archive.file(name).bytes());
    }
  }
  await Promise.all(
    archive.tensors.map(async ({ name }) => {
      const { data, dtype, shape } = await archive.tensor(name);
      const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
      tensors[name] = { dtype, shape, array: data.constructor.name, hash: hash(bytes) };
    }),
  );
  await archive.downloaded;
  const { backend, backendReason, integrity, memoryBytes } = archive;
  archive.close();
  return { files, tensors, backend, backendReason, integrity, memoryBytes };
}

function fnv(bytes) {
  let state = 0x811c9dc5;
  for (const byte of bytes) state = Math.imul(state ^ byte, 0x01000193);
  return `${bytes.length} ${Buffer.from(Uint32Array.of(state).buffer).toString('hex')}`;
}

async function assertEverything({ files, tensors, integrity }, arrays = {}) {
  assert.equal(integrity, small.integrity);
  for (const name of ['small.safetensors', 'notes.txt']) {
    assert.equal(files[name], fnv(await readFile(join(folder, 'small-restored', name))), name);
  }
  assert.deepEqual(Object.keys(tensors).sort(), Object.keys(small.tensors).sort());
  for (const [name, { dtype, shape, bytes }] of Object.entries(small.tensors)) {
    const { array, ...found } = tensors[name];
    assert.deepEqual(found, { dtype, shape, hash: fnv(bytes) }, name);
    assert.equal(array, arrays[dtype] ?? ARRAYS[dtype], name);
  }
}

const ARRAYS = {
  f32: 'Float32Array',
  f16: 'Float16Array',
  bf16: 'Uint16Array',
  f64: 'Float64Array',
  i8: 'Int8Array',
  u8: 'Uint8Array',
  i64: 'BigInt64Array',
  bool: 'Uint8Array',
};

/** The code with which `open`, or reading a tensor, of changed bytes fails. */
async function failureOf({ entry, base, change, options }) {
  const { open, McwcError } = await import(entry);
  let bytes = new Uint8Array(await (await fetch(`${base}/small.mcwc`)).arrayBuffer());
  if (change === 'magic') bytes[1] ^= 1;
  if (change === 'version') bytes[8] = 2;
  if (change === 'flags') bytes[11] = 0x80;
  if (change === 'header') bytes[40] ^= 1;
  if (change === 'chunk') bytes[bytes.length - 9] ^= 4;
  if (change === 'first chunk') bytes[32 + new DataView(bytes.buffer).getUint32(12, true) + 20] ^= 4;
  if (change === 'short') bytes = bytes.slice(0, -1);
  if (change === 'short header') bytes = bytes.slice(0, 50);
  if (change === 'short preamble') bytes = bytes.slice(0, 9);
  if (change === 'long') bytes = new Uint8Array([...bytes, 0]);
  const failures = [];
  for (const source of [bytes, new Blob([bytes]), new Response(bytes)]) {
    let archive;
    try {
      archive = await open(source, options);
      await Promise.all(archive.files.map(({ name }) => archive.file(name).bytes()));
      await archive.downloaded;
      failures.push('none');
    } catch (error) {
      failures.push(error instanceof McwcError && error instanceof Error ? error.code : String(error));
    } finally {
      archive?.close();
    }
  }
  return failures;
}

for (const [place, { run }] of Object.entries(places)) {
  describe(place, () => {
    const arrays = place === 'Node' && !('Float16Array' in globalThis) ? { f16: 'Uint16Array' } : {};
    const read = (argument, where) => run(readEverything, { path: 'small.mcwc', options: { backend: 'cpu' }, ...argument }, where);

    for (const kind of ['string', 'URL', 'Request', 'Response', 'Blob', 'ArrayBuffer', 'view', 'stream']) {
      test(`decodes the bytes that the native command decodes, from a source of kind ${kind}`, async () => {
        await assertEverything(await read({ kind, streamed: kind === 'stream' }), arrays);
      });
    }

    for (const workers of [0, 1, 2]) {
      test(`decodes with ${workers} workers`, async () => {
        const result = await read({ options: { workers, backend: 'cpu', integrity: small.integrity }, streamed: true });
        await assertEverything(result, arrays);
        assert.equal(result.backend, 'cpu');
        assert.equal(result.backendReason, 'the CPU was asked for');
        assert(result.memoryBytes > 0 && result.memoryBytes <= MEMORY_BYTES_MAX, `${result.memoryBytes}`);
      });
    }

    test('decodes every valid vector', async () => {
      for (const [path, files] of Object.entries(vectors)) {
        assert.deepEqual((await read({ path })).files, files, path);
        assert.deepEqual((await read({ path, streamed: true })).files, files, path);
      }
    });

    test('does not trust the length of an encoded body', async () => {
      await assertEverything(await read({ path: 'small.mcwc?gzip' }), arrays);
    });

    const failures = {
      magic: 'invalid',
      version: 'unsupported',
      flags: 'unsupported',
      header: 'checksum',
      chunk: 'checksum',
      'first chunk': 'checksum',
      short: 'incomplete',
      'short header': 'incomplete',
      'short preamble': 'incomplete',
      long: 'invalid',
    };
    for (const [change, code] of Object.entries(failures)) {
      test(`refuses a changed archive (${change}) as ${code}`, async () => {
        const options = { backend: 'cpu', workers: 1 };
        assert.deepEqual(await run(failureOf, { change, options }), [code, code, code]);
      });
    }

    test('refuses another archive than the one asked for', async () => {
      const options = { backend: 'cpu', integrity: '0'.repeat(32) };
      assert.deepEqual(await run(failureOf, { options }), ['checksum', 'checksum', 'checksum']);
      const nonsense = { backend: 'cpu', integrity: 'sha256' };
      assert.deepEqual(await run(failureOf, { options: nonsense }), ['argument', 'argument', 'argument']);
    });

    test('reports a missing archive, tensor and range', async () => {
      const scenario = async ({ entry, base }) => {
        const { open } = await import(entry);
        const code = (promise) => promise.then(() => 'none', (error) => `${error.name} ${error.code}`);
        const archive = await open(`${base}/small.mcwc`, { backend: 'cpu' });
        const codes = [
          await code(open(`${base}/none.mcwc`)),
          await code(archive.tensor('none')),
          await code(archive.file('notes.txt').bytes(5, 4)),
          await code((async () => archive.file('none'))()),
          await code(archive.gpuTensor('wide')),
          await code(archive.tensor('wide', { buffer: new ArrayBuffer(8) })),
          await code(open(17)),
        ];
        archive.close();
        return codes;
      };
      const argument = 'McwcError argument';
      assert.deepEqual(await run(scenario), ['McwcError io', argument, argument, argument, 'McwcError gpu', argument, argument]);
    });

    test('opens before the download ends, reports progress, and decodes what has arrived', async () => {
      const scenario = async ({ entry, base, stopAt, name }) => {
        const { open } = await import(entry);
        const progress = [];
        const onProgress = ({ loaded, total }) => progress.push([loaded, total]);
        const archive = await open(`${base}/small.mcwc?stopAt=${stopAt}`, { backend: 'cpu', onProgress });
        const first = await archive.tensor(name);
        const pending = archive.file('small.safetensors').bytes().catch((error) => error.code);
        const early = await Promise.race([archive.downloaded.then(() => 'all'), Promise.resolve('part')]);
        archive.close();
        const later = await archive.tensor(name).catch((error) => error.code);
        return { progress, first: first.data.length, early, pending: await pending, later };
      };
      const { archive, tensors } = small;
      // Chunks lie in the order of the files, so that this one is not among the last.
      const name = 'wide';
      const result = await run(scenario, { stopAt: archive.length - 100, name });
      assert.equal(result.first * 4, tensors[name].bytes.length);
      assert.equal(result.early, 'part');
      assert.equal(result.pending, 'closed');
      assert.equal(result.later, 'closed');
      assert.deepEqual(result.progress.at(-1), [archive.length - 100, archive.length]);
      const loaded = result.progress.map(([bytes]) => bytes);
      assert.deepEqual(loaded, loaded.toSorted((a, b) => a - b));
    });

    test('aborts a download, an opening and a tensor', async () => {
      const scenario = async ({ entry, base, stopAt }) => {
        const { open } = await import(entry);
        const name = (promise) => promise.then(() => 'none', (error) => error.name);
        const before = new AbortController();
        before.abort();
        const opening = new AbortController();
        const early = name(open(`${base}/small.mcwc?stopAt=20`, { signal: opening.signal, backend: 'cpu' }));
        setTimeout(() => opening.abort(), 50);
        const during = new AbortController();
        const archive = await open(`${base}/small.mcwc?stopAt=${stopAt}`, { signal: during.signal, backend: 'cpu' });
        const one = new AbortController();
        const tensor = name(archive.tensor('wide', { signal: one.signal }));
        setTimeout(() => one.abort(), 20);
        const names = [
          await name(open(`${base}/small.mcwc`, { signal: before.signal })),
          await early,
          await tensor,
        ];
        const all = name(archive.file('small.safetensors').bytes());
        during.abort(new RangeError('enough'));
        names.push(await all, await name(archive.downloaded), await name(archive.tensor('wide')));
        return names;
      };
      // The header and a little more: whatever is read waits.
      const stopAt = 32 + small.archive.readUInt32LE(12) + 10;
      const names = await run(scenario, { stopAt });
      assert.deepEqual(names, ['AbortError', 'AbortError', 'AbortError', 'RangeError', 'RangeError', 'RangeError']);
    });

    test('goes on after a tensor was aborted', async () => {
      const scenario = async ({ entry, base }) => {
        const { open } = await import(entry);
        const archive = await open(`${base}/large.mcwc`, { backend: 'cpu', workers: 1 });
        const outcomes = archive.tensors.map(({ name }, index) => {
          const controller = new AbortController();
          if (index % 2 === 0) setTimeout(() => controller.abort(), index);
          return archive.tensor(name, { signal: controller.signal }).then(({ data }) => data.length, (error) => error.name);
        });
        const results = await Promise.all(outcomes);
        archive.close();
        return results.filter((_, index) => index % 2 === 1);
      };
      assert.deepEqual(await run(scenario), Array(LARGE.tensors / 2).fill(LARGE.side ** 2));
    });

    test('decodes the other tensors of one worker when some are aborted or damaged', async () => {
      const damaged = 6;
      const { tensors } = LARGE;
      const scenario = async ({ entry, base, damaged, tensors }) => {
        const { open } = await import(entry);
        const bytes = new Uint8Array(await (await fetch(`${base}/large.mcwc`)).arrayBuffer());
        const expected = new Uint8Array(await (await fetch(`${base}/large-restored/large.safetensors`)).arrayBuffer());
        const start = 8 + Number(new DataView(expected.buffer).getBigUint64(0, true));
        bytes[Math.floor((damaged + 0.5) * (bytes.length / tensors))] ^= 1;
        const archive = await open(bytes, { backend: 'cpu', workers: 1 });
        const decode = async ({ name, bytes }, index) => {
          const controller = new AbortController();
          const tensor = archive.tensor(name, { signal: controller.signal });
          if (index % 4 === 1) queueMicrotask(() => controller.abort());
          if (index % 4 === 3) setTimeout(() => controller.abort(), index);
          const { data } = await tensor;
          const ours = new Uint8Array(data.buffer);
          const theirs = expected.subarray(start + index * bytes, start + (index + 1) * bytes);
          return ours.length === bytes && ours.every((byte, at) => byte === theirs[at]) ? 'equal' : 'different';
        };
        const outcomes = [];
        for (let round = 0; round < 3; round++) {
          const outcome = ({ name, code }) => (name === 'AbortError' ? name : code);
          outcomes.push(await Promise.all(archive.tensors.map((tensor, index) => decode(tensor, index).catch(outcome))));
        }
        archive.close();
        return outcomes;
      };
      for (const outcomes of await run(scenario, { damaged, tensors })) {
        for (const [index, outcome] of outcomes.entries()) {
          const decoded = index === damaged ? 'checksum' : 'equal';
          const expected = [[decoded], ['AbortError'], [decoded], [decoded, 'AbortError']][index % 4];
          assert(expected.includes(outcome), outcomes.join());
        }
      }
    });

    for (const workers of [0, 2]) {
      test(`decodes tensor by tensor into one buffer, in bounded memory, without long tasks, with ${workers} workers`, async () => {
        const scenario = async ({ entry, base, workers }) => {
          const { open } = await import(entry);
          const archive = await open(await (await fetch(`${base}/large.mcwc`)).arrayBuffer(), { backend: 'cpu', workers });
          const expected = new Uint8Array(await (await fetch(`${base}/large-restored/large.safetensors`)).arrayBuffer());
          const start = 8 + Number(new DataView(expected.buffer).getBigUint64(0, true));
          let longest = Infinity;
          let equal = 0;
          const buffers = new Set();
          let buffer = new ArrayBuffer(5 << 20);
          for (let round = 0; round < 3; round++) {
            let tick = performance.now();
            let gap = 0;
            const { port1, port2 } = new MessageChannel();
            let ticking = true;
            port1.onmessage = () => {
              const now = performance.now();
              gap = Math.max(gap, now - tick);
              tick = now;
              if (ticking) setTimeout(() => port2.postMessage(0), 1);
            };
            port2.postMessage(0);
            const results = [];
            for (const { name } of archive.tensors) {
              const given = buffer;
              const { data } = await archive.tensor(name, { buffer });
              results.push([given.byteLength, data.buffer.byteLength, data.byteLength]);
              buffer = data.buffer;
            }
            ticking = false;
            port1.close();
            longest = Math.min(longest, gap);
            results.forEach((lengths) => buffers.add(lengths.join()));
          }
          for (const [index, { name, bytes }] of archive.tensors.entries()) {
            const { data } = await archive.tensor(name, { buffer });
            const theirs = expected.subarray(start + index * bytes, start + (index + 1) * bytes);
            const ours = new Uint8Array(data.buffer, 0, bytes);
            equal += Number(ours.every((byte, at) => byte === theirs[at]));
            buffer = data.buffer;
          }
          const { memoryBytes } = archive;
          archive.close();
          return { longest, equal, memoryBytes, buffers: [...buffers], shared: typeof SharedArrayBuffer };
        };
        const result = await run(scenario, { workers });
        assert.equal(result.equal, LARGE.tensors);
        assert.deepEqual(result.buffers, [`0,${5 << 20},${4 * LARGE.side ** 2}`]);
        assert(result.memoryBytes > 0 && result.memoryBytes <= MEMORY_BYTES_MAX, `${result.memoryBytes} bytes of wasm memory`);
        assert(result.longest < TASK_MS_MAX, `the thread was busy for ${result.longest} ms`);
        if (place === 'Chromium') assert.equal(result.shared, 'undefined');
      });
    }

    test('reads ranges that cut through scattered and transformed tensors', async () => {
      const [path, name] = ['scattered-and-transformed.mcwc', 'frames.safetensors'];
      const scenario = async ({ entry, base, path, name }) => {
        const { open } = await import(entry);
        const archive = await open(`${base}/${path}`, { backend: 'cpu' });
        const whole = new Uint8Array(await (await fetch(`${base}/${path}-restored/${name}`)).arrayBuffer());
        const file = archive.file(name);
        const ranges = archive.tensors.flatMap(({ name, bytes }) => {
          const start = starts(whole)[name];
          const third = Math.floor(bytes / 3);
          return [
            [start - 3, start + 5],
            [start + third + 1, start + 2 * third],
            [start + third, Math.min(start + bytes + 999, whole.length)],
          ];
        });
        function starts(bytes) {
          const data = 8 + Number(new DataView(bytes.buffer).getBigUint64(0, true));
          const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, data)));
          return Object.fromEntries(Object.entries(header).map(([name, { data_offsets: [start] }]) => [name, data + start]));
        }
        const wrong = [];
        for (const [start, end] of ranges) {
          const found = await file.bytes(start, end);
          const same = found.length === end - start && found.every((byte, at) => byte === whole[start + at]);
          if (!same) wrong.push([start, end]);
        }
        archive.close();
        return { wrong, ranges: ranges.length };
      };
      assert.deepEqual(await run(scenario, { path, name }), { wrong: [], ranges: 3 * 19 });
    });

    test('reads ranges of a file, and no further than its reader', async () => {
      const scenario = async ({ entry, base, ranges }) => {
        const { open } = await import(entry);
        const archive = await open(`${base}/small.mcwc`, { backend: 'cpu' });
        const file = archive.file('small.safetensors');
        const whole = await file.bytes();
        const checks = [];
        for (const [start, end] of ranges) {
          const part = await file.bytes(start, end);
          const blob = new Uint8Array(await (await file.blob(start, end)).arrayBuffer());
          const same = (bytes) => bytes.length === end - start && bytes.every((byte, at) => byte === whole[start + at]);
          checks.push(same(part) && same(blob));
        }
        const reader = archive.file('notes.txt').stream().getReader({ mode: 'byob' });
        const { value } = await reader.read(new Uint8Array(6));
        await reader.cancel();
        const { size, name } = file;
        archive.close();
        return { checks, size, name, text: new TextDecoder().decode(value) };
      };
      const size = (await stat(join(folder, 'small.safetensors'))).size;
      const ranges = [[0, 0], [0, 1], [7, 4000], [1001, 200_003], [size - 1, size], [size, size], [0, size]];
      const result = await run(scenario, { ranges });
      assert.deepEqual(result, { checks: ranges.map(() => true), size, name: 'small.safetensors', text: 'exact\n' });
    });
  });
}

describe('Chromium only', () => {
  const { run } = places.Chromium;

  test('decodes on the page where a policy forbids workers, and says so', async () => {
    const policy = encodeURIComponent(`${POLICY}; worker-src 'none'`);
    const options = { backend: 'cpu', workers: 2 };
    const result = await run(readEverything, { path: 'small.mcwc', options }, { query: `?policy=${policy}` });
    await assertEverything(result);
    assert.match(result.backendReason, /on this thread, because no worker could be started/);
  });

  test('hashes in wasm where the context is not secure', async () => {
    const where = { host: 'insecure.test' };
    await assertEverything(await run(readEverything, { path: 'small.mcwc', options: { workers: 1 } }, where));
    assert.deepEqual(await run(failureOf, { change: 'chunk', options: { workers: 1 } }, where), Array(3).fill('checksum'));
    const { backend, backendReason } = await run(readEverything, { path: 'small.mcwc' }, where);
    assert.deepEqual({ backend, backendReason }, { backend: 'cpu', backendReason: 'there is no WebGPU here' });
  });

  test('prefers the CPU to an emulated GPU, and says so', async () => {
    const result = await run(readEverything, { path: 'small.mcwc', options: { backend: 'auto' } });
    await assertEverything(result);
    assert.equal(result.backend, 'cpu');
    assert.equal(result.backendReason, 'WebGPU is emulated on the CPU here');
  });
});

describe('WebGPU', () => {
  const { run } = places.Chromium;

  /** Largest difference to the native values in units in the last place (f32) or in bytes (the rest), by dtype. */
  const scenario = async ({ entry, base, path = 'small.mcwc', restored = 'small-restored/small.safetensors', way, ownDevice, lose }) => {
    const { open } = await import(entry);
    const expected = new Uint8Array(await (await fetch(`${base}/${restored}`)).arrayBuffer());
    const start = 8 + Number(new DataView(expected.buffer).getBigUint64(0, true));
    const header = JSON.parse(new TextDecoder().decode(expected.subarray(8, start)));
    const device = ownDevice ? await (await navigator.gpu.requestAdapter()).requestDevice() : undefined;
    const archive = await open(`${base}/${path}`, { backend: 'webgpu', device });
    const { backend, backendReason } = archive;
    const differences = {};
    const compare = (dtype, ours, theirs) => {
      const ordered = (bytes) => new Int32Array(bytes.slice().buffer).map((bits) => (bits < 0 ? -0x80000000 - bits : bits));
      const [a, b] = dtype === 'F32' ? [ordered(ours), ordered(theirs)] : [ours, theirs];
      if (a.length !== b.length) throw new Error(`${a.length} instead of ${b.length} elements`);
      const difference = a.reduce((most, value, index) => Math.max(most, Math.abs(value - b[index])), 0);
      differences[dtype] = Math.max(differences[dtype] ?? 0, difference);
    };
    const readBuffer = async ({ buffer, bytes }) => {
      const size = Math.ceil(bytes / 4) * 4;
      const staging = device.createBuffer({ size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
      const encoder = device.createCommandEncoder();
      encoder.copyBufferToBuffer(buffer, 0, staging, 0, size);
      device.queue.submit([encoder.finish()]);
      await staging.mapAsync(GPUMapMode.READ);
      return new Uint8Array(staging.getMappedRange().slice(0, bytes));
    };
    const ways = {
      tensor: async (name) => new Uint8Array((await archive.tensor(name)).data.buffer),
      gpuTensor: async (name) => readBuffer(await archive.gpuTensor(name)),
      buffer: async (name) => {
        const { data } = await archive.tensor(name, { buffer: new ArrayBuffer(1 << 20) });
        return new Uint8Array(data.buffer, 0, data.byteLength);
      },
    };
    if (lose) device.destroy();
    if (way === 'file') {
      const { name } = archive.files.find(({ name }) => restored.endsWith(name));
      const file = await archive.file(name).bytes();
      const streamed = new Uint8Array(await (await archive.file(name).blob()).arrayBuffer());
      if (file.some((byte, index) => byte !== streamed[index])) throw new Error('stream and bytes differ');
      for (const { dtype, data_offsets: [from, to] } of Object.values(header)) {
        compare(dtype, file.slice(start + from, start + to), expected.slice(start + from, start + to));
      }
    } else {
      for (const [name, { dtype, data_offsets: [from, to] }] of Object.entries(header)) {
        compare(dtype, await ways[way](name), expected.slice(start + from, start + to));
      }
    }
    const after = { backend: archive.backend, backendReason: archive.backendReason };
    archive.close();
    return { backend, backendReason, differences, after };
  };
  const assertValues = ({ F32, ...others }) => {
    assert(F32 <= 1, `f32 differs by ${F32} units in the last place`);
    assert.deepEqual(others, { F16: 0, BF16: 0, F64: 0, I8: 0, U8: 0, I64: 0, BOOL: 0 });
  };

  for (const way of ['tensor', 'buffer', 'file']) {
    test(`reconstructs what the CPU does (${way})`, async () => {
      const { backend, backendReason, differences, after } = await run(scenario, { way });
      assert.equal(backend, 'webgpu');
      assert.match(backendReason, /passed the self-test/);
      assert.equal(after.backend, 'webgpu', after.backendReason);
      assertValues(differences);
    });
  }

  for (const way of ['tensor', 'file', 'gpuTensor']) {
    test(`reconstructs every valid vector (${way})`, async () => {
      for (const [path, files] of Object.entries(vectors)) {
        for (const file of Object.keys(files).filter((file) => file.endsWith('.safetensors'))) {
          const argument = { path, restored: `${path}-restored/${file}`, way, ownDevice: way === 'gpuTensor' };
          const { differences, after } = await run(scenario, argument);
          assert.equal(after.backend, 'webgpu', `${path}: ${after.backendReason}`);
          const { F32, ...others } = differences;
          assert(F32 === undefined || F32 <= 1, `${path}: f32 differs by ${F32} units in the last place`);
          assert.deepEqual(Object.values(others).filter(Boolean), [], `${path}: ${JSON.stringify(others)}`);
        }
      }
    });
  }

  test('gives the bytes of files of other formats', async () => {
    for (const [path, files] of Object.entries(vectors)) {
      if (Object.keys(files).some((file) => file.endsWith('.safetensors'))) continue;
      const result = await run(readEverything, { path, options: { backend: 'webgpu' } });
      assert.deepEqual([result.backend, result.files], ['webgpu', files], path);
    }
  });

  test('transformed kernels are those of the CPU to the bit', async () => {
    const scenario = async ({ entry, base, path }) => {
      const { open } = await import(entry);
      const gpu = await open(`${base}/${path}`, { backend: 'webgpu' });
      const cpu = await open(`${base}/${path}`, { backend: 'cpu' });
      const kernels = gpu.tensors.map(({ name }) => name).filter((name) => name.startsWith('kernels'));
      const different = [];
      for (const name of kernels) {
        const [a, b] = await Promise.all([gpu, cpu].map(async (archive) => new Uint8Array((await archive.tensor(name)).data.buffer)));
        if (a.length !== b.length || a.some((byte, at) => byte !== b[at])) different.push(name);
      }
      const backends = [gpu.backend, cpu.backend];
      gpu.close();
      cpu.close();
      return { different, backends, count: kernels.length };
    };
    const path = 'scattered-and-transformed.mcwc';
    assert.deepEqual(await run(scenario, { path }), { different: [], backends: ['webgpu', 'cpu'], count: 8 });
  });

  test("downloads one wasm module, and decodes on the CPU with that of WebGPU", async () => {
    const loaded = async ({ entry, base, options }) => {
      const { open } = await import(entry);
      const device = options.lost ? await (await navigator.gpu.requestAdapter()).requestDevice() : undefined;
      device?.destroy();
      const archive = await open(`${base}/small.mcwc`, { ...options, device });
      await archive.tensor('wide');
      const { backend } = archive;
      archive.close();
      const names = performance.getEntriesByType('resource').map(({ name }) => name.split('/').at(-1));
      return { backend, modules: names.filter((name) => /wasm$|^gpu\.js$/.test(name)).sort() };
    };
    const cpu = { backend: 'cpu', modules: ['mcwc_bg.wasm'] };
    const modules = ['gpu.js', 'mcwc_gpu_bg.wasm'];
    assert.deepEqual(await run(loaded, { options: { backend: 'cpu' } }), cpu);
    assert.deepEqual(await run(loaded, { options: { backend: 'auto' } }), cpu);
    assert.deepEqual(await run(loaded, { options: { backend: 'webgpu' } }), { backend: 'webgpu', modules });
    assert.deepEqual(await run(loaded, { options: { backend: 'webgpu', lost: true } }), { backend: 'cpu', modules });
  });

  test("leaves tensors in buffers of the caller's device", async () => {
    const { backend, differences, after } = await run(scenario, { way: 'gpuTensor', ownDevice: true });
    assert.deepEqual([backend, after.backend], ['webgpu', 'webgpu']);
    assertValues(differences);
  });

  test('goes on on the CPU when the device is lost', async () => {
    const { backend, differences, after } = await run(scenario, { way: 'tensor', ownDevice: true, lose: true });
    assert.equal(backend, 'webgpu');
    assert.equal(after.backend, 'cpu');
    assert.match(after.backendReason, /lost|destroyed/i);
    assert.equal(differences.F32, 0);
    assertValues(differences);
  });
});
