// What `open(url, { cache })` keeps, in Chromium: how much a server is asked for, what is kept where, and that the weights are right.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { POLICY, folder, fnv, newContext, writeExact } from './common/package.mjs';

const PREAMBLE_BYTES = 32;
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
  const headers = { 'content-type': TYPES[extname(pathname)] ?? 'text/html', 'content-security-policy': POLICY };
  if (pathname === '/') return response.writeHead(200, headers).end('<!doctype html><title>mcwc</title>');
  const body = await readFile(join(folder, 'node_modules/mcwc', pathname)).catch(() => undefined);
  response.writeHead(body ? 200 : 404, headers).end(body);
}

/** `stopAt`: the byte before which answers stop for ever. `failure`: a status, or 'network'. */
function serveArchive({ headers: { range } }, response) {
  const { body, stopAt = Infinity, failure, ignoresRanges } = served;
  sent.requests++;
  if (failure === 'network') return response.destroy();
  if (failure) return response.writeHead(failure).end('no');
  const [, first, last] = (!ignoresRanges && /^bytes=(\d+)-(\d*)$/.exec(range)) || [];
  const start = Number(first ?? 0);
  const end = Math.min(body.length, last ? Number(last) + 1 : body.length);
  const head = { 'content-length': end - start, 'content-type': 'application/octet-stream', etag: `"${fnv(body)}"` };
  if (first) head['content-range'] = `bytes ${start}-${end - 1}/${body.length}`;
  response.writeHead(first ? 206 : 200, head);
  const part = body.subarray(start, Math.min(end, stopAt));
  sent.bytes += part.length;
  if (end <= stopAt) response.end(part);
  else response.write(part);
}

/** A new page, with whatever is missing in its browser. */
async function newPage({ without, host = 'localhost' } = {}) {
  const page = await context.newPage();
  if (without) await page.addInitScript(without);
  await page.goto(origin.replace('localhost', host));
  return page;
}

/** Opens the archive in a page, reads all of it, and waits until what can be kept is. */
async function visit(page, options = {}) {
  const before = { ...sent };
  const found = await page.evaluate(readAll, { options, path: PATH });
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
  const { cache, cacheReason } = archive;
  archive.close();
  return { hashes, cache, cacheReason, progress };
}

const withoutOpfs = () => delete FileSystemFileHandle.prototype.createWritable;
const withoutBoth = () => {
  delete FileSystemFileHandle.prototype.createWritable;
  delete globalThis.caches;
};
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

  for (const [cache, without] of Object.entries(SHELVES)) {
    describe(`In ${cache}`, () => {
      test('what is complete is not fetched again: only its preamble, or nothing with its integrity', async () => {
        const page = await newPage({ without });
        const cold = await visit(page);
        assert.deepEqual(cold.hashes, hashes);
        assert.equal(cold.cache, cache);
        assert.deepEqual(cold.sent, { requests: 1, bytes: archive.length });
        await untilHeld(page, archive.length);
        const next = await newPage({ without });
        const warm = await visit(next);
        assert.deepEqual(warm.hashes, hashes);
        assert.deepEqual(warm.sent, { requests: 1, bytes: PREAMBLE_BYTES });
        assert.deepEqual(new Set(warm.progress.map(({ from }) => from)), new Set(['cache']));
        const pinned = await visit(next, { integrity: integrityOf(archive) });
        assert.deepEqual(pinned.hashes, hashes);
        assert.deepEqual(pinned.sent, { requests: 0, bytes: 0 });
      });

      test('what had arrived when the page was reloaded is not fetched again', async () => {
        const page = await newPage({ without });
        served.stopAt = 3 << 20;
        await page.evaluate(async (path) => {
          const { open } = await import('/pkg/index.js');
          await open(path, { backend: 'cpu', cache: true });
        }, PATH);
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
});
