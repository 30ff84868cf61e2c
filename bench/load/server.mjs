// A web server at the speed of a visitor's network: one link, which all responses share.
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

/** Sent at once: two milliseconds at 50 Mbit/s. */
const SLICE_BYTES = 12 << 10;
/** Of a response, at the most before its reader is waited for. */
const BUFFER_BYTES = 1 << 20;
/** Timers wait for a millisecond at least, so that slices of less are sent together. */
const AHEAD_MS = 2;
/** With which a response that is encoded against a dictionary begins, before the dictionary's hash (RFC 9842). */
const DCZ_MAGIC = Buffer.from('5e2a4d1820000000', 'hex');

class Link {
  bitsPerSecond = Infinity;
  /** Until when all that was sent so far takes. A timer that is late does not slow the link. */
  #freeAt = 0;
  #active = 0;

  async send(response, body) {
    const closed = new Promise((resolve) => response.once('close', resolve));
    if (this.#active++ === 0) this.#idle();
    for (let at = 0; at < body.length && !response.destroyed; at += SLICE_BYTES) {
      const slice = body.subarray(at, at + SLICE_BYTES);
      this.#freeAt += (8000 * slice.length) / this.bitsPerSecond;
      const waitMs = this.#freeAt - performance.now();
      if (waitMs > AHEAD_MS) await sleep(waitMs);
      if (response.write(slice)) continue;
      await Promise.race([closed, new Promise((resolve) => response.once('drain', resolve))]);
      // What waited for the reader is not made up for.
      this.#idle();
    }
    this.#active--;
    response.end();
  }

  #idle() {
    this.#freeAt = Math.max(this.#freeAt, performance.now());
  }
}

/**
 * What is served: `body`, `type`, `encoding` if it is encoded, `cached` if the browser may keep it; `dictionaryFor`: what it is a dictionary
 * for; `delta`: what only those get who have that dictionary.
 *
 * @typedef {{body?: Buffer, type?: string, encoding?: string, cached?: boolean, dictionaryFor?: string, delta?: {body: Buffer, dictionary: Buffer}}} Resource
 */

/** @param {(path: string) => Resource | undefined} find */
export async function startServer(find) {
  const link = new Link();
  const server = createServer({ highWaterMark: BUFFER_BYTES }, (request, response) => {
    const { pathname } = new URL(request.url, 'http://localhost');
    const resource = find(pathname);
    if (!resource) return response.writeHead(404).end();
    const { encoding, body } = encoded(resource, request.headers);
    // A browser that does not take it would show something else than what is measured.
    if (!body || (encoding && !accepts(request.headers, encoding))) return response.writeHead(406).end();
    const part = encoding ? undefined : partOf(request.headers.range, body);
    response.writeHead(part ? 206 : 200, { ...headersOf(resource, encoding, part?.body ?? body), ...part?.headers });
    link.send(response, part?.body ?? body);
  });
  await new Promise((resolve) => server.listen(0, 'localhost', resolve));
  const close = () => {
    server.closeAllConnections();
    server.close();
  };
  return { origin: `http://localhost:${server.address().port}`, link, close };
}

function encoded({ body, encoding, delta }, headers) {
  if (!delta) return { encoding, body };
  const known = headers['available-dictionary'] === `:${sha256(delta.dictionary).toString('base64')}:`;
  return { encoding: 'dcz', body: known ? delta.body : undefined };
}

/** What is asked for by a range; undefined if there is none. */
function partOf(range, body) {
  const [, first, last] = /^bytes=(\d+)-(\d*)$/.exec(range ?? '') ?? [];
  if (first === undefined || Number(first) >= body.length) return undefined;
  const [start, end] = [Number(first), last ? Math.min(Number(last) + 1, body.length) : body.length];
  return { body: body.subarray(start, end), headers: { 'content-range': `bytes ${start}-${end - 1}/${body.length}` } };
}

function accepts(headers, encoding) {
  return headers['accept-encoding']?.split(/, */).includes(encoding);
}

function headersOf({ type = 'application/octet-stream', cached, dictionaryFor }, encoding, body) {
  return {
    'content-type': type,
    'content-length': body.length,
    'accept-ranges': encoding ? 'none' : 'bytes',
    'cache-control': cached ? 'public, max-age=31536000, immutable' : 'no-store',
    vary: 'accept-encoding, available-dictionary',
    ...(encoding && { 'content-encoding': encoding }),
    ...(dictionaryFor && { 'use-as-dictionary': `match="${dictionaryFor}"` }),
  };
}

/** A zstd frame that was made with a dictionary -> the body of a response. */
export function dczOf(frame, dictionary) {
  return Buffer.concat([DCZ_MAGIC, sha256(dictionary), frame]);
}

function sha256(bytes) {
  return createHash('sha256').update(bytes).digest();
}
