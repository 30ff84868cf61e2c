// This thread's fetch -> the same at the speed of a slower connection, so that servers, and the code that fetches, know nothing of it.

const SLICE_BYTES = 16 * 1024;
/** Timers come late: so far behind its speed a connection may be, and catch up. */
const LAG_MS = 50;

const unslowed = globalThis.fetch;

/** A connection of limited speed, shared by everything that comes over it. */
class Link {
  #msPerByte;
  #freeAt = 0;

  /** @param {number} bitsPerSecond Infinity for the real connection as it is */
  constructor(bitsPerSecond) {
    this.#msPerByte = 8000 / bitsPerSecond;
  }

  /** Resolves when the link would have carried these bytes. */
  async carry(bytes) {
    const now = performance.now();
    this.#freeAt = Math.max(this.#freeAt, now - LAG_MS) + bytes * this.#msPerByte;
    if (this.#freeAt > now) await new Promise((resolve) => setTimeout(resolve, this.#freeAt - now));
  }
}

/**
 * From now on, what this thread fetches from these addresses comes no faster than that, all together, and is counted.
 * @param {string[]} urls
 * @param {number} bitsPerSecond Infinity for the real connection as it is
 * @returns {{bytes: number}} what has come
 */
export function slowDown(urls, bitsPerSecond) {
  const link = new Link(bitsPerSecond);
  const count = { bytes: 0 };
  globalThis.fetch = async (...args) => {
    const response = await unslowed(...args);
    return response.body && urls.includes(response.url) ? paced(response, link, count) : response;
  };
  return count;
}

function paced(response, link, count) {
  const pace = new TransformStream({
    async transform(chunk, controller) {
      for (let at = 0; at < chunk.length; at += SLICE_BYTES) {
        const slice = chunk.subarray(at, at + SLICE_BYTES);
        await link.carry(slice.length);
        count.bytes += slice.length;
        controller.enqueue(slice);
      }
    },
  });
  const copy = new Response(response.body.pipeThrough(pace), response);
  return Object.defineProperty(copy, 'url', { value: response.url });
}

/**
 * @param {URL | string} url
 * @param {RequestInit} [options]
 * @throws {Error} with a message for the visitor
 */
export async function download(url, options) {
  const response = await fetch(url, options);
  if (!response.ok) throw new Error(`${new URL(url).pathname} could not be downloaded (HTTP ${response.status}).`);
  return response;
}

/**
 * @param {ReadableStream<Uint8Array>} stream
 * @param {(bytes: number) => void} [onBytes] called with the size of each piece as it arrives
 * @returns {Promise<Uint8Array>}
 */
export async function collect(stream, onBytes = () => {}) {
  const chunks = [];
  let length = 0;
  for (const reader = stream.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value);
    length += value.length;
    onBytes(value.length);
  }
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.length;
  }
  return bytes;
}
