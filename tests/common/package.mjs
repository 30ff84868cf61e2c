// The package as a user has it: packed, installed, served under a strict Content-Security-Policy to Chromium, and in Node; and
// archives for it to decode, with what the native command makes of them.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createReadStream } from 'node:fs';
import { copyFile, cp, mkdir, mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { extname, join, relative } from 'node:path';
import { after, before } from 'node:test';
import { pathToFileURL } from 'node:url';
import { gzipSync } from 'node:zlib';
import { chromium } from 'playwright-core';
import { ROOT } from '../../scripts/tools.mjs';
import { NATIVE } from './command.mjs';
import { installIn } from './packed.mjs';
import { noise, safetensors } from './safetensors.mjs';
import { INVALID, VALID, basesOf, digests } from './vectors.mjs';

export { ROOT, noise, safetensors };

const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
const CHROMIUM_ARGS = [
  '--no-sandbox',
  '--enable-unsafe-webgpu',
  '--use-webgpu-adapter=swiftshader',
  // A host that is not localhost is no secure context over http, so it has no crypto.subtle.
  '--host-resolver-rules=MAP insecure.test 127.0.0.1',
];
export const POLICY = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'";
const TYPES = { '.js': 'text/javascript', '.mjs': 'text/javascript', '.wasm': 'application/wasm', '.html': 'text/html' };
export const LARGE = { tensors: 12, side: 1024 };

export let folder;
/** What answers for a path, instead of the file of that name. */
export const handlers = new Map();
let server;
let origin;
let browser;
/** Integrity of small.mcwc, and its tensors as the native command decodes them. */
export let small;
/** Once the vectors are there: hashes of the files in each. */
export let vectors;
/** The bases of each that has some, the nearest last. */
export let bases;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'mcwc-package-'));
  installIn(folder);
  await writeSmall();
  await writeTwins();
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

/** small.mcwc has every dtype, lossy and exact, in two files. */
async function writeSmall() {
  const floats = noise(1);
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
}

/** twins.mcwc has two models that share a name. */
async function writeTwins() {
  const model = (value, own) => ({ w: ['F32', [4], Float32Array.of(value, 0, 0, 0)], [own]: ['F32', [1], Float32Array.of(value)] });
  await writeFile(join(folder, 'det.safetensors'), safetensors(model(1, 'box')));
  await writeFile(join(folder, 'rec.safetensors'), safetensors(model(2, 'text')));
  encode('twins', ['det.safetensors', 'rec.safetensors'], ['--lossless']);
}

/** large.mcwc has many matrices of one size. */
export async function writeLarge() {
  const floats = noise(2);
  const { tensors, side } = LARGE;
  const large = {};
  for (let index = 0; index < tensors; index++) large[`layer${index}`] = ['F32', [side, side], floats(side * side, 0.02)];
  await writeFile(join(folder, 'large.safetensors'), safetensors(large));
  encode('large', ['large.safetensors'], ['--bits', '3']);
}

/** An archive of several MB that is quickly made: noise, exact. Gives hashes of its tensors. */
export async function writeExact(name, seed) {
  const floats = noise(seed);
  const exact = {};
  for (let index = 0; index < 6; index++) exact[`layer${index}`] = ['F32', [256, 1024], floats(256 * 1024, 0.02)];
  await writeFile(join(folder, `${name}.safetensors`), safetensors(exact));
  encode(name, [`${name}.safetensors`], ['--lossless']);
  return Object.fromEntries(Object.entries(exact).map(([name, [, , { buffer }]]) => [name, fnv(new Uint8Array(buffer))]));
}

/** Packs files of the folder, and has the native command restore them. */
export function encode(name, inputs, options) {
  const run = { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] };
  execFileSync(NATIVE, ['encode', ...inputs, '-o', `${name}.mcwc`, ...options, '--json'], run);
  execFileSync(NATIVE, ['decode', `${name}.mcwc`, '-o', `${name}-restored`, '--json'], run);
}

export function writeVectors() {
  return (written ??= restoreVectors());
}
let written;

/** The vectors' files, as the native command decodes them; those of deltas also lie in an archive that needs no base. */
async function restoreVectors() {
  const files = digests();
  const names = Object.keys(files);
  bases = Object.fromEntries(names.map((name) => [name, basesOf(name).reverse()]));
  const whole = 'predicted.mcwc';
  names.sort((a, b) => Number(b === whole) - Number(a === whole));
  await cp(INVALID, join(folder, 'invalid'), { recursive: true });
  vectors = {};
  for (const name of names) {
    await copyFile(join(VALID, name), join(folder, name));
    const out = join(folder, `${name}-restored`);
    if (bases[name].length > 0) {
      const [file] = Object.keys(files[name]);
      await mkdir(out);
      await copyFile(join(folder, `${whole}-restored`, file), join(out, file));
    } else {
      execFileSync(NATIVE, ['decode', name, '-o', out, '--json'], { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] });
    }
    const entries = await readdir(out, { recursive: true, withFileTypes: true });
    const paths = entries.filter((file) => file.isFile()).map((file) => join(file.parentPath, file.name));
    const hashed = paths.map(async (path) => [relative(out, path).replaceAll('\\', '/'), fnv(await readFile(path))]);
    vectors[name] = Object.fromEntries(await Promise.all(hashed));
  }
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
  const handler = handlers.get(pathname);
  if (handler) return handler(request, response);
  const path = join(folder, pathname.replace(/^\/pkg\//, '/node_modules/mcwc/pkg/'));
  const info = await stat(path).catch(() => undefined);
  if (!info?.isFile()) return response.writeHead(404).end();
  const headers = {
    'content-type': TYPES[extname(path)] ?? 'application/octet-stream',
    'content-security-policy': POLICY,
    'access-control-allow-origin': '*',
  };
  if (searchParams.has('gzip')) {
    const body = gzipSync(await readFile(path));
    return response.writeHead(200, { ...headers, 'content-encoding': 'gzip', 'content-length': body.length }).end(body);
  }
  const stopAt = Number(searchParams.get('stopAt') ?? info.size);
  response.writeHead(200, { ...headers, 'content-length': info.size });
  // `stopAt` leaves the rest of the file on its way for ever.
  createReadStream(path, { end: stopAt - 1 }).pipe(response, { end: stopAt === info.size });
}

/** Pages that share what a browser keeps. */
export function newContext() {
  return browser.newContext();
}

/** A page that runs one scenario after the other: what one has loaded, modules and GPUs, the next finds there. */
export async function visit({ host = 'localhost', query = '' } = {}) {
  const page = await browser.newPage();
  const problems = [];
  page.on('pageerror', (error) => problems.push(String(error)));
  const base = `http://${host}:${server.address().port}`;
  await page.goto(`${base}/${query}`);
  const run = async (scenario, argument) => {
    const result = await page.evaluate(scenario, { entry: `${base}/pkg/index.js`, base, ...argument });
    assert.deepEqual(problems, []);
    return result;
  };
  return { run, end: () => page.close() };
}

/** Both places where the package runs: `run` calls a function that uses nothing from outside but its argument. */
export const places = {
  Chromium: {
    async run(scenario, argument, where) {
      const page = await visit(where);
      return page.run(scenario, argument).finally(page.end);
    },
    visit,
  },
  Node: {
    run: (scenario, argument) => {
      const entry = pathToFileURL(join(folder, 'node_modules/mcwc/pkg/index.js')).href;
      return scenario({ entry, base: origin, ...argument });
    },
    visit: () => ({ run: places.Node.run, end: () => {} }),
  },
};

/** Opens `path` from a source of some kind, on its bases, and hashes everything in it. */
export async function readEverything({ entry, base, path, bases = [], kind = 'string', options, streamed = false }) {
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
  const below = [];
  for (const path of bases) below.push(await open(`${base}/${path}`, { ...options, base: below.at(-1) }));
  const archive = await open(await sources[kind](), { ...options, base: below.at(-1) });
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
  [archive, ...below].forEach((opened) => opened.close());
  return { files, tensors, backend, backendReason, integrity, memoryBytes };
}

export function fnv(bytes) {
  let state = 0x811c9dc5;
  for (const byte of bytes) state = Math.imul(state ^ byte, 0x01000193);
  return `${bytes.length} ${Buffer.from(Uint32Array.of(state).buffer).toString('hex')}`;
}

export async function assertEverything({ files, tensors, integrity }, arrays = {}) {
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
export async function failureOf({ entry, base, change, options }) {
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
  if (change === 'another, short') bytes = bytes.slice(1, 20);
  if (change === 'long') bytes = new Uint8Array([...bytes, 0]);
  const failures = [];
  for (const source of [bytes, new Blob([bytes]), new Blob([bytes]).stream(), new Response(bytes)]) {
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
