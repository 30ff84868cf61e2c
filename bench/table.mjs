// Results -> a Markdown table, printed, and kept between markers in docs/BENCHMARKS.md.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../scripts/tools.mjs';

const BENCHMARKS = join(ROOT, 'docs/BENCHMARKS.md');
const RESULTS = join(ROOT, 'bench/results');

/** The first column reads from the left, all others are numbers. */
export function markdownTable(header, rows) {
  const widths = header.map((title, column) => Math.max(...[title, ...rows.map((row) => row[column])].map((cell) => cell.length)));
  const line = (cells) => `| ${cells.map((cell, column) => (column ? cell.padStart(widths[column]) : cell.padEnd(widths[column]))).join(' | ')} |`;
  const rule = `|${widths.map((width, column) => (column ? `${'-'.repeat(width + 1)}:` : '-'.repeat(width + 2))).join('|')}|`;
  return [line(header), rule, ...rows.map(line)].join('\n');
}

/** Prints the text, and replaces with it what docs/BENCHMARKS.md has between the markers of this section. */
export function publish(section, text) {
  console.log(`\n${text}\n`);
  const [begin, end] = [`<!-- begin ${section} -->\n`, `\n<!-- end ${section} -->`];
  const page = readFileSync(BENCHMARKS, 'utf8');
  const [start, stop] = [page.indexOf(begin), page.indexOf(end)];
  if (start < 0 || stop < start) throw new Error(`docs/BENCHMARKS.md has no section ${section}`);
  writeFileSync(BENCHMARKS, page.slice(0, start) + begin + text + page.slice(stop));
}

export function writeResults(section, results) {
  mkdirSync(RESULTS, { recursive: true });
  writeFileSync(join(RESULTS, `${section}.json`), `${JSON.stringify(results, null, 2)}\n`);
}

/** One line for each target; false if one is missed. */
export function reportTargets(targets) {
  for (const { name, value, met } of targets) console.log(`${met ? 'ok    ' : 'MISSED'} ${name}: ${value}`);
  return targets.every(({ met }) => met);
}
