// Model -> which whole numbers its inputs may hold, so that random ones are valid and reach whatever can be looked up by them.
import type { Model } from './model.js';
import { FLOAT, type Node, type TensorProto } from './onnx.js';

/** Whole numbers from `least` on, below `end`. */
export interface Range {
  least: number;
  end: number;
  /** What they look up or are compared with. */
  of: string;
}

export interface Uses {
  range?: Range;
  /** Whether they become floats: then they are quantities rather than indices. */
  numeric: boolean;
}

/** A value that holds scale · x + offset, of the numbers x of an input. */
interface Reached {
  name: string;
  scale: number;
  offset: number;
}

/** These give what they are given; the first operand, or any. */
const COPIES = [
  'Cast',
  'Identity',
  'Reshape',
  'Squeeze',
  'Unsqueeze',
  'Transpose',
  'Flatten',
  'Slice',
  'Expand',
  'Tile',
  'Split',
  'Clip',
  'Mod',
];
const MERGES = ['Concat', 'Where', 'Min', 'Max', 'Sum'];
/** Operators whose result is as long along each axis as what they are given. */
const SAME_SHAPE = ['Identity', 'Cast', 'DequantizeLinear'];
const FLOAT_TYPES = [FLOAT, 10, 11, 16];
/** Most nodes between a constant and what is looked up in it. */
const MAX_STEPS = 8;

export class Ranges {
  readonly #consumers = new Map<string, Node[]>();
  readonly #producers = new Map<string, Node>();

  constructor(readonly model: Model) {
    for (const node of [...model.nodes, ...model.innerNodes]) {
      for (const input of new Set(node.inputs)) {
        this.#consumers.set(input, [...(this.#consumers.get(input) ?? []), node]);
      }
      for (const output of node.outputs) this.#producers.set(output, node);
    }
  }

  /** What the graph does with the integers of an input. */
  uses(input: string): Uses {
    const uses: Uses = { numeric: false };
    const seen = new Set([input]);
    const pending: Reached[] = [{ name: input, scale: 1, offset: 0 }];
    for (let value = pending.pop(); value !== undefined; value = pending.pop()) {
      for (const node of this.#consumers.get(value.name) ?? []) {
        uses.range = intersection(uses.range, unscaled(this.#allowed(node, value.name), value));
        uses.numeric ||= node.op === 'Cast' && FLOAT_TYPES.includes(node.attributes.get('to')?.integer ?? 0);
        const next = this.#followed(node, value);
        for (const name of next ? node.outputs : []) {
          if (!seen.has(name)) pending.push({ ...next!, name });
          seen.add(name);
        }
      }
    }
    return uses;
  }

  /** What a node may be given as this operand. */
  #allowed({ op, inputs, attributes }: Node, name: string): Range | undefined {
    const axis = attributes.get('axis')?.integer ?? 0;
    const rows = (table: string, axis: number): Range | undefined => {
      const end = this.#shape(table)?.at(axis);
      return end ? { least: 0, end, of: `the rows of ${this.#origin(table)}` } : undefined;
    };
    if (['Gather', 'GatherElements'].includes(op) && inputs[1] === name) return rows(inputs[0], axis);
    if (op === 'GatherND' && inputs[1] === name) return rows(inputs[0], 0);
    if (op === 'EmbedLayerNormalization' && inputs[0] === name) return rows(inputs[2], 0);
    if (op === 'EmbedLayerNormalization' && inputs[1] === name) return rows(inputs[4], 0);
    if (op === 'OneHot' && inputs[0] === name) {
      const [end] = this.#integers(inputs[1]);
      return end > 0 ? { least: 0, end, of: 'what is encoded one-hot' } : undefined;
    }
    if (op !== 'Equal') return undefined;
    const numbers = [...new Set(this.#integers(inputs[0] === name ? inputs[1] : inputs[0]))].sort((a, b) => a - b);
    const [least, last] = [numbers[0], numbers.at(-1)!];
    const all = numbers.length > 1 && last - least === numbers.length - 1;
    return all ? { least, end: last + 1, of: 'what they are compared with' } : undefined;
  }

  /** What a node makes of a value, if that holds its numbers still. */
  #followed({ op, inputs }: Node, value: Reached): Reached | undefined {
    if (COPIES.includes(op)) return inputs[0] === value.name ? value : undefined;
    if (MERGES.includes(op)) return value;
    if (!['Add', 'Sub', 'Mul'].includes(op)) return undefined;
    const [number, ...others] = this.#integers(inputs[0] === value.name ? inputs[1] : inputs[0]);
    // Sums with what is not known here are followed as if it were nothing: often it is, as in padding.
    if (number === undefined || others.length > 0) return op === 'Mul' ? undefined : value;
    if (op === 'Mul') return number > 0 ? { ...value, scale: value.scale * number, offset: value.offset * number } : undefined;
    if (op === 'Sub' && inputs[0] !== value.name) return undefined;
    return { ...value, offset: value.offset + (op === 'Add' ? number : -number) };
  }

  #integers(name: string): number[] {
    const constant = this.#constant(name);
    return constant?.type && !constant.isFloat && !constant.isExternal ? constant.integers() : [];
  }

  #constant(name: string): TensorProto | undefined {
    return this.model.constants.get(this.#origin(name));
  }

  #shape(name: string, steps = MAX_STEPS): number[] | undefined {
    const constant = this.model.constants.get(name);
    if (constant) return constant.shape;
    const node = this.#producers.get(name);
    if (!node || steps === 0) return undefined;
    if (SAME_SHAPE.includes(node.op)) return this.#shape(node.inputs[0], steps - 1);
    if (node.op !== 'Transpose') return undefined;
    const shape = this.#shape(node.inputs[0], steps - 1);
    return shape && (node.attributes.get('perm')?.integers.map((axis) => shape[axis]) ?? shape.toReversed());
  }

  /** The constant that a value is made of. */
  #origin(name: string, steps = MAX_STEPS): string {
    const node = this.#producers.get(name);
    const follows = node && node.op !== 'Constant' && steps > 0 && [...SAME_SHAPE, 'Transpose'].includes(node.op);
    return follows ? this.#origin(node.inputs[0], steps - 1) : name;
  }
}

/** The numbers x for which scale · x + offset lies in a range. */
function unscaled(range: Range | undefined, { scale, offset }: Reached): Range | undefined {
  if (!range) return undefined;
  const [least, last] = [Math.ceil((range.least - offset) / scale), Math.floor((range.end - 1 - offset) / scale)];
  return { ...range, least, end: last + 1 };
}

function intersection(one: Range | undefined, other: Range | undefined): Range | undefined {
  if (!one || !other) return one ?? other;
  const both = {
    least: Math.max(one.least, other.least),
    end: Math.min(one.end, other.end),
    of: (other.end < one.end ? other : one).of,
  };
  // An index that is wrapped around where it is negative may be both; whole numbers from 0 on are the usual.
  return both.end > both.least ? both : one.least < 0 ? other : one;
}
