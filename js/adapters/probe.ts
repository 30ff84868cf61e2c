// How a build of the runtime reads external data, found out with a model of three numbers.
import { concatenate, field } from '../protobuf.js';
import { type Access, arrayOf, blobOf } from './lazy-data.js';
import type { Runtime } from './runtime.js';

const FLOAT = 1;
const BYTES = 4;

export interface Probe {
  /** Undefined if it wants all of it beforehand, or cannot run anything. */
  access: Access | undefined;
  /** Ends the session, and with the last one the device of the runtime. */
  release(): Promise<void>;
}

export async function probe({ InferenceSession, Tensor }: Runtime, executionProviders: unknown): Promise<Probe> {
  const read = { array: 0, blob: 0 };
  // One memory for all that is asked for, as `LazyData` has it.
  const memory = new Float32Array(1);
  const array = arrayOf(2 * BYTES, (start) => {
    read.array++;
    memory[0] = start === 0 ? 1 : 2;
    return new Uint8Array(memory.buffer);
  });
  const blob = blobOf(BYTES, () => {
    read.blob++;
    return new Blob([Float32Array.of(4)]).stream();
  });
  // What does not take it apart reads the whole of it.
  Object.defineProperty(blob, 'arrayBuffer', { value: async () => Float32Array.of(4).buffer });
  const externalData = [
    { path: 'array', data: array },
    { path: 'blob', data: blob },
  ];
  let session: any;
  const release = async () => session?.release();
  try {
    session = await InferenceSession.create(sum(), { executionProviders, externalData, logSeverityLevel: 4 });
    const { y } = await session.run({ x: new Tensor('float32', Float32Array.of(8), [1]) });
    const isRead = y.data[0] === 15 && read.array > 0;
    return { access: isRead ? (read.blob > 0 ? 'blob' : 'array') : undefined, release };
  } catch {
    return { access: undefined, release };
  }
}

/** x + 1 + 2 + 4, each in its external data. */
function sum(): Uint8Array<ArrayBuffer> {
  const add = (a: string, b: string, out: string) => concatenate([field(1, a), field(1, b), field(2, out), field(4, 'Add')]);
  const outside = (name: string, path: string, offset: number) => {
    const entries = Object.entries({ location: path, offset, length: BYTES });
    const external = entries.map(([key, value]) => field(13, concatenate([field(1, key), field(2, `${value}`)])));
    return concatenate([field(1, 1), field(2, FLOAT), field(8, name), ...external, field(14, 1)]);
  };
  const shape = field(2, field(1, field(1, 1)));
  const value = (name: string) => concatenate([field(1, name), field(2, field(1, concatenate([field(1, FLOAT), shape])))]);
  const graph = concatenate([
    ...[add('x', 'a', 's'), add('s', 'b', 't'), add('t', 'c', 'y')].map((node) => field(1, node)),
    field(2, 'sum'),
    ...[outside('a', 'array', 0), outside('b', 'array', BYTES), outside('c', 'blob', 0)].map((tensor) => field(5, tensor)),
    field(11, value('x')),
    field(12, value('y')),
  ]);
  return concatenate([field(1, 8), field(7, graph), field(8, field(2, 13))]);
}
