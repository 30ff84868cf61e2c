// A cache that is damaged, full, missing or half written: right weights all the same, and a cache that is right afterwards.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  INSIDE,
  PREAMBLE_BYTES,
  archive,
  context,
  damage,
  hashes,
  held,
  integrityOf,
  newPage,
  origin,
  sent,
  served,
  untilHeld,
  useCache,
  visit,
  visited,
  withoutBoth,
} from './common/cache.mjs';
import { FAULT_NAMES, FaultyFile, randomOf } from './common/faults.mjs';

/** Of pages, at random moments. */
const CLOSINGS = 8;

function slowWrites() {
  const { prototype } = FileSystemFileHandle;
  const { createWritable } = prototype;
  prototype.createWritable = async function () {
    await new Promise((resolve) => setTimeout(resolve, 2000));
    return createWritable.call(this);
  };
}

/** So that what is written is not there yet when it is known who fetches what is missing. */
function slowToWriteAndToLead() {
  const { createWritable } = FileSystemFileHandle.prototype;
  FileSystemFileHandle.prototype.createWritable = async function () {
    await new Promise((resolve) => setTimeout(resolve, 1000));
    return createWritable.call(this);
  };
  const { request } = LockManager.prototype;
  LockManager.prototype.request = async function (name, ...rest) {
    if (name.endsWith('/lead')) await new Promise((resolve) => setTimeout(resolve, 300));
    return request.call(this, name, ...rest);
  };
}

/** Calls a function for the name of each file of the archive but that which says that it is complete. */
function onBlocks(page, change) {
  const each = async ([integrity, change]) => {
    const root = await navigator.storage.getDirectory();
    const cache = await (await root.getDirectoryHandle('mcwc')).getDirectoryHandle('default');
    const folder = await cache.getDirectoryHandle(integrity);
    const names = (await Array.fromAsync(folder.keys())).filter((name) => !name.startsWith('complete'));
    for (const name of names) await change(folder, name);
  };
  return page.evaluate(`(${each})([${JSON.stringify(integrityOf(archive))}, ${change}])`);
}

/** Names and lengths of the archive's files. */
function filesOf(page) {
  return page.evaluate(async (integrity) => {
    const root = await navigator.storage.getDirectory();
    const cache = await (await root.getDirectoryHandle('mcwc')).getDirectoryHandle('default');
    const files = [];
    const folder = await cache.getDirectoryHandle(integrity).catch(() => undefined);
    if (folder) for await (const [name, file] of folder.entries()) files.push([name, (await file.getFile()).size]);
    return files;
  }, integrityOf(archive));
}

describe('Faults of the cache', () => {
  useCache();

  test('a damaged chunk is fetched again alone, once for all', async () => {
    const page = await visited();
    await damage(page, INSIDE);
    const repaired = await visit(page);
    assert.deepEqual(repaired.hashes, hashes);
    assert.equal(repaired.sent.requests, 2);
    assert(repaired.sent.bytes < archive.length / 6, `${repaired.sent.bytes} bytes for a chunk`);
    await untilHeld(page, archive.length);
    const again = await visit(page);
    assert.deepEqual(again.hashes, hashes);
    assert.equal(again.sent.bytes, PREAMBLE_BYTES);
  });

  test('what arrives damaged is replaced even while it is being written', async () => {
    const page = await newPage({ script: slowWrites });
    served.once = Buffer.from(archive);
    served.once[INSIDE] ^= 1;
    const cold = await visit(page);
    assert.deepEqual(cold.hashes, hashes);
    assert.equal(cold.sent.requests, 2);
    const warm = await visit(page);
    assert.deepEqual(warm.hashes, hashes);
    assert.equal(warm.sent.bytes, PREAMBLE_BYTES);
  });

  test('whatever servers do, weights are right or an error is typed, and nothing wrong is kept for ever', async () => {
    const page = await newPage();
    const outcomes = { right: 0, failed: 0 };
    for (let seed = 0; seed < 20; seed++) {
      const random = randomOf(seed);
      const faulty = Math.ceil(random() * 4);
      const next = (request) => (request < faulty ? FAULT_NAMES[Math.floor(random() * FAULT_NAMES.length)] : undefined);
      served.file = new FaultyFile(archive, { random, next });
      const outcome = await visit(page, { silenceMs: 300, retryMs: 1, retries: 3 }).catch((error) => error);
      if (outcome instanceof Error) assert.match(outcome.message, /McwcError/);
      else assert.deepEqual(outcome.hashes, hashes);
      outcomes[outcome instanceof Error ? 'failed' : 'right']++;
      if (random() < 0.6) await page.evaluate(async () => (await (await import('/pkg/cache.js')).caches()).delete());
      else if ((await held(page)).archives[0]?.complete) await damage(page, Math.floor(random() * archive.length));
    }
    assert(outcomes.right > 0 && outcomes.failed > 0, JSON.stringify(outcomes));
    served.file = undefined;
    for (let visits = 0; visits < 2; visits++) assert.deepEqual((await visit(page)).hashes, hashes);
    assert.equal((await visit(page)).sent.bytes, PREAMBLE_BYTES);
  });

  for (const [what, script] of Object.entries({ 'refused, and not kept for ever': undefined, 'not counted while they are removed': slowToWriteAndToLead })) {
    test(`bytes after the end are ${what}`, async () => {
      const page = await newPage({ script });
      served.once = Buffer.concat([archive, Buffer.alloc(100)]);
      await assert.rejects(visit(page), /bytes follow the last chunk/);
      assert.deepEqual((await visit(page)).hashes, hashes);
      while ((await held(page)).bytes !== archive.length) await new Promise((resolve) => setTimeout(resolve, 20));
    });
  }

  for (const [part, offset] of Object.entries({ preamble: 3, length: 13, hash: 20, header: 60 })) {
    test(`a damaged header is fetched again: its ${part}`, async () => {
      const page = await visited();
      await damage(page, offset);
      const { hashes: found, sent } = await visit(page, { integrity: integrityOf(archive) });
      assert.deepEqual(found, hashes);
      assert(sent.bytes < 10_000, `${sent.bytes} bytes for the header`);
      await untilHeld(page, archive.length);
    });
  }

  test('files that a crash has left empty, or that are gone, are fetched again', async () => {
    const page = await visited();
    await page.evaluate(async () => {
      const root = await navigator.storage.getDirectory();
      const folder = await (await root.getDirectoryHandle('mcwc')).getDirectoryHandle('default');
      for await (const [name, archive] of folder.entries()) {
        if (name === 'addresses') continue;
        const blocks = (await Array.fromAsync(archive.keys())).filter((name) => !name.startsWith('complete')).sort();
        await archive.removeEntry(blocks[0]);
        const stream = await (await archive.getFileHandle(blocks[1])).createWritable();
        await stream.close();
      }
    });
    for (let visits = 0; visits < 2; visits++) assert.deepEqual((await visit(page)).hashes, hashes);
    await untilHeld(page, archive.length);
    assert.equal((await visit(page)).sent.bytes, PREAMBLE_BYTES);
  });

  test('without room the download goes on in memory, and says so', async () => {
    const page = await newPage();
    const session = await context.newCDPSession(page);
    await session.send('Storage.overrideQuotaForOrigin', { origin, quotaSize: 3 << 20 });
    const { hashes: found, cache, cacheReason, sent } = await visit(page);
    assert.deepEqual(found, hashes);
    assert.equal(cache, 'memory');
    assert.match(cacheReason, /Quota/);
    assert.equal(sent.bytes, archive.length);
    assert.deepEqual((await visit(page)).hashes, hashes);
  });

  test('servers that ignore ranges are asked for everything that is not kept', async () => {
    served.ignoresRanges = true;
    const page = await visited();
    const warm = await visit(page);
    assert.deepEqual(warm.hashes, hashes);
    assert.equal(warm.sent.requests, 1);
  });

  /** What goes wrong with files of the cache. */
  const LOSSES = {
    'a byte of one is damaged': (page) => damage(page, INSIDE),
    'all but the first are gone': (page) => onBlocks(page, async (folder, name) => name.startsWith('0-') || folder.removeEntry(name)),
    'all are empty': (page) =>
      onBlocks(page, async (folder, name) => (await (await folder.getFileHandle(name)).createWritable()).close()),
  };

  for (const [loss, lose] of Object.entries(LOSSES)) {
    test(`servers that ignore ranges are asked for everything once more: ${loss}`, async () => {
      served.ignoresRanges = true;
      const page = await visited();
      await lose(page);
      const repaired = await visit(page);
      assert.deepEqual(repaired.hashes, hashes);
      // Each that reads at the same time tries to have its bytes alone.
      assert(repaired.sent.requests <= 6, `${repaired.sent.requests} requests`);
      await untilHeld(page, archive.length);
      const warm = await visit(page);
      assert.deepEqual(warm.hashes, hashes);
      assert.equal(warm.sent.requests, 1);
    });

    test(`what cannot be had again is fetched at the next visit: ${loss}`, async () => {
      served.ignoresRanges = true;
      const page = await visited();
      await lose(page);
      served.failure = 503;
      const pinned = { retries: 0, integrity: integrityOf(archive) };
      await assert.rejects(visit(page, pinned), /checksum|cache cannot be read|HTTP 503/);
      served.failure = undefined;
      assert.deepEqual((await visit(page, pinned)).hashes, hashes);
    });
  }

  test('pages that are closed while they write leave nothing that counts and is not whole', async () => {
    const random = randomOf(1);
    const watcher = await newPage();
    served.ignoresRanges = true;
    const started = performance.now();
    await visit(watcher);
    const longestMs = performance.now() - started;
    for (let closing = 0; closing < CLOSINGS; closing++) {
      // The other times, the file that says that all is there outlives what it vouches for.
      if (closing % 2 > 0) await LOSSES['all but the first are gone'](watcher);
      else await watcher.evaluate(async () => (await (await import('/pkg/cache.js')).caches()).delete());
      const page = await newPage();
      const visiting = visit(page).catch(() => {});
      await new Promise((resolve) => setTimeout(resolve, random() * longestMs));
      await page.close();
      await visiting;
      const files = await filesOf(watcher);
      const isComplete = files.some(([name]) => name.startsWith('complete'));
      for (const [name, bytes] of files) {
        const [, start, end] = /^(\d+)-(\d+)$/.exec(name) ?? [];
        if (end === undefined) continue;
        assert([isComplete ? undefined : 0, end - start].includes(bytes), `${name} has ${bytes} bytes, complete: ${isComplete}`);
      }
      assert.deepEqual((await visit(watcher)).hashes, hashes);
    }
  });

  test('where nothing can be kept, memory does, and says so', async () => {
    const insecure = await visit(await newPage({ host: 'insecure.test' }));
    const neither = await visit(await newPage({ script: withoutBoth }));
    for (const { hashes: found, cache } of [insecure, neither]) {
      assert.deepEqual(found, hashes);
      assert.equal(cache, 'memory');
    }
    assert.match(insecure.cacheReason, /insecure context/);
    assert.match(neither.cacheReason, /nothing can be kept/);
  });
});
