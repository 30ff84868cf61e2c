// Pages in Chromium that open an archive with `{ cache }`, and a server that counts what it is asked for.
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join } from 'node:path';
import { after, afterEach, before, beforeEach } from 'node:test';
import { POLICY, folder, fnv, newContext, writeExact } from './package.mjs';

export const PREAMBLE_BYTES = 32;
/** In a chunk that lies within one block of the cache. */
export const INSIDE = 3_000_000;
/** Where the tests' archive lies, and how it is served. */
export const PATH = '/model.mcwc';
const TYPES = { '.js': 'text/javascript', '.wasm': 'application/wasm' };
export let served;
/** Of that archive, by the server, since last asked: requests, and bytes in their answers. */
export let sent;
export let origin;
export let archive;
/** Hashes of its tensors, by name. */
export let hashes;
/** Those of another version of it. */
export let other;
export let otherHashes;
/** Pages of one context share what is kept. */
export let context;
let server;

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
export async function newPage({ script, host = 'localhost' } = {}) {
  const page = await context.newPage();
  if (script) await page.addInitScript(script);
  page.setDefaultTimeout(20_000);
  await page.goto(origin.replace('localhost', host));
  return page;
}

/** Opens the archive in a page, reads all of it, and waits until what can be kept is. */
export async function visit(page, options = {}, path = PATH) {
  const before = { ...sent };
  const found = await page.evaluate(readAll, { options, path });
  return { ...found, sent: { requests: sent.requests - before.requests, bytes: sent.bytes - before.bytes } };
}

export async function readAll({ options, path }) {
  const { open } = await import('/pkg/index.js');
  const progress = [];
  const archive = await open(path, { backend: 'cpu', cache: true, onProgress: (each) => progress.push(each), ...options });
  const hashes = {};
  try {
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
    return { hashes, cache, cacheReason, progress };
  } finally {
    archive.close();
  }
}

export async function openOnly(path) {
  const { open } = await import('/pkg/index.js');
  await open(path, { backend: 'cpu', cache: true });
}

export const withoutBoth = () => {
  delete FileSystemFileHandle.prototype.createWritable;
  delete globalThis.caches;
};

/** What the caches of this origin hold. */
export function held(page) {
  return page.evaluate(async () => {
    const { caches } = await import('/pkg/cache.js');
    const { archives, bytes, usage, quota, persisted } = await caches();
    return { archives, bytes, usage, quota, persisted };
  });
}

/** Resolves when that many bytes are kept. */
export async function untilHeld(page, bytes) {
  while ((await held(page)).bytes < bytes) await new Promise((resolve) => setTimeout(resolve, 20));
}

/** Changes a byte of what is kept, `offset` from the archive's start. */
export function damage(page, offset) {
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

export function integrityOf(archive) {
  return archive.subarray(16, 32).toString('hex');
}

/** A page after a visit whose bytes are all kept. */
export async function visited(options) {
  const page = await newPage(options);
  await visit(page);
  await untilHeld(page, archive.length);
  sent = { requests: 0, bytes: 0 };
  return page;
}

/** For each test of a suite another browser context, with nothing in its caches. */
export function useCache() {
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
}
