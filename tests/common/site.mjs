// A page that runs a real runtime on what the packed package decodes: both bundled by Vite, served to Chromium under a strict
// Content-Security-Policy, beside archives and what the native command makes of them.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after } from 'node:test';
import { chromium } from 'playwright-core';
import { build } from 'vite';
import { ROOT } from '../../scripts/tools.mjs';
import { NATIVE } from './command.mjs';
import { installIn } from './packed.mjs';
import { serve } from './serve.mjs';

const POLICY = { 'default-src': "'none'", 'script-src': "'self' 'wasm-unsafe-eval'", 'worker-src': "'self'", 'connect-src': "'self'" };
const CHROMIUM_ARGS = ['--no-sandbox', '--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'];

/** A file of one of the packages that are installed here. */
export function installed(path) {
  return join(ROOT, 'node_modules', path);
}

/**
 * A site for the tests of a file, in `target/`, where imports find the repository's node_modules. `scripts` are texts by name:
 * `main.js` is what the page imports, whatever else is named a bundle of its own.
 */
export async function openSite(name, scripts, { policy = {} } = {}) {
  const folder = join(ROOT, 'target/sites', name);
  const site = { folder, public: join(folder, 'public'), unreachable: new Set() };
  const policies = Object.entries({ ...POLICY, ...policy }).map((directive) => directive.join(' '));
  await rm(folder, { recursive: true, force: true });
  await mkdir(site.public, { recursive: true });
  installIn(folder);
  await bundle(folder, scripts);
  const headers = { 'content-security-policy': policies.join('; ') };
  const { origin, close } = await serve([join(folder, 'dist'), site.public], headers, site);
  site.origin = origin;
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: CHROMIUM_ARGS });
  after(async () => {
    await browser.close();
    close();
  });
  /** A visit by somebody new. `run` calls a function that uses nothing from outside but its argument. */
  site.visit = async () => {
    const context = await browser.newContext();
    const page = await context.newPage();
    const problems = [];
    page.on('pageerror', (error) => problems.push(String(error)));
    await page.goto(site.origin);
    await page.evaluate(() => globalThis.ready);
    const run = async (scenario, argument) => {
      const result = await page.evaluate(scenario, argument);
      assert.deepEqual(problems, []);
      return result;
    };
    const stopServiceWorkers = async () => {
      const session = await context.newCDPSession(page);
      await session.send('ServiceWorker.enable');
      await session.send('ServiceWorker.stopAllWorkers');
      await session.detach();
    };
    return { run, stopServiceWorkers, end: () => context.close() };
  };
  site.run = async (scenario, argument) => {
    const visit = await site.visit();
    return visit.run(scenario, argument).finally(visit.end);
  };
  /** Makes `public/NAME.mcwc`, and `public/NAME/` of what the native command decodes it to. */
  site.encode = (name, inputs, options = []) => {
    const run = { cwd: site.public, stdio: ['ignore', 'ignore', 'inherit'] };
    execFileSync(NATIVE, ['encode', ...inputs, '-o', `${name}.mcwc`, ...options, '--json'], run);
    execFileSync(NATIVE, ['decode', `${name}.mcwc`, '-o', name, '--json'], run);
  };
  return site;
}

async function bundle(folder, scripts) {
  const html = '<!doctype html><title>mcwc</title><script type="module" src="main.js"></script>';
  await writeFile(join(folder, 'index.html'), html);
  for (const [name, text] of Object.entries(scripts)) await writeFile(join(folder, name), text);
  const others = Object.keys(scripts).filter((name) => name !== 'main.js');
  await build({
    root: folder,
    logLevel: 'error',
    publicDir: false,
    build: {
      modulePreload: false,
      chunkSizeWarningLimit: Infinity,
      rolldownOptions: {
        input: ['index.html', ...others].map((name) => join(folder, name)),
        output: { entryFileNames: ({ name }) => (others.includes(`${name}.js`) ? '[name].js' : 'assets/[name]-[hash].js') },
      },
    },
  });
}
