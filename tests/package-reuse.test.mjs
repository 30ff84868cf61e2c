// Weights in memory that is used again, in the packed package, in Chromium and in Node.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { LARGE, places, small, writeLarge } from './common/package.mjs';

describe('Memory used again', () => {
  before(writeLarge);

  for (const [place, { run }] of Object.entries(places)) {
    describe(place, () => {
      for (const workers of [0, 1, 2]) {
        test(`gives every tensor in turn, in the memory of two, with ${workers} workers`, async () => {
          const scenario = async ({ entry, base, workers }) => {
            const { open } = await import(entry);
            const archive = await open(`${base}/large.mcwc`, { backend: 'cpu', workers });
            const restored = new Uint8Array(await (await fetch(`${base}/large-restored/large.safetensors`)).arrayBuffer());
            const start = 8 + Number(new DataView(restored.buffer).getBigUint64(0, true));
            const given = [];
            const wrong = [];
            for await (const { name, data } of archive.each()) {
              const { bytes } = archive.get(name);
              const ours = new Uint8Array(data.buffer, 0, data.byteLength);
              const theirs = restored.subarray(start + given.length * bytes, start + (given.length + 1) * bytes);
              if (ours.length !== bytes || !ours.every((byte, at) => byte === theirs[at])) wrong.push(name);
              given.push({ name, buffer: data.buffer });
            }
            archive.close();
            return { names: given.map(({ name }) => name), wrong, memories: given.filter(({ buffer }) => buffer.byteLength > 0).length };
          };
          const names = Array.from({ length: LARGE.tensors }, (_, index) => `layer${index}`);
          assert.deepEqual(await run(scenario, { workers }), { names, wrong: [], memories: 2 });
        });
      }

      test('gives tensors of all sizes, or those of the names given, in their order', async () => {
        const scenario = async ({ entry, base }) => {
          const { open } = await import(entry);
          const archive = await open(`${base}/small.mcwc`, { backend: 'cpu' });
          const orders = [undefined, archive.tensors.map(({ name }) => name).reverse(), ['scalar', 'wide', 'scalar'], new Set(['bias']), []];
          const all = [];
          for (const names of orders) {
            const given = [];
            for await (const { name, data, dtype, shape } of archive.each(names)) {
              const { data: ours } = await archive.tensor(name);
              const isRight = data.length === ours.length && data.every((value, index) => Object.is(value, ours[index]));
              given.push(isRight && dtype === archive.get(name).dtype && shape.length === archive.get(name).shape.length ? name : `wrong: ${name}`);
            }
            all.push(given);
          }
          archive.close();
          return { all, names: archive.tensors.map(({ name }) => name) };
        };
        const { all, names } = await run(scenario);
        assert.deepEqual(names.toSorted(), Object.keys(small.tensors).sort());
        assert.deepEqual(all, [names, names.toReversed(), ['scalar', 'wide', 'scalar'], ['bias'], []]);
      });

      test('fails when it is the turn of what is damaged, and can be left early', async () => {
        const scenario = async ({ entry, base, damaged, tensors }) => {
          const { open } = await import(entry);
          const bytes = new Uint8Array(await (await fetch(`${base}/large.mcwc`)).arrayBuffer());
          bytes[Math.floor((damaged + 0.5) * (bytes.length / tensors))] ^= 1;
          const archive = await open(bytes, { backend: 'cpu' });
          const given = [];
          let code;
          try {
            for await (const { name } of archive.each()) given.push(name);
          } catch (error) {
            ({ code } = error);
          }
          let first;
          for await (const { name } of archive.each()) {
            first = name;
            break;
          }
          const codeOf = (call) => {
            try {
              return call() && 'none';
            } catch ({ code }) {
              return code;
            }
          };
          const unknown = codeOf(() => archive.each(['none']));
          archive.close();
          return { given: given.length, code, first, unknown, closed: codeOf(() => archive.each()) };
        };
        const damaged = 6;
        const expected = { given: damaged, code: 'checksum', first: 'layer0', unknown: 'argument', closed: 'closed' };
        assert.deepEqual(await run(scenario, { damaged, tensors: LARGE.tensors }), expected);
      });

      test('reads files into memory that is there, whole and in part', async () => {
        const scenario = async ({ entry, base }) => {
          const { open } = await import(entry);
          const archive = await open(`${base}/large.mcwc`, { backend: 'cpu' });
          const file = archive.file('large.safetensors');
          const whole = new Uint8Array(await (await fetch(`${base}/large-restored/large.safetensors`)).arrayBuffer());
          const { buffer } = new WebAssembly.Memory({ initial: Math.ceil(file.size / 65536) + 1 });
          const wrong = [];
          for (const [start, end] of [[0, file.size], [0, 0], [file.size, file.size], [5, 6], [1001, 9_000_003], [file.size - 7, file.size]]) {
            const target = new Uint8Array(buffer, 3, end - start).fill(0xa5);
            const around = new Uint8Array(buffer);
            around[2] = around[3 + target.length] = 77;
            await file.read(target, start);
            const isRight = target.every((byte, at) => byte === whole[start + at]) && around[2] === 77 && around[3 + target.length] === 77;
            if (!isRight) wrong.push([start, end]);
          }
          const { code } = await file.read(new Uint8Array(2), file.size - 1).catch((error) => error);
          archive.close();
          return { wrong, code };
        };
        assert.deepEqual(await run(scenario), { wrong: [], code: 'argument' });
      });

      test('streams into the memory that readers bring, takes little of its own, and no more for many readers at once', async () => {
        const scenario = async ({ entry, base }) => {
          const { open } = await import(entry);
          const archive = await open(`${base}/large.mcwc`, { backend: 'cpu', workers: 0 });
          const file = archive.file('large.safetensors');
          const whole = new Uint8Array(await (await fetch(`${base}/large-restored/large.safetensors`)).arrayBuffer());
          const wrong = [];
          const compare = (bytes, at) => bytes.every((byte, index) => byte === whole[at + index]) || wrong.push(at);
          const stream = async (start, end, mode) => {
            const reader = file.stream(start, end).getReader({ mode });
            let at = start;
            for (let view = new Uint8Array(300_001); ; ) {
              const { value, done } = await (mode ? reader.read(view) : reader.read());
              if (value) compare(value, at);
              at += value?.length ?? 0;
              if (done) return at === end || wrong.push([start, at]);
              view = new Uint8Array(mode ? value.buffer : 0);
            }
          };
          const read = async (start) => {
            const target = new Uint8Array(5_000_000);
            await file.read(target, start);
            compare(target, start);
          };
          const starts = [0, 7, 4_000_001, 9_999_999];
          const Original = ArrayBuffer;
          let made = 0;
          const construct = (target, [bytes]) => (made += bytes >= 1 << 20, new target(bytes));
          globalThis.ArrayBuffer = new Proxy(Original, { construct });
          for (const [start, end] of [[0, file.size], [1001, 9_000_003], [0, 0], [file.size - 7, file.size]]) await stream(start, end, 'byob');
          const inTurn = made;
          await Promise.all(starts.flatMap((start) => [read(start), stream(start, start + 5_000_000, 'byob'), stream(start, start + 5_000_000)]));
          made = 0;
          await Promise.all(starts.map(read));
          globalThis.ArrayBuffer = Original;
          const change = file.stream(5);
          const own = change.getReader({ mode: 'byob' });
          await own.read(new Uint8Array(100));
          own.releaseLock();
          let at = 105;
          for await (const part of change) {
            compare(part, at);
            at += part.length;
          }
          archive.close();
          return { wrong, rest: file.size - at, inTurn, atOnce: made };
        };
        const { atOnce, ...result } = await run(scenario);
        // One is read while the next is decoded, and the first is too short for others.
        assert.deepEqual(result, { wrong: [], rest: 0, inTurn: 3 });
        // Four begin with two parts each, and there is memory for two.
        assert.ok(atOnce >= 6, `memory made ${atOnce} times`);
      });
    });
  }
});
