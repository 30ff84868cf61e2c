// Random inputs: valid ones that reach what real inputs reach, and what is said and done about what they miss.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import * as ort from 'onnxruntime-node';
import { calibrate, folder, run, save, tableModel } from './common/calibration.mjs';
import { NATIVE } from './common/command.mjs';
import {
  BOOL,
  FLOAT,
  INT64,
  UINT8,
  boolTensor,
  graphAttribute,
  integer,
  integers,
  node,
  subgraph,
  tensor,
  value,
  values,
  wholeTensor,
} from './common/onnx.mjs';

const WIDTH = 40;
/** Relative squared error of the outputs that is asked for, and the most that any input may show. */
const [QUALITY, LOSS] = [0.01, 0.05];

test('one symbolic size is the same in all inputs', async () => {
  const model = await save('symbols.onnx', {
    nodes: [node('MatMul', ['a', 'w'], ['h']), node('MatMul', ['b', 'h'], ['y'])],
    tensors: [tensor('w', [32, WIDTH], values(1, 32 * WIDTH))],
    inputs: [value('a', FLOAT, ['n', 32]), value('b', FLOAT, ['m', 'n'])],
    outputs: [value('y', FLOAT, ['m', WIDTH])],
  });
  assert.deepEqual((await calibrate(model)).report.assumed, ['a: normal, 1x32', 'b: normal, 1x1', 'size n: 1', 'size m: 1']);
  const given = await calibrate(model, '--shape', 'b=5x7');
  assert.deepEqual(given.report.assumed, ['a: normal, 7x32', 'b: normal, 5x7', 'size m: 5', 'size n: 7']);
});

for (const { name, rows, inputs = [value('ids', INT64, ['batch', 'sequence'])], nodes, tensors = [], assumed } of [
  {
    name: 'one-hot',
    rows: 50,
    nodes: oneHot('y'),
    tensors: oneHotTensors(50),
    assumed: 'uniform below 50, what they are compared with',
  },
  {
    name: 'shifted',
    rows: 50,
    nodes: [node('Add', ['ids', 'shift'], ['shifted']), node('Gather', ['table', 'shifted'], ['y'])],
    tensors: [wholeTensor('shift', [], [2])],
    assumed: 'uniform from -2 and below 48, the rows of table',
  },
  {
    name: 'strided',
    rows: 60,
    nodes: [node('Mul', ['ids', 'stride'], ['strided']), node('Gather', ['table', 'strided'], ['y'])],
    tensors: [wholeTensor('stride', [1], [3])],
    assumed: 'uniform below 20, the rows of table',
  },
  {
    name: 'wrapped where negative',
    rows: 50,
    nodes: [
      node('Less', ['ids', 'zero'], ['negative']),
      node('Add', ['ids', 'rows'], ['wrapped']),
      node('Where', ['negative', 'wrapped', 'ids'], ['index']),
      node('Gather', ['table', 'index'], ['y']),
    ],
    tensors: [wholeTensor('zero', [], [0]), wholeTensor('rows', [], [50])],
    assumed: 'uniform below 50, the rows of table',
  },
  {
    name: 'of a transposed table',
    rows: 50,
    nodes: [
      node('Transpose', ['table'], ['columns'], [integers('perm', [1, 0])]),
      node('Gather', ['columns', 'ids'], ['y'], [integer('axis', 1)]),
    ],
    assumed: 'uniform below 50, the rows of table',
  },
  {
    name: 'pixels',
    rows: 64,
    inputs: [value('ids', UINT8, [1, 64])],
    nodes: [node('Cast', ['ids'], ['x'], [integer('to', FLOAT)]), node('MatMul', ['x', 'table'], ['y'])],
    assumed: 'uniform from 0 and below 256, being quantities',
  },
  {
    name: 'lengths',
    rows: 64,
    inputs: [value('x', FLOAT, ['batch', 'time', 64]), value('x_lengths', INT64, ['batch'])],
    nodes: [
      node('MatMul', ['x', 'table'], ['h']),
      node('Cast', ['x_lengths'], ['lengths'], [integer('to', FLOAT)]),
      node('Div', ['h', 'lengths'], ['y']),
    ],
    assumed: 'the longest size',
  },
  {
    name: 'untold',
    rows: 64,
    inputs: [value('x', FLOAT, [1, 64]), value('k', INT64, [1])],
    nodes: [
      node('MatMul', ['x', 'table'], ['h']),
      node('Cast', ['k'], ['f'], [integer('to', FLOAT)]),
      node('Add', ['h', 'f'], ['y']),
    ],
    assumed: 'zeros, as nothing tells what it may hold',
  },
]) {
  test(`integers are what they are used for: ${name}`, async () => {
    const graph = {
      nodes,
      inputs,
      tensors: [tensor('table', [rows, WIDTH], values(2, rows * WIDTH)), ...tensors],
      outputs: [value('y', FLOAT, ['b', 's', WIDTH])],
    };
    const { report, tensors: measured } = await calibrate(await save(`use-${rows}-${name.length}.onnx`, graph));
    assert.ok(report.assumed[inputs.length - 1].includes(`: ${assumed}, `), report.assumed);
    assert.ok(measured.get('table/importance').data[0] > 0, name);
  });
}

test('every row is looked up before one is twice, and rows that are not are counted', async () => {
  const few = await calibrate(await save('few.onnx', tableModel(300, 8, values(3, 2400))));
  assert.deepEqual(few.report.notes, []);
  const many = await calibrate(await save('many.onnx', tableModel(3000, 8, values(3, 24000))));
  assert.deepEqual(many.report.notes, ['table: 480 of 3000 rows were looked up']);
});

test('weights in branches are measured in both, and so are those in loops', async () => {
  const model = await save('branches.onnx', branches());
  const { tensors, report } = await calibrate(model, '--shape', `input=3x${WIDTH}`);
  for (const name of ['then', 'otherwise', 'outer', 'repeated']) {
    assert.ok(tensors.get(`${name}/importance`).data[0] > 0, `${name}: ${report.notes}`);
  }
  assert.ok(!tensors.has('same/importance'));
  assert.deepEqual(report.notes, [
    'same: not measured, being a name of several things in branches or loops',
    'then: measured in a branch that these inputs do not take',
    'outer: measured in a branch that these inputs do not take',
  ]);
});

test('a model whose random inputs mislead keeps what real inputs need', async () => {
  const model = await save('misleading.onnx', misleading());
  const { tensors, report } = await calibrate(model);
  assert.equal(tensors.get('gated/importance').data[0], 0);
  assert.ok(report.notes.includes('gated: no output depended on it; it is taken to matter as much as others do'), report.notes);
  assert.ok(report.notes.includes('rare: measured in a branch that these inputs do not take'), report.notes);
  assert.ok(report.secondDraw > 0.3 && report.secondDraw < 3, report.secondDraw);
  for (const [promise, ...target] of [
    [/error of the outputs: as without calibration, judged by random inputs/],
    [/error on random inputs: .* on a second draw; on real ones unknown/, '--quality', `${QUALITY}`],
  ]) {
    const { said, loss } = await roundTrip(model, target);
    assert.ok(loss < LOSS, `${target}: ${loss}`);
    assert.match(said, promise);
    assert.match(said, /1 tensor without any effect on the outputs that were measured, taken to matter .*: gated/);
  }
});

/** `ids` -> rows of `table`, as products with vectors of which one element is 1. */
function oneHot(output) {
  return [
    node('Unsqueeze', ['ids', 'last'], ['column']),
    node('Equal', ['column', 'numbers'], ['equal']),
    node('Cast', ['equal'], ['hot'], [integer('to', FLOAT)]),
    node('MatMul', ['hot', 'table'], [output]),
  ];
}

function oneHotTensors(rows) {
  return [wholeTensor('numbers', [rows], [...Array(rows).keys()]), wholeTensor('last', [1], [-1])];
}

/** The condition is false for random inputs. A loop of two rounds, and one name in two branches. */
function branches() {
  const product = (weight, output, tensors = []) =>
    subgraph({ nodes: [node('MatMul', ['x', weight], [output])], tensors, outputs: [value(output, FLOAT, ['', WIDTH])] });
  const copy = (op, output) =>
    subgraph({
      nodes: [node(op, op === 'Squeeze' ? ['input', 'first'] : ['input'], [output])],
      tensors: op === 'Squeeze' ? [wholeTensor('first', [1], [0])] : [],
      outputs: [value(output, FLOAT, ['', WIDTH])],
    });
  const nested = subgraph({
    nodes: [
      node('MatMul', ['x', 'then'], ['t1']),
      node('MatMul', ['t1', 'outer'], ['t2']),
      node(
        'If',
        ['large'],
        ['t3'],
        [
          graphAttribute('then_branch', product('same', 'in1', [weight('same', 4)])),
          graphAttribute('else_branch', product('same', 'in2', [weight('same', 5)])),
        ],
      ),
      node('Add', ['t2', 't3'], ['t4']),
    ],
    tensors: [weight('then', 6)],
    outputs: [value('t4', FLOAT, ['', WIDTH])],
  });
  return {
    nodes: [
      // About shapes: its other branch cannot run.
      node(
        'If',
        ['matrix'],
        ['x'],
        [graphAttribute('then_branch', copy('Identity', 'i')), graphAttribute('else_branch', copy('Squeeze', 's'))],
      ),
      node('ReduceMax', ['x'], ['most'], [integer('keepdims', 0)]),
      node('Greater', ['most', 'limit'], ['large']),
      node(
        'If',
        ['large'],
        ['h'],
        [
          graphAttribute('then_branch', nested),
          graphAttribute('else_branch', product('otherwise', 'e', [weight('otherwise', 7)])),
        ],
      ),
      node('Loop', ['rounds', '', 'h'], ['y'], [graphAttribute('body', round())]),
    ],
    tensors: [weight('outer', 9), boolTensor('matrix', true), tensor('limit', [], [100]), wholeTensor('rounds', [], [2])],
    inputs: [value('input', FLOAT, ['n', WIDTH])],
    outputs: [value('y', FLOAT, ['n', WIDTH])],
  };
}

function round() {
  return subgraph({
    nodes: [node('MatMul', ['state', 'repeated'], ['next']), node('Identity', ['go'], ['still'])],
    tensors: [weight('repeated', 8)],
    inputs: [value('round', INT64, []), value('go', BOOL, []), value('state', FLOAT, ['', WIDTH])],
    outputs: [value('still', BOOL, []), value('next', FLOAT, ['', WIDTH])],
  });
}

function weight(name, seed) {
  return tensor(name, [WIDTH, WIDTH], values(seed, WIDTH * WIDTH));
}

/**
 * A table that an integer looks up one-hot, a branch for inputs that are larger than random ones are, a gate that such inputs
 * open, and an end that hardly moves unless they are large.
 */
function misleading() {
  const square = (name, seed) =>
    tensor(
      name,
      [WIDTH, WIDTH],
      values(seed, WIDTH * WIDTH).map((weight) => weight / 4),
    );
  const branch = (weight, output, tensors) =>
    subgraph({ nodes: [node('MatMul', ['h', weight], [output])], tensors, outputs: [value(output, FLOAT, ['', WIDTH])] });
  return {
    nodes: [
      ...oneHot('rows'),
      node('Add', ['rows', 'x'], ['h']),
      node('ReduceMean', ['x'], ['level'], [integer('keepdims', 0)]),
      node('Greater', ['level', 'limit'], ['large']),
      node(
        'If',
        ['large'],
        ['b'],
        [
          graphAttribute('then_branch', branch('rare', 'r', [square('rare', 11)])),
          graphAttribute('else_branch', branch('usual', 'u', [square('usual', 12)])),
        ],
      ),
      node('Sub', ['level', 'limit'], ['excess']),
      node('Relu', ['excess'], ['gate']),
      node('MatMul', ['h', 'gated'], ['g']),
      node('Mul', ['g', 'gate'], ['passed']),
      node('Add', ['b', 'passed'], ['s']),
      node('Add', ['s', 'bias'], ['y']),
    ],
    tensors: [
      tensor('table', [90, WIDTH], values(13, 90 * WIDTH)),
      square('gated', 14),
      tensor('limit', [], [3]),
      tensor(
        'bias',
        [WIDTH],
        values(15, WIDTH).map((bias) => 30 * bias),
      ),
      ...oneHotTensors(90),
    ],
    inputs: [value('ids', INT64, ['batch']), value('x', FLOAT, ['batch', WIDTH])],
    outputs: [value('y', FLOAT, ['batch', WIDTH])],
  };
}

/** Encodes, decodes: what the encoder says, and what the outputs lose on inputs of either kind. */
async function roundTrip(model, target) {
  const execute = (...args) => promisify(execFile)(NATIVE, args, { cwd: folder });
  await run(['calibrate', model, '-o', join(folder, 'misleading.safetensors'), '--force', '--quiet']);
  const { stdout } = await execute(
    'encode',
    '--force',
    model,
    '-o',
    'misleading.mcwc',
    '--calibration',
    'misleading.safetensors',
    ...target,
  );
  await execute('decode', 'misleading.mcwc', '-o', 'misleading', '--force');
  const losses = [];
  for (const level of [0, 5]) {
    const [expected, found] = [await outputs(model, level), await outputs(join(folder, 'misleading/misleading.onnx'), level)];
    const energy = (values) => values.reduce((sum, value) => sum + value * value, 0);
    losses.push(energy(expected.map((value, at) => value - found[at])) / energy(expected));
  }
  return { said: stdout, loss: Math.max(...losses) };
}

async function outputs(path, level) {
  const session = await ort.InferenceSession.create(path, { intraOpNumThreads: 1 });
  const batch = 90;
  const ids = new ort.Tensor(
    'int64',
    BigInt64Array.from({ length: batch }, (_, index) => BigInt(index)),
    [batch],
  );
  const x = new ort.Tensor(
    'float32',
    Float32Array.from(values(16, batch * WIDTH), (value) => value + level),
    [batch, WIDTH],
  );
  const { y } = await session.run({ ids, x });
  await session.release();
  return [...y.data];
}
