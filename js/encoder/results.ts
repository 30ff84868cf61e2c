// What the command prints and how it ends -> what `encode` gives.
import { McwcError } from '../errors.js';
import type { EncodeReport } from './encoding.js';

/** Exit status of a command line that makes no sense. */
const USAGE = 2;

/** What it says then about itself, which is of no use here. */
const ABOUT_ITSELF = /\n\n(Usage:|For more information)[^]*/;

/** The words of the command, which begin with what went wrong. */
export function commandError(status: number, messages: string[]): McwcError {
  const text = messages.join('\n').replace(/^(mcwc|error): /, '').replace(status === USAGE ? ABOUT_ITSELF : '', '').trim();
  return new McwcError(status === USAGE ? 'argument' : 'invalid', text);
}

/** The report as JavaScript names things. */
export function camelCased(report: unknown): EncodeReport {
  return renamed(report, new Map()) as EncodeReport;
}

/** Names recur in each tensor. */
function renamed(value: unknown, names: Map<string, string>): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (Array.isArray(value)) return value.map((item) => renamed(item, names));
  const copy: Record<string, unknown> = {};
  for (const [name, item] of Object.entries(value)) {
    let camel = names.get(name);
    if (camel === undefined) names.set(name, (camel = name.replace(/_(\w)/g, (_, letter: string) => letter.toUpperCase())));
    copy[camel] = renamed(item, names);
  }
  return copy;
}
