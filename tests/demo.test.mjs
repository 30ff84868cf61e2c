// The demo page in a real browser: both variants read the bundled pictures, and what goes wrong is said in words.
// Expects the built page in target/www and the models in target/models.
import assert from 'node:assert/strict';
import { copyFile, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { serve } from '../www/serve.mjs';
import { assertAccessible, assertStable, tabTo, watch } from './common/page-checks.mjs';

const MODELS = fileURLToPath(new URL('../target/models/', import.meta.url));
const QUIET = ['--no-sandbox', '--disable-quic', '--no-first-run', '--disable-background-networking'];
const WEBGPU = ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'];
const DONE_MS = 120_000;
const BYTES = { archive: (await stat(join(MODELS, 'ppocr.mcwc'))).size, original: 15_567_840 };
/** Each with links, and with a policy of its own. */
const PAGES = ['', 'compress.html', 'documents/docs/FORMAT.html'];
/** The connection that the page opens on. */
const BITS_PER_SECOND = 10e6;

/** What is printed in the bundled pictures, line by line as the detector splits it. */
const PRINTED = {
  'Street sign': ['Lantern Row', 'leading to Old Mill Quay', 'No. 18 to 64', 'Mind the ducks'],
  'Book page': [
    'CHAPTER FOUR',
    'The Patient Lighthouse',
    '灯塔不问船从哪里来',
    'Nobody in the village could say who had first',
    'lit the lamp. It had simply always burned, as the',
    'tide had always turned. Each evening old Mirela',
    'climbed the ninety-one steps with a can of oil.',
    '"The light is for the ships," she told the children,',
    '"but the quiet is for me," she said.',
    '47',
  ],
  'Slanted label': [
    'SMALL BATCH 27',
    'Quince Honey',
    'with ginger and a little smoke',
    'gathered above Tarn Hill',
    'Net 340 g',
    'Best before 03/2028',
  ],
};
const RECEIPT =
  "FERN & KETTLE 7 Cooper's Yard Table 12, served by Ada 2 Flat white 7.80 1 Rye toast 3.25 1 Plum jam 1.10 " +
  '3 Ginger buns 8.40 Subtotal 20.55 Tax 5% 1.03 TOTAL 21.58 Paid card 4071 Thank you, come back soon!';

let browser;
let site;
before(async () => {
  site = await serve();
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: [...QUIET, '--disable-component-update', '--disable-sync', ...WEBGPU],
  });
});
after(async () => {
  await browser?.close();
  await site?.close();
});

/** Opens the page and collects everything the browser complains about, in the page and in its workers. */
async function openPage({ url = site.url, ...options } = {}) {
  const page = await browser.newPage(options);
  const complaints = [];
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(error.message));
  await watch(page);
  await page.goto(url);
  return { page, complaints };
}

async function compare(page, { backend = 'auto', connection = 'Full speed' } = {}) {
  await page.selectOption('#backend', backend);
  await page.selectOption('#connection', { label: connection });
  await page.click('#run');
  await finished(page);
}

async function read(page, name) {
  await page.getByRole('radio', { name }).check();
  await finished(page);
}

async function finished(page) {
  await page.locator('#compare[aria-busy="false"]').waitFor({ timeout: DONE_MS });
  assert.equal(await page.textContent('#alert'), '');
  assert.match(await page.textContent('#status'), /^Done\./);
}

/** What the page says of a run. */
function origins(page) {
  return page.locator('.origin').allTextContents();
}

/** The lines that each variant found, without the places of those that only the other found. */
function shown(page) {
  return page.evaluate(() => {
    const column = (n) =>
      [...document.querySelectorAll(`.lines li .text:nth-child(${n})`)]
        .map((cell) => [...cell.childNodes].slice(1).map((node) => node.textContent).join(''))
        .filter((text) => text !== 'not found');
    return { archive: column(2), original: column(3) };
  });
}

describe('the demo page', () => {
  test('reads every picture with both variants alike, decoded on the CPU or the GPU, and again without a network', async () => {
    const own = await serve();
    const { page, complaints } = await openPage({ url: own.url });
    await page.getByText('This page now works offline, too.').waitFor({ timeout: DONE_MS });
    await assertAccessible(page);
    await compare(page, { backend: 'cpu' });
    assert.deepEqual(await origins(page), ['downloaded, decoded on the CPU (wasm)', 'downloaded']);
    assert.equal(await page.locator('#decoding').isVisible(), false);
    await read(page, 'Receipt');
    const receipt = await shown(page);
    assert.equal(receipt.original.join(' '), RECEIPT);
    assert.deepEqual(receipt.archive, receipt.original);
    await assertAccessible(page);
    const readPrinted = async (name, lines) => {
      await read(page, name);
      assert.deepEqual(await shown(page), { archive: lines, original: lines }, name);
      for (const card of ['#archive', '#original']) assert.equal(await page.locator(`${card} polygon`).count(), lines.length);
    };
    for (const printed of Object.entries(PRINTED)) await readPrinted(...printed);

    const onCpu = await shown(page);
    await compare(page, { backend: 'webgpu' });
    assert.deepEqual(await origins(page), ['from the cache, decoded on the GPU (WebGPU)', 'from the cache']);
    assert.deepEqual(await shown(page), onCpu);
    const decoders = await page.innerText('#decoding');
    assert.match(decoders, /[\d.]+ m?s on the GPU, where the weights stay; [\d.]+ m?s on the CPU/);
    assert.match(decoders, /to send up 1\.\d\d MB, which become 15\.18 MB there/);
    await assertAccessible(page);

    await own.close();
    await page.reload();
    await page.getByText('Both have been kept on this device since an earlier visit.').waitFor({ timeout: DONE_MS });
    await compare(page);
    assert.match(await page.textContent('#status'), /Nothing was downloaded\.$/);
    assert.deepEqual(await page.locator('.bytes').allTextContents(), ['nothing', 'nothing']);
    await readPrinted('Slanted label', PRINTED['Slanted label']);
    await followsLinks(page);
    assert.deepEqual(complaints, []);
    await page.close();
  });

  /** Without a network. The model to try is one that the demo has kept. */
  async function followsLinks(page) {
    await page.getByRole('link', { name: 'Compress your own model' }).click();
    await page.click('#sample');
    await page.locator('#stage', { hasText: 'Reading' }).waitFor({ timeout: DONE_MS });
    await page.click('#run');
    await page.getByRole('link', { name: 'Docs' }).click();
    await page.getByRole('link', { name: 'docs/FORMAT.md' }).click();
    assert.equal(await page.textContent('h1'), 'The mcwc archive format, version 1');
  }

  test('is read on a phone, run from the keyboard alone, as slow as the connection that it names', async (t) => {
    const phone = { viewport: { width: 390, height: 844 }, reducedMotion: 'reduce', colorScheme: 'dark' };
    const { page, complaints } = await openPage(phone);
    await tabTo(page, 'input[name="picture"]');
    await page.keyboard.press('ArrowRight');
    await page.keyboard.press('ArrowLeft');
    await tabTo(page, '#run');
    assert.notEqual(await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle), 'none');
    await assertAccessible(page);
    await page.keyboard.press('Enter');
    await page.locator('.run.original .time', { hasText: 's' }).first().waitFor({ timeout: DONE_MS });
    await assertAccessible(page);
    await finished(page);
    await assertAccessible(page);
    await assertStable(page);
    assert.deepEqual((await shown(page)).original, PRINTED['Street sign']);
    const cards = await Promise.all(['#archive', '#original'].map((card) => page.locator(card).boundingBox()));
    assert.equal(cards[0].y, cards[1].y);
    await tabTo(page, '.locate');
    await page.keyboard.press('Space');
    assert.equal(await page.locator('polygon.lit').count(), 2);

    for (const [variant, bytes] of Object.entries(BYTES)) {
      const seconds = parseFloat(await page.textContent(`.run.${variant} .received .time`));
      const least = (bytes * 8) / BITS_PER_SECOND;
      assert.ok(seconds > 0.97 * least, `${variant}: ${seconds} s instead of ${least} s`);
    }
    t.diagnostic((await page.innerText('#verdict')).replace(/\n+/g, ' '));
    assert.deepEqual(complaints, []);
    await page.close();
  });

  test('does not praise what is slower, and forgets what is kept', async () => {
    const { page } = await openPage();
    await compare(page);
    // The archive alone has to be downloaded again.
    await page.evaluate(async () => (await navigator.storage.getDirectory()).removeEntry('mcwc', { recursive: true }));
    await compare(page, { connection: '10 Mbit/s' });
    assert.deepEqual((await origins(page)).map((text) => text.split(',')[0]), ['downloaded', 'from the cache']);
    const first = page.locator('#verdict strong').first();
    assert.match(await first.textContent(), /^[\d.]+× later$/);
    assert.equal(await first.getAttribute('class'), '');
    assert.match(await page.textContent('#status'), /the original is ready first\.$/);

    await page.click('#forget');
    await page.getByText('The cache is empty.').waitFor();
    assert.ok(await page.isDisabled('#forget'));
    await compare(page);
    assert.deepEqual((await origins(page)).map((text) => text.split(',')[0]), ['downloaded', 'downloaded']);
    await page.close();
  });

  test('reads a picture of the visitor, and says so when a dropped file is none', async () => {
    const { page, complaints } = await openPage();
    await drop(page, { name: 'notes.txt', type: 'text/plain', content: 'not a picture' });
    await page.getByRole('alert').waitFor();
    assert.equal(
      await page.getByRole('alert').textContent(),
      '“notes.txt” is not a picture this browser can open. Try a PNG, JPEG or WebP file.',
    );
    const png = await page.evaluate(() => {
      const canvas = Object.assign(document.createElement('canvas'), { width: 640, height: 200 });
      const context = canvas.getContext('2d');
      context.fillStyle = 'white';
      context.fillRect(0, 0, 640, 200);
      context.fillStyle = 'black';
      context.font = '64px sans-serif';
      context.fillText('Own picture 42', 60, 120);
      return canvas.toDataURL('image/png').split(',')[1];
    });
    await page.setInputFiles('#file', { name: 'own.png', mimeType: 'image/png', buffer: Buffer.from(png, 'base64') });
    await page.getByRole('radio', { name: 'own.png' }).waitFor();
    assert.equal(await page.locator('#alert').isVisible(), false);
    await compare(page);
    assert.deepEqual((await shown(page)).original, ['Own picture 42']);
    assert.deepEqual(complaints, []);
    await page.close();
  });

  test('can be stopped and started again', async () => {
    const { page, complaints } = await openPage();
    // What is said before anything is compared. The title counts on it.
    await page.locator('#verdict', { hasText: /\d s\s*to download at 10 Mbit\/s, the original 12\.45 s\s*[6-9]\.\d× smaller/ }).waitFor();
    assert.equal(await page.textContent('h1'), 'One text recognizer, a sixth of the download.');
    assert.ok(BYTES.original / BYTES.archive >= 6);
    await page.click('#run');
    await page.locator('#archive .stage-status', { hasText: 'MB of' }).waitFor({ timeout: DONE_MS });
    await page.click('#run');
    assert.equal(await page.textContent('#status'), 'Stopped.');
    await compare(page);
    assert.deepEqual((await shown(page)).original, PRINTED['Street sign']);
    assert.deepEqual(complaints, []);
    await page.close();
  });

  test('names the cause when the archive is damaged or missing', async () => {
    const models = await mkdtemp(join(tmpdir(), 'mcwc-demo-'));
    for (const name of ['ppocr_keys_v1.txt', 'models.json', 'warm-up.mcwc']) await copyFile(join(MODELS, name), join(models, name));
    const damaged = await readFile(join(MODELS, 'ppocr.mcwc'));
    damaged.fill(0xa5, damaged.length >> 1, (damaged.length >> 1) + 4096);
    const broken = await serve({ models });
    try {
      const { page } = await openPage({ url: broken.url });
      await page.click('#run');
      await page.getByText(/\/models\/ppocr\.mcwc: HTTP 404/).waitFor({ timeout: DONE_MS });
      await writeFile(join(models, 'ppocr.mcwc'), damaged);
      await page.click('#run');
      await page.getByRole('alert').filter({ hasText: /checksum/i }).waitFor({ timeout: DONE_MS });
      assert.equal(await page.textContent('#run'), 'Compare');
      await page.close();
    } finally {
      await broken.close();
      await rm(models, { recursive: true });
    }
  });
});

describe('the demo server', () => {
  test('serves the policy that the pages state, correct types, and nothing outside its folders', async () => {
    for (const page of PAGES) {
      const response = await fetch(site.url + page);
      const html = await response.text();
      const stated = /http-equiv="Content-Security-Policy" content="([^"]+)"/.exec(html)[1];
      assert.equal(response.headers.get('content-security-policy'), stated);
      assert.equal(response.headers.get('content-type'), 'text/html; charset=utf-8');
      assert.doesNotMatch(html, /<script(?![^>]* src=)|<style|style=/);
    }
    for (const path of ['../../package.json', '..%2f..%2fpackage.json', 'models/..%2f..%2fpackage.json', '%', 'assets']) {
      assert.equal((await fetch(site.url + path)).status, 404, path);
    }
    assert.equal((await fetch(site.url, { method: 'POST' })).status, 405);
  });

  test('has what its pages link to, the documents among them, and works offline with all of it', async () => {
    const offline = JSON.parse(await (await fetch(`${site.url}offline.json`)).text());
    const kept = new Set(offline.map((path) => new URL(path, site.url).href));
    const ids = new Map();
    const links = [];
    const visit = async (url) => {
      const response = await fetch(url);
      assert.equal(response.status, 200, url);
      assert.ok(kept.has(url), `${url} is not kept for visits without a network`);
      if (!response.headers.get('content-type').startsWith('text/html')) return ids.set(url, []);
      const html = await response.text();
      ids.set(url, [...html.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id));
      assert.doesNotMatch(html, /<th[^>]*><\/th>/, `${url}: a header of nothing`);
      const landmarks = [...html.matchAll(/role="region"[^>]* aria-label="([^"]+)"/g)].map(([, label]) => label);
      assert.deepEqual(landmarks, [...new Set(landmarks)], `${url}: landmarks of one name`);
      const found = [...html.matchAll(/(?:href|src)="([^"]+)"/g)].map(([, link]) => new URL(link, url));
      links.push(...found.filter(({ origin }) => origin === new URL(site.url).origin).map((link) => ({ link, url })));
    };
    await visit(site.url);
    for (const { link, url } of links) {
      const [page, anchor] = link.href.split('#');
      if (!ids.has(page)) await visit(page);
      assert.ok(!anchor || ids.get(page).includes(decodeURIComponent(anchor)), `${url}: ${link.href} has no such anchor`);
    }
    assert.ok(ids.size > 25 && links.length > 400, `${ids.size} pages, ${links.length} links`);
  });

  test('compresses what is not compressed, and answers with ranges of what is', async () => {
    const [wasm] = JSON.parse(await (await fetch(`${site.url}offline.json`)).text()).filter((path) => path.includes('/ort-wasm'));
    for (const encoding of ['br', 'gzip']) {
      const response = await fetch(site.url + wasm, { headers: { 'accept-encoding': encoding } });
      assert.equal(response.headers.get('content-encoding'), encoding);
      const { length } = new Uint8Array(await response.arrayBuffer());
      assert.ok(response.headers.get('content-length') < length / 3);
    }
    const plain = await fetch(site.url + wasm, { method: 'HEAD', headers: { 'accept-encoding': 'identity' } });
    assert.equal(plain.headers.get('content-encoding'), null);

    const archive = await readFile(join(MODELS, 'ppocr.mcwc'));
    const range = (headers) => fetch(`${site.url}models/ppocr.mcwc`, { headers });
    const part = await range({ range: 'bytes=1000-' });
    assert.equal(part.status, 206);
    assert.equal(part.headers.get('content-range'), `bytes 1000-${archive.length - 1}/${archive.length}`);
    assert.deepEqual(Buffer.from(await part.arrayBuffer()), archive.subarray(1000));
    assert.equal((await range({ range: `bytes=${archive.length}-` })).status, 416);
  });

  test('moves to a free port when the one asked for is taken', async () => {
    const taken = Number(new URL(site.url).port);
    const other = await serve({ port: taken });
    assert.notEqual(Number(new URL(other.url).port), taken);
    await other.close();
  });
});

async function drop(page, { name, type, content }) {
  const dataTransfer = await page.evaluateHandle((file) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([file.content], file.name, { type: file.type }));
    return transfer;
  }, { name, type, content });
  await page.dispatchEvent('body', 'drop', { dataTransfer });
}
