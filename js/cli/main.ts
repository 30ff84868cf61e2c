// The npm package's command. Compressing is the native command's; here is what needs ONNX Runtime.
import { readFileSync } from 'node:fs';
import { calibrate } from './calibrate.js';
import { CalibrationError, UsageError } from './errors.js';

const HELP = `Usage: mcwc calibrate MODEL.onnx [options]     measures how much each weight matters
       mcwc calibrate --help

Encoding, decoding and inspecting are done by the native command, which is built from a checkout: cargo install --path .`;
/** What the native command has. */
const NATIVE = ['encode', 'decode', 'inspect', 'verify', 'compare'];

async function main([command, ...args]: string[]) {
  if (command === 'calibrate') return calibrate(args);
  if (command === '--version') return console.log(`mcwc ${version()}`);
  if (command === undefined || command === '--help' || command === '-h') return console.log(HELP);
  if (!NATIVE.includes(command)) throw new UsageError(`unknown command ${command}; see mcwc --help`);
  throw new UsageError(`mcwc ${command} is a part of the native command: cargo install --path . in a checkout`);
}

function version(): string {
  return JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')).version;
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  const expected = error instanceof CalibrationError || error instanceof UsageError;
  console.error(expected ? `mcwc: ${error.message}` : error);
  process.exitCode = error instanceof UsageError ? 2 : 1;
}
