// The page: loads the variants in turn, has each embed the sentences, and shows what each finds.
import { formatBytes, formatMs } from '../format.js';
import { QUERIES, SENTENCES } from './sentences.js';

/** The smallest download first, as it can answer first; the last is what the others are compared with. */
const VARIANTS = [
  { name: 'mcwc archive', model: 'archive', dtype: 'fp32' },
  { name: 'int8', model: 'minilm', dtype: 'q8' },
  { name: 'float32', model: 'minilm', dtype: 'fp32' },
];
const SHOWN = 5;
const COMPARED = 10;
const MEGABITS = 10;

const [form, examples, status, alert, section] = ['search', 'examples', 'status', 'alert', 'variants'].map((id) => document.getElementById(id));
const button = form.querySelector('button');
const cards = VARIANTS.map(makeCard);
/** Those that can answer. */
const ready = [];

for (const query of QUERIES) {
  const example = Object.assign(document.createElement('button'), { type: 'button', className: 'secondary', textContent: query });
  example.addEventListener('click', () => {
    form.elements.query.value = query;
    form.requestSubmit();
  });
  examples.append(example);
}
form.addEventListener('submit', (event) => {
  event.preventDefault();
  search().catch(fail);
});

try {
  for (const card of cards) await prepare(card);
  status.textContent = `${SENTENCES.length} sentences, none of which has been sent anywhere.`;
  await compareAll();
} catch (error) {
  fail(error);
}

function fail(error) {
  status.textContent = '';
  alert.textContent = error.message;
  alert.hidden = false;
}

function makeCard(variant) {
  const article = document.getElementById('variant').content.cloneNode(true).firstElementChild;
  article.classList.toggle('ours', variant.model === 'archive');
  article.querySelector('h2').textContent = variant.name;
  article.querySelector('progress').setAttribute('aria-label', `${variant.name}: progress`);
  section.append(article);
  const show = (fact, text) => (article.querySelector(`[data-fact=${fact}]`).textContent = text);
  return { ...variant, article, show, list: article.querySelector('ol'), bar: article.querySelector('progress') };
}

async function prepare(card) {
  const worker = new Worker(new URL('./embedder.js', import.meta.url), { type: 'module' });
  card.ask = asker(card.name, worker, (progress) => (card.bar.value = progress));
  status.textContent = `${card.name}: downloading`;
  const { ms, bytes } = await card.ask({ type: 'load', model: card.model, dtype: card.dtype });
  card.show('bytes', formatBytes(bytes));
  card.show('network', formatMs((bytes * 8) / (MEGABITS * 1000)));
  card.show('ready', formatMs(ms));
  status.textContent = `${card.name}: embedding ${SENTENCES.length} sentences`;
  card.rows = await card.ask({ type: 'embed', texts: SENTENCES });
  card.bar.classList.add('done');
  ready.push(card);
  button.disabled = false;
  await search();
}

/** Requests to a worker, each with its answer. What goes wrong begins with the name. */
function asker(name, worker, onProgress) {
  const waiting = new Map();
  let last = 0;
  worker.onmessage = ({ data: { id, result, error, progress } }) => {
    if (progress !== undefined) return onProgress(progress);
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (error === undefined) resolve(result);
    else reject(new Error(`${name}: ${error}`));
  };
  worker.onerror = ({ message }) => waiting.forEach(({ reject }) => reject(new Error(`${name}: ${message}`)));
  return (request) =>
    new Promise((resolve, reject) => {
      waiting.set(++last, { resolve, reject });
      worker.postMessage({ id: last, ...request });
    });
}

async function search() {
  const query = form.elements.query.value.trim();
  if (query === '') return;
  for (const card of ready) {
    const [embedding] = await card.ask({ type: 'embed', texts: [query] });
    card.list.replaceChildren(...ranked(card, embedding).slice(0, SHOWN).map(itemOf));
  }
}

function itemOf({ index, similarity }) {
  const item = document.createElement('li');
  item.append(SENTENCES[index], Object.assign(document.createElement('span'), { textContent: similarity.toFixed(2) }));
  return item;
}

function ranked({ rows }, embedding) {
  const found = rows.map((row, index) => ({ index, similarity: row.reduce((sum, value, at) => sum + value * embedding[at], 0) }));
  return found.sort((a, b) => b.similarity - a.similarity);
}

/** How many of the ten best sentences for each example are those that float32 finds. */
async function compareAll() {
  const found = [];
  for (const card of cards) {
    const embeddings = await card.ask({ type: 'embed', texts: QUERIES });
    found.push(embeddings.map((embedding) => ranked(card, embedding).slice(0, COMPARED).map(({ index }) => index)));
  }
  for (const [at, card] of cards.entries()) {
    const shared = found[at].flatMap((best, query) => best.filter((index) => found.at(-1)[query].includes(index)));
    card.show('agreement', `${shared.length} of ${COMPARED * QUERIES.length}`);
  }
}
