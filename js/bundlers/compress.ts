// A recipe -> its archive, which files came along, and what there is to say of it. On a terminal, one line tells how far it is.
import { calibrateAll, isOnnx } from '../cli/automatic.js';
import type { Runtime } from '../cli/statistics.js';
import { type EncodeReport, encode } from '../encoder.js';
import { open } from '../index.js';
import { companionsAmong } from './files.js';
import type { Recipe } from './request.js';

interface Compressed {
  archive: Blob;
  /** Their names in it. */
  companions: string[];
  lines: string[];
}

/** Calibrated if there is a runtime. `shown`: what the user calls the model. */
export async function compress(recipe: Recipe, runtime: Runtime | undefined, shown: string): Promise<Compressed> {
  const { files, samples, statistics, base, baseWeights } = recipe;
  const started = performance.now();
  const lines: string[] = [];
  const progress = (stage: string, done: number) => show(`${shown}: ${stage} ${Math.floor(100 * done)} %`);
  const calibration = {
    samples,
    note: (text: string) => lines.push(text.replace(files[0], shown)),
    progress: (what: string, done: number, total: number) => progress(`measuring ${what}`, done / total),
  };
  try {
    // Options that make no sense are not worth the time.
    if (runtime) await encode({ name: 'nothing', data: new Uint8Array() }, recipe.options);
    const measured = runtime ? await calibrateAll(files.filter(isOnnx), runtime, calibration) : new Map<string, Uint8Array>();
    const { archive, report } = await encode(files, {
      ...recipe.options,
      statistics: [...statistics, ...measured.values()],
      base,
      baseWeights,
      onProgress: ({ stage, done }) => progress(stage, done),
    });
    const companions = companionsAmong(await namesIn(archive, base), files);
    lines.push(...report.notes, summary(shown, report, performance.now() - started));
    return { archive, companions, lines };
  } finally {
    show('');
  }
}

async function namesIn(archive: Blob, base: string | undefined): Promise<string[]> {
  const opened = await open(archive, { workers: 0, base });
  const names = opened.files.map(({ name }) => name);
  opened.close();
  return names;
}

function summary(shown: string, { originalBytes, archiveBytes }: EncodeReport, ms: number): string {
  const times = originalBytes / archiveBytes;
  const ratio = times.toFixed(times < 10 ? 2 : 1);
  return `${shown}: ${sized(originalBytes)} -> ${sized(archiveBytes)}, ${ratio} times smaller, in ${(ms / 1000).toFixed(1)} s`;
}

function sized(bytes: number): string {
  const [unit, name] = bytes < 1e6 ? [1e3, 'kB'] : [1e6, 'MB'];
  return `${(bytes / unit).toFixed(bytes < 100 * unit ? 1 : 0)} ${name}`;
}

function show(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}
