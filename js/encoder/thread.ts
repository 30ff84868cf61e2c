// A thread that runs the command once; ended with it, or when that is asked for.
import { McwcError } from '../errors.js';
import { nodeModule } from '../platform.js';
import { MEMORY, type Reply, type Request } from './protocol.js';

interface RunOptions {
  workerUrl: string | URL | undefined;
  signal: AbortSignal | undefined;
  /** Of what the command prints to standard error. */
  onLine(line: string): void;
  /** What it has said but for progress. */
  messages: readonly string[];
}

/** The second where one array would take 2 GB or more. */
const OUT_OF_MEMORY = /memory allocation of \d+ bytes failed|capacity overflow/;

type Exited = Extract<Reply, { type: 'exited' }>;

export async function run(request: Omit<Request, 'env' | 'streams'>, options: RunOptions): Promise<Exited> {
  const { workerUrl, signal, onLine, messages } = options;
  let thread: Thread | undefined;
  let onAbort!: () => void;
  try {
    return await new Promise<Exited>((resolve, reject) => {
      onAbort = () => reject(signal!.reason);
      if (signal?.aborted) return onAbort();
      signal?.addEventListener('abort', onAbort);
      const receive = (reply: Reply) => {
        try {
          if (reply.type === 'line') onLine(reply.line);
          else if (reply.type === 'exited') resolve(reply);
          else reject(failure(reply, messages));
        } catch (error) {
          // Of the listener for progress.
          reject(error);
        }
      };
      const fail = (error: Error) => reject(new McwcError('io', `the encoder's worker failed: ${error.message}`, { cause: error }));
      thread = startThread(workerUrl, receive, fail);
      thread.post({ ...request, env: [`PWD=${MEMORY}/files`], streams: 'captured' });
    });
  } finally {
    signal?.removeEventListener('abort', onAbort);
    thread?.terminate();
  }
}

/** Rust says why before it traps. */
function failure({ code, message }: Extract<Reply, { type: 'failed' }>, messages: readonly string[]): McwcError {
  const memory = messages.find((line) => OUT_OF_MEMORY.test(line));
  if (memory) return new McwcError('limit-exceeded', `WebAssembly has not enough memory for this model: ${memory}`);
  return new McwcError(code, [message, ...messages.filter(Boolean)].join('\n'));
}

interface Thread {
  post(request: Request): void;
  terminate(): void;
}

function startThread(url: string | URL | undefined, onReply: (reply: Reply) => void, onError: (error: Error) => void): Thread {
  const node = typeof Worker === 'undefined' ? nodeModule('node:worker_threads') : undefined;
  if (node) {
    const worker = new node.Worker(url ?? besideModule());
    worker.on('message', onReply);
    worker.on('error', onError);
    return { post: (request) => worker.postMessage(request, []), terminate: () => worker.terminate() };
  }
  // Bundlers look for exactly this expression.
  const worker = url
    ? new Worker(url, { type: 'module' })
    : new Worker(new URL('./encoder-worker.js', import.meta.url), { type: 'module' });
  worker.onmessage = ({ data }) => onReply(data);
  worker.onerror = (event) => {
    event.preventDefault();
    onError(new Error(event.message || 'its script could not be loaded'));
  };
  return { post: (request) => worker.postMessage(request), terminate: () => worker.terminate() };
}

/** Written so that bundlers, which have no use for it, do not copy the worker a second time. */
function besideModule(module = import.meta.url): URL {
  return new URL('./encoder-worker.js', module);
}
