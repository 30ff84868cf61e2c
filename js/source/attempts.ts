// When to try again: later and later, at random within bounds, at once when the network is back.
import { Interruption, type RemoteFile } from './remote.js';

/** What `open` says of it. */
export interface Retrying {
  retries: number;
  retryMs: number;
}

const WAIT_MS_MAX = 30_000;
/** Retries of a server that has never answered: most likely its address is wrong. */
const UNANSWERED_RETRIES = 2;

export class Attempts {
  #failed = 0;

  constructor(
    private readonly file: RemoteFile,
    private readonly retrying: Retrying,
  ) {}

  succeeded(): void {
    this.#failed = 0;
  }

  /** Waits until the next attempt; throws if there is to be none. */
  async next(error: unknown): Promise<void> {
    if (!(error instanceof Interruption)) throw error;
    const { isAnswered, canRestart, signal } = this.file;
    const { retries, retryMs } = this.retrying;
    if (!canRestart || this.#failed >= (isAnswered ? retries : Math.min(retries, UNANSWERED_RETRIES))) throw error.failure;
    const backoffMs = retryMs * 2 ** this.#failed++ * (1 + Math.random()) * 0.5;
    const isOnline = await pause(Math.min(Math.max(backoffMs, error.waitMs), WAIT_MS_MAX), signal);
    signal.throwIfAborted();
    if (isOnline) this.succeeded();
  }
}

/** Ends early when it is aborted, or when the network is back: then it resolves to true. */
function pause(ms: number, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    const end = (event?: Event) => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      globalThis.removeEventListener?.('online', end);
      resolve(event?.type === 'online');
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener('abort', end);
    globalThis.addEventListener?.('online', end);
  });
}
