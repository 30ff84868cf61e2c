// What is picked or dropped -> the files of a model, as `encode` takes them, and what to call it.
import { keepFile } from '../offline.js';

/**
 * A name with slashes is a path in a folder, which is encoded as a whole.
 * @typedef {{name: string, data: Blob}} ModelFile
 * @typedef {object} Model
 * @property {string} name of the file or folder that stands for all of it
 * @property {ModelFile[]} files
 * @property {string[]} inputs files and folders, as a command line names them
 * @property {number} bytes
 */

/** What is no companion of another file. Shards, external data and configurations come after it. */
const MODEL = /\.(onnx|safetensors|safetensors\.index\.json|gguf|pt|pth|tflite|h5|keras)$|(^|\/)model\.json$|weights_manifest\.json$/i;

/** @param {string} name */
export function isOnnx(name) {
  return name.toLowerCase().endsWith('.onnx');
}

/** @param {ModelFile[]} files @returns {Model} */
export function modelOf(files) {
  const rank = ({ name }) => (MODEL.test(name) ? 0 : 1);
  const sorted = files.toSorted((a, b) => rank(a) - rank(b) || (a.name < b.name ? -1 : 1));
  const inputs = [...new Set(sorted.map(({ name }) => name.split('/')[0]))];
  return { name: inputs[0], files: sorted, inputs, bytes: sorted.reduce((sum, { data }) => sum + data.size, 0) };
}

/** @param {FileList} list @returns {ModelFile[]} */
export function pickedFiles(list) {
  return [...list].map((file) => ({ name: file.webkitRelativePath || file.name, data: file }));
}

/** @param {DataTransfer} transfer @returns {Promise<ModelFile[]>} with those in folders */
async function droppedFiles({ items }) {
  // What is dropped can be asked for only now, before anything is waited for.
  const dropped = [...items].filter(({ kind }) => kind === 'file').map((item) => [item.webkitGetAsEntry?.(), item.getAsFile()]);
  const found = dropped.map(([entry, file]) => (entry?.isDirectory ? filesIn(entry) : [{ name: file.name, data: file }]));
  return (await Promise.all(found)).flat();
}

/** @param {FileSystemDirectoryEntry} folder @returns {Promise<ModelFile[]>} */
async function filesIn(folder) {
  const reader = folder.createReader();
  const entries = [];
  for (;;) {
    // A hundred at a time, until there are none.
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (some.length === 0) break;
    entries.push(...some);
  }
  return (await Promise.all(entries.map((entry) => (entry.isDirectory ? filesIn(entry) : fileOf(entry))))).flat();
}

/** @param {FileSystemFileEntry} entry @returns {Promise<ModelFile>} */
async function fileOf(entry) {
  const data = await new Promise((resolve, reject) => entry.file(resolve, reject));
  return { name: entry.fullPath.slice(1), data };
}

/** Once it is here, no network is needed for it. @param {URL} url @returns {Promise<ModelFile>} */
export async function downloadedFile(url) {
  const name = url.pathname.split('/').at(-1);
  const response = await fetch(url).catch((error) => {
    throw new Error(`${name} could not be downloaded: there is no connection.`, { cause: error });
  });
  if (!response.ok) throw new Error(`${name} could not be downloaded (HTTP ${response.status}).`);
  const data = await response.blob();
  // There may be no room.
  keepFile(url, data).catch(() => {});
  return { name, data };
}

/**
 * Listens for files that are dropped anywhere on the page, or pasted.
 * @param {(files: Promise<ModelFile[]>) => void} onFiles
 */
export function listenForDrops(onFiles) {
  const hasFiles = ({ dataTransfer }) => dataTransfer?.types.includes('Files');
  const show = (dragging) => document.body.classList.toggle('dragging', dragging);
  addEventListener('dragover', (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    show(true);
  });
  addEventListener('dragleave', ({ relatedTarget }) => relatedTarget === null && show(false));
  addEventListener('drop', (event) => {
    show(false);
    if (!hasFiles(event)) return;
    event.preventDefault();
    onFiles(droppedFiles(event.dataTransfer));
  });
  addEventListener('paste', ({ clipboardData }) => {
    if (clipboardData.files.length > 0) onFiles(Promise.resolve(pickedFiles(clipboardData.files)));
  });
}
