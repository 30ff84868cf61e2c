// How fast weights come out of an archive in Chromium, beside constriction and general-purpose compressors.
//   node bench/decode.mjs [--rounds 11]
// One interleaved run over archives at 4 bits per weight: of MiniLM, and of it with its layers twice, the second time with
// noise, with and without predicted frames. What is not ours decodes the levels of the first archive. Prints a table, writes
// bench/results/decode.json and docs/BENCHMARKS.md. Exit status 1 if a result is wrong or a target is missed.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';
import { number, readOptions } from '../scripts/options.mjs';
import { ROOT, step } from '../scripts/tools.mjs';
import { BASELINE, BINDINGS, PKG, buildBaseline, buildCommand, requirePackage } from './artifacts.mjs';
import { openPage } from './browser.mjs';
import { CACHE, fetchModel } from './fetch.mjs';
import { rates, round } from './stats.mjs';
import { writeGrown } from './synthetic.mjs';
import { markdownTable, publish, reportTargets, writeResults } from './table.mjs';

const BITS = 4;
/** What is encoded, and how; what is not ours is compared with the first archive. */
const ARCHIVES = {
  uniform: { model: fetchModel, options: ['--quantizer', 'uniform'] },
  trellis: { model: fetchModel, options: ['--quantizer', 'trellis'] },
  key: { model: growModel, options: ['--quantizer', 'uniform', '--no-prediction'] },
  predicted: { model: growModel, options: ['--quantizer', 'uniform'] },
};
const LABELS = {
  'kernel-uniform': 'mcwc, one thread, to f32',
  'kernel-trellis': 'mcwc, one thread, to f32, levels under the trellis',
  'kernel-key': 'mcwc, one thread, to f32, a grown model as key frames',
  'kernel-predicted': 'mcwc, one thread, to f32, a grown model with half of its frames predicted',
  'kernel-uniform-sha': 'mcwc, one thread, to f32, SHA-256 in wasm',
  constriction: 'constriction, one stream, to i8',
  zstd: 'zstd -19 (zstddec), to bytes',
  'zstd-in-place': 'zstd -19, left in wasm memory',
  brotli: 'brotli -11 (brotli-wasm), to bytes',
  gzip: 'gzip -9 (DecompressionStream), to bytes',
  ...endToEndLabels('1', '1 worker'),
  ...endToEndLabels('default', 'default workers'),
};
/** General-purpose compressors of the symbols; by file name. */
const COMPRESSORS = {
  zstd: zstdCompress,
  brotli: (bytes) =>
    brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_LGWIN]: 24, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length } }),
  gzip: (bytes) => gzipSync(bytes, { level: 9 }),
};
const PACKED = { zstd: 'zstd', 'zstd-in-place': 'zstd', brotli: 'brotli', gzip: 'gzip' };

const { rounds } = readOptions(import.meta.filename, { rounds: number(11, { min: 1 }) });
const DATA = join(CACHE, 'decode');
const [first] = Object.keys(ARCHIVES);
requirePackage();
await buildBaseline();
const command = buildCommand();
Object.entries(ARCHIVES).forEach(encode);
await compressSymbols();
step('Chromium');
const measured = await measure(rounds);
const results = summarize(measured);
writeResults('decode', results);
publish('decode', report(results));
const targets = reportTargets(targetsOf(results));
if (measured.wrong.length > 0) console.error(`Wrong output: ${measured.wrong.join(', ')}`);
process.exitCode = targets && measured.wrong.length === 0 ? 0 : 1;

function endToEndLabels(name, workers) {
  return {
    [`tensors-${name}`]: `archive.tensor(), ${workers}`,
    [`tensors-${name}-fresh`]: `archive.tensor(), ${workers}, new buffers`,
    [`turn-${name}-fresh`]: `archive.tensor() in turn, ${workers}, new buffers`,
    [`each-${name}`]: `archive.each(), ${workers}`,
    [`bytes-${name}`]: `file.bytes(), ${workers}, new memory`,
    [`read-${name}`]: `file.read(), ${workers}`,
  };
}

/** The archive, and what the native command makes of it. */
function encode([name, { model, options }]) {
  step(`Archive: ${name}`);
  const folder = join(DATA, name);
  mkdirSync(folder, { recursive: true });
  const archive = join(folder, 'model.mcwc');
  execFileSync(command, ['encode', model(), '-o', archive, '--force', '--bits', String(BITS), ...options, '--json']);
  execFileSync(command, ['decode', archive, '-o', folder, '--force', '--json']);
}

/** MiniLM with its layers twice. */
function growModel() {
  const model = join(DATA, 'grown', 'model.safetensors');
  mkdirSync(dirname(model), { recursive: true });
  writeGrown(model, fetchModel());
  return model;
}

/** The first archive's symbols under each compressor. */
async function compressSymbols() {
  const symbols = await symbolsOf(readFileSync(join(DATA, first, 'model.mcwc')));
  const hash = createHash('sha256').update(symbols).digest('hex');
  const hashFile = join(DATA, first, 'symbols.sha256');
  const current = existsSync(hashFile) && readFileSync(hashFile, 'utf8') === hash;
  for (const [name, compress] of Object.entries(COMPRESSORS)) {
    const path = join(DATA, first, `symbols.${name}`);
    if (current && existsSync(path)) continue;
    step(`${name} of ${round(symbols.length / 1e6, 1)} MB of symbols`);
    writeFileSync(path, await compress(symbols));
  }
  writeFileSync(hashFile, hash);
}

async function symbolsOf(archive) {
  const { Baseline, initSync } = await import(join(BASELINE, 'baseline.js'));
  const { memory } = initSync({ module: readFileSync(join(BASELINE, 'baseline_bg.wasm')) });
  const baseline = new Baseline(archive);
  return Buffer.from(memory.buffer.slice(baseline.symbols(), baseline.symbols() + baseline.len()));
}

async function zstdCompress(bytes) {
  const { compress, init } = createRequire(import.meta.url)('@bokuweb/zstd-wasm');
  await init();
  return compress(bytes, 19);
}

async function measure(rounds) {
  const folders = {
    baseline: BASELINE,
    bench: join(ROOT, 'bench'),
    bindings: BINDINGS,
    data: DATA,
    modules: join(ROOT, 'node_modules'),
    pkg: PKG,
  };
  const { page, close } = await openPage(folders);
  try {
    const options = { rounds, archives: Object.keys(ARCHIVES), packed: Object.keys(COMPRESSORS) };
    return await page.evaluate(async (options) => (await import('/bench/decode-page.js')).measure(options), options);
  } finally {
    await close();
  }
}

function summarize({ weights, streamBytes, samplesMs }) {
  const codedBytes = Object.fromEntries(Object.keys(ARCHIVES).map((name) => [name, codedBytesOf(name)]));
  const bytesOf = (name) => {
    if (name in PACKED) return statSync(join(DATA, first, `symbols.${PACKED[name]}`)).size;
    return name === 'constriction' ? streamBytes : codedBytes[name.replace('kernel-', '')] ?? codedBytes[first];
  };
  const methods = Object.entries(samplesMs).map(([name, samples]) => {
    const bytes = bytesOf(name);
    const symbols = weights[name];
    return { name, symbols, bytes, bitsPerWeight: (8 * bytes) / symbols, millionSymbolsPerSecond: rates(symbols, samples) };
  });
  return { rounds: Object.values(samplesMs)[0].length, methods };
}

/** Bytes of an archive that coded weights take: all of it but what is exact. */
function codedBytesOf(name) {
  const inspected = JSON.parse(execFileSync(command, ['inspect', join(DATA, name, 'model.mcwc'), '--json'], { encoding: 'utf8' }));
  const coded = inspected.tensors.filter(({ coding }) => coding.endsWith('levels'));
  return coded.reduce((sum, tensor) => sum + tensor.coded_bytes, 0);
}

function report({ methods, rounds }) {
  const speed = (wanted) => methods.find(({ name }) => name === wanted).millionSymbolsPerSecond.median;
  const rows = methods.map(({ name, bytes, bitsPerWeight, millionSymbolsPerSecond: { median, best } }) => {
    const toFloats = !(name in PACKED) && name !== 'constriction';
    return [
      LABELS[name],
      round(median, 0),
      round(best, 0),
      toFloats ? round(4 * median, 0) : '',
      round(median / speed('constriction'), 2),
      round(median / speed('zstd'), 2),
      round(bytes / 1e6, 2),
      round(bitsPerWeight, 3),
    ];
  });
  const header = ['', 'Mweights/s', 'best', 'MB/s of f32', '× constriction', '× zstd -19', 'MB', 'bits/weight'];
  const millions = (wanted) => round(methods.find(({ name }) => name === wanted).symbols / 1e6, 1);
  return `${millions('constriction')} million weights, ${millions('kernel-key')} in the grown model; ${rounds} rounds.\n\n${markdownTable(header, rows)}`;
}

function targetsOf({ methods }) {
  const speed = (wanted) => methods.find(({ name }) => name === wanted).millionSymbolsPerSecond.median;
  const ratio = (name, [method, other], atLeast) => {
    const value = speed(method) / speed(other);
    return { name: `${name}, at least ${round(atLeast, 2)}`, value: round(value, 2), met: value >= atLeast };
  };
  return [
    ratio('mcwc to f32 ÷ constriction', ['kernel-uniform', 'constriction'], 4.5),
    ratio('mcwc to f32 ÷ zstd -19', ['kernel-uniform', 'zstd'], 1),
    ratio('trellis ÷ uniform', ['kernel-trellis', 'kernel-uniform'], 0.75),
    ratio('predicted archive ÷ key frames', ['kernel-predicted', 'kernel-key'], 0.6),
    ratio('archive.tensor(), 1 worker ÷ mcwc to f32', ['tensors-1', 'kernel-uniform'], 0.7),
    ratio('archive.tensor(), default workers ÷ mcwc to f32', ['tensors-default', 'kernel-uniform'], 0.7),
    ratio('archive.each() ÷ archive.tensor() in turn, 1 worker', ['each-1', 'turn-1-fresh'], 1.2),
    ratio('archive.each() ÷ archive.tensor() in turn, default workers', ['each-default', 'turn-default-fresh'], 1.2),
    ratio('file.read() ÷ file.bytes(), default workers', ['read-default', 'bytes-default'], 1.2),
  ];
}
