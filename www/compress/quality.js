// The chosen quality -> options of `encode`, and the same for the command.

/**
 * @typedef {import('mcwc/encoder').EncodeOptions} EncodeOptions
 * @typedef {{options: EncodeOptions, args: string, calibrates: boolean}} Quality
 */

const BYTES_PER_MB = 1e6;

export class QualityForm {
  #form;

  /** @param {HTMLFormElement} form */
  constructor(form) {
    this.#form = form;
    for (const input of form.querySelectorAll('.own input')) {
      // Who types a number wants it.
      input.addEventListener('input', () => (form.elements.quality.value = input.id));
    }
  }

  /** @returns {Quality | null} null if the chosen number makes no sense, which the browser then says beside it */
  read() {
    const chosen = this.#chosen();
    return chosen && { ...chosen, calibrates: this.#form.elements.calibrates.checked && !chosen.options.lossless };
  }

  #chosen() {
    const { quality, bits, size } = this.#form.elements;
    const { value } = quality;
    if (value === 'lossless') return { options: { lossless: true }, args: '--lossless' };
    if (value === 'bits') return valid(bits) && { options: { bits: bits.valueAsNumber }, args: `--bits ${bits.valueAsNumber}` };
    if (value === 'size') {
      const bytes = Math.round(size.valueAsNumber * BYTES_PER_MB);
      return valid(size) && { options: { size: bytes }, args: `--size ${bytes}` };
    }
    return { options: { preset: value }, args: `--preset ${value}` };
  }
}

/** @param {HTMLInputElement} input */
function valid(input) {
  input.required = true;
  return input.reportValidity() || null;
}
