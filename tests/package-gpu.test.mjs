// The packed package on WebGPU (SwiftShader), against the values of the native command.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { ROOT, bases, encode, folder, noise, places, readEverything, safetensors, vectors, writeVectors } from './common/package.mjs';

describe('WebGPU', () => {
  const { run, visit } = places.Chromium;

  before(writeVectors);

  /** Largest difference to the native values in units in the last place (f32) or in bytes (the rest), by dtype. */
  const scenario = async ({ entry, base, path = 'small.mcwc', restored = 'small-restored/small.safetensors', way, ownDevice, lose, bases = [] }) => {
    const { open } = await import(entry);
    const expected = new Uint8Array(await (await fetch(`${base}/${restored}`)).arrayBuffer());
    const start = 8 + Number(new DataView(expected.buffer).getBigUint64(0, true));
    const header = JSON.parse(new TextDecoder().decode(expected.subarray(8, start)));
    const device = ownDevice ? await (globalThis.device ??= navigator.gpu.requestAdapter().then((adapter) => adapter.requestDevice())) : undefined;
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
      const { run, end } = await visit();
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
      await end();
    });
  }

  test('gives the bytes of files of other formats', async () => {
    const { run, end } = await visit();
    for (const [path, files] of Object.entries(vectors)) {
      // Two minutes on an emulated GPU; how transforms are decoded, others show.
      if (path === 'slow-open-transform.mcwc' || Object.keys(files).some((file) => file.endsWith('.safetensors'))) continue;
      const result = await run(readEverything, { path, options: { backend: 'webgpu' } });
      assert.deepEqual([result.backend, result.files], ['webgpu', files], path);
    }
    await end();
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

  /** All tensors at once, in buffers, against those of the CPU as floats: the largest difference in units in the last place. */
  const atOnce = async ({ entry, base, path, dtype, bases = [], bindingBytes, outOfMemory = 0 }) => {
    const { open } = await import(entry);
    const { toFloat32 } = await import(entry.replace('index.js', 'float32.js'));
    const device = await (globalThis.device ??= navigator.gpu.requestAdapter().then((adapter) => adapter.requestDevice()));
    const opened = async (options) => {
      let below;
      for (const path of bases) below = await open(`${base}/${path}`, { backend: 'cpu', base: below });
      return open(`${base}/${path}`, { ...options, base: below });
    };
    const [gpu, cpu] = [await opened({ backend: 'webgpu', device }), await opened({ backend: 'cpu' })];
    const floats = { f32: 4, f16: 2, bf16: 2, f64: 8 };
    const names = gpu.tensors.filter((tensor) => tensor.dtype in floats && tensor.bytes > 0).map(({ name }) => name);
    if (bindingBytes) {
      const limits = {};
      for (const name in device.limits) limits[name] = device.limits[name];
      Object.defineProperty(device, 'limits', { value: { ...limits, maxStorageBufferBindingSize: bindingBytes } });
    }
    const { popErrorScope } = device;
    device.popErrorScope = async () => (await popErrorScope.call(device)) ?? (outOfMemory-- > 0 ? new GPUOutOfMemoryError('no room') : null);
    const tensors = await gpu.gpuTensors(names, { dtype });
    const staging = device.createBuffer({ size: 1 << 22, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
    const read = async ({ buffer, bytes }) => {
      const encoder = device.createCommandEncoder();
      encoder.copyBufferToBuffer(buffer, 0, staging, 0, buffer.size);
      device.queue.submit([encoder.finish()]);
      await staging.mapAsync(GPUMapMode.READ);
      const copy = staging.getMappedRange(0, buffer.size).slice(0);
      staging.unmap();
      if (new Uint8Array(copy, bytes).some((byte) => byte !== 0)) throw new Error('the padding is not zeros');
      return copy.slice(0, bytes);
    };
    const [Bits, Values] = dtype === 'f16' ? [Int16Array, Float16Array] : [Int32Array, Float32Array];
    const ordered = (buffer) => Array.from(new Bits(buffer), (bits) => (bits < 0 ? -(bits & (dtype === 'f16' ? 0x7fff : 0x7fffffff)) : bits));
    const result = { decoded: { webgpu: 0, cpu: 0 }, most: 0, shapes: true };
    for (const [index, tensor] of tensors.entries()) {
      const expected = await cpu.tensor(names[index]);
      const [ours, theirs] = [ordered(await read(tensor)), ordered(Values.from(toFloat32(expected)).buffer)];
      if (ours.length !== theirs.length) throw new Error(`${tensor.name}: ${ours.length} of ${theirs.length} elements`);
      result.most = ours.reduce((most, value, at) => Math.max(most, Math.abs(value - theirs[at])), result.most);
      result.decoded[tensor.backend]++;
      const { usage, size } = tensor.buffer;
      const STORAGE = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
      result.shapes &&= tensor.name === names[index] && tensor.dtype === dtype && String(tensor.shape) === String(expected.shape);
      result.shapes &&= usage === STORAGE && size % 16 === 0 && size - tensor.bytes < 16;
    }
    const { backend, stats } = gpu;
    [gpu, cpu].forEach((archive) => archive.close());
    return { ...result, backend, stats };
  };

  for (const dtype of ['f32', 'f16']) {
    test(`gives many tensors at once, as ${dtype}`, async () => {
      const { run, end } = await visit();
      let onGpu = 0;
      for (const path of ['small.mcwc', 'predicted.mcwc', 'scattered-and-transformed.mcwc', 'delta-of-delta.mcwc']) {
        const { most, decoded, shapes, backend, stats } = await run(atOnce, { path, dtype, bases: bases[path] });
        assert(most <= 1, `${path}: ${most} units in the last place`);
        assert.deepEqual([backend, shapes], ['webgpu', true], path);
        assert(stats.uploadedBytes > 0 && stats.decodeMs > 0, JSON.stringify(stats));
        onGpu += decoded.webgpu;
        if (path.startsWith('scattered')) assert.equal(decoded.cpu, 0, 'the GPU takes transforms');
      }
      await end();
      assert(onGpu > 30, `${onGpu} on the GPU`);
    });
  }

  test('what a device has no room for is decoded in smaller groups, or on the CPU, to the same values', async () => {
    const all = await run(atOnce, { path: 'small.mcwc', dtype: 'f32' });
    const small = await run(atOnce, { path: 'small.mcwc', dtype: 'f32', bindingBytes: 1 << 18 });
    assert.deepEqual(small.decoded, all.decoded);
    const smaller = await run(atOnce, { path: 'small.mcwc', dtype: 'f32', bindingBytes: 1 << 17 });
    assert(smaller.decoded.cpu > all.decoded.cpu, JSON.stringify(smaller.decoded));
    // Three scopes each: for all together, for the first of them, and for what the CPU made of it.
    const full = await run(atOnce, { path: 'small.mcwc', dtype: 'f32', outOfMemory: 3 });
    assert.deepEqual(full.decoded, all.decoded);
    const alone = await run(atOnce, { path: 'small.mcwc', dtype: 'f32', outOfMemory: 6 });
    assert.equal(alone.decoded.cpu, all.decoded.cpu + 1);
    await assert.rejects(run(atOnce, { path: 'small.mcwc', dtype: 'f32', outOfMemory: 9 }), /McwcError: no room/);
    for (const { most, backend, shapes } of [small, smaller, full, alone]) assert.deepEqual([most <= 1, backend, shapes], [true, 'webgpu', true]);
  });

  test('a device that is lost while it decodes is a typed error, and the CPU goes on', async () => {
    const scenario = async ({ entry, base, at }) => {
      const { open, McwcError } = await import(entry);
      const device = await (await navigator.gpu.requestAdapter()).requestDevice();
      const archive = await open(`${base}/small.mcwc`, { backend: 'webgpu', device });
      const cpu = await open(`${base}/small.mcwc`, { backend: 'cpu' });
      const { submit, writeBuffer } = GPUQueue.prototype;
      const then = (call) =>
        function (...given) {
          const result = call.apply(this, given);
          device.destroy();
          return result;
        };
      if (at === 'submit') GPUQueue.prototype.submit = then(submit);
      else GPUQueue.prototype.writeBuffer = then(writeBuffer);
      const failure = await archive.gpuTensors(['wide', 'half']).catch((error) => error instanceof McwcError && error.code);
      Object.assign(GPUQueue.prototype, { submit, writeBuffer });
      const [ours, theirs] = await Promise.all([archive, cpu].map(async (archive) => (await archive.tensor('wide')).data));
      const { backend, backendReason } = archive;
      [archive, cpu].forEach((archive) => archive.close());
      return { failure, backend, backendReason, same: ours.length === theirs.length && ours.every((value, index) => value === theirs[index]) };
    };
    for (const at of ['writeBuffer', 'submit']) {
      const { backendReason, ...outcome } = await run(scenario, { at });
      assert.deepEqual(outcome, { failure: 'gpu', backend: 'cpu', same: true }, at);
      assert.match(backendReason, /lost|destroyed/i);
    }
  });

  test('archives on one device share its memory: two groups are decoded at once, however many are asked for', async () => {
    const scenario = async ({ entry, base }) => {
      const { open } = await import(entry);
      const device = await (await navigator.gpu.requestAdapter()).requestDevice();
      const archives = await Promise.all(Array.from({ length: 4 }, () => open(`${base}/small.mcwc`, { backend: 'webgpu', device })));
      let [held, most] = [0, 0];
      const { createBuffer } = device;
      device.createBuffer = (descriptor) => {
        const buffer = createBuffer.call(device, descriptor);
        const { usage, size } = descriptor;
        // Levels; and what is read back when they have become weights.
        if (usage === GPUBufferUsage.STORAGE && size === 4 * 96 * 512) most = Math.max(most, ++held);
        if (usage & GPUBufferUsage.MAP_READ) {
          const { mapAsync, destroy } = buffer;
          buffer.mapAsync = (...range) => mapAsync.call(buffer, ...range).then(() => new Promise((resolve) => setTimeout(resolve, 100)));
          buffer.destroy = () => (held--, destroy.call(buffer));
        }
        return buffer;
      };
      const tensors = await Promise.all(archives.map((archive) => archive.gpuTensor('wide')));
      archives.forEach((archive) => archive.close());
      return { most, left: held, decoded: tensors.map(({ backend }) => backend) };
    };
    assert.deepEqual(await run(scenario), { most: 2, left: 0, decoded: Array(4).fill('webgpu') });
  });

  test('sends no more than the archive up', async () => {
    const floats = noise(9);
    const layers = Array.from({ length: 4 }, (_, index) => [`layer${index}`, ['F32', [1024, 1024], floats(1 << 20, 0.02)]]);
    await writeFile(join(folder, 'upload.safetensors'), safetensors(Object.fromEntries(layers)));
    encode('upload', ['upload.safetensors'], ['--bits', '4', '--quantizer', 'uniform']);
    const scenario = async ({ entry, base }) => {
      const { open } = await import(entry);
      const archive = await open(`${base}/upload.mcwc`, { backend: 'webgpu' });
      let written = 0;
      const { writeBuffer } = GPUQueue.prototype;
      GPUQueue.prototype.writeBuffer = function (buffer, offset, data, from, size) {
        written += size ?? data.byteLength;
        return writeBuffer.apply(this, arguments);
      };
      const tensors = await archive.gpuTensors();
      GPUQueue.prototype.writeBuffer = writeBuffer;
      const decoded = tensors.map(({ buffer, backend }) => (buffer.destroy(), backend));
      const { bytes, stats } = archive;
      archive.close();
      return { written, bytes, stats, decoded };
    };
    const { written, bytes, stats, decoded } = await run(scenario);
    assert(decoded.every((backend) => backend === 'webgpu'));
    assert(written <= 1.05 * bytes, `${written} of ${bytes} bytes`);
    assert(stats.uploadedBytes <= written);
  });

  /** lying.mcwc is FORMAT.md's own example with another state of its lane; its hashes are right. */
  const writeLying = async () => {
    const [, page] = (await readFile(join(ROOT, 'docs/FORMAT.md'), 'utf8')).split('## 8. A minimal archive');
    const hex = page.split('```')[1].split('\n').map((line) => line.split(';')[0]);
    const archive = Buffer.from(hex.join('').replaceAll(' ', ''), 'hex');
    const hash = (...parts) => createHash('sha256').update(Buffer.concat(parts)).digest().subarray(0, 16);
    const header = archive.subarray(32, 32 + archive.readUInt32LE(12));
    const payload = archive.subarray(-8);
    const place = header.indexOf(hash(payload));
    payload[4] ^= 1;
    header.set(hash(payload), place);
    archive.set(hash(archive.subarray(0, 16), header), 16);
    await writeFile(join(folder, 'lying.mcwc'), archive);
  };

  /** How `gpuTensors` fails, and how many of all buffers that it made are left then. */
  const failing = async ({ entry, base, path, dtype }) => {
    const { open, McwcError } = await import(entry);
    const bytes = new Uint8Array(await (await fetch(`${base}/${path}`)).arrayBuffer());
    const archive = await open(bytes, { backend: 'webgpu' });
    const left = new Set();
    let made = 0;
    const { createBuffer } = GPUDevice.prototype;
    GPUDevice.prototype.createBuffer = function (descriptor) {
      const buffer = createBuffer.call(this, descriptor);
      const { destroy } = buffer;
      left.add(buffer);
      made++;
      buffer.destroy = () => {
        left.delete(buffer);
        return destroy.call(buffer);
      };
      return buffer;
    };
    let failure;
    try {
      await archive.gpuTensors(undefined, { dtype });
    } catch (error) {
      failure = error instanceof McwcError && `${error.code}: ${error.message}`;
    }
    GPUDevice.prototype.createBuffer = createBuffer;
    const { backend } = archive;
    archive.close();
    return { failure, backend, made, left: left.size };
  };

  test('refuses archives that lie about their lanes, and leaves nothing behind', async () => {
    await writeLying();
    const { failure, backend, left } = await run(failing, { path: 'lying.mcwc' });
    assert.match(failure, /^invalid: invalid lanes: lane 0 does not end where it should \(chunk 1 of tensor w\)$/);
    assert.deepEqual([backend, left], ['webgpu', 0]);
  });

  test('of tensors decoded together, leaves none behind if the CPU fails at one', async () => {
    const { failure, backend, made, left } = await run(failing, { path: 'small.mcwc', dtype: 'f16' });
    assert.match(failure, /^argument: .*cannot be had as/);
    assert(made > 0);
    assert.deepEqual([backend, left], ['webgpu', 0]);
  });

  test('an abort does not wait for what has not arrived', { timeout: 60_000 }, async () => {
    const scenario = async ({ entry, base }) => {
      const { open } = await import(entry);
      const bytes = new Uint8Array(await (await fetch(`${base}/small.mcwc`)).arrayBuffer());
      const headBytes = 32 + new DataView(bytes.buffer).getUint32(12, true);
      const stream = new ReadableStream({ start: (controller) => controller.enqueue(bytes.subarray(0, headBytes)) });
      const archive = await open(stream, { backend: 'webgpu' });
      const controller = new AbortController();
      const failure = archive.gpuTensors(['wide'], { signal: controller.signal }).catch(({ message }) => message);
      setTimeout(() => controller.abort(new Error('enough')));
      const result = [await failure, archive.backend];
      archive.close();
      return result;
    };
    assert.deepEqual(await run(scenario), ['enough', 'webgpu']);
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
