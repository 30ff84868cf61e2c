// What `open(url, { cache })` keeps, in Chromium: how much a server is asked for, what is kept where, and that the weights are right.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { FAULT_NAMES, FaultyFile, randomOf } from './common/faults.mjs';
import { POLICY, folder, fnv, newContext, writeExact } from './common/package.mjs';

const PREAMBLE_BYTES = 32;
/** In a chunk that lies within one block of the cache. */
const INSIDE = 3_000_000;
const TYPES = { '.js': 'text/javascript', '.wasm': 'application/wasm' };
/** Where the tests' archive lies, and how it is served. */
const PATH = '/model.mcwc';
let served;
/** Of that archive, by the server, since last asked: requests, and bytes in their answers. */
let sent;
let server;
let origin;
let archive;
/** Hashes of its tensors, by name. */
let hashes;
/** Those of another version of it. */
let other;
let otherHashes;
/** Pages of one context share what is kept. */
let context;

async function serve(request, response) {
  const { pathname } = new URL(request.url, origin);
  if (pathname === PATH) return serveArchive(request, response);
  // Archives may also come from another origin.
  const policy = `${POLICY} ${origin.replace('localhost', '127.0.0.1')}`;
  const headers = { 'content-type': TYPES[extname(pathname)] ?? 'text/html', 'content-security-policy': policy };
  if (pathname === '/') return response.writeHead(200, headers).end('<!doctype html><title>mcwc</title>');
  const body = await readFile(join(folder, 'node_modules/mcwc', pathname)).catch(() => undefined);
  response.writeHead(body ? 200 : 404, headers).end(body);
}

/** `stopAt`: the byte before which answers stop, until `gate` if there is one. `failure`: a status, or 'network'. `once`: the body of the first answer. */
function serveArchive(request, response) {
  const { range } = request.headers;
  if (request.method === 'OPTIONS') served.preflights = true;
  response.setHeader('access-control-allow-origin', '*');
  const { body = served.body, stopAt = Infinity, failure, ignoresRanges } = { ...served, body: served.once };
  served.once = undefined;
  if (served.file) return served.file.handle(request, response);
  sent.requests++;
  if (failure === 'network') return response.destroy();
  if (failure) return response.writeHead(failure).end('no');
  const [, first, last] = (!ignoresRanges && /^bytes=(\d+)-(\d*)$/.exec(range)) || [];
  const start = Number(first ?? 0);
  const end = Math.min(body.length, last ? Number(last) + 1 : body.length);
  const head = { 'content-length': end - start, 'content-type': 'application/octet-stream', etag: `"${fnv(served.body)}"` };
  if (first) head['content-range'] = `bytes ${start}-${end - 1}/${body.length}`;
  response.writeHead(first ? 206 : 200, head);
  const part = body.subarray(start, Math.min(end, stopAt));
  sent.bytes += part.length;
  if (end <= stopAt) return response.end(part);
  response.write(part);
  served.gate?.then(() => {
    sent.bytes += end - Math.max(start, stopAt);
    response.end(body.subarray(Math.max(start, stopAt), end));
  });
}

/** A new page; `script` runs first. */
async function newPage({ script, host = 'localhost' } = {}) {
  const page = await context.newPage();
  if (script) await page.addInitScript(script);
  page.setDefaultTimeout(20_000);
  await page.goto(origin.replace('localhost', host));
  return page;
}

/** Opens the archive in a page, reads all of it, and waits until what can be kept is. */
async function visit(page, options = {}, path = PATH) {
  const before = { ...sent };
  const found = await page.evaluate(readAll, { options, path });
  return { ...found, sent: { requests: sent.requests - before.requests, bytes: sent.bytes - before.bytes } };
}

async function readAll({ options, path }) {
  const { open } = await import('/pkg/index.js');
  const progress = [];
  const archive = await open(path, { backend: 'cpu', cache: true, onProgress: (each) => progress.push(each), ...options });
  const hashes = {};
  for (const { name } of archive.tensors) {
    const { data } = await archive.tensor(name);
    let state = 0x811c9dc5;
    for (const byte of new Uint8Array(data.buffer, data.byteOffset, data.byteLength)) state = Math.imul(state ^ byte, 0x01000193);
    const bytes = new Uint8Array(Uint32Array.of(state).buffer);
    hashes[name] = `${data.byteLength} ${Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('')}`;
  }
  await archive.downloaded;
  await archive.cached;
  const { cache, cacheReason } = archive;
  archive.close();
  return { hashes, cache, cacheReason, progress };
}

async function openOnly(path) {
  const { open } = await import('/pkg/index.js');
  await open(path, { backend: 'cpu', cache: true });
}

const withoutOpfs = () => delete FileSystemFileHandle.prototype.createWritable;
const withoutBoth = () => {
  delete FileSystemFileHandle.prototype.createWritable;
  delete globalThis.caches;
};
function slowWrites() {
  const { prototype } = FileSystemFileHandle;
  const { createWritable } = prototype;
  prototype.createWritable = async function () {
    await new Promise((resolve) => setTimeout(resolve, 2000));
    return createWritable.call(this);
  };
}

const SHELVES = { opfs: undefined, 'cache-api': withoutOpfs };

/** What the caches of this origin hold. */
function held(page) {
  return page.evaluate(async () => {
    const { caches } = await import('/pkg/cache.js');
    const { archives, bytes, usage, quota, persisted } = await caches();
    return { archives, bytes, usage, quota, persisted };
  });
}

/** Resolves when that many bytes are kept. */
async function untilHeld(page, bytes) {
  while ((await held(page)).bytes < bytes) await new Promise((resolve) => setTimeout(resolve, 20));
}

/** Changes a byte of what is kept, `offset` from the archive's start. */
function damage(page, offset) {
  return page.evaluate(async (offset) => {
    const root = await navigator.storage.getDirectory();
    const folder = await (await root.getDirectoryHandle('mcwc')).getDirectoryHandle('default');
    for await (const archive of folder.values()) {
      for await (const [name, file] of archive.entries()) {
        const [, start, end] = /^(\d+)-(\d+)$/.exec(name) ?? [];
        if (!start || offset < Number(start) || Number(end) <= offset) continue;
        const bytes = new Uint8Array(await (await file.getFile()).arrayBuffer());
        bytes[offset - Number(start)] ^= 1;
        const stream = await file.createWritable();
        await stream.write(bytes);
        return stream.close();
      }
    }
    throw new Error(`byte ${offset} is not kept`);
  }, offset);
}

function integrityOf(archive) {
  return archive.subarray(16, 32).toString('hex');
}

describe('Cache', () => {
  before(async () => {
    [hashes, otherHashes] = [await writeExact('first', 3), await writeExact('second', 4)];
    [archive, other] = await Promise.all(['first', 'second'].map((name) => readFile(join(folder, `${name}.mcwc`))));
    server = createServer(serve);
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    origin = `http://localhost:${server.address().port}`;
  });

  after(() => {
    server?.closeAllConnections();
    server?.close();
  });

  beforeEach(async () => {
    served = { body: archive };
    sent = { requests: 0, bytes: 0 };
    context = await newContext();
  });

  afterEach(() => context.close());

  for (const [cache, script] of Object.entries(SHELVES)) {
    describe(`In ${cache}`, () => {
      test('what is complete is not fetched again: only its preamble, or nothing with its integrity', async () => {
        const page = await newPage({ script });
        const cold = await visit(page);
        assert.deepEqual(cold.hashes, hashes);
        assert.equal(cold.cache, cache);
        assert.deepEqual(cold.sent, { requests: 1, bytes: archive.length });
        await untilHeld(page, archive.length);
        const next = await newPage({ script });
        const warm = await visit(next);
        assert.deepEqual(warm.hashes, hashes);
        assert.deepEqual(warm.sent, { requests: 1, bytes: PREAMBLE_BYTES });
        assert.deepEqual(new Set(warm.progress.map(({ from }) => from)), new Set(['cache']));
        const pinned = await visit(next, { integrity: integrityOf(archive) });
        assert.deepEqual(pinned.hashes, hashes);
        assert.deepEqual(pinned.sent, { requests: 0, bytes: 0 });
      });

      test('what had arrived when the page was reloaded is not fetched again', async () => {
        const page = await newPage({ script });
        served.stopAt = 3 << 20;
        await page.evaluate(openOnly, PATH);
        await untilHeld(page, served.stopAt);
        await page.reload();
        served.stopAt = undefined;
        const { hashes: found, sent, progress } = await visit(page);
        assert.deepEqual(found, hashes);
        assert.equal(sent.bytes, archive.length - (3 << 20) + PREAMBLE_BYTES);
        assert.equal(progress[0].from, 'cache');
      });
    });
  }

  /** A page after a visit whose bytes are all kept. */
  async function visited(options) {
    const page = await newPage(options);
    await visit(page);
    await untilHeld(page, archive.length);
    sent = { requests: 0, bytes: 0 };
    return page;
  }

  test('a damaged chunk is fetched again alone, once for all', async () => {
    const page = await visited();
    await damage(page, INSIDE);
    const repaired = await visit(page);
    assert.deepEqual(repaired.hashes, hashes);
    assert.equal(repaired.sent.requests, 2);
    assert(repaired.sent.bytes < archive.length / 6, `${repaired.sent.bytes} bytes for a chunk`);
    await untilHeld(page, archive.length);
    const again = await visit(page);
    assert.deepEqual(again.hashes, hashes);
    assert.equal(again.sent.bytes, PREAMBLE_BYTES);
  });

  test('what arrives damaged is replaced even while it is being written', async () => {
    const page = await newPage({ script: slowWrites });
    served.once = Buffer.from(archive);
    served.once[INSIDE] ^= 1;
    const cold = await visit(page);
    assert.deepEqual(cold.hashes, hashes);
    assert.equal(cold.sent.requests, 2);
    const warm = await visit(page);
    assert.deepEqual(warm.hashes, hashes);
    assert.equal(warm.sent.bytes, PREAMBLE_BYTES);
  });

  test('whatever servers do, weights are right or an error is typed, and nothing wrong is kept for ever', async () => {
    const page = await newPage();
    const outcomes = { right: 0, failed: 0 };
    for (let seed = 0; seed < 20; seed++) {
      const random = randomOf(seed);
      const faulty = Math.ceil(random() * 4);
      const next = (request) => (request < faulty ? FAULT_NAMES[Math.floor(random() * FAULT_NAMES.length)] : undefined);
      served.file = new FaultyFile(archive, { random, next });
      const outcome = await visit(page, { silenceMs: 300, retryMs: 1, retries: 3 }).catch((error) => error);
      if (outcome instanceof Error) assert.match(outcome.message, /McwcError/);
      else assert.deepEqual(outcome.hashes, hashes);
      outcomes[outcome instanceof Error ? 'failed' : 'right']++;
      if (random() < 0.6) await page.evaluate(async () => (await (await import('/pkg/cache.js')).caches()).delete());
      else if ((await held(page)).archives[0]?.complete) await damage(page, Math.floor(random() * archive.length));
    }
    assert(outcomes.right > 0 && outcomes.failed > 0, JSON.stringify(outcomes));
    served.file = undefined;
    for (let visits = 0; visits < 2; visits++) assert.deepEqual((await visit(page)).hashes, hashes);
    assert.equal((await visit(page)).sent.bytes, PREAMBLE_BYTES);
  });

  test('bytes after the end are refused, and not kept for ever', async () => {
    const page = await newPage();
    served.once = Buffer.concat([archive, Buffer.alloc(100)]);
    await assert.rejects(visit(page), /bytes follow the last chunk/);
    assert.deepEqual((await visit(page)).hashes, hashes);
    assert.equal((await held(page)).bytes, archive.length);
  });

  test('a cache needs a name that can be one of a file', async () => {
    const page = await newPage();
    for (const cache of ['../other', 'a/b', 'a'.repeat(65)]) await assert.rejects(visit(page, { cache }), /letters, digits/);
  });

  for (const [part, offset] of Object.entries({ preamble: 3, length: 13, hash: 20, header: 60 })) {
    test(`a damaged header is fetched again: its ${part}`, async () => {
      const page = await visited();
      await damage(page, offset);
      const { hashes: found, sent } = await visit(page, { integrity: integrityOf(archive) });
      assert.deepEqual(found, hashes);
      assert(sent.bytes < 10_000, `${sent.bytes} bytes for the header`);
      await untilHeld(page, archive.length);
    });
  }

  test('files that a crash has left empty, or that are gone, are fetched again', async () => {
    const page = await visited();
    await page.evaluate(async () => {
      const root = await navigator.storage.getDirectory();
      const folder = await (await root.getDirectoryHandle('mcwc')).getDirectoryHandle('default');
      for await (const [name, archive] of folder.entries()) {
        if (name === 'addresses') continue;
        const blocks = (await Array.fromAsync(archive.keys())).filter((name) => !name.startsWith('complete')).sort();
        await archive.removeEntry(blocks[0]);
        const stream = await (await archive.getFileHandle(blocks[1])).createWritable();
        await stream.close();
      }
    });
    for (let visits = 0; visits < 2; visits++) assert.deepEqual((await visit(page)).hashes, hashes);
    await untilHeld(page, archive.length);
    assert.equal((await visit(page)).sent.bytes, PREAMBLE_BYTES);
  });

  test('without room the download goes on in memory, and says so', async () => {
    const page = await newPage();
    const session = await context.newCDPSession(page);
    await session.send('Storage.overrideQuotaForOrigin', { origin, quotaSize: 3 << 20 });
    const { hashes: found, cache, cacheReason, sent } = await visit(page);
    assert.deepEqual(found, hashes);
    assert.equal(cache, 'memory');
    assert.match(cacheReason, /Quota/);
    assert.equal(sent.bytes, archive.length);
    assert.deepEqual((await visit(page)).hashes, hashes);
  });

  test('of two tabs, one downloads', async () => {
    const pages = await Promise.all([newPage(), newPage()]);
    let goOn;
    Object.assign(served, { stopAt: 3 << 20, gate: new Promise((resolve) => (goOn = resolve)) });
    const visiting = pages.map((page) => page.evaluate(readAll, { options: {}, path: PATH }));
    const waits = async () => (await pages[0].evaluate(() => navigator.locks.query())).pending.some(({ name }) => name.endsWith('/lead'));
    while (!(await waits()) && sent.requests < 3) await new Promise((resolve) => setTimeout(resolve, 20));
    goOn();
    for (const { hashes: found } of await Promise.all(visiting)) assert.deepEqual(found, hashes);
    assert.equal(sent.bytes, archive.length + PREAMBLE_BYTES);
  });

  test('a tab goes on where another that was closed left off', async () => {
    const [first, second] = await Promise.all([newPage(), newPage()]);
    served.stopAt = 3 << 20;
    await first.evaluate(openOnly, PATH);
    await untilHeld(first, served.stopAt);
    const visiting = visit(second);
    served.stopAt = undefined;
    await untilHeld(second, 3 << 20);
    await first.close();
    assert.deepEqual((await visiting).hashes, hashes);
    assert.equal(sent.bytes, archive.length + PREAMBLE_BYTES);
  });

  test('a tab does not wait for another that has stalled', async () => {
    const [first, second] = await Promise.all([newPage(), newPage()]);
    served.stopAt = 3 << 20;
    await first.evaluate(openOnly, PATH);
    await untilHeld(first, served.stopAt);
    served.stopAt = undefined;
    assert.deepEqual((await visit(second, { silenceMs: 500 })).hashes, hashes);
  });

  test('another version at the address replaces the one that is kept', async () => {
    const page = await visited();
    served.body = other;
    const changed = await visit(page);
    assert.deepEqual(changed.hashes, otherHashes);
    await untilHeld(page, other.length);
    const { archives } = await held(page);
    assert.deepEqual(archives.map(({ integrity }) => integrity), [integrityOf(other)]);
  });

  test('a version that is in use is deleted later', async () => {
    const [page, user] = [await visited(), await newPage()];
    await user.evaluate(openOnly, PATH);
    served.body = other;
    await visit(page);
    const integrities = async () => (await held(page)).archives.map(({ integrity }) => integrity).sort();
    await untilHeld(page, archive.length + other.length);
    assert.deepEqual(await integrities(), [archive, other].map(integrityOf).sort());
    await user.close();
    served.body = archive;
    await visit(page);
    assert.deepEqual(await integrities(), [integrityOf(archive)]);
  });

  for (const failure of ['network', 503]) {
    test(`what is kept is used when there is no server: ${failure}`, async () => {
      const page = await visited();
      served.failure = failure;
      const { hashes: found, cacheReason } = await visit(page);
      assert.deepEqual(found, hashes);
      assert.match(cacheReason, /could not be reached/);
    });
  }

  test('without a server, what is complete is used rather than the beginning of what replaces it', async () => {
    const page = await visited();
    Object.assign(served, { body: other, stopAt: 3 << 20 });
    await page.evaluate(openOnly, PATH);
    await untilHeld(page, archive.length + (3 << 20));
    await page.reload();
    served.failure = 'network';
    assert.deepEqual((await visit(page)).hashes, hashes);
  });

  test('what the server refuses is refused', async () => {
    const page = await visited();
    served.failure = 404;
    await assert.rejects(visit(page), /HTTP 404/);
  });

  test('servers that ignore ranges are asked for everything that is not kept', async () => {
    const page = await newPage();
    served.ignoresRanges = true;
    assert.deepEqual((await visit(page)).hashes, hashes);
    await untilHeld(page, archive.length);
    const warm = await visit(page);
    assert.deepEqual(warm.hashes, hashes);
    assert.equal(warm.sent.requests, 1);
  });

  test('another origin need allow nothing but its answers to be read', async () => {
    const [page, path] = [await newPage(), `${origin.replace('localhost', '127.0.0.1')}${PATH}`];
    assert.deepEqual((await visit(page, {}, path)).hashes, hashes);
    await damage(page, INSIDE);
    const warm = await visit(page, {}, path);
    assert.deepEqual(warm.hashes, hashes);
    assert(warm.sent.bytes < archive.length / 5);
    assert.equal(served.preflights, undefined);
  });

  test('where nothing can be kept, memory does, and says so', async () => {
    const insecure = await visit(await newPage({ host: 'insecure.test' }));
    const neither = await visit(await newPage({ script: withoutBoth }));
    for (const { hashes: found, cache } of [insecure, neither]) {
      assert.deepEqual(found, hashes);
      assert.equal(cache, 'memory');
    }
    assert.match(insecure.cacheReason, /insecure context/);
    assert.match(neither.cacheReason, /nothing can be kept/);
  });

  test('a lazy archive keeps what was asked for', async () => {
    const read = async ({ path, names }) => {
      const { open } = await import('/pkg/index.js');
      const archive = await open(path, { backend: 'cpu', cache: true, lazy: true });
      for (const name of names) await archive.tensor(name);
      archive.close();
    };
    const page = await newPage();
    await page.evaluate(read, { path: PATH, names: ['layer1', 'layer4'] });
    const cold = sent.bytes;
    assert(cold < archive.length / 2);
    await untilHeld(page, cold);
    await page.evaluate(read, { path: PATH, names: ['layer1', 'layer4'] });
    assert.equal(sent.bytes, cold + PREAMBLE_BYTES);
    const { hashes: found, sent: rest } = await visit(page);
    assert.deepEqual(found, hashes);
    assert.equal(rest.bytes, archive.length - cold + PREAMBLE_BYTES);
  });

  test('caches are filled ahead, listed and emptied', async () => {
    const page = await newPage();
    const call = (name, ...args) => page.evaluate(async ([name, args]) => (await import('/pkg/cache.js'))[name](...args), [name, args]);
    await call('prefetch', PATH, { cache: 'models' });
    const integrity = integrityOf(archive);
    const url = origin + PATH;
    const { archives, bytes, usage, quota, persisted } = await held(page);
    assert.deepEqual(archives, [{ cache: 'models', integrity, urls: [url], bytes: archive.length, complete: true }]);
    assert.equal(bytes, archive.length);
    assert(usage >= bytes && quota > usage);
    assert.equal(persisted, false);
    assert.equal((await visit(page, { cache: 'models', integrity })).sent.requests, 0);
    const remove = (filter) => page.evaluate(async (filter) => (await (await import('/pkg/cache.js')).caches()).delete(filter), filter);
    assert.equal(await remove({ cache: 'default' }), 0);
    assert.equal(await remove({ complete: false }), 0);
    assert.equal(await remove({ url: `${url}2` }), 0);
    assert.equal(await remove({ integrity: integrity.toUpperCase(), url: PATH }), archive.length);
    assert.deepEqual((await held(page)).archives, []);
    assert.equal((await visit(page, { cache: 'models' })).sent.bytes, archive.length);
  });

  test('prefetching rejects when it cannot keep', async () => {
    const page = await newPage({ script: withoutBoth });
    const prefetching = page.evaluate(async (path) => (await import('/pkg/cache.js')).prefetch(path), PATH);
    await assert.rejects(prefetching, /nothing can be kept/);
  });
});
