// What a worker says of tensors, however many -> messages, none of which takes the page long to receive.

const TENSORS_MAX = 500;

/** @param {object[]} tensors */
export function postTensors(tensors) {
  for (let start = 0; start < tensors.length; start += TENSORS_MAX) postMessage({ tensors: tensors.slice(start, start + TENSORS_MAX) });
}
