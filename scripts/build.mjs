// Rust and TypeScript -> pkg/: two wasm modules, the JavaScript around them, and types. Fails if they are larger than they may be.
//   node scripts/build.mjs
import { copyFileSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { ROOT, fail, run, step, tool, wasmBindgen } from './tools.mjs';

/** Functions called once are inlined by rustc where it helps; more of it only makes what is compressed larger. */
const WASM_PASSES = [
  '-Oz',
  '--one-caller-inline-max-function-size=50',
  '--strip-debug',
  '--strip-producers',
  '--strip-target-features',
];
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
/**
 * The standard library is built along, for size and with panics that only trap: a tenth of the modules would be messages
 * that nobody sees. Stable Rust has that only behind RUSTC_BOOTSTRAP. An rlib beside the module would keep more code.
 */
const CARGO = ['-Zbuild-std=std,panic_abort', '-Zbuild-std-features=optimize_for_size', '--crate-type', 'cdylib'];
const RUSTFLAGS = '"-Zunstable-options", "-Cpanic=immediate-abort"';
/** A page loads one of them. */
const MODULES = [
  { name: 'mcwc', cargo: [] },
  { name: 'mcwc_gpu', cargo: ['--features', 'gpu'] },
];
/** Each with the bindings that `mcwc-wasm` stands for in it. Workers run as classic scripts as well as modules. */
const BUNDLES = [
  { out: 'index', entry: 'index', format: 'esm', bindings: 'mcwc/mcwc.js' },
  { out: 'gpu', entry: 'gpu', format: 'esm', bindings: 'mcwc_gpu/mcwc_gpu.js' },
  { out: 'worker', entry: 'worker', format: 'iife', bindings: 'mcwc/mcwc.js' },
  { out: 'gpu-worker', entry: 'worker', format: 'iife', bindings: 'mcwc_gpu/worker.js' },
];
/** What a page downloads to decode on the CPU, and on WebGPU. */
const DOWNLOADS = {
  cpu: ['index.js', 'worker.js', 'mcwc_bg.wasm'],
  gpu: ['index.js', 'gpu.js', 'gpu-worker.js', 'mcwc_gpu_bg.wasm'],
};
/** Most bytes, gzipped: of the first, and of what the second adds to it. */
const BUDGET = { cpu: 60_000, gpu: 40_000 };
/** What `index.d.ts` leads to. */
const PUBLIC_TYPES = ['index', 'archive', 'errors', 'file', 'open', 'types'];

export async function build() {
  for (const name of readdirSync(PKG)) if (name !== 'README.md') rmSync(join(PKG, name), { recursive: true });
  MODULES.forEach(buildWasm);
  writeWorkerBindings();
  await buildScripts();
  buildTypes();
  checkSizes();
}

function buildWasm({ name, cargo }) {
  step(`${name}_bg.wasm`);
  const target = 'wasm32-unknown-unknown';
  const options = ['--profile', 'wasm', '--target', target, '--config', `target.${target}.rustflags=[${RUSTFLAGS}]`];
  const env = { ...process.env, RUSTC_BOOTSTRAP: '1' };
  run('cargo', ['rustc', '--lib', '--no-default-features', ...options, ...CARGO, ...cargo], { env });
  const bindings = join(BINDINGS, name);
  const wasm = join(CARGO_TARGET, target, 'wasm/mcwc.wasm');
  run(wasmBindgen(), ['--target', 'web', '--out-name', name, '--out-dir', bindings, wasm]);
  numberNames(bindings, name);
  const [bound, optimized] = [bindings, PKG].map((folder) => join(folder, `${name}_bg.wasm`));
  const features = WASM_FEATURES.map((feature) => `--enable-${feature}`);
  run('node', [tool('binaryen/bin/wasm-opt'), bound, '-o', optimized, ...WASM_PASSES, ...features]);
}

/** Numbers the imports and exports that wasm-bindgen names by hashes. The names keep their lengths, but they compress. */
function numberNames(bindings, name) {
  const [glue, wasm] = [`${name}.js`, `${name}_bg.wasm`].map((file) => join(bindings, file));
  const hashed = /\b(?:__wbg|__wbindgen|wasm_bindgen__convert)\w*_h?[0-9a-f]{16}(?:_\d+)?\b/g;
  const names = [...new Set(readFileSync(glue, 'utf8').match(hashed))].sort((a, b) => b.length - a.length);
  const number = (name, index) => `_${String(index).padStart(name.length - 1, '0')}`;
  const numbered = (text) => names.reduce((text, name, index) => text.replaceAll(name, number(name, index)), text);
  writeFileSync(glue, numbered(readFileSync(glue, 'utf8')));
  writeFileSync(wasm, numbered(readFileSync(wasm, 'latin1')), 'latin1');
}

/** A worker never calls the GPU: of the bindings it needs the functions that the CPU's module imports too. */
function writeWorkerBindings() {
  const [cpu, gpu] = MODULES.map(({ name }) => readFileSync(join(BINDINGS, name, `${name}.js`), 'utf8'));
  const imports = /^ {8}(\w+): (function\([^]*?^ {8}\}(?:, arguments\); \})?),$/gm;
  const needed = new Set([...cpu.matchAll(imports)].map(([, , body]) => body));
  const worker = gpu.replace(imports, (whole, name, body) => (needed.has(body) ? whole : `        ${name}: unused,`));
  writeFileSync(join(BINDINGS, 'mcwc_gpu/worker.js'), `${worker}\nfunction unused() { throw new Error('not in workers'); }\n`);
}

async function buildScripts() {
  step('JavaScript');
  const esbuild = await import('esbuild');
  for (const { out, entry, format, bindings } of BUNDLES) {
    await esbuild.build({
      entryPoints: [join(ROOT, `js/${entry}.ts`)],
      outfile: join(PKG, `${out}.js`),
      format,
      bundle: true,
      minify: true,
      target: 'es2022',
      legalComments: 'none',
      charset: 'utf8',
      external: ['./gpu.js'],
      alias: { 'mcwc-wasm': join(BINDINGS, bindings), 'mcwc-gpu-wasm': join(BINDINGS, 'mcwc_gpu/mcwc_gpu.js') },
      // Workers never load wasm by address.
      logOverride: { 'empty-import-meta': 'silent' },
    });
  }
  await esbuild.build({
    entryPoints: [join(ROOT, 'js/cli/main.ts')],
    outfile: join(PKG, 'cli.js'),
    format: 'esm',
    platform: 'node',
    bundle: true,
    minify: true,
    target: 'node20.16',
    external: ['onnxruntime-node'],
    banner: { js: '#!/usr/bin/env node' },
  });
}

function buildTypes() {
  step('types');
  const types = join(ROOT, 'target/types');
  run('node', [tool('typescript/bin/tsc'), '--project', ROOT, '--outDir', types]);
  run('node', [tool('typescript/bin/tsc'), '--project', join(ROOT, 'js/cli')]);
  for (const name of PUBLIC_TYPES) copyFileSync(join(types, `${name}.d.ts`), join(PKG, `${name}.d.ts`));
}

function checkSizes() {
  step('Sizes, gzipped');
  const files = [...new Set([...DOWNLOADS.cpu, ...DOWNLOADS.gpu])];
  const sizes = new Map(files.map((name) => [name, gzipSync(readFileSync(join(PKG, name)), { level: 9 }).length]));
  for (const [name, bytes] of sizes) console.log(`${name.padEnd(16)} ${kilobytes(bytes)}`);
  const [cpu, gpu] = [DOWNLOADS.cpu, DOWNLOADS.gpu].map((names) => names.reduce((sum, name) => sum + sizes.get(name), 0));
  const checks = [
    ['CPU path', cpu, BUDGET.cpu],
    ['WebGPU adds', gpu - cpu, BUDGET.gpu],
  ];
  for (const [name, bytes, most] of checks) console.log(`${name.padEnd(16)} ${kilobytes(bytes)} of ${kilobytes(most)}`);
  const over = checks.filter(([, bytes, most]) => bytes > most);
  if (over.length > 0) fail(`over budget: ${over.map(([name]) => name).join(', ')}`);
}

function kilobytes(bytes) {
  return `${(bytes / 1000).toFixed(1).padStart(6)} kB`;
}

if (import.meta.filename === process.argv[1]) await build();
