// What the loader does after one fault, and what it asks of a server: exactly, fault by fault.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { FaultyFile, randomOf } from './common/faults.mjs';
import { encode, fnv, folder, handlers, noise, places, safetensors } from './common/package.mjs';

/** No server here is silent unless it is meant to be. */
const OPTIONS = { backend: 'cpu', workers: 0, retryMs: 1 };
const SILENCE_MS = 300;
const COLUMNS = 512;
const ROWS = [64, 8, 256, 64, 8, 256, 64, 8];
const run = promisify(execFile);
const { run: inNode } = places.Node;
const { run: inChromium } = places.Chromium;

/** An archive, the places of its chunks, and hashes of its tensors as the native command decodes them. */
let archive;
let other;

describe('Loader', () => {
  before(async () => {
    archive = await archiveOf('loaded', 5);
    other = await archiveOf('another', 6);
  });

  for (const fault of ['drop', 'refuse', 'truncate', 'end early, without a length', 'unavailable', 'too many requests', 'server error']) {
    for (const lazy of [false, true]) {
      test(`goes on after a fault in the first answer: ${fault}${lazy ? ', lazy' : ''}`, async () => {
        const file = new FaultyFile(archive.bytes, { next: (index) => (index === 0 ? fault : undefined) });
        assert.deepEqual(await load(file, { lazy }), archive.tensors);
      });
    }
  }

  for (const fault of ['ignore the range', 'another range', 'no such range', 'HTML', 'Git LFS', 'empty', 'refuse', 'unavailable']) {
    for (const validators of ['strong', 'weak', 'date', 'none']) {
      test(`goes on after a fault in the second answer: ${fault}, validators: ${validators}`, async () => {
        const file = new FaultyFile(archive.bytes, { validators, next: (index) => ['drop', fault][index] });
        assert.deepEqual(await load(file), archive.tensors);
      });
    }
  }

  test('goes on after a silent server', async () => {
    for (const [index, fault] of ['silence', 'stall'].entries()) {
      const file = new FaultyFile(archive.bytes, { random: randomOf(index), next: (index) => (index === 0 ? fault : undefined) });
      assert.deepEqual(await load(file, { silenceMs: SILENCE_MS }), archive.tensors);
      assert.equal(file.requests.length, 2);
    }
  });

  test('resumes on condition that the file is the same, with what names it best', async () => {
    const conditions = {};
    for (const validators of ['strong', 'weak', 'date', 'none']) {
      const file = new FaultyFile(archive.bytes, { validators, next: (index) => (index === 0 ? halved : undefined) });
      assert.deepEqual(await load(file), archive.tensors);
      const { range, ifRange } = file.requests[1];
      assert.equal(range, `bytes=${archive.bytes.length >> 1}-`);
      conditions[validators] = ifRange === undefined ? 'none' : ifRange.startsWith('"') ? 'etag' : 'date';
    }
    assert.deepEqual(conditions, { strong: 'etag', weak: 'none', date: 'date', none: 'none' });
  });

  test('takes a range of a file whose length the server does not know', async () => {
    const unknown = (answer) => ({ ...answer, headers: { ...answer.headers, 'content-range': answer.headers['content-range'].replace(/\d+$/, '*') } });
    const file = new FaultyFile(archive.bytes, { next: (index) => [halved, unknown][index] });
    assert.deepEqual(await load(file), archive.tensors);
    assert.equal(file.requests.length, 2);
  });

  test('fetches at most a chunk more for each of ten drops', async () => {
    const random = randomOf(7);
    const file = new FaultyFile(archive.bytes, { random, next: (index) => (index < 10 ? 'drop' : undefined) });
    assert.deepEqual(await load(file), archive.tensors);
    const largest = Math.max(...archive.chunks.map(({ bytes }) => bytes));
    assert(file.requests.length > 10 && file.sentBytes - archive.bytes.length <= 10 * largest, JSON.stringify(file.requests));
  });

  test('skips what is there already where a server or an encoding knows no ranges', async () => {
    for (const options of [{ ranges: false }, { gzip: true }]) {
      const file = new FaultyFile(archive.bytes, { ...options, next: (index) => (index < 3 ? halved : undefined) });
      assert.deepEqual(await load(file), archive.tensors);
    }
  });

  for (const validators of ['strong', 'weak', 'date', 'none']) {
    test(`notices that the file has changed, validators: ${validators}`, async () => {
      for (const ranges of [true, false]) {
        const next = (index) => (index === 0 ? halved : index === 1 ? other.bytes : undefined);
        const outcome = await outcomeOf(new FaultyFile(archive.bytes, { validators, ranges, next }));
        assert.deepEqual(outcome.downloaded, 'changed');
        assert.deepEqual(outcome.tensors[0], archive.tensors[0]);
        assert.equal(outcome.tensors.at(-1), 'changed');
      }
    });
  }

  test('gives what has arrived, while the rest is on its way and after it was given up', async () => {
    for (const fault of ['stall', 'drop']) {
      const half = (answer) => ({ ...halved(answer), after: fault });
      const file = new FaultyFile(archive.bytes, { next: (index) => (index === 0 ? half : 'refuse') });
      const { tensors, downloaded } = await outcomeOf(file, { retries: 0, silenceMs: SILENCE_MS });
      assert.equal(downloaded, 'io');
      assert.deepEqual(tensors[0], archive.tensors[0]);
      assert.equal(tensors.at(-1), 'io');
    }
    const file = new FaultyFile(archive.bytes, { next: () => (answer) => ({ ...halved(answer), after: 'stall' }) });
    const scenario = async ({ entry, base, path, options }) => {
      const { open } = await import(entry);
      const archive = await open(base + path, options);
      const hash = hashOf(await archive.tensor(archive.tensors[0].name));
      archive.close();
      return hash;
    };
    assert.deepEqual(await serving(file, (path) => inNode(scenario, { path, options: OPTIONS })), archive.tensors[0]);
  });

  for (const workers of [0, 1]) {
    test(`fetches a damaged chunk again once, alone, with ${workers} workers`, async () => {
      for (const { offset, bytes } of archive.chunks) {
        const damaged = (answer) => flipped(answer, offset + (bytes >> 1));
        const file = new FaultyFile(archive.bytes, { next: (index) => (index === 0 ? damaged : undefined) });
        assert.deepEqual(await load(file, { workers, files: true }), archive.tensors);
        assert.deepEqual(file.requests.map(({ range }) => range), [undefined, `bytes=${offset}-${offset + bytes - 1}`]);
        assert.equal(file.requests[1].cacheControl, 'no-cache');
      }
    });
  }

  test('fetches a damaged chunk again on WebGPU', async () => {
    const scenario = async ({ entry, base, path }) => {
      const { open } = await import(entry);
      const archive = await open(base + path, { backend: 'webgpu', retryMs: 1 });
      const lengths = await Promise.all(archive.tensors.map(({ name }) => archive.tensor(name).then(({ data }) => data.length, ({ code }) => code)));
      const { backend } = archive;
      archive.close();
      return { lengths, backend };
    };
    // Those before a large one hold the side arrays of its frame.
    const large = archive.chunks.findIndex(({ bytes }) => bytes > 1 << 13);
    for (const { offset, bytes } of archive.chunks.slice(large - 1, large + 1)) {
      const damaged = (answer) => flipped(answer, offset + (bytes >> 1));
      const file = new FaultyFile(archive.bytes, { next: (index) => (index === 0 ? damaged : undefined) });
      const result = await serving(file, (path) => inChromium(scenario, { path }));
      assert.deepEqual(result, { lengths: ROWS.map((rows) => rows * COLUMNS), backend: 'webgpu' });
      assert.deepEqual(file.requests.map(({ range }) => range), [undefined, `bytes=${offset}-${offset + bytes - 1}`]);
    }
  });

  test('goes on at once when the browser is online again', async () => {
    const scenario = async ({ entry, base, path }) => {
      const { open } = await import(entry);
      // From the start: the first drop may take the header with it.
      const online = setInterval(() => dispatchEvent(new Event('online')), 20);
      const archive = await open(base + path, { backend: 'cpu', retryMs: 3_600_000 });
      await archive.downloaded;
      clearInterval(online);
      archive.close();
    };
    const file = new FaultyFile(archive.bytes, { next: (index) => (index < 2 ? halved : undefined) });
    await serving(file, (path) => inChromium(scenario, { path }));
    assert.equal(file.requests.length, 3);
  });

  test('waits as long as the server asks', async ({ mock }) => {
    const { setTimeout } = globalThis;
    const waits = [];
    mock.method(globalThis, 'setTimeout', (task, ms, ...rest) => {
      waits.push(ms);
      return setTimeout(task, ms === 17_000 ? 0 : ms, ...rest);
    });
    const busy = () => ({ status: 503, headers: { 'retry-after': '17' } });
    const file = new FaultyFile(archive.bytes, { next: (index) => (index === 0 ? busy : undefined) });
    assert.deepEqual(await load(file), archive.tensors);
    assert.equal(waits.filter((ms) => ms === 17_000).length, 1);
  });

  test('resumes from another origin, without asking it for permission', async () => {
    const scenario = async ({ entry, base, path }) => {
      const { open } = await import(entry);
      const archive = await open(base.replace('localhost', '127.0.0.1') + path, { backend: 'cpu', retryMs: 1 });
      await archive.downloaded;
      archive.close();
    };
    const policy = encodeURIComponent(`default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src *`);
    for (const ranges of [true, false]) {
      const file = new FaultyFile(archive.bytes, { ranges, next: (index) => (index === 0 ? halved : undefined) });
      await serving(file, (path) => inChromium(scenario, { path }, { query: `?policy=${policy}` }));
      // How many there are is up to the browser's cache.
      assert(file.requests.length > 1 && file.requests.every(({ method }) => method === 'GET'), JSON.stringify(file.requests));
    }
  });

  test('fetches a damaged header again', async () => {
    const file = new FaultyFile(archive.bytes, { next: (index) => (index === 0 ? (answer) => flipped(answer, 50) : undefined) });
    assert.deepEqual(await load(file), archive.tensors);
  });

  test('fetches everything again for a damaged chunk where the server knows no ranges', async () => {
    const { offset } = archive.chunks.at(-1);
    for (const options of [{}, { lazy: true }, { retries: 0 }]) {
      const file = new FaultyFile(archive.bytes, { ranges: false, next: (index) => (index === 0 ? (answer) => flipped(answer, offset) : undefined) });
      assert.deepEqual(await load(file, options), archive.tensors);
      assert.equal(file.requests.length, 3);
    }
  });

  test('fails with `checksum` where a chunk stays damaged', async () => {
    const { offset } = archive.chunks.find(({ bytes }) => bytes > 1 << 13);
    for (const ranges of [true, false]) {
      const next = () => (answer) => (answer.status === 206 ? flipped(answer, 0) : flipped(answer, offset));
      const file = new FaultyFile(archive.bytes, { ranges, next });
      const { tensors } = await outcomeOf(file);
      assert.deepEqual(tensors, archive.tensors.with(tensors.indexOf('checksum'), 'checksum'));
      assert.equal(file.requests.length, ranges ? 2 : 3);
    }
  });

  test('says what it found instead, and where', async () => {
    const message = async (next) => {
      const { opened } = await outcomeOf(new FaultyFile(archive.bytes, { next }), { retries: 0 });
      return opened.replace(/http:\S+:/, 'URL:');
    };
    assert.deepEqual(
      await Promise.all([message(() => 'HTML'), message(() => 'Git LFS'), message(() => 'empty'), message(() => 'server error')]),
      [
        'invalid: URL: an HTML page instead of an archive (HTTP 200, text/html)',
        'invalid: URL: a Git LFS pointer instead of an archive (HTTP 200, application/octet-stream)',
        'incomplete: URL: nothing instead of an archive (HTTP 200, application/octet-stream)',
        'io: URL: HTTP 500 (application/octet-stream)',
      ],
    );
  });

  test('ends everything when it is closed: the process too', async () => {
    const program = `
      import { open } from ${JSON.stringify(pathToFileURL(join(folder, 'node_modules/mcwc/pkg/index.js')).href)};
      const archive = await open(process.argv[1], { backend: 'cpu', retryMs: 3_600_000, silenceMs: 3_600_000, workers: 0 });
      archive.refined; archive.downloaded;
      archive.close();
    `;
    // One is silent when it is closed, the other waits until it tries again.
    for (const fault of ['stall', 'drop']) {
      const file = new FaultyFile(archive.bytes, { next: () => (answer) => ({ ...halved(answer), after: fault }) });
      await serving(file, async (path) => {
        const url = await inNode(({ base, path }) => base + path, { path });
        await run(process.execPath, ['--input-type=module', '--eval', program, url], { timeout: 60_000 });
      });
      assert.equal(file.requests.length, 1);
    }
  });

  describe('Lazy', () => {
    const lazily = async ({ entry, base, path, options, names }) => {
      const { open } = await import(entry);
      const progress = [];
      const archive = await open(base + path, { ...options, lazy: true, onProgress: (event) => progress.push(event) });
      const data = await Promise.all(names.map(async (name) => hashOf(await archive.tensor(name))));
      const early = await Promise.race([archive.refined.then(() => 'all'), new Promise((resolve) => setTimeout(resolve, 100, 'part'))]);
      archive.close();
      return { data, early, progress };
    };

    test('fetches the header and the chunks that are asked for, near ones together', async () => {
      const asked = [
        [[3, 4], 2],
        [[2, 4], 2],
        [[3, 6], 3],
      ];
      for (const [layers, requests] of asked) {
        const file = new FaultyFile(archive.bytes);
        const names = layers.map((index) => `layer${index}`);
        const { data, early, progress } = await serving(file, (path) => inNode(lazily, { path, options: OPTIONS, names }));
        assert.deepEqual(data, layers.map((index) => archive.tensors[index]));
        assert.equal(early, 'part');
        assert.equal(file.requests.length, requests, JSON.stringify(file.requests));
        assert(file.sentBytes < 0.7 * archive.bytes.length, `${file.sentBytes} of ${archive.bytes.length} bytes`);
        const { loaded, total } = progress.at(-1);
        assert.deepEqual({ loaded, total }, { loaded: file.sentBytes, total: archive.bytes.length });
      }
    });

    test('resolves `refined` and reports 100 % once when everything has been asked for', async () => {
      const { tensors, downloaded, progress } = await outcomeOf(new FaultyFile(archive.bytes), { lazy: true, files: true });
      assert.deepEqual(tensors, archive.tensors);
      assert.equal(downloaded, 'all');
      assert.equal(progress.filter(({ loaded, total }) => loaded === total).length, 1);
    });

    test('downloads everything from a server that knows no ranges', async () => {
      for (const options of [{ ranges: false }, { ranges: false, gzip: true }]) {
        const file = new FaultyFile(archive.bytes, options);
        const { data } = await serving(file, (path) => inNode(lazily, { path, options: OPTIONS, names: ['layer5'] }));
        assert.deepEqual(data, [archive.tensors[5]]);
        assert.equal(file.requests.length, 1);
      }
    });
  });

  test('progress says how much has arrived and been decoded, of what, and from where', async () => {
    const outcome = await outcomeOf(new FaultyFile(archive.bytes));
    const last = outcome.progress.at(-1);
    assert.deepEqual({ ...last, decoded: 0 }, { loaded: archive.bytes.length, total: archive.bytes.length, decoded: 0, from: 'network' });
    assert(outcome.progress.every(({ decoded, loaded }) => decoded <= loaded));
    const scenario = async ({ entry, bytes }) => {
      const { open } = await import(entry);
      const progress = [];
      for (const source of [bytes, new Blob([bytes]), new Response(bytes).body]) {
        const archive = await open(source, { backend: 'cpu', workers: 0, onProgress: (event) => progress.push(event) });
        archive.close();
      }
      return progress.map(({ loaded, total, from }) => [loaded, total, from].join(' '));
    };
    const { length } = archive.bytes;
    const expected = [`${length} ${length} memory`, `${length} ${length} memory`];
    const progress = await inNode(scenario, { bytes: archive.bytes });
    assert.deepEqual(progress.slice(0, 2), expected);
    assert.equal(progress.at(-1), `${length} ${length} network`);
  });
});

async function archiveOf(name, seed) {
  const floats = noise(seed);
  const weights = {};
  for (const [index, rows] of ROWS.entries()) weights[`layer${index}`] = ['F32', [rows, COLUMNS], floats(rows * COLUMNS, 0.02)];
  await writeFile(join(folder, `${name}.safetensors`), safetensors(weights));
  encode(name, [`${name}.safetensors`], ['--bits', '4']);
  const restored = await readFile(join(folder, `${name}-restored/${name}.safetensors`));
  let end = 8 + Number(restored.readBigUInt64LE(0));
  const tensors = ROWS.map((rows) => fnv(restored.subarray(end, (end += 4 * rows * COLUMNS))));
  const bytes = await readFile(join(folder, `${name}.mcwc`));
  return { bytes, tensors, chunks: await chunksOf(bytes) };
}

async function chunksOf(bytes) {
  const { Archive, initSync } = await import('../target/bindings/mcwc/mcwc.js');
  initSync({ module: await readFile(join(folder, 'node_modules/mcwc/pkg/mcwc_bg.wasm')) });
  const table = new Archive(bytes.subarray(0, 32 + bytes.readUInt32LE(12))).chunks();
  return Array.from({ length: table.length / 3 }, (_, index) => ({ offset: table[3 * index + 1], bytes: table[3 * index + 2] }));
}

function hashOf({ data: { buffer, byteLength } }) {
  return fnv(new Uint8Array(buffer, 0, byteLength));
}

function halved(answer) {
  return { ...answer, body: answer.body.subarray(0, answer.body.length >> 1), after: 'drop' };
}

function flipped(answer, offset) {
  const body = Buffer.from(answer.body);
  body[offset] ^= 1;
  return { ...answer, body };
}

let served = 0;

/** Serves a file at a path of its own while it is used. */
async function serving(file, use) {
  const path = `/loader/${served++}`;
  handlers.set(path, (request, response) => file.handle(request, response));
  try {
    return await use(path);
  } finally {
    handlers.delete(path);
  }
}

/** What becomes of everything in an archive: values, or codes of errors. */
function outcomeOf(file, options = {}) {
  const scenario = async ({ entry, base, path, options: { files, ...options } }) => {
    const { open } = await import(entry);
    const progress = [];
    let archive;
    try {
      archive = await open(base + path, { ...options, onProgress: (event) => progress.push(event) });
    } catch ({ code, message }) {
      return { opened: `${code}: ${message}` };
    }
    const codeOf = ({ code }) => code;
    const tensors = await Promise.all(archive.tensors.map(({ name }) => archive.tensor(name).then(hashOf, codeOf)));
    if (files) for (const { name } of archive.files) await archive.file(name).bytes();
    const downloaded = options.lazy && !files ? undefined : await archive.downloaded.then(() => 'all', codeOf);
    archive.close();
    return { opened: 'yes', tensors, downloaded, progress };
  };
  return serving(file, (path) => inNode(scenario, { path, options: { ...OPTIONS, ...options } }));
}

/** The tensors of an archive that can be read whole. */
async function load(file, options) {
  const { opened, tensors, downloaded = 'all' } = await outcomeOf(file, options);
  assert.equal(opened, 'yes');
  assert.equal(downloaded, 'all');
  return tensors;
}
