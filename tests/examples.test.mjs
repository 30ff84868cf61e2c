// The web examples as their READMEs say: the package packed and installed, an archive made, the page served and opened.
// Expects the built package in pkg and the native command in target/debug.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cp, mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { build, createServer as createViteServer } from 'vite';
import { NATIVE } from './common/command.mjs';
import { installIn } from './common/packed.mjs';
import { readSafetensors } from './common/safetensors.mjs';
import { serve } from './common/serve.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
/** Inside the repository, whose node_modules hold what the examples need besides the package. */
const FOLDER = join(ROOT, 'target/examples');
const VECTOR = join(ROOT, 'tests/vectors/valid/every-kind-5-bits.mcwc');
const EXAMPLES = ['web', 'vite-onnxruntime'];
const DONE_MS = 120_000;

let browser;
before(async () => {
  await rm(FOLDER, { recursive: true, force: true });
  await cp(join(ROOT, 'examples'), FOLDER, { recursive: true, filter: (path) => !path.includes('node_modules') });
  for (const example of EXAMPLES) installIn(join(FOLDER, example));
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });
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
    await shows(/decoded on the cpu$/);
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
    await shows(/decoded on the cpu$/);
    const bytes = await readFile(VECTOR);
    const pick = (buffer) => page.setInputFiles('input', { name: 'a.mcwc', mimeType: 'application/octet-stream', buffer });
    await pick(bytes.subarray(0, 1000));
    await shows(/\(incomplete\)$/);
    await pick(bytes);
    await shows(/decoded on the cpu$/);
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
