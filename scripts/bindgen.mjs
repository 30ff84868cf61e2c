// wasm-bindgen's part of the build: scripts/bindgen, compiled, and run on a module.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CARGO_TARGET, ROOT, fail, start, timed } from './tools.mjs';

const CRATE = join(ROOT, 'scripts/bindgen');
/** Of its own, so that cargo builds it beside the command. */
const TARGET = join(CARGO_TARGET, 'bindgen');

export async function buildBindgen() {
  const [library, used] = [lockedVersion(CRATE, 'wasm-bindgen-cli-support'), lockedVersion(ROOT, 'wasm-bindgen')];
  if (library !== used) fail(`scripts/bindgen binds wasm-bindgen ${library}; Cargo.lock has ${used}`);
  const manifest = join(CRATE, 'Cargo.toml');
  await timed('bindgen', () => start('cargo', ['build', '--locked', '--manifest-path', manifest, '--target-dir', TARGET]));
}

/** Writes what a page loads of a wasm module, and its bindings. */
export async function bind(module, name, folder) {
  await start(join(TARGET, 'debug/bindgen'), [module, name, folder]);
}

function lockedVersion(folder, name) {
  const lock = readFileSync(join(folder, 'Cargo.lock'), 'utf8');
  return lock.match(new RegExp(`name = "${name}"\\nversion = "([^"]+)"`))?.[1] ?? fail(`${folder}/Cargo.lock does not name ${name}`);
}
