// Small archives that ask for much, in Node: what the native reader says of them, in little memory.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const INVALID = join(ROOT, 'tests/vectors/invalid');
const VALID = join(ROOT, 'tests/vectors/valid');
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

  for (const [name, code, base] of manifest(INVALID, 'errors.txt')) {
    test(`${name} is refused`, () => {
      const result = read(join(INVALID, name), ...(base ? [join(VALID, base)] : []));
      assert.equal(result.code, code, result.message);
      assert.ok(result.peak - idle <= MEMORY_MAX, `${result.peak - idle} bytes`);
    });
  }

  test('valid ones decode to what they should', () => {
    const files = {};
    for (const [name, file, hash, base] of manifest(VALID, 'digests.txt')) if (!base) (files[name] ??= {})[file] = hash;
    for (const [name, expected] of Object.entries(files)) {
      const result = read(join(VALID, name));
      assert.equal(result.code, 'ok', `${name}: ${result.message}`);
      for (const [file, hash] of Object.entries(expected)) assert.equal(result.files[file], hash, `${name}: ${file}`);
      assert.ok(result.peak - idle <= MEMORY_MAX + 4 * result.bytes, `${name}: ${result.peak - idle} bytes`);
    }
  });
});

function manifest(folder, name) {
  const lines = readFileSync(join(folder, name), 'utf8').trimEnd().split('\n');
  return lines.filter((line) => line && !line.startsWith('#')).map((line) => line.split(' '));
}

/** In a process of its own, whose memory nothing else has used. */
function read(...paths) {
  const script = join(ROOT, 'tests/common/read.mjs');
  return JSON.parse(execFileSync(process.execPath, [script, ...paths], { timeout: HANGING_MS }));
}
