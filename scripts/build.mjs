// Rust and TypeScript -> pkg/: two wasm modules that decode, one that is the command, the JavaScript around them, and types. Fails if they are larger than they may be.
//   node scripts/build.mjs
import { copyFileSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { bind, buildBindgen } from './bindgen.mjs';
import { CARGO_TARGET, ROOT, WASI_TARGET, WASM_TARGET, fail, installPackages, prepareRust, start, step, timed, tool } from './tools.mjs';

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
const SHIM_NOTICE = '/* Contains browser_wasi_shim (https://github.com/bjorn3/browser_wasi_shim) by bjorn3, under Apache-2.0: see LICENSE-APACHE. */';
/** Each with the bindings that `mcwc-wasm` stands for in it. Workers run as classic scripts as well as modules. */
const BUNDLES = [
  { out: 'index', entry: 'index', format: 'esm', bindings: 'mcwc/mcwc.js' },
  { out: 'gpu', entry: 'gpu', format: 'esm', bindings: 'mcwc_gpu/mcwc_gpu.js' },
  { out: 'worker', entry: 'worker', format: 'iife', bindings: 'mcwc/mcwc.js' },
  { out: 'gpu-worker', entry: 'worker', format: 'iife', bindings: 'mcwc_gpu/worker.js' },
  { out: 'encoder', entry: 'encoder', format: 'esm', bindings: 'mcwc/mcwc.js' },
  { out: 'encoder-worker', entry: 'wasi/worker', format: 'iife', bindings: 'mcwc/mcwc.js', banner: SHIM_NOTICE },
];
/** What a page downloads to decode on the CPU, and on WebGPU. */
const DOWNLOADS = {
  cpu: ['index.js', 'worker.js', 'mcwc_bg.wasm'],
  gpu: ['index.js', 'gpu.js', 'gpu-worker.js', 'mcwc_gpu_bg.wasm'],
};
/** Most bytes, gzipped: of the first, and of what the second adds to it. */
const BUDGET = { cpu: 60_000, gpu: 40_000 };
/** What `index.d.ts` and `encoder.d.ts` lead to. */
const PUBLIC_TYPES = ['index', 'encoder', 'archive', 'errors', 'file', 'open', 'types'];

export async function build() {
  for (const name of readdirSync(PKG)) if (name !== 'README.md') rmSync(join(PKG, name), { recursive: true });
  mkdirSync(BINDINGS, { recursive: true });
  const bindgen = buildBindgen();
  const finished = [];
  for (const module of MODULES) {
    const wasm = join(BINDINGS, `${module.name}.wasm`);
    await timed(`${module.name}.wasm`, () => compile(module, wasm));
    finished.push(bindgen.then(() => timed(`${module.name}_bg.wasm`, () => finish(module, wasm))));
  }
  await timed('mcwc.wasm, the command', compileCommand);
  await Promise.all(finished);
  await timed('JavaScript', buildScripts);
  await timed('Types', buildTypes);
  checkSizes();
}

async function compile({ cargo }, wasm) {
  const options = ['--profile', 'wasm', '--target', WASM_TARGET, '--config', `target.${WASM_TARGET}.rustflags=[${RUSTFLAGS}]`];
  const env = { ...process.env, RUSTC_BOOTSTRAP: '1' };
  await start('cargo', ['rustc', '--lib', '--no-default-features', ...options, ...CARGO, ...cargo], { env });
  copyFileSync(join(CARGO_TARGET, WASM_TARGET, 'wasm/mcwc.wasm'), wasm);
}

/** Made to be fast: it is not what a page waits for. wasm-opt would take a minute for a tenth of it. */
async function compileCommand() {
  const features = ['--no-default-features', '--features', 'cli'];
  await start('cargo', ['build', '--profile', 'wasi', '--bin', 'mcwc', '--target', WASI_TARGET, ...features]);
  // Not copied: an executable is not what it is to npm.
  writeFileSync(join(PKG, 'mcwc.wasm'), readFileSync(join(CARGO_TARGET, WASI_TARGET, 'wasi/mcwc.wasm')));
}

async function finish({ name }, wasm) {
  await bind(wasm, name, join(BINDINGS, name));
  const [bound, optimized] = [join(BINDINGS, name), PKG].map((folder) => join(folder, `${name}_bg.wasm`));
  const features = WASM_FEATURES.map((feature) => `--enable-${feature}`);
  await start('node', [await tool('binaryen/bin/wasm-opt'), bound, '-o', optimized, ...WASM_PASSES, ...features]);
}

/** The bindings for a worker, which never calls the GPU: it needs the functions that the CPU's module imports too. */
async function writeWorkerBindings() {
  const { parseAst } = await import('vite');
  const [cpu, gpu] = MODULES.map(({ name }) => readFileSync(join(BINDINGS, name, `${name}.js`), 'utf8'));
  const needed = new Set(importedFunctions(cpu, parseAst).map(({ start, end }) => cpu.slice(start, end)));
  const unused = importedFunctions(gpu, parseAst).filter(({ start, end }) => !needed.has(gpu.slice(start, end)));
  if (unused.length === 0) fail('wasm-bindgen: all that the GPU module imports is in the CPU module');
  let worker = gpu;
  for (const { start, end } of unused.reverse()) worker = `${worker.slice(0, start)}unused${worker.slice(end)}`;
  writeFileSync(join(BINDINGS, 'mcwc_gpu/worker.js'), `${worker}\nfunction unused() { throw new Error('not in workers'); }\n`);
}

/** The functions that a script of wasm-bindgen hands to its module, in the order of the text. */
function importedFunctions(script, parseAst) {
  const getImports = parseAst(script).body.find(({ type, id }) => type === 'FunctionDeclaration' && id.name === '__wbg_get_imports');
  const objects = getImports?.body.body.flatMap(({ declarations = [] }) => declarations.map(({ init }) => init));
  const properties = objects?.find(({ type }) => type === 'ObjectExpression')?.properties;
  return properties?.map(({ value }) => value).filter(({ type }) => type !== 'Literal') ?? fail('wasm-bindgen: no imports');
}

async function buildScripts() {
  await installPackages();
  await writeWorkerBindings();
  const esbuild = await import('esbuild');
  for (const { out, entry, format, bindings, banner = '' } of BUNDLES) {
    await esbuild.build({
      entryPoints: [join(ROOT, `js/${entry}.ts`)],
      outfile: join(PKG, `${out}.js`),
      format,
      bundle: true,
      minify: true,
      target: 'es2022',
      legalComments: 'none',
      charset: 'utf8',
      banner: { js: banner },
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

async function buildTypes() {
  const types = join(ROOT, 'target/types');
  const tsc = await tool('typescript/bin/tsc');
  await start('node', [tsc, '--project', ROOT, '--outDir', types]);
  for (const name of ['js/wasi', 'js/cli']) await start('node', [tsc, '--project', join(ROOT, name)]);
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

if (import.meta.filename === process.argv[1]) {
  prepareRust();
  await build();
}
