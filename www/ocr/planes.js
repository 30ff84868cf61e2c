// Canvas pixels -> the planar, normalised tensor data that the PP-OCR networks were trained on.

/** @typedef {{mean: number[], std: number[]}} Normalization  per plane, of values in 0..1 */

/** @type {Normalization} */
export const DETECTION = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
/** @type {Normalization} */
export const RECOGNITION = { mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] };

/**
 * The networks were trained on OpenCV images, so planes run blue, green, red, with mean and deviation in that order.
 * @param {Pick<ImageData, 'data' | 'width' | 'height'>} image
 * @param {Normalization} normalization
 * @param {number} [stride] row length of the planes, for padding on the right with zeros
 * @returns {Float32Array} three planes, each height x stride
 */
export function toPlanes({ data, width, height }, { mean, std }, stride = width) {
  const planes = new Float32Array(3 * height * stride);
  for (let plane = 0; plane < 3; plane++) {
    const channel = 2 - plane;
    for (let y = 0; y < height; y++) {
      let from = y * width * 4 + channel;
      let to = (plane * height + y) * stride;
      for (let x = 0; x < width; x++, from += 4, to++) {
        planes[to] = (data[from] / 255 - mean[plane]) / std[plane];
      }
    }
  }
  return planes;
}
