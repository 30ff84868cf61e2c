// A thread that runs the command once: in browsers on files in memory, in Node on those of the system too.
import { wasi } from '@bjorn3/browser_wasi_shim';
import { MEMORY, type Reply, type Request } from '../encoder/protocol.js';
import { McwcError } from '../errors.js';
import { loadWasm } from '../platform.js';
import { type Content, contentOf, MemoryFolder, Pieces } from './blobs.js';
import { CreatedFiles } from './created.js';
import { Descriptor, Stat } from './descriptor.js';
import { Host } from './host.js';
import { NodeFolder, NodeStream, type System } from './node.js';

const { getBuiltinModule } = (globalThis as { process?: NodeJS.Process }).process ?? {};
const parentPort = getBuiltinModule?.('node:worker_threads').parentPort;
const port: { postMessage(reply: Reply, transfer: ArrayBuffer[]): void } = parentPort ?? (globalThis as any);

/** A stream whose text is handed on: in lines, or when it is asked for. */
class TextStream extends Descriptor {
  readonly filetype = wasi.FILETYPE_UNKNOWN;
  readonly #decoder = new TextDecoder();
  text = '';

  constructor(private readonly onLine?: (line: string) => void) {
    super();
  }

  stat(): Stat {
    return new Stat(this.filetype, 0n);
  }

  override readInto(): number {
    return 0;
  }

  override writeFrom(bytes: Uint8Array): number {
    this.text += this.#decoder.decode(bytes, { stream: true });
    if (!this.onLine) return bytes.length;
    const lines = this.text.split('\n');
    this.text = lines.pop()!;
    lines.forEach(this.onLine);
    return bytes.length;
  }
}

async function run({ wasmUrl, args, env, files, output, streams, created }: Request): Promise<void> {
  const module = await loadWasm(new URL(wasmUrl));
  const contents = new Map<string, Content>(files.map(([path, data]) => [path, contentOf(data)]));
  const stdout = new TextStream();
  const stderr = new TextStream((line) => port.postMessage({ type: 'line', line }, []));
  const system: System | undefined = getBuiltinModule && {
    fs: getBuiltinModule('node:fs'),
    isTerminal: getBuiltinModule('node:tty').isatty,
    created: new CreatedFiles(created),
  };
  const inherited = system && streams === 'inherited' ? [0, 1, 2].map((fd) => new NodeStream(system, fd)) : undefined;
  const descriptors: Descriptor[] = [...(inherited ?? [stdout, stdout, stderr]), new MemoryFolder(contents, '', MEMORY)];
  if (system) descriptors.push(new NodeFolder(system, '/', '/'));
  const status = await new Host(['mcwc', ...args], env, descriptors).run(module);
  const written = output === undefined ? undefined : contents.get(output);
  const pieces = written instanceof Pieces ? written.take() : [];
  port.postMessage({ type: 'exited', status, stdout: stdout.text, output: pieces }, pieces.map(({ buffer }) => buffer));
}

async function receive(request: Request): Promise<void> {
  try {
    await run(request);
  } catch (error) {
    const { code, message } = McwcError.from(error, isOutOfMemory(error) ? 'limit-exceeded' : 'io');
    port.postMessage({ type: 'failed', code, message }, []);
  }
}

/** Of JavaScript's memory; wasm says so itself before it traps. */
function isOutOfMemory(error: unknown): boolean {
  return error instanceof RangeError && /allocation/.test(error.message);
}

if (parentPort) parentPort.on('message', receive);
else globalThis.onmessage = ({ data }: MessageEvent<Request>) => receive(data);
