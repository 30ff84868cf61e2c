// Small archives that ask for much, in Node: what the native reader says of them, in little memory.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { INVALID, VALID, basesOf, digests, errors } from './common/vectors.mjs';

const READ = fileURLToPath(new URL('common/read.mjs', import.meta.url));
/** What reading may take beyond what it gives. */
const MEMORY_MAX = 64 << 20;
/** A reader that needs this long hangs. */
const HANGING_MS = 60_000;

/** The smallest of the valid archives. */
const SMALL = 'js-same-names.mcwc';

let idle;

describe('Hostile archives', () => {
  before(() => {
    idle = read(join(VALID, SMALL)).peak;
  });

  for (const { name, code, base } of errors()) {
    test(`${name} is refused`, () => {
      const result = read(join(INVALID, name), ...(base ? [join(VALID, base)] : []));
      assert.equal(result.code, code, result.message);
      assert.ok(result.peak - idle <= MEMORY_MAX, `${result.peak - idle} bytes`);
    });
  }

  test('of a wrong base and a reference that no base can have, the base is named, as natively', () => {
    const result = read(join(INVALID, 'wasm-base-frame-index.mcwc'), join(VALID, 'base-without-frames-base.mcwc'));
    assert.equal(result.code, 'argument', result.message);
  });

  test('valid ones decode to what they should', () => {
    for (const [name, files] of Object.entries(digests())) {
      const result = read(...[name, ...basesOf(name)].map((name) => join(VALID, name)));
      assert.equal(result.code, 'ok', `${name}: ${result.message}`);
      assert.deepEqual(result.files, files, name);
      assert.ok(result.peak - idle <= MEMORY_MAX + 4 * result.bytes, `${name}: ${result.peak - idle} bytes`);
    }
  });
});

/** In a process of its own, whose memory nothing else has used. */
function read(...paths) {
  return JSON.parse(execFileSync(process.execPath, [READ, ...paths], { timeout: HANGING_MS }));
}
