// One error class, told apart by `code`: what the caller can do about it.

const CODES = [
  'incomplete',
  'invalid',
  'unsupported',
  'limit-exceeded',
  'checksum',
  'changed',
  'argument',
  'gpu',
  'io',
  'closed',
] as const;

/**
 * - `incomplete`: the archive ends early; download it again.
 * - `invalid`: the bytes break a rule of the format. `unsupported`: they need a newer mcwc.
 * - `limit-exceeded`: they ask for more than a reader allows. `checksum`: they are damaged, or not the ones asked for.
 * - `changed`: the file is another than it was when its download began; open it again.
 * - `argument`: the call makes no sense. `gpu`: the GPU refused. `io`: the network, a file or a worker failed.
 * - `closed`: the archive has been closed.
 */
export type ErrorCode = (typeof CODES)[number];

export class McwcError extends Error {
  override readonly name = 'McwcError';
  readonly code: ErrorCode;

  /** @internal Number of the chunk that proved damaged. */
  readonly chunk: number | undefined;

  constructor(code: ErrorCode, message: string, options?: { cause?: unknown; chunk?: number }) {
    super(message, options);
    this.code = code;
    this.chunk = options?.chunk;
  }

  /** An error of the wasm module carries a code; anything else failed outside the format. */
  static from(error: unknown, otherwise: ErrorCode = 'io'): McwcError {
    if (error instanceof McwcError) return error;
    const { code, message = String(error), chunk } = Object(error) as { code?: unknown; message?: string; chunk?: number };
    return new McwcError(CODES.find((known) => known === code) ?? otherwise, message, { cause: error, chunk });
  }
}
