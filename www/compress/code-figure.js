// Lines of code -> a figure with a button that copies them.

const SAID_MS = 2000;

/** @param {import('./loading.js').Code} code */
export function codeFigure({ title, lines }) {
  const element = document.createElement('figure');
  element.className = 'code';
  const caption = Object.assign(document.createElement('figcaption'), { textContent: title });
  const pre = document.createElement('pre');
  // What is wider than the screen can be scrolled with the keyboard too.
  pre.tabIndex = 0;
  pre.setAttribute('role', 'region');
  pre.setAttribute('aria-label', title);
  const code = Object.assign(document.createElement('code'), { textContent: lines });
  pre.append(code);
  const button = Object.assign(document.createElement('button'), { type: 'button', className: 'secondary', textContent: 'Copy' });
  button.setAttribute('aria-label', `Copy: ${title}`);
  const said = Object.assign(document.createElement('span'), { className: 'said' });
  said.setAttribute('role', 'status');
  button.addEventListener('click', async () => {
    said.textContent = (await copied(code)) ? 'Copied' : 'Selected';
    setTimeout(() => (said.textContent = ''), SAID_MS);
  });
  caption.append(said, button);
  element.append(caption, pre);
  return element;
}

/** Where a page may not write to the clipboard, the code is selected, so that a key does. */
async function copied(code) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(code);
    return false;
  }
}
