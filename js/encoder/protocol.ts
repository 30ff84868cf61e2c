// What is said between whoever wants the command run and the thread that runs it.
import type { ErrorCode } from '../errors.js';

/** Where files lie that are in memory: `files/`, where the command is run, and whatever else is given. */
export const MEMORY = '/.mcwc';

export interface Request {
  wasmUrl: string;
  args: string[];
  /** As `NAME=value`. */
  env: string[];
  /** By their paths in MEMORY. */
  files: [path: string, data: Blob | Uint8Array][];
  /** The path of a file there that is handed back. */
  output?: string;
  /** Whether the streams are the process's, or told of. */
  streams: 'inherited' | 'captured';
  /** Memory of `CreatedFiles`. */
  created?: SharedArrayBuffer;
}

export type Reply =
  /** On standard error. */
  | { type: 'line'; line: string }
  | { type: 'exited'; status: number; stdout: string; output: Uint8Array<ArrayBuffer>[] }
  /** The command came to no end of its own. */
  | { type: 'failed'; code: ErrorCode; message: string };

export function isWindows(): boolean {
  return (globalThis as { process?: { platform?: string } }).process?.platform === 'win32';
}

/**
 * The path that the command knows a file by: on Windows C:\models is /C:/models to it. There \ does not part the names of relative
 * paths.
 */
export function pathInside(path: string): string {
  return isWindows() && /^[A-Za-z]:[\\/]/.test(path) ? `/${path.replaceAll('\\', '/')}` : path;
}
