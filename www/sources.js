// The files under /models/ that the page downloads, relative to the page.

export const DETECTOR = 'ch_PP-OCRv4_det_infer.onnx';
export const RECOGNIZER = 'ch_PP-OCRv4_rec_infer.onnx';

/** What each variant downloads. */
export const SOURCES = {
  archive: ['models/ppocr.mcwc'],
  original: [`models/${DETECTOR}`, `models/${RECOGNIZER}`],
};
export const KEYS = 'models/ppocr_keys_v1.txt';
