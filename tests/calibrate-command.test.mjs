// What `mcwc calibrate` refuses, and how the command behaves around it.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { copyFile, lstat, mkdir, readFile, readdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { CLI, ROOT, emptyFolder, folder, run, save, saveJson, saveTensors, tableModel } from './common/calibration.mjs';
import { FLOAT, externalTensor, node, tensor, value, values } from './common/onnx.mjs';

test('says what it refuses, and why', async () => {
  const { good, foreign, missing, outside, bare, nan, noise } = await models();
  const sample = async (name, content) => ['--samples', await saveJson(`${name}.json`, content)];
  for (const [status, expected, ...args] of [
    [1, /cannot read .*absent\.onnx/, join(folder, 'absent.onnx')],
    [1, /noise\.onnx is not a readable ONNX model/, noise],
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

test('help', async () => {
  assert.match((await run(['--help'])).stdout, /mcwc calibrate MODEL\.onnx/);
  assert.match((await run(['calibrate', '--help'])).stdout, /--samples FILE\|DIR/);
});

test('`encode` calibrates by itself, as `calibrate` does', async () => {
  const model = await save('automatic.onnx', tableModel(300, 64, values(9, 19200)));
  const path = (name) => join(folder, name);
  const samples = await emptyFolder('samples');
  await saveTensors('samples/one.safetensors', { ids: ['I64', [1, 4], BigInt64Array.of(1n, 2n, 3n, 4n)] });
  const encode = (output, ...args) => run(['encode', model, '--bits', '3', '--json', '-o', path(output), ...args]);
  for (const [name, args, expected] of [
    ['random', [], /^mcwc: .*automatic\.onnx: calibrated on 5 random inputs in [\d.]+ s\n$/],
    ['sampled', ['--samples', samples], /calibrated on 1 sample in/],
  ]) {
    const { status, stderr } = await encode(`${name}.mcwc`, ...args);
    assert.equal(status, 0, stderr);
    assert.match(stderr, expected);
    const statistics = path(`${name}.safetensors`);
    assert.equal((await run(['calibrate', model, '--quiet', '-o', statistics, ...args])).status, 0);
    const given = await encode(`${name}-given.mcwc`, '--calibration', statistics);
    assert.deepEqual([given.status, given.stderr], [0, '']);
    assert.ok((await readFile(path(`${name}.mcwc`))).equals(await readFile(path(`${name}-given.mcwc`))));
  }
  const plain = await encode('plain.mcwc', '--no-calibration');
  assert.deepEqual([plain.stderr, JSON.parse(plain.stdout).calibrated], ['', false]);
  const lossless = await run(['encode', model, '--lossless', '--json', '-o', path('lossless.mcwc')]);
  assert.deepEqual([lossless.status, lossless.stderr], [0, '']);
  const lines = (await encode('lines.mcwc', '--progress-lines')).stderr.trim().split('\n').map((line) => JSON.parse(line));
  assert.ok(lines.some(({ stage }) => stage === 'calibrate') && lines.some(({ note }) => /calibrated on 5/.test(note)));
});

test('progress is a number, also where there is nothing to observe', async () => {
  const model = await save('product.onnx', {
    nodes: [node('MatMul', ['x', 'w'], ['y'])],
    tensors: [tensor('w', [64, 64], values(3, 4096))],
    inputs: [value('x', FLOAT, [1, 64])],
    outputs: [value('y', FLOAT, [1, 64])],
  });
  const { stderr } = await run(['encode', model, '--progress-lines', '--json', '-o', join(folder, 'product.mcwc')]);
  const stages = stderr.trim().split('\n').map((line) => JSON.parse(line)).filter(({ stage }) => stage !== undefined);
  assert.ok(stages.some(({ stage }) => stage === 'calibrate'), stderr);
  for (const { stage, done } of stages) assert.ok(typeof done === 'number' && done >= 0 && done <= 1, `${stage} ${done}`);
});

test('`encode` says why a model was not calibrated, unless there are samples for it', async () => {
  const model = await save('opaque.onnx', {
    nodes: [node('Fancy', ['w'], ['y'], [], 'com.example')],
    tensors: [tensor('w', [64, 64], values(3, 4096))],
    inputs: [],
    outputs: [value('y', FLOAT, [64, 64])],
  });
  const encode = (output, ...args) => run(['encode', model, '--json', '-o', join(folder, output), ...args]);
  const { status, stderr } = await encode('opaque.mcwc');
  assert.deepEqual([status, stderr.split('\n').length], [0, 2]);
  assert.match(stderr, /^mcwc: .*opaque\.onnx: not calibrated: /);
  const sampled = await encode('sampled-opaque.mcwc', '--samples', folder);
  assert.equal(sampled.status, 1);
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

test('a file is replaced only when that is asked for, links are followed, devices and pipes written to', async () => {
  const model = await save('output.onnx', tableModel(300, 8, values(9, 2400)));
  const inside = await emptyFolder('outputs');
  const path = (name) => join(inside, name);
  const calibrate = (...args) => run(['calibrate', model, '--quiet', '--inputs', '1', ...args]);
  await writeFile(path('old'), 'precious');
  await symlink('target', path('link'));
  for (const [args, expected] of [
    [['-o', path('old')], /old: it exists; --force replaces it/],
    [['-o', inside], /it is a folder/],
    [['-o', model, '--force'], /it is an input too/],
    [['-o', path('x'.repeat(256))], /too long/],
    [['-o', '/dev/full'], /\/dev\/full: .*no space/],
  ]) {
    const { status, stderr } = await calibrate(...args);
    assert.deepEqual([status, stderr.trim().split('\n').length], [1, 1], stderr);
    assert.match(stderr, expected);
  }
  assert.equal(await readFile(path('old'), 'utf8'), 'precious');
  for (const args of [['-o', path('old'), '--force'], ['-o', path('link')], ['-o', '/dev/null']]) assert.equal((await calibrate(...args)).status, 0);
  assert((await lstat('/dev/null')).isCharacterDevice() && (await lstat(path('link'))).isSymbolicLink());
  const written = await readFile(path('old'));
  assert.deepEqual(await readFile(path('target')), written);
  const { stdout, stderr } = await promisify(execFile)(process.execPath, [CLI, 'calibrate', model, '--quiet', '--inputs', '1', '--json', '-o', '-'], {
    encoding: 'buffer',
  });
  assert.deepEqual(stdout, written);
  assert.equal(JSON.parse(stderr).output, '-');
  assert.deepEqual((await readdir(inside)).sort(), ['link', 'old', 'target']);
});

test('the package ships the command, the PyTorch script and the layout', async () => {
  const { stdout } = await promisify(execFile)('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], { cwd: ROOT });
  const paths = JSON.parse(stdout)[0].files.map(({ path }) => path);
  for (const path of ['pkg/cli.js', 'scripts/mcwc_statistics.py', 'docs/CALIBRATION.md', 'LICENSE-MIT']) assert.ok(paths.includes(path), path);
  assert.equal((await readFile(CLI, 'utf8')).split('\n', 1)[0], '#!/usr/bin/env node');
});

/** One that works, and those that do not. */
async function models() {
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
  const noise = join(folder, 'noise.onnx');
  await writeFile(
    noise,
    Uint8Array.from({ length: 500 }, (_, index) => (index * 151) % 256),
  );
  return { good, foreign, missing, outside, bare, nan, noise };
}
