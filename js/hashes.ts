// Payloads -> whether they are what the header promises, by hashing that runs beside decoding.
import type { Gathered } from './decoder.js';
import { McwcError } from './errors.js';

const HASH_BYTES = 16;
/** Below this, hashing in wasm takes less time than a turn through the platform's thread pool. */
const ASYNC_HASH_BYTES = 8192;

/** For each step whether its payload is right; false if wasm has to tell. Rejects if one is wrong. */
export function verify({ steps, payloads, lengths }: Gathered, hashes: Uint8Array): Promise<boolean[]> {
  let end = 0;
  const verified = steps.map(async ({ chunk }, index) => {
    const payload = payloads.subarray(end, (end += lengths[index]));
    const { subtle } = globalThis.crypto ?? {};
    // `subtle` exists in secure contexts only.
    if (payload.length < ASYNC_HASH_BYTES || !subtle) return false;
    const hash = new Uint8Array(await subtle.digest('SHA-256', payload));
    const promised = hashes.subarray(chunk * HASH_BYTES, (chunk + 1) * HASH_BYTES);
    if (promised.every((byte, index) => byte === hash[index])) return true;
    throw new McwcError('checksum', `checksum mismatch in chunk ${chunk}: the bytes are damaged`, { chunk });
  });
  return Promise.all(verified);
}
