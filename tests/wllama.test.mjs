// wllama on archives: a GGUF model as a blob, and by its address through a service worker, says what it says when it is loaded from
// the decoded file.
// Expects the built package in pkg and the native command in target/debug.
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { tinyLlama } from './common/gguf.mjs';
import { openSite } from './common/site.mjs';

const MAIN = `
  import { LoggerWithoutDebug, Wllama } from '@wllama/wllama';
  import wasm from '@wllama/wllama/esm/wasm/wllama.wasm?url';
  import { open } from 'mcwc';
  globalThis.open = open;
  /** What a model says, and how likely it thinks that is. */
  globalThis.complete = async (load) => {
    const wllama = new Wllama({ default: wasm }, { suppressNativeLog: true, logger: LoggerWithoutDebug });
    await load(wllama, { n_threads: 1, n_ctx: 128, n_gpu_layers: 0 });
    const { choices } = await wllama.createCompletion({ prompt: 'once upon a time', max_tokens: 12, temperature: 0, logprobs: 3 });
    await wllama.exit();
    return choices;
  };
`;
const SW = `import { serve } from 'mcwc/service-worker'; serve({ '/models/': '/llama.mcwc' });`;
const site = await openSite('wllama', { 'main.js': MAIN, 'sw.js': SW }, { policy: { 'worker-src': "'self' blob:" } });

before(async () => {
  await writeFile(join(site.public, 'llama.gguf'), tinyLlama());
  site.encode('llama', ['llama.gguf'], ['--bits', '5']);
});

/** What the model at this address says. */
const says = (path) => site.run((path) => complete((wllama, options) => wllama.loadModelFromUrl(new URL(path, location).href, options)), path);

test('a model as a blob', async () => {
  const archived = await site.run(async () => {
    const archive = await open('/llama.mcwc');
    return complete(async (wllama, options) => wllama.loadModel([await archive.file('llama.gguf').blob()], options));
  });
  assert.deepEqual(archived, await says('/llama/llama.gguf'));
  assert.notDeepEqual(archived, await says('/llama.gguf'));
});

test('a model by its address, through a service worker', async () => {
  const archived = await site.run(async () => {
    await navigator.serviceWorker.register('/sw.js', { type: 'module' });
    const { serviceWorker } = navigator;
    if (!serviceWorker.controller) await new Promise((resolve) => (serviceWorker.oncontrollerchange = resolve));
    return complete((wllama, options) => wllama.loadModelFromUrl(new URL('/models/llama.gguf', location).href, options));
  });
  assert.deepEqual(archived, await says('/llama/llama.gguf'));
});
