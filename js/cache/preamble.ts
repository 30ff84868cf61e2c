// The first bytes of an archive, which tell it from all others.
import { PREAMBLE_BYTES } from '../source/source.js';

/** Of the header's length in it. */
export const HEADER_BYTES_AT = 12;
/** Of the hash in it: of the bytes before, and of the header, which has the hashes of all else. */
export const HASH_AT = 16;
export const HASH_BYTES = 16;

export function integrityOf(preamble: Uint8Array): string {
  return hex(preamble.subarray(HASH_AT, PREAMBLE_BYTES));
}

export function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
