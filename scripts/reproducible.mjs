// Builds the package twice, from clean clones in other folders and under another home of cargo's, and compares every byte of it.
//   npm run check:reproducible
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { readOptions } from './options.mjs';
import { ROOT, fail, installPackages, run, step } from './tools.mjs';

readOptions(import.meta.filename);
installPackages();
const folder = mkdtempSync(join(tmpdir(), 'mcwc-reproducible-'));
try {
  // Both before either is built: what is committed may change meanwhile.
  const clones = ['first', 'second/in another folder'].map((name) => cloneTo(join(folder, name)));
  compare(...clones.map((clone) => hashes(buildIn(clone))));
} finally {
  rmSync(folder, { recursive: true, force: true });
}

/** What is committed; gives the folder. */
function cloneTo(clone) {
  mkdirSync(clone, { recursive: true });
  run('git', ['clone', '--quiet', ROOT, clone]);
  symlinkSync(join(ROOT, 'node_modules'), join(clone, 'node_modules'));
  return clone;
}

/** Gives the package's folder. */
function buildIn(clone) {
  step(`Build in ${clone}`);
  const cargoHome = join(clone, '.cargo-home');
  symlinkSync(process.env.CARGO_HOME ?? join(homedir(), '.cargo'), cargoHome);
  const { CARGO_TARGET_DIR: _, ...env } = process.env;
  run('node', ['scripts/build.mjs'], { cwd: clone, env: { ...env, CARGO_HOME: cargoHome } });
  return join(clone, 'pkg');
}

function hashes(pkg) {
  const hash = (name) => createHash('sha256').update(readFileSync(join(pkg, name))).digest('hex');
  return new Map(readdirSync(pkg).map((name) => [name, hash(name)]));
}

function compare(first, second) {
  const names = [...new Set([...first.keys(), ...second.keys()])];
  const different = names.filter((name) => first.get(name) !== second.get(name));
  if (different.length > 0) fail(`not the same: ${different.join(', ')}`);
  for (const name of names.filter((name) => name.endsWith('.wasm'))) console.log(`${first.get(name)}  ${name}`);
  step(`${names.length} files are the same, byte for byte`);
}
