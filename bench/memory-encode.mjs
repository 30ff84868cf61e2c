// How much memory encoding takes, however large the model, how its time grows, and what a second core saves of it.
import { execFileSync } from 'node:child_process';
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { step } from '../scripts/tools.mjs';
import { writeSafetensors } from '../tests/common/safetensors.mjs';
import { CACHE, fetchModel } from './fetch.mjs';
import { measureProcess } from './resident.mjs';
import { median, round } from './stats.mjs';
import { transformerImportances, writeTransformer } from './synthetic.mjs';
import { markdownTable } from './table.mjs';

const BOUND_BYTES = 700e6;
/** What a larger model may take, compared with the smaller. */
const GROWTH_MAX = 1.15;
const TIME_GROWTH_MAX = 1.1;
const SCALING_MIN = 1.7;
const SCALING_ROUNDS = 7;
/** Weights of a fine-tune that differ from its base. */
const CHANGED = 0.01;

const FOLDER = join(CACHE, 'memory-encode');
const path = (name) => join(FOLDER, name);

/** In this order, as a delta needs its base. */
export const MODES = {
  'bits': ['--bits', '4'],
  'lossless': ['--lossless'],
  'importances': ['--bits', '4', '--calibration', path('importances.safetensors')],
  'progressive': ['--progressive', '2.5,4'],
  'base of nearest levels': ['--bits', '3.6', '--quantizer', 'uniform'],
  'delta': ['--base', path('base of nearest levels.mcwc')],
};

/** Peak memory and processor time of modes, for models of these sizes in bytes; of others as they were. */
export async function measureEncoder(command, sizes, modes, before = []) {
  const measured = before.filter(({ mode }) => !modes.includes(mode));
  for (const bytes of sizes) {
    mkdirSync(FOLDER, { recursive: true });
    try {
      step(`Model of ${bytes / 1e9} GB`);
      writeTransformer(path('model.safetensors'), bytes);
      writeTransformer(path('tuned.safetensors'), bytes, CHANGED);
      writeSafetensors(path('importances.safetensors'), transformerImportances(bytes), { format: 'mcwc-statistics', version: '1' });
      for (const [mode, args] of Object.entries(MODES).filter(([mode]) => modes.includes(mode))) {
        const model = path(mode === 'delta' ? 'tuned.safetensors' : 'model.safetensors');
        const { peakBytes, cpuSeconds } = await measureProcess(command, ['encode', '--json', model, '-o', path(`${mode}.mcwc`), ...args]);
        measured.push({ mode, bytes, peakBytes, cpuSeconds });
        console.log(`${mode}: ${round(peakBytes / 1e6, 0)} MB, ${round(cpuSeconds, 0)} s`);
      }
    } finally {
      rmSync(FOLDER, { recursive: true });
    }
  }
  return measured;
}

/** Seconds that MiniLM takes to encode, in turn on one core and on two. Linux only, by util-linux's taskset. */
export function measureCores(command) {
  step('MiniLM on one core and on two');
  const model = fetchModel();
  mkdirSync(FOLDER, { recursive: true });
  const seconds = (cores) => {
    const started = performance.now();
    execFileSync('taskset', ['--cpu-list', cores, command, 'encode', '--json', model, '-o', path('model.mcwc'), '--force']);
    return (performance.now() - started) / 1000;
  };
  try {
    return Array.from({ length: SCALING_ROUNDS }, () => ({ one: seconds('0'), two: seconds('0,1') }));
  } finally {
    rmSync(FOLDER, { recursive: true });
  }
}

export function coresTable(rounds) {
  const row = (name, cores) => [name, round(median(rounds.map((seconds) => seconds[cores])), 2)];
  return markdownTable(['`mcwc encode` of MiniLM', 'seconds'], [row('on one core', 'one'), row('on two cores', 'two')]);
}

export function coresTargets(rounds) {
  const scaling = median(rounds.map(({ one, two }) => one / two));
  return [{ name: `encoding on two cores, at least ${SCALING_MIN} x as fast as on one`, value: round(scaling, 2), met: scaling >= SCALING_MIN }];
}

export function encoderTable(measured) {
  const sizes = [...new Set(measured.map(({ bytes }) => bytes))];
  const found = (mode, bytes) => measured.find((one) => one.mode === mode && one.bytes === bytes);
  const header = ['`mcwc encode`', ...sizes.flatMap((bytes) => [`${bytes / 1e9} GB: peak, MB`, 'CPU seconds'])];
  const cells = (mode) => sizes.map((bytes) => found(mode, bytes)).flatMap(({ peakBytes, cpuSeconds }) => [round(peakBytes / 1e6, 0), round(cpuSeconds, 0)]);
  return markdownTable(header, Object.keys(MODES).map((mode) => [mode, ...cells(mode)]));
}

export function encoderTargets(measured) {
  const most = Math.max(...measured.map(({ peakBytes }) => peakBytes));
  const growth = (value) => {
    const ofMode = (mode) => measured.filter((one) => one.mode === mode).map(value);
    return Math.max(...Object.keys(MODES).map(ofMode).map((values) => values.at(-1) / values[0]));
  };
  const memory = growth(({ peakBytes }) => peakBytes);
  const time = growth(({ cpuSeconds, bytes }) => cpuSeconds / bytes);
  return [
    { name: `mcwc encode, at most ${BOUND_BYTES / 1e6} MB`, value: `${round(most / 1e6, 0)} MB`, met: most <= BOUND_BYTES },
    { name: `the largest model's peak over the smallest's, at most ${GROWTH_MAX}`, value: round(memory, 2), met: memory <= GROWTH_MAX },
    { name: `the same of the time for each weight, at most ${TIME_GROWTH_MAX}`, value: round(time, 2), met: time <= TIME_GROWTH_MAX },
  ];
}
