// A thread that runs the command once; ended with it, or when that is asked for.
import { McwcError } from '../errors.js';
import { type Thread, address, startThread } from '../platform.js';
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
      const fail = (error: unknown) => {
        reject(new McwcError('io', `the encoder's worker failed: ${(error as Error).message}`, { cause: error }));
      };
      // Bundlers look for exactly this expression.
      thread = startThread(address('workerUrl', () => workerUrl ?? new URL('./encoder-worker.js', import.meta.url)), receive, fail);
      const whole: Request = { ...request, env: [`PWD=${MEMORY}/files`], streams: 'captured' };
      thread.post(whole, []);
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
