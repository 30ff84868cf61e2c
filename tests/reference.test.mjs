// The reference decoder (tests/reference): valid vectors decode to their hashes, invalid ones give their errors, and what the
// encoder writes today decodes to what the native command makes of it.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { NATIVE } from './common/command.mjs';
import { writeSafetensors } from './common/safetensors.mjs';
import { basesOf, digests, errors, INVALID, VALID } from './common/vectors.mjs';

const REFERENCE = fileURLToPath(new URL('reference', import.meta.url));
const ROOT = fileURLToPath(new URL('..', import.meta.url));
const PYTHON = 'python3';
const skip = spawnSync(PYTHON, ['--version']).status === 0 ? false : 'there is no python3';

const MODES = {
  lossless: ['--lossless'],
  trellis: ['--bits', '3'],
  'few bits': ['--bits', '1.2'],
  uniform: ['--bits', '7', '--quantizer', 'uniform'],
  progressive: ['--progressive', '2,4,6'],
  'units in any order': ['--bits', '4', '--unit-order', 'free'],
  delta: ['--bits', '4', '--base', 'first.mcwc'],
};

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

  test('the example of FORMAT.md is what the page says', (context) => {
    const folder = temporaryFolder(context);
    const page = readFileSync(join(ROOT, 'docs/FORMAT.md'), 'utf8');
    const block = page.split('## 8. A minimal archive')[1].split('```')[1];
    writeFileSync(join(folder, 'page.mcwc'), Buffer.from(block.replace(/;.*/g, '').replace(/\s/g, ''), 'hex'));
    const content = Buffer.concat([Buffer.of(0x7b), Buffer.from(Float32Array.of(0.5, 0, -0.5, 1).buffer)]);
    assert.deepEqual(outcomes([[join(folder, 'page.mcwc')]])[0].files, { 'w.bin': digest(content) });
  });

  for (const [name, options] of Object.entries(MODES)) {
    test(`what the encoder writes decodes as natively: ${name}`, (context) => {
      const folder = temporaryFolder(context);
      const command = (...args) => execFileSync(NATIVE, args, { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] });
      writeModel(join(folder, 'first.safetensors'), 0);
      writeModel(join(folder, 'model.safetensors'), 0.05);
      const isDelta = options.includes('--base');
      if (isDelta) command('encode', 'first.safetensors', '-o', 'first.mcwc', '--json', '--bits', '4');
      command('encode', 'model.safetensors', '-o', 'model.mcwc', '--json', ...options);
      const base = isDelta ? ['--base', 'first.mcwc'] : [];
      command('decode', 'model.mcwc', '-o', 'restored', '--json', ...base);
      const [found] = outcomes([['model.mcwc', ...base.slice(1)].map((name) => join(folder, name))]);
      assert.equal(found.message, '');
      assert.deepEqual(found.files, { 'model.safetensors': digest(readFileSync(join(folder, 'restored/model.safetensors'))) });
    });
  }

  test('flipped and cut archives are refused or decode to what is listed', () => {
    run('flips.py');
  });

  test('archives that break a rule are refused with its error', () => {
    run('rules.py');
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

function digest(bytes) {
  return createHash('sha256').update(bytes).digest('hex').slice(0, 32);
}

function temporaryFolder(context) {
  const folder = mkdtempSync(join(tmpdir(), 'mcwc-reference-'));
  context.after(() => rmSync(folder, { recursive: true }));
  return folder;
}

/** Layers that resemble each other, kernels, and other types, all moved by some noise. */
function writeModel(path, change) {
  let seed = 1;
  const uniform = () => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) / 2 ** 32 - 0.5;
  const noise = (length, scale) => Float32Array.from({ length }, () => scale * (uniform() + uniform() + uniform()));
  const moved = (values, by) => values.map((value) => value + by * uniform());
  const tensor = (name, dtype, shape, { buffer }) => ({ name, dtype, shape, data: Buffer.from(buffer) });
  const layer = noise(64 * 96, 0.2);
  const tensors = [
    tensor('layers.0.weight', 'F32', [64, 96], moved(layer, change)),
    tensor('layers.1.weight', 'F32', [64, 96], moved(layer, 0.05 + change)),
    tensor('conv.weight', 'F32', [16, 8, 3, 3], moved(noise(16 * 8 * 9, 1), change)),
    tensor('brain', 'BF16', [48, 48], Uint16Array.from(new Uint32Array(moved(noise(48 * 48, 1), change).buffer), (bits) => bits >>> 16)),
    tensor('double', 'F64', [32, 32], Float64Array.from(moved(noise(32 * 32, 1), change))),
    tensor('quantized', 'I8', [64, 64], Int8Array.from(noise(64 * 64, 20))),
    tensor('bias', 'F32', [64], moved(noise(64, 1), change)),
    tensor('ids', 'I64', [3], BigInt64Array.of(1n, -2n, 1n << 60n)),
  ];
  writeSafetensors(path, tensors);
}
