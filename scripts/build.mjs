// Rust and TypeScript -> pkg/: two wasm modules that decode, one that is the command, the JavaScript around them, and types. Fails if they are larger than they may be.
//   npm run build
import { copyFileSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { bind, buildBindgen } from './bindgen.mjs';
import { writeLicenses } from './licenses.mjs';
import { readOptions } from './options.mjs';
import { CARGO_TARGET, ROOT, WASI_TARGET, WASM_TARGET, fail, installPackages, prepareRust, start, step, sysroot, timed, tool } from './tools.mjs';

/** Functions called once are inlined by rustc where it helps; more of it only makes what is compressed larger. */
const WASM_PASSES = [
  '-Oz',
  '--one-caller-inline-max-function-size=50',
  // Below 1024 lies the end of the stack, which nothing points to.
  '--low-memory-unused',
  '--reorder-functions',
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
  { name: 'mcwc', features: ['--no-default-features'] },
  { name: 'mcwc_gpu', features: ['--no-default-features', '--features', 'gpu'] },
];
const COMMAND_FEATURES = ['--no-default-features', '--features', 'cli'];
/** Of each module, what it is compiled for and with. */
const COMPILED = [...MODULES.map(({ features }) => [WASM_TARGET, features]), [WASI_TARGET, COMMAND_FEATURES]];
/** Has everything in it: service workers share nothing with pages, and may not import later. */
const SERVICE_WORKER = { entry: 'adapters/service-worker', bindings: 'mcwc/mcwc.js', external: ['./gpu.js'], plugins: [] };
/** Shares no properties with the scripts that decode. */
const ENCODER = { mangleProps: undefined, bindings: 'mcwc/mcwc.js' };
const SHIM_NOTICE = '/* Contains browser_wasi_shim (https://github.com/bjorn3/browser_wasi_shim) by bjorn3, under MIT or Apache-2.0: see THIRD-PARTY-LICENSES.txt. */';
/** Each with the bindings that `mcwc-wasm` stands for in it. Workers run as classic scripts as well as modules. */
const BUNDLES = [
  { out: 'index', entry: 'index', format: 'esm', bindings: 'mcwc/mcwc.js' },
  { out: 'given', entry: 'source/given', format: 'esm', bindings: 'mcwc/mcwc.js', sharesErrors: true },
  { out: 'lazy', entry: 'source/lazy', format: 'esm', bindings: 'mcwc/mcwc.js' },
  { out: 'inline', entry: 'pool/inline', format: 'esm', bindings: 'mcwc/mcwc.js' },
  { out: 'uses', entry: 'uses', format: 'esm', bindings: 'mcwc/mcwc.js' },
  { out: 'float32', entry: 'float32', format: 'esm', bindings: 'mcwc/mcwc.js' },
  { out: 'gpu', entry: 'gpu', format: 'esm', bindings: 'mcwc_gpu/mcwc_gpu.js' },
  { out: 'cache', entry: 'cache', format: 'esm', bindings: 'mcwc/mcwc.js', sharesErrors: true },
  { out: 'worker', entry: 'worker', format: 'iife', bindings: 'mcwc/worker.js' },
  { out: 'gpu-worker', entry: 'worker', format: 'iife', bindings: 'mcwc_gpu/worker.js' },
  { out: 'service-worker', format: 'esm', ...SERVICE_WORKER },
  // `importScripts` does not tell a script where it came from: the module is looked for beside the service worker.
  {
    out: 'service-worker-classic',
    format: 'iife',
    globalName: 'mcwc',
    define: { 'import.meta.url': 'self.location.href' },
    ...SERVICE_WORKER,
  },
  { out: 'encoder', entry: 'encoder', format: 'esm', ...ENCODER },
  { out: 'encoder-worker', entry: 'wasi/worker', format: 'iife', banner: { js: SHIM_NOTICE }, ...ENCODER },
];
/** Each has a plugin. */
const BUNDLERS = ['vite', 'rollup', 'webpack', 'esbuild'];
/** Scripts that need not be modules. */
const CLASSIC = ['worker.js', 'gpu-worker.js'];
/**
 * Scripts that are not minified further: a command, what is loaded along with a module a hundred times as large, and one whose only
 * name is used by others.
 */
const KEPT = ['cli.js', 'encoder.js', 'encoder-worker.js', 'service-worker-classic.js', 'archives.js', ...BUNDLERS.map((name) => `${name}.js`)];
/** Each takes a runtime that it does not import, and shares the page's `mcwc`. */
const ADAPTERS = ['onnxruntime', 'tfjs', 'transformers'];
/** Properties that only our own scripts know of each other: short ones take less to download. Exports cannot be among them, nor what tests send. */
const PRIVATE = [
  ...['builtFor', 'canRestart', 'canSeek', 'chunkCount', 'counted', 'endedEarly', 'firstChunk', 'gained', 'inMemory', 'isAnswered'],
  ...['isComplete', 'isFull', 'isRunning', 'isWhole', 'mayPost', 'onEnd', 'onGpu', 'onGrowth', 'onInline', 'onLost'],
  ...['overlaps', 'pieces', 'preamble', 'readOnce', 'refetch', 'repaired', 'retrying', 'scattered', 'setBusy'],
  ...['sideChunk', 'takeSpare', 'throwIfClosed', 'waitMs'],
];
/** What a page downloads to decode on the CPU, and on WebGPU, and what a service worker does. */
const DOWNLOADS = {
  cpu: ['index.js', 'worker.js', 'mcwc_bg.wasm'],
  gpu: ['index.js', 'gpu.js', 'gpu-worker.js', 'mcwc_gpu_bg.wasm'],
  serviceWorker: ['service-worker.js', 'mcwc_bg.wasm'],
};
/** Most bytes, gzipped: of the first, of what the second adds to it, of the third, and of each adapter. */
const BUDGET = { cpu: 64_000, gpu: 48_000, serviceWorker: 70_000, adapter: 6_000 };
const adapterTypes = ['runtime', 'service-worker', ...ADAPTERS].map((name) => `adapters/${name}`);
const bundlerTypes = ['plugin-options', ...BUNDLERS].map((name) => `bundlers/${name}`);
/** What `index.d.ts`, `cache.d.ts`, `encoder.d.ts`, `float32.d.ts` and those of the adapters and of the plugins lead to. */
const PUBLIC_TYPES = ['index', 'archive', 'cache', 'encoder', 'encoder/encoding', 'errors', 'file', 'float32', 'open', 'types', ...adapterTypes, ...bundlerTypes];

export async function build() {
  for (const name of readdirSync(PKG)) if (name !== 'README.md') rmSync(join(PKG, name), { recursive: true });
  mkdirSync(BINDINGS, { recursive: true });
  // Cargo locks a target's folder, of which each has another.
  const bindgen = buildBindgen();
  const finished = [timed('mcwc.wasm, the command', compileCommand)];
  for (const module of MODULES) {
    const wasm = join(BINDINGS, `${module.name}.wasm`);
    await timed(`${module.name}.wasm`, () => compile(module, wasm));
    finished.push(bindgen.then(() => timed(`${module.name}_bg.wasm`, () => finish(module, wasm))));
  }
  await Promise.all(finished);
  await timed('JavaScript, licences', async () => writeLicenses(join(PKG, 'THIRD-PARTY-LICENSES.txt'), COMPILED, await buildScripts()));
  await timed('Types', buildTypes);
  checkSizes();
}

async function compile({ features }, wasm) {
  const options = ['--profile', 'wasm', '--target', WASM_TARGET, '--config', `target.${WASM_TARGET}.rustflags=[${RUSTFLAGS}]`];
  const env = { ...process.env, RUSTC_BOOTSTRAP: '1' };
  await start('cargo', ['rustc', '--lib', ...features, ...options, ...CARGO], { env });
  copyFileSync(join(CARGO_TARGET, WASM_TARGET, 'wasm/mcwc.wasm'), wasm);
}

/** Made to be fast: it is not what a page waits for. wasm-opt would take a minute for a tenth of it. */
async function compileCommand() {
  // Its messages name source files: not by where they lie on this machine.
  const places = { [join(process.env.CARGO_HOME ?? join(homedir(), '.cargo'), 'registry/src')]: '/crates', [join(sysroot(), 'lib/rustlib/src')]: '/rustc' };
  const flags = Object.entries(places).map(([from, to]) => JSON.stringify(`--remap-path-prefix=${from}=${to}`));
  const config = ['--config', `target.${WASI_TARGET}.rustflags=[${flags}]`];
  await start('cargo', ['build', '--profile', 'wasi', '--bin', 'mcwc', '--target', WASI_TARGET, ...COMMAND_FEATURES, ...config]);
  // Not copied: an executable is not what it is to npm.
  writeFileSync(join(PKG, 'mcwc.wasm'), readFileSync(join(CARGO_TARGET, WASI_TARGET, 'wasi/mcwc.wasm')));
}

async function finish({ name }, wasm) {
  await bind(wasm, name, join(BINDINGS, name));
  const [bound, optimized] = [join(BINDINGS, name), PKG].map((folder) => join(folder, `${name}_bg.wasm`));
  const features = WASM_FEATURES.map((feature) => `--enable-${feature}`);
  await start('node', [await tool('binaryen/bin/wasm-opt'), bound, '-o', optimized, ...WASM_PASSES, ...features]);
}

/** Methods of an archive that only the page calls. */
const PAGE_METHODS = ['chunks', 'describe', 'hashes', 'headBytes', 'plan'];

/** The bindings for workers: without what only the page calls, and without the GPU, but for the functions that the CPU's module imports too. */
async function writeWorkerBindings() {
  const { parseAst } = await import('vite');
  const [cpu, gpu] = MODULES.map(({ name }) => readFileSync(join(BINDINGS, name, `${name}.js`), 'utf8'));
  // What modules export has short names, others in each.
  const textOf = (script, { start, end }) => script.slice(start, end).replaceAll(/\bwasm\._\d+/g, 'wasm._');
  const needed = new Set(importedFunctions(cpu, parseAst).map((imported) => textOf(cpu, imported)));
  const unused = importedFunctions(gpu, parseAst).filter((imported) => !needed.has(textOf(gpu, imported)));
  if (unused.length === 0) fail('wasm-bindgen: all that the GPU module imports is in the CPU module');
  writeCut('mcwc', cpu, pageMethods(cpu, parseAst), []);
  writeCut('mcwc_gpu', gpu, pageMethods(gpu, parseAst), unused);
}

/** Without these methods, and with these functions replaced. */
function writeCut(name, script, methods, functions) {
  let cut = script;
  for (const node of [...methods, ...functions].sort((a, b) => b.start - a.start)) {
    cut = cut.slice(0, node.start) + (functions.includes(node) ? 'unused' : '') + cut.slice(node.end);
  }
  writeFileSync(join(BINDINGS, name, 'worker.js'), `${cut}\nfunction unused() { throw new Error('not in workers'); }\n`);
}

function pageMethods(script, parseAst) {
  const classes = parseAst(script).body.map((node) => node.declaration ?? node);
  const archive = classes.find(({ type, id }) => type === 'ClassDeclaration' && id.name === 'Archive');
  const methods = archive?.body.body.filter(({ key }) => PAGE_METHODS.includes(key?.name)) ?? [];
  return methods.length === PAGE_METHODS.length ? methods : fail('wasm-bindgen: an archive has other methods');
}

/** The functions that a script of wasm-bindgen hands to its module, in the order of the text. */
function importedFunctions(script, parseAst) {
  const getImports = parseAst(script).body.find(({ type, id }) => type === 'FunctionDeclaration' && id.name === '__wbg_get_imports');
  const objects = getImports?.body.body.flatMap(({ declarations = [] }) => declarations.map(({ init }) => init));
  const properties = objects?.find(({ type }) => type === 'ObjectExpression')?.properties;
  return properties?.map(({ value }) => value).filter(({ type }) => type !== 'Literal') ?? fail('wasm-bindgen: no imports');
}

/** Gives the names of the npm packages that are in them. */
async function buildScripts() {
  await installPackages();
  await writeWorkerBindings();
  const esbuild = await import('esbuild');
  const metafiles = [];
  const bundle = async (options) => {
    const { metafile } = await esbuild.build({ bundle: true, minify: true, metafile: true, ...options });
    metafiles.push(metafile);
    return metafile;
  };
  const browser = { target: 'es2022', legalComments: 'none', charset: 'utf8' };
  for (const { out, entry, bindings, sharesErrors = false, ...options } of BUNDLES) {
    const metafile = await bundle({
      ...browser,
      mangleProps: new RegExp(`^(${PRIVATE.join('|')})$`),
      mangleCache: Object.fromEntries(PRIVATE.map((name, index) => [name, `$${index.toString(36)}`])),
      // Fields that hold nothing yet are not written out.
      tsconfigRaw: { compilerOptions: { useDefineForClassFields: false, verbatimModuleSyntax: true } },
      external: ['./gpu.js', './index.js', './inline.js', './uses.js'],
      plugins: sharesErrors ? [errorsOfIndex, bundlesBeside] : [bundlesBeside],
      ...options,
      entryPoints: [join(ROOT, `js/${entry}.ts`)],
      outfile: join(PKG, `${out}.js`),
      alias: { 'mcwc-wasm': join(BINDINGS, bindings), 'mcwc-gpu-wasm': join(BINDINGS, 'mcwc_gpu/mcwc_gpu.js') },
      // Workers never load wasm by address.
      logOverride: { 'empty-import-meta': 'silent' },
    });
    const exported = Object.values(metafile.outputs).flatMap(({ exports }) => exports);
    if (exported.some((name) => PRIVATE.includes(name))) fail(`${out}.js exports what is called otherwise elsewhere`);
  }
  await bundle({
    ...browser,
    entryPoints: ADAPTERS.map((name) => join(ROOT, `js/adapters/${name}.ts`)),
    outdir: PKG,
    format: 'esm',
    plugins: [bundlesBeside],
  });
  const node = { format: 'esm', platform: 'node', target: 'node20.16', external: ['onnxruntime-node'] };
  await bundle({ ...node, entryPoints: [join(ROOT, 'js/cli/main.ts')], outfile: join(PKG, 'cli.js'), banner: { js: '#!/usr/bin/env node' } });
  await bundle({
    ...node,
    entryPoints: ['archives', ...BUNDLERS].map((name) => join(ROOT, `js/bundlers/${name}.ts`)),
    outdir: PKG,
    plugins: [bundlesBeside],
  });
  await minifyFurther();
  return packagesIn(metafiles);
}

function packagesIn(metafiles) {
  const names = metafiles.flatMap(({ inputs }) => Object.keys(inputs)).map((path) => path.match(/.*node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1]);
  return [...new Set(names.filter(Boolean))];
}

/** The only words for a console are wasm-bindgen's, about how we call it. */
const COMPRESSION = { passes: 3, drop_console: ['warn'], hoist_funs: true, unsafe_arrows: true, unsafe_methods: true };

/** A twentieth smaller, gzipped, than esbuild's own. */
async function minifyFurther() {
  const { minify } = await import('terser');
  for (const name of readdirSync(PKG).filter((name) => name.endsWith('.js') && !KEPT.includes(name))) {
    const path = join(PKG, name);
    const options = { module: !CLASSIC.includes(name), ecma: 2022, compress: COMPRESSION };
    writeFileSync(path, (await minify(readFileSync(path, 'utf8'), options)).code);
  }
}

/** What lies in other folders of `js/` lies beside, in `pkg/`. The bundle `cache` is made of `cache/kept`, which others only load later. */
const bundlesBeside = {
  name: 'bundles-beside',
  setup(build) {
    build.onResolve({ filter: /^(\.\.\/(encoder|index)|\.\/(archives|pool\/inline|source\/(given|lazy)))\.js$/ }, ({ path }) => beside(basename(path)));
    build.onResolve({ filter: /^\.\/cache\/kept\.js$/ }, ({ kind }) => (kind === 'dynamic-import' ? beside('cache.js') : undefined));
  },
};

/** Callers tell errors by their class, of which a page has one. */
const errorsOfIndex = {
  name: 'errors-of-index',
  setup: (build) => build.onResolve({ filter: /\/errors\.js$/ }, () => beside('index.js')),
};

function beside(name) {
  return { path: `./${name}`, external: true };
}

async function buildTypes() {
  const types = join(ROOT, 'target/types');
  const tsc = await tool('typescript/bin/tsc');
  await start('node', [tsc, '--project', ROOT, '--outDir', types]);
  for (const name of ['js/wasi', 'js/cli', 'js/bundlers']) await start('node', [tsc, '--project', join(ROOT, name)]);
  for (const name of PUBLIC_TYPES) {
    const declarations = readFileSync(join(types, `${name}.d.ts`), 'utf8').replaceAll(/'\.{1,2}\/(?:[\w-]+\/)*([\w-]+\.js)'/g, "'./$1'");
    writeFileSync(join(PKG, `${basename(name)}.d.ts`), declarations);
  }
  copyFileSync(join(ROOT, 'js/bundlers/client.d.ts'), join(PKG, 'client.d.ts'));
}

function checkSizes() {
  step('Sizes, gzipped');
  const adapters = ADAPTERS.map((name) => `${name}.js`);
  const files = [...new Set([...Object.values(DOWNLOADS).flat(), ...adapters])];
  const sizes = new Map(files.map((name) => [name, gzipSync(readFileSync(join(PKG, name)), { level: 9 }).length]));
  for (const [name, bytes] of sizes) console.log(`${name.padEnd(20)} ${kilobytes(bytes)}`);
  const [cpu, gpu, serviceWorker] = Object.values(DOWNLOADS).map((names) => names.reduce((sum, name) => sum + sizes.get(name), 0));
  const checks = [
    ['CPU path', cpu, BUDGET.cpu],
    ['WebGPU adds', gpu - cpu, BUDGET.gpu],
    ['Service worker', serviceWorker, BUDGET.serviceWorker],
    ...adapters.map((name) => [name, sizes.get(name), BUDGET.adapter]),
  ];
  for (const [name, bytes, most] of checks) console.log(`${name.padEnd(20)} ${kilobytes(bytes)} of ${kilobytes(most)}`);
  const over = checks.filter(([, bytes, most]) => bytes > most);
  if (over.length > 0) fail(`over budget: ${over.map(([name]) => name).join(', ')}`);
}

function kilobytes(bytes) {
  return `${(bytes / 1000).toFixed(1).padStart(6)} kB`;
}

if (import.meta.filename === process.argv[1]) {
  readOptions(import.meta.filename);
  prepareRust();
  await build();
}
