// What a page takes to get an ONNX model from an archive into onnxruntime-web: through the adapter, and by its decoded bytes.
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT, step } from '../scripts/tools.mjs';
import { bertModel } from '../tests/common/bert.mjs';
import * as onnx from '../tests/common/onnx.mjs';
import { readSafetensors } from '../tests/common/safetensors.mjs';
import { PKG } from './artifacts.mjs';
import { openPage } from './browser.mjs';
import { CACHE, fetchModel } from './fetch.mjs';
import { renderers } from './resident.mjs';
import { round } from './stats.mjs';
import { gaussians } from './synthetic.mjs';
import { markdownTable } from './table.mjs';

/** Of the peak with decoded bytes, at most. */
const SHARE_MAX = 0.6;
const FOLDER = join(CACHE, 'memory-runtime');
const SIDE = 2048;
const MINILM = { hidden_size: 384, num_hidden_layers: 6, num_attention_heads: 12, layer_norm_eps: 1e-12 };
const ORT = join(ROOT, 'node_modules/onnxruntime-web/dist');
const BUILDS = {
  CPU: { build: 'ort.wasm.min.mjs', provider: 'wasm' },
  WebGPU: { build: 'ort.webgpu.min.mjs', provider: 'webgpu' },
  'WebGPU, JSPI': { build: 'ort.jspi.min.mjs', provider: 'webgpu' },
};
const WEBGPU = ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'];

/** `bytes`: of the synthetic model's weights. */
export async function measureRuntime(command, bytes) {
  const measured = [];
  try {
    const models = { synthetic: writeSynthetic(command, bytes), MiniLM: writeMiniLm(command) };
    for (const [model, { feeds, ways }] of Object.entries(models)) {
      for (const [name, build] of Object.entries(BUILDS)) {
        for (const way of ways) {
          const peak = await measure({ ...build, way, folder: model, feeds });
          measured.push({ model, build: name, way, ...peak });
          console.log(`${model}, ${name}, ${way}: ${round(peak.peakBytes / 1e6, 0)} MB, ${round(peak.milliseconds / 1000, 1)} s`);
        }
      }
    }
  } finally {
    rmSync(FOLDER, { recursive: true, force: true });
  }
  return measured;
}

async function measure(run) {
  const { browser, page, close } = await openPage({ bench: join(ROOT, 'bench'), pkg: PKG, ort: ORT, data: FOLDER }, { args: WEBGPU });
  try {
    const result = await page.evaluate(async (run) => (await import('/bench/memory-runtime-page.js')).createAndRun(run), run);
    return { ...result, peakBytes: Math.max(...(await renderers(browser)).values()) };
  } finally {
    await close();
  }
}

/** Square matrices of noise, one after another. */
function writeSynthetic(command, bytes) {
  step(`Model of ${bytes / 1e6} MB of weights`);
  const { FLOAT, modelFile, node, tensor, value } = onnx;
  const normals = gaussians(1);
  const len = SIDE * SIDE;
  const noise = Float32Array.from({ length: 2 * len }, () => normals.next().value / Math.sqrt(SIDE));
  const layers = Math.round(bytes / 4 / len);
  // From anywhere in the noise, so that no two resemble each other.
  const weights = Array.from({ length: layers }, (_, layer) => noise.subarray((layer * 65_521) % len, ((layer * 65_521) % len) + len));
  const names = weights.map((_, layer) => `h${layer}`);
  const nodes = names.map((name, layer) => node('MatMul', [layer === 0 ? 'x' : names[layer - 1], `w${layer}`], [name]));
  const tensors = weights.map((data, layer) => tensor(`w${layer}`, [SIDE, SIDE], data));
  const [inputs, outputs] = ['x', names.at(-1)].map((name) => [value(name, FLOAT, [1, SIDE])]);
  write('synthetic', 'model.onnx', modelFile({ nodes, tensors, inputs, outputs }));
  encode(command, 'synthetic', ['--quantizer', 'uniform']);
  return { feeds: { x: { type: 'float32', dims: [1, SIDE] } }, ways: ['bytes', 'adapter'] };
}

function writeMiniLm(command) {
  const { tensors } = readSafetensors(fetchModel());
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const weights = (name) => {
    const { shape, data } = byName.get(name);
    return { shape, data: new Float32Array(new Uint8Array(data).buffer) };
  };
  write('MiniLM', 'model.onnx', bertModel(MINILM, weights));
  encode(command, 'MiniLM', []);
  const data = [];
  let offset = 0;
  const outside = (name, shape, values) => {
    const bytes = Buffer.from(Float32Array.from(values).buffer);
    if (bytes.length < 1024) return onnx.tensor(name, shape, values);
    data.push(bytes);
    offset += bytes.length;
    return onnx.externalTensor(name, shape, 'model.onnx_data', offset - bytes.length);
  };
  write('MiniLM', 'external.onnx', bertModel(MINILM, weights, outside));
  write('MiniLM', 'model.onnx_data', Buffer.concat(data));
  const ids = { type: 'int64', dims: [1, 16] };
  return { feeds: { input_ids: ids, attention_mask: ids, token_type_ids: ids }, ways: ['external', 'bytes', 'adapter'] };
}

function write(folder, name, bytes) {
  mkdirSync(join(FOLDER, folder), { recursive: true });
  writeFileSync(join(FOLDER, folder, name), bytes);
}

function encode(command, folder, options) {
  const archive = join(FOLDER, folder, 'model.mcwc');
  execFileSync(command, ['encode', join(FOLDER, folder, 'model.onnx'), '-o', archive, '--bits', '4', '--json', ...options], { stdio: ['ignore', 'ignore', 'inherit'] });
  console.log(`${folder}: archive of ${round(statSync(archive).size / 1e6, 1)} MB`);
}

function found(measured, model, build, way) {
  return measured.find((one) => one.model === model && one.build === build && one.way === way);
}

export function runtimeTable(measured) {
  const ways = { bytes: 'decoded', external: 'original', adapter: 'adapter' };
  const header = ['onnxruntime-web: peak', ...Object.values(ways).flatMap((way) => [`${way}, MB`, 's'])];
  const models = [...new Set(measured.map(({ model }) => model))];
  const cells = (model, build) =>
    Object.keys(ways).flatMap((way) => {
      const one = found(measured, model, build, way);
      return one ? [round(one.peakBytes / 1e6, 0), round(one.milliseconds / 1000, 1)] : ['', ''];
    });
  const rows = models.flatMap((model) => Object.keys(BUILDS).map((build) => [`${model}, ${build}`, ...cells(model, build)]));
  return markdownTable(header, rows);
}

export function runtimeTargets(measured) {
  const peak = (...which) => found(measured, ...which).peakBytes;
  const builds = Object.keys(BUILDS);
  const shares = builds.map((build) => peak('synthetic', build, 'adapter') / peak('synthetic', build, 'bytes'));
  const overs = builds.map((build) => peak('MiniLM', build, 'adapter') / peak('MiniLM', build, 'external'));
  const most = (name, values, limit) => ({ name, value: round(Math.max(...values), 2), met: Math.max(...values) <= limit });
  const outputs = new Set(measured.filter(({ way }) => way !== 'external').map(({ model, build, output }) => `${model} ${build} ${output}`));
  return [
    most(`peak through the adapter over that of decoded bytes, at most ${SHARE_MAX}`, shares, SHARE_MAX),
    most("MiniLM's peak through the adapter over that of its original's external data, at most 1", overs, 1),
    { name: 'outputs through the adapter are those of decoded bytes', value: String(outputs.size === 2 * builds.length), met: outputs.size === 2 * builds.length },
  ];
}
