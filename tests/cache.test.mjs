// What `open(url, { cache })` keeps, in Chromium: how much a server is asked for, what is kept where, and that the weights are right.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  INSIDE,
  PATH,
  PREAMBLE_BYTES,
  archive,
  damage,
  hashes,
  held,
  integrityOf,
  newPage,
  openOnly,
  origin,
  other,
  otherHashes,
  readAll,
  sent,
  served,
  untilHeld,
  useCache,
  visit,
  visited,
  withoutBoth,
} from './common/cache.mjs';

const withoutOpfs = () => delete FileSystemFileHandle.prototype.createWritable;

const SHELVES = { opfs: undefined, 'cache-api': withoutOpfs };

describe('Cache', () => {
  useCache();

  for (const [cache, script] of Object.entries(SHELVES)) {
    describe(`In ${cache}`, () => {
      test('what is complete is not fetched again: only its preamble, or nothing with its integrity', async () => {
        const page = await newPage({ script });
        const cold = await visit(page);
        assert.deepEqual(cold.hashes, hashes);
        assert.equal(cold.cache, cache);
        assert.deepEqual(cold.sent, { requests: 1, bytes: archive.length });
        await untilHeld(page, archive.length);
        const next = await newPage({ script });
        const warm = await visit(next);
        assert.deepEqual(warm.hashes, hashes);
        assert.deepEqual(warm.sent, { requests: 1, bytes: PREAMBLE_BYTES });
        assert.deepEqual(new Set(warm.progress.map(({ from }) => from)), new Set(['cache']));
        const pinned = await visit(next, { integrity: integrityOf(archive) });
        assert.deepEqual(pinned.hashes, hashes);
        assert.deepEqual(pinned.sent, { requests: 0, bytes: 0 });
      });

      test('what had arrived when the page was reloaded is not fetched again', async () => {
        const page = await newPage({ script });
        served.stopAt = 3 << 20;
        await page.evaluate(openOnly, PATH);
        await untilHeld(page, served.stopAt);
        await page.reload();
        served.stopAt = undefined;
        const { hashes: found, sent, progress } = await visit(page);
        assert.deepEqual(found, hashes);
        assert.equal(sent.bytes, archive.length - (3 << 20) + PREAMBLE_BYTES);
        assert.equal(progress[0].from, 'cache');
      });
    });
  }

  test('a cache needs a name that can be one of a file', async () => {
    const page = await newPage();
    for (const cache of ['../other', 'a/b', 'a'.repeat(65)]) await assert.rejects(visit(page, { cache }), /letters, digits/);
  });

  test('of two tabs, one downloads', async () => {
    const pages = await Promise.all([newPage(), newPage()]);
    let goOn;
    Object.assign(served, { stopAt: 3 << 20, gate: new Promise((resolve) => (goOn = resolve)) });
    const visiting = pages.map((page) => page.evaluate(readAll, { options: {}, path: PATH }));
    const waits = async () => (await pages[0].evaluate(() => navigator.locks.query())).pending.some(({ name }) => name.endsWith('/lead'));
    while (!(await waits()) && sent.requests < 3) await new Promise((resolve) => setTimeout(resolve, 20));
    goOn();
    for (const { hashes: found } of await Promise.all(visiting)) assert.deepEqual(found, hashes);
    assert.equal(sent.bytes, archive.length + PREAMBLE_BYTES);
  });

  test('a tab goes on where another that was closed left off', async () => {
    const [first, second] = await Promise.all([newPage(), newPage()]);
    served.stopAt = 3 << 20;
    await first.evaluate(openOnly, PATH);
    await untilHeld(first, served.stopAt);
    const visiting = visit(second);
    served.stopAt = undefined;
    await untilHeld(second, 3 << 20);
    await first.close();
    assert.deepEqual((await visiting).hashes, hashes);
    assert.equal(sent.bytes, archive.length + PREAMBLE_BYTES);
  });

  test('a tab does not wait for another that has stalled', async () => {
    const [first, second] = await Promise.all([newPage(), newPage()]);
    served.stopAt = 3 << 20;
    await first.evaluate(openOnly, PATH);
    await untilHeld(first, served.stopAt);
    served.stopAt = undefined;
    assert.deepEqual((await visit(second, { silenceMs: 500 })).hashes, hashes);
  });

  test('another version at the address replaces the one that is kept', async () => {
    const page = await visited();
    served.body = other;
    const changed = await visit(page);
    assert.deepEqual(changed.hashes, otherHashes);
    await untilHeld(page, other.length);
    const { archives } = await held(page);
    assert.deepEqual(archives.map(({ integrity }) => integrity), [integrityOf(other)]);
  });

  test('a version that is in use is deleted later', async () => {
    const [page, user] = [await visited(), await newPage()];
    await user.evaluate(openOnly, PATH);
    served.body = other;
    await visit(page);
    const integrities = async () => (await held(page)).archives.map(({ integrity }) => integrity).sort();
    await untilHeld(page, archive.length + other.length);
    assert.deepEqual(await integrities(), [archive, other].map(integrityOf).sort());
    await user.close();
    served.body = archive;
    await visit(page);
    assert.deepEqual(await integrities(), [integrityOf(archive)]);
  });

  for (const failure of ['network', 503]) {
    test(`what is kept is used when there is no server: ${failure}`, async () => {
      const page = await visited();
      served.failure = failure;
      const { hashes: found, cacheReason } = await visit(page);
      assert.deepEqual(found, hashes);
      assert.match(cacheReason, /could not be reached/);
    });
  }

  test('without a server, what is complete is used rather than the beginning of what replaces it', async () => {
    const page = await visited();
    Object.assign(served, { body: other, stopAt: 3 << 20 });
    await page.evaluate(openOnly, PATH);
    await untilHeld(page, archive.length + (3 << 20));
    await page.reload();
    served.failure = 'network';
    assert.deepEqual((await visit(page)).hashes, hashes);
  });

  test('what the server refuses is refused', async () => {
    const page = await visited();
    served.failure = 404;
    await assert.rejects(visit(page), /HTTP 404/);
  });

  test('another origin need allow nothing but its answers to be read', async () => {
    const [page, path] = [await newPage(), `${origin.replace('localhost', '127.0.0.1')}${PATH}`];
    assert.deepEqual((await visit(page, {}, path)).hashes, hashes);
    await damage(page, INSIDE);
    const warm = await visit(page, {}, path);
    assert.deepEqual(warm.hashes, hashes);
    assert(warm.sent.bytes < archive.length / 5);
    assert.equal(served.preflights, undefined);
  });

  test('a lazy archive keeps what was asked for', async () => {
    const read = async ({ path, names }) => {
      const { open } = await import('/pkg/index.js');
      const archive = await open(path, { backend: 'cpu', cache: true, lazy: true });
      for (const name of names) await archive.tensor(name);
      archive.close();
    };
    const page = await newPage();
    await page.evaluate(read, { path: PATH, names: ['layer1', 'layer4'] });
    const cold = sent.bytes;
    assert(cold < archive.length / 2);
    await untilHeld(page, cold);
    await page.evaluate(read, { path: PATH, names: ['layer1', 'layer4'] });
    assert.equal(sent.bytes, cold + PREAMBLE_BYTES);
    const { hashes: found, sent: rest } = await visit(page);
    assert.deepEqual(found, hashes);
    assert.equal(rest.bytes, archive.length - cold + PREAMBLE_BYTES);
  });

  test('caches are filled ahead, listed and emptied', async () => {
    const page = await newPage();
    const call = (name, ...args) => page.evaluate(async ([name, args]) => (await import('/pkg/cache.js'))[name](...args), [name, args]);
    await call('prefetch', PATH, { cache: 'models' });
    const integrity = integrityOf(archive);
    const url = origin + PATH;
    const { archives, bytes, usage, quota, persisted } = await held(page);
    assert.deepEqual(archives, [{ cache: 'models', integrity, urls: [url], bytes: archive.length, complete: true }]);
    assert.equal(bytes, archive.length);
    assert(usage >= bytes && quota > usage);
    assert.equal(persisted, false);
    assert.equal((await visit(page, { cache: 'models', integrity })).sent.requests, 0);
    const remove = (filter) => page.evaluate(async (filter) => (await (await import('/pkg/cache.js')).caches()).delete(filter), filter);
    assert.equal(await remove({ cache: 'default' }), 0);
    assert.equal(await remove({ complete: false }), 0);
    assert.equal(await remove({ url: `${url}2` }), 0);
    assert.equal(await remove({ integrity: integrity.toUpperCase(), url: PATH }), archive.length);
    assert.deepEqual((await held(page)).archives, []);
    assert.equal((await visit(page, { cache: 'models' })).sent.bytes, archive.length);
  });

  test('prefetching rejects when it cannot keep', async () => {
    const page = await newPage({ script: withoutBoth });
    const prefetching = page.evaluate(async (path) => (await import('/pkg/cache.js')).prefetch(path), PATH);
    await assert.rejects(prefetching, /nothing can be kept/);
  });
});
