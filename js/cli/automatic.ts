// ONNX models -> their statistics, where nobody asked for them but ONNX Runtime is at hand.
import { basename, extname } from 'node:path';
import { calibrateModel, RANDOM_INPUTS } from './calibration.js';
import { CalibrationError, reason } from './errors.js';
import { samplesFrom } from './samples.js';
import type { Options, Runtime } from './statistics.js';
import { DiskFile, loadRuntime, MissingRuntimeError } from './system.js';

interface Wanted extends Pick<Options, 'progress'> {
  samples: string | undefined;
  note(text: string): void;
}

export function isOnnx(path: string): boolean {
  return extname(path).toLowerCase() === '.onnx';
}

/** By the names of statistics files. A model that has none is told of, unless it has samples, which are not given in vain. */
export async function calibrateAll(models: string[], runtime: Runtime, { samples, note, progress }: Wanted): Promise<Map<string, Uint8Array>> {
  const statistics = new Map<string, Uint8Array>();
  for (const [index, path] of models.entries()) {
    const started = performance.now();
    const options = { samples: samplesFrom(samples), count: RANDOM_INPUTS, shapes: new Map(), distortion: 'relative', seed: 0, progress } as const;
    try {
      const { bytes, feeds } = await calibrateModel(new DiskFile(path), runtime, options);
      statistics.set(`${index}-${basename(path)}.safetensors`, bytes);
      const seconds = ((performance.now() - started) / 1000).toFixed(1);
      const inputs = samples === undefined ? 'random inputs' : feeds === 1 ? 'sample' : 'samples';
      note(`${path}: calibrated on ${feeds} ${inputs} in ${seconds} s`);
    } catch (error) {
      if (samples !== undefined || !(error instanceof CalibrationError)) throw error;
      note(`${path}: not calibrated: ${reason(error)}`);
    }
  }
  return statistics;
}

/** Undefined if it is missing and somebody is there to be told. */
export async function runtimeOr(note: ((text: string) => void) | undefined): Promise<Runtime | undefined> {
  try {
    return await loadRuntime();
  } catch (error) {
    if (!note) throw error;
    const missing = error instanceof MissingRuntimeError;
    note(`not calibrated: ${missing ? 'npm install onnxruntime-node makes ONNX models smaller at equal quality' : reason(error)}`);
    return undefined;
  }
}
