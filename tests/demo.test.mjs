// The demo page in a real browser: both variants read the bundled pictures, and what goes wrong is said in words.
// Expects the built page in target/www and the models in target/models.
import assert from 'node:assert/strict';
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { serve } from '../www/serve.mjs';

const MODELS = fileURLToPath(new URL('../target/models/', import.meta.url));
const QUIET = ['--no-sandbox', '--disable-quic', '--no-first-run', '--disable-background-networking'];
const WEBGPU = ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'];
const DONE_MS = 120_000;
/** Of the text of a picture. The weights are not exact, and spaces are what the recognizer loses first. */
const AGREEMENT_PERCENT_MIN = 95;

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
  await page.goto(url);
  return { page, complaints };
}

async function compare(page, { backend = 'auto' } = {}) {
  await page.selectOption('#backend', backend);
  await page.click('#run');
  await finished(page);
}

async function finished(page) {
  await page.locator('#compare[aria-busy="false"]').waitFor({ timeout: DONE_MS });
  assert.equal(await page.textContent('#alert'), '');
  assert.match(await page.textContent('#status'), /^Done\./);
}

/** The lines that each variant found, without the places of those that only the other found. */
function shown(page) {
  return page.evaluate(() => {
    const column = (n) =>
      [...document.querySelectorAll(`.lines li .text:nth-child(${n})`)]
        .map((cell) => [...cell.childNodes].slice(1).map((node) => node.textContent).join(''))
        .filter((text) => text !== 'not found');
    const agreement = document.querySelector('#verdict > :nth-child(3) strong').textContent;
    return { archive: column(2), original: column(3), agreement };
  });
}

const percent = (text) => Number(/^([\d.]+) %$/.exec(text)[1]);

describe('the demo page', () => {
  test('reads every bundled picture with both variants, the archive decoded on the CPU', async () => {
    const { page, complaints } = await openPage();
    await compare(page, { backend: 'cpu' });
    for (const [name, lines] of Object.entries(PRINTED)) {
      await page.getByRole('radio', { name }).check();
      await finished(page);
      const { archive, original, agreement } = await shown(page);
      assert.deepEqual(original, lines, name);
      assert.ok(percent(agreement) >= AGREEMENT_PERCENT_MIN, `${name}: ${agreement}\n${archive.join('\n')}`);
      assert.equal(await page.locator('#archive polygon').count(), archive.length);
      assert.equal(await page.locator('#original polygon').count(), lines.length);
    }
    await page.getByRole('radio', { name: 'Receipt' }).check();
    await finished(page);
    assert.equal((await shown(page)).original.join(' '), RECEIPT);

    assert.match(await page.textContent('#archive .backend'), /^Decoded on the CPU \(wasm\)/);
    const [archiveMb, originalMb] = [
      parseFloat(await page.textContent('#archive .bytes')),
      parseFloat(await page.textContent('#original .bytes')),
    ];
    assert.equal(originalMb, 15.57);
    assert.ok(archiveMb < originalMb / 2, `${archiveMb} MB`);
    for (const measured of ['.weights', '.session', '.recognition']) {
      for (const card of ['#archive', '#original']) assert.match(await page.textContent(`${card} ${measured}`), /^[\d.]+ m?s$/);
    }
    for (const bar of await page.locator('progress').all()) assert.equal(await bar.evaluate(({ value }) => value), 1);
    assert.deepEqual(complaints, []);
    await page.close();
  });

  test('reads the same text when the archive is decoded on the GPU', async () => {
    const { page, complaints } = await openPage();
    await compare(page, { backend: 'cpu' });
    const onCpu = await shown(page);
    await compare(page, { backend: 'webgpu' });
    assert.match(await page.textContent('#archive .backend'), /^Decoded on the GPU \(WebGPU\)/);
    assert.deepEqual(await shown(page), onCpu);
    assert.deepEqual(complaints, []);
    await page.close();
  });

  test('works from the keyboard alone, on a phone', async () => {
    const { page, complaints } = await openPage({ viewport: { width: 390, height: 844 }, reducedMotion: 'reduce' });
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 390);
    await tabTo(page, 'input[name="picture"]');
    await page.keyboard.press('ArrowRight');
    await page.keyboard.press('ArrowLeft');
    await tabTo(page, '#run');
    assert.notEqual(await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle), 'none');
    await page.keyboard.press('Enter');
    await finished(page);
    assert.deepEqual((await shown(page)).original, PRINTED['Street sign']);
    await tabTo(page, '.locate');
    await page.keyboard.press('Space');
    assert.equal(await page.locator('polygon.lit').count(), 2);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 390);
    assert.deepEqual(complaints, []);
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
    await page.selectOption('#connection', { label: 'Slowed: 1.6 Mbit/s, 3G' });
    await page.click('#run');
    await page.locator('#archive .amount', { hasText: 'of' }).first().waitFor();
    await page.click('#run');
    assert.equal(await page.textContent('#status'), 'Stopped.');
    await page.selectOption('#connection', { label: 'As it is' });
    await compare(page);
    assert.deepEqual((await shown(page)).original, PRINTED['Street sign']);
    assert.deepEqual(complaints, []);
    await page.close();
  });

  test('really slows the connection it says it slows', async () => {
    const { page } = await openPage();
    await page.selectOption('#connection', { label: 'Slowed: 30 Mbit/s' });
    await compare(page);
    const seconds = parseFloat(await page.textContent('#original .weights'));
    const expected = (15_567_840 * 8) / 30e6;
    assert.ok(seconds > 0.98 * expected && seconds < 1.5 * expected, `${seconds} s, expected about ${expected} s`);
    await page.close();
  });

  test('names the cause when the archive is damaged or missing', async () => {
    const models = await mkdtemp(join(tmpdir(), 'mcwc-demo-'));
    await copyFile(join(MODELS, 'ppocr_keys_v1.txt'), join(models, 'ppocr_keys_v1.txt'));
    const damaged = await readFile(join(MODELS, 'ppocr.mcwc'));
    damaged.fill(0xa5, damaged.length >> 1, (damaged.length >> 1) + 4096);
    await writeFile(join(models, 'ppocr.mcwc'), damaged);
    const broken = await serve({ models });
    try {
      const { page } = await openPage({ url: broken.url });
      await page.click('#run');
      await page.getByRole('alert').waitFor({ timeout: DONE_MS });
      assert.match(await page.getByRole('alert').textContent(), /checksum/i);
      await rm(join(models, 'ppocr.mcwc'));
      await page.click('#run');
      await page.getByText('/models/ppocr.mcwc could not be downloaded (HTTP 404).').waitFor({ timeout: DONE_MS });
      assert.equal(await page.textContent('#run'), 'Compare');
      await page.close();
    } finally {
      await broken.close();
      await rm(models, { recursive: true });
    }
  });
});

describe('the demo server', () => {
  test('serves the policy that the page states, correct types, and nothing outside its folders', async () => {
    const response = await fetch(site.url);
    const html = await response.text();
    const stated = /http-equiv="Content-Security-Policy" content="([^"]+)"/.exec(html)[1];
    assert.equal(response.headers.get('content-security-policy'), stated);
    assert.equal(response.headers.get('content-type'), 'text/html; charset=utf-8');
    assert.doesNotMatch(html, /<script(?![^>]* src=)|<style|style=/);
    for (const path of ['../../package.json', '..%2f..%2fpackage.json', 'models/..%2f..%2fpackage.json', '%', 'assets']) {
      assert.equal((await fetch(site.url + path)).status, 404, path);
    }
    assert.equal((await fetch(site.url, { method: 'POST' })).status, 405);
  });

  test('moves to a free port when the one asked for is taken', async () => {
    const taken = Number(new URL(site.url).port);
    const other = await serve({ port: taken });
    assert.notEqual(Number(new URL(other.url).port), taken);
    await other.close();
  });
});

async function tabTo(page, selector) {
  for (let presses = 0; presses < 40; presses++) {
    await page.keyboard.press('Tab');
    if (await page.evaluate((target) => document.activeElement.matches(target), selector)) return;
  }
  assert.fail(`Tab never reached ${selector}`);
}

async function drop(page, { name, type, content }) {
  const dataTransfer = await page.evaluateHandle((file) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([file.content], file.name, { type: file.type }));
    return transfer;
  }, { name, type, content });
  await page.dispatchEvent('body', 'drop', { dataTransfer });
}
