// Random weights of a small llama, and a tokenizer of ASCII, so that whatever it says is text -> a GGUF file that llama.cpp takes.

const ALIGNMENT = 32;
const [U32, F32, STRING, ARRAY] = [4, 6, 8, 9];
const I32 = 5;
/** Kinds of tokens: those of text, unknown, of control, and single bytes. */
const [NORMAL, UNKNOWN, CONTROL, BYTE] = [1, 2, 3, 6];

export function tinyLlama({ layers = 2, width = 64, heads = 4, hidden = 128, context = 128 } = {}) {
  const tokens = [
    ['<unk>', UNKNOWN],
    ['<s>', CONTROL],
    ['</s>', CONTROL],
    ...Array.from({ length: 128 }, (_, byte) => [`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`, BYTE]),
    ['▁', NORMAL],
    ...Array.from('abcdefghijklmnopqrstuvwxyz', (letter) => [letter, NORMAL]),
  ];
  const metadata = [
    ['general.architecture', STRING, 'llama'],
    ['general.name', STRING, 'random'],
    ['llama.block_count', U32, layers],
    ['llama.context_length', U32, context],
    ['llama.embedding_length', U32, width],
    ['llama.feed_forward_length', U32, hidden],
    ['llama.attention.head_count', U32, heads],
    ['llama.attention.layer_norm_rms_epsilon', F32, 1e-5],
    ['llama.rope.dimension_count', U32, width / heads],
    ['tokenizer.ggml.model', STRING, 'llama'],
    ['tokenizer.ggml.tokens', ARRAY, [STRING, tokens.map(([token]) => token)]],
    ['tokenizer.ggml.scores', ARRAY, [F32, tokens.map((_, index) => -index)]],
    ['tokenizer.ggml.token_type', ARRAY, [I32, tokens.map(([, kind]) => kind)]],
    ['tokenizer.ggml.bos_token_id', U32, 1],
    ['tokenizer.ggml.eos_token_id', U32, 2],
    ['tokenizer.ggml.unknown_token_id', U32, 0],
  ];
  const layer = (index) => [
    [`blk.${index}.attn_norm.weight`, [width]],
    ...['q', 'k', 'v', 'output'].map((name) => [`blk.${index}.attn_${name}.weight`, [width, width]]),
    [`blk.${index}.ffn_norm.weight`, [width]],
    [`blk.${index}.ffn_gate.weight`, [width, hidden]],
    [`blk.${index}.ffn_up.weight`, [width, hidden]],
    [`blk.${index}.ffn_down.weight`, [hidden, width]],
  ];
  const shapes = [
    ['token_embd.weight', [width, tokens.length]],
    ...Array.from({ length: layers }, (_, index) => layer(index)).flat(),
    ['output_norm.weight', [width]],
    ['output.weight', [width, tokens.length]],
  ];
  return ggufFile(metadata, shapes);
}

/** Shapes with the fastest dimension first. Vectors are ones. */
function ggufFile(metadata, shapes) {
  const random = uniform();
  let offset = 0;
  const infos = [];
  const data = [];
  for (const [name, shape] of shapes) {
    const length = shape.reduce((product, side) => product * side);
    const spread = Math.sqrt(3 / shape[0]) * 2;
    const values = Float32Array.from({ length }, () => (shape.length === 1 ? 1 : random() * spread));
    infos.push(string(name), u32(shape.length), ...shape.map(u64), u32(0), u64(offset));
    data.push(Buffer.from(values.buffer), padding(values.byteLength));
    offset += values.byteLength + padding(values.byteLength).length;
  }
  const fields = metadata.flatMap(([key, type, content]) => [string(key), u32(type), value(type, content)]);
  const head = Buffer.concat([Buffer.from('GGUF'), u32(3), u64(shapes.length), u64(metadata.length), ...fields, ...infos]);
  return Buffer.concat([head, padding(head.length), ...data]);
}

function value(type, content) {
  if (type === STRING) return string(content);
  if (type === ARRAY) return Buffer.concat([u32(content[0]), u64(content[1].length), ...content[1].map((item) => value(content[0], item))]);
  return type === F32 ? Buffer.from(Float32Array.of(content).buffer) : u32(content);
}

function string(text) {
  const bytes = Buffer.from(text);
  return Buffer.concat([u64(bytes.length), bytes]);
}

function u32(number) {
  return Buffer.from(Uint32Array.of(number).buffer);
}

function u64(number) {
  return Buffer.from(BigUint64Array.of(BigInt(number)).buffer);
}

function padding(length) {
  return Buffer.alloc((ALIGNMENT - (length % ALIGNMENT)) % ALIGNMENT);
}

/** Numbers in −1…1, the same ones on every run. */
function uniform() {
  let state = 1;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 31 - 1;
  };
}
