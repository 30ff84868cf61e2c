// Model -> valid inputs made of random numbers, and in words what was taken for granted.
import { CalibrationError, UsageError } from './errors.js';
import { isFloat, type StoredType } from './floats.js';
import { names, typed, type Feed } from './inputs.js';
import type { Model } from './model.js';
import type { Value } from './onnx.js';
import type { Random } from './random.js';
import { Ranges, type Uses } from './ranges.js';
import { elements } from './safetensors.js';

/** What a size is where the model leaves it open. */
const IMAGE_SIDE = 224;
const IMAGE_WIDTH = 320;
const AUDIO_LENGTH = 16000;
const TOKENS = 64;
/** Random inputs are not all of one length. */
const MORE_TOKENS = [0, 32, 64, 16, 48];
const MAX_ELEMENTS = 2 ** 28;
/** Of more numbers than this not each is drawn once before one is drawn twice. */
const MAX_DECK = 2 ** 22;

export type Shapes = Map<string, number[]>;

/** `name=1x3x224x224`. */
export function parseShape(text: string): [string, number[]] {
  const [, name, sizes] = /^(.+)=(\d+(?:x\d+)*)?$/.exec(text) ?? [];
  if (!name) throw new UsageError(`--shape ${text}: expected NAME=1x3x224x224`);
  return [name, sizes ? sizes.split('x').map(Number) : []];
}

/** Draws inputs: each time others. */
export class RandomFeeds {
  /** By input or symbolic size. */
  readonly #assumed = new Map<string, { what: string; sizes: Set<string> }>();
  readonly #uses = new Map<string, Uses>();
  /** Numbers that are still to be drawn, by input. */
  readonly #decks = new Map<string, Uint32Array>();
  #drawn = 0;

  constructor(
    readonly model: Model,
    readonly shapes: Shapes,
    readonly random: Random,
  ) {
    const { inputs } = model;
    const stray = [...shapes.keys()].find((name) => !inputs.some((input) => input.name === name));
    if (stray !== undefined) throw new UsageError(`--shape: the model has no input ${stray}; it has ${names(inputs)}`);
    const ranges = new Ranges(model);
    for (const { name } of inputs) this.#uses.set(name, ranges.uses(name));
  }

  get assumed(): string[] {
    return [...this.#assumed].map(([name, { what, sizes }]) => `${name}: ${what}${[...sizes].join(', ')}`);
  }

  draw(count: number): Feed[] {
    return Array.from({ length: count }, (_, index) => this.#feed(index / Math.max(1, count - 1)));
  }

  /** `part` goes from 0 to 1 as feeds are drawn. */
  #feed(part: number): Feed {
    const { inputs } = this.model;
    const sizes = new Sizes(TOKENS + MORE_TOKENS[this.#drawn++ % MORE_TOKENS.length]);
    for (const input of inputs) sizes.bind(input, this.shapes.get(input.name));
    const shapes = inputs.map((input) => this.shapes.get(input.name) ?? input.shape.map((_, axis) => sizes.of(input, axis)));
    const feed: Feed = new Map();
    for (const [index, input] of inputs.entries()) {
      const shape = shapes[index];
      if (elements(shape) > MAX_ELEMENTS) {
        throw new CalibrationError(`input ${input.name}: ${shape.join('x')} is more than ${MAX_ELEMENTS} elements`);
      }
      const { what, value } = this.#numbers(input, shape, sizes.longest ?? shapes[0].at(-1) ?? 1, part);
      const numbers = Float64Array.from({ length: elements(shape) }, (_, at) => value(at));
      feed.set(input.name, typed(input.name, input.type, shape, numbers));
      this.#assume(input.name, `${what}, `, shape.join('x') || 'scalar');
    }
    for (const [symbol, size] of sizes.bound) this.#assume(`size ${symbol}`, '', `${size}`);
    return feed;
  }

  #assume(name: string, what: string, size: string) {
    const known = this.#assumed.get(name) ?? { what, sizes: new Set() };
    known.sizes.add(size);
    this.#assumed.set(name, known);
  }

  #numbers({ name, type }: Value, shape: number[], longest: number, part: number): Numbers {
    const constant = (what: string, number: number) => ({ what, value: () => number });
    if (/mask/i.test(name)) return constant('ones', 1);
    if (type === 'BOOL') return constant('false', 0);
    if (isCache(name)) return constant('zeros', 0);
    if (type !== undefined && isFloat(type)) return { what: 'normal', value: () => this.random.normal() };
    const { range, numeric } = this.#uses.get(name)!;
    if (/position/i.test(name)) return counting(shape.at(-1) ?? 1, range?.end, part);
    if (range) {
      const draw = this.#deck(name, range.end - range.least);
      const from = range.least === 0 ? '' : `from ${range.least} and `;
      return { what: `uniform ${from}below ${range.end}, ${range.of}`, value: () => range.least + draw() };
    }
    if (/type|segment/i.test(name)) return constant('zeros', 0);
    if (/len(gth)?s?$/i.test(name)) return constant('the longest size', longest);
    if (numeric && elements(shape) > 1) return this.#quantities(type);
    return constant('zeros, as nothing tells what it may hold', 0);
  }

  /** Such as pixels and bytes. */
  #quantities(type: StoredType | undefined): Numbers {
    const [least, end] = type === 'I8' ? [-128, 128] : [0, 256];
    return {
      what: `uniform from ${least} and below ${end}, being quantities`,
      value: () => least + this.random.below(end - least),
    };
  }

  /** Draws each whole number below `size` once before it draws one twice. */
  #deck(name: string, size: number): () => number {
    if (size > MAX_DECK) return () => this.random.below(size);
    let deck = this.#decks.get(name) ?? new Uint32Array();
    return () => {
      if (deck.length === 0) deck = shuffled(size, this.random);
      const drawn = deck[0];
      deck = deck.subarray(1);
      this.#decks.set(name, deck);
      return drawn;
    };
  }
}

interface Numbers {
  what: string;
  value: (index: number) => number;
}

/** Counting starts at 0 first and ends at the last row last, so that later rows are met too. */
function counting(length: number, rows: number | undefined, part: number): Numbers {
  const start = rows === undefined ? 0 : Math.floor(Math.max(0, rows - length) * part);
  const value = (index: number) => (start + (index % length)) % (rows ?? Infinity);
  return { what: rows === undefined ? 'counting up' : `counting up below ${rows}`, value };
}

function shuffled(size: number, random: Random): Uint32Array<ArrayBuffer> {
  const numbers = Uint32Array.from({ length: size }, (_, index) => index);
  for (let last = size - 1; last > 0; last--) {
    const other = random.below(last + 1);
    [numbers[last], numbers[other]] = [numbers[other], numbers[last]];
  }
  return numbers;
}

/** The sizes that a model leaves open; the same for all that have one name. */
class Sizes {
  readonly bound = new Map<string, number>();

  constructor(readonly tokens: number) {}

  /** The largest of them. */
  get longest(): number | undefined {
    return this.bound.size > 0 ? Math.max(...this.bound.values()) : undefined;
  }

  /** Takes over the sizes that an input is given. */
  bind({ shape }: Value, given: number[] | undefined) {
    for (const [axis, dim] of shape.entries()) {
      if (given?.[axis] !== undefined && typeof dim === 'string' && isSymbol(dim)) this.bound.set(dim, given[axis]);
    }
  }

  of(input: Value, axis: number): number {
    const dim = input.shape[axis];
    if (typeof dim === 'number') return dim;
    if (dim === '') return this.#guess(input, axis);
    if (isSymbol(dim)) return this.#symbol(dim, () => this.#guess(input, axis));
    const part = (words: string) => (/^\d+$/.test(words) ? Number(words) : this.#symbol(words, () => this.tokens));
    const product = (words: string) => words.split('*').reduce((size, factor) => size * part(factor.trim()), 1);
    return dim.split('+').reduce((size, term) => size + product(term), 0);
  }

  #symbol(name: string, guess: () => number): number {
    const size = this.bound.get(name) ?? meaning(name.toLowerCase(), this.tokens) ?? guess();
    this.bound.set(name, size);
    return size;
  }

  /** By where it stands. */
  #guess({ shape, type, name }: Value, axis: number): number {
    if (isCache(name) && shape.length === 4 && axis === 2) return 0;
    if (axis === 0) return 1;
    if (type !== undefined && isFloat(type)) {
      if (shape.length === 4 && axis === 1) return 3;
      if (shape.length === 4) return typeof shape[axis === 2 ? 3 : 2] === 'number' ? IMAGE_WIDTH : IMAGE_SIDE;
      if (shape.length === 2) return AUDIO_LENGTH;
    }
    return this.tokens;
  }
}

function isSymbol(dim: string): boolean {
  return dim !== '' && !/[+*]/.test(dim);
}

/** What the name of a symbolic size says. */
function meaning(words: string, tokens: number): number | undefined {
  if (/batch/.test(words)) return 1;
  if (/past|cache/.test(words) && !/total/.test(words)) return 0;
  if (/channel/.test(words)) return 3;
  if (/height|width/.test(words)) return IMAGE_SIDE;
  if (/samples|audio/.test(words)) return AUDIO_LENGTH;
  return /seq|len|token|text|frame|time/.test(words) ? tokens : undefined;
}

function isCache(name: string): boolean {
  return /past|cache/i.test(name);
}
