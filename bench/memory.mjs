// How much memory decoding takes, however large the archive, encoding, however large the model, how its time grows and what
// a second core saves of it, and a runtime that is handed the weights.
//   node bench/memory.mjs [--parts browser,native,encoder,cores,runtime] [--native-gb 2] [--browser-mb 500] [--encode-gb 1,4] [--modes bits,…] [--runtime-mb 500]
// Makes archives of synthetic weights in .cache, and deletes them. Writes bench/results/memory.json and docs/BENCHMARKS.md. Some of the
// parts update that part of the results.
// Exit status 1 if a bound is exceeded or a file comes back changed. Linux only: it reads /proc.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, existsSync, mkdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { number, numbers, readOptions, some } from '../scripts/options.mjs';
import { ROOT, step } from '../scripts/tools.mjs';
import { PKG, buildCommand, requirePackage } from './artifacts.mjs';
import { openPage } from './browser.mjs';
import { CACHE } from './fetch.mjs';
import { MODES, coresTable, coresTargets, encoderTable, encoderTargets, measureCores, measureEncoder } from './memory-encode.mjs';
import { measureRuntime, runtimeTable, runtimeTargets } from './memory-runtime.mjs';
import { measureProcess, renderers } from './resident.mjs';
import { round } from './stats.mjs';
import { writeSynthetic } from './synthetic.mjs';
import { markdownTable, publish, reportTargets, writeResults } from './table.mjs';

const BOUND_BYTES = 64 << 20;
/** Archive bytes for each byte of synthetic weights, about. */
const RATIO = 0.79;
const DATA = join(CACHE, 'memory');

const PARTS = ['browser', 'native', 'encoder', 'cores', 'runtime'];
const RESULTS = join(ROOT, 'bench/results/memory.json');
const SIZE = { whole: false };
const kinds = { 'native-gb': number(2, SIZE), 'browser-mb': number(500, SIZE), 'encode-gb': numbers([1, 4], SIZE), 'runtime-mb': number(500, SIZE) };
const { parts, modes, ...sizes } = readOptions(import.meta.filename, { parts: some(PARTS), modes: some(Object.keys(MODES)), ...kinds });
if (parts.includes('browser') || parts.includes('runtime')) requirePackage();
const command = buildCommand();
mkdirSync(DATA, { recursive: true });
const measures = {
  browser: () => measureBrowser(sizes['browser-mb'] * 1e6),
  native: () => measureNative(sizes['native-gb'] * 1e9),
  encoder: () => measureEncoder(command, sizes['encode-gb'].map((gigabytes) => gigabytes * 1e9), modes, results.encoder),
  cores: () => measureCores(command),
  runtime: () => measureRuntime(command, sizes['runtime-mb'] * 1e6),
};
const results = existsSync(RESULTS) ? JSON.parse(readFileSync(RESULTS, 'utf8')) : {};
try {
  for (const part of PARTS.filter((part) => parts.includes(part))) results[part] = await measures[part]();
} finally {
  rmSync(DATA, { recursive: true });
}
writeResults('memory', results);
const { native, browser, encoder, cores, runtime } = results;
const tables = [
  ...(native && browser ? [report(results)] : []),
  ...(encoder ? [encoderTable(encoder)] : []),
  ...(cores ? [coresTable(cores)] : []),
  ...(runtime ? [runtimeTable(runtime)] : []),
];
publish('memory', tables.join('\n\n'));
const bound = (name, bytes) => ({ name: `${name}, at most ${megabytes(BOUND_BYTES)} MB`, value: `${megabytes(bytes)} MB`, met: bytes <= BOUND_BYTES });
const targets = reportTargets([
  ...(encoder ? encoderTargets(encoder) : []),
  ...(cores ? coresTargets(cores) : []),
  ...(runtime ? runtimeTargets(runtime) : []),
  ...(native ? [bound('mcwc decode', native.peakBytes), { name: 'the decoded file is the original', value: String(native.same), met: native.same }] : []),
  ...(browser ? [bound('wasm memory of all threads', browser.wasmBytes)] : []),
]);
process.exitCode = targets ? 0 : 1;

/** An archive of about this many bytes, and the SHA-256 of the file in it, which is deleted. */
function synthesize(archiveBytes) {
  const [file, archive] = [join(DATA, 'weights.safetensors'), join(DATA, 'weights.mcwc')];
  step(`Archive of ${round(archiveBytes / 1e6, 0)} MB`);
  const hash = writeSynthetic(file, archiveBytes / RATIO);
  execFileSync(command, ['encode', file, '-o', archive, '--force', '--lossless', '--json']);
  rmSync(file);
  return { archive, hash };
}

async function measureNative(archiveBytes) {
  const { archive, hash } = synthesize(archiveBytes);
  step('mcwc decode');
  const started = performance.now();
  const { peakBytes } = await measureProcess(command, ['decode', archive, '-o', DATA, '--force', '--json']);
  const seconds = (performance.now() - started) / 1000;
  const file = join(DATA, 'weights.safetensors');
  const decoded = createHash('sha256');
  await pipeline(createReadStream(file), decoded);
  const result = { archiveBytes: statSync(archive).size, fileBytes: statSync(file).size, peakBytes, seconds };
  return { ...result, same: decoded.digest('hex') === hash };
}

async function measureBrowser(archiveBytes) {
  const { archive } = synthesize(archiveBytes);
  step('Chromium');
  const { browser, page, close } = await openPage({ bench: join(ROOT, 'bench'), pkg: PKG }, { args: ['--enable-precise-memory-info'] });
  try {
    const before = await renderers(browser);
    await page.evaluate(() => document.body.append(Object.assign(document.createElement('input'), { type: 'file' })));
    // A file on disk, so that the archive's own bytes are nowhere in memory.
    await page.setInputFiles('input', archive);
    const measured = await page.evaluate(async () => {
      const { decodeAll } = await import('/bench/memory-page.js');
      return decodeAll(document.querySelector('input').files[0]);
    });
    // Chromium keeps a spare process; the page's is the one that grew.
    const grown = Array.from(await renderers(browser), ([id, bytes]) => bytes - (before.get(id) ?? 0));
    return { archiveBytes: statSync(archive).size, ...measured, processBytes: Math.max(...grown) };
  } finally {
    await close();
  }
}

function megabytes(bytes) {
  return round(bytes / 1e6, 1);
}

function report({ native, browser }) {
  const rows = [
    ['`mcwc decode`: archive', megabytes(native.archiveBytes)],
    ['`mcwc decode`: peak resident memory, the program included', megabytes(native.peakBytes)],
    ['Chromium: archive', megabytes(browser.archiveBytes)],
    [`Chromium: wasm memory of ${browser.threads} threads together`, megabytes(browser.wasmBytes)],
    ["Chromium: the page's JavaScript heap, peak", megabytes(browser.heapBytes)],
    [`Chromium: the whole process, peak above an empty page, with one tensor of ${megabytes(browser.largestBytes)} MB`, megabytes(browser.processBytes)],
  ];
  return markdownTable(['', 'MB'], rows);
}
