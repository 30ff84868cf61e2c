// The packed package on WebGPU (SwiftShader), against the values of the native command.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { bases, places, readEverything, vectors } from './common/package.mjs';

describe('WebGPU', () => {
  const { run } = places.Chromium;

  /** Largest difference to the native values in units in the last place (f32) or in bytes (the rest), by dtype. */
  const scenario = async ({ entry, base, path = 'small.mcwc', restored = 'small-restored/small.safetensors', way, ownDevice, lose, bases = [] }) => {
    const { open } = await import(entry);
    const expected = new Uint8Array(await (await fetch(`${base}/${restored}`)).arrayBuffer());
    const start = 8 + Number(new DataView(expected.buffer).getBigUint64(0, true));
    const header = JSON.parse(new TextDecoder().decode(expected.subarray(8, start)));
    const device = ownDevice ? await (await navigator.gpu.requestAdapter()).requestDevice() : undefined;
    const below = [];
    for (const path of bases) below.push(await open(`${base}/${path}`, { backend: 'cpu', base: below.at(-1) }));
    const archive = await open(`${base}/${path}`, { backend: 'webgpu', device, base: below.at(-1) });
    const { backend, backendReason } = archive;
    const differences = {};
    const compare = (dtype, ours, theirs) => {
      const ordered = (bytes) => new Int32Array(bytes.slice().buffer).map((bits) => (bits < 0 ? -0x80000000 - bits : bits));
      const [a, b] = dtype === 'F32' ? [ordered(ours), ordered(theirs)] : [ours, theirs];
      if (a.length !== b.length) throw new Error(`${a.length} instead of ${b.length} elements`);
      const difference = a.reduce((most, value, index) => Math.max(most, Math.abs(value - b[index])), 0);
      differences[dtype] = Math.max(differences[dtype] ?? 0, difference);
    };
    const readBuffer = async ({ buffer, bytes }) => {
      const size = Math.ceil(bytes / 4) * 4;
      const staging = device.createBuffer({ size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
      const encoder = device.createCommandEncoder();
      encoder.copyBufferToBuffer(buffer, 0, staging, 0, size);
      device.queue.submit([encoder.finish()]);
      await staging.mapAsync(GPUMapMode.READ);
      return new Uint8Array(staging.getMappedRange().slice(0, bytes));
    };
    const ways = {
      tensor: async (name) => new Uint8Array((await archive.tensor(name)).data.buffer),
      gpuTensor: async (name) => readBuffer(await archive.gpuTensor(name)),
      buffer: async (name) => {
        const { data } = await archive.tensor(name, { buffer: new ArrayBuffer(1 << 20) });
        return new Uint8Array(data.buffer, 0, data.byteLength);
      },
    };
    if (lose) device.destroy();
    if (way === 'file') {
      const { name } = archive.files.find(({ name }) => restored.endsWith(name));
      const file = await archive.file(name).bytes();
      const streamed = new Uint8Array(await (await archive.file(name).blob()).arrayBuffer());
      if (file.some((byte, index) => byte !== streamed[index])) throw new Error('stream and bytes differ');
      for (const { dtype, data_offsets: [from, to] } of Object.values(header)) {
        compare(dtype, file.slice(start + from, start + to), expected.slice(start + from, start + to));
      }
    } else {
      for (const [name, { dtype, data_offsets: [from, to] }] of Object.entries(header)) {
        compare(dtype, await ways[way](name), expected.slice(start + from, start + to));
      }
    }
    const after = { backend: archive.backend, backendReason: archive.backendReason };
    [archive, ...below].forEach((opened) => opened.close());
    return { backend, backendReason, differences, after };
  };
  const assertValues = ({ F32, ...others }) => {
    assert(F32 <= 1, `f32 differs by ${F32} units in the last place`);
    assert.deepEqual(others, { F16: 0, BF16: 0, F64: 0, I8: 0, U8: 0, I64: 0, BOOL: 0 });
  };

  for (const way of ['tensor', 'buffer', 'file']) {
    test(`reconstructs what the CPU does (${way})`, async () => {
      const { backend, backendReason, differences, after } = await run(scenario, { way });
      assert.equal(backend, 'webgpu');
      assert.match(backendReason, /passed the self-test/);
      assert.equal(after.backend, 'webgpu', after.backendReason);
      assertValues(differences);
    });
  }

  for (const way of ['tensor', 'file', 'gpuTensor']) {
    test(`reconstructs every valid vector (${way})`, async () => {
      for (const [path, files] of Object.entries(vectors)) {
        for (const file of Object.keys(files).filter((file) => file.endsWith('.safetensors'))) {
          const argument = { path, bases: bases[path], restored: `${path}-restored/${file}`, way, ownDevice: way === 'gpuTensor' };
          const { differences, after } = await run(scenario, argument);
          assert.equal(after.backend, 'webgpu', `${path}: ${after.backendReason}`);
          const { F32, ...others } = differences;
          assert(F32 === undefined || F32 <= 1, `${path}: f32 differs by ${F32} units in the last place`);
          assert.deepEqual(Object.values(others).filter(Boolean), [], `${path}: ${JSON.stringify(others)}`);
        }
      }
    });
  }

  test('gives the bytes of files of other formats', async () => {
    for (const [path, files] of Object.entries(vectors)) {
      if (Object.keys(files).some((file) => file.endsWith('.safetensors'))) continue;
      const result = await run(readEverything, { path, options: { backend: 'webgpu' } });
      assert.deepEqual([result.backend, result.files], ['webgpu', files], path);
    }
  });

  test('transformed kernels are those of the CPU to the bit', async () => {
    const scenario = async ({ entry, base, path }) => {
      const { open } = await import(entry);
      const gpu = await open(`${base}/${path}`, { backend: 'webgpu' });
      const cpu = await open(`${base}/${path}`, { backend: 'cpu' });
      const kernels = gpu.tensors.map(({ name }) => name).filter((name) => name.startsWith('kernels'));
      const different = [];
      for (const name of kernels) {
        const [a, b] = await Promise.all([gpu, cpu].map(async (archive) => new Uint8Array((await archive.tensor(name)).data.buffer)));
        if (a.length !== b.length || a.some((byte, at) => byte !== b[at])) different.push(name);
      }
      const backends = [gpu.backend, cpu.backend];
      gpu.close();
      cpu.close();
      return { different, backends, count: kernels.length };
    };
    const path = 'scattered-and-transformed.mcwc';
    assert.deepEqual(await run(scenario, { path }), { different: [], backends: ['webgpu', 'cpu'], count: 8 });
  });

  test("downloads one wasm module, and decodes on the CPU with that of WebGPU", async () => {
    const loaded = async ({ entry, base, options }) => {
      const { open } = await import(entry);
      const device = options.lost ? await (await navigator.gpu.requestAdapter()).requestDevice() : undefined;
      device?.destroy();
      const archive = await open(`${base}/small.mcwc`, { ...options, device });
      await archive.tensor('wide');
      const { backend } = archive;
      archive.close();
      const names = performance.getEntriesByType('resource').map(({ name }) => name.split('/').at(-1));
      return { backend, modules: names.filter((name) => /wasm$|^gpu\.js$/.test(name)).sort() };
    };
    const cpu = { backend: 'cpu', modules: ['mcwc_bg.wasm'] };
    const modules = ['gpu.js', 'mcwc_gpu_bg.wasm'];
    assert.deepEqual(await run(loaded, { options: { backend: 'cpu' } }), cpu);
    assert.deepEqual(await run(loaded, { options: { backend: 'auto' } }), cpu);
    assert.deepEqual(await run(loaded, { options: { backend: 'webgpu' } }), { backend: 'webgpu', modules });
    assert.deepEqual(await run(loaded, { options: { backend: 'auto', lost: true } }), { backend: 'cpu', modules });
    await assert.rejects(run(loaded, { options: { backend: 'webgpu', lost: true } }), /McwcError/);
  });

  test("leaves tensors in buffers of the caller's device", async () => {
    const { backend, differences, after } = await run(scenario, { way: 'gpuTensor', ownDevice: true });
    assert.deepEqual([backend, after.backend], ['webgpu', 'webgpu']);
    assertValues(differences);
  });

  test('goes on on the CPU when the device is lost', async () => {
    const { backend, differences, after } = await run(scenario, { way: 'tensor', ownDevice: true, lose: true });
    assert.equal(backend, 'webgpu');
    assert.equal(after.backend, 'cpu');
    assert.match(after.backendReason, /lost|destroyed/i);
    assert.equal(differences.F32, 0);
    assertValues(differences);
  });
});
