// What calibration needs of Node: models on disk, and ONNX Runtime if it is installed.
import { closeSync, openSync, readFileSync, readSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { CalibrationError, reason } from './errors.js';
import type { ModelFile } from './onnx.js';
import type { Runtime } from './statistics.js';

export class DiskFile implements ModelFile {
  constructor(readonly path: string) {}

  read(): Uint8Array {
    try {
      return readFileSync(this.path);
    } catch (error) {
      throw new CalibrationError(`cannot read ${this.path}: ${reason(error)}`, { cause: error });
    }
  }

  readBeside(location: string, offset: number, length: number): Uint8Array {
    const path = join(dirname(this.path), location);
    const size = statSync(path, { throwIfNoEntry: false })?.size;
    if (size === undefined) throw new Error(`its data file ${path} is missing`);
    if (!(offset + length <= size)) throw new Error(`${path} is too short`);
    const bytes = new Uint8Array(length);
    const file = openSync(path, 'r');
    try {
      for (let done = 0; done < bytes.length;) {
        done += readSync(file, bytes, done, Math.min(bytes.length - done, 2 ** 30), offset + done);
      }
    } finally {
      closeSync(file);
    }
    return bytes;
  }
}

/** The runtime is missing, and all else is as it should be. */
export class MissingRuntimeError extends CalibrationError {}

export async function loadRuntime(): Promise<Runtime> {
  try {
    return await import('onnxruntime-node');
  } catch (error) {
    if ((error as { code?: string }).code === 'ERR_MODULE_NOT_FOUND') {
      throw new MissingRuntimeError('calibrate needs ONNX Runtime: npm install onnxruntime-node', { cause: error });
    }
    throw new CalibrationError(`onnxruntime-node: ${reason(error)}`, { cause: error });
  }
}
