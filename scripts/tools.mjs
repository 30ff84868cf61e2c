// The tools that the scripts need, found or installed. Uses nothing but Node, so that it runs in a fresh clone.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { setPriority } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('..', import.meta.url));

/** What cargo builds. */
export const CARGO_TARGET = process.env.CARGO_TARGET_DIR ?? join(ROOT, 'target');
export const WASM_TARGET = 'wasm32-unknown-unknown';
export const WASI_TARGET = 'wasm32-wasip1';

const started = Date.now();
/** Of each finished step, its name and how long it took. */
const durations = [];
/** Commands that still run. */
const children = new Set();
process.on('exit', () => children.forEach((child) => child.kill()));

export function step(name) {
  console.log(`\x1b[1m[${seconds(Date.now() - started, 4)}] ${name}\x1b[0m`);
}

/** A step that may run beside others. */
export async function timed(name, work) {
  step(name);
  const began = Date.now();
  await work();
  durations.push([name, Date.now() - began]);
}

/** How long the timed steps took, and everything. They overlap. */
export function printDurations() {
  step('Slowest steps');
  const slowest = durations.toSorted(([, a], [, b]) => b - a).slice(0, 12);
  for (const [name, duration] of slowest) console.log(`${seconds(duration, 6)}  ${name}`);
}

function seconds(duration, width) {
  return `${(duration / 1000).toFixed(0).padStart(width)} s`;
}

/** Runs a command to its end, its output shown; ends this process if it fails. */
export function run(command, args, options = {}) {
  const { error, status, signal } = spawnSync(command, args, { cwd: ROOT, stdio: 'inherit', ...options });
  check(command, args, { error, status, signal });
}

/** The same beside others, which it may leave the processor to. */
export async function start(command, args, { priority, ...options } = {}) {
  const child = spawn(command, args, { cwd: ROOT, stdio: 'inherit', ...options });
  if (child.pid && priority !== undefined) setPriority(child.pid, priority);
  children.add(child);
  const ended = new Promise((resolve) => {
    child.on('error', (error) => resolve({ error }));
    child.on('close', (status, signal) => resolve({ status, signal }));
  });
  check(command, args, await ended);
  children.delete(child);
}

function check(command, args, { error, status, signal }) {
  if (status === 0) return;
  const why = error?.code === 'ENOENT' ? 'it is not installed' : (error?.message ?? (signal || `exit status ${status}`));
  fail(`${command} ${args.join(' ')}\nfailed: ${why}`);
}

export function fail(message) {
  console.error(`\x1b[31m${message}\x1b[0m`);
  process.exit(1);
}

/** The path of a file of an npm package, once it is there. */
export async function tool(path) {
  await installPackages();
  return join(ROOT, 'node_modules', path);
}

/** Installs the npm packages if they are not those of the lock file. */
export function installPackages() {
  return (packages ??= npmIsCurrent() ? Promise.resolve() : timed('npm packages', npmCi));
}
let packages;

function npmCi() {
  // What onnxruntime-node downloads when it is installed is for CUDA.
  return start('npm', ['ci', '--no-audit', '--no-fund'], { env: { ...process.env, ONNXRUNTIME_NODE_INSTALL: 'skip' } });
}

/** What cargo needs to build the package. */
export function prepareRust() {
  if (!has('cargo', ['--version'])) fail('Rust is needed: https://rustup.rs');
  for (const target of [WASM_TARGET, WASI_TARGET].filter((target) => !isInstalled(target))) {
    step(`Rust target ${target}`);
    run('rustup', ['target', 'add', target]);
  }
  if (!existsSync(join(sysroot(), 'lib/rustlib/src/rust/library'))) {
    step('Rust standard library sources');
    run('rustup', ['component', 'add', 'rust-src']);
  }
}

/** The browser that tests run in, and a software GPU for those that run without one. */
export function prepareBrowser() {
  const browsers = ['/usr/bin/chromium', '/usr/bin/chromium-browser'];
  const installed = () => process.env.CHROMIUM ?? browsers.find(existsSync);
  const missing = [...(installed() ? [] : ['chromium']), ...(hasVulkan() ? [] : ['mesa-vulkan-drivers'])];
  if (missing.length > 0) {
    if (process.getuid?.() !== 0 || !has('apt-get', ['--version'])) {
      fail(`${missing.join(' and ')} needed: install it, and set CHROMIUM if the browser is not /usr/bin/chromium`);
    }
    step(missing.join(', '));
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
    run('apt-get', ['update', '-qq'], { env });
    run('apt-get', ['install', '--yes', '-qq', '--no-install-recommends', ...missing], { env });
  }
  return installed();
}

function hasVulkan() {
  const folder = '/usr/share/vulkan/icd.d';
  return existsSync(folder) && readdirSync(folder).length > 0;
}

function has(command, args) {
  return output(command, args) !== undefined;
}

function output(command, args) {
  try {
    return execFileSync(command, args, { cwd: ROOT, encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  } catch {
    return undefined;
  }
}

/** npm leaves a copy of the lock file that it installed from. */
function npmIsCurrent() {
  const installed = join(ROOT, 'node_modules/.package-lock.json');
  if (!existsSync(installed)) return false;
  const versions = (path) => JSON.parse(readFileSync(path, 'utf8')).packages;
  const have = versions(installed);
  const wanted = Object.entries(versions(join(ROOT, 'package-lock.json')));
  return wanted.every(([path, { version, optional }]) => path === '' || optional || have[path]?.version === version);
}

function isInstalled(target) {
  return existsSync(join(sysroot(), 'lib/rustlib', target));
}

export function sysroot() {
  return output('rustc', ['--print', 'sysroot'])?.trim() ?? fail('rustc does not run');
}
