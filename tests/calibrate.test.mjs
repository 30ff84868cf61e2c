// `mcwc calibrate` on small models whose importances and moments are known in closed form, and on what it must refuse.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import {
  FLOAT,
  FLOAT16,
  INT64,
  externalTensor,
  integer,
  integers,
  message,
  modelFile,
  node,
  tensor,
  tensorAttribute,
  value,
  values,
} from './common/onnx.mjs';

const ROOT = join(import.meta.dirname, '..');
const CLI = join(ROOT, 'pkg/cli.js');
/** Noise is drawn: what is measured lies this near to what is expected. */
const NOISE_TOLERANCE = 0.12;

let folder;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'mcwc-calibrate-'));
});
after(() => rm(folder, { recursive: true }));

test('measures a matrix that stands on the right', async () => {
  const [rows, columns, samples] = [32, 96, 6];
  const weight = values(1, rows * columns);
  const model = await save('right.onnx', {
    nodes: [node('MatMul', ['x', 'w'], ['y'])],
    tensors: [tensor('w', [rows, columns], weight)],
    inputs: [value('x', FLOAT, ['batch', rows])],
    outputs: [value('y', FLOAT, ['batch', columns])],
  });
  const inputs = Array.from({ length: samples }, (_, index) => matrix(values(10 + index, 4 * rows), 4, rows));
  const statistics = await calibrate(
    model,
    '--samples',
    await saveJson(
      'right.json',
      inputs.map((x) => ({ x })),
    ),
  );
  assert.deepEqual([...statistics.tensors.keys()], ['w/importance', 'w/row_moments']);
  assert.deepEqual(statistics.metadata, {
    format: 'mcwc-statistics',
    version: '1',
    samples: '6',
    inputs: 'samples',
    distortion: 'relative',
  });
  // Noise of energy 1 in the weight is |x|² / rows in the outputs.
  const expected = mean(
    inputs.map((x) => energy(x.flat()) / (rows * energy(product(x, matrix(weight, rows, columns)).flat()))),
  );
  assertNear(statistics.tensors.get('w/importance').data[0], expected, NOISE_TOLERANCE);
  assertMoments(statistics, 'w/row_moments', inputs.flat());
});

test('measures matrices that are transposed on their way', async () => {
  const size = 40;
  const model = await save('transposed.onnx', {
    nodes: [
      node('Gemm', ['x', 'a'], ['h'], [integer('transB', 1)]),
      node('Transpose', ['b'], ['b_t'], [integers('perm', [1, 0])]),
      node('Identity', ['b_t'], ['b_i']),
      node('MatMul', ['h', 'b_i'], ['y']),
    ],
    tensors: [tensor('a', [48, size], values(2, 48 * size)), tensor('b', [56, 48], values(3, 56 * 48))],
    inputs: [value('x', FLOAT, ['batch', size])],
    outputs: [value('y', FLOAT, ['batch', 56])],
  });
  const x = matrix(values(4, 3 * size), 3, size);
  const { tensors, ...rest } = await calibrate(model, '--samples', await saveJson('transposed.json', { x }));
  assertMoments({ tensors }, 'a/column_moments', x);
  assertMoments({ tensors }, 'b/column_moments', product(x, transpose(matrix(values(2, 48 * size), 48, size))));
  assert.equal(rest.metadata.samples, '1');
});

for (const { name, groups, pads, stride, dilation } of [
  { name: 'plain', groups: 1, pads: [0, 0, 0, 0], stride: 1, dilation: 1 },
  { name: 'padded, strided, dilated, grouped', groups: 2, pads: [2, 1, 1, 2], stride: 2, dilation: 2 },
]) {
  test(`measures a convolution: ${name}`, async () => {
    const [channels, kernel, side, out] = [8, 3, 12, 32];
    const inner = channels / groups;
    const weight = values(5, out * inner * kernel ** 2);
    const attributes = [
      integers('pads', pads),
      integers('strides', [stride, stride]),
      integers('dilations', [dilation, dilation]),
    ];
    const model = await save('conv.onnx', {
      nodes: [node('Conv', ['x', 'w'], ['y'], [...attributes, integer('group', groups)])],
      tensors: [tensor('w', [out, inner, kernel, kernel], weight)],
      inputs: [value('x', FLOAT, [1, channels, side, side])],
      outputs: [value('y', FLOAT, [1, out, 'height', 'width'])],
    });
    const x = values(6, channels * side * side);
    const sample = await saveTensors('conv.safetensors', { x: ['F32', [1, channels, side, side], Float32Array.from(x)] });
    const statistics = await calibrate(model, '--samples', sample);
    const windows = Array.from({ length: groups }, (_, group) => {
      const own = x.slice(group * inner * side * side, (group + 1) * inner * side * side);
      return convolutionWindows(own, inner, side, kernel, pads, stride, dilation);
    });
    assertMoments(statistics, 'w/column_moments', windows.flat());
    const perGroup = out / groups;
    const kernels = matrix(weight, out, inner * kernel ** 2);
    const outputs = windows.map((rows, group) =>
      product(rows, transpose(kernels.slice(group * perGroup, (group + 1) * perGroup))),
    );
    const expected = (perGroup * energy(windows.flat(2))) / (weight.length * energy(outputs.flat(2)));
    assertNear(statistics.tensors.get('w/importance').data[0], expected, NOISE_TOLERANCE);
  });
}

test('measures a transposed convolution by its input channels', async () => {
  const [channels, out, side] = [16, 24, 5];
  const model = await save('up.onnx', {
    nodes: [node('ConvTranspose', ['x', 'w'], ['y'], [integers('strides', [2, 2])])],
    tensors: [tensor('w', [channels, out, 2, 2], values(7, channels * out * 4))],
    inputs: [value('x', FLOAT, [1, channels, side, side])],
    outputs: [value('y', FLOAT, [1, out, 10, 10])],
  });
  const x = values(8, channels * side * side);
  const npy = join(folder, 'up.npy');
  await writeFile(npy, npyFile('<f4', [1, channels, side, side], Float32Array.from(x)));
  assertMoments(await calibrate(model, '--samples', npy), 'w/row_moments', transpose(matrix(x, channels, side * side)));
});

test('counts the rows of a table, and reads ids of any integer type', async () => {
  const [rows, width] = [300, 8];
  const ids = [7, 7, 7, 299, ...Array(200).keys()];
  const table = values(9, rows * width);
  const model = await save('table.onnx', tableModel(rows, width, table));
  const samples = await emptyFolder('ids');
  await saveTensors('ids/a.safetensors', { ids: ['I32', [1, ids.length], Int32Array.from(ids)] });
  const { tensors } = await calibrate(model, '--samples', samples);
  assert.deepEqual([...tensors.keys()], ['table/importance', 'table/row_importance']);
  // The noise of the rows that are looked up, as often as they are.
  const expected = ids.length / (rows * energy(ids.flatMap((id) => table.slice(id * width, (id + 1) * width))));
  assertNear(tensors.get('table/importance').data[0], expected, NOISE_TOLERANCE);
  const counts = Array.from({ length: rows }, (_, row) => 1 + ids.filter((id) => id === row).length);
  const frequencies = counts.map((count) => count / mean(counts));
  tensors.get('table/row_importance').data.forEach((found, row) => assertNear(found, frequencies[row], 1e-5));
});

test('a tied table is observed in both its uses', async () => {
  const [rows, width] = [64, 32];
  const table = values(11, rows * width);
  const model = await save('tied.onnx', {
    nodes: [
      node('Gather', ['table', 'ids'], ['h']),
      node('Transpose', ['table'], ['head']),
      node('MatMul', ['h', 'head'], ['y']),
    ],
    tensors: [tensor('table', [rows, width], table)],
    inputs: [value('ids', INT64, ['batch', 'sequence'])],
    outputs: [value('y', FLOAT, ['batch', 'sequence', rows])],
  });
  const ids = [3, 5, 3];
  const { tensors } = await calibrate(model, '--samples', await saveJson('tied.json', { ids: [ids] }), '--distortion', 'kl');
  assertMoments(
    { tensors },
    'table/column_moments',
    ids.map((id) => matrix(table, rows, width)[id]),
  );
  const found = tensors.get('table/row_importance').data;
  assertNear(mean([...found]), 1, 1e-6);
  assert.ok(found[3] > found[5] && found[5] > found[0] && found[0] > 0.5);
});

test('random inputs give the same importances each time, and no moments', async () => {
  const model = await save('random.onnx', tableModel(500, 16, values(12, 500 * 16)));
  const first = await calibrate(model);
  assert.deepEqual([...first.tensors.keys()], ['table/importance']);
  assert.deepEqual([first.metadata.inputs, first.metadata.samples], ['random', '0']);
  assert.match(first.report.assumed[0], /^ids: uniform below 500, the rows of table, 1x64, 1x96/);
  assert.ok(first.tensors.get('table/importance').data[0] > 0);
  assert.deepEqual((await calibrate(model)).bytes, first.bytes);
  assert.notDeepEqual((await calibrate(model, '--seed', '1')).bytes, first.bytes);
});

test('random inputs take the shapes that the model leaves open from --shape', async () => {
  const model = await save('shape.onnx', {
    nodes: [node('Conv', ['x', 'w'], ['y'])],
    tensors: [tensor('w', [64, 3, 3, 3], values(13, 64 * 27))],
    inputs: [value('x', FLOAT, ['', 3, 48, ''])],
    outputs: [value('y', FLOAT, ['', 64, 46, ''])],
  });
  assert.deepEqual((await calibrate(model)).report.assumed, ['x: normal, 1x3x48x320']);
  assert.deepEqual((await calibrate(model, '--shape', 'x=2x3x48x64')).report.assumed, ['x: normal, 2x3x48x64']);
});

test('random inputs of a decoder fit together', async () => {
  const [width, rows] = [32, 40];
  const model = await save('decoder.onnx', {
    nodes: [
      node('Cast', ['input_ids'], ['ids'], [integer('to', 6)]),
      node('Gather', ['table', 'ids'], ['tokens']),
      node('Gather', ['places', 'position_ids'], ['positions']),
      node('Gather', ['kinds', 'token_type_ids'], ['types']),
      node('Sum', ['tokens', 'positions', 'types'], ['h']),
      node('Concat', ['past_key_values.0.key', 'h'], ['present.0.key'], [integer('axis', 1)]),
      node('Cast', ['attention_mask'], ['mask'], [integer('to', FLOAT)]),
      node('MatMul', ['mask', 'present.0.key'], ['y']),
    ],
    tensors: [
      tensor('table', [rows, width], values(20, rows * width)),
      tensor('places', [512, width], values(21, 512 * width)),
      tensor('kinds', [2, width], values(22, 2 * width)),
    ],
    inputs: [
      value('input_ids', INT64, ['batch_size', 'sequence_length']),
      value('attention_mask', INT64, ['batch_size', 'past_sequence_length + sequence_length']),
      value('token_type_ids', INT64, ['batch_size', 'sequence_length']),
      value('position_ids', INT64, ['batch_size', 'sequence_length']),
      value('past_key_values.0.key', FLOAT, ['batch_size', 'past_sequence_length', width]),
    ],
    outputs: [
      value('y', FLOAT, ['batch_size', 'b', width]),
      value('present.0.key', FLOAT, ['batch_size', 'total_sequence_length', width]),
    ],
  });
  const { report, tensors } = await calibrate(model, '--inputs', '2');
  assert.deepEqual(report.assumed, [
    'input_ids: uniform below 40, the rows of table, 1x64, 1x96',
    'attention_mask: ones, 1x64, 1x96',
    'token_type_ids: zeros, 1x64, 1x96',
    'position_ids: counting up, 1x64, 1x96',
    'past_key_values.0.key: zeros, 1x0x32',
  ]);
  assert.deepEqual(report.outputs, ['y']);
  assert.deepEqual([...tensors.keys()], ['places/importance', 'table/importance']);
});

test('weights of half precision, of other files, of old files and of Constant nodes are the same weights', async () => {
  const [rows, columns] = [32, 48];
  const halves = Uint16Array.from(
    { length: rows * columns },
    (_, index) => 0x3000 + ((index * 7919) % 2048) + ((index % 2) << 15),
  );
  const floats = [...halves].map(halfToFloat);
  const x = matrix(values(14, 2 * rows), 2, rows);
  const samples = await saveJson('kinds.json', { x });
  const graph = { inputs: [value('x', FLOAT, [2, rows])], outputs: [value('y', FLOAT, [2, columns])] };
  const shape = [rows, columns];
  const data = Float32Array.from(floats);
  await writeFile(join(folder, 'weights.bin'), new Uint8Array([...new Uint8Array(8), ...new Uint8Array(data.buffer)]));
  const product = node('MatMul', ['x', 'w'], ['y']);
  const plain = await save('plain.onnx', { ...graph, nodes: [product], tensors: [tensor('w', shape, floats)] });
  const constant = await save('constant.onnx', {
    ...graph,
    nodes: [node('Constant', [], ['w'], [tensorAttribute(tensor('', shape, floats))]), product],
  });
  const external = await save('external.onnx', {
    ...graph,
    nodes: [product],
    tensors: [externalTensor('w', shape, 'weights.bin', 8)],
  });
  const old = await save('old.onnx', {
    ...graph,
    irVersion: 3,
    inputs: [...graph.inputs, value('w', FLOAT, shape)],
    nodes: [product],
    tensors: [tensor('w', shape, floats)],
  });
  const half = await save('half.onnx', {
    inputs: [value('x', FLOAT16, [2, rows])],
    outputs: [value('y', FLOAT16, [2, columns])],
    nodes: [product],
    tensors: [message([1, rows], [1, columns], [2, FLOAT16], [8, 'w'], [9, new Uint8Array(halves.buffer)])],
  });
  const [first, ...others] = await Promise.all(
    [plain, constant, external, old, half].map((model) => calibrate(model, '--samples', samples)),
  );
  for (const other of others) {
    assert.deepEqual([...other.tensors.keys()], ['w/importance', 'w/row_moments']);
    // Half precision also rounds what the model computes.
    assertNear(other.tensors.get('w/importance').data[0], first.tensors.get('w/importance').data[0], 0.05);
    assertMoments(other, 'w/row_moments', x, 5e-3);
  }
});

test('a weight without effect has importance 0, and small or whole-number tensors have none', async () => {
  const x = value('x', FLOAT, [1, 32]);
  const model = await save('unused.onnx', {
    nodes: [node('MatMul', ['x', 'w'], ['y']), node('MatMul', ['x', 'dead'], ['nothing']), node('Add', ['y', 'bias'], ['z'])],
    tensors: [
      tensor('w', [32, 40], values(15, 1280)),
      tensor('dead', [32, 40], values(16, 1280)),
      tensor('bias', [1, 40], values(17, 40)),
    ],
    inputs: [x],
    outputs: [value('z', FLOAT, [1, 40])],
  });
  const { tensors } = await calibrate(model);
  assert.deepEqual([...tensors.keys()], ['dead/importance', 'w/importance']);
  assert.equal(tensors.get('dead/importance').data[0], 0);
  assert.ok(tensors.get('w/importance').data[0] > 0);
});

test('says what it refuses, and why', async () => {
  const good = await save('good.onnx', tableModel(300, 8, values(9, 2400)));
  const foreign = await save('foreign.onnx', {
    ...tableModel(300, 8, values(9, 2400)),
    nodes: [node('Fancy', ['table'], ['y'], [], 'com.example')],
  });
  const missing = await save('missing.onnx', {
    ...tableModel(300, 8, []),
    tensors: [externalTensor('table', [300, 8], 'gone.bin', 0)],
  });
  const outside = await save('outside.onnx', {
    ...tableModel(300, 8, []),
    tensors: [externalTensor('table', [300, 8], '../secret', 0)],
  });
  const bare = await save('bare.onnx', { ...tableModel(4, 8, values(9, 32)) });
  const nan = await save('nan.onnx', {
    nodes: [node('MatMul', ['x', 'w'], ['h']), node('Sqrt', ['h'], ['root']), node('Relu', ['root'], ['y'])],
    tensors: [tensor('w', [32, 40], values(18, 1280))],
    inputs: [value('x', FLOAT, [1, 32])],
    outputs: [value('y', FLOAT, [1, 40])],
  });
  await writeFile(
    join(folder, 'noise.onnx'),
    Uint8Array.from({ length: 500 }, (_, index) => (index * 151) % 256),
  );
  const sample = async (name, content) => ['--samples', await saveJson(`${name}.json`, content)];
  for (const [status, expected, ...args] of [
    [1, /cannot read .*absent\.onnx/, join(folder, 'absent.onnx')],
    [1, /noise\.onnx is not a readable ONNX model/, join(folder, 'noise.onnx')],
    [1, /no operator Fancy of domain com\.example .*it makes y.*mcwc_statistics\.py/, foreign],
    [1, /tensor table: its data file .*gone\.bin is missing/, missing],
    [1, /tensor table: its data file \.\.\/secret is not beside the model/, outside],
    [1, /no float weight has two axes and 1024 elements/, bare],
    [1, /output y is not finite; the first tensor that is not a number is root/, nan],
    [1, /no samples in .*empty/, good, '--samples', await emptyFolder('empty')],
    [1, /sample .*stray\.json: the model has no input tokens; it has ids/, good, ...(await sample('stray', { tokens: [[1]] }))],
    [
      1,
      /sample .*rank\.json: input ids: its shape is 2, the model's batchxsequence/,
      good,
      ...(await sample('rank', { ids: [1, 2] })),
    ],
    [1, /sample .*real\.json: input ids: 1\.5 is not an integer/, good, ...(await sample('real', { ids: [[1.5]] }))],
    [1, /input ids is missing/, good, ...(await sample('none', {}))],
    [1, /fails on ids 1x1: .*indices element out of data bounds/, good, ...(await sample('far', { ids: [[300]] }))],
    [
      1,
      /takes integers \(I64\), not F32/,
      good,
      '--samples',
      await saveTensors('f.safetensors', { ids: ['F32', [1, 1], Float32Array.of(1)] }),
    ],
    [1, /no float output is named z; it has y/, good, '--outputs', 'z'],
    [1, /cannot write .*nowhere/, good, '-o', join(folder, 'nowhere/stats.safetensors')],
    [2, /takes one model/],
    [2, /--inputs 0: expected a whole number from 1 to 64/, good, '--inputs', '0'],
    [2, /Unknown option '--sample'/, good, '--sample', 'x'],
    [2, /--distortion cosine: expected relative or kl/, good, '--distortion', 'cosine'],
    [2, /the model has no input pixels; it has ids/, good, '--shape', 'pixels=1x3'],
  ]) {
    const result = await run([
      'calibrate',
      '--quiet',
      ...args,
      ...(args.includes('-o') ? [] : ['-o', join(folder, 'refused.safetensors')]),
    ]);
    assert.match(result.stderr, expected);
    assert.equal(result.status, status, result.stderr);
    assert.equal(result.stderr.trim().split('\n').length, 1, result.stderr);
  }
  assert.deepEqual(
    (await readdir(folder)).filter((name) => name.startsWith('refused')),
    [],
  );
});

test('says how to install the runtime where it is missing', async () => {
  const alone = await emptyFolder('alone');
  await mkdir(join(alone, 'pkg'));
  await copyFile(CLI, join(alone, 'pkg/cli.js'));
  await writeFile(join(alone, 'package.json'), '{"type":"module","version":"1.2.3"}');
  const model = await save('good.onnx', tableModel(300, 8, values(9, 2400)));
  const cli = join(alone, 'pkg/cli.js');
  const result = await run(['calibrate', model, '-o', join(alone, 'stats.safetensors')], cli);
  assert.equal(result.status, 1);
  assert.equal(result.stderr, 'mcwc: calibrate needs ONNX Runtime: npm install onnxruntime-node\n');
  assert.equal((await run(['--version'], cli)).stdout, 'mcwc 1.2.3\n');
});

test('help, and commands that are elsewhere', async () => {
  assert.match((await run(['--help'])).stdout, /Usage: mcwc calibrate MODEL\.onnx/);
  assert.match((await run(['calibrate', '--help'])).stdout, /--samples FILE\|DIR/);
  const encode = await run(['encode', 'model.onnx']);
  assert.deepEqual([encode.status, /cargo install --path \./.test(encode.stderr)], [2, true]);
  assert.equal((await run(['compress'])).status, 2);
});

test('an interrupted run leaves no file', async () => {
  const size = 1024;
  const layers = [...Array(8).keys()];
  const model = await save('slow.onnx', {
    nodes: layers.map((layer) => node('MatMul', [`x${layer}`, `w${layer}`], [`x${layer + 1}`])),
    tensors: layers.map((layer) => tensor(`w${layer}`, [size, size], values(layer, size * size))),
    inputs: [value('x0', FLOAT, ['', 64, size])],
    outputs: [value(`x${layers.length}`, FLOAT, ['', 64, size])],
  });
  const output = await emptyFolder('interrupted');
  const child = spawn(process.execPath, [CLI, 'calibrate', model, '--inputs', '64', '-o', join(output, 'stats.safetensors')]);
  await new Promise((resolve) => child.stderr.once('data', resolve));
  child.kill('SIGINT');
  const [, signal] = await new Promise((resolve) => child.once('exit', (...end) => resolve(end)));
  assert.equal(signal, 'SIGINT');
  assert.deepEqual(await readdir(output), []);
});

test('the package ships the command, the PyTorch script and the layout', async () => {
  const { stdout } = await promisify(execFile)('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: ROOT });
  const paths = JSON.parse(stdout)[0].files.map(({ path }) => path);
  for (const path of ['pkg/cli.js', 'scripts/mcwc_statistics.py', 'docs/CALIBRATION.md', 'LICENSE-MIT']) assert.ok(paths.includes(path), path);
  assert.equal((await readFile(CLI, 'utf8')).split('\n', 1)[0], '#!/usr/bin/env node');
});

async function calibrate(model, ...args) {
  const output = join(await mkdtemp(join(folder, 'run-')), 'stats.safetensors');
  const { status, stdout, stderr } = await run(['calibrate', model, '-o', output, '--json', '--quiet', ...args]);
  assert.equal(status, 0, stderr);
  const bytes = await readFile(output);
  return { ...parseStatistics(bytes), bytes, report: JSON.parse(stdout) };
}

async function run(args, cli = CLI) {
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
function assertMoments({ tensors }, name, positions, tolerance = 1e-4) {
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

function assertNear(found, expected, tolerance) {
  assert.ok(Math.abs(found / expected - 1) <= tolerance, `${found} is not near ${expected}`);
}

/** Of each input position, for each channel and tap. */
function convolutionWindows(x, channels, side, kernel, [top, left, bottom, right], stride, dilation) {
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

function tableModel(rows, width, table) {
  return {
    nodes: [node('Gather', ['table', 'ids'], ['y'])],
    tensors: [tensor('table', [rows, width], table)],
    inputs: [value('ids', INT64, ['batch', 'sequence'])],
    outputs: [value('y', FLOAT, ['batch', 'sequence', width])],
  };
}

function matrix(data, rows, columns) {
  return Array.from({ length: rows }, (_, row) => data.slice(row * columns, (row + 1) * columns));
}

function transpose(a) {
  return a[0].map((_, column) => a.map((row) => row[column]));
}

function product(a, b) {
  const columns = transpose(b);
  return a.map((row) => columns.map((column) => row.reduce((sum, value, index) => sum + value * column[index], 0)));
}

function energy(data) {
  return data.reduce((sum, value) => sum + value * value, 0);
}

function mean(data) {
  return data.reduce((sum, value) => sum + value, 0) / data.length;
}

function halfToFloat(bits) {
  return (bits >> 15 ? -1 : 1) * (1 + (bits & 1023) / 1024) * 2 ** (((bits >> 10) & 31) - 15);
}

async function emptyFolder(name) {
  const path = join(folder, name);
  await mkdir(path);
  return path;
}

async function saveJson(name, content) {
  await writeFile(join(folder, name), JSON.stringify(content));
  return join(folder, name);
}

async function saveTensors(name, tensors) {
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

function npyFile(descr, shape, { buffer }) {
  const header = `{'descr': '${descr}', 'fortran_order': False, 'shape': (${shape.join(', ')},), }`.padEnd(117) + '\n';
  return Buffer.concat([
    Buffer.from([0x93, ...Buffer.from('NUMPY'), 1, 0, header.length, 0]),
    Buffer.from(header),
    Buffer.from(buffer),
  ]);
}

async function save(name, graph) {
  await writeFile(join(folder, name), modelFile(graph));
  return join(folder, name);
}
