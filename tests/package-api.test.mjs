// What the packed package answers about an archive, and which options it takes, in Chromium and in Node.
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { encode, folder, places, safetensors, small } from './common/package.mjs';

const CONFIG = { labels: ['Ä', 'b'] };
/** Every kind of float16, and the float32 that it is. */
const HALVES = [
  [0x0000, 0],
  [0x8000, -0],
  [0x0001, 2 ** -24],
  [0x83ff, -1023 * 2 ** -24],
  [0x0400, 2 ** -14],
  [0x3c01, 1 + 2 ** -10],
  [0xfbff, -65504],
  [0x7c00, Infinity],
  [0xfc00, -Infinity],
  [0x7e00, NaN],
];

describe('API', () => {
  before(async () => {
    const tensors = { w: ['F32', [2], Float32Array.of(1, 2)], empty: ['F32', [0], new Float32Array()] };
    await writeFile(join(folder, 'api.safetensors'), safetensors(tensors));
    await writeFile(join(folder, 'config.json'), JSON.stringify(CONFIG));
    encode('api', ['api.safetensors', 'config.json'], ['--lossless']);
  });

  for (const [place, { run }] of Object.entries(places)) {
    describe(place, () => {
      test('tells which tensors there are', async () => {
        const scenario = async ({ entry, base }) => {
          const { open } = await import(entry);
          const archive = await open(`${base}/twins.mcwc`, { backend: 'cpu' });
          const names = [];
          for (const { name } of archive) names.push(name);
          const [det] = archive.files.map(({ name }) => name);
          const has = ['box', 'w', `${det}/w`, 'none', 'toString'].map((name) => archive.has(name));
          has.push(archive.has('w', det), archive.has('text', det));
          const got = [archive.get('box'), archive.get('w', det), archive.get('w')];
          archive.close();
          return { names, listed: archive.tensors.map(({ name }) => name), has, got: got.map((info) => info && `${info.name} ${info.dtype} ${info.shape} ${info.file}`) };
        };
        const { names, listed, has, got } = await run(scenario);
        assert.deepEqual(names, listed);
        assert.deepEqual(has, [true, false, true, false, false, true, false]);
        assert.deepEqual(got.map((info) => info ?? 'none'), ['box f32 1 det.safetensors', 'det.safetensors/w f32 4 det.safetensors', 'none']);
      });

      test('gives files as text, as JSON and as a response', async () => {
        const scenario = async ({ entry, base }) => {
          const { open } = await import(entry);
          const archive = await open(`${base}/api.mcwc`, { backend: 'cpu' });
          const file = archive.file('config.json');
          const response = file.response();
          const answers = [file.response(), archive.file('api.safetensors').response()].map(({ headers }) => [...headers].join(' '));
          const found = { text: await file.text(), json: await file.json(), answers, body: (await response.arrayBuffer()).byteLength, size: file.size };
          const sizes = archive.files.map(({ bytes }) => bytes);
          archive.close();
          return { ...found, sizes };
        };
        const { text, json, answers, body, size, sizes } = await run(scenario);
        assert.equal(text, JSON.stringify(CONFIG));
        assert.deepEqual(json, CONFIG);
        assert.equal(body, size);
        assert.deepEqual(answers, [
          `content-length,${size} content-type,application/json`,
          `content-length,${sizes[0]} content-type,application/octet-stream`,
        ]);
      });

      test('widens the smaller floats', async () => {
        const scenario = async ({ entry, halves }) => {
          const { toFloat32 } = await import(entry.replace('index.js', 'float32.js'));
          const { McwcError } = await import(entry);
          const bits = Uint16Array.from(halves);
          const code = () => {
            try {
              return toFloat32({ dtype: 'i8', data: new Int8Array(1) });
            } catch (error) {
              return error instanceof McwcError && error.code;
            }
          };
          const native = globalThis.Float16Array && new Float16Array(bits.buffer);
          const text = (values) => Array.from(values, (value) => (Object.is(value, -0) ? '-0' : String(value)));
          const same = Float32Array.of(3);
          return {
            f16: text(toFloat32({ dtype: 'f16', data: bits })),
            native: text(toFloat32({ dtype: 'f16', data: native ?? bits })),
            bf16: text(toFloat32({ dtype: 'bf16', data: Uint16Array.of(0x3fc0, 0xff80, 0x8000, 0x7fc0) })),
            f64: text(toFloat32({ dtype: 'f64', data: Float64Array.of(0.5) })),
            same: toFloat32({ dtype: 'f32', data: same }) === same,
            code: code(),
          };
        };
        const f16 = HALVES.map(([, value]) => (Object.is(value, -0) ? '-0' : String(value)));
        const expected = { f16, native: f16, bf16: ['1.5', '-Infinity', '-0', 'NaN'], f64: ['0.5'], same: true, code: 'argument' };
        assert.deepEqual(await run(scenario, { halves: HALVES.map(([bits]) => bits) }), expected);
      });

      test('refuses options that make no sense', async () => {
        const options = [
          { backend: 'gpu' },
          { backend: null },
          { lazy: 'yes' },
          { workers: -1 },
          { workers: 1.5 },
          { silenceMs: -1 },
          { silenceMs: Infinity },
          { retries: '3' },
          { retryMs: NaN },
          { integrity: 'sha256' },
        ];
        const scenario = async ({ entry, base, options }) => {
          const { open } = await import(entry);
          const codes = options.map((options) => open(`${base}/api.mcwc`, options).then((archive) => archive.close(), ({ code }) => code));
          return Promise.all(codes);
        };
        assert.deepEqual(await run(scenario, { options }), options.map(() => 'argument'));
      });

      test('does not complain where nobody asked', async () => {
        const scenario = async ({ entry, base, stopAt }) => {
          const { open } = await import(entry);
          const archive = await open(`${base}/small.mcwc?stopAt=${stopAt}`, { backend: 'cpu' });
          [archive.refined, archive.downloaded];
          archive.close();
          // Whoever listens for rejections that nobody handles has heard of them by then.
          await new Promise((resolve) => setTimeout(resolve, 50));
          return archive.refined.catch(({ code }) => code);
        };
        const stopAt = 32 + small.archive.readUInt32LE(12) + 10;
        assert.equal(await run(scenario, { stopAt }), 'closed');
      });
    });
  }

  test('insists on WebGPU if asked to', async () => {
    const scenario = async ({ entry, base }) => {
      const { open } = await import(entry);
      return open(`${base}/api.mcwc`, { backend: 'webgpu' }).then(({ backend }) => backend, ({ code, message }) => `${code}: ${message}`);
    };
    assert.equal(await places.Node.run(scenario), 'gpu: there is no WebGPU here');
    assert.equal(await places.Chromium.run(scenario, {}, { host: 'insecure.test' }), 'gpu: there is no WebGPU here');
    assert.equal(await places.Chromium.run(scenario), 'webgpu');
  });

  test('asks once whether there is a GPU', async () => {
    const scenario = async ({ entry, base }) => {
      let asked = 0;
      GPU.prototype.requestAdapter = async () => {
        asked++;
        return null;
      };
      const { open } = await import(entry);
      for (let count = 0; count < 3; count++) (await open(`${base}/api.mcwc`)).close();
      return asked;
    };
    assert.equal(await places.Chromium.run(scenario), 1);
  });
});
