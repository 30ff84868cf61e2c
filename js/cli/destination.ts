// Where `-o` leads: looked at before the minutes of measuring, written after them. The rules are those of the native command.
import { randomUUID } from 'node:crypto';
import { closeSync, existsSync, fsyncSync, openSync, readlinkSync, realpathSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { CalibrationError, reason } from './errors.js';

/** A shell may have redirected it into a file, which is not to be replaced. */
const STANDARD_OUTPUT = ['-', '/dev/stdout', '/dev/fd/1', '/proc/self/fd/1'];

export class Destination {
  readonly isStandardOutput: boolean;
  readonly #path: string;
  /** A regular file, or one to be, where the symbolic links end. */
  readonly #target: string = '';
  readonly #replaces: boolean = false;
  /** Of a device or a pipe, which is written to and stays what it is. */
  readonly #stream: number | undefined;

  constructor(path: string, force: boolean, inputs: string[]) {
    this.#path = path;
    this.isStandardOutput = STANDARD_OUTPUT.includes(path);
    if (this.isStandardOutput) return;
    const stats = this.#try(() => statSync(path, { throwIfNoEntry: false }));
    this.#target = stats ? this.#try(() => realpathSync(path)) : endOfLinks(path);
    this.#replaces = stats !== undefined;
    if (stats?.isDirectory()) throw this.#error('it is a folder');
    if (inputs.some((input) => existsSync(input) && realpathSync(input) === this.#target)) throw this.#error('it is an input too');
    if (stats && !stats.isFile()) {
      this.#stream = this.#try(() => openSync(path, 'w'));
      return;
    }
    if (stats && !force) throw this.#error('it exists; --force replaces it');
    const part = this.#part();
    this.#try(() => closeSync(openSync(part, 'wx')));
    rmSync(part);
  }

  /** All of the file or none. */
  async write(bytes: Uint8Array): Promise<void> {
    if (this.isStandardOutput) return this.#print(bytes);
    if (this.#stream !== undefined) {
      const stream = this.#stream;
      return this.#try(() => writeFileSync(stream, bytes));
    }
    const part = this.#part();
    // Held back while the file is written, which takes a moment.
    const hold = () => {};
    for (const signal of SIGNALS) process.on(signal, hold);
    try {
      this.#try(() => {
        writeFileSync(part, bytes, { flag: 'wx' });
        sync(part);
      });
      if (!this.#replaces && existsSync(this.#target)) throw this.#error('it has come to be meanwhile');
      this.#try(() => renameSync(part, this.#target));
    } finally {
      rmSync(part, { force: true });
      for (const signal of SIGNALS) process.off(signal, hold);
    }
  }

  #print(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      process.stdout.once('error', (error) => reject(this.#error(reason(error))));
      process.stdout.write(bytes, () => resolve());
    });
  }

  #part(): string {
    return join(dirname(this.#target), `.mcwc-${randomUUID()}.part`);
  }

  #try<T>(act: () => T): T {
    try {
      return act();
    } catch (error) {
      throw this.#error(reason(error), error);
    }
  }

  #error(text: string, cause?: unknown): CalibrationError {
    return new CalibrationError(`cannot write ${this.#path}: ${text}`, { cause });
  }
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** A crash must not leave the name without the bytes. */
function sync(path: string) {
  const file = openSync(path, 'r+');
  try {
    fsyncSync(file);
  } finally {
    closeSync(file);
  }
}

/** Where the symbolic links at `path` lead. Nothing is there, so that they do not go round in circles. */
function endOfLinks(path: string): string {
  try {
    return endOfLinks(resolve(dirname(path), readlinkSync(path)));
  } catch {
    return path;
  }
}
