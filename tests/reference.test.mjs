// The reference decoder (tests/reference): valid vectors decode to their hashes, invalid ones give their errors.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { basesOf, digests, errors, INVALID, VALID } from './common/vectors.mjs';

const REFERENCE = fileURLToPath(new URL('reference', import.meta.url));
const PYTHON = 'python3';
const skip = spawnSync(PYTHON, ['--version']).status === 0 ? false : 'there is no python3';

describe('Reference decoder', { skip }, () => {
  test('valid archives decode to what they should', () => {
    const expected = digests();
    const names = Object.keys(expected);
    const found = outcomes(names.map((name) => [name, ...basesOf(name)].map((name) => join(VALID, name))));
    names.forEach((name, index) => {
      assert.equal(found[index].code, 'ok', `${name}: ${found[index].message}`);
      assert.deepEqual(found[index].files, expected[name], name);
    });
  });

  test('invalid archives are refused', () => {
    const expected = errors();
    const found = outcomes(expected.map(({ name, base }) => [join(INVALID, name), ...(base ? [join(VALID, base)] : [])]));
    expected.forEach(({ name, code }, index) => assert.equal(found[index].code, code, `${name}: ${found[index].message}`));
  });

  test('flipped and cut archives are refused or decode to what is listed', () => {
    run('flips.py');
  });

  test('composed vectors are as they were', () => {
    run('vectors.py', '--check');
  });
});

function run(script, ...args) {
  return execFileSync(PYTHON, [join(REFERENCE, script), ...args], { encoding: 'utf8', stdio: ['pipe', 'pipe', 'inherit'] });
}

/** What becomes of archives, each a list of paths: its own and those of its bases. */
function outcomes(archives) {
  const input = archives.map((paths) => `${paths.join('\t')}\n`).join('');
  const output = execFileSync(PYTHON, [join(REFERENCE, 'outcomes.py')], { input, encoding: 'utf8' });
  return output.trimEnd().split('\n').map((line) => JSON.parse(line));
}
