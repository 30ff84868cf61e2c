// The page that compresses models, in a real browser: its archives are the native command's, byte for byte, what is broken gets a
// message, and it can be read and used by everybody.
// Expects the built pages in target/www, the model to try in target/models, and the command.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { formatError, formatLeft } from '../www/compress/numbers.js';
import { PIECE_BYTES, piecesOf } from '../www/compress/pieces.js';
import { Work } from '../www/compress/work.js';
import { serve } from '../www/serve.mjs';
import { NATIVE } from './common/command.mjs';
import { FLOAT, modelFile, node, tensor, value, values } from './common/onnx.mjs';
import { assertAccessible, assertStable, tabTo, watch } from './common/page-checks.mjs';
import { noise, safetensors } from './common/safetensors.mjs';

const FORMATS = fileURLToPath(new URL('data/formats', import.meta.url));
const DONE_MS = 120_000;
const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };
/** More than the table shows at first. */
const TENSORS = 44;
/** More than the page hears of in one message, which takes no longer to receive than so many characters do. */
const [MANY, MESSAGE_MAX] = [1200, 150_000];

let browser;
let site;
let folder;
before(async () => {
  site = await serve();
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    args: ['--no-sandbox', '--disable-quic', '--no-first-run', '--disable-background-networking'],
  });
  folder = await mkdtemp(join(tmpdir(), 'mcwc-compress-'));
  await writeModel();
});
after(async () => {
  await browser?.close();
  await site?.close();
  await rm(folder, { recursive: true, force: true });
});

/** Matrices of growing size. */
async function writeModel() {
  const random = noise(5);
  const tensors = {};
  for (let index = 0; index < TENSORS; index++) {
    const rows = 48 + index;
    tensors[`layer.${index}.weight`] = ['F32', [rows, 48], random(rows * 48, 0.02)];
  }
  tensors['norm.bias'] = ['F32', [64], random(64, 1)];
  await writeFile(join(folder, 'small.safetensors'), safetensors(tensors));
}

/** A model that can be calibrated. */
async function writeProduct() {
  const model = modelFile({
    nodes: [node('MatMul', ['x', 'w'], ['h']), node('MatMul', ['h', 'v'], ['y'])],
    tensors: [tensor('w', [64, 64], values(1, 64 * 64)), tensor('v', [64, 32], values(2, 64 * 32))],
    inputs: [value('x', FLOAT, [1, 64])],
    outputs: [value('y', FLOAT, [1, 32])],
  });
  const path = join(folder, 'product.onnx');
  await writeFile(path, model);
  return path;
}

/** What the native command makes of the same. */
async function native(inputs, options) {
  const output = join(folder, 'native.mcwc');
  execFileSync(NATIVE, ['encode', ...inputs, '--force', '-o', output, '--json', ...options], { stdio: ['ignore', 'ignore', 'inherit'] });
  return readFile(output);
}

/** A visit that has heard every complaint of the browser's, and every request. */
async function visit(options) {
  const page = await browser.newPage(options);
  const [complaints, requests] = [[], []];
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  page.on('pageerror', (error) => complaints.push(error.message));
  page.context().on('request', (request) => requests.push(request));
  await watch(page);
  await page.goto(`${site.url}compress.html`);
  return { page, complaints, requests };
}

async function compress(page, files) {
  await page.setInputFiles('#files', files);
  await page.click('#run');
}

async function done(page) {
  await page.locator('#run', { hasText: 'Compress' }).waitFor({ timeout: DONE_MS });
  assert.equal(await page.textContent('#alert'), '');
  assert.match(await page.textContent('#status'), /^Done: .*, verified\.$/);
}

async function refused(page) {
  await page.getByRole('alert').waitFor({ timeout: DONE_MS });
  assert.equal(await page.textContent('#run'), 'Compress');
  return page.getByRole('alert').textContent();
}

async function downloaded(page, link = '#download') {
  const [download] = await Promise.all([page.waitForEvent('download'), page.click(link)]);
  return { name: download.suggestedFilename(), bytes: await readFile(await download.path()) };
}

const codes = (page) => page.locator('.code code').allTextContents();
const names = (page) => page.locator('#rows tbody th').allTextContents();
const column = (page, title) => page.locator(`#rows td[data-title="${title}"]`).allTextContents();

describe('the page that compresses models', () => {
  test("makes the command's bytes of a file, in the browser alone, and shows what became of each tensor", async () => {
    const { page, complaints, requests } = await visit();
    await assertAccessible(page);
    await page.fill('#bits', '3.5');
    await compress(page, join(folder, 'small.safetensors'));
    await done(page);
    await assertAccessible(page);
    await assertStable(page);

    const { name, bytes } = await downloaded(page);
    assert.equal(name, 'small.safetensors.mcwc');
    assert.ok(bytes.equals(await native([join(folder, 'small.safetensors')], ['--bits', '3.5'])));
    const sent = requests.filter((request) => request.method() !== 'GET' || !request.url().startsWith(site.url));
    assert.deepEqual(sent.map((request) => request.url()).filter((url) => !url.startsWith('blob:')), []);

    const [loading, command] = await codes(page);
    assert.match(loading, /open\('small\.safetensors\.mcwc'\)/);
    assert.equal(command, 'npx mcwc encode small.safetensors --bits 3.5');
    await page.context().grantPermissions(['clipboard-read', 'clipboard-write']);
    await page.getByRole('button', { name: 'Copy: The same on a command line' }).click();
    await page.getByText('Copied').waitFor();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), command);
    assert.match(await page.textContent('#verified'), new RegExp(`${TENSORS} of ${TENSORS + 1} tensors have the error below`));
    await page.locator('.gzip .amount', { hasText: /kB, 9\d\.\d %/ }).waitFor();
    await tellsOfTensors(page);
    assert.deepEqual(complaints, []);
    await page.close();
  });

  async function tellsOfTensors(page) {
    assert.equal((await names(page))[0], `layer.${TENSORS - 1}.weight`);
    assert.ok((await names(page)).length < TENSORS);
    await page.click('.more');
    assert.equal((await names(page)).length, TENSORS + 1);
    await page.getByRole('button', { name: 'Error' }).click();
    const errors = (await column(page, 'Error')).map((text) => (text === 'exact' ? 0 : parseFloat(text)));
    assert.deepEqual(errors, errors.toSorted((a, b) => b - a));
    assert.ok(errors[0] > 1 && errors.at(-1) === 0, `${errors[0]} … ${errors.at(-1)}`);
    await page.fill('#filter', 'NORM');
    assert.deepEqual(await names(page), ['norm.bias']);
    assert.deepEqual(await column(page, 'Error'), ['exact']);
  }

  test('takes a model of a thousand small tensors, and never waits for what is said of them', async () => {
    const { page, complaints } = await visit();
    const random = noise(11);
    const tensors = Array.from({ length: MANY }, (_, index) => {
      const shape = index % 2 === 0 ? [40, 32] : [32];
      return [`layer.${index}`, ['F32', shape, random(shape.reduce((a, b) => a * b), 0.02)]];
    });
    const path = join(folder, 'many.safetensors');
    await writeFile(path, safetensors(Object.fromEntries(tensors)));
    const told = await page.evaluateHandle(() => {
      const counts = [];
      const { get, set } = Object.getOwnPropertyDescriptor(Worker.prototype, 'onmessage');
      Object.defineProperty(Worker.prototype, 'onmessage', {
        get,
        set(listener) {
          set.call(this, (event) => {
            counts.push(JSON.stringify(event.data).length);
            listener(event);
          });
        },
      });
      return counts;
    });
    await page.check('[value="small"]');
    await compress(page, path);
    await done(page);
    assert.match(await page.textContent('#verified'), new RegExp(`${MANY / 2} of ${MANY} tensors have the error below`));
    assert.equal(await page.textContent('.count'), `40 of ${MANY} tensors`);
    await page.fill('#filter', `layer.${MANY - 1}`);
    assert.deepEqual(await names(page), [`layer.${MANY - 1}`]);
    const lengths = await told.jsonValue();
    assert.ok(Math.max(...lengths) < MESSAGE_MAX, `${Math.max(...lengths)} characters in one message`);
    assert.ok((await downloaded(page)).bytes.equals(await native([path], ['--preset', 'small'])));
    assert.deepEqual(complaints, []);
    await page.close();
  });

  test('takes a model of several files, whatever their order, and a folder', async () => {
    const { page, complaints } = await visit();
    const shards = ['group1-shard1of2.bin', 'group1-shard2of2.bin', 'group2-shard1of1.bin'];
    await page.check('[value="lossless"]');
    await compress(page, [...shards, 'model.json'].map((name) => join(FORMATS, name)));
    await done(page);
    const { name, bytes } = await downloaded(page);
    assert.equal(name, 'model.json.mcwc');
    assert.ok(bytes.equals(await native([join(FORMATS, 'model.json')], ['--lossless'])));
    assert.match((await codes(page))[0], /tf\.loadLayersModel\(fromMcwc\('model\.json\.mcwc'\)\)/);
    assert.equal((await codes(page))[1], `npx mcwc encode model.json ${shards.join(' ')} --lossless`);
    assert.match(await page.textContent('#remarks'), /1 tensor is not found/);

    const whole = join(folder, 'whole model');
    await mkdir(join(whole, 'onnx'), { recursive: true });
    await copyFile(join(FORMATS, 'raw.onnx'), join(whole, 'onnx/model.onnx'));
    await writeFile(join(whole, 'config.json'), '{}');
    await page.setInputFiles('#folder', whole);
    await page.check('[value="high"]');
    await page.click('#run');
    await done(page);
    assert.ok((await downloaded(page)).bytes.equals(await native([whole], ['--preset', 'high'])));
    assert.match((await codes(page))[0], /mcwc\/transformers/);
    assert.equal((await codes(page))[1], "npx mcwc encode 'whole model' --preset high --no-calibration");
    assert.deepEqual(complaints, []);
    await page.close();
  });

  test('calibrates ONNX models on random inputs if asked to, says so, and hands over what it measured', async () => {
    const { page, complaints } = await visit();
    const inputs = [await writeProduct(), join(FORMATS, 'raw.onnx')];
    await page.check('#calibrates');
    await compress(page, inputs);
    await done(page);
    await assertAccessible(page);
    const statistics = await downloaded(page, '#statistics a');
    assert.equal(statistics.name, 'product.stats.safetensors');
    await writeFile(join(folder, statistics.name), statistics.bytes);
    const options = ['--preset', 'high', '--calibration', join(folder, statistics.name)];
    assert.ok((await downloaded(page)).bytes.equals(await native(inputs, options)));
    assert.equal((await codes(page))[1], 'npx mcwc encode product.onnx raw.onnx --preset high --calibration product.stats.safetensors');
    const said = await page.textContent('#remarks');
    assert.match(said, /product\.onnx was calibrated on 5 random inputs\./);
    assert.match(said, /raw\.onnx was not calibrated, so that all its weights count alike: /);
    assert.match(await page.textContent('#figures'), /error of the outputs that random inputs foretell/);
    assert.deepEqual(complaints, []);
    await page.close();
  });

  test('says what is wrong with a file, on a phone in the dark, and goes on', async () => {
    const { page, complaints } = await visit({ ...PHONE, colorScheme: 'dark' });
    await page.click('#run');
    assert.equal(await refused(page), 'Choose a model first.');
    for (const [name, content, message] of [
      ['page.onnx', '<!doctype html><html><p>Sign in</p></html>', 'page.onnx is an HTML page, not the model: was its download refused?'],
      ['pointer.gguf', 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n', /^pointer\.gguf is a Git LFS pointer/],
      ['broken.safetensors', 'x'.repeat(100), /broken\.safetensors/],
      ['external.onnx', await readFile(join(FORMATS, 'external.onnx')), /^external\.onnx needs external\.bin, which is not here/],
    ]) {
      await compress(page, { name, mimeType: '', buffer: Buffer.from(content) });
      const said = await refused(page);
      if (typeof message === 'string') assert.equal(said, message);
      else assert.match(said, message);
    }
    await assertAccessible(page);
    await page.fill('#size', '0.00001');
    await compress(page, join(folder, 'small.safetensors'));
    assert.equal(await page.locator('#size:invalid').count(), 1);
    await page.fill('#size', '0.02');
    await page.click('#run');
    await done(page);
    assert.match(await page.textContent('#remarks'), /With an error this large most models no longer work/);
    await page.check('[value="small"]');
    await page.click('#run');
    await done(page);
    await assertAccessible(page);
    await assertStable(page);
    assert.ok((await downloaded(page)).bytes.equals(await native([join(folder, 'small.safetensors')], ['--preset', 'small'])));
    assert.deepEqual(complaints, []);
    await page.close();
  });

  test('has a model to try, which can be cancelled from the keyboard', async () => {
    const { page, complaints } = await visit({ reducedMotion: 'reduce' });
    await tabTo(page, '#sample');
    assert.notEqual(await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle), 'none');
    await page.keyboard.press('Enter');
    await page.locator('#stage', { hasText: 'Reading' }).waitFor({ timeout: DONE_MS });
    await assertAccessible(page);
    await tabTo(page, '#run');
    await page.keyboard.press('Enter');
    await page.locator('#run', { hasText: 'Compress' }).waitFor();
    assert.equal(await page.textContent('#status'), 'Cancelled.');
    assert.equal(await page.locator('#outcome').isVisible(), false);
    while (page.workers().length > 0) await page.workers()[0].waitForEvent('close');
    await compress(page, join(folder, 'small.safetensors'));
    await done(page);
    assert.deepEqual(complaints, []);
    await page.close();
  });

  test('works without a network from its first visit on, calibration and the model to try included', async () => {
    const own = await serve();
    const context = await browser.newContext();
    const page = await context.newPage();
    const complaints = [];
    page.on('pageerror', (error) => complaints.push(error.message));
    await page.goto(`${own.url}compress.html`);
    await page.getByText('This page now works offline, too.').waitFor({ timeout: DONE_MS });
    const trySample = async () => {
      await page.click('#sample');
      await page.locator('#stage', { hasText: 'Reading' }).waitFor({ timeout: DONE_MS });
      await page.click('#run');
    };
    await trySample();
    await page.waitForFunction(async () => (await caches.match('models/ch_PP-OCRv4_rec_infer.onnx')) !== undefined);
    await own.close();
    await page.reload();
    await trySample();
    await page.check('#calibrates');
    await compress(page, await writeProduct());
    await done(page);
    assert.match(await page.textContent('#remarks'), /product\.onnx was calibrated on 5 random inputs\./);
    await page.getByRole('link', { name: 'Text recognition' }).click();
    await page.getByText('Ready.').waitFor({ timeout: DONE_MS });
    assert.deepEqual(complaints, []);
    await context.close();
  });

  test('takes what is dropped instead of what is being compressed', async () => {
    const { page, complaints } = await visit();
    await page.click('#sample');
    await page.locator('#stage', { hasText: 'Reading' }).waitFor({ timeout: DONE_MS });
    const dataTransfer = await page.evaluateHandle(() => {
      const transfer = new DataTransfer();
      transfer.items.add(new File(['a text, no model'], 'notes.txt'));
      return transfer;
    });
    await page.dispatchEvent('body', 'drop', { dataTransfer });
    await page.locator('#chosen', { hasText: 'notes.txt' }).waitFor();
    await page.locator('#run', { hasText: 'Compress' }).click();
    await done(page);
    assert.match(await page.textContent('#remarks'), /No tensors were found/);
    assert.match(await page.textContent('#figures'), /^No smaller/);
    assert.equal(await page.locator('#tensors').isVisible(), false);
    assert.deepEqual(complaints, []);
    await page.close();
  });
});

test('an error is a number of percent, however small or large', () => {
  const said = { exact: 0, '0.00020 %': 2e-6, '1.2 %': 0.0123, '10 %': 0.0999, '100 %': 1, '250 %': 2.5 };
  for (const [text, error] of Object.entries(said)) assert.equal(formatError(error), text);
});

describe('the pieces in which a model is verified', () => {
  const tensors = (...extents) => extents.map(([offset, bytes]) => ({ offset, bytes }));
  const shown = (found) => found.map(({ start, end, tensors }) => [start, end, tensors.length]);

  test('are all of the file, and cut no tensor', () => {
    const whole = PIECE_BYTES;
    for (const [fileBytes, given, expected] of [
      [0, [], [[0, 0, 0]]],
      [2 * whole + 3, [], [[0, whole, 0], [whole, 2 * whole, 0], [2 * whole, 2 * whole + 3, 0]]],
      [whole, [[0, whole]], [[0, whole, 1]]],
      [3 * whole, [[8, 2 * whole], [2 * whole + 8, 4]], [[0, 2 * whole + 8, 1], [2 * whole + 8, 3 * whole, 1]]],
      [10, [[6, 4], [0, 4]], [[0, 10, 2]]],
      // Two that overlap are in one piece.
      [3 * whole, [[0, 2 * whole], [whole, 2 * whole]], [[0, 3 * whole, 2]]],
    ]) {
      assert.deepEqual(shown(piecesOf(tensors(...given), fileBytes)), expected);
    }
  });
});

describe('the progress of the encoder', () => {
  test('goes forward and not beyond the end, however often a stage comes again', () => {
    const work = new Work(false);
    const stages = ['reading', 'packing exact bytes', ...Array(20).fill(['finding the step', 'coding weights']).flat(), 'another'];
    const told = stages.flatMap((stage) => [0, 0.5, 1].map((done) => work.step({ stage, done, tensor: 'w' }, 0)));
    assert.deepEqual([told[0], told.at(-1).name], [{ name: 'Reading', tensor: 'w', done: 0 }, 'Another']);
    assert.equal(told.at(-4).name, 'Coding weights, round 20');
    for (const [index, { done }] of told.entries()) assert.ok(done >= (told[index - 1]?.done ?? 0) && done <= 1, `${done}`);
    assert.ok(told.at(-1).done > 0.9);
  });

  test('tells how long the rest may take, once there are grounds for it, and not what has proved wrong', () => {
    const work = new Work(true);
    work.step({ stage: 'reading', done: 0 }, 0);
    assert.equal(work.left(10_000), undefined);
    work.step({ stage: 'reading', done: 0.25 }, 10_000);
    assert.deepEqual(work.left(12_000), { ms: 28_000, all: false });
    work.step({ stage: 'packing exact bytes', done: 0 }, 20_000);
    assert.equal(work.left(20_000), undefined);
    work.step({ stage: 'packing exact bytes', done: 0.5 }, 60_000);
    assert.deepEqual(work.left(60_000), { ms: 40_000, all: true });
    assert.equal(work.left(100_000), undefined);
    for (const [text, ms] of Object.entries({ 'about 1 s': 20, 'about 9 s': 9400, 'about 25 s': 24_000, 'about 55 s': 57_000, 'about 2 min': 110_000 })) {
      assert.equal(formatLeft(ms), text);
    }
  });
});
