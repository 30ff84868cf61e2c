// Weights of a BERT -> an ONNX model of it, as transformers.js runs it. Also, a small one that nobody trained, with its tokenizer.
import { FLOAT, INT64, integer, integers, message, modelFile, node, tensor, value, values, wholeTensor } from './onnx.mjs';

/** Of operators: `LayerNormalization` came with it. */
const OPSET = 17;
export const SMALL = { hidden_size: 64, num_hidden_layers: 2, num_attention_heads: 4, intermediate_size: 128, max_position_embeddings: 64, vocab_size: 512 };

/**
 * `weights(name)` gives `{ shape, data }` by the name that the tensor has in PyTorch, where matrices of linear layers lie as
 * [outputs, inputs]. `store(name, shape, data, graph)` makes a tensor of the model of them, and may add others, and nodes, to the graph.
 */
export function bertModel(config, weights, store = tensor) {
  const nodes = [];
  const tensors = [];
  const add = (op, inputs, attributes, outputs = [`v${nodes.length}`]) => {
    nodes.push(node(op, inputs, outputs, attributes));
    return outputs[0];
  };
  const constant = (name, shape, data) => (tensors.push(store(name, shape, data, { nodes, tensors })), name);
  const scalar = (number) => (tensors.push(tensor(`c${tensors.length}`, [], [number])), `c${tensors.length - 1}`);
  const whole = (numbers) => (tensors.push(wholeTensor(`i${tensors.length}`, [numbers.length], numbers)), `i${tensors.length - 1}`);
  const weight = (name) => constant(name, weights(name).shape, weights(name).data);
  const linear = (input, name) => {
    const { shape: [outputs, inputs], data } = weights(`${name}.weight`);
    const transposed = Float32Array.from(data, (_, at) => data[(at % outputs) * inputs + Math.floor(at / outputs)]);
    const product = add('MatMul', [input, constant(`${name}.weight`, [inputs, outputs], transposed)]);
    return add('Add', [product, weight(`${name}.bias`)]);
  };
  const normalized = (input, name) => add('LayerNormalization', [input, weight(`${name}.weight`), weight(`${name}.bias`)], [epsilon(config)]);
  const { hidden_size: hidden, num_attention_heads: heads } = config;
  const size = hidden / heads;

  const length = add('Gather', [add('Shape', ['input_ids']), whole([1])], [integer('axis', 0)]);
  const positions = add('Range', [...[whole([0]), length, whole([1])].map((one) => add('Squeeze', [one]))]);
  const words = add('Gather', [weight('embeddings.word_embeddings.weight'), 'input_ids']);
  const types = add('Gather', [weight('embeddings.token_type_embeddings.weight'), 'token_type_ids']);
  const places = add('Gather', [weight('embeddings.position_embeddings.weight'), positions]);
  let state = normalized(add('Add', [add('Add', [words, types]), places]), 'embeddings.LayerNorm');

  const masked = add('Sub', [scalar(1), add('Cast', ['attention_mask'], [integer('to', FLOAT)])]);
  const bias = add('Mul', [add('Unsqueeze', [masked, whole([1, 2])]), scalar(-10_000)]);
  const split = (input, order) => add('Transpose', [add('Reshape', [input, whole([0, 0, heads, size])])], [integers('perm', order)]);
  for (let layer = 0; layer < config.num_hidden_layers; layer++) {
    const path = `encoder.layer.${layer}`;
    const [query, key, values] = ['query', 'key', 'value'].map((part) => linear(state, `${path}.attention.self.${part}`));
    const scores = add('Mul', [add('MatMul', [split(query, [0, 2, 1, 3]), split(key, [0, 2, 3, 1])]), scalar(size ** -0.5)]);
    const attention = add('Softmax', [add('Add', [scores, bias])]);
    const context = add('Transpose', [add('MatMul', [attention, split(values, [0, 2, 1, 3])])], [integers('perm', [0, 2, 1, 3])]);
    const mixed = linear(add('Reshape', [context, whole([0, 0, hidden])]), `${path}.attention.output.dense`);
    state = normalized(add('Add', [mixed, state]), `${path}.attention.output.LayerNorm`);
    const inner = linear(state, `${path}.intermediate.dense`);
    const error = add('Erf', [add('Mul', [inner, scalar(Math.SQRT1_2)])]);
    const gelu = add('Mul', [add('Mul', [inner, scalar(0.5)]), add('Add', [error, scalar(1)])]);
    state = normalized(add('Add', [linear(gelu, `${path}.output.dense`), state]), `${path}.output.LayerNorm`);
  }
  add('Identity', [state], [], ['last_hidden_state']);

  const shape = ['batch', 'length'];
  const inputs = ['input_ids', 'attention_mask', 'token_type_ids'].map((name) => value(name, INT64, shape));
  return modelFile({ nodes, tensors, inputs, outputs: [value('last_hidden_state', FLOAT, [...shape, hidden])], opset: OPSET });
}

function epsilon({ layer_norm_eps: eps = 1e-12 }) {
  // A float attribute: field 2, of four bytes, which `message` does not write.
  const bytes = new Uint8Array(Float32Array.of(eps).buffer);
  return Buffer.concat([message([1, 'epsilon']), Uint8Array.of(2 * 8 + 5), bytes, message([20, 1])]);
}

/** The files of a repository that transformers.js takes a model from. */
export function smallBert() {
  const letters = Array.from('abcdefghijklmnopqrstuvwxyz0123456789.,!?');
  const words = ['the', 'ducks', 'mind', 'quince', 'honey', 'light', 'house', 'row'];
  const tokens = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]', ...words, ...letters, ...letters.map((letter) => `##${letter}`)];
  const special = (content) => ({ id: tokens.indexOf(content), content, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true });
  const piece = (content) => ({ SpecialToken: { id: content, type_id: 0 } });
  const ids = (content) => [content, { id: content, ids: [tokens.indexOf(content)], tokens: [content] }];
  const sequence = (id) => ({ Sequence: { id, type_id: 0 } });
  const tokenizer = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: tokens.slice(0, 5).map(special),
    normalizer: { type: 'BertNormalizer', clean_text: true, handle_chinese_chars: true, strip_accents: null, lowercase: true },
    pre_tokenizer: { type: 'BertPreTokenizer' },
    post_processor: {
      type: 'TemplateProcessing',
      single: [piece('[CLS]'), sequence('A'), piece('[SEP]')],
      pair: [piece('[CLS]'), sequence('A'), piece('[SEP]'), sequence('B'), piece('[SEP]')],
      special_tokens: Object.fromEntries(['[CLS]', '[SEP]'].map(ids)),
    },
    decoder: { type: 'WordPiece', prefix: '##', cleanup: true },
    model: { type: 'WordPiece', unk_token: '[UNK]', continuing_subword_prefix: '##', max_input_chars_per_word: 100, vocab: Object.fromEntries(tokens.map((token, id) => [token, id])) },
  };
  const tokens4 = { unk_token: '[UNK]', sep_token: '[SEP]', pad_token: '[PAD]', cls_token: '[CLS]', mask_token: '[MASK]' };
  const json = (object) => Buffer.from(JSON.stringify(object, null, 2));
  return {
    'config.json': json({ model_type: 'bert', architectures: ['BertModel'], hidden_act: 'gelu', type_vocab_size: 2, ...SMALL }),
    'tokenizer.json': json(tokenizer),
    'tokenizer_config.json': json({ tokenizer_class: 'BertTokenizer', do_lower_case: true, model_max_length: 64, ...tokens4 }),
    'onnx/model.onnx': bertModel(SMALL, untrained()),
  };
}

/** Weights of the small one. */
export function untrained() {
  const { hidden_size: hidden, intermediate_size: inner, vocab_size: words, max_position_embeddings: places } = SMALL;
  const shapeOf = (name) => {
    if (/LayerNorm/.test(name)) return [hidden];
    if (/embeddings/.test(name)) return [/word/.test(name) ? words : /position/.test(name) ? places : 2, hidden];
    const [outputs, inputs] = /intermediate/.test(name) ? [inner, hidden] : /layer\.\d+\.output/.test(name) ? [hidden, inner] : [hidden, hidden];
    return /bias$/.test(name) ? [outputs] : [outputs, inputs];
  };
  const seed = (name) => Array.from(name).reduce((sum, letter) => (31 * sum + letter.charCodeAt(0)) % 65_521, 7);
  return (name) => {
    const shape = shapeOf(name);
    const data = values(seed(name), shape.reduce((product, size) => product * size));
    return { shape, data: /LayerNorm.weight/.test(name) ? data.map((each) => 1 + each / 10) : data.map((each) => each / 4) };
  };
}
