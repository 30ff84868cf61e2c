// What benchmarks run: the package, the native command, and the module that constriction is measured with.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { bind, buildBindgen } from '../scripts/bindgen.mjs';
import { CARGO_TARGET, ROOT, WASM_TARGET, fail, run, step } from '../scripts/tools.mjs';

export const PKG = join(ROOT, 'pkg');
/** The package's own wasm bindings, before they are bundled. */
export const BINDINGS = join(ROOT, 'target/bindings/mcwc');
export const BASELINE = join(ROOT, 'target/bench/baseline');

export function requirePackage() {
  const missing = [join(PKG, 'index.js'), join(PKG, 'mcwc_bg.wasm'), join(BINDINGS, 'mcwc.js')].find((path) => !existsSync(path));
  if (missing) fail('The package is not built: npm run build');
}

/** The native `mcwc`. */
export function buildCommand() {
  step('mcwc');
  run('cargo', ['build', '--release', '--no-default-features', '--features', 'cli']);
  return join(CARGO_TARGET, 'release/mcwc');
}

export async function buildBaseline() {
  await buildBindgen();
  step('constriction as wasm');
  run('cargo', ['build', '--manifest-path', 'bench/baseline/Cargo.toml', '--release', '--target', WASM_TARGET, '--target-dir', CARGO_TARGET]);
  await bind(join(CARGO_TARGET, WASM_TARGET, 'release/baseline.wasm'), 'baseline', BASELINE);
}
