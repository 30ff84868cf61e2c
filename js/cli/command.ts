// The command itself, compiled to wasm -> its exit status. It runs in a thread of its own: an interruption ends that at once, and
// what it had not finished goes.
import { rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { Worker } from 'node:worker_threads';
import { MEMORY, pathInside, type Reply, type Request } from '../encoder/protocol.js';
import { CreatedFiles } from '../wasi/created.js';
import { CommandError } from './errors.js';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
/** 128 and the number of SIGINT, as shells count. */
const INTERRUPTED = 130;
/** A thread that waits for a pipe cannot be ended. */
const PATIENCE_MS = 1000;

/** `files` are there for the command as well, each as the path that `inMemory` says. */
export async function runCommand(args: string[], files: Map<string, Uint8Array> = new Map()): Promise<number> {
  const created = new CreatedFiles();
  const worker = new Worker(new URL('./encoder-worker.js', import.meta.url));
  const interrupt = (signal: NodeJS.Signals) => end(worker, created, signal);
  for (const signal of SIGNALS) process.once(signal, interrupt);
  const env = { ...process.env, PWD: pathInside(process.cwd()), TMPDIR: pathInside(tmpdir()) };
  const request: Request = {
    wasmUrl: new URL('./mcwc.wasm', import.meta.url).href,
    args: args.map(pathInside),
    env: Object.entries(env).map(([name, value]) => `${name}=${value}`),
    files: [...files],
    streams: 'inherited',
    created: created.memory,
  };
  try {
    const reply = await new Promise<Reply>((resolve, reject) => {
      worker.on('message', resolve);
      worker.on('error', reject);
      worker.postMessage(request);
    });
    if (reply.type === 'exited') return reply.status;
    // What Rust has to say of it is already printed.
    throw new CommandError(`broke off: ${reply.type === 'failed' ? reply.message : reply.line}`);
  } finally {
    for (const signal of SIGNALS) process.off(signal, interrupt);
    await worker.terminate();
    removeUnfinished(created);
  }
}

export function inMemory(path: string): string {
  return `${MEMORY}/${path}`;
}

async function end(worker: Worker, created: CreatedFiles, signal: NodeJS.Signals): Promise<void> {
  setTimeout(() => process.kill(process.pid, signal), PATIENCE_MS);
  await worker.terminate();
  removeUnfinished(created);
  process.exit(INTERRUPTED);
}

function removeUnfinished({ names }: CreatedFiles): void {
  for (const name of names) rmSync(name, { force: true });
}
