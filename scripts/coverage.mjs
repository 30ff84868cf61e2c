// Which lines of the rooms that read archives the Rust tests reach. Fails below what docs/RELIABILITY.md promises.
//   npm run check:coverage
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { basename, join, relative } from 'node:path';
import { readOptions } from './options.mjs';
import { CARGO_TARGET, ROOT, fail, prepareRust, run, step, sysroot } from './tools.mjs';

const ROOMS = ['src/container', 'src/entropy', 'src/stages', 'src/reconstruct', 'src/decode.rs'];
const TESTS = ['format', 'frames', 'hostile', 'motion', 'planes', 'reject', 'roundtrip', 'vectors'];
/** Percent of the lines, of each room. */
const LINES_MIN = 95;
/** Where code ends that is not for tests. */
const TEST_CODE = /^#\[cfg\((all\()?test/;
const TARGET = join(CARGO_TARGET, 'coverage');
const PROFILES = join(TARGET, 'profiles');

readOptions(import.meta.filename);
prepareRust();
const [profdata, cov] = ['llvm-profdata', 'llvm-cov'].map(llvmTool);
rmSync(PROFILES, { recursive: true, force: true });
const environment = { ...process.env, RUSTFLAGS: '-Cinstrument-coverage', CARGO_INCREMENTAL: '0', LLVM_PROFILE_FILE: join(PROFILES, '%p-%m.profraw') };
const tests = testPrograms();
for (const test of tests) {
  step(basename(test));
  run(test, ['--quiet'], { env: environment });
}
const merged = join(PROFILES, 'merged.profdata');
const profiles = readdirSync(PROFILES).filter((name) => name.endsWith('.profraw'));
run(profdata, ['merge', '--sparse', ...profiles.map((name) => join(PROFILES, name)), '-o', merged]);
const isLow = report(linesOf(lcov(merged)));
if (isLow) fail(`below ${LINES_MIN} %`);

/** Compiles them; gives where they are. */
function testPrograms() {
  const features = ['--no-default-features', '--features', 'encoder'];
  const args = ['test', '--no-run', '--lib', ...TESTS.flatMap((name) => ['--test', name]), ...features, '--target-dir', TARGET];
  run('cargo', args, { env: environment });
  const messages = execFileSync('cargo', [...args, '--message-format', 'json', '--quiet'], { cwd: ROOT, env: environment, encoding: 'utf8', maxBuffer: 1 << 28 });
  return messages.split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line).executable).filter(Boolean);
}

function llvmTool(name) {
  const triple = execFileSync('rustc', ['--print', 'host-tuple'], { encoding: 'utf8' }).trim();
  const path = join(sysroot(), 'lib/rustlib', triple, 'bin', name);
  if (!existsSync(path)) run('rustup', ['component', 'add', 'llvm-tools']);
  return path;
}

function lcov(profile) {
  const sources = ROOMS.map((room) => join(ROOT, room));
  const args = ['export', '--format', 'lcov', '--instr-profile', profile, ...tests.flatMap((test) => ['--object', test]), '--sources', ...sources];
  return execFileSync(cov, args, { encoding: 'utf8', maxBuffer: 1 << 28 });
}

/** Of each file, how often each of its lines ran. */
function linesOf(text) {
  const files = new Map();
  for (const record of text.split('end_of_record')) {
    const path = record.match(/^SF:(.*)$/m)?.[1];
    if (!path || basename(path) === 'tests.rs') continue;
    const testsAt = readFileSync(path, 'utf8').split('\n').findIndex((line) => TEST_CODE.test(line));
    const lines = [...record.matchAll(/^DA:(\d+),(\d+)/gm)].map(([, line, count]) => [Number(line), Number(count)]);
    files.set(relative(ROOT, path), lines.filter(([line]) => testsAt < 0 || line <= testsAt));
  }
  return files;
}

/** Prints each room, and the lines that nothing ran; whether one is low. */
function report(files) {
  step('Lines that no test reaches');
  for (const [path, lines] of files) {
    for (const [line, count] of lines) if (count === 0) console.log(`${path}:${line}`);
  }
  step('Line coverage');
  const percents = ROOMS.map((room) => {
    const lines = [...files].filter(([path]) => path === room || path.startsWith(`${room}/`)).flatMap(([, lines]) => lines);
    const percent = (100 * lines.filter(([, count]) => count > 0).length) / lines.length;
    console.log(`${room.padEnd(16)} ${percent.toFixed(1)} % of ${lines.length} lines`);
    return percent;
  });
  return percents.some((percent) => !(percent >= LINES_MIN));
}
