// A page that runs a real runtime on what the packed package decodes: both bundled by Vite, served to Chromium under a strict
// Content-Security-Policy, beside archives and what the native command makes of them.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join } from 'node:path';
import { after } from 'node:test';
import { fileURLToPath } from 'node:url';
import { chromium } from 'playwright-core';
import { build } from 'vite';
import { NATIVE } from './command.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.mjs': 'text/javascript', '.wasm': 'application/wasm' };
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
  await install(folder);
  await bundle(folder, scripts);
  const server = createServer((request, response) => serve(site, policies.join('; '), request, response));
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  site.origin = `http://localhost:${server.address().port}`;
  const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: CHROMIUM_ARGS });
  after(async () => {
    await browser.close();
    server.closeAllConnections();
    server.close();
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

async function install(folder) {
  const pack = ['pack', '--json', '--ignore-scripts', '--pack-destination', folder];
  const [{ filename }] = JSON.parse(execFileSync('npm', pack, { cwd: ROOT, encoding: 'utf8' }));
  const installed = join(folder, 'node_modules/mcwc');
  await mkdir(installed, { recursive: true });
  execFileSync('tar', ['-xzf', join(folder, filename), '-C', installed, '--strip-components', '1']);
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

/** What was bundled, or lies in `public/`, unless it is `unreachable`. */
async function serve(site, policy, request, response) {
  const { pathname } = new URL(request.url, site.origin);
  if (site.unreachable.has(pathname)) return request.socket.destroy();
  const path = pathname.endsWith('/') ? `${pathname}index.html` : pathname;
  const body = await readFile(join(site.folder, 'dist', path)).catch(() => readFile(join(site.public, path)).catch(() => undefined));
  const status = body ? 200 : pathname === '/favicon.ico' ? 204 : 404;
  const headers = { 'content-type': TYPES[extname(path)] ?? 'application/octet-stream', 'content-security-policy': policy };
  response.writeHead(status, headers).end(body);
}
