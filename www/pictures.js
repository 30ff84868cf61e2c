// The pictures that the visitor can choose: those of the page, and one picked, dropped or pasted.

/** @typedef {{name: string, url: string, own?: boolean}} Picture */

const MAX_SIDE = 4096;

/** @param {Picture} picture @returns {Promise<ImageBitmap>} no larger than a canvas can be on any device */
export async function toBitmap({ url }) {
  const blob = await (await fetch(url)).blob();
  const bitmap = await createImageBitmap(blob);
  const scale = MAX_SIDE / Math.max(bitmap.width, bitmap.height);
  if (scale >= 1) return bitmap;
  const options = { resizeWidth: Math.round(bitmap.width * scale), resizeHeight: Math.round(bitmap.height * scale) };
  const smaller = await createImageBitmap(bitmap, { ...options, resizeQuality: 'high' });
  bitmap.close();
  return smaller;
}

/**
 * Listens for files that are picked, dropped anywhere on the page, or pasted.
 * @param {HTMLInputElement} input
 * @param {(file: File) => void} onFile
 */
export function listenForFiles(input, onFile) {
  input.addEventListener('change', () => {
    if (input.files[0]) onFile(input.files[0]);
    input.value = '';
  });

  const hasFiles = (event) => event.dataTransfer?.types.includes('Files');
  const dragging = (on) => document.documentElement.classList.toggle('dragging', on);
  addEventListener('dragover', (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    dragging(true);
  });
  addEventListener('dragleave', (event) => {
    if (event.relatedTarget === null) dragging(false);
  });
  addEventListener('drop', (event) => {
    dragging(false);
    if (!hasFiles(event)) return;
    event.preventDefault();
    onFile(event.dataTransfer.files[0]);
  });
  addEventListener('paste', (event) => {
    const file = [...(event.clipboardData?.files ?? [])][0];
    if (file) onFile(file);
  });
}

/** @param {File} file @returns {Promise<Picture>} @throws {Error} with a message for the visitor */
export async function openPicture(file) {
  const picture = { name: file.name || 'Pasted picture', url: URL.createObjectURL(file), own: true };
  try {
    (await createImageBitmap(file)).close();
    return picture;
  } catch {
    URL.revokeObjectURL(picture.url);
    throw new Error(`“${picture.name}” is not a picture this browser can open. Try a PNG, JPEG or WebP file.`);
  }
}

/**
 * The pictures that the page shows for choice.
 * @param {HTMLElement} tiles
 * @param {(picture: Picture) => void} onChoose
 * @returns {Picture} the one that is chosen
 */
export function listenForChoice(tiles, onChoose) {
  const [first] = [...tiles.querySelectorAll('input[type="radio"]')].map((input) => {
    const { alt, src } = input.parentElement.querySelector('img');
    const picture = { name: alt, url: src };
    input.addEventListener('change', () => onChoose(picture));
    return picture;
  });
  return first;
}

/**
 * Another for choice, and chosen.
 * @param {HTMLElement} tiles
 * @param {Picture} picture
 * @param {(picture: Picture) => void} onChoose
 */
export function addChoice(tiles, picture, onChoose) {
  tiles.querySelector('.tile.own')?.remove();
  const tile = document.createElement('label');
  tile.className = 'tile own';
  const input = Object.assign(document.createElement('input'), { type: 'radio', name: 'picture', checked: true });
  const face = Object.assign(document.createElement('span'), { className: 'face' });
  face.append(Object.assign(new Image(), { src: picture.url, alt: picture.name, title: picture.name }));
  tile.append(input, face);
  input.addEventListener('change', () => onChoose(picture));
  tiles.querySelector('.pick').before(tile);
  onChoose(picture);
}
