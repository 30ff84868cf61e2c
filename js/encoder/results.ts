// What the command prints and how it ends -> what `encode` gives.
import type { EncodeReport } from '../encoder.js';
import { McwcError } from '../errors.js';

/** Exit status of a command line that makes no sense. */
const USAGE = 2;

/** The words of the command, which begin with what went wrong. */
export function commandError(status: number, messages: string[]): McwcError {
  const text = messages.join('\n').replace(/^(mcwc|error): /, '').trim();
  return new McwcError(status === USAGE ? 'argument' : 'invalid', text);
}

/** The report as JavaScript names things. */
export function camelCased(report: unknown): EncodeReport {
  if (Array.isArray(report)) return report.map(camelCased) as never;
  if (typeof report !== 'object' || report === null) return report as never;
  const camel = (name: string) => name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase());
  return Object.fromEntries(Object.entries(report).map(([name, value]) => [camel(name), camelCased(value)])) as never;
}
