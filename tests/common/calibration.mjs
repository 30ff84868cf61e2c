// `mcwc calibrate` and its statistics: small models, inputs in every form, and what is expected of them.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before } from 'node:test';
import { promisify } from 'node:util';
import { FLOAT, INT64, modelFile, node, tensor, value } from './onnx.mjs';

export const ROOT = join(import.meta.dirname, '../..');
export const CLI = join(ROOT, 'pkg/cli.js');

export let folder;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'mcwc-calibrate-'));
});
after(() => rm(folder, { recursive: true }));

export async function calibrate(model, ...args) {
  const output = join(await mkdtemp(join(folder, 'run-')), 'stats.safetensors');
  const { status, stdout, stderr } = await run(['calibrate', model, '-o', output, '--json', '--quiet', ...args]);
  assert.equal(status, 0, stderr);
  const bytes = await readFile(output);
  return { ...parseStatistics(bytes), bytes, report: JSON.parse(stdout) };
}

export async function run(args, cli = CLI) {
  try {
    return { status: 0, ...(await promisify(execFile)(process.execPath, [cli, ...args])) };
  } catch ({ code: status, stdout, stderr }) {
    return { status, stdout, stderr };
  }
}

function parseStatistics(bytes) {
  const length = Number(bytes.readBigUInt64LE(0));
  const { __metadata__: metadata, ...header } = JSON.parse(bytes.subarray(8, 8 + length));
  const data = new Uint8Array(bytes.subarray(8 + length)).buffer;
  const tensors = new Map();
  for (const [
    name,
    {
      dtype,
      shape,
      data_offsets: [start, end],
    },
  ] of Object.entries(header)) {
    assert.equal(dtype, 'F32');
    tensors.set(name, { shape, data: new Float32Array(data.slice(start, end)) });
  }
  return { metadata, tensors };
}

/** `positions` are the rows that the weight was multiplied with. */
export function assertMoments({ tensors }, name, positions, tolerance = 1e-4) {
  assert.ok(tensors.has(name), `${name} is not among ${[...tensors.keys()]}`);
  const { shape, data } = tensors.get(name);
  const size = positions[0].length;
  assert.deepEqual(shape, [size, size]);
  const expected = product(transpose(positions), positions)
    .flat()
    .map((sum) => sum / positions.length);
  const scale = Math.sqrt(mean(expected.map((value) => value ** 2)));
  expected.forEach((value, index) =>
    assert.ok(Math.abs(data[index] - value) <= tolerance * scale, `${name}[${index}]: ${data[index]}, ${value}`),
  );
}

export function assertNear(found, expected, tolerance) {
  assert.ok(Math.abs(found / expected - 1) <= tolerance, `${found} is not near ${expected}`);
}

/** Of each input position, for each channel and tap. */
export function convolutionWindows(x, channels, side, kernel, [top, left, bottom, right], stride, dilation) {
  const windows = [];
  const reach = dilation * (kernel - 1);
  for (let y0 = -top; y0 + reach < side + bottom; y0 += stride) {
    for (let x0 = -left; x0 + reach < side + right; x0 += stride) {
      const window = [];
      for (let channel = 0; channel < channels; channel++) {
        for (let tap = 0; tap < kernel ** 2; tap++) {
          const [row, column] = [y0 + dilation * Math.floor(tap / kernel), x0 + dilation * (tap % kernel)];
          const inside = row >= 0 && row < side && column >= 0 && column < side;
          window.push(inside ? x[(channel * side + row) * side + column] : 0);
        }
      }
      windows.push(window);
    }
  }
  return windows;
}

export function tableModel(rows, width, table) {
  return {
    nodes: [node('Gather', ['table', 'ids'], ['y'])],
    tensors: [tensor('table', [rows, width], table)],
    inputs: [value('ids', INT64, ['batch', 'sequence'])],
    outputs: [value('y', FLOAT, ['batch', 'sequence', width])],
  };
}

export function matrix(data, rows, columns) {
  return Array.from({ length: rows }, (_, row) => data.slice(row * columns, (row + 1) * columns));
}

export function transpose(a) {
  return a[0].map((_, column) => a.map((row) => row[column]));
}

export function product(a, b) {
  const columns = transpose(b);
  return a.map((row) => columns.map((column) => row.reduce((sum, value, index) => sum + value * column[index], 0)));
}

export function energy(data) {
  return data.reduce((sum, value) => sum + value * value, 0);
}

export function mean(data) {
  return data.reduce((sum, value) => sum + value, 0) / data.length;
}

export function halfToFloat(bits) {
  return (bits >> 15 ? -1 : 1) * (1 + (bits & 1023) / 1024) * 2 ** (((bits >> 10) & 31) - 15);
}

export async function emptyFolder(name) {
  const path = join(folder, name);
  await mkdir(path);
  return path;
}

export async function saveJson(name, content) {
  await writeFile(join(folder, name), JSON.stringify(content));
  return join(folder, name);
}

export async function saveTensors(name, tensors) {
  let offset = 0;
  const entries = Object.entries(tensors).map(([name, [dtype, shape, data]]) => {
    return [name, { dtype, shape, data_offsets: [offset, (offset += data.byteLength)] }];
  });
  const header = Buffer.from(JSON.stringify(Object.fromEntries(entries)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  await writeFile(
    join(folder, name),
    Buffer.concat([length, header, ...Object.values(tensors).map(([, , { buffer }]) => Buffer.from(buffer))]),
  );
  return join(folder, name);
}

export function npyFile(descr, shape, { buffer }) {
  const header = `{'descr': '${descr}', 'fortran_order': False, 'shape': (${shape.join(', ')},), }`.padEnd(117) + '\n';
  return Buffer.concat([
    Buffer.from([0x93, ...Buffer.from('NUMPY'), 1, 0, header.length, 0]),
    Buffer.from(header),
    Buffer.from(buffer),
  ]);
}

export async function save(name, graph) {
  await writeFile(join(folder, name), modelFile(graph));
  return join(folder, name);
}
