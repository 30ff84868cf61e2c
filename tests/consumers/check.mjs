// The package, as packed, in fresh projects of Vite, webpack, esbuild and Next: every page in Chromium, served by the tool in
// development, and built, and built again, under a strict Content-Security-Policy, from the page's origin and from another one.
//   node tests/consumers/check.mjs [--projects vite,webpack,esbuild,next] [--pages core,onnxruntime] [--modes development,production,rebuild,foreign]
// Needs the built package and the native command (cargo build --bins), and fetches the tools from the npm registry. Exit status 1 if a page fails.
import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { cp, mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { chromium } from 'playwright-core';
import { readOptions, some } from '../../scripts/options.mjs';
import { pack } from '../../scripts/pack.mjs';
import { ROOT, fail, prepareBrowser, step } from '../../scripts/tools.mjs';
import { NATIVE } from '../common/command.mjs';
import { freePort, serve } from '../common/serve.mjs';
import { PAGES } from './pages.mjs';
import { PROJECTS, policyOf } from './projects.mjs';

const MODES = { development, production, rebuild, foreign };
const DONE_MS = 120_000;
const START_MS = 60_000;
const POLL_MS = 100;

const list = (all) => some(Object.keys(all));
const { projects, pages, modes } = readOptions(import.meta.filename, { projects: list(PROJECTS), pages: list(PAGES), modes: list(MODES) });
if (!existsSync(NATIVE)) fail('The native command is not built: cargo build --bins');
const { devDependencies: versions } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
const folder = await mkdtemp(join(tmpdir(), 'mcwc-consumers-'));
const browser = await chromium.launch({ executablePath: prepareBrowser(), args: ['--no-sandbox'] });
const failed = [];
try {
  const tarball = pack(folder);
  await mkdir(join(folder, 'public'));
  for (const page of pages) await PAGES[page].prepare(join(folder, 'public'));
  for (const name of projects) {
    const project = await makeProject(name, tarball);
    for (const mode of modes) {
      step(`${name}, ${mode}`);
      try {
        const shown = project.pages.filter((page) => mode !== 'rebuild' || PAGES[page].projects);
        if (shown.length === 0) continue;
        const site = await MODES[mode](project);
        for (const page of shown) await checkPage(project, mode, page, site);
        await site.close();
      } catch (error) {
        fails(`${name}, ${mode}`, error.message);
      }
    }
  }
} finally {
  await browser.close();
  await rm(folder, { recursive: true, force: true });
}
if (failed.length > 0) console.error(`FAILED ${failed.join('\nFAILED ')}`);
process.exitCode = failed.length === 0 ? 0 : 1;

function fails(what, why) {
  failed.push(what);
  console.error(`FAILED ${what}: ${why}`);
}

/** A project as someone begins one: its own folder, and everything in it installed. */
async function makeProject(name, tarball) {
  step(`${name}: a fresh project`);
  const project = { name, folder: join(folder, name), pages: pages.filter((page) => PAGES[page].projects?.includes(name) ?? true), ...PROJECTS[name] };
  await cp(join(import.meta.dirname, name), project.folder, { recursive: true, verbatimSymlinks: true });
  await mkdir(join(project.folder, 'scripts'));
  for (const page of [...project.pages, 'show']) await cp(join(import.meta.dirname, `scripts/${page}.js`), join(project.folder, `scripts/${page}.js`));
  const packages = project.pages.flatMap((page) => PAGES[page].needs ?? []).map((name) => `${name}@${versions[name]}`);
  if (!project.html) for (const page of project.pages) await writePage(project, page);
  execFileSync('npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', '--silent', tarball, ...packages], { cwd: project.folder, stdio: 'inherit', env: environment({}) });
  await cp(join(folder, 'public'), join(project.folder, 'public'), { recursive: true });
  const modules = join(project.folder, 'node_modules');
  for (const [to, file, from = ''] of project.pages.flatMap((page) => PAGES[page].runtime ?? [])) {
    const own = join(modules, from, 'node_modules', file);
    await cp(existsSync(own) ? own : join(modules, file), join(project.folder, 'public', to, basename(file)));
  }
  return project;
}

/** As Next has pages: a component, which imports what runs in the browser only. */
async function writePage({ folder }, page) {
  const component = `'use client';
import { useEffect } from 'react';

export default function Page() {
  useEffect(() => {
    import('../../scripts/${page}.js');
  }, []);
  return <output />;
}
`;
  await mkdir(join(folder, 'app', page), { recursive: true });
  await writeFile(join(folder, 'app', page, 'page.jsx'), component);
}

/** The tool's own server. */
async function development(project) {
  const policy = policyOf(project.development);
  if (project.html) for (const page of project.pages) await writeFile(join(project.folder, project.html === 'before' ? '' : 'public', `${page}.html`), htmlOf(project.script(page, '/'), policy));
  return start(project, 'dev', policy);
}

async function production(project) {
  return built(project, '/', policyOf(project.production));
}

/** Production once more, without the encoder: what the plugin made of models has to come from its cache. */
async function rebuild(project) {
  const worker = join(project.folder, 'node_modules/mcwc/pkg/encoder-worker.js');
  await rename(worker, `${worker}.away`);
  try {
    return await production(project);
  } finally {
    await rename(`${worker}.away`, worker);
  }
}

/** Built for a server of another origin, as it would be for a content delivery network. */
async function foreign(project) {
  const output = join(project.folder, project.foreign ?? project.output);
  const other = await serve([output], { 'access-control-allow-origin': '*' });
  try {
    const site = await built(project, `${other.origin}/`, policyOf(project.production, other.origin));
    const close = async () => {
      await site.close();
      other.close();
    };
    return { ...site, close };
  } catch (error) {
    other.close();
    throw error;
  }
}

async function built(project, base, policy) {
  // What a server for development leaves behind may still be written.
  await rm(join(project.folder, project.output), { recursive: true, force: true, maxRetries: 10 });
  if (project.html === 'before') for (const page of project.pages) await writeFile(join(project.folder, `${page}.html`), htmlOf(project.script(page, base)));
  const { status, stdout } = spawnSync('npm', ['run', '--silent', 'build'], { cwd: project.folder, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'], env: environment({ BASE: base, POLICY: policy }) });
  if (status !== 0) throw new Error(`npm run build: exit status ${status}\n${stdout}`);
  if (!project.html) return start(project, 'start', policy);
  const output = join(project.folder, project.output);
  if (project.html === 'after') for (const page of project.pages) await writeFile(join(output, `${page}.html`), htmlOf(project.script(page, base)));
  return serve([output, join(project.folder, 'public')], { 'content-security-policy': policy });
}

/** A script of the project that serves, until it is closed. */
async function start(project, script, policy) {
  const port = await freePort();
  const child = spawn('npm', ['run', '--silent', script], { cwd: project.folder, stdio: ['ignore', 'ignore', 'inherit'], env: environment({ PORT: port, POLICY: policy }), detached: true });
  const ended = new Promise((resolve) => child.once('exit', resolve));
  // npm's children are of its process group, which an interruption does not reach.
  const stop = () => process.kill(-child.pid);
  process.once('exit', stop);
  const close = async () => {
    process.off('exit', stop);
    stop();
    await ended;
  };
  const origin = `http://localhost:${port}`;
  for (const until = Date.now() + START_MS; ; await sleep(POLL_MS)) {
    if (await fetch(origin).then(() => true, () => false)) return { origin, close };
    if (Date.now() > until) break;
  }
  await close();
  throw new Error(`npm run ${script} does not serve`);
}

function environment(variables) {
  // What onnxruntime-node, which transformers.js brings along, downloads when it is installed is for CUDA.
  return { ...process.env, NEXT_TELEMETRY_DISABLED: '1', ONNXRUNTIME_NODE_INSTALL: 'skip', ...variables };
}

function htmlOf(script, policy) {
  const meta = policy ? `<meta http-equiv="Content-Security-Policy" content="${policy}" />` : '';
  return `<!doctype html><html lang="en"><head><meta charset="utf-8" />${meta}<title>mcwc</title><link rel="icon" href="data:," /><script type="module" src="${script}"></script></head><body><output></output></body></html>`;
}

async function checkPage(project, mode, name, { origin }) {
  const page = await browser.newPage();
  page.setDefaultTimeout(DONE_MS);
  const complaints = [];
  page.on('console', (message) => message.type() === 'error' && complaints.push(message.text()));
  const thrown = new Promise((_, reject) => page.on('pageerror', reject));
  thrown.catch(() => {});
  const started = performance.now();
  try {
    await page.goto(`${origin}/${project.html ? `${name}.html` : name}`);
    const output = page.locator('output:not(:empty)');
    await Promise.race([output.waitFor(), thrown]);
    await PAGES[name].check(JSON.parse(await output.textContent()), join(folder, 'public'));
    assert.deepEqual(complaints, []);
    console.log(`ok     ${project.name}, ${mode}: ${name} (${((performance.now() - started) / 1000).toFixed(1)} s)`);
  } catch (error) {
    fails(`${project.name}, ${mode}: ${name}`, [error.message, ...complaints].join('\n    '));
  } finally {
    await page.close();
  }
}
