// Rust and TypeScript -> pkg/: two wasm modules, their JavaScript, and types.
//   node scripts/build.mjs
import { copyFileSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { ROOT, run, step, wasmBindgen } from './tools.mjs';

const PKG = join(ROOT, 'pkg');
const BINDINGS = join(ROOT, 'target/bindings');
const CARGO_TARGET = process.env.CARGO_TARGET_DIR ?? join(ROOT, 'target');
/** What rustc emits and every browser with SIMD has. `--all-features` would let wasm-opt use proposals that none has. */
const WASM_FEATURES = [
  'bulk-memory',
  'multivalue',
  'mutable-globals',
  'nontrapping-float-to-int',
  'reference-types',
  'sign-ext',
  'simd',
];
export const MODULES = [
  { name: 'mcwc', cargo: [] },
  // Its hot loop is the shader.
  { name: 'mcwc_gpu', cargo: ['--features', 'gpu', '--config', 'profile.wasm.package.mcwc.opt-level="z"'] },
];
const BUNDLES = [
  { entry: 'index', format: 'esm' },
  { entry: 'gpu', format: 'esm' },
  // Runs as a classic script as well as a module.
  { entry: 'worker', format: 'iife' },
];
/** What `index.d.ts` leads to. */
const PUBLIC_TYPES = ['index', 'archive', 'errors', 'open', 'types'];

export async function build() {
  for (const name of readdirSync(PKG)) if (name !== 'README.md') rmSync(join(PKG, name), { recursive: true });
  for (const module of MODULES) buildWasm(module);
  await buildScripts();
  buildTypes();
  for (const line of sizes()) console.log(line);
}

export function buildWasm({ name, cargo }) {
  step(`${name}_bg.wasm`);
  const target = 'wasm32-unknown-unknown';
  run('cargo', ['build', '--lib', '--profile', 'wasm', '--target', target, '--no-default-features', ...cargo]);
  const bindings = join(BINDINGS, name);
  const wasm = join(CARGO_TARGET, target, 'wasm/mcwc.wasm');
  run(wasmBindgen(), ['--target', 'web', '--out-name', name, '--out-dir', bindings, wasm]);
  const optimized = join(PKG, `${name}_bg.wasm`);
  const features = WASM_FEATURES.map((feature) => `--enable-${feature}`);
  const passes = ['-Oz', '--strip-debug', '--strip-producers', '--strip-target-features'];
  run('node', [tool('binaryen/bin/wasm-opt'), join(bindings, `${name}_bg.wasm`), '-o', optimized, ...passes, ...features]);
}

export async function buildScripts() {
  step('JavaScript');
  const esbuild = await import('esbuild');
  for (const { entry, format } of BUNDLES) {
    await esbuild.build({
      entryPoints: [join(ROOT, `js/${entry}.ts`)],
      outfile: join(PKG, `${entry}.js`),
      format,
      bundle: true,
      minify: true,
      target: 'es2022',
      legalComments: 'none',
      charset: 'utf8',
      external: ['./gpu.js'],
      alias: Object.fromEntries(MODULES.map(({ name }) => [`${name.replace('_', '-')}-wasm`, join(BINDINGS, name, `${name}.js`)])),
      // The worker never loads wasm by address.
      logOverride: { 'empty-import-meta': 'silent' },
    });
  }
}

export function buildTypes() {
  step('types');
  const types = join(ROOT, 'target/types');
  run('node', [tool('typescript/bin/tsc'), '--project', ROOT, '--outDir', types]);
  for (const name of PUBLIC_TYPES) copyFileSync(join(types, `${name}.d.ts`), join(PKG, `${name}.d.ts`));
}

/** Length, as it is and compressed, of every file that is downloaded. */
export function sizes() {
  const files = readdirSync(PKG).filter((name) => /\.(js|wasm)$/.test(name));
  return files.map((name) => {
    const bytes = readFileSync(join(PKG, name));
    return `${name.padEnd(20)} ${kilobytes(bytes.length)}, gzipped ${kilobytes(gzipSync(bytes, { level: 9 }).length)}`;
  });
}

function tool(path) {
  return join(ROOT, 'node_modules', path);
}

function kilobytes(bytes) {
  return `${(bytes / 1000).toFixed(1).padStart(6)} kB`;
}

if (import.meta.filename === process.argv[1]) await build();
