// URL -> byte stream, past the cache, with progress and, if asked for, held to the speed of a slower connection.

const SLICE_BYTES = 16 * 1024;

/** A link of limited speed, shared by every stream that runs over it. */
export class Link {
  #msPerByte;
  #freeAt = 0;

  /** @param {number} bitsPerSecond Infinity for the real connection as it is */
  constructor(bitsPerSecond) {
    this.#msPerByte = 8000 / bitsPerSecond;
  }

  get limited() {
    return this.#msPerByte > 0;
  }

  /** Resolves when the link would have carried these bytes. */
  async carry(bytes) {
    const now = performance.now();
    this.#freeAt = Math.max(this.#freeAt, now) + bytes * this.#msPerByte;
    if (this.#freeAt > now) await new Promise((resolve) => setTimeout(resolve, this.#freeAt - now));
  }
}

/**
 * @param {URL} url
 * @param {Link} link
 * @param {(bytes: number) => void} onBytes called with the size of each piece as it arrives
 * @param {RequestCache} [cache]
 * @returns {Promise<{bytes: number, stream: ReadableStream<Uint8Array>}>} `bytes` is the announced size, or NaN
 */
export async function download(url, link, onBytes, cache = 'no-store') {
  const response = await fetch(url, { cache });
  if (!response.ok) throw new Error(`${url.pathname} could not be downloaded (HTTP ${response.status}).`);
  const pace = new TransformStream({
    async transform(chunk, controller) {
      const step = link.limited ? SLICE_BYTES : chunk.length;
      for (let at = 0; at < chunk.length; at += step) {
        const slice = chunk.subarray(at, at + step);
        if (link.limited) await link.carry(slice.length);
        onBytes(slice.length);
        controller.enqueue(slice);
      }
    },
  });
  // Behind a Content-Encoding the announced length is not the length of the body.
  const announced = response.headers.has('content-encoding') ? null : response.headers.get('content-length');
  return { bytes: announced === null ? NaN : Number(announced), stream: response.body.pipeThrough(pace) };
}

/**
 * @param {ReadableStream<Uint8Array>} stream
 * @param {(bytes: number) => void} [onBytes]
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
