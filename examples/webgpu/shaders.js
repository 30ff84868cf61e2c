// The operations of a BERT. Matrices of linear layers lie as [outputs, inputs], activations as [tokens, features].
export const SHADERS = /* wgsl */ `
struct Shape {
  length: u32,
  inputs: u32,
  outputs: u32,
  heads: u32,
  gelu: u32,
  epsilon: f32,
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read_write> made: array<f32>;
@group(0) @binding(2) var<storage, read> tokens: array<u32>;
@group(0) @binding(2) var<storage, read> x: array<f32>;
@group(0) @binding(3) var<storage, read> weight: array<f32>;
@group(0) @binding(4) var<storage, read> bias: array<f32>;
@group(0) @binding(5) var<storage, read> residual: array<f32>;

@compute @workgroup_size(64)
fn embed(@builtin(global_invocation_id) id: vec3<u32>) {
  if id.x >= arrayLength(&made) {
    return;
  }
  // Of words, of places, and of the first of two types.
  let feature = id.x % shape.inputs;
  made[id.x] = weight[tokens[id.x / shape.inputs] * shape.inputs + feature] + bias[id.x] + residual[feature];
}

@compute @workgroup_size(64)
fn linear(@builtin(global_invocation_id) id: vec3<u32>) {
  if id.x >= arrayLength(&made) {
    return;
  }
  let token = id.x / shape.outputs;
  let output = id.x % shape.outputs;
  var sum = bias[output];
  for (var i = 0u; i < shape.inputs; i++) {
    sum += x[token * shape.inputs + i] * weight[output * shape.inputs + i];
  }
  made[id.x] = select(sum, gelu(sum), shape.gelu > 0u);
}

fn gelu(value: f32) -> f32 {
  return 0.5 * value * (1.0 + erf(value * 0.70710678));
}

// Abramowitz and Stegun, 7.1.26: within 1.5e-7.
fn erf(value: f32) -> f32 {
  let t = 1.0 / (1.0 + 0.3275911 * abs(value));
  let series = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
  return sign(value) * (1.0 - series * exp(-value * value));
}

// One invocation a token.
@compute @workgroup_size(64)
fn normalize(@builtin(global_invocation_id) id: vec3<u32>) {
  if id.x >= shape.length {
    return;
  }
  let first = id.x * shape.inputs;
  var mean = 0.0;
  for (var i = first; i < first + shape.inputs; i++) {
    made[i] = x[i] + residual[i];
    mean += made[i] / f32(shape.inputs);
  }
  var variance = 0.0;
  for (var i = first; i < first + shape.inputs; i++) {
    variance += (made[i] - mean) * (made[i] - mean) / f32(shape.inputs);
  }
  for (var i = first; i < first + shape.inputs; i++) {
    made[i] = (made[i] - mean) * inverseSqrt(variance + shape.epsilon) * weight[i - first] + bias[i - first];
  }
}

// Queries, keys and values are x, weight and bias. The softmax is taken along the way, relative to the largest so far.
@compute @workgroup_size(64)
fn attend(@builtin(global_invocation_id) id: vec3<u32>) {
  if id.x >= arrayLength(&made) {
    return;
  }
  let feature = id.x % shape.inputs;
  let size = shape.inputs / shape.heads;
  let head = feature / size * size;
  let query = id.x - feature + head;
  var largest = -3e38;
  var sum = 0.0;
  var attended = 0.0;
  for (var token = 0u; token < shape.length; token++) {
    let row = token * shape.inputs;
    var score = 0.0;
    for (var i = 0u; i < size; i++) {
      score += x[query + i] * weight[row + head + i];
    }
    score *= inverseSqrt(f32(size));
    let larger = max(largest, score);
    let kept = exp(largest - larger);
    let share = exp(score - larger);
    sum = sum * kept + share;
    attended = attended * kept + share * bias[row + feature];
    largest = larger;
  }
  made[id.x] = attended / sum;
}

@compute @workgroup_size(64)
fn pool(@builtin(global_invocation_id) id: vec3<u32>) {
  if id.x >= shape.inputs {
    return;
  }
  var sum = 0.0;
  for (var token = 0u; token < shape.length; token++) {
    sum += x[token * shape.inputs + id.x];
  }
  made[id.x] = sum / f32(shape.length);
}
`;
