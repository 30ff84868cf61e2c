// The npm package's command: the crate's own, compiled to wasm, and what needs ONNX Runtime.
import { readFileSync } from 'node:fs';
import { calibrate } from './calibrate.js';
import { runCommand } from './command.js';
import { encode, ENCODE_HELP } from './encode.js';
import { CalibrationError, CommandError, UsageError } from './errors.js';

const HELP = `
In the npm package also:
  mcwc calibrate MODEL.onnx  Measure how much each weight matters; mcwc calibrate --help`;

async function main(args: string[]): Promise<number> {
  const [command] = args.filter((arg) => !arg.startsWith('-'));
  if (args[0] === 'calibrate') return (await calibrate(args.slice(1)), 0);
  if (args[0] === '--version') return (console.log(`mcwc ${version()}`), 0);
  const status = command === 'encode' ? await encode(args) : await runCommand(args);
  if (status === 0) printMoreHelp(args);
  return status;
}

/** What the wasm command does not know of. */
function printMoreHelp(args: string[]): void {
  const end = args.indexOf('--');
  const options = end < 0 ? args : args.slice(0, end);
  if (!options.some((arg) => ['--help', '-h', 'help'].includes(arg))) return;
  const [topic] = args.filter((arg) => !arg.startsWith('-') && arg !== 'help');
  if (topic === undefined) console.log(HELP);
  else if (topic === 'encode') console.log(ENCODE_HELP);
}

function version(): string {
  return JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')).version;
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  const expected = [CalibrationError, UsageError, CommandError].some((kind) => error instanceof kind);
  console.error(expected ? `mcwc: ${(error as Error).message}` : error);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
