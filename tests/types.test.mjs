// The package's types as strangers have them: packed, installed, and compiled without `skipLibCheck`, in browsers' programs and
// in Node's, by every TypeScript from 5.4 on.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { cp, mkdtemp, readFile, readdir, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { checkPackage, createPackageFromTarballData } from '@arethetypeswrong/core';
import { publint } from 'publint';
import { formatMessage } from 'publint/utils';
import { tarballIn } from './common/packed.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const run = promisify(execFile);
/** By the names they are installed under; whether the types of browsers include those of WebGPU. */
const COMPILERS = { 'typescript-5.4': false, 'typescript-5.9': false, 'typescript-6': true, typescript: true };
const LATEST = 'typescript';
/** What programs have besides the package. */
const NEEDED = ['@types', '@webgpu', '@huggingface', '@tensorflow', 'onnxruntime-web', 'onnxruntime-common', 'esbuild', 'rolldown', 'vite'];
const ADAPTERS = ['./onnxruntime', './service-worker', './tfjs', './transformers'];
const BUNDLERS = ['./esbuild', './rollup', './vite', './webpack'];
/** The compiler's own libraries are taken as right. */
const STRICT = { strict: true, noEmit: true, skipLibCheck: false, skipDefaultLibCheck: true };
const NODE = { target: 'es2022', lib: ['es2022'], module: 'node16', moduleResolution: 'node16', types: ['node'] };
const BROWSER = { target: 'es2020', lib: ['es2020', 'dom', 'dom.iterable'], module: 'esnext', moduleResolution: 'bundler' };

let folder;
let installed;
let tarball;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'mcwc-types-'));
  tarball = tarballIn(folder);
  await writeFile(join(folder, 'package.json'), JSON.stringify({ name: 'consumer', private: true, type: 'module' }));
  await run('npm', ['install', '--offline', '--no-audit', '--no-fund', tarball], { cwd: folder });
  installed = join(folder, 'node_modules/mcwc/pkg');
  await cp(join(ROOT, 'tests/consumer'), folder, { recursive: true });
  for (const name of NEEDED) await symlink(join(ROOT, 'node_modules', name), join(folder, 'node_modules', name));
  const own = ['read.ts', 'adapters.ts', 'encode.ts', 'bundlers.ts'];
  await writeConfig('node', NODE, own);
  await writeConfig('browser', { ...BROWSER, types: [] }, [...own, 'webgpu.ts']);
  await writeConfig('browser-webgpu', { ...BROWSER, types: ['@webgpu/types'] }, [...own, 'webgpu.ts']);
  // Those of the runtimes have errors of their own.
  await writeConfig('runtimes', { ...BROWSER, target: 'es2022', types: [], skipLibCheck: true }, ['runtimes.ts', 'tfjs.ts']);
  await writeConfig('bundlers', { ...BROWSER, target: 'es2022', types: ['node'], skipLibCheck: true }, ['configurations.ts']);
});

after(() => rm(folder, { recursive: true, force: true }));

function writeConfig(name, options, files) {
  return writeFile(join(folder, `${name}.json`), JSON.stringify({ compilerOptions: { ...STRICT, ...options }, files }));
}

/** What the compiler prints, and whether it found nothing wrong. */
async function compile(compiler, config, ...options) {
  const tsc = join(ROOT, 'node_modules', compiler, 'bin/tsc');
  const compiled = run(process.execPath, [tsc, '--project', `${config}.json`, ...options], { cwd: folder });
  const { code = 0, stdout } = await compiled.catch((error) => error);
  return { passes: code === 0, stdout };
}

describe('compiles', { concurrency: 2 }, () => {
  for (const [compiler, hasWebGpu] of Object.entries(COMPILERS)) {
    for (const config of ['node', hasWebGpu ? 'browser' : 'browser-webgpu']) {
      test(`${compiler}, ${config}`, async () => {
        const { passes, stdout } = await compile(compiler, config);
        assert(passes, stdout);
      });
    }
  }
});

for (const config of ['runtimes', 'bundlers']) {
  test(`${LATEST}, with the types of the ${config}`, async () => {
    const { passes, stdout } = await compile(LATEST, config);
    assert(passes, stdout);
  });
}

test('ships the declarations that are needed, and no others', async () => {
  const { stdout } = await compile(LATEST, 'browser', '--listFiles');
  const needed = stdout.split('\n').filter((path) => path.includes('/mcwc/pkg/')).map((path) => basename(path.trim()));
  const shipped = (await readdir(installed)).filter((name) => name.endsWith('.d.ts'));
  assert.deepEqual(shipped.sort(), needed.sort());
  for (const name of shipped) {
    await rename(join(installed, name), join(folder, 'missing'));
    assert.equal((await compile(LATEST, 'browser')).passes, false, `${name} is not missed`);
    await rename(join(folder, 'missing'), join(installed, name));
  }
});

test('publint finds nothing', async () => {
  const { messages, pkg } = await publint({ pack: { tarball: new Uint8Array(await readFile(tarball)).buffer } });
  assert.deepEqual(messages.map((message) => formatMessage(message, pkg)), []);
});

test('attw finds only that CommonJS has to import the package dynamically, and that the oldest resolution knows no subpaths', async () => {
  const { problems } = await checkPackage(createPackageFromTarballData(await readFile(tarball)), { entrypoints: ['.', './encoder', ...ADAPTERS, ...BUNDLERS] });
  const isKnown = ({ kind, entrypoint, resolutionKind }) => {
    return kind === 'CJSResolvesToESM' || (kind === 'NoResolution' && entrypoint !== '.' && resolutionKind === 'node10');
  };
  assert.deepEqual(problems.filter((problem) => !isKnown(problem)), []);
});
