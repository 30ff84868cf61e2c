// What a page downloads to read archives, against the budgets.
//   node bench/size.mjs
// Writes bench/results/size.json and docs/BENCHMARKS.md. Exit status 1 if a budget is exceeded.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';
import { readOptions } from '../scripts/options.mjs';
import { PKG, requirePackage } from './artifacts.mjs';
import { round } from './stats.mjs';
import { markdownTable, publish, reportTargets, writeResults } from './table.mjs';

/** A page downloads one of the first two, a service worker the last. Budgets are for gzip; of the second, for what it adds to the first. */
const PATHS = [
  { name: 'CPU', files: ['index.js', 'worker.js', 'mcwc_bg.wasm'] },
  { name: 'GPU', files: ['index.js', 'gpu.js', 'gpu-worker.js', 'mcwc_gpu_bg.wasm'] },
  { name: 'Service worker', files: ['service-worker.js', 'mcwc_bg.wasm'] },
];
const ADAPTERS = ['onnxruntime.js', 'tfjs.js', 'transformers.js'];
const ADAPTER_BYTES = 6_000;
const BUDGET_BYTES = { CPU: 64_000, 'GPU less CPU': 48_000, 'Service worker': 70_000 };
const KINDS = ['raw', 'gzip', 'brotli'];

readOptions(import.meta.filename);
requirePackage();
const paths = PATHS.map(({ name, files }) => {
  const sizes = files.map((file) => ({ file, ...sizesOf(readFileSync(join(PKG, file))) }));
  return { name, files: sizes, total: perKind((kind) => sizes.reduce((sum, size) => sum + size[kind], 0)) };
});
const [cpu, gpu, serviceWorker] = paths.map(({ total }) => total);
const totals = { CPU: cpu, 'GPU less CPU': perKind((kind) => gpu[kind] - cpu[kind]), 'Service worker': serviceWorker };
const adapters = ADAPTERS.map((file) => ({ file, ...sizesOf(readFileSync(join(PKG, file))) }));
writeResults('size', { paths, totals, adapters, budgetBytes: { ...BUDGET_BYTES, adapter: ADAPTER_BYTES } });
publish('size', report());
const targets = Object.entries(BUDGET_BYTES).map(([name, budget]) => {
  return within(name, totals[name].gzip, budget);
});
targets.push(...adapters.map(({ file, gzip }) => within(file, gzip, ADAPTER_BYTES)));
process.exitCode = reportTargets(targets) ? 0 : 1;

function within(name, gzip, budget) {
  return { name, value: `${kilobytes(gzip)} of ${kilobytes(budget)} kB gzipped`, met: gzip <= budget };
}

function perKind(value) {
  return Object.fromEntries(KINDS.map((kind) => [kind, value(kind)]));
}

function sizesOf(bytes) {
  const brotli = brotliCompressSync(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length } });
  return { raw: bytes.length, gzip: gzipSync(bytes, { level: 9 }).length, brotli: brotli.length };
}

function kilobytes(bytes) {
  return round(bytes / 1000, 1);
}

function report() {
  const row = (name, sizes, budget = '') => [name, ...KINDS.map((kind) => kilobytes(sizes[kind])), budget];
  const rows = paths.flatMap(({ name, files, total }) => [
    ...files.map((sizes) => row(`${name}: ${sizes.file}`, sizes)),
    row(`**${name}**`, total, name in BUDGET_BYTES ? kilobytes(BUDGET_BYTES[name]) : ''),
  ]);
  const added = 'GPU less CPU';
  rows.push(row(`**${added}**`, totals[added], kilobytes(BUDGET_BYTES[added])));
  rows.push(...adapters.map(({ file, ...sizes }) => row(`adapter: ${file}`, sizes, kilobytes(ADAPTER_BYTES))));
  return markdownTable(['kB', 'as it is', 'gzip -9', 'brotli -11', 'budget, gzip'], rows);
}
