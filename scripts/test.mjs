// Everything that has to hold before a change is merged.
//   node scripts/test.mjs
// Works in a fresh clone: installs what is missing.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { build } from './build.mjs';
import { buildCommand, buildPage, buildSample } from './demo.mjs';
import { CARGO_TARGET, ROOT, WASM_TARGET, installPackages, prepareBrowser, prepareRust, printDurations, start, step, timed } from './tools.mjs';

/** Each has to work by itself: reading needs no feature. */
const FEATURES = ['', 'encoder', 'gpu', 'cli', 'encoder,gpu'];
/** Those of the two wasm modules. */
const WASM_FEATURES = ['', 'gpu'];

const chromium = prepareBrowser();
installPackages();
prepareRust();
// They share no folder that cargo would lock.
await Promise.all([testCrate(), build().then(buildPage), buildCommand().then(buildSample)]);
await timed('Package and page tests', testPackage);
printDurations();
step('All passed');

async function testCrate() {
  await cargo('Format', ['fmt', '--check']);
  await cargo('Clippy', ['clippy', '--all-targets', '--all-features', '--', '--deny', 'warnings']);
  for (const features of WASM_FEATURES) {
    const target = ['--lib', '--target', WASM_TARGET, '--no-default-features', '--features', features];
    await cargo(`Clippy, wasm: ${features || 'no features'}`, ['clippy', ...target, '--', '--deny', 'warnings']);
  }
  await cargo('Documentation', ['doc', '--no-deps'], { RUSTDOCFLAGS: '--deny warnings' });
  await cargo('Rust tests', ['test']);
  for (const features of FEATURES) {
    await cargo(`Rust tests: ${features || 'no features'}`, ['test', '--no-default-features', '--features', features]);
  }
  // In the folder whose packages are built.
  await cargo('Crate', ['package', '--allow-dirty', '--quiet'], { CARGO_TARGET_DIR: CARGO_TARGET });
}

function cargo(name, args, env = {}) {
  return timed(name, () => start('cargo', args, { env: { ...process.env, ...env } }));
}

function testPackage() {
  const tests = readdirSync(join(ROOT, 'tests')).filter((name) => name.endsWith('.test.mjs'));
  const env = { ...process.env, CHROMIUM: chromium };
  return start('node', ['--test', '--test-concurrency=1', ...tests.map((name) => join('tests', name))], { env });
}
