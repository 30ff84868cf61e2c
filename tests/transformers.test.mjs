// mcwc/transformers as packed, with transformers.js itself, in Chromium: pipelines answer as with the decoded files.
import assert from 'node:assert/strict';
import { cp, mkdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { smallBert } from './common/bert.mjs';
import { encode, folder, places } from './common/package.mjs';

const MODULES = fileURLToPath(new URL('../node_modules/', import.meta.url));
const SENTENCES = ['Mind the ducks.', 'The quince honey house, row 42!'];
const { run } = places.Chromium;

/** bert.mcwc is a repository; the hub has it decoded as another model, and one file that is not in the archive. */
async function writeModels() {
  await symlink(join(MODULES, 'onnxruntime-web/dist'), join(folder, 'ort'));
  const entry = { contents: "export * from '@huggingface/transformers'", resolveDir: MODULES };
  await build({ stdin: entry, outfile: join(folder, 'transformers.js'), bundle: true, format: 'esm', target: 'es2022', logLevel: 'error' });
  const files = smallBert();
  await writeFiles('bert', files);
  encode('bert', ['bert'], ['--bits', '5']);
  await writeFiles('half', { 'config.json': files['config.json'], 'onnx/model_fp16.onnx': files['onnx/model.onnx'] });
  encode('half', ['half'], ['--lossless']);
  await writeFiles('config', { 'config.json': files['config.json'] });
  encode('config', ['config'], []);
  encode('single', ['bert/onnx/model.onnx', 'bert/config.json'], []);
  const damaged = await readFile(join(folder, 'bert.mcwc'));
  // The last chunk is one of the model's.
  damaged[damaged.length - 9] ^= 4;
  await writeFile(join(folder, 'damaged.mcwc'), damaged);
  for (const id of ['bert', 'copy']) await cp(join(folder, 'bert-restored'), join(folder, `hub/plain/${id}/resolve/main`), { recursive: true });
}

async function writeFiles(name, files) {
  for (const [path, bytes] of Object.entries(files)) {
    await mkdir(dirname(join(folder, name, path)), { recursive: true });
    await writeFile(join(folder, name, path), bytes);
  }
}

/** Embeds the sentences by a model of the hub, and by one whose files the adapter gives. */
async function embed({ base, sentences, device, dtype }) {
  const { env, pipeline, ModelRegistry } = await import(`${base}/transformers.js`);
  const { enable } = await import(`${base}/pkg/transformers.js`);
  const asyncify = `${base}/ort/ort-wasm-simd-threaded.asyncify`;
  Object.assign(env.backends.onnx.wasm, { wasmPaths: { mjs: `${asyncify}.mjs`, wasm: `${asyncify}.wasm` }, numThreads: 1 });
  Object.assign(env, { remoteHost: `${base}/hub/`, useWasmCache: false });
  const requested = [];
  env.fetch = (url, options) => (requested.push(String(url)), fetch(url, options));
  const enabled = enable(env, { 'mcwc/bert': `${base}/bert.mcwc` });
  const events = [];
  const progress_callback = (event) => events.push(event);
  const ours = await pipeline('feature-extraction', 'mcwc/bert', { device, dtype, progress_callback });
  const ownRequests = requested.splice(0);
  const theirs = await pipeline('feature-extraction', 'plain/bert', { device, dtype: 'fp32' });
  const options = { pooling: 'mean', normalize: true };
  const [a, b] = [await ours(sentences, options), await theirs(sentences, options)];
  const files = await ModelRegistry.get_pipeline_files('feature-extraction', 'mcwc/bert', { device, dtype });
  const sizes = await Promise.all(files.map(async (file) => [file, (await ModelRegistry.get_file_metadata('mcwc/bert', file)).size]));
  const cached = await ModelRegistry.is_pipeline_cached('feature-extraction', 'mcwc/bert', { device, dtype });
  const kept = (await (await caches.open(env.cacheKey)).keys()).map(({ url }) => url);
  const cleared = await ModelRegistry.clear_pipeline_cache('feature-extraction', 'mcwc/bert', { device, dtype });
  const again = await (await pipeline('feature-extraction', 'mcwc/bert', { device, dtype }))(sentences, options);
  enabled.close();
  const values = ({ dims, data }) => ({ dims, data: Array.from(data) });
  const totals = events.filter(({ status }) => status === 'progress').map(({ file, loaded, total }) => [file, loaded, total]);
  const overall = events.filter(({ status }) => status === 'progress_total').at(-1);
  return { ours: values(a), theirs: values(b), again: values(again), ownRequests, requested, sizes: Object.fromEntries(sizes), totals, overall, cached, kept, cleared };
}

/** What becomes of files that are asked for, and which of them were fetched. */
async function load({ base, models, custom = false, options = {}, ask }) {
  const { env, AutoConfig, AutoTokenizer, AutoModel } = await import(`${base}/transformers.js`);
  const { enable } = await import(`${base}/pkg/transformers.js`);
  const { McwcError } = await import(`${base}/pkg/index.js`);
  const asyncify = `${base}/ort/ort-wasm-simd-threaded.asyncify`;
  Object.assign(env.backends.onnx.wasm, { wasmPaths: { mjs: `${asyncify}.mjs`, wasm: `${asyncify}.wasm` }, numThreads: 1 });
  Object.assign(env, { remoteHost: `${base}/hub/`, useWasmCache: false });
  const requested = [];
  env.fetch = (url, options) => (requested.push(String(url).slice(base.length)), fetch(url, options));
  const kept = [];
  const customCache = { match: async () => undefined, put: async (key) => void kept.push(key.slice(base.length)) };
  if (custom) Object.assign(env, { useCustomCache: true, customCache });
  const absolute = Object.entries(models).map(([id, path]) => [id, `${base}/${path}`]);
  enable(env, Object.fromEntries(absolute), options);
  const kinds = { AutoConfig, AutoTokenizer, AutoModel };
  const outcomes = [];
  for (const [kind, id, options] of ask) {
    const loaded = kinds[kind].from_pretrained(id, options);
    outcomes.push(await loaded.then(() => 'loaded', (error) => (error instanceof McwcError ? error.code : String(error))));
  }
  return { outcomes, requested, kept };
}

describe('mcwc/transformers', () => {
  before(writeModels);

  for (const [name, options] of Object.entries({ 'on the CPU': {}, 'on WebGPU': { device: 'webgpu' }, 'of another dtype': { dtype: 'q4' } })) {
    test(`a pipeline ${name} answers as with the decoded files`, async () => {
      const result = await run(embed, { sentences: SENTENCES, ...options });
      assert.deepEqual(result.ours.dims, [2, 64]);
      assert.ok(result.ours.data.some((value) => Math.abs(value) > 0.05));
      assert.deepEqual(result.ours, result.theirs);
      assert.deepEqual(result.again, result.theirs);
      assert.deepEqual(result.ownRequests, []);

      const model = `onnx/model${{ webgpu: '', q4: '_q4' }[options.device ?? options.dtype] ?? '_quantized'}.onnx`;
      const names = ['config.json', model, 'tokenizer.json', 'tokenizer_config.json'];
      const sizes = await Promise.all(names.map(async (name) => [name, (await stat(join(folder, 'bert-restored', restored(name)))).size]));
      assert.deepEqual(result.sizes, Object.fromEntries(sizes));
      for (const [name, size] of sizes) {
        const told = result.totals.filter(([file]) => file === name);
        assert.deepEqual(told.at(-1), [name, size, size]);
        assert.ok(told.every(([, , total]) => total === size), name);
      }
      const all = sizes.reduce((sum, [, size]) => sum + size, 0);
      assert.deepEqual([result.overall.loaded, result.overall.total], [all, all]);

      assert.equal(result.cached, true);
      assert.ok(result.kept.length > 0 && result.kept.every((url) => url.includes('plain/bert')), result.kept.join());
      assert.equal(result.cleared.filesDeleted, names.length);
    });
  }

  test('files that are not in the archive, and other models, come from where they came from', async () => {
    const ask = [
      ['AutoTokenizer', 'plain/bert'],
      ['AutoTokenizer', 'plain/copy'],
      ['AutoConfig', 'plain/bert'],
    ];
    const { outcomes, requested, kept } = await run(load, { models: { 'plain/bert': 'config.mcwc' }, custom: true, ask });
    assert.deepEqual(outcomes, ['loaded', 'loaded', 'loaded']);
    const hub = (model, names) => names.map((name) => `/hub/plain/${model}/resolve/main/${name}.json`);
    const fetched = ['bert', 'copy'].flatMap((model) => hub(model, ['tokenizer', 'tokenizer_config']));
    assert.deepEqual([...new Set(requested)].sort(), fetched);
    assert.deepEqual([...new Set(kept)].sort(), fetched);
  });

  test('a model that the archive has at another data type, or packed by itself, is found', async () => {
    const models = { 'plain/bert': 'half.mcwc', 'plain/single': 'single.mcwc' };
    const ask = ['plain/bert', 'plain/single'].map((id) => ['AutoModel', id, { dtype: 'q8' }]);
    const { outcomes, requested } = await run(load, { models, ask });
    assert.deepEqual(outcomes, ['loaded', 'loaded']);
    assert.deepEqual(requested.filter((path) => path.endsWith('.onnx')), []);
  });

  test('an archive that is missing or damaged is an error, and nothing is fetched in its place', async () => {
    const models = { 'plain/bert': 'missing.mcwc', 'plain/other': 'damaged.mcwc' };
    const ask = [
      ['AutoConfig', 'plain/bert'],
      ['AutoModel', 'plain/other'],
    ];
    const { outcomes, requested } = await run(load, { models, ask });
    assert.deepEqual(outcomes, ['io', 'checksum']);
    assert.deepEqual(requested, []);
  });
});

function restored(name) {
  return name.replace(/_(quantized|q4)\.onnx$/, '.onnx');
}
