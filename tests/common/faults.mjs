// A server that does what servers and networks do wrong, by a seed or by a script.
import { createHash } from 'node:crypto';
import { gzipSync } from 'node:zlib';

/** Uniform numbers in [0, 1), the same for the same seed. */
export function randomOf(seed) {
  let state = Math.imul(seed + 1, 0x9e3779b9) >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Faults of one answer: what each makes of `{ status, headers, body }`, and whether the connection ends or falls silent after it. */
const FAULTS = {
  drop: (answer, random) => ({ ...answer, body: partOf(answer.body, random), after: 'drop' }),
  refuse: () => ({ after: 'drop' }),
  stall: (answer, random) => ({ ...answer, body: partOf(answer.body, random), after: 'stall' }),
  silence: () => ({ after: 'stall' }),
  truncate: (answer, random) => sized({ ...answer, body: partOf(answer.body, random) }),
  'end early, without a length': (answer, random) => unsized({ ...answer, body: partOf(answer.body, random) }),
  duplicate: (answer, random) => {
    const { body } = answer;
    const at = Math.floor(random() * body.length);
    const repeated = body.subarray(at, at + 1 + Math.floor(random() * 5000));
    return { ...answer, body: Buffer.concat([body.subarray(0, at), repeated, body.subarray(at)]).subarray(0, body.length) };
  },
  corrupt: (answer, random) => {
    const body = Buffer.from(answer.body);
    body[Math.floor(random() * body.length)] ^= 1 << Math.floor(random() * 8);
    return { ...answer, body };
  },
  'ignore the range': (answer, random, whole) => whole(),
  'another range': (answer, random, whole, shifted) => shifted(1 + Math.floor(random() * 1000)),
  'no such range': () => sized({ status: 416, headers: {}, body: Buffer.alloc(0) }),
  HTML: () => sized({ status: 200, headers: { 'content-type': 'text/html' }, body: Buffer.from('<!doctype html><title>Sign in</title>') }),
  'Git LFS': () => sized({ status: 200, headers: {}, body: Buffer.from('version https://git-lfs.github.com/spec/v1\noid sha256:0\n') }),
  empty: () => sized({ status: 200, headers: {}, body: Buffer.alloc(0) }),
  unavailable: () => sized({ status: 503, headers: { 'retry-after': '0' }, body: Buffer.alloc(0) }),
  'too many requests': () => sized({ status: 429, headers: { 'retry-after': new Date().toUTCString() }, body: Buffer.alloc(0) }),
  'server error': () => sized({ status: 500, headers: {}, body: Buffer.from('oops') }),
};
export const FAULT_NAMES = Object.keys(FAULTS);

function partOf(body, random) {
  return body.subarray(0, Math.floor(random() * body.length));
}

function sized(answer) {
  return { ...answer, headers: { ...answer.headers, 'content-length': answer.body.length } };
}

function unsized({ headers: { 'content-length': _, ...headers }, ...answer }) {
  return { ...answer, headers };
}

/**
 * Serves a file. `validators` are those of its answers: 'strong', 'weak', 'date' or 'none'. `next` says of each request, from
 * 0, what goes wrong: the name of a fault, or nothing, or what the file is from now on as bytes.
 */
export class FaultyFile {
  /** Of every request: its range, and the bytes that were sent. */
  requests = [];

  constructor(bytes, { validators = 'strong', ranges = true, gzip = false, random = randomOf(0), next = () => undefined } = {}) {
    Object.assign(this, { bytes, validators, ranges, gzip, random, next });
  }

  get sentBytes() {
    return this.requests.reduce((sum, { sent }) => sum + sent, 0);
  }

  handle(request, response) {
    const logged = { range: request.headers.range, ifRange: request.headers['if-range'], sent: 0 };
    const wrong = this.next(this.requests.length, logged);
    this.requests.push(logged);
    if (Buffer.isBuffer(wrong)) this.bytes = wrong;
    const right = this.#answer(request);
    const fault = typeof wrong === 'function' ? wrong : FAULTS[wrong];
    const whole = () => this.#whole(request);
    const shifted = (by) => (right.status === 206 ? this.#part(right.start + by, right.end) : right);
    this.#send(response, fault ? fault(right, this.random, whole, shifted) : right, logged);
  }

  #validators() {
    const hash = createHash('sha256').update(this.bytes).digest('hex').slice(0, 8);
    const modified = new Date(Number.parseInt(hash, 16) * 1000).toUTCString();
    const headers = { strong: { etag: `"${hash}"`, 'last-modified': modified }, weak: { etag: `W/"${hash}"` }, date: { 'last-modified': modified } };
    return headers[this.validators] ?? {};
  }

  #answer(request) {
    const [, start, end] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? [];
    const { etag, 'last-modified': modified } = this.#validators();
    const condition = request.headers['if-range'];
    const isSame = condition === undefined || condition === modified || (condition === etag && !etag.startsWith('W/'));
    if (start === undefined || !this.ranges || !isSame) return this.#whole(request);
    const { length } = this.bytes;
    if (Number(start) >= length) return sized({ status: 416, headers: { 'content-range': `bytes */${length}` }, body: Buffer.alloc(0) });
    return this.#part(Number(start), end ? Math.min(Number(end) + 1, length) : length);
  }

  #part(start, end) {
    const headers = { ...this.#validators(), 'content-range': `bytes ${start}-${end - 1}/${this.bytes.length}` };
    return { ...sized({ status: 206, headers, body: this.bytes.subarray(start, end) }), start, end };
  }

  #whole(request) {
    const isEncoded = this.gzip && /gzip/.test(request.headers['accept-encoding']);
    const headers = { ...this.#validators(), ...(isEncoded ? { 'content-encoding': 'gzip' } : {}) };
    return sized({ status: 200, headers, body: isEncoded ? gzipSync(this.bytes, { level: 1 }) : this.bytes });
  }

  #send(response, { status, headers, body = Buffer.alloc(0), after }, logged) {
    logged.sent = body.length;
    if (status !== undefined) response.writeHead(status, { 'content-type': 'application/octet-stream', ...headers });
    if (after === undefined) return response.end(body);
    if (status !== undefined) response.flushHeaders();
    const onSent = () => after === 'drop' && response.socket?.destroySoon();
    if (body.length > 0) response.write(body, onSent);
    else onSent();
  }
}
