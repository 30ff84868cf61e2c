// The package where scripts do not lie beside the page: on another origin, and in bundles that do not know their address.
import assert from 'node:assert/strict';
import { copyFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { build } from 'esbuild';
import { folder, places } from './common/package.mjs';

const { run } = places.Chromium;

describe('From another origin', () => {
  const policy = (workers) => {
    const other = 'http://127.0.0.1:*';
    const rules = [`default-src 'none'`, `script-src 'self' ${other} 'wasm-unsafe-eval'`, `connect-src 'self' ${other}`, `worker-src ${workers}`];
    return { query: `?policy=${encodeURIComponent(rules.join('; '))}` };
  };
  const scenario = async ({ base, workerUrl }) => {
    const elsewhere = base.replace('localhost', '127.0.0.1');
    const { open } = await import(`${elsewhere}/pkg/index.js`);
    const options = { backend: 'cpu', workers: 2, workerUrl: workerUrl ? `${elsewhere}/pkg/worker.js` : undefined };
    const archive = await open(`${base}/small.mcwc`, options);
    const { data } = await archive.tensor('wide');
    const { backendReason } = archive;
    archive.close();
    return { length: data.length, backendReason };
  };

  for (const workerUrl of [false, true]) {
    test(`decodes on workers${workerUrl ? ', at an address that was given' : ''}`, async () => {
      const result = await run(scenario, { workerUrl }, policy("'self' blob:"));
      assert.deepEqual(result, { length: 96 * 512, backendReason: 'the CPU was asked for' });
    });
  }

  test('decodes on the page where a policy forbids the way to workers', async () => {
    const { length, backendReason } = await run(scenario, {}, policy("'self'"));
    assert.equal(length, 96 * 512);
    assert.match(backendReason, /on this thread, because no worker could be started/);
  });
});

describe('In a classic script', () => {
  before(async () => {
    const stdin = { contents: `export { open } from 'mcwc'`, resolveDir: folder };
    const outfile = join(folder, 'classic.js');
    await build({ stdin, outfile, bundle: true, format: 'iife', globalName: 'mcwc', logLevel: 'error' });
  });

  const scenario = async ({ base, urls }) => {
    const script = document.createElement('script');
    script.src = `${base}/classic.js`;
    await new Promise((resolve, reject) => {
      script.onload = resolve;
      script.onerror = reject;
      document.head.append(script);
    });
    const options = Object.fromEntries(urls.map(([option, path]) => [option, base + path]));
    try {
      const archive = await mcwc.open(`${base}/small.mcwc`, { ...options, backend: 'cpu', workers: 1 });
      const { data } = await archive.tensor('wide');
      const { backendReason } = archive;
      archive.close();
      return `${data.length}, ${backendReason}`;
    } catch ({ code, message }) {
      return `${code}: ${message}`;
    }
  };
  const wasmUrl = ['wasmUrl', '/pkg/mcwc_bg.wasm'];
  const workerUrl = ['workerUrl', '/pkg/worker.js'];
  const unknown = (option) => `this script does not know its own address: set ${option}`;

  test('says which addresses it needs', async () => {
    assert.equal(await run(scenario, { urls: [] }), `argument: ${unknown('wasmUrl')}`);
    const inline = `the CPU was asked for; on this thread, because no worker could be started: ${unknown('workerUrl')}`;
    assert.equal(await run(scenario, { urls: [wasmUrl] }), `${96 * 512}, ${inline}`);
  });

  test('decodes on workers with those', async () => {
    assert.equal(await run(scenario, { urls: [wasmUrl, workerUrl] }), `${96 * 512}, the CPU was asked for`);
  });

  test('says what it found instead of its wasm module', async () => {
    const message = await run(scenario, { urls: [['wasmUrl', '/?page']] });
    assert.match(message, /^io: http:.*: an HTML page instead of a wasm module \(HTTP 200, text\/html\)$/);
  });
});

describe('In modules of esbuild', () => {
  before(async () => {
    const stdin = { contents: `export { open } from 'mcwc'`, resolveDir: folder, sourcefile: 'app.js' };
    const outdir = join(folder, 'dist');
    await build({ stdin, outdir, bundle: true, format: 'esm', splitting: true, logLevel: 'error' });
    await mkdir(outdir, { recursive: true });
    for (const name of ['mcwc_bg.wasm', 'worker.js', 'mcwc_gpu_bg.wasm', 'gpu-worker.js']) {
      await copyFile(join(folder, 'node_modules/mcwc/pkg', name), join(outdir, name));
    }
  });

  for (const backend of ['cpu', 'webgpu']) {
    test(`decodes on workers, lazily, on the backend ${backend}`, async () => {
      const scenario = async ({ base, backend }) => {
        const { open } = await import(`${base}/dist/stdin.js`);
        const archive = await open(`${base}/small.mcwc`, { backend, lazy: true, workers: 1 });
        const { data } = await archive.tensor('wide');
        const { backend: used, backendReason } = archive;
        archive.close();
        return { length: data.length, used, inline: /on this thread.*/.exec(backendReason)?.[0] };
      };
      assert.deepEqual(await run(scenario, { backend }), { length: 96 * 512, used: backend, inline: undefined });
    });
  }
});
