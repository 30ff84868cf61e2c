// LiteRT.js on archives: a TFLite model, read as a stream, computes what it computes from the decoded file.
// Expects the built package in pkg and the native command in target/debug.
import assert from 'node:assert/strict';
import { cp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { installed, openSite } from './common/site.mjs';
import { denseModel } from './common/tflite.mjs';

const MAIN = `
  import { Tensor, loadAndCompile, loadLiteRt } from '@litertjs/core';
  import { open } from 'mcwc';
  globalThis.ready = loadLiteRt('/litert/');
  globalThis.open = open;
  globalThis.compute = async (source) => {
    const model = await loadAndCompile(source, { accelerator: 'wasm' });
    const input = new Tensor(Float32Array.from({ length: 64 }, (_, index) => Math.sin(index)), [1, 64]);
    const [output] = await model.run(input);
    return [...(await output.data())];
  };
`;
const site = await openSite('litert', { 'main.js': MAIN });

test('a model as a stream', async () => {
  await cp(installed('@litertjs/core/wasm'), join(site.public, 'litert'), { recursive: true });
  await writeFile(join(site.public, 'dense.tflite'), denseModel());
  site.encode('dense', ['dense.tflite']);
  const { archived, decoded } = await site.run(async () => {
    const archive = await open('/dense.mcwc');
    const archived = await compute(archive.file('dense.tflite').stream().getReader());
    return { archived, decoded: await compute('/dense/dense.tflite') };
  });
  assert.ok(archived.every((value) => Math.abs(value) > 0.01));
  assert.deepEqual(archived, decoded);
});
