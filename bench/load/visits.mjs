// Visits of Chromium to a page that loads a model: how long each takes, and the most memory of its process.
import { mkdirSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { basename, extname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { brotliCompressSync, constants } from 'node:zlib';
import { chromium } from 'playwright-core';
import { ROOT, prepareBrowser } from '../../scripts/tools.mjs';
import { FLOAT, modelFile, node, value } from '../../tests/common/onnx.mjs';
import { PKG } from '../artifacts.mjs';
import { renderers } from '../resident.mjs';
import { startServer } from './server.mjs';

const RUNTIME = ['ort.wasm.min.mjs', 'ort-wasm-simd-threaded.mjs', 'ort-wasm-simd-threaded.wasm'].map((name) => join(ROOT, 'node_modules/onnxruntime-web/dist', name));
const CODE = /\.(js|wasm)$/;
/** Of code, which no one compresses harder while a page is built. */
const BROTLI_QUALITY = 9;
const TYPES = { '.js': 'text/javascript', '.mjs': 'text/javascript', '.wasm': 'application/wasm' };
const HTML = '<!doctype html><link rel="icon" href="data:,"><script type="module" src="/page.js"></script>';
/** Of the demo: a picture, and how it reads pictures. */
const PICTURE = join(ROOT, 'www/samples/book.webp');
const PLANES = join(ROOT, 'www/ocr/planes.js');
const IDENTITY = modelFile({ nodes: [node('Identity', ['x'], ['y'])], inputs: [value('x', FLOAT, [1])], outputs: [value('y', FLOAT, [1])] });
const POLL_MS = 20;

/** The page without a model. */
export const NOTHING = { kind: 'nothing' };

/** `folder`: where the browser's profile lies meanwhile. */
export async function startVisits(folder, variants) {
  const profile = join(folder, 'profile');
  rmSync(profile, { recursive: true, force: true });
  mkdirSync(profile, { recursive: true });
  const resources = resourcesOf(variants);
  const server = await startServer((path) => resources.get(path.replace(/^\/first-\d+/, '/first')));
  const context = await chromium.launchPersistentContext(profile, { executablePath: prepareBrowser(), args: ['--no-sandbox'] });
  const browser = context.browser();
  let visits = 0;

  /** `cached`: the model is in the browser's cache, as is the code; else only the runtime is. `weightsOnly`: the runtime does not start. */
  async function visit({ kind, model, file, ...variant }, { megabits = Infinity, cached = false, weightsOnly = false } = {}) {
    server.link.bitsPerSecond = 1e6 * megabits;
    visits++;
    const code = (path) => (cached ? path : `/first-${visits}${path}`);
    const asked = {
      kind,
      file,
      cached,
      weightsOnly,
      url: model && addressOf({ model, ...variant }),
      base: variant.base && addressOf(variant.base),
      runtime: kind === NOTHING.kind ? code('/runtime') : '/runtime',
      package: code('/pkg'),
      model,
    };
    const page = await context.newPage();
    page.setDefaultTimeout(0);
    const failed = new Promise((_, reject) => page.on('pageerror', reject));
    await page.goto(`${server.origin}/#${encodeURIComponent(JSON.stringify(asked))}`);
    const result = await Promise.race([page.evaluate(() => globalThis.result), failed]);
    const peaks = await renderers(browser);
    await page.close();
    await oneEnds([...peaks.keys()]);
    return { ...result, peakBytes: Math.max(...peaks.values()) };
  }

  /** Waits until one of these processes has gone: the page's, so that the next page gets its own. The others wait for pages to come. */
  async function oneEnds(ids) {
    for (;;) {
      const left = await renderers(browser);
      if (ids.some((id) => !left.has(id))) return;
      await sleep(POLL_MS);
    }
  }

  const close = async () => {
    await context.close();
    server.close();
    rmSync(profile, { recursive: true, force: true });
  };
  return { visit, close };
}

export function addressOf({ model, name, encoding }) {
  return `/weights/${[model, name, encoding].filter(Boolean).join('-')}`;
}

/** What the server has, by path. Code is there twice: what is under /first is downloaded every time, as by a visitor who comes first. */
function resourcesOf(variants) {
  const resources = new Map([
    ['/', { body: Buffer.from(HTML), type: 'text/html' }],
    ['/page.js', { body: readFileSync(join(import.meta.dirname, 'page.js')), type: TYPES['.js'] }],
    ['/planes.js', { body: readFileSync(PLANES), type: TYPES['.js'], cached: true }],
    ['/book.webp', { body: readFileSync(PICTURE), type: 'image/webp', cached: true }],
    ['/identity.onnx', { body: IDENTITY, cached: true }],
  ]);
  const addCode = (folder, file) => {
    const path = `${folder}/${basename(file)}`;
    const body = brotliCompressSync(readFileSync(file), { params: { [constants.BROTLI_PARAM_QUALITY]: BROTLI_QUALITY } });
    const resource = { body, encoding: 'br', type: TYPES[extname(file)] };
    resources.set(path, { ...resource, cached: true }).set(`/first${path}`, resource);
  };
  RUNTIME.forEach((file) => addCode('/runtime', file));
  readdirSync(PKG).filter((name) => CODE.test(name)).forEach((name) => addCode('/pkg', join(PKG, name)));
  for (const variant of variants.flatMap((variant) => (variant.base ? [variant, variant.base] : [variant]))) {
    const { path, encoding, dictionary } = variant;
    const [address, body] = [addressOf(variant), readFileSync(path)];
    if (!dictionary) {
      resources.set(address, { body, encoding });
      continue;
    }
    const known = readFileSync(dictionary);
    resources.set(address, { delta: { body, dictionary: known } });
    resources.set(`${address}/dictionary`, { body: known, cached: true, dictionaryFor: `${address}*` });
  }
  return resources;
}
