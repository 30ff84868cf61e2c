// Everything that has to hold before a change is merged.
//   node scripts/test.mjs
// Works in a fresh clone: installs what is missing.
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT, prepare, prepareBrowser, run, step } from './tools.mjs';

/** Each has to build by itself: reading needs no feature. */
const FEATURES = ['', 'encoder', 'gpu', 'cli', 'encoder,gpu'];
/** Those of the two wasm modules. */
const WASM_FEATURES = ['', 'gpu'];

prepare();
const chromium = prepareBrowser();

step('Format');
run('cargo', ['fmt', '--check']);
step('Clippy');
run('cargo', ['clippy', '--all-targets', '--all-features', '--', '--deny', 'warnings']);
for (const features of WASM_FEATURES) {
  const target = ['--lib', '--target', 'wasm32-unknown-unknown', '--no-default-features', '--features', features];
  run('cargo', ['clippy', ...target, '--', '--deny', 'warnings']);
}
for (const features of FEATURES) {
  step(`Features: ${features || 'none'}`);
  run('cargo', ['check', '--no-default-features', '--features', features]);
}
step('Documentation');
run('cargo', ['doc', '--no-deps'], { env: { ...process.env, RUSTDOCFLAGS: '--deny warnings' } });
step('Rust tests');
run('cargo', ['test']);

// Imported only now: what they need may just have been installed.
const { build } = await import('./build.mjs');
await build();
const { buildDemo } = await import('./demo.mjs');
await buildDemo();

step('Package and page tests');
const tests = readdirSync(join(ROOT, 'tests')).filter((name) => name.endsWith('.test.mjs'));
const env = { ...process.env, CHROMIUM: chromium };
run('node', ['--test', '--test-concurrency=1', ...tests.map((name) => join('tests', name))], { env });
step('All passed');
