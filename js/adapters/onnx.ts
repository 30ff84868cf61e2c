// An ONNX model in an archive -> the same model with its large initializers outside it, or as inputs of it, without a weight
// being decoded, and where they lie. Field numbers are those of onnx.proto.
import type { Archive } from '../archive.js';
import type { ArchiveFile } from '../file.js';
import { concatenate, field, opening } from '../protobuf.js';
import type { TensorInfo } from '../types.js';
import { GRAPH, NODE, type Uses, inputOf, usesOf } from './graph-inputs.js';
import { type Field, type Span, SparseBytes } from './protobuf.js';

const MODEL = { graph: 7 };
const ATTRIBUTE = { tensor: 5 };
const TENSOR = { segment: 3, name: 8, raw: 9, external: 13, location: 14 };
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
  /** Weights that have become inputs of the graph, by the inputs' names. */
  inputs: Map<string, TensorInfo>;
}

/** Bytes of the file as they are, or others. */
type Part = Span | Uint8Array;

/** Undefined if the model's structure is not where it should be. `withInputs`: whether weights may become inputs of the graph. */
export async function split(archive: Archive, name: string, withInputs: boolean): Promise<Split | undefined> {
  const spans = betweenTensors(archive, name);
  const file = archive.file(name);
  const splitter = new Splitter(archive, name, new SparseBytes(await file.parts(spans), spans), withInputs);
  const parts = splitter.model([0, file.size]);
  if (!parts) return undefined;
  const kept = parts.filter((part): part is Span => !(part instanceof Uint8Array));
  const bytes = await (withInputs ? onThisThread(file, kept) : file.parts(kept));
  let at = 0;
  const take = ([start, end]: Span) => bytes.subarray(at, (at += end - start));
  const model = concatenate(parts.map((part) => (part instanceof Uint8Array ? part : take(part))));
  const extents = [...splitter.extents.values()].sort((a, b) => (a.file === b.file ? a.start - b.start : a.file < b.file ? -1 : 1));
  return { model, locations: splitter.locations, extents, inputs: splitter.inputs };
}

/** A GPU would have to give back what it decodes. */
async function onThisThread(file: ArchiveFile, spans: Span[]): Promise<Uint8Array> {
  const bytes = new Uint8Array(spans.reduce((sum, [start, end]) => sum + end - start, 0));
  const decoders = await Promise.all(spans.map(([start, end]) => file.prepare(start, end)));
  let at = 0;
  for (const [index, [start, end]] of spans.entries()) decoders[index](bytes.subarray(at, (at += end - start)));
  return bytes;
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
  readonly inputs = new Map<string, TensorInfo>();
  #uses: Uses | undefined;
  #folder: string;
  #base: string;

  constructor(
    private readonly archive: Archive,
    private readonly name: string,
    private readonly file: SparseBytes,
    private readonly withInputs: boolean,
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
    if (this.withInputs) this.#uses = usesOf(this.file, span);
    const node = (node: Span) => this.#node(node);
    const parts = this.#message(span, { [GRAPH.node]: node, [GRAPH.initializer]: (tensor) => this.#initializer(tensor) });
    // Old models have their initializers among the inputs already.
    const added = [...this.inputs].filter(([name]) => !this.#uses!.inputs.has(name));
    return [...parts, ...added.map(([name, tensor]) => inputOf(name, tensor))];
  }

  /** Undefined if it is to be left out. */
  #node(span: Span): Part[] | undefined {
    const { file } = this;
    const fields = [...file.fields(span)];
    const opType = file.last(fields, NODE.opType);
    // Runtimes make an initializer of a constant, but not of any other attribute.
    const isConstant = opType !== undefined && file.text(opType) === 'Constant';
    const output = file.last(fields, NODE.output);
    let isInput = false;
    const tensor = (tensor: Span) => {
      isInput = isConstant && output !== undefined && this.#becomesInput(tensor, file.text(output));
      return isConstant && !isInput ? this.#tensor(tensor) : [tensor];
    };
    // Nor do they look for data of an inner graph outside the model.
    const attribute = (attribute: Span) => this.#message(attribute, { [ATTRIBUTE.tensor]: tensor });
    const parts = this.#message(span, { [NODE.attribute]: attribute });
    return isInput ? undefined : parts;
  }

  #initializer(span: Span): Part[] | undefined {
    const name = this.file.last([...this.file.fields(span)], TENSOR.name);
    return name && this.#becomesInput(span, this.file.text(name)) ? undefined : this.#tensor(span);
  }

  #becomesInput(span: Span, name: string): boolean {
    if (!this.#uses?.allow(name)) return false;
    const [extent] = this.#placeOf([...this.file.fields(span)]) ?? [];
    const tensor = extent && this.#tensorAt(extent);
    if (!tensor || !this.#uses.takes(tensor)) return false;
    this.inputs.set(name, tensor);
    return true;
  }

  #tensorAt({ file, start, end }: Extent): TensorInfo | undefined {
    return this.archive.tensors.find((tensor) => tensor.file === file && tensor.offset === start && tensor.bytes === end - start);
  }

  #tensor(span: Span): Part[] {
    const { file } = this;
    const fields = [...file.fields(span)];
    const [extent, location, isOutside] = this.#placeOf(fields) ?? [];
    if (!extent || (!isOutside && extent.end - extent.start < OUTSIDE_BYTES)) return [span];
    this.locations.set(location!, extent.file);
    this.extents.set(`${extent.file} ${extent.start} ${extent.end}`, extent);
    if (isOutside) return [span];
    const entries = Object.entries({ location, offset: extent.start, length: extent.end - extent.start });
    const external = entries.map(([key, value]) => field(TENSOR.external, concatenate([field(1, key), field(2, `${value}`)])));
    const kept = fields.filter(({ number }) => number !== TENSOR.raw && number !== TENSOR.location);
    return [...kept.map(({ span }) => span), ...external, field(TENSOR.location, EXTERNAL)];
  }

  /** Where a tensor's data lie, as what the model names that file, and whether they have been outside the model all along. */
  #placeOf(fields: Field[]): [extent: Extent, location: string, isOutside: boolean] | undefined {
    const { file, archive } = this;
    const location = file.last(fields, TENSOR.location);
    if (!location || file.integer(location) !== EXTERNAL) {
      const raw = file.last(fields, TENSOR.raw);
      if (!raw || file.last(fields, TENSOR.segment)) return undefined;
      const [start, end] = raw.value;
      return [{ file: this.name, start, end }, this.#base, false];
    }
    const entries = fields.filter(({ number }) => number === TENSOR.external);
    const texts = entries.map(({ value }) => [...file.fields(value)].map((field) => file.text(field)));
    const { location: path, offset = '0', length } = Object.fromEntries(texts) as Record<string, string | undefined>;
    const name = `${this.#folder}${path}`;
    const start = Number(offset);
    const tensor = archive.tensors.find((tensor) => tensor.file === name && tensor.offset === start);
    return [{ file: name, start, end: start + Number(length ?? tensor?.bytes) }, path!, true];
  }

  /** The message with some fields written anew, or left out; neighbouring bytes that stay are one part. */
  #message(span: Span, rewrite: Record<number, (value: Span) => Part[] | undefined>): Part[] {
    const parts: Part[] = [];
    for (const { number, span: whole, value, delimited } of this.file.fields(span)) {
      const rewritten = delimited && number in rewrite;
      const written = rewritten ? rewrite[number](value) : [value];
      if (!written) continue;
      if (isSame(written, value)) append(parts, whole);
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
