// TensorFlow.js and face-api on archives: models that they load from there compute what they compute from the decoded files.
// Expects the built package in pkg and the native command in target/debug.
import assert from 'node:assert/strict';
import { cp, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { installed, openSite } from './common/site.mjs';

const MAIN = `
  import * as core from '@tensorflow/tfjs-core';
  import '@tensorflow/tfjs-backend-cpu';
  import * as converter from '@tensorflow/tfjs-converter';
  import * as layers from '@tensorflow/tfjs-layers';
  import * as faceapi from '@vladmandic/face-api';
  import { open } from 'mcwc';
  import { fromMcwc, loadWeights } from 'mcwc/tfjs';
  globalThis.ready = core.ready();
  Object.assign(globalThis, { tf: { ...core, ...converter, ...layers }, faceapi, open, fromMcwc, loadWeights });
`;
const site = await openSite('tfjs', { 'main.js': MAIN });
const models = installed('@vladmandic/human/models');
const faces = installed('@vladmandic/face-api');

/** What the model makes of a sheet of numbers, loaded by each handler; its inputs' sides are from the archive's own description. */
async function predictions({ shape, archive, url }) {
  const side = shape.reduce((product, length) => product * length);
  const input = tf.tensor(Float32Array.from({ length: side }, (_, index) => ((index * 7919) % 256) / 256), shape);
  const predict = async (from) => {
    const model = await tf.loadGraphModel(from);
    const outputs = [model.predict(input)].flat();
    return Promise.all(outputs.map(async (output) => [output.shape, [...(await output.data())]]));
  };
  const streamed = await predict(fromMcwc(archive));
  const whole = await predict(fromMcwc(archive, { streamWeights: false }));
  return { streamed, whole, decoded: await predict(url) };
}

describe('graph models', () => {
  before(() => {
    site.encode('emotion', [join(models, 'emotion.json')], ['--bits', '5']);
    site.encode('antispoof', [join(models, 'antispoof.json')], ['--bits', '5']);
  });

  for (const [name, shape, weights] of [
    ['emotion', [1, 64, 64, 1], 'float32'],
    ['antispoof', [1, 128, 128, 3], 'float16'],
  ]) {
    test(`with weights in ${weights} predict what they predict from the decoded files`, async () => {
      const { streamed, whole, decoded } = await site.run(predictions, { shape, archive: `/${name}.mcwc`, url: `/${name}/${name}.json` });
      assert.ok(decoded.flatMap(([, values]) => values).every((value) => Number.isFinite(value) && value !== 0));
      assert.deepEqual(streamed, decoded);
      assert.deepEqual(whole, decoded);
    });
  }
});

test('a layers model in shards predicts what it predicts from the decoded files', async () => {
  const { weightData, ...model } = await site.run(makeLayersModel);
  // A weight lies in both shards.
  const shards = [weightData.slice(0, 5000), weightData.slice(5000)];
  const paths = shards.map((_, index) => `group1-shard${index + 1}of2.bin`);
  await writeModel('layers', model, [{ paths, weights: model.weightSpecs }], shards);
  site.encode('layers', ['layers-original/model.json'], ['--bits', '6']);
  const { archived, decoded, original } = await site.run(async () => {
    const input = tf.tensor(Float32Array.from({ length: 64 }, (_, index) => Math.sin(index)), [1, 8, 8, 1]);
    const predict = async (from) => [...(await (await tf.loadLayersModel(from)).predict(input).data())];
    const [archived, decoded, original] = [fromMcwc('/layers.mcwc'), '/layers/model.json', '/layers-original/model.json'];
    return { archived: await predict(archived), decoded: await predict(decoded), original: await predict(original) };
  });
  assert.deepEqual(archived, decoded);
  assert.notDeepEqual(archived, original);
});

async function makeLayersModel() {
  const { conv2d, flatten, dense } = tf.layers;
  const model = tf.sequential({
    layers: [
      conv2d({ inputShape: [8, 8, 1], filters: 16, kernelSize: 3, activation: 'relu' }),
      flatten(),
      dense({ units: 10, activation: 'softmax' }),
    ],
  });
  let saved;
  await model.save({ save: async (artifacts) => (saved = artifacts) });
  return { ...saved, weightData: [...new Uint8Array(saved.weightData)] };
}

/** `public/NAME-original/model.json`, and its shards. */
async function writeModel(name, { weightSpecs, ...model }, weightsManifest, shards) {
  const folder = join(site.public, `${name}-original`);
  await mkdir(folder);
  await writeFile(join(folder, 'model.json'), JSON.stringify({ ...model, weightsManifest }));
  const paths = weightsManifest.flatMap(({ paths }) => paths);
  for (const [index, shard] of shards.entries()) await writeFile(join(folder, paths[index]), Uint8Array.from(shard));
}

describe('weights', () => {
  const floats = Array.from({ length: 3000 }, (_, index) => Math.sin(index));
  const uint = (bytes, length) => Array.from({ length: bytes * length }, (_, index) => (index * 31) % 256);
  const text = (...strings) => strings.flatMap((string) => [string.length, 0, 0, 0, ...Buffer.from(string)]);
  const bytes = (array) => [...new Uint8Array(array.buffer)];
  const quantization = { scale: 0.5, min: -3 };
  const fixed = [
    [{ name: 'f', dtype: 'float32', shape: [50, 60] }, bytes(Float32Array.from(floats))],
    [{ name: 'none', dtype: 'float32', shape: [0, 4] }, []],
    [{ name: 'scalar', dtype: 'int32', shape: [] }, bytes(Int32Array.of(-7))],
    [{ name: 'b', dtype: 'bool', shape: [3] }, [1, 0, 1]],
    [{ name: 'u8', dtype: 'float32', shape: [40, 50], quantization: { ...quantization, dtype: 'uint8' } }, uint(1, 2000)],
    [{ name: 'u16', dtype: 'int32', shape: [700], quantization: { ...quantization, dtype: 'uint16' } }, uint(2, 700)],
    [{ name: 'f16', dtype: 'float32', shape: [600], quantization: { dtype: 'float16' } }, uint(2, 600).map((byte) => byte & 0x3f)],
    [{ name: 'c', dtype: 'complex64', shape: [200] }, bytes(Float32Array.from(floats.slice(0, 400)))],
    [{ name: 'last', dtype: 'float32', shape: [0] }, []],
  ];
  const words = [{ name: 'words', dtype: 'string', shape: [2] }, text('a', 'word')];
  const cases = {
    fixed,
    'with strings first': [words, ...fixed],
    'with strings last': [...fixed, words],
    'with strings between': [...fixed.slice(0, 4), words, ...fixed.slice(4)],
    'of none': [],
  };

  for (const [name, weights] of Object.entries(cases)) {
    test(`${name} are what TensorFlow.js makes of the files`, async () => {
      const data = weights.flatMap(([, data]) => data);
      const cuts = [0, 1001, 1002, 12_345, data.length].map((cut) => Math.min(cut, data.length));
      const shards = cuts.slice(1).map((end, index) => data.slice(cuts[index], end));
      const paths = shards.map((_, index) => `shard${index}.bin`);
      const manifest = [{ paths, weights: weights.map(([spec]) => spec) }];
      const folder = name.replaceAll(' ', '-');
      await writeModel(folder, { format: 'graph-model', modelTopology: { node: [] } }, manifest, shards);
      site.encode(folder, [`${folder}-original`], ['--lossless']);
      const { streamed, decoded, buffers } = await site.run(async ({ folder, specs }) => {
        const values = async (tensors) => {
          const read = Object.entries(tensors).map(async ([name, tensor]) => [name, tensor.dtype, tensor.shape, [...(await tensor.data())]]);
          return Promise.all(read);
        };
        const load = () => fromMcwc(`/${folder}.mcwc`).load();
        const { getWeightStream } = await load();
        const streamed = await values(await tf.io.decodeWeightsStream(getWeightStream(), specs));
        const { weightData } = await tf.io.http(`/${folder}-original/model.json`).load();
        const reader = (await load()).getWeightStream().getReader();
        const buffers = [];
        for (let part; !(part = await reader.read()).done; ) buffers.push(part.value.byteLength);
        return { streamed, decoded: await values(tf.io.decodeWeights(weightData, specs)), buffers };
      }, { folder, specs: weights.map(([spec]) => spec) });
      assert.deepEqual(streamed, decoded);
      assert.equal(streamed.length, weights.length);
      if (!name.startsWith('with')) assert.deepEqual(buffers, weights.map(([, data]) => data.length).filter((length) => length > 0));
    });
  }
});

test('an archive that the handler opened is closed when the weights are there, and one that was open stays open', async () => {
  site.encode('liveness', [join(models, 'liveness.json')]);
  const { afterOwn, afterGiven, tensors } = await site.run(async () => {
    const given = await open('/liveness.mcwc');
    const close = Object.getPrototypeOf(given).close;
    let closed = 0;
    Object.getPrototypeOf(given).close = function () {
      closed++;
      return close.call(this);
    };
    await tf.loadGraphModel(fromMcwc('/liveness.mcwc'));
    const afterOwn = closed;
    await tf.loadGraphModel(fromMcwc(given));
    await loadWeights(tf, given);
    const afterGiven = closed;
    return { afterOwn, afterGiven, tensors: (await given.tensor(given.tensors[0].name)).data.length };
  });
  assert.deepEqual([afterOwn, afterGiven], [1, 1]);
  assert.ok(tensors > 0);
});

describe('says what is wrong', () => {
  const broken = async (name, json, file) => {
    await mkdir(join(site.public, name), { recursive: true });
    // Written like this, the encoder does not see that it is a model, which it would refuse.
    const text = JSON.stringify(json).replace('weightsManifest', String.raw`weights\u004danifest`);
    await writeFile(join(site.public, name, file ?? 'model.json'), text);
    await writeFile(join(site.public, name, 'weights.bin'), Buffer.alloc(8));
    site.encode(`${name}-archive`, [name]);
    return site.run(async (path) => {
      const load = (options) => fromMcwc(path, options).load().then(() => 'loaded', ({ code, message }) => `${code}: ${message}`);
      return { alone: await load(), named: await load({ file: 'tiny.json' }) };
    }, `/${name}-archive.mcwc`);
  };
  const weights = [{ name: 'w', dtype: 'float32', shape: [3] }];

  test('where weights are missing', async () => {
    const { alone } = await broken('short', { modelTopology: {}, weightsManifest: [{ paths: ['weights.bin'], weights }] });
    assert.equal(alone, 'invalid: model.json describes 12 bytes of weights, its files have 8');
  });

  test('where a file is missing', async () => {
    const { alone, named } = await broken('lost', { weightsManifest: [{ paths: ['other.bin'], weights: [] }] });
    assert.equal(alone, 'argument: the archive has no file named "other.bin"');
    assert.equal(named, 'argument: the archive has no file named "tiny.json"');
  });

  test('where the file is no model', async () => {
    const { alone } = await broken('config', { layers: 3 }, 'config.json');
    assert.match(alone, /^invalid: config\.json is no TensorFlow\.js model/);
  });

  test('where it is not clear which model is meant', async () => {
    await mkdir(join(site.public, 'two'));
    await writeFile(join(site.public, 'two/tiny.json'), JSON.stringify([{ paths: ['weights.bin'], weights: [] }]));
    const { alone, named } = await broken('two', [], 'other.json');
    assert.match(alone, /^argument: .*`file`: it has other\.json, tiny\.json$/);
    assert.equal(named, 'loaded');
  });
});

test('face-api finds the faces that it finds with the decoded files', async () => {
  const nets = ['tiny_face_detector', 'face_landmark_68_tiny', 'age_gender'].map((net) => `${net}_model-weights_manifest.json`);
  site.encode('faces', nets.map((net) => join(faces, 'model', net)));
  await cp(join(faces, 'demo/sample1.jpg'), join(site.public, 'faces.jpg'));
  const { archived, decoded } = await site.run(async (files) => {
    await faceapi.tf.setBackend('cpu');
    const picture = await createImageBitmap(await (await fetch('/faces.jpg')).blob(), { resizeWidth: 320 });
    const canvas = Object.assign(document.createElement('canvas'), { width: picture.width, height: picture.height });
    canvas.getContext('2d').drawImage(picture, 0, 0);
    const { tinyFaceDetector, faceLandmark68TinyNet, ageGenderNet } = faceapi.nets;
    const nets = [tinyFaceDetector, faceLandmark68TinyNet, ageGenderNet];
    const detect = async () => {
      const options = new faceapi.TinyFaceDetectorOptions({ inputSize: 224 });
      const found = await faceapi.detectAllFaces(canvas, options).withFaceLandmarks(true).withAgeAndGender();
      return found.map(({ detection, landmarks, age, gender }) => {
        const { x, y, width, height } = detection.box;
        return { box: [x, y, width, height], points: landmarks.positions.map(({ x, y }) => [x, y]), age, gender };
      });
    };
    for (const net of nets) await net.loadFromUri('/faces');
    const decoded = await detect();
    const archive = await open('/faces.mcwc');
    for (const [index, net] of nets.entries()) net.loadFromWeightMap(await loadWeights(faceapi.tf, archive, { file: files[index] }));
    return { archived: await detect(), decoded };
  }, nets);
  assert.ok(decoded.length > 0);
  assert.deepEqual(archived, decoded);
});
