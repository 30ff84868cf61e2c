// How the packed package goes about it, in Chromium and in Node: progress, aborts, damage, memory and pauses.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { LARGE, places, small, writeLarge } from './common/package.mjs';

const MEMORY_BYTES_MAX = 16 << 20;
/** Of the thread that decodes a tensor of LARGE, one after each step. */
const PAUSES_MIN = 5;

describe('Flow', () => {
  before(writeLarge);

  for (const [place, { run }] of Object.entries(places)) {
    describe(place, () => {
      test('opens before the download ends, reports progress, and decodes what has arrived', async () => {
        const scenario = async ({ entry, base, stopAt, name }) => {
          const { open } = await import(entry);
          const progress = [];
          const onProgress = ({ loaded, total }) => progress.push([loaded, total]);
          const archive = await open(`${base}/small.mcwc?stopAt=${stopAt}`, { backend: 'cpu', onProgress });
          const first = await archive.tensor(name);
          const pending = archive.file('small.safetensors').bytes().catch((error) => error.code);
          const early = await Promise.race([archive.downloaded.then(() => 'all'), Promise.resolve('part')]);
          archive.close();
          const later = await archive.tensor(name).catch((error) => error.code);
          return { progress, first: first.data.length, early, pending: await pending, later };
        };
        const { archive, tensors } = small;
        // Chunks lie in the order of the files, so that this one is not among the last.
        const name = 'wide';
        const result = await run(scenario, { stopAt: archive.length - 100, name });
        assert.equal(result.first * 4, tensors[name].bytes.length);
        assert.equal(result.early, 'part');
        assert.equal(result.pending, 'closed');
        assert.equal(result.later, 'closed');
        assert.deepEqual(result.progress.at(-1), [archive.length - 100, archive.length]);
        const loaded = result.progress.map(([bytes]) => bytes);
        assert.deepEqual(loaded, loaded.toSorted((a, b) => a - b));
      });

      test('aborts a download, an opening and a tensor', async () => {
        const scenario = async ({ entry, base, stopAt }) => {
          const { open } = await import(entry);
          const name = (promise) => promise.then(() => 'none', (error) => error.name);
          const before = new AbortController();
          before.abort();
          const opening = new AbortController();
          const early = name(open(`${base}/small.mcwc?stopAt=20`, { signal: opening.signal, backend: 'cpu' }));
          setTimeout(() => opening.abort(), 50);
          const during = new AbortController();
          const archive = await open(`${base}/small.mcwc?stopAt=${stopAt}`, { signal: during.signal, backend: 'cpu' });
          const one = new AbortController();
          const tensor = name(archive.tensor('wide', { signal: one.signal }));
          setTimeout(() => one.abort(), 20);
          const names = [
            await name(open(`${base}/small.mcwc`, { signal: before.signal })),
            await early,
            await tensor,
          ];
          const all = name(archive.file('small.safetensors').bytes());
          during.abort(new RangeError('enough'));
          names.push(await all, await name(archive.downloaded), await name(archive.tensor('wide')));
          return names;
        };
        // The header and a little more: whatever is read waits.
        const stopAt = 32 + small.archive.readUInt32LE(12) + 10;
        const names = await run(scenario, { stopAt });
        assert.deepEqual(names, ['AbortError', 'AbortError', 'AbortError', 'RangeError', 'RangeError', 'RangeError']);
      });

      test('goes on after a tensor was aborted', async () => {
        const scenario = async ({ entry, base }) => {
          const { open } = await import(entry);
          const archive = await open(`${base}/large.mcwc`, { backend: 'cpu', workers: 1 });
          const outcomes = archive.tensors.map(({ name }, index) => {
            const controller = new AbortController();
            if (index % 2 === 0) setTimeout(() => controller.abort(), index);
            return archive.tensor(name, { signal: controller.signal }).then(({ data }) => data.length, (error) => error.name);
          });
          const results = await Promise.all(outcomes);
          archive.close();
          return results.filter((_, index) => index % 2 === 1);
        };
        assert.deepEqual(await run(scenario), Array(LARGE.tensors / 2).fill(LARGE.side ** 2));
      });

      test('decodes the other tensors of one worker when some are aborted or damaged', async () => {
        const damaged = 6;
        const { tensors } = LARGE;
        const scenario = async ({ entry, base, damaged, tensors }) => {
          const { open } = await import(entry);
          const bytes = new Uint8Array(await (await fetch(`${base}/large.mcwc`)).arrayBuffer());
          const expected = new Uint8Array(await (await fetch(`${base}/large-restored/large.safetensors`)).arrayBuffer());
          const start = 8 + Number(new DataView(expected.buffer).getBigUint64(0, true));
          bytes[Math.floor((damaged + 0.5) * (bytes.length / tensors))] ^= 1;
          const archive = await open(bytes, { backend: 'cpu', workers: 1 });
          const decode = async ({ name, bytes }, index) => {
            const controller = new AbortController();
            const tensor = archive.tensor(name, { signal: controller.signal });
            if (index % 4 === 1) queueMicrotask(() => controller.abort());
            if (index % 4 === 3) setTimeout(() => controller.abort(), index);
            const { data } = await tensor;
            const ours = new Uint8Array(data.buffer);
            const theirs = expected.subarray(start + index * bytes, start + (index + 1) * bytes);
            return ours.length === bytes && ours.every((byte, at) => byte === theirs[at]) ? 'equal' : 'different';
          };
          const outcomes = [];
          for (let round = 0; round < 3; round++) {
            const outcome = ({ name, code }) => (name === 'AbortError' ? name : code);
            outcomes.push(await Promise.all(archive.tensors.map((tensor, index) => decode(tensor, index).catch(outcome))));
          }
          archive.close();
          return outcomes;
        };
        for (const outcomes of await run(scenario, { damaged, tensors })) {
          for (const [index, outcome] of outcomes.entries()) {
            const decoded = index === damaged ? 'checksum' : 'equal';
            const expected = [[decoded], ['AbortError'], [decoded], [decoded, 'AbortError']][index % 4];
            assert(expected.includes(outcome), outcomes.join());
          }
        }
      });

      for (const workers of [0, 2]) {
        test(`decodes tensor by tensor into one buffer, in bounded memory, without long tasks, with ${workers} workers`, async () => {
          const scenario = async ({ entry, base, workers }) => {
            const { open } = await import(entry);
            const archive = await open(await (await fetch(`${base}/large.mcwc`)).arrayBuffer(), { backend: 'cpu', workers });
            const expected = new Uint8Array(await (await fetch(`${base}/large-restored/large.safetensors`)).arrayBuffer());
            const start = 8 + Number(new DataView(expected.buffer).getBigUint64(0, true));
            // To what decodes on this thread, everything takes long; it lets others have their turn by one or the other.
            const { now } = performance;
            const { scheduler, MessageChannel } = globalThis;
            let [time, pauses] = [0, 0];
            performance.now = () => (time += 1000);
            globalThis.MessageChannel = class extends MessageChannel {
              constructor() {
                super();
                pauses++;
              }
            };
            if (scheduler) {
              const pause = scheduler.yield.bind(scheduler);
              scheduler.yield = () => (pauses++, pause());
            }
            let fewest = Infinity;
            let equal = 0;
            const lengths = new Set();
            let buffer = new ArrayBuffer(5 << 20);
            for (const { name } of archive.tensors) {
              const given = buffer;
              pauses = 0;
              const { data } = await archive.tensor(name, { buffer });
              fewest = Math.min(fewest, pauses);
              lengths.add([given.byteLength, data.buffer.byteLength, data.byteLength].join());
              buffer = data.buffer;
            }
            Object.assign(globalThis, { MessageChannel });
            performance.now = now;
            for (const [index, { name, bytes }] of archive.tensors.entries()) {
              const { data } = await archive.tensor(name, { buffer });
              const theirs = expected.subarray(start + index * bytes, start + (index + 1) * bytes);
              const ours = new Uint8Array(data.buffer, 0, bytes);
              equal += Number(ours.every((byte, at) => byte === theirs[at]));
              buffer = data.buffer;
            }
            const { memoryBytes } = archive;
            archive.close();
            return { fewest, equal, memoryBytes, lengths: [...lengths], shared: typeof SharedArrayBuffer };
          };
          const result = await run(scenario, { workers });
          assert.equal(result.equal, LARGE.tensors);
          assert.deepEqual(result.lengths, [`0,${5 << 20},${4 * LARGE.side ** 2}`]);
          assert(result.memoryBytes > 0 && result.memoryBytes <= MEMORY_BYTES_MAX, `${result.memoryBytes} bytes of wasm memory`);
          assert(workers > 0 || result.fewest >= PAUSES_MIN, `${result.fewest} pauses`);
          if (place === 'Chromium') assert.equal(result.shared, 'undefined');
        });
      }
    });
  }
});
