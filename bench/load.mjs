// How long a page waits for a model, and how much memory that takes: files as others ship them, and archives of the same quality.
//   node bench/load.mjs [--models minilm,tuned,ocr] [--speeds 10,50,300,unthrottled,cached] [--rounds 1,2,5,5,5] [--command path] [--fresh] [--trial]
// Chromium, onnxruntime-web on one thread, and a server that sends no faster than the visitor's network, in Mbit/s. What is downloaded is
// made once, in .cache/load; so are samples, from which an interrupted run goes on. --fresh measures anew. Writes bench/results/load.json
// and load.svg, and docs/BENCHMARKS.md, but of some models only prints the table, as --trial does, which neither takes samples nor leaves any.
// Exit status 1 if an output is wrong or a target is missed. Linux only: it reads /proc.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { flag, numbers, readOptions, some, text, wrongUsage } from '../scripts/options.mjs';
import { ROOT, step } from '../scripts/tools.mjs';
import { buildCommand, requirePackage } from './artifacts.mjs';
import { plot } from './load/plot.mjs';
import { DATA, MODELS, prepareVariants } from './load/prepare.mjs';
import { conditionOf, report, summarize, targets, wrongOutputs } from './load/report.mjs';
import { NOTHING, addressOf, startVisits } from './load/visits.mjs';
import { publish, reportTargets, writeResults } from './table.mjs';

const SAMPLES = join(DATA, 'samples.json');
const PLOT = join(ROOT, 'bench/results/load.svg');
const CACHED = 'cached';

const { models, speeds, rounds, command, fresh, trial } = readOptions(import.meta.filename, {
  models: some(Object.keys(MODELS)),
  speeds: text(`10,50,300,unthrottled,${CACHED}`),
  rounds: numbers([1, 2, 5, 5, 5], { min: 1 }),
  command: text(),
  fresh: flag,
  trial: flag,
});
const conditions = conditionsOf(speeds.split(','), rounds);

requirePackage();
const variants = prepareVariants(command ?? buildCommand(), models);
const samples = !fresh && !trial && existsSync(SAMPLES) ? JSON.parse(readFileSync(SAMPLES, 'utf8')) : {};
await measure();
const results = summarize(variants, samples);
if (trial || models.length < Object.keys(MODELS).length) {
  console.log(report(results));
} else {
  writeResults('load', results);
  writeFileSync(PLOT, plot(results));
  publish('load', report(results));
}
const wrong = wrongOutputs(variants, samples);
if (wrong.length > 0) console.error(`Wrong output, and by how much: ${wrong.join(', ')}`);
process.exitCode = reportTargets(targets(results)) && wrong.length === 0 ? 0 : 1;

function conditionsOf(names, rounds) {
  if (names.length !== rounds.length) wrongUsage(import.meta.filename, '--speeds and --rounds have to be of one length');
  return names.map((name, index) => {
    if (name === CACHED) return { name, rounds: rounds[index], cached: true };
    const megabits = name === 'unthrottled' ? Infinity : Number(name);
    return megabits > 0 ? { name, rounds: rounds[index], megabits } : wrongUsage(import.meta.filename, `--speeds ${name}: no number of Mbit/s`);
  });
}

async function measure() {
  const kept = new Set();
  const visits = await startVisits(DATA, variants);
  try {
    step('What is in the cache before');
    for (const model of models) await visits.visit({ ...NOTHING, model }, { cached: true });
    for (const variant of variants.filter(({ dictionary }) => dictionary)) await visits.visit({ ...variant, kind: 'dictionary' });
    for (const { base } of variants.filter(({ base }) => base)) await visits.visit(base, { cached: true });
    for (let round = 0; round < Math.max(...conditions.map(({ rounds }) => rounds)); round++) {
      for (const condition of conditions.filter(({ rounds }) => round < rounds)) await measureRound(visits, kept, condition, round);
    }
  } finally {
    await visits.close();
  }
}

/** All variants in turn, with the runtime and without; those that are predicted from something cached are not cached themselves. `kept`: what is in the cache. */
async function measureRound({ visit }, kept, condition, round) {
  const { name, cached } = condition;
  const measured = [NOTHING, ...variants].filter(({ kind, base, dictionary }) => !cached || !(kind === NOTHING.kind || base || dictionary));
  for (const variant of measured) {
    for (const weightsOnly of variant.model ? [false, true] : [false]) {
      const key = `${variant.model ? addressOf(variant) : 'runtime'} ${conditionOf(name, weightsOnly)}`;
      const known = (samples[key] ??= []);
      if (known.length > round) continue;
      step(key);
      if (cached && !kept.has(variant)) await visit(variant, condition);
      if (cached) kept.add(variant);
      known.push(await visit(variant, { ...condition, weightsOnly }));
      if (!trial) writeFileSync(SAMPLES, JSON.stringify(samples));
    }
  }
}
