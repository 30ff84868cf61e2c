// Descriptions of small graphs -> ONNX files.

export const [FLOAT, UINT8, INT64, BOOL, FLOAT16] = [1, 2, 7, 9, 10];

export function modelFile({ nodes, tensors = [], inputs, outputs, irVersion = 8, opset = 13 }) {
  const graph = subgraph({ nodes, tensors, inputs, outputs });
  const opsets = [
    ['', opset],
    ['com.example', 1],
  ].map(([domain, version]) => [8, message([1, domain], [2, version])]);
  return message([1, irVersion], [7, graph], ...opsets);
}

export function subgraph({ nodes, tensors = [], inputs = [], outputs }) {
  return message(
    ...nodes.map((node) => [1, node]),
    [2, 'graph'],
    ...tensors.map((tensor) => [5, tensor]),
    ...inputs.map((input) => [11, input]),
    ...outputs.map((output) => [12, output]),
  );
}

/** Repeatable, roughly normal, and exact in float32. */
export function values(seed, count) {
  let state = BigInt(seed) * 0x9e3779b97f4a7c15n;
  const next = () => {
    state = BigInt.asUintN(64, state * 6364136223846793005n + 1442695040888963407n);
    return Number(state >> 40n) / 2 ** 24 - 0.5;
  };
  return Array.from({ length: count }, () => Math.fround(next() + next() + next()));
}

export function node(op, inputs, outputs, attributes = [], domain = '') {
  return message(
    ...inputs.map((name) => [1, name]),
    ...outputs.map((name) => [2, name]),
    [4, op],
    ...attributes.map((each) => [5, each]),
    [7, domain],
  );
}

export function integer(name, value) {
  return message([1, name], [3, value], [20, 2]);
}

export function integers(name, values) {
  return message([1, name], ...values.map((value) => [8, value]), [20, 7]);
}

export function graphAttribute(name, graph) {
  return message([1, name], [6, graph], [20, 5]);
}

export function tensorAttribute(tensor) {
  return message([1, 'value'], [5, tensor], [20, 4]);
}

export function tensor(name, shape, data) {
  return message(...shape.map((size) => [1, size]), [2, FLOAT], [8, name], [9, new Uint8Array(Float32Array.from(data).buffer)]);
}

export function wholeTensor(name, shape, data) {
  return message(...shape.map((size) => [1, size]), [2, INT64], [8, name], [9, new Uint8Array(BigInt64Array.from(data, BigInt).buffer)]);
}

export function boolTensor(name, data) {
  return message([2, BOOL], [8, name], [9, Uint8Array.of(Number(data))]);
}

export function externalTensor(name, shape, location, offset) {
  const entries = Object.entries({ location, offset: `${offset}` }).map((entry) => [13, message([1, entry[0]], [2, entry[1]])]);
  return message(...shape.map((size) => [1, size]), [2, FLOAT], [8, name], ...entries, [14, 1]);
}

export function value(name, type, shape) {
  const dims = shape.map((size) => [1, typeof size === 'number' ? message([1, size]) : message([2, size])]);
  return message([1, name], [2, message([1, message([1, type], [2, message(...dims)])])]);
}

/** Protobuf: numbers as varints, everything else with its length. */
export function message(...fields) {
  return Buffer.concat(
    fields.flatMap(([number, value]) => {
      if (typeof value === 'number') return [varint(number * 8), varint(value)];
      const bytes = Buffer.from(value);
      return [varint(number * 8 + 2), varint(bytes.length), bytes];
    }),
  );
}

function varint(value) {
  const bytes = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) + 128);
  return Buffer.from([...bytes, value]);
}
