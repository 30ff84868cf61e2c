// Everything that has to hold before a change is merged.
//   node scripts/test.mjs
// Works in a fresh clone: installs what is missing.
import { readFileSync, readdirSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { build } from './build.mjs';
import { buildCommand, buildPage, buildSample } from './demo.mjs';
import { CARGO_TARGET, ROOT, WASM_TARGET, installPackages, prepareBrowser, prepareRust, printDurations, start, step, timed } from './tools.mjs';

/**
 * Each has to work by itself: reading needs no feature. The tests of the first two are few. What the others run is what
 * they are for; with all features together, everything is run.
 */
const FEATURES = [
  ['', []],
  ['gpu', []],
  ['encoder', ['--lib', '--test', 'roundtrip']],
  ['cli', ['--test', 'cli']],
  ['encoder,gpu', ['--test', 'twins']],
];
/** Those of the two wasm modules. */
const WASM_FEATURES = ['', 'gpu'];

const PACKAGE_REPORT = join(ROOT, 'target/package-tests.txt');
/** With which a report of Node's test runner ends: how many tests passed, failed, were skipped, … */
const SUMMARY_LINES = 8;

const chromium = prepareBrowser();
installPackages();
prepareRust();
// They share no folder that cargo would lock.
const artifacts = Promise.all([build().then(buildPage), buildCommand().then(buildSample)]);
await Promise.all([testCrate(), artifacts.then(() => timed('Package and page tests', testPackage))]);
printDurations();
console.log(readFileSync(PACKAGE_REPORT, 'utf8').trimEnd().split('\n').slice(-SUMMARY_LINES).join('\n'));
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
  for (const [features, tests] of FEATURES) {
    const set = ['--no-default-features', '--features', features];
    await cargo(`Check: ${features || 'no features'}`, ['check', '--all-targets', ...set]);
    await cargo(`Rust tests: ${features || 'no features'}`, ['test', ...set, ...tests]);
  }
  // What is packaged is built again from the tarball; its dependencies are there.
  await cargo('Crate', ['package', '--allow-dirty'], { CARGO_TARGET_DIR: CARGO_TARGET });
}

/** Beside the package's tests, some of which watch the time. */
function cargo(name, args, env = {}) {
  const priority = constants.priority.PRIORITY_LOW;
  return timed(name, () => start('cargo', args, { priority, env: { ...process.env, ...env } }));
}

/** Shows the tests as they run, and keeps the report. */
function testPackage() {
  const tests = readdirSync(join(ROOT, 'tests')).filter((name) => name.endsWith('.test.mjs'));
  const reporter = `--test-reporter=${process.stdout.isTTY ? 'spec' : 'tap'}`;
  const reports = ['stdout', PACKAGE_REPORT].flatMap((path) => [reporter, `--test-reporter-destination=${path}`]);
  const env = { ...process.env, CHROMIUM: chromium };
  return start('node', ['--test', '--test-concurrency=1', ...reports, ...tests.map((name) => join('tests', name))], { env });
}
