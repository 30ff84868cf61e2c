// Predicted frames, archives with a base, and passes of refinement in the packed package, in Chromium and in Node.
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import { places, writeVectors } from './common/package.mjs';

/** Every tensor of a vector that holds `generation 0` to `2` of these is predicted from the generation before. */
const CHAINS = ['f32', 'f32.columns', 'f32.taps', 'f32.large', 'f16', 'bf16.columns', 'f64', 'u8'];

for (const [place, { run }] of Object.entries(places)) {
  describe(place, () => {
    before(writeVectors);
    for (const way of ['archive', 'address', 'bytes']) {
      test(`opens a delta on its base (${way})`, async () => {
        const scenario = async ({ entry, base, way }) => {
          const { open } = await import(entry);
          const bytes = async (path) => (await fetch(`${base}/${path}`)).arrayBuffer();
          const options = { backend: 'cpu', workers: 1 };
          const ways = {
            archive: () => open(`${base}/delta-base.mcwc`, options),
            address: () => `${base}/delta-base.mcwc`,
            bytes: () => bytes('delta-base.mcwc'),
          };
          const given = await ways[way]();
          const [whole, delta] = [await open(`${base}/predicted.mcwc`, options), await open(await bytes('delta.mcwc'), { ...options, base: given })];
          const different = [];
          for (const { name } of delta.tensors) {
            const [ours, theirs] = await Promise.all([delta, whole].map(async (archive) => (await archive.tensor(name)).data));
            const equal = ours.length > 0 && ours.length === theirs.length && ours.every((value, index) => value === theirs[index]);
            if (!equal) different.push(name);
          }
          delta.close();
          whole.close();
          let after = 'closed along';
          if (way === 'archive') {
            after = (await given.tensor('f32, generation 0')).data.length > 0 ? 'still open' : 'empty';
            given.close();
          }
          return { different, after };
        };
        const after = way === 'archive' ? 'still open' : 'closed along';
        assert.deepEqual(await run(scenario, { way }), { different: [], after });
      });
    }

    test('refuses a missing, a wrong, an incomplete and a closed base before anything is decoded', async () => {
      const scenario = async ({ entry, base }) => {
        const { open } = await import(entry);
        const url = (name) => `${base}/${name}.mcwc`;
        const options = { backend: 'cpu', workers: 0 };
        const failure = (opened) =>
          opened.then((archive) => archive.close() ?? 'none', ({ name, code, message }) => `${name} ${code}: ${message}`);
        const first = await open(url('delta-base'), options);
        const second = await open(url('delta'), { ...options, base: first });
        const integrity = second.integrity;
        const failures = {
          missing: await failure(open(url('delta'), options)),
          wrong: await failure(open(url('delta'), { ...options, base: url('layers') })),
          'of the base': await failure(open(url('delta-of-delta'), { ...options, base: first })),
          'for none': await failure(open(url('layers'), { ...options, base: first })),
          'delta without its base': await failure(open(url('delta-of-delta'), { ...options, base: url('delta') })),
          absent: (await failure(open(url('delta'), { ...options, base: url('none') }))).split(':')[0],
        };
        first.close();
        failures.closed = await failure(open(url('delta'), { ...options, base: first }));
        failures.later = await failure(second.tensor('f32, generation 1'));
        second.close();
        return { failures, integrities: [first.integrity, integrity] };
      };
      const { failures, integrities } = await run(scenario);
      const [first, second] = integrities;
      const needs = (integrity) => `McwcError argument: the archive is a delta: it needs its base, of integrity ${integrity}`;
      assert.equal(failures.missing, needs(first));
      assert.match(failures.wrong, /^McwcError argument: not the base of this archive: its integrity is [0-9a-f]{32}$/);
      assert.equal(failures['of the base'], `McwcError argument: not the base of this archive: its integrity is ${first}`);
      assert.equal(failures['for none'], 'none');
      assert.equal(failures['delta without its base'], needs(first));
      assert.equal(failures.absent, 'McwcError io');
      assert.equal(failures.closed, 'McwcError closed: the archive has been closed');
      assert.equal(failures.later, 'McwcError closed: the archive has been closed');
      assert.notEqual(first, second);
    });

    test('finds damage in a reference, and decodes whatever does not depend on it', async () => {
      const scenario = async ({ entry, base }) => {
        const { open } = await import(entry);
        const bytes = new Uint8Array(await (await fetch(`${base}/delta-base.mcwc`)).arrayBuffer());
        bytes[bytes.length - 20] ^= 1;
        const options = { backend: 'cpu', workers: 1 };
        const archive = await open(`${base}/delta.mcwc`, { ...options, base: bytes });
        const codes = archive.tensors.map(({ name }) => archive.tensor(name).then(() => 'none', ({ code }) => code));
        const outcomes = await Promise.all(codes);
        archive.close();
        return outcomes;
      };
      assert.deepEqual(await run(scenario), [...CHAINS.slice(1).map(() => 'none'), 'checksum']);
    });

    test('reads no more than what a tensor depends on', async () => {
      const scenario = async ({ entry, base, chains }) => {
        const { open } = await import(entry);
        const bytes = async (path) => new Uint8Array(await (await fetch(`${base}/${path}`)).arrayBuffer());
        /** Notes the ranges that are read. */
        class Noting extends Blob {
          ranges = [];
          slice(start, end) {
            this.ranges.push([start, end]);
            return super.slice(start, end);
          }
          taken() {
            const read = new Set();
            for (const [start, end] of this.ranges.splice(0)) for (let at = start; at < end; at++) read.add(at);
            return read;
          }
        }
        const names = ['delta-base', 'delta', 'delta-of-delta'];
        const blobs = [];
        const archives = [];
        for (const name of names) {
          blobs.push(new Noting([await bytes(`${name}.mcwc`)]));
          archives.push(await open(blobs.at(-1), { backend: 'cpu', workers: 0, base: archives.at(-1) }));
        }
        blobs.forEach((blob) => blob.taken());
        const read = async (archive, name) => {
          await archive.tensor(name);
          return blobs.map((blob) => blob.taken());
        };
        const problems = [];
        const counts = [];
        const seen = new Set();
        for (const chain of chains) {
          const generations = [];
          // A tensor of another chain in between, so that no decoder still has the frame.
          const other = chain === 'f64' ? 'f32' : 'f64';
          for (const [index, archive] of archives.entries()) {
            await archive.tensor(`${other}, generation ${index}`);
            blobs.forEach((blob) => blob.taken());
            generations.push(await read(archive, `${chain}, generation ${index}`));
          }
          for (const [index, ranges] of generations.entries()) {
            for (const [below, bytes] of ranges.entries()) {
              if (below > index ? bytes.size > 0 : bytes.size === 0) problems.push(`${chain}: ${index} reads ${bytes.size} of ${below}`);
              if ([...bytes].some((at) => !generations[below][below].has(at))) problems.push(`${chain}: ${index} reads more of ${below}`);
            }
            for (const at of ranges[index]) {
              if (seen.has(`${index} ${at}`)) problems.push(`${chain}: ${index} reads bytes of others`);
              seen.add(`${index} ${at}`);
            }
          }
          counts.push(generations[2].map(({ size }) => size));
        }
        // Ten bytes of a tensor: one chunk of each frame, and the side arrays; all chunks only where rows are permuted.
        const file = archives[2].file(archives[2].files[0].name);
        const whole = await file.bytes();
        const data = 8 + Number(new DataView(whole.buffer).getBigUint64(0, true));
        const header = JSON.parse(new TextDecoder().decode(whole.subarray(8, data)));
        const parts = [];
        for (const chain of chains) {
          const start = data + header[`${chain}, generation 2`].data_offsets[0];
          blobs.forEach((blob) => blob.taken());
          await file.bytes(start, start + 10);
          parts.push(blobs.map((blob) => blob.taken().size));
        }
        archives.forEach((archive) => archive.close());
        return { problems, counts, parts, sizes: blobs.map(({ size }) => size) };
      };
      const { problems, counts, parts, sizes } = await run(scenario, { chains: CHAINS });
      assert.deepEqual(problems, []);
      for (const [archive, size] of sizes.entries()) {
        assert(counts.every((count) => count[archive] < size / 2), `${counts}`);
        const of = (all) => all.map((bytes) => bytes[archive]);
        const [some, all] = [of(parts), of(counts)];
        assert(some.every((bytes, index) => bytes > 0 && bytes <= all[index]), `${some} of ${all}`);
        assert(some.filter((bytes, index) => bytes < all[index]).length >= 3, `${some} of ${all}`);
      }
    });

    test('gives the passes that have arrived, tells of better ones, and waits for those it is asked for', async () => {
      const scenario = async ({ entry, base }) => {
        const { open } = await import(entry);
        const bytes = new Uint8Array(await (await fetch(`${base}/layers.mcwc`)).arrayBuffer());
        const restored = new Uint8Array(await (await fetch(`${base}/layers.mcwc-restored/model.safetensors`)).arrayBuffer());
        let controller;
        let sent = 0;
        const stream = new ReadableStream({ start: (given) => (controller = given) });
        const send = async (end) => {
          if (end > sent) controller.enqueue(bytes.slice(sent, (sent = Math.min(end, bytes.length))));
          if (sent === bytes.length) controller.close();
          for (let turn = 0; turn < 4; turn++) await new Promise((resolve) => setTimeout(resolve));
        };
        const told = [];
        const onPass = (pass) => told.push(pass);
        const opened = open(stream, { backend: 'cpu', workers: 1, onPass });
        await send(32 + new DataView(bytes.buffer).getUint32(12, true));
        const archive = await opened;
        const early = archive.tensor('f32');
        let refined = false;
        archive.refined.then(() => (refined = true));
        const waited = { 1: archive.tensor('f32', { pass: 1 }), final: archive.tensor('f32', { pass: 'final' }) };
        const order = [];
        for (const [pass, tensor] of Object.entries(waited)) tensor.then(() => order.push(pass));
        const whole = await open(bytes, { backend: 'cpu', workers: 1 });
        const apart = await open(`${base}/layers-apart.mcwc`, { backend: 'cpu', workers: 1 });
        const values = async (name) => (await apart.tensor(name)).data;
        const same = (a, b) => a.length > 0 && a.length === b.length && a.every((value, index) => value === b[index]);
        const found = { passes: archive.passes, before: told.join(), stages: [] };
        for (let pass = 0; pass < 3; pass++) {
          while (!told.includes(pass) && sent < bytes.length) await send(sent + 199);
          const stage = { told: told.join(), all: sent === bytes.length, refined };
          for (const [name, last] of [['f32', 2], ['f32.columns', 2], ['f32.two', 1], ['f32.one', 0], ['bf16', 2], ['u8.two', 1]]) {
            const tensor = await archive.tensor(name);
            stage[name] = [tensor.pass, same(tensor.data, await values(`${name}, layer ${Math.min(pass, last)}`))];
          }
          const coarse = await archive.file('model.safetensors', { pass }).bytes();
          stage.file = same(coarse, restored);
          stage.order = order.join();
          found.stages.push(stage);
        }
        found.early = [(await early).pass, same((await early).data, await values('f32, layer 0'))];
        found.final = (await waited.final).pass;
        await archive.refined;
        found.whole = (await whole.tensor('f32', { pass: 0 })).pass;
        found.streamed = same(new Uint8Array(await (await archive.file('model.safetensors').blob()).arrayBuffer()), restored);
        const code = (promise) => promise.then(() => 'none', (error) => error.code);
        found.refused = [await code(archive.tensor('f32', { pass: 3 })), await code(archive.tensor('f32', { pass: -1 })), await code(archive.tensor('f32', { pass: 'best' }))];
        [archive, whole, apart].forEach((opened) => opened.close());
        return found;
      };
      const { stages, ...found } = await run(scenario);
      assert.deepEqual(found, { passes: 3, before: '', early: [0, true], final: 2, whole: 0, streamed: true, refused: ['argument', 'argument', 'argument'] });
      const pass = (index) => ({ f32: [index, true], 'f32.columns': [index, true], 'bf16': [index, true] });
      const expected = [
        { told: '0', all: false, refined: false, ...pass(0), 'f32.two': [0, true], 'f32.one': [2, true], 'u8.two': [0, true], file: false, order: '' },
        { told: '0,1', all: false, refined: false, ...pass(1), 'f32.two': [2, true], 'f32.one': [2, true], 'u8.two': [2, true], file: false, order: '1' },
        { told: '0,1,2', all: true, refined: true, ...pass(2), 'f32.two': [2, true], 'f32.one': [2, true], 'u8.two': [2, true], file: true, order: '1,final' },
      ];
      assert.deepEqual(stages, expected);
    });

    test('a download that ends early leaves the passes that it had, and is refused as a whole', async () => {
      const scenario = async ({ entry, base }) => {
        const { open } = await import(entry);
        const bytes = new Uint8Array(await (await fetch(`${base}/layers.mcwc`)).arrayBuffer());
        const told = [];
        const code = (promise) => promise.then(({ pass } = {}) => pass ?? 'none', (error) => error.code);
        let controller;
        const stream = new ReadableStream({ start: (given) => (controller = given) });
        controller.enqueue(bytes.slice(0, -1));
        const archive = await open(stream, { backend: 'cpu', workers: 1, onPass: (pass) => told.push(pass) });
        const before = [await code(archive.tensor('f32')), await code(archive.tensor('f32.one'))];
        const final = code(archive.tensor('u8.two', { pass: 'final' }));
        const refined = code(archive.refined);
        controller.close();
        const outcomes = [before, await final, await refined, told.join()];
        archive.close();
        return outcomes;
      };
      assert.deepEqual(await run(scenario), [[2, 2], 2, 'incomplete', '0,1']);
    });
  });
}

describe('WebGPU', () => {
  test('gives the pass that is asked for, in buffers and in values', async () => {
    const scenario = async ({ entry, base }) => {
      const { open } = await import(entry);
      const gpu = await open(`${base}/layers.mcwc`, { backend: 'webgpu' });
      const cpu = await open(`${base}/layers.mcwc`, { backend: 'cpu' });
      await gpu.refined;
      const found = [];
      for (const name of ['f32', 'f32.columns', 'f32.two', 'bf16', 'u8.two']) {
        for (const pass of [0, 1, 'final']) {
          const [ours, theirs] = await Promise.all([gpu, cpu].map((archive) => archive.tensor(name, { pass })));
          const buffer = await gpu.gpuTensor(name, { pass });
          buffer.buffer.destroy();
          // A unit in the last place of a float32.
          const close = (value, index) => Math.abs(value - theirs.data[index]) <= 2 ** -22 * Math.abs(value);
          found.push([ours.pass === theirs.pass, buffer.pass === theirs.pass, ours.data.length > 0, ours.data.every(close)]);
        }
      }
      const { backend, backendReason } = gpu;
      gpu.close();
      cpu.close();
      return { found, backend, backendReason };
    };
    const { found, backend, backendReason } = await places.Chromium.run(scenario);
    assert.equal(backend, 'webgpu', backendReason);
    assert.deepEqual(found, Array(15).fill([true, true, true, true]));
  });
});
