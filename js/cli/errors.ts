// What the command can fail with: exit status 1, or 2 for the command line itself.

export class CalibrationError extends Error {}

/** The wasm command came to no end of its own. */
export class CommandError extends Error {}

export class UsageError extends Error {}

export function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
