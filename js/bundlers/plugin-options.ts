// What the plugin is given for all imports.
import type { EncodeOptions } from '../encoder.js';

type Rate = 'bits' | 'size' | 'quality' | 'preset' | 'lossless' | 'progressive';

/**
 * What an import does not say itself: `bits`, `preset` and so on are the encoder's. An import that says how coarse its weights are to be
 * is not told that by these.
 */
export interface PluginOptions extends Pick<EncodeOptions, Rate | 'adaptive' | 'exclude' | 'lanes' | 'lenient' | 'quantizer' | 'unitOrder'> {
  /** Whether ONNX models are calibrated, on random inputs, where `onnxruntime-node` is installed; true by default. */
  calibrate?: boolean;
  /** Where archives are kept between builds, from the root of the project; `node_modules/.cache/mcwc` by default. */
  cacheFolder?: string;
}
