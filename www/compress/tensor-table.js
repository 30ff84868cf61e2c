// What became of each tensor -> a table that can be sorted and filtered, and shows so many rows at a time that none waits for it.
import { formatError, formatSize } from './numbers.js';

/**
 * @typedef {object} Row
 * @property {string} name
 * @property {string} dtype
 * @property {number[]} shape
 * @property {number} before bytes
 * @property {number} [after] bytes; undefined if it shares those of others
 * @property {number} [bits] for each weight
 * @property {number} error relative, 0 if exact
 */

const ROWS_SHOWN = 40;
const ROWS_MORE = 100;

/** In order. Numbers are sorted downwards first. */
const COLUMNS = [
  { key: 'name', title: 'Tensor', show: ({ name }) => name },
  { key: 'dtype', title: 'Type', show: ({ dtype }) => dtype },
  { key: 'shape', title: 'Shape', show: ({ shape }) => shape.join(' × ') || 'scalar', value: ({ shape }) => shape.reduce((a, b) => a * b, 1) },
  { key: 'before', title: 'Before', number: true, show: ({ before }) => formatSize(before) },
  { key: 'after', title: 'After', number: true, show: ({ after }) => (after === undefined ? 'shared' : formatSize(after)) },
  { key: 'bits', title: 'Bits/weight', number: true, show: ({ bits }) => (bits === undefined ? '–' : bits.toFixed(2)) },
  { key: 'error', title: 'Error', number: true, show: ({ error }) => formatError(error) },
];

/**
 * @param {import('mcwc/encoder').EncodeReport} report
 * @param {import('./verify-worker.js').Verified} verified
 * @returns {Row[]}
 */
export function tensorRows(report, verified) {
  const coded = new Map(report.tensors.map((tensor) => [tensor.name, tensor]));
  return verified.tensors.map(({ name, dtype, shape, bytes, error }) => {
    const { codedBytes, weights } = coded.get(name) ?? {};
    const bits = codedBytes === undefined || weights === 0 ? undefined : (8 * codedBytes) / weights;
    return { name, dtype, shape, before: bytes, after: codedBytes, bits, error };
  });
}

export class TensorTable {
  #rows;
  #sorted = { column: COLUMNS[3], descending: true };
  #filter = '';
  #shown = ROWS_SHOWN;
  #body = document.createElement('tbody');
  #heads = COLUMNS.map((column) => this.#head(column));
  #more = Object.assign(document.createElement('button'), { type: 'button', className: 'secondary more' });
  #count = Object.assign(document.createElement('p'), { className: 'count' });

  /** @param {Row[]} rows @param {HTMLElement} place */
  constructor(rows, place) {
    this.#rows = rows;
    const table = document.createElement('table');
    table.setAttribute('aria-labelledby', 'tensors-title');
    const head = table.createTHead().insertRow();
    head.append(...this.#heads);
    table.append(this.#body);
    this.#count.setAttribute('role', 'status');
    this.#more.addEventListener('click', () => {
      const next = this.#body.rows.length;
      this.#shown += ROWS_MORE;
      this.#show();
      this.#body.rows[next].tabIndex = -1;
      this.#body.rows[next].focus();
    });
    // Rows keep their roles where style sheets take the table apart, on a phone.
    for (const [element, role] of [[table, 'table'], [table.tHead, 'rowgroup'], [this.#body, 'rowgroup'], [head, 'row']]) {
      element.setAttribute('role', role);
    }
    place.replaceChildren(table, this.#count, this.#more);
    this.#show();
  }

  /** @param {string} text of names, in any case */
  filter(text) {
    this.#filter = text.toLowerCase();
    this.#shown = ROWS_SHOWN;
    this.#show();
  }

  #head(column) {
    const head = document.createElement('th');
    head.scope = 'col';
    head.setAttribute('role', 'columnheader');
    const button = Object.assign(document.createElement('button'), { type: 'button', textContent: column.title });
    head.classList.toggle('number', !!column.number);
    head.append(button);
    button.addEventListener('click', () => {
      const { column: before, descending } = this.#sorted;
      this.#sorted = { column, descending: column === before ? !descending : !!column.number };
      this.#show();
    });
    return head;
  }

  #show() {
    const { column, descending } = this.#sorted;
    COLUMNS.forEach((other, index) => {
      this.#heads[index].setAttribute('aria-sort', other !== column ? 'none' : descending ? 'descending' : 'ascending');
    });
    const value = column.value ?? ((row) => row[column.key]);
    const found = this.#rows.filter(({ name }) => name.toLowerCase().includes(this.#filter));
    found.sort((a, b) => compare(value(a), value(b)) * (descending ? -1 : 1));
    const shown = found.slice(0, this.#shown);
    this.#body.replaceChildren(...shown.map(rowElement));
    this.#more.hidden = shown.length === found.length;
    this.#more.textContent = `Show ${Math.min(ROWS_MORE, found.length - shown.length)} more`;
    this.#count.textContent = found.length === 0 ? 'No tensor has such a name.' : `${shown.length} of ${this.#rows.length} tensors`;
  }
}

/** What is not there comes before everything. */
function compare(a, b) {
  if (a === b) return 0;
  return a === undefined || a < b ? -1 : 1;
}

function rowElement(row) {
  const element = document.createElement('tr');
  element.setAttribute('role', 'row');
  element.append(
    ...COLUMNS.map((column, index) => {
      const cell = document.createElement(index === 0 ? 'th' : 'td');
      cell.setAttribute('role', index === 0 ? 'rowheader' : 'cell');
      if (index === 0) cell.scope = 'row';
      cell.className = column.number ? `number ${column.key}` : column.key;
      cell.dataset.title = column.title;
      cell.textContent = column.show(row);
      return cell;
    }),
  );
  return element;
}
