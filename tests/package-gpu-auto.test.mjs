// What `backend: 'auto'` measures on WebGPU (SwiftShader), and what it makes of that. A device that is given is taken for a real GPU.
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { encode, folder, noise, places, safetensors } from './common/package.mjs';

/** Weights of a tensor, by the first letter of its name. */
const SIDES = { small: [256, 512], medium: [512, 1024], large: [1024, 1024], huge: [2048, 2048] };

describe("backend 'auto'", () => {
  const { run } = places.Chromium;

  before(async () => {
    const floats = noise(11);
    const names = ['small', 'medium', 'large0', 'large1', 'large2', 'large3', 'huge0', 'huge1'];
    const sides = (name) => SIDES[name.replace(/\d/, '')];
    const tensors = names.map((name) => [name, ['F32', sides(name), floats(sides(name)[0] * sides(name)[1], 0.02)]]);
    await writeFile(join(folder, 'choice.safetensors'), safetensors(Object.fromEntries(tensors)));
    encode('choice', ['choice.safetensors'], ['--bits', '3', '--quantizer', 'uniform']);
  });

  /**
   * Takes steps on one device: tensors by name, at once; in buffers; a file up to the end of one; or an archive opened anew. For each: what made it, and how many
   * batches went to workers meanwhile. By a clock on which a read from the GPU takes `gpuMs`, and a batch of the CPU's `cpuMs`.
   */
  const scenario = async ({ entry, base, steps, options, gpuMs, cpuMs }) => {
    const { open } = await import(entry);
    const device = await (await navigator.gpu.requestAdapter()).requestDevice();
    const cpu = await open(`${base}/choice.mcwc`, { backend: 'cpu' });
    const expected = {};
    for (const { name } of cpu.tensors) expected[name] = new Int32Array((await cpu.tensor(name)).data.buffer);
    cpu.close();
    const { mapAsync } = GPUBuffer.prototype;
    const { postMessage } = Worker.prototype;
    const counts = { reads: 0, batches: 0 };
    let now = 0;
    GPUBuffer.prototype.mapAsync = function (...range) {
      counts.reads++;
      now += gpuMs / 2;
      return mapAsync.apply(this, range);
    };
    Worker.prototype.postMessage = function (message, transfer) {
      if (message.type === 'batch') {
        counts.batches++;
        now += cpuMs;
      }
      return postMessage.call(this, message, transfer);
    };
    if (gpuMs) performance.now = () => now;
    const read = async ({ buffer, bytes }) => {
      const staging = device.createBuffer({ size: buffer.size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
      const encoder = device.createCommandEncoder();
      encoder.copyBufferToBuffer(buffer, 0, staging, 0, buffer.size);
      device.queue.submit([encoder.finish()]);
      await mapAsync.call(staging, GPUMapMode.READ);
      return staging.getMappedRange(0, bytes).slice(0);
    };
    const ordered = (bits) => (bits < 0 ? -0x80000000 - bits : bits);
    const check = (name, buffer) => {
      const bits = new Int32Array(buffer);
      if (bits.length !== expected[name].length) throw new Error(`${name}: ${bits.length} elements`);
      if (bits.some((bits, at) => Math.abs(ordered(bits) - ordered(expected[name][at])) > 1)) throw new Error(`${name} has other values`);
    };
    const openOne = () => open(`${base}/choice.mcwc`, { device, ...options });
    let archive = await openOne();
    const kinds = {
      open: async () => {
        archive.close();
        archive = await openOne();
      },
      tensors: async (names) => {
        const tensors = await Promise.all(names.map((name) => archive.tensor(name)));
        for (const { name, data } of tensors) check(name, data.buffer);
        return counts.reads > 0 ? 'webgpu' : 'cpu';
      },
      front: async ([name]) => {
        const { offset, bytes } = archive.get(name);
        check(name, (await archive.file('choice.safetensors').bytes(0, offset + bytes)).slice(offset).buffer);
        return counts.reads > 0 ? 'webgpu' : 'cpu';
      },
      buffers: async (names) => {
        const tensors = await archive.gpuTensors(names);
        for (const tensor of tensors) {
          check(tensor.name, await read(tensor));
          tensor.buffer.destroy();
        }
        return [...new Set(tensors.map(({ backend }) => backend))].join();
      },
    };
    const taken = [];
    for (const [kind, ...names] of steps) {
      Object.assign(counts, { reads: 0, batches: 0 });
      const from = await kinds[kind](names);
      taken.push({ from, batches: counts.batches, reason: archive.backendReason.replace(/.*passed the self-test/, '') });
    }
    const { backend } = archive;
    archive.close();
    return { backend, taken };
  };
  const outcomes = ({ taken }) => taken.map(({ from, batches }) => `${from} ${batches}`);

  test('keeps the GPU for arrays where it is sooner: two tensors are measured', async () => {
    const steps = [['tensors', 'small'], ['tensors', 'medium'], ['tensors', 'large0'], ['tensors', 'large1'], ['open'], ['tensors', 'large2'], ['tensors', 'medium'], ['front', 'small']];
    const measured = await run(scenario, { steps, gpuMs: 8, cpuMs: 10 });
    // What the CPU decodes of a file, a worker decodes in one go.
    assert.deepEqual(outcomes(measured), ['cpu 1', 'webgpu 0', 'webgpu 2', 'webgpu 2', 'undefined 0', 'webgpu 0', 'webgpu 0', 'cpu 1']);
    const reason = '; the GPU makes arrays from 0.3 million weights on, 1.0 million in 8.0 ms, the CPU in 10.0';
    assert.deepEqual(measured.taken.map(({ reason }) => reason), ['', '', ...Array(6).fill(reason)]);
    assert.equal(measured.backend, 'webgpu');
  });

  test('gives the CPU what it decodes sooner, after a second look, and measures again with more weights, but not in a second archive', async () => {
    const large = ['large0', 'large1', 'large2'].map((name) => ['tensors', name]);
    const steps = [...large, ['tensors', 'medium'], ['open'], ['tensors', 'large3'], ['tensors', 'huge0'], ['tensors', 'huge1'], ['tensors', 'large3']];
    // The fourfold takes the CPU four times as long, and the GPU no longer.
    const measured = await run(scenario, { steps, gpuMs: 20, cpuMs: 6 });
    const expected = ['webgpu 2', 'webgpu 2', 'cpu 1', 'cpu 1', 'undefined 0', 'cpu 1', 'webgpu 2', 'webgpu 0', 'cpu 1'];
    assert.deepEqual(outcomes(measured), expected);
    const reasons = measured.taken.map(({ reason }) => reason);
    assert.equal(reasons[0], '; the GPU makes arrays from 0.3 million weights on, 1.0 million in 20.0 ms, the CPU in 6.0');
    assert.equal(reasons[1], '; the GPU makes arrays from 4.2 million weights on, 1.0 million in 20.0 ms, the CPU in 6.0');
    assert.equal(reasons[4], reasons[1]);
    assert.equal(reasons[6], '; the GPU makes arrays from 4.2 million weights on, 4.2 million in 20.0 ms, the CPU in 24.0');
  });

  test('measures buffers by themselves', async () => {
    const steps = [['buffers', 'large0', 'large1'], ['buffers', 'small', 'large0'], ['buffers', 'large2', 'large3'], ['open'], ['tensors', 'large0'], ['buffers', 'small']];
    const slow = await run(scenario, { steps, gpuMs: 40, cpuMs: 6 });
    assert.deepEqual(outcomes(slow), ['webgpu 2', 'webgpu 2', 'cpu 2', 'undefined 0', 'webgpu 2', 'cpu 1']);
    assert.match(slow.taken[2].reason, /^; the GPU makes buffers from 4\.7 million weights on, 1\.2 million in 20\.0 ms, the CPU in 6\.8$/);
    assert.match(slow.taken[4].reason, /^; the GPU makes arrays from 0\.3 .*; the GPU makes buffers from 4\.7 million/);
    const fast = await run(scenario, { steps, gpuMs: 8, cpuMs: 10 });
    assert.deepEqual(outcomes(fast), ['webgpu 2', 'webgpu 2', 'webgpu 0', 'undefined 0', 'webgpu 2', 'webgpu 0']);
  });

  test('never measures where WebGPU is insisted on', async () => {
    const steps = [['tensors', 'small'], ['tensors', 'large0'], ['buffers', 'large0']];
    const { taken } = await run(scenario, { steps, options: { backend: 'webgpu' }, gpuMs: 100, cpuMs: 1 });
    assert.deepEqual(taken, Array(3).fill({ from: 'webgpu', batches: 0, reason: '' }));
  });

  test('finds by the real clock that an emulated GPU is slower', async () => {
    const steps = [['tensors', 'large0'], ['tensors', 'large1'], ['tensors', 'large2'], ['buffers', 'large0'], ['buffers', 'large1'], ['buffers', 'large2']];
    const { taken } = await run(scenario, { steps });
    assert.deepEqual(taken.map(({ from }) => from), ['webgpu', 'webgpu', 'cpu', 'webgpu', 'webgpu', 'cpu']);
    assert.match(taken.at(-1).reason, /^; the GPU makes arrays from 4\.2 million .*; the GPU makes buffers from 4\.2 million /);
  });

  test('many at once do not wait for what is measured', async () => {
    const steps = [['tensors', 'small', 'medium', 'large0', 'large1', 'large2', 'large3'], ['tensors', 'large0'], ['tensors', 'large1']];
    const { taken } = await run(scenario, { steps, gpuMs: 20, cpuMs: 6 });
    assert.deepEqual(taken.map(({ from, batches }) => `${from} ${batches}`), ['webgpu 3', 'webgpu 2', 'cpu 1']);
  });

  test('does not count what a network takes', async () => {
    const scenario = async ({ entry, base }) => {
      const { open } = await import(entry);
      const device = await (await navigator.gpu.requestAdapter()).requestDevice();
      const bytes = new Uint8Array(await (await fetch(`${base}/choice.mcwc`)).arrayBuffer());
      let source;
      const stream = new ReadableStream({ start: (controller) => (source = controller).enqueue(bytes.slice(0, 5000)) });
      const archive = await open(stream, { device });
      let now = 0;
      performance.now = () => now;
      const pending = [archive.tensor('large0'), archive.gpuTensor('large0')];
      await new Promise((resolve) => setTimeout(resolve, 100));
      now = 1e6;
      source.enqueue(bytes.slice(5000));
      source.close();
      await Promise.all(pending);
      const { backendReason, stats } = archive;
      archive.close();
      return [backendReason.match(/million in .*? ms/g), stats.arrivalMs];
    };
    assert.deepEqual(await run(scenario), [Array(2).fill('million in 0.0 ms'), 2e6]);
  });

  test('what was asked for before it was here comes from where another archive has found it to be sooner', { timeout: 60_000 }, async () => {
    const scenario = async ({ entry, base }) => {
      const { open } = await import(entry);
      const device = await (await navigator.gpu.requestAdapter()).requestDevice();
      const bytes = new Uint8Array(await (await fetch(`${base}/choice.mcwc`)).arrayBuffer());
      const headBytes = 32 + new DataView(bytes.buffer).getUint32(12, true);
      let source;
      const stream = new ReadableStream({ start: (controller) => (source = controller).enqueue(bytes.slice(0, headBytes)) });
      const [waiting, other] = [await open(stream, { device }), await open(bytes, { device })];
      const pending = [waiting.tensor('large0'), waiting.gpuTensor('large0')];
      const controller = new AbortController();
      const aborted = waiting.tensor('large1', { signal: controller.signal }).catch(({ message }) => message);
      setTimeout(() => controller.abort(new Error('enough')));
      const outcome = await aborted;
      for (const name of ['large0', 'large1']) {
        await other.tensor(name);
        await other.gpuTensor(name);
      }
      const { mapAsync } = GPUBuffer.prototype;
      let reads = 0;
      GPUBuffer.prototype.mapAsync = function (...range) {
        reads++;
        return mapAsync.apply(this, range);
      };
      source.enqueue(bytes.slice(headBytes));
      source.close();
      const [{ data }, { backend }] = await Promise.all(pending);
      [waiting, other].forEach((archive) => archive.close());
      return [outcome, data.length, backend, reads];
    };
    assert.deepEqual(await run(scenario), ['enough', 1 << 20, 'cpu', 0]);
  });

  test('what happens while something is measured ends a call as ever, and leaves nothing behind', async () => {
    const scenario = async ({ entry, base, event, isEarly }) => {
      const { open } = await import(entry);
      const device = await (await navigator.gpu.requestAdapter()).requestDevice();
      const cpu = await open(`${base}/choice.mcwc`, { backend: 'cpu' });
      const expected = (await cpu.tensor('large0')).data;
      cpu.close();
      const left = new Set();
      const { createBuffer } = device;
      device.createBuffer = (descriptor) => {
        const buffer = createBuffer.call(device, descriptor);
        const { destroy } = buffer;
        left.add(buffer);
        buffer.destroy = () => (left.delete(buffer), destroy.call(buffer));
        return buffer;
      };
      const { postMessage } = Worker.prototype;
      const { mapAsync } = GPUBuffer.prototype;
      const results = [];
      for (const kind of ['tensor', 'gpuTensor']) {
        const archive = await open(`${base}/choice.mcwc`, { device });
        const controller = new AbortController();
        left.clear();
        const events = {
          nothing: () => {},
          abort: () => controller.abort(new Error('enough')),
          close: () => archive.close(),
          lose: () => device.destroy(),
          fail: () => {
            throw new Error('no worker');
          },
        };
        // While the GPU decodes, or then the CPU.
        const hook = isEarly ? GPUBuffer.prototype : Worker.prototype;
        if (isEarly) {
          hook.mapAsync = function (...range) {
            hook.mapAsync = mapAsync;
            events[event]();
            return mapAsync.apply(this, range);
          };
        } else {
          hook.postMessage = function (message, transfer) {
            if (message.type === 'batch') {
              hook.postMessage = postMessage;
              events[event]();
            }
            return postMessage.call(this, message, transfer);
          };
        }
        const made = await archive[kind]('large0', { signal: controller.signal }).catch(({ message }) => message);
        made.buffer?.destroy();
        const isSame = (values) => values.every((value, at) => Math.abs(value - expected[at]) <= 1e-6 * Math.abs(expected[at]));
        const outcome = made.buffer ? 'a buffer' : made.data ? `right: ${isSame(made.data)}` : made;
        const next = await archive.tensor('large0').then(({ data }) => `right: ${isSame(data)}`, ({ code }) => code);
        results.push({ outcome, next, backend: archive.backend, left: left.size });
        archive.close();
        if (event === 'lose') break;
      }
      return results;
    };
    const next = { next: 'right: true', backend: 'webgpu', left: 0 };
    assert.deepEqual(await run(scenario, { event: 'abort' }), [{ outcome: 'enough', ...next }, { outcome: 'enough', ...next }]);
    const closed = { outcome: 'the archive has been closed', next: 'closed', backend: 'webgpu', left: 0 };
    assert.deepEqual(await run(scenario, { event: 'close' }), [closed, closed]);
    assert.deepEqual(await run(scenario, { event: 'close', isEarly: true }), [closed, closed]);
    for (const event of ['nothing', 'fail']) {
      assert.deepEqual(await run(scenario, { event }), [{ outcome: 'right: true', ...next }, { outcome: 'a buffer', ...next }]);
    }
    assert.deepEqual(await run(scenario, { event: 'lose' }), [{ outcome: 'right: true', ...next, backend: 'cpu' }]);
  });
});
