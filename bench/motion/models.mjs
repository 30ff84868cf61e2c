// MiniLM's fine-tune, and models that resemble it or themselves: made once, in .cache/motion.
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { step } from '../../scripts/tools.mjs';
import { CACHE } from '../fetch.mjs';
import { DATA, prepareModel, python } from '../rate/models.mjs';

export const MOTION = join(CACHE, 'motion');

export function variant(name) {
  return join(MOTION, `${name}.safetensors`);
}

export function prepareTuned({ fresh = false } = {}) {
  if (fresh) rmSync(MOTION, { recursive: true, force: true });
  mkdirSync(MOTION, { recursive: true });
  // The last that is written.
  if (existsSync(variant('finetuned-bf16'))) return;
  prepareModel('minilm');
  step('Variants of MiniLM');
  python('motion/variants.py', ['--cache', DATA, MOTION]);
}
