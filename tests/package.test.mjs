// What the packed package decodes and refuses, in Chromium and in Node: values are those of the native command.
import assert from 'node:assert/strict';
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { POLICY, assertEverything, bases, failureOf, folder, places, readEverything, small, vectors, writeVectors } from './common/package.mjs';
import { errors, rules } from './common/vectors.mjs';

const MEMORY_BYTES_MAX = 16 << 20;

for (const [place, { run, visit }] of Object.entries(places)) {
  describe(place, () => {
    before(writeVectors);

    const arrays = place === 'Node' && !('Float16Array' in globalThis) ? { f16: 'Uint16Array' } : {};
    const ON_CPU = { path: 'small.mcwc', options: { backend: 'cpu' } };
    const read = (argument) => run(readEverything, { ...ON_CPU, ...argument });

    for (const kind of ['string', 'URL', 'Request', 'Response', 'Blob', 'ArrayBuffer', 'view', 'stream']) {
      test(`decodes the bytes that the native command decodes, from a source of kind ${kind}`, async () => {
        await assertEverything(await read({ kind, streamed: kind === 'stream' }), arrays);
      });
    }

    for (const workers of [0, 1, 2]) {
      test(`decodes with ${workers} workers`, async () => {
        const result = await read({ options: { workers, backend: 'cpu', integrity: small.integrity }, streamed: true });
        await assertEverything(result, arrays);
        assert.equal(result.backend, 'cpu');
        assert.equal(result.backendReason, 'the CPU was asked for');
        assert(result.memoryBytes > 0 && result.memoryBytes <= MEMORY_BYTES_MAX, `${result.memoryBytes}`);
      });
    }

    test('decodes every valid vector', async () => {
      const { run, end } = await visit();
      for (const [path, files] of Object.entries(vectors)) {
        for (const streamed of [false, true]) {
          const read = await run(readEverything, { ...ON_CPU, path, bases: bases[path], streamed });
          assert.deepEqual(read.files, files, path);
        }
      }
      await end();
    });

    test('refuses every invalid vector', async () => {
      const scenario = async ({ entry, base, archives }) => {
        const { open } = await import(entry);
        const options = { backend: 'cpu', workers: 1 };
        const read = async ({ path, below, bytes }) => {
          const source = bytes ? Uint8Array.from(bytes) : `${base}/${path}`;
          const archive = await open(source, { ...options, base: below && `${base}/${below}` });
          for (const { name } of archive.files) await archive.file(name).bytes();
          for (const { name, file } of archive.tensors) await archive.tensor(name, { file });
        };
        const codes = [];
        for (const archive of archives) codes.push(await read(archive).then(() => 'ok', ({ code }) => code));
        return codes;
      };
      const invalid = errors();
      const files = invalid.map(({ name, base }) => ({ path: `invalid/${name}`, below: base }));
      const archives = [...files, ...rules().map(({ archive }) => ({ bytes: [...archive] }))];
      assert.deepEqual(await run(scenario, { archives }), [...invalid, ...rules()].map(({ code }) => code));
    });

    test('does not trust the length of an encoded body', async () => {
      await assertEverything(await read({ path: 'small.mcwc?gzip' }), arrays);
    });

    const failures = {
      magic: 'invalid',
      version: 'unsupported',
      flags: 'unsupported',
      header: 'checksum',
      chunk: 'checksum',
      'first chunk': 'checksum',
      short: 'incomplete',
      'short header': 'incomplete',
      'short preamble': 'incomplete',
      'another, short': 'invalid',
      long: 'invalid',
    };
    for (const [change, code] of Object.entries(failures)) {
      test(`refuses a changed archive (${change}) as ${code}`, async () => {
        const options = { backend: 'cpu', workers: 1 };
        assert.deepEqual(await run(failureOf, { change, options }), [code, code, code, code]);
      });
    }

    test('refuses another archive than the one asked for', async () => {
      const options = { backend: 'cpu', integrity: '0'.repeat(32) };
      assert.deepEqual(await run(failureOf, { options }), Array(4).fill('checksum'));
      const nonsense = { backend: 'cpu', integrity: 'sha256' };
      assert.deepEqual(await run(failureOf, { options: nonsense }), Array(4).fill('argument'));
    });

    test('reports a missing archive, tensor and range', async () => {
      const scenario = async ({ entry, base }) => {
        const { open } = await import(entry);
        const code = (promise) => promise.then(() => 'none', (error) => `${error.name} ${error.code}`);
        const archive = await open(`${base}/small.mcwc`, { backend: 'cpu' });
        const codes = [
          await code(open(`${base}/none.mcwc`)),
          await code(archive.tensor('none')),
          await code(archive.file('notes.txt').bytes(5, 4)),
          await code((async () => archive.file('none'))()),
          await code(archive.gpuTensor('wide')),
          await code(archive.tensor('wide', { buffer: new ArrayBuffer(8) })),
          await code(open(17)),
        ];
        archive.close();
        return codes;
      };
      const argument = 'McwcError argument';
      assert.deepEqual(await run(scenario), ['McwcError io', argument, argument, argument, 'McwcError gpu', argument, argument]);
    });

    test('finds a tensor by its own name within a file', async () => {
      const scenario = async ({ entry, base }) => {
        const { open } = await import(entry);
        const archive = await open(`${base}/twins.mcwc`, { backend: 'cpu' });
        const first = (promise) => promise.then(({ name, data }) => `${name} ${data[0]}`, ({ code, message }) => `${code}: ${message}`);
        const [det, rec] = archive.files.map(({ name }) => name);
        const found = [
          await first(archive.tensor('w', { file: det })),
          await first(archive.tensor('w', { file: rec })),
          await first(archive.tensor(`${rec}/w`)),
          await first(archive.tensor(`${rec}/w`, { file: rec })),
          await first(archive.tensor('box')),
          await first(archive.tensor('box', { file: det })),
          await first(archive.tensor('w')),
          await first(archive.tensor('box', { file: rec })),
          await first(archive.gpuTensor('box', { file: rec })),
        ];
        archive.close();
        return found;
      };
      const [det, rec] = ['det.safetensors', 'rec.safetensors'];
      assert.deepEqual(await run(scenario), [
        `${det}/w 1`,
        `${rec}/w 2`,
        `${rec}/w 2`,
        `${rec}/w 2`,
        'box 1',
        'box 1',
        'argument: the archive has no tensor named "w"',
        ...Array(2).fill(`argument: the archive has no tensor named "box" in "${rec}"`),
      ]);
    });

    test('reads ranges that cut through scattered and transformed tensors', async () => {
      const [path, name] = ['scattered-and-transformed.mcwc', 'frames.safetensors'];
      const scenario = async ({ entry, base, path, name }) => {
        const { open } = await import(entry);
        const archive = await open(`${base}/${path}`, { backend: 'cpu' });
        const whole = new Uint8Array(await (await fetch(`${base}/${path}-restored/${name}`)).arrayBuffer());
        const file = archive.file(name);
        const ranges = archive.tensors.flatMap(({ name, bytes }) => {
          const start = starts(whole)[name];
          const third = Math.floor(bytes / 3);
          return [
            [start - 3, start + 5],
            [start + third + 1, start + 2 * third],
            [start + third, Math.min(start + bytes + 999, whole.length)],
          ];
        });
        function starts(bytes) {
          const data = 8 + Number(new DataView(bytes.buffer).getBigUint64(0, true));
          const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, data)));
          return Object.fromEntries(Object.entries(header).map(([name, { data_offsets: [start] }]) => [name, data + start]));
        }
        const wrong = [];
        for (const [start, end] of ranges) {
          const found = await file.bytes(start, end);
          const same = found.length === end - start && found.every((byte, at) => byte === whole[start + at]);
          if (!same) wrong.push([start, end]);
        }
        archive.close();
        return { wrong, ranges: ranges.length };
      };
      assert.deepEqual(await run(scenario, { path, name }), { wrong: [], ranges: 3 * 19 });
    });

    test('reads ranges of a file, and no further than its reader', async () => {
      const scenario = async ({ entry, base, ranges }) => {
        const { open } = await import(entry);
        const archive = await open(`${base}/small.mcwc`, { backend: 'cpu' });
        const file = archive.file('small.safetensors');
        const whole = await file.bytes();
        const checks = [];
        for (const [start, end] of ranges) {
          const part = await file.bytes(start, end);
          const blob = new Uint8Array(await (await file.blob(start, end)).arrayBuffer());
          const same = (bytes) => bytes.length === end - start && bytes.every((byte, at) => byte === whole[start + at]);
          checks.push(same(part) && same(blob));
        }
        const reader = archive.file('notes.txt').stream().getReader({ mode: 'byob' });
        const { value } = await reader.read(new Uint8Array(6));
        await reader.cancel();
        const { size, name } = file;
        archive.close();
        return { checks, size, name, text: new TextDecoder().decode(value) };
      };
      const size = (await stat(join(folder, 'small.safetensors'))).size;
      const ranges = [[0, 0], [0, 1], [7, 4000], [1001, 200_003], [size - 1, size], [size, size], [0, size]];
      const result = await run(scenario, { ranges });
      assert.deepEqual(result, { checks: ranges.map(() => true), size, name: 'small.safetensors', text: 'exact\n' });
    });
  });
}

describe('Chromium only', () => {
  const { run } = places.Chromium;

  test('decodes on the page where a policy forbids workers, and says so', async () => {
    const policy = encodeURIComponent(`${POLICY}; worker-src 'none'`);
    const options = { backend: 'cpu', workers: 2 };
    const result = await run(readEverything, { path: 'small.mcwc', options }, { query: `?policy=${policy}` });
    await assertEverything(result);
    assert.match(result.backendReason, /on this thread, because no worker could be started/);
  });

  test('hashes in wasm where the context is not secure', async () => {
    const where = { host: 'insecure.test' };
    await assertEverything(await run(readEverything, { path: 'small.mcwc', options: { workers: 1 } }, where));
    assert.deepEqual(await run(failureOf, { change: 'chunk', options: { workers: 1 } }, where), Array(4).fill('checksum'));
    const { backend, backendReason } = await run(readEverything, { path: 'small.mcwc' }, where);
    assert.deepEqual({ backend, backendReason }, { backend: 'cpu', backendReason: 'there is no WebGPU here' });
  });

  test('prefers the CPU to an emulated GPU, and says so', async () => {
    const result = await run(readEverything, { path: 'small.mcwc', options: { backend: 'auto' } });
    await assertEverything(result);
    assert.equal(result.backend, 'cpu');
    assert.equal(result.backendReason, 'WebGPU is emulated on the CPU here');
  });
});
