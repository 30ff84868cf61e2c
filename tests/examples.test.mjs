// The web examples as their READMEs say: the package packed and installed, an archive made, the page served and opened.
// Expects the built package in pkg and the native command in target/debug.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { chromium } from 'playwright-core';
import { build, createServer as createViteServer } from 'vite';
import { SMALL, bertModel, smallBert, untrained } from './common/bert.mjs';
import { NATIVE } from './common/command.mjs';
import { installIn } from './common/packed.mjs';
import { readSafetensors, safetensors } from './common/safetensors.mjs';
import { serve } from './common/serve.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
/** Inside the repository, whose node_modules hold what the examples need besides the package. */
const FOLDER = join(ROOT, 'target/examples');
const VECTOR = join(ROOT, 'tests/vectors/valid/every-kind-5-bits.mcwc');
const EXAMPLES = ['web', 'vite-onnxruntime', 'webgpu'];
const DONE_MS = 120_000;

let browser;
before(async () => {
  await rm(FOLDER, { recursive: true, force: true });
  await cp(join(ROOT, 'examples'), FOLDER, { recursive: true, filter: (path) => !path.includes('node_modules') });
  for (const example of EXAMPLES) installIn(join(FOLDER, example));
  const gpu = ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'];
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox', ...gpu] });
});
after(() => browser?.close());

for (const example of EXAMPLES) {
  test(`examples/${example} installs the versions that are tested here`, async () => {
    const [wanted, own] = await Promise.all([join(FOLDER, example), ROOT].map(readManifest));
    const { mcwc, ...others } = { ...wanted.dependencies, ...wanted.devDependencies };
    assert.equal(mcwc, `file:../../${own.name}-${own.version}.tgz`);
    for (const [name, range] of Object.entries(others)) assert.equal(range, own.devDependencies[name], name);
  });
}

describe('examples/web', () => {
  const folder = join(FOLDER, 'web');
  let site;
  before(async () => {
    await cp(VECTOR, join(folder, 'model.mcwc'));
    execFileSync(NATIVE, ['decode', VECTOR, '-o', join(folder, 'restored'), '--json'], { stdio: ['ignore', 'ignore', 'inherit'] });
    site = await serve([folder]);
  });
  after(() => site?.close());

  test('shows the tensors of the archive as the native command decodes them', async () => {
    const { page, complaints, shows } = await openPage(`${site.origin}/`);
    await shows(/backend cpu$/);
    const shown = await page.$$eval('tbody tr', (rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent)));
    const { tensors } = readSafetensors(join(folder, 'restored/model.safetensors'));
    assert.deepEqual(shown.map(([name]) => name).sort(), tensors.map(({ name }) => name).sort());
    for (const [name, dtype, shape, first] of shown) {
      const expected = tensors.find((tensor) => tensor.name === name);
      assert.deepEqual([dtype, shape], [expected.dtype.toLowerCase(), expected.shape.join(' × ')], name);
      const floats = Array.from({ length: Math.min(4, expected.data.length / 4) }, (_, index) => expected.data.readFloatLE(4 * index));
      if (dtype === 'f32') assert.equal(first, floats.join(' '), name);
    }
    assert.ok(shown.filter(([, dtype]) => dtype === 'f32').length > 5);
    assert.deepEqual(complaints, []);
    await page.close();
  });

  test('opens an archive that the visitor picks, and says what is wrong with a damaged one', async () => {
    const { page, complaints, shows } = await openPage(`${site.origin}/`);
    await shows(/backend cpu$/);
    const bytes = await readFile(VECTOR);
    const pick = (buffer) => page.setInputFiles('input', { name: 'a.mcwc', mimeType: 'application/octet-stream', buffer });
    await pick(bytes.subarray(0, 1000));
    await shows(/\(incomplete\)$/);
    await pick(bytes);
    await shows(/backend cpu$/);
    assert.deepEqual(complaints, []);
    await page.close();
  });
});

describe('examples/vite-onnxruntime', () => {
  const folder = join(FOLDER, 'vite-onnxruntime');
  before(async () => {
    const { scripts } = await readManifest(folder);
    const [, ...words] = scripts.archive.split(' ');
    const resolved = words.map((word) => (word.startsWith('node_modules/') ? join(ROOT, word) : word));
    await mkdir(join(folder, 'public'), { recursive: true });
    execFileSync(NATIVE, [...resolved, '--json'], { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] });
  });

  test('reads a line of text, bundled', async () => {
    await build({ root: folder, logLevel: 'warn' });
    const site = await serve([join(folder, 'dist')]);
    await readLines(`${site.origin}/`).finally(site.close);
  });

  test('reads a line of text, served by Vite', async () => {
    const server = await createViteServer({ root: folder, logLevel: 'warn', server: { port: 0, host: '127.0.0.1' } });
    await server.listen();
    await readLines(`http://localhost:${server.httpServer.address().port}/`).finally(() => server.close());
  });
});

describe('examples/webgpu', () => {
  const folder = join(FOLDER, 'webgpu');
  const model = join(folder, 'bert');
  let site;
  before(async () => {
    await mkdir(model, { recursive: true });
    const weights = untrained();
    const tensors = weightNames(SMALL).map((name) => [name, ['F32', weights(name).shape, Float32Array.from(weights(name).data)]]);
    await writeFile(join(model, 'model.safetensors'), safetensors(Object.fromEntries(tensors)));
    for (const name of ['config.json', 'tokenizer.json']) await writeFile(join(model, name), smallBert()[name]);
    const run = { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] };
    execFileSync(NATIVE, ['encode', 'bert', '-o', 'model.mcwc', '--bits', '5', '--json'], run);
    execFileSync(NATIVE, ['decode', 'model.mcwc', '-o', 'restored', '--json'], run);
    site = await serve([folder]);
  });
  after(() => site?.close());

  test('computes what ONNX Runtime does, with weights that are decoded on the GPU', async () => {
    const { page, complaints, shows } = await openPage(`${site.origin}/`);
    await shows(/bytes of weights were sent to the GPU, which decoded them/);
    assert.equal(await page.locator('li').count(), 3);
    const tokens = [2, 5, 6, 40, 7, 61, 9, 3];
    const { embedding, onGpu } = await page.evaluate(async (tokens) => {
      const { open } = await import('/node_modules/mcwc/pkg/index.js');
      const { Transformer } = await import('/transformer.js');
      const device = await (await navigator.gpu.requestAdapter()).requestDevice();
      const archive = await open('/model.mcwc', { backend: 'webgpu', device });
      const decoded = await archive.gpuTensors();
      const onGpu = decoded.filter(({ backend }) => backend === 'webgpu').length;
      return { embedding: await (await Transformer.load(archive, device)).embed(tokens), onGpu };
    }, tokens);
    const expected = await embeddingOf(readSafetensors(join(folder, 'restored/model.safetensors')).tensors, tokens);
    assert.ok(onGpu >= 12, `${onGpu} tensors decoded on the GPU`);
    assert.equal(embedding.length, expected.length);
    assert.ok(expected.every((value, index) => Math.abs(value - embedding[index]) < 1e-5));
    assert.deepEqual(complaints, []);
    await page.close();
  });
});

function weightNames({ num_hidden_layers: layers }) {
  const both = (name) => [`${name}.weight`, `${name}.bias`];
  const parts = ['self.query', 'self.key', 'self.value', 'output.dense', 'output.LayerNorm'].map((part) => `attention.${part}`);
  const inLayer = [...parts, 'intermediate.dense', 'output.dense', 'output.LayerNorm'].flatMap(both);
  const embeddings = ['word', 'position', 'token_type'].map((kind) => `embeddings.${kind}_embeddings.weight`);
  const ofLayers = Array.from({ length: layers }, (_, layer) => inLayer.map((name) => `encoder.layer.${layer}.${name}`));
  return [...embeddings, ...both('embeddings.LayerNorm'), ...ofLayers.flat()];
}

/** By ONNX Runtime, on the CPU. */
async function embeddingOf(tensors, tokens) {
  const weights = (wanted) => {
    const { shape, data } = tensors.find(({ name }) => name === wanted);
    return { shape, data: new Float32Array(new Uint8Array(data).buffer) };
  };
  const session = await InferenceSession.create(bertModel(SMALL, weights));
  const whole = (value) => new Tensor('int64', BigInt64Array.from(tokens, (token) => BigInt(value ?? token)), [1, tokens.length]);
  const { last_hidden_state: { data } } = await session.run({ input_ids: whole(), attention_mask: whole(1), token_type_ids: whole(0) });
  const { hidden_size: hidden } = SMALL;
  const mean = Array.from({ length: hidden }, (_, at) => tokens.reduce((sum, _, token) => sum + data[token * hidden + at], 0) / tokens.length);
  return mean.map((value) => value / Math.hypot(...mean));
}

async function readLines(url) {
  const { page, complaints, shows } = await openPage(url);
  await shows(/^Mind the ducks 42$/);
  await page.fill('input', 'Quince Honey 340 g');
  await shows(/^Quince Honey 340 g$/);
  assert.deepEqual(complaints, []);
  await page.close();
}

async function openPage(url) {
  const page = await browser.newPage();
  const complaints = [];
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(error.message));
  const failed = new Promise((resolve, reject) => page.on('pageerror', reject));
  failed.catch(() => {});
  /** Waits until the page's output is this text. */
  const shows = (text) => {
    const output = page.locator('output').filter({ hasText: text });
    return Promise.race([output.waitFor({ timeout: DONE_MS }), failed]);
  };
  await page.goto(url);
  return { page, complaints, shows };
}

async function readManifest(folder) {
  return JSON.parse(await readFile(join(folder, 'package.json'), 'utf8'));
}
