// When compressed bytes are let go, and what it takes to have them again.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { FaultyFile } from './common/faults.mjs';
import { bases, folder, handlers, places, writeLarge, writeVectors } from './common/package.mjs';

const OPTIONS = { backend: 'cpu', workers: 0, retryMs: 1 };
/** Frames predicted from others, scattered elements, and raw chunks that many tensors share. */
const VECTORS = ['predicted.mcwc', 'predicted-planes.mcwc', 'scattered-and-transformed.mcwc', 'every-kind-5-bits.mcwc', 'layers-apart.mcwc', 'delta-of-delta.mcwc'];
const { run: inNode } = places.Node;

describe('Compressed bytes', () => {
  let large;

  before(async () => {
    await writeLarge();
    await writeVectors();
    large = await readFile(join(folder, 'large.mcwc'));
  });

  test('stay, unless they are not to be kept', async () => {
    const file = new FaultyFile(large);
    const { wrong, held, again } = await reading(file, {});
    assert.deepEqual({ wrong, again }, { wrong: [], again: [] });
    assert(held.every((bytes) => bytes === large.length), held.join());
    assert.equal(file.requests.length, 1);
  });

  test('are dropped tensor by tensor, and fetched again alone', async () => {
    const file = new FaultyFile(large);
    const { wrong, held, again, sentBytes } = await reading(file, { keep: false });
    assert.deepEqual({ wrong, again }, { wrong: [], again: [] });
    assert(held.every((bytes, index) => index === 0 || bytes < held[index - 1]), held.join());
    assert(held.at(-1) < large.length / 8, held.join());
    // Everything once, and each tensor once more.
    assert(sentBytes > 1.9 * large.length && sentBytes <= 2 * large.length, `${sentBytes} of ${large.length}`);
  });

  test('are dropped tensor by tensor where only what is asked for is fetched, unless they are to be kept', async () => {
    const dropped = new FaultyFile(large);
    const { wrong, held, sentBytes } = await reading(dropped, { lazy: true });
    assert.deepEqual(wrong, []);
    assert(held.every((bytes) => bytes < large.length / 8), held.join());
    const kept = new FaultyFile(large);
    const { wrong: ofKept, sentBytes: sentOnce } = await reading(kept, { lazy: true, keep: true });
    assert.deepEqual(ofKept, []);
    assert(sentOnce <= large.length && sentBytes > 1.9 * large.length, `${sentOnce} and ${sentBytes} of ${large.length}`);
  });

  test('come again from a server that knows no ranges, all of them', async () => {
    for (const lazy of [true, false]) {
      const { wrong, again } = await reading(new FaultyFile(large, { ranges: false }), { lazy, keep: false });
      assert.deepEqual({ wrong, again }, { wrong: [], again: [] });
    }
  });

  test('of a stream cannot be had again, and stay where that frees no memory', async () => {
    const scenario = async ({ entry, bytes, options }) => {
      const { open } = await import(entry);
      const outcomes = {};
      for (const [kind, source] of Object.entries({ stream: new Blob([bytes]).stream(), bytes, response: new Response(bytes) })) {
        const archive = await open(source, { ...options, keep: false });
        const outcome = () => archive.tensor('layer3').then(() => 'decoded', ({ code }) => code);
        outcomes[kind] = [await outcome(), await outcome()];
        archive.close();
      }
      return outcomes;
    };
    const once = ['decoded', 'argument'];
    assert.deepEqual(await inNode(scenario, { bytes: large, options: OPTIONS }), { stream: once, bytes: ['decoded', 'decoded'], response: once });
  });

  for (const order of ['in order', 'from the last', 'from the middle']) {
    test(`are fetched once, whatever is predicted from them, ${order}`, async () => {
      for (const path of VECTORS) {
        const bytes = await readFile(join(folder, path));
        const file = new FaultyFile(bytes);
        const { wrong, sentBytes, rest } = await reading(file, { lazy: true }, { path, order, twice: false });
        assert.deepEqual(wrong, [], path);
        assert(sentBytes <= bytes.length, `${path}: ${sentBytes} of ${bytes.length}`);
        assert.equal(rest, 32 + bytes.readUInt32LE(12), path);
      }
    });
  }
});

/** Reads every tensor once or twice, and compares it with what an archive that keeps its bytes gives. */
async function reading(file, options, { path = 'large.mcwc', order = 'in order', twice = true } = {}) {
  const scenario = async ({ entry, base, path, bases, options, order, twice, sent }) => {
    const { open } = await import(entry);
    const below = [];
    for (const path of bases) below.push(await open(`${base}/${path}`, { ...options, lazy: false, keep: true, base: below.at(-1) }));
    const kept = await open(`${base}/${path}`, { ...options, lazy: false, keep: true, base: below.at(-1) });
    const archive = await open(`${base}/served/${path}`, { ...options, base: below.at(-1) });
    if (!options.lazy) await archive.downloaded;
    const names = kept.tensors.map(({ name }) => name);
    if (order === 'from the last') names.reverse();
    if (order === 'from the middle') names.push(...names.splice(0, names.length >> 1));
    const isWrong = async (name) => {
      const [ours, theirs] = await Promise.all([archive, kept].map(async (archive) => (await archive.tensor(name, { pass: 'final' })).data));
      return ours.length !== theirs.length || !ours.every((value, index) => Object.is(value, theirs[index]));
    };
    const [wrong, held, again] = [[], [], []];
    for (const name of names) {
      if (await isWrong(name)) wrong.push(name);
      held.push(archive.chain[0].source.heldBytes);
    }
    if (twice) for (const name of names) if (await isWrong(name)) again.push(name);
    const sentBytes = sent();
    // What lies between the tensors, too.
    for (const { name } of archive.files) await archive.file(name).bytes();
    const rest = archive.chain[0].source.heldBytes;
    [archive, kept, ...below.reverse()].forEach((opened) => opened.close());
    return { wrong, held, again, sentBytes, rest };
  };
  handlers.set(`/served/${path}`, (request, response) => file.handle(request, response));
  try {
    return await inNode(scenario, { path, bases: bases[path] ?? [], options: { ...OPTIONS, ...options }, order, twice, sent: () => file.sentBytes });
  } finally {
    handlers.delete(`/served/${path}`);
  }
}
