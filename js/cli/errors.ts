// What the command can fail with: exit status 1, or 2 for the command line itself.

export class CalibrationError extends Error {}

export class UsageError extends Error {}

export function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
