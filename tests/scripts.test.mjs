// Every script that is run by its name: it says how it is used, and refuses what makes no sense, before it does anything.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const FOLDERS = ['bench', 'scripts', 'tests', 'tests/consumers', 'tests/reference', 'www'];
/** At the head of a script: how it is run. */
const USAGE = /^\/\/ {3}(.* && )?(npm (start|test|run)|node)\b/m;
/** Whatever would be built or measured takes longer. */
const SOON_MS = 20_000;

const { scripts: commands } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'));
const named = Object.values(commands).flatMap((command) => /^node (\S+)$/.exec(command)?.[1] ?? []);
const scripts = [...new Set([...named, ...FOLDERS.flatMap(usedIn)])];

function usedIn(folder) {
  const paths = readdirSync(join(ROOT, folder)).filter((name) => name.endsWith('.mjs')).map((name) => join(folder, name));
  return paths.filter((path) => USAGE.test(headOf(path)));
}

function headOf(path) {
  return /^(\/\/.*\n)+/.exec(readFileSync(join(ROOT, path), 'utf8'))?.[0] ?? '';
}

function run(path, ...args) {
  return new Promise((resolve) => {
    execFile('node', [join(ROOT, path), ...args], { cwd: ROOT, timeout: SOON_MS }, (error, stdout, stderr) => {
      resolve({ status: error ? (error.code ?? error.signal) : 0, stdout, stderr });
    });
  });
}

async function refuses(path, args, message) {
  const { status, stdout, stderr } = await run(path, ...args);
  const [said, empty, ...usage] = stderr.split('\n');
  assert.deepEqual([status, stdout, said, empty], [2, '', message, ''], `${path} ${args.join(' ')}: ${stderr}`);
  assert.equal(usage.map((line) => line && `// ${line}\n`).join(''), headOf(path));
}

describe('scripts', () => {
  test('say how they are used when they are asked', async () => {
    assert.ok(scripts.length > 20 && ['scripts/start.mjs', 'bench/compress-page.mjs', 'www/serve.mjs'].every((path) => scripts.includes(path)), scripts.join());
    for (const path of scripts) {
      assert.match(headOf(path), USAGE, path);
      const { status, stdout, stderr } = await run(path, '--help');
      assert.deepEqual([status, stderr], [0, ''], path);
      assert.equal(stdout.replace(/^/gm, '// ').slice(0, -3), headOf(path));
    }
  });

  test('refuse options that they do not know, at once', async () => {
    for (const path of scripts) await refuses(path, ['--no-such-option'], "Unknown option '--no-such-option'");
  });

  test('refuse values that make no sense', async () => {
    for (const port of ['eighty', '70000', '-1', '80.5', '']) {
      await refuses('scripts/start.mjs', [`--port=${port}`], `--port: '${port}' is no whole number from 0 to 65535`);
    }
    await refuses('scripts/start.mjs', ['8080'], "Unexpected argument '8080'");
    await refuses('bench/search.mjs', ['--port'], "Option '--port <value>' argument missing");
    await refuses('bench/memory.mjs', ['--encode-gb', '1,two'], "--encode-gb: 'two' is no number from 0 up");
    await refuses('tests/consumers/check.mjs', ['--projects', 'vite,grunt'], "--projects: 'grunt' is none of vite, webpack, esbuild, next");
    await refuses('bench/load.mjs', ['--speeds', '10,fast', '--rounds', '1,1'], '--speeds fast: no number of Mbit/s');
    await refuses('bench/compress-page.mjs', [], 'Which models?');
    await refuses('scripts/fuzz.mjs', ['--replay'], '--replay: of which files?');
    await refuses('scripts/fuzz.mjs', ['finding'], 'finding: only --replay takes files');
  });
});
