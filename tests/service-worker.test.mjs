// A service worker that serves files out of archives, as a module and as a classic script: plain requests, ranges, runtimes that
// fetch, and what it answers when something is wrong.
// Expects the built package in pkg and the native command in target/debug.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { copyFile, cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { installed, openSite } from './common/site.mjs';

const MAIN = `
  import * as tf from '@tensorflow/tfjs-core';
  import '@tensorflow/tfjs-backend-cpu';
  import { loadGraphModel } from '@tensorflow/tfjs-converter';
  import { caches } from 'mcwc/cache';
  globalThis.archivesKept = async () => (await caches()).archives;
  Object.assign(globalThis, { tf, loadGraphModel });
  globalThis.control = async ({ url, type }) => {
    await navigator.serviceWorker.register(url, { type });
    const { serviceWorker } = navigator;
    if (!serviceWorker.controller) await new Promise((resolve) => (serviceWorker.oncontrollerchange = resolve));
  };
`;
const SERVE = `serve({
  '/models/': '/models.mcwc',
  '/models/inner/': '/inner.mcwc',
  'https://models.example/some/repo/': '/models.mcwc',
  '/gone/': '/gone.mcwc',
  '/torn/': '/torn.mcwc',
  '/hurt/': '/hurt.mcwc',
  '/late/': '/late.mcwc',
  '/half/': '/half.mcwc',
}, { retries: 0 })`;
const KEEP = `serve({ '/kept/': '/kept.mcwc' }, { retries: 0, cache: true })`;
const CLASSIC = `importScripts('/service-worker-classic.js'); mcwc.${SERVE}; mcwc.${KEEP};`;
const KINDS = { module: { url: '/sw.js', type: 'module' }, classic: { url: '/classic.js', type: 'classic' } };
const SCRIPTS = { 'main.js': MAIN, 'sw.js': `import { serve } from 'mcwc/service-worker'; ${SERVE}; ${KEEP};` };
const site = await openSite('service-worker', SCRIPTS, { policy: { 'connect-src': "'self' https://models.example" } });
const LARGE_BYTES = 7_000_001;
/** In the second half of the file. */
const DAMAGED = 6_000_000;
const originals = {};

before(async () => {
  const folder = join(site.public, 'models-original');
  await mkdir(join(folder, 'sub folder'), { recursive: true });
  for (const name of ['emotion.json', 'emotion.bin']) await cp(join(installed('@vladmandic/human/models'), name), join(folder, name));
  await writeFile(join(folder, 'sub folder/größe 100%.txt'), 'as long as it is\n');
  await writeFile(join(folder, 'empty.bin'), '');
  await writeFile(join(folder, 'large.bin'), noise(LARGE_BYTES));
  site.encode('models', ['models-original'], ['--lossless']);
  for (const name of ['emotion.json', 'emotion.bin', 'large.bin']) originals[name] = await readFile(join(folder, name));
  await writeFile(join(site.public, 'one.txt'), 'one');
  site.encode('inner', ['one.txt'], []);
  for (const name of ['late', 'kept']) await copyFile(join(site.public, 'inner.mcwc'), join(site.public, `${name}.mcwc`));
  const archive = await readFile(join(site.public, 'models.mcwc'));
  await writeFile(join(site.public, 'torn.mcwc'), archive.subarray(0, 1000));
  // What does not compress is stored as it is.
  const at = archive.indexOf(originals['large.bin'].subarray(DAMAGED, DAMAGED + 100));
  assert.ok(at > 0);
  archive[at] ^= 1;
  await writeFile(join(site.public, 'hurt.mcwc'), archive);
  // What the archive does not have, the server has.
  await writeFile(join(site.public, 'models/other.txt'), 'from the network');
  await writeFile(join(site.public, 'classic.js'), CLASSIC);
  const pkg = join(site.folder, 'node_modules/mcwc/pkg');
  for (const name of ['service-worker-classic.js', 'mcwc_bg.wasm']) await copyFile(join(pkg, name), join(site.public, name));
});

/** Bytes that do not compress, the same ones on every run. */
function noise(length) {
  let state = 1;
  return Uint8Array.from({ length }, () => (state = Math.imul(state, 1664525) + 1013904223) >>> 24);
}

/** Status, headers and body of each request. */
async function answers(requests) {
  const answers = [];
  for (const [url, init] of requests) {
    const response = await fetch(url, init);
    const answer = { status: response.status, headers: Object.fromEntries(response.headers) };
    try {
      const body = await response.arrayBuffer();
      const hash = [...new Uint8Array(await crypto.subtle.digest('SHA-256', body))];
      answers.push({ ...answer, bytes: body.byteLength, hash, text: new TextDecoder().decode(body.slice(0, 1000)) });
    } catch (error) {
      answers.push({ ...answer, error: error.name });
    }
  }
  return answers;
}

function assertBytes({ bytes, hash }, expected, message) {
  assert.equal(bytes, expected.length, message);
  assert.deepEqual(hash, [...createHash('sha256').update(expected).digest()], message);
}

for (const [kind, worker] of Object.entries(KINDS)) {
  describe(`a ${kind} service worker`, () => {
    let visit;
    const ask = (...requests) => visit.run(answers, requests);
    before(async () => {
      visit = await site.visit();
      await visit.run((worker) => control(worker), worker);
    });
    after(() => visit?.end());

    test('answers with files of the archive, on the first visit', async () => {
      const [json, bin, named, empty, elsewhere] = await ask(
        ['/models/emotion.json'],
        ['/models/emotion.bin?download=true#top'],
        [`/models/${encodeURI('sub folder/größe 100%.txt')}`],
        ['/models/empty.bin'],
        ['https://models.example/some/repo/emotion.bin'],
      );
      assert.equal(json.headers['content-type'], 'application/json');
      assertBytes(json, originals['emotion.json']);
      for (const answer of [bin, elsewhere]) assertBytes(answer, originals['emotion.bin']);
      assert.equal(named.text, 'as long as it is\n');
      assert.equal(empty.bytes, 0);
      const archive = await readFile(join(site.public, 'models.mcwc'));
      for (const { status, headers, bytes } of [json, bin, named, empty, elsewhere]) {
        assert.equal(status, 200);
        assert.equal(headers['content-length'], String(bytes));
        assert.equal(headers['accept-ranges'], 'bytes');
        assert.equal(headers.etag, `"${archive.subarray(16, 32).toString('hex')}"`);
      }
    });

    test('answers ranges', async () => {
      const size = LARGE_BYTES;
      const ranges = {
        'bytes=0-0': [0, 1],
        'bytes=3000000-5999999': [3_000_000, 6_000_000],
        'bytes=6999999-': [6_999_999, size],
        'bytes=6999999-99999999': [6_999_999, size],
        'bytes=-2': [size - 2, size],
        'bytes=-99999999': [0, size],
        [`bytes=${size}-`]: undefined,
        'bytes=-0': undefined,
        'bytes=5-4': [],
        'bytes=0-1,4-5': [],
        'lines=0-1': [],
      };
      const all = await ask(...Object.keys(ranges).map((range) => ['/models/large.bin', { headers: { range } }]));
      for (const [index, [range, expected]] of Object.entries(ranges).entries()) {
        const { status, headers } = all[index];
        const [start = 0, end = expected && size] = expected ?? [];
        assert.equal(status, !expected ? 416 : expected.length > 0 ? 206 : 200, range);
        const parts = { 206: `bytes ${start}-${end - 1}/${size}`, 416: `bytes */${size}` };
        assert.equal(headers['content-range'], parts[status], range);
        if (status !== 416) assert.equal(headers['content-length'], String(end - start), range);
        assertBytes(all[index], originals['large.bin'].subarray(start, status === 416 ? start : end), range);
      }
    });

    test('answers a range of another version with the whole', async () => {
      const range = 'bytes=1-2';
      const [{ headers }] = await ask(['/models/emotion.bin', { method: 'HEAD' }]);
      const [same, other] = await ask(
        ['/models/emotion.bin', { headers: { range, 'if-range': headers.etag } }],
        ['/models/emotion.bin', { headers: { range, 'if-range': '"another"' } }],
      );
      assert.equal(same.status, 206);
      assertBytes(same, originals['emotion.bin'].subarray(1, 3));
      assert.equal(other.status, 200);
      assertBytes(other, originals['emotion.bin']);
    });

    test('answers HEAD with the headers alone', async () => {
      const [head, whole] = await ask(['/models/large.bin', { method: 'HEAD', headers: { range: 'bytes=0-1' } }], ['/models/large.bin']);
      assert.deepEqual([head.status, head.headers, head.bytes], [200, whole.headers, 0]);
    });

    test('leaves to the network what the archive does not have, and what is no request for a file', async () => {
      const [other, missing, posted, folder, malformed] = await ask(
        ['/models/other.txt'],
        ['/models/missing.bin'],
        ['/models/emotion.json', { method: 'POST' }],
        ['/models/'],
        ['/models/%zz'],
      );
      assert.equal(other.text, 'from the network');
      for (const { status } of [missing, folder, malformed]) assert.equal(status, 404);
      for (const { headers } of [missing, posted, folder, malformed]) assert.ok('content-security-policy' in headers);
    });

    test('takes the archive of the longest prefix', async () => {
      assert.equal((await ask(['/models/inner/one.txt']))[0].text, 'one');
    });

    test('says what is wrong, and tries again', async () => {
      const [gone, torn] = await ask(['/gone/one.txt'], ['/torn/emotion.bin']);
      assert.equal(gone.status, 502);
      assert.match(gone.text, /^http:.*\/gone\.mcwc: .*404.*\(io\)\n$/);
      assert.equal(torn.status, 502);
      assert.match(torn.text, /\/torn\.mcwc: .*\(incomplete\)\n$/);
      site.unreachable.add('/late.mcwc');
      const [early] = await ask(['/late/one.txt']);
      assert.equal(early.status, 502);
      site.unreachable.delete('/late.mcwc');
      const [late] = await ask(['/late/one.txt']);
      assert.equal(late.text, 'one');
      // With the header, and without what follows it.
      const archive = await readFile(join(site.public, 'models.mcwc'));
      const path = join(site.public, 'half.mcwc');
      await writeFile(path, archive.subarray(0, archive.length / 2));
      const [half] = await ask(['/half/large.bin', { headers: { range: 'bytes=-9' } }]);
      assert.equal(half.status, 502);
      assert.match(half.text, /\(incomplete\)\n$/);
      await writeFile(path, archive);
      const [whole] = await ask(['/half/large.bin', { headers: { range: 'bytes=-9' } }]);
      assertBytes(whole, originals['large.bin'].subarray(-9));
    });

    test('never passes on what is damaged', async () => {
      const [whole, start, bad, head] = await ask(
        ['/hurt/large.bin'],
        ['/hurt/large.bin', { headers: { range: 'bytes=0-9' } }],
        ['/hurt/large.bin', { headers: { range: `bytes=${DAMAGED}-${DAMAGED + 9}` } }],
        ['/hurt/large.bin', { method: 'HEAD' }],
      );
      assert.deepEqual([whole.status, whole.error], [200, 'TypeError']);
      assert.equal(start.status, 206);
      assertBytes(start, originals['large.bin'].subarray(0, 10));
      assert.equal(bad.status, 502);
      assert.match(bad.text, /\(checksum\)\n$/);
      assert.equal(head.status, 200);
    });

    test('has what it keeps after the browser has stopped it, without a server', async () => {
      site.unreachable.delete('/kept.mcwc');
      assert.equal((await ask(['/kept/one.txt']))[0].text, 'one');
      await visit.run(async () => {
        const isKept = async () => (await archivesKept()).some(({ urls, complete }) => complete && urls.some((url) => url.endsWith('/kept.mcwc')));
        while (!(await isKept())) await new Promise((resolve) => setTimeout(resolve, 50));
      });
      await visit.stopServiceWorkers();
      site.unreachable.add('/kept.mcwc');
      assert.equal((await ask(['/kept/one.txt']))[0].text, 'one');
    });

    test('lets TensorFlow.js load a model by its address', async () => {
      const [served, original] = await visit.run(async () => {
        const input = tf.tensor(Float32Array.from({ length: 64 * 64 }, (_, index) => (index % 251) / 251), [1, 64, 64, 1]);
        const predict = async (url) => {
          const outputs = [(await loadGraphModel(url)).predict(input)].flat();
          return Promise.all(outputs.map(async (output) => [...(await output.data())]));
        };
        return [await predict('/models/emotion.json'), await predict('/models-original/emotion.json')];
      });
      assert.deepEqual(served, original);
    });
  });
}
