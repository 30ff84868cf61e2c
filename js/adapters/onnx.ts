// An ONNX model in an archive -> the same model with its large initializers outside it, without a weight being decoded, and
// where they lie. Field numbers are those of onnx.proto.
import type { Archive } from '../archive.js';
import { concatenate, field, opening } from '../protobuf.js';
import { type Field, type Span, SparseBytes } from './protobuf.js';

const MODEL = { graph: 7 };
const GRAPH = { node: 1, initializer: 5 };
const NODE = { opType: 4, attribute: 5 };
const ATTRIBUTE = { tensor: 5 };
const TENSOR = { segment: 3, raw: 9, external: 13, location: 14 };
const EXTERNAL = 1;
/** Smaller tensors stay in the model: the runtime folds constants by their values while it reads it. */
const OUTSIDE_BYTES = 1024;

/** Bytes of a file of the archive. */
export interface Extent {
  file: string;
  start: number;
  end: number;
}

export interface Split {
  /** The model without them. */
  model: Uint8Array<ArrayBuffer>;
  /** Files that it has data in, as it names them, and their names in the archive. */
  locations: Map<string, string>;
  /** Of all tensors outside it, each once, in the order of their files. */
  extents: Extent[];
}

/** Bytes of the file as they are, or others. */
type Part = Span | Uint8Array;

/** Undefined if the model's structure is not where it should be. */
export async function split(archive: Archive, name: string): Promise<Split | undefined> {
  const spans = betweenTensors(archive, name);
  const file = archive.file(name);
  const splitter = new Splitter(archive, name, new SparseBytes(await file.parts(spans), spans));
  const parts = splitter.model([0, file.size]);
  if (!parts) return undefined;
  const kept = parts.filter((part): part is Span => !(part instanceof Uint8Array));
  const bytes = await file.parts(kept);
  let at = 0;
  const take = ([start, end]: Span) => bytes.subarray(at, (at += end - start));
  const model = concatenate(parts.map((part) => (part instanceof Uint8Array ? part : take(part))));
  const extents = [...splitter.extents.values()].sort((a, b) => (a.file === b.file ? a.start - b.start : a.file < b.file ? -1 : 1));
  return { model, locations: splitter.locations, extents };
}

function betweenTensors(archive: Archive, name: string): Span[] {
  const tensors = archive.tensors.filter(({ file, bytes }) => file === name && bytes >= OUTSIDE_BYTES);
  const ends = tensors.map(({ offset, bytes }): Span => [offset, offset + bytes]).sort(([a], [b]) => a - b);
  const spans: Span[] = [];
  let at = 0;
  for (const [start, end] of [...ends, [archive.file(name).size, Infinity]]) {
    if (start > at) spans.push([at, start]);
    at = Math.max(at, end);
  }
  return spans;
}

class Splitter {
  readonly locations = new Map<string, string>();
  /** By where they lie, as several tensors may have the same data. */
  readonly extents = new Map<string, Extent>();
  #folder: string;
  #base: string;

  constructor(
    private readonly archive: Archive,
    private readonly name: string,
    private readonly file: SparseBytes,
  ) {
    this.#base = name.slice(name.lastIndexOf('/') + 1);
    this.#folder = name.slice(0, name.length - this.#base.length);
  }

  model(span: Span): Part[] | undefined {
    try {
      return this.#message(span, { [MODEL.graph]: (graph) => this.#graph(graph) });
    } catch {
      return undefined;
    }
  }

  #graph(span: Span): Part[] {
    const node = (node: Span) => this.#node(node);
    return this.#message(span, { [GRAPH.node]: node, [GRAPH.initializer]: (tensor) => this.#tensor(tensor) });
  }

  #node(span: Span): Part[] {
    const opType = this.file.last([...this.file.fields(span)], NODE.opType);
    // Runtimes make an initializer of a constant, but not of any other attribute.
    const isConstant = opType !== undefined && this.file.text(opType) === 'Constant';
    const tensor = (tensor: Span) => (isConstant ? this.#tensor(tensor) : [tensor]);
    // Nor do they look for data of an inner graph outside the model.
    const attribute = (attribute: Span) => this.#message(attribute, { [ATTRIBUTE.tensor]: tensor });
    return this.#message(span, { [NODE.attribute]: attribute });
  }

  #tensor(span: Span): Part[] {
    const { file } = this;
    const fields = [...file.fields(span)];
    const location = file.last(fields, TENSOR.location);
    if (location && file.integer(location) === EXTERNAL) {
      this.#external(fields.filter(({ number }) => number === TENSOR.external));
      return [span];
    }
    const raw = file.last(fields, TENSOR.raw);
    if (!raw || raw.value[1] - raw.value[0] < OUTSIDE_BYTES || file.last(fields, TENSOR.segment)) return [span];
    const [start, end] = raw.value;
    this.#add({ file: this.name, start, end }, this.#base);
    const entries = Object.entries({ location: this.#base, offset: start, length: end - start });
    const external = entries.map(([key, value]) => field(TENSOR.external, concatenate([field(1, key), field(2, `${value}`)])));
    const kept = fields.filter(({ number }) => number !== TENSOR.raw && number !== TENSOR.location);
    return [...kept.map(({ span }) => span), ...external, field(TENSOR.location, EXTERNAL)];
  }

  /** A tensor that has been outside all along. */
  #external(entries: Field[]): void {
    const { file, archive } = this;
    const texts = entries.map(({ value }) => [...file.fields(value)].map((field) => file.text(field)));
    const { location, offset = '0', length } = Object.fromEntries(texts) as Record<string, string | undefined>;
    const name = `${this.#folder}${location}`;
    const start = Number(offset);
    const tensor = archive.tensors.find((tensor) => tensor.file === name && tensor.offset === start);
    this.#add({ file: name, start, end: start + Number(length ?? tensor?.bytes) }, location!);
  }

  #add(extent: Extent, location: string): void {
    this.locations.set(location, extent.file);
    this.extents.set(`${extent.file} ${extent.start} ${extent.end}`, extent);
  }

  /** The message with some fields written anew; neighbouring bytes that stay are one part. */
  #message(span: Span, rewrite: Record<number, (value: Span) => Part[]>): Part[] {
    const parts: Part[] = [];
    for (const { number, span: whole, value, delimited } of this.file.fields(span)) {
      const written = delimited && rewrite[number]?.(value);
      if (!written || isSame(written, value)) append(parts, whole);
      else for (const part of [opening(number, bytesOf(written)), ...written]) append(parts, part);
    }
    return parts;
  }
}

function append(parts: Part[], part: Part): void {
  const last = parts.at(-1);
  const follows = last && !(last instanceof Uint8Array) && !(part instanceof Uint8Array) && last[1] === part[0];
  if (follows) parts[parts.length - 1] = [last[0], part[1] as number];
  else parts.push(part);
}

/** Whether the parts are what the span has, so that its length need not be written anew. */
function isSame(parts: Part[], [start, end]: Span): boolean {
  const [first] = parts;
  return start === end || (parts.length === 1 && !(first instanceof Uint8Array) && first[0] === start && first[1] === end);
}

function bytesOf(parts: Part[]): number {
  return parts.reduce((sum, part) => sum + (part instanceof Uint8Array ? part.length : part[1] - part[0]), 0);
}
