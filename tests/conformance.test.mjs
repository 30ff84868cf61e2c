// In Node, the archives that the reference decoder gives as examples. Those that break one rule each are refused with the right
// error; small ones with every bit flipped and cut at every place, their hashes repaired, are refused, or decode to what it made
// of them (tests/reference/flips.py, which also says what the mutations are).
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { McwcError, open } from '../pkg/index.js';
import { rules } from './common/vectors.mjs';

const VECTORS = fileURLToPath(new URL('vectors', import.meta.url));
const PREAMBLE_BYTES = 32;
const HASH_AT = 16;
const HASH_BYTES = 16;
const CHUNK_ENTRY_BYTES = 20;

test('archives that break a rule are refused with its error', async () => {
  for (const { name, code, archive } of rules()) assert.equal((await outcome(archive)).code, code, name);
});

for (const [name, { count, decoded }] of listed()) {
  test(`${name}, flipped and cut, is refused or decodes as in Python`, async () => {
    const original = readFileSync(join(VECTORS, 'valid', name));
    let index = 0;
    for (const archive of mutations(original)) {
      assert.equal((await outcome(archive)).hash, decoded.get(index), `mutation ${index}`);
      index++;
    }
    assert.equal(index, count);
  });
}

/** What flips.txt says of each archive: how many mutations there are, and hashes of those that decode. */
function listed() {
  const archives = new Map();
  const lines = readFileSync(join(VECTORS, 'flips.txt'), 'utf8').trimEnd().split('\n').slice(1);
  for (const [name, index, value] of lines.map((line) => line.split(' '))) {
    if (!archives.has(name)) archives.set(name, { decoded: new Map() });
    const archive = archives.get(name);
    if (index === 'of') archive.count = Number(value);
    else archive.decoded.set(Number(index), value);
  }
  return archives;
}

function* mutations(original) {
  const { headerEnd, chunks } = layout(original);
  for (let bit = 0; bit < 8 * original.length; bit++) yield flipped(original, chunks, bit);
  for (let bytes = 0; bytes < original.length; bytes++) yield original.subarray(0, bytes);
  for (let bytes = 0; bytes < headerEnd - PREAMBLE_BYTES; bytes++) {
    const archive = Buffer.concat([original.subarray(0, PREAMBLE_BYTES + bytes), original.subarray(headerEnd)]);
    archive.writeUInt32LE(bytes, 12);
    yield repairHeader(archive);
  }
  for (const { entry, start, end } of chunks) {
    for (let bytes = 0; bytes < end - start; bytes++) {
      const archive = Buffer.concat([original.subarray(0, start + bytes), original.subarray(end)]);
      archive.writeUInt32LE(bytes, entry);
      hash(archive.subarray(start, start + bytes)).copy(archive, entry + 4);
      yield repairHeader(archive);
    }
  }
}

/** Where the header ends and chunks lie, and the entries of the chunk table, with which a header that is not coded ends. */
function layout(archive) {
  const headerEnd = PREAMBLE_BYTES + archive.readUInt32LE(12);
  const chunks = [];
  const isCoded = archive[10] & 1;
  let entry = headerEnd;
  for (let end = archive.length; !isCoded && end > headerEnd; end = chunks[0].start) {
    entry -= CHUNK_ENTRY_BYTES;
    chunks.unshift({ entry, start: end - archive.readUInt32LE(entry), end });
  }
  return { headerEnd, chunks };
}

/** A flip in the header's hash is left as it is, as are those of chunks in the header. */
function flipped(original, chunks, bit) {
  const archive = Buffer.from(original);
  const place = bit >> 3;
  archive[place] ^= 1 << (bit & 7);
  if (place >= HASH_AT && place < PREAMBLE_BYTES) return archive;
  const { entry, start, end } = chunks.find(({ start, end }) => start <= place && place < end) ?? {};
  if (entry) hash(archive.subarray(start, end)).copy(archive, entry + 4);
  return repairHeader(archive);
}

/** The header's hash, if all of it is there. */
function repairHeader(archive) {
  const headerEnd = PREAMBLE_BYTES + archive.readUInt32LE(12);
  if (headerEnd <= archive.length) {
    hash(archive.subarray(0, HASH_AT), archive.subarray(PREAMBLE_BYTES, headerEnd)).copy(archive, HASH_AT);
  }
  return archive;
}

function hash(...parts) {
  const digest = createHash('sha256');
  for (const part of parts) digest.update(part);
  return digest.digest().subarray(0, HASH_BYTES);
}

/** A hash of all files, names included, or the code of an error. */
async function outcome(bytes) {
  let archive;
  try {
    archive = await open(bytes, { backend: 'cpu', workers: 0 });
    const digest = createHash('sha256');
    for (const { name } of archive.files) digest.update(`${name}\0`).update(await archive.file(name).bytes());
    return { hash: digest.digest('hex').slice(0, 16) };
  } catch (error) {
    assert.ok(error instanceof McwcError, `${error}`);
    return { code: error.code };
  } finally {
    archive?.close();
  }
}
