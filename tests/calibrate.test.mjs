// `mcwc calibrate` on small models whose importances and moments are known in closed form.
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  assertMoments,
  assertNear,
  calibrate,
  convolutionWindows,
  emptyFolder,
  energy,
  folder,
  halfToFloat,
  matrix,
  mean,
  npyFile,
  product,
  save,
  saveJson,
  saveTensors,
  tableModel,
  transpose,
} from './common/calibration.mjs';
import {
  FLOAT,
  FLOAT16,
  INT64,
  externalTensor,
  integer,
  integers,
  message,
  node,
  tensor,
  tensorAttribute,
  value,
  values,
} from './common/onnx.mjs';

/** Noise is drawn: what is measured lies this near to what is expected. */
const NOISE_TOLERANCE = 0.12;

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
    'input_ids: uniform below 40, the rows of table, 1x64, 1x96, 1x128, 1x80',
    'attention_mask: ones, 1x64, 1x96, 1x128, 1x80',
    'token_type_ids: uniform below 2, the rows of kinds, 1x64, 1x96, 1x128, 1x80',
    'position_ids: counting up below 512, 1x64, 1x96, 1x128, 1x80',
    'past_key_values.0.key: zeros, 1x0x32',
    'size batch_size: 1',
    'size sequence_length: 64, 96, 128, 80',
    'size past_sequence_length: 0',
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
