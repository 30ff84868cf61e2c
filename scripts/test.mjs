// Everything that has to hold before a change is merged.
//   npm test
// Works in a fresh clone: installs what is missing.
import { cpSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { build } from './build.mjs';
import { buildPage, buildSample } from './demo.mjs';
import { readOptions } from './options.mjs';
import { pack } from './pack.mjs';
import { CARGO_TARGET, ROOT, WASM_TARGET, installPackages, prepareBrowser, prepareRust, printDurations, start, step, timed } from './tools.mjs';

/** For few tests, optimizing would take longer than they do. */
const UNOPTIMIZED = { CARGO_PROFILE_DEV_OPT_LEVEL: '0' };
/**
 * Each has to work by itself: reading needs no feature. Of the encoder without the rest, reading and building archives is tested, of the
 * command what it prints and writes; the tests of modules are run with all features.
 */
const FEATURES = [
  ['', [], UNOPTIMIZED],
  ['gpu', [], UNOPTIMIZED],
  ['encoder', ['--test', 'format', '--test', 'reject'], UNOPTIMIZED],
  ['cli', ['--test', 'cli']],
  // All features together add only the command.
  ['encoder,gpu'],
];
/** Those of the two wasm modules. */
const WASM_FEATURES = ['', 'gpu'];

/** For what runs beside the package's tests, which wait for each other. */
const BESIDE = { priority: constants.priority.PRIORITY_LOW };
const { version: VERSION } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
const PROGRAMS = join(CARGO_TARGET, 'programs');
const PACKAGE_REPORT = join(ROOT, 'target/package-tests.txt');
/** With which a report of Node's test runner ends: how many tests passed, failed, were skipped, … */
const SUMMARY_LINES = 8;

readOptions(import.meta.filename);
const chromium = prepareBrowser();
installPackages();
prepareRust();
// They share no folder that cargo would lock.
const command = cargo('mcwc', ['build', '--bins', '--examples']);
const programs = command.then(keepPrograms);
const artifacts = build().then(() => Promise.all([buildPage(), buildSample(), programs]));
await Promise.all([programs.then(testCrate), artifacts.then(() => timed('Package and page tests', testPackage))]);
printDurations();
console.log(readFileSync(PACKAGE_REPORT, 'utf8').trimEnd().split('\n').slice(-SUMMARY_LINES).join('\n'));
step('All passed');

/** Tests of sets of features build others of the same names. */
function keepPrograms() {
  for (const name of ['mcwc', 'examples/permute']) cpSync(join(CARGO_TARGET, 'debug', name), join(PROGRAMS, name));
}

async function testCrate() {
  await cargo('Format', ['fmt', '--check']);
  await cargo('Clippy', ['clippy', '--all-targets', '--all-features', '--', '--deny', 'warnings']);
  for (const features of WASM_FEATURES) {
    const target = ['--lib', '--target', WASM_TARGET, '--no-default-features', '--features', features];
    await cargo(`Clippy, wasm: ${features || 'no features'}`, ['clippy', ...target, '--', '--deny', 'warnings']);
  }
  // What bench:decode compares with, a package of its own.
  const baseline = ['--manifest-path', join(ROOT, 'bench/baseline/Cargo.toml'), '--target', WASM_TARGET, '--target-dir', CARGO_TARGET];
  await cargo('Check: bench/baseline', ['check', '--locked', ...baseline]);
  await cargo('Documentation', ['doc', '--no-deps'], { RUSTDOCFLAGS: '--deny warnings' });
  await cargo('Rust tests', ['test']);
  for (const [features, tests, env] of FEATURES) {
    const set = ['--no-default-features', '--features', features];
    const name = features || 'no features';
    if (tests?.length !== 0) await cargo(`Check: ${name}`, ['check', '--all-targets', ...set]);
    if (tests) await cargo(`Rust tests: ${name}`, ['test', ...set, ...tests], env);
  }
  await timed('Crate', checkCrate);
}

/** Packages the crate and checks what is in the tarball. Its dependencies are those that the documentation needed. */
async function checkCrate() {
  await start('cargo', ['package', '--allow-dirty', '--no-verify', '--target-dir', CARGO_TARGET], BESIDE);
  const folder = join(CARGO_TARGET, 'package');
  const crate = join(folder, `mcwc-${VERSION}`);
  rmSync(crate, { recursive: true, force: true });
  await start('tar', ['-xzf', `${crate}.crate`, '-C', folder]);
  const manifest = join(crate, 'Cargo.toml');
  await start('cargo', ['check', '--locked', '--manifest-path', manifest, '--target-dir', CARGO_TARGET], BESIDE);
}

/** What is compiled once is compiled in half the time if nothing is kept for a next time. */
function cargo(name, args, env = {}) {
  return timed(name, () => start('cargo', args, { ...BESIDE, env: { ...process.env, CARGO_INCREMENTAL: '0', ...env } }));
}

/** Shows the tests as they run, and keeps the report. */
function testPackage() {
  const tests = readdirSync(join(ROOT, 'tests')).filter((name) => name.endsWith('.test.mjs'));
  const reporter = `--test-reporter=${process.stdout.isTTY ? 'spec' : 'tap'}`;
  const reports = ['stdout', PACKAGE_REPORT].flatMap((path) => [reporter, `--test-reporter-destination=${path}`]);
  const env = { ...process.env, CHROMIUM: chromium, MCWC_TARBALL: pack(CARGO_TARGET), MCWC_PROGRAMS: PROGRAMS };
  // Two at once: some wait for a network that is slow on purpose.
  return start('node', ['--test', '--test-concurrency=2', ...reports, ...tests.map((name) => join('tests', name))], { env });
}
