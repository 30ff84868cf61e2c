// Random weights of two dense layers -> a TFLite model.
import { Builder } from 'flatbuffers';

const FULLY_CONNECTED = 9;
const FULLY_CONNECTED_OPTIONS = 8;
const SHAPES = { input: [1, 64], weights1: [32, 64], bias1: [32], hidden: [1, 32], weights2: [8, 32], bias2: [8], output: [1, 8] };
const LAYERS = [
  ['input', 'weights1', 'bias1', 'hidden'],
  ['hidden', 'weights2', 'bias2', 'output'],
];
const NAMES = Object.keys(SHAPES);
const CONSTANTS = LAYERS.flatMap(([, weights, bias]) => [weights, bias]);
/** Most fields of a table, as far as they are set here. */
const FIELDS = 9;

export function denseModel() {
  const random = uniform();
  const builder = new Builder();
  const table = (...fields) => tableOf(builder, fields);
  const string = (text) => builder.createString(text);
  const ints = (array) => vectorOf(builder, array, 4, 4, (int) => builder.addInt32(int));
  const tables = (array) => vectorOf(builder, array, 4, 4, (offset) => builder.addOffset(offset));
  const floats = (shape) => {
    const length = shape.reduce((product, side) => product * side);
    const bytes = new Uint8Array(Float32Array.from({ length }, random).buffer);
    return vectorOf(builder, [...bytes], 1, 16, (byte) => builder.addInt8(byte));
  };
  // A tensor without a buffer of its own has the first, which is empty.
  const tensor = (name) => {
    return table([0, 'Offset', ints(SHAPES[name])], [2, 'Int32', CONSTANTS.indexOf(name) + 1], [3, 'Offset', string(name)]);
  };
  const operator = ([x, weights, bias, y]) => {
    const [inputs, outputs] = [[x, weights, bias], [y]].map((names) => ints(names.map((name) => NAMES.indexOf(name))));
    return table([1, 'Offset', inputs], [2, 'Offset', outputs], [3, 'Int8', FULLY_CONNECTED_OPTIONS], [4, 'Offset', table()]);
  };
  const [inputs, outputs] = ['input', 'output'].map((name) => ints([NAMES.indexOf(name)]));
  const [tensors, operators] = [tables(NAMES.map(tensor)), tables(LAYERS.map(operator))];
  const graph = table([0, 'Offset', tensors], [1, 'Offset', inputs], [2, 'Offset', outputs], [3, 'Offset', operators]);
  const code = table([0, 'Int8', FULLY_CONNECTED], [3, 'Int32', FULLY_CONNECTED]);
  const buffers = [table(), ...CONSTANTS.map((name) => table([0, 'Offset', floats(SHAPES[name])]))];
  const [codes, graphs, data] = [[code], [graph], buffers].map(tables);
  builder.finish(table([0, 'Int32', 3], [1, 'Offset', codes], [2, 'Offset', graphs], [4, 'Offset', data]), 'TFL3');
  return builder.asUint8Array();
}

/** Of fields as their place in the schema, their kind and their value. */
function tableOf(builder, fields) {
  builder.startObject(FIELDS);
  for (const [place, kind, value] of fields) {
    builder[`add${kind}`](value);
    builder.slot(place);
  }
  return builder.endObject();
}

function vectorOf(builder, elements, elementBytes, alignment, add) {
  builder.startVector(elementBytes, elements.length, alignment);
  elements.toReversed().forEach(add);
  return builder.endVector();
}

/** Numbers in −1…1, the same ones on every run. */
function uniform() {
  let state = 1;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  };
}
