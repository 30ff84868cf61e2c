// The tools that the scripts need, found or installed. Uses nothing but Node, so that it runs in a fresh clone.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('..', import.meta.url));

const WASM_TARGET = 'wasm32-unknown-unknown';
const started = Date.now();

export function step(name) {
  const seconds = ((Date.now() - started) / 1000).toFixed(0).padStart(4);
  console.log(`\x1b[1m[${seconds} s] ${name}\x1b[0m`);
}

/** Runs a command to its end, its output shown; ends this process if it fails. */
export function run(command, args, options = {}) {
  const { error, status, signal } = spawnSync(command, args, { cwd: ROOT, stdio: 'inherit', ...options });
  if (status === 0) return;
  const why = error?.code === 'ENOENT' ? 'it is not installed' : (error?.message ?? (signal || `exit status ${status}`));
  fail(`${command} ${args.join(' ')}\nfailed: ${why}`);
}

export function fail(message) {
  console.error(`\x1b[31m${message}\x1b[0m`);
  process.exit(1);
}

export function wasmBindgen() {
  return join(ROOT, 'target/tools/bin/wasm-bindgen');
}

/** The path of a file of an npm package. */
export function tool(path) {
  return join(ROOT, 'node_modules', path);
}

/** Everything that building the package needs. */
export function prepare() {
  if (!has('cargo', ['--version'])) fail('Rust is needed: https://rustup.rs');
  if (!npmIsCurrent()) {
    step('npm packages');
    // What onnxruntime-node downloads when it is installed is for CUDA.
    run('npm', ['ci', '--no-audit', '--no-fund'], { env: { ...process.env, ONNXRUNTIME_NODE_INSTALL: 'skip' } });
  }
  if (!wasmTargetIsInstalled()) {
    step(`Rust target ${WASM_TARGET}`);
    run('rustup', ['target', 'add', WASM_TARGET]);
  }
  if (!existsSync(join(sysroot(), 'lib/rustlib/src/rust/library'))) {
    step('Rust standard library sources');
    run('rustup', ['component', 'add', 'rust-src']);
  }
  const version = lockedVersion('wasm-bindgen');
  if (output(wasmBindgen(), ['--version'])?.trim() !== `wasm-bindgen ${version}`) {
    step(`wasm-bindgen ${version}`);
    const root = join(ROOT, 'target/tools');
    run('cargo', ['install', 'wasm-bindgen-cli', '--version', version, '--root', root, '--bin', 'wasm-bindgen', '--force']);
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

function wasmTargetIsInstalled() {
  return existsSync(join(sysroot(), 'lib/rustlib', WASM_TARGET));
}

function sysroot() {
  return output('rustc', ['--print', 'sysroot'])?.trim() ?? fail('rustc does not run');
}

function lockedVersion(name) {
  const lock = readFileSync(join(ROOT, 'Cargo.lock'), 'utf8');
  return lock.match(new RegExp(`name = "${name}"\\nversion = "([^"]+)"`))?.[1] ?? fail(`Cargo.lock does not name ${name}`);
}
