// The workers of a page, shared by all archives that are open: they start when there is work, and end after the last archive.
import { hardwareConcurrency, later } from '../platform.js';
import type { Wasm } from '../wasm.js';
import { DecoderThread } from './thread.js';

const DEFAULT_MAX = 4;
/** How long workers outlive the last archive, so that the next one finds them. */
const LINGER_MS = 1000;

/** An archive that decodes on threads. */
export interface Client {
  /** Most that it uses at once. */
  readonly limit: number;
  /** There is another thread. */
  gained(thread: DecoderThread): void;
  /** A thread has ended, with the jobs that it had. */
  lost(thread: DecoderThread): void;
  /** There is no thread, and none can be started. */
  refused(reason: string): void;
}

/** One for each script: the page has one instance of each module, so that all its archives agree on that. */
const shared = new Map<string, Threads>();

export function defaultWorkers(): number {
  return Math.min(hardwareConcurrency(), DEFAULT_MAX);
}

export class Threads {
  readonly #threads = new Set<DecoderThread>();
  readonly #clients = new Set<Client>();
  #most = 0;
  #keep = () => {};

  private constructor(
    private readonly wasm: Wasm,
    private readonly url: string | URL | undefined,
    private readonly forget: () => void,
  ) {}

  static of(wasm: Wasm, url: string | URL | undefined): Threads {
    const key = `${wasm.builtFor} ${url ?? ''}`;
    const threads = shared.get(key) ?? new Threads(wasm, url, () => shared.delete(key));
    shared.set(key, threads);
    return threads;
  }

  get starting(): number {
    return [...this.#threads].filter(({ ready }) => !ready).length;
  }

  join(client: Client): void {
    this.#keep();
    this.#clients.add(client);
    this.#most = Math.max(defaultWorkers(), ...[...this.#clients].map(({ limit }) => limit));
    for (const thread of this.#threads) if (thread.ready) client.gained(thread);
  }

  leave(client: Client): void {
    if (this.#clients.delete(client) && this.#clients.size === 0) this.#keep = later(LINGER_MS, () => this.#end());
  }

  /** Starts another thread, unless there are as many as there may be. */
  async grow(): Promise<void> {
    if (this.#threads.size >= this.#most) return;
    const thread = new DecoderThread(this.wasm, this.url, () => this.#lose(thread));
    this.#threads.add(thread);
    try {
      await thread.started;
      this.#clients.forEach((client) => client.gained(thread));
      thread.setBusy();
    } catch (error) {
      thread.close(error);
      this.#threads.delete(thread);
      this.#most = this.#threads.size;
      if (this.#most > 0) return;
      this.#clients.forEach((client) => client.refused(`no worker could be started: ${(error as Error).message}`));
    }
  }

  #lose(thread: DecoderThread): void {
    this.#threads.delete(thread);
    this.#clients.forEach((client) => client.lost(thread));
  }

  #end(): void {
    this.forget();
    this.#threads.forEach((thread) => thread.close(undefined));
  }
}
