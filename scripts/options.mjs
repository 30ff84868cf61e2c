// A script's arguments -> its options, before it does anything else. `--help`, and what makes no sense, is answered with the lines at the
// head of the script, and ends it. Uses nothing but Node, so that it runs in a fresh clone.
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';

/** Exit status, as of the command. */
const USAGE = 2;

/**
 * @typedef {object} Kind  of an option
 * @property {'boolean' | 'string'} type
 * @property {boolean} [multiple] whether it may be given several times
 * @property {unknown} initial its value where it is not given
 * @property {(text: any) => unknown} read throws an error that says why not
 */

/** @type {Kind} */
export const flag = { type: 'boolean', initial: false, read: (value) => value };

/** @param {string} [initial] @returns {Kind} */
export function text(initial) {
  return { type: 'string', initial, read: (value) => value };
}

/** @type {Kind} */
export const texts = { type: 'string', multiple: true, initial: [], read: (values) => values };

/** @param {number} [initial] @param {{min?: number, max?: number, whole?: boolean}} [range] @returns {Kind} */
export function number(initial, range = {}) {
  return { type: 'string', initial, read: (value) => numberOf(value, range) };
}

/** With commas between. @param {number[]} initial @param {{min?: number, max?: number, whole?: boolean}} [range] @returns {Kind} */
export function numbers(initial, range = {}) {
  return { type: 'string', initial, read: (value) => value.split(',').map((each) => numberOf(each, range)) };
}

/** Some of these names, with commas between; all unless it is given. @param {string[]} all @returns {Kind} */
export function some(all) {
  const read = (value) => {
    const names = value.split(',');
    const unknown = names.find((name) => !all.includes(name));
    if (unknown !== undefined) throw new Error(`'${unknown}' is none of ${all.join(', ')}`);
    return names;
  };
  return { type: 'string', initial: all, read };
}

function numberOf(value, { min = 0, max = Infinity, whole = true }) {
  const number = Number(value);
  const isRight = value.trim() !== '' && number >= min && number <= max && (!whole || Number.isInteger(number));
  if (!isRight) throw new Error(`'${value}' is no ${whole ? 'whole ' : ''}number from ${min} ${max < Infinity ? `to ${max}` : 'up'}`);
  return number;
}

/** Of servers. */
export const PORT = number(8080, { max: 65535 });

/**
 * @param {string} script its path
 * @param {Record<string, Kind>} [kinds]
 * @param {{operands?: boolean}} [allowed] whether it takes what is no option: `operands`
 * @returns {Record<string, any>}
 */
export function readOptions(script, kinds = {}, { operands = false } = {}) {
  const options = Object.fromEntries(Object.entries(kinds).map(([name, { type, multiple = false }]) => [name, { type, multiple }]));
  let parsed;
  try {
    parsed = parseArgs({ options: { ...options, help: { type: 'boolean', short: 'h' } }, allowPositionals: operands });
  } catch ({ message }) {
    // What else Node says is about its own rules.
    return wrongUsage(script, message.split(/\. |\n/)[0]);
  }
  const { values, positionals } = parsed;
  if (values.help) {
    console.log(usageOf(script));
    process.exit();
  }
  const read = ([name, { initial, read }]) => {
    if (values[name] === undefined) return [name, initial];
    try {
      return [name, read(values[name])];
    } catch ({ message }) {
      return wrongUsage(script, `--${name}: ${message}`);
    }
  };
  return { ...Object.fromEntries(Object.entries(kinds).map(read)), ...(operands && { operands: positionals }) };
}

/** @param {string} script its path @param {string} message */
export function wrongUsage(script, message) {
  console.error(`${message}\n\n${usageOf(script)}`);
  process.exit(USAGE);
}

function usageOf(script) {
  const lines = readFileSync(script, 'utf8').split('\n');
  const end = lines.findIndex((line) => !line.startsWith('//'));
  return lines.slice(0, end).map((line) => line.slice(3)).join('\n');
}
