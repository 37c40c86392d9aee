// Preprocessing as in Python (bodyposenet.inference.predictor): an image is resized to the network
// input by averaging and bicubic interpolation, and padded with gray.

const PAD_VALUE = 128;
const CUBIC = -0.75; // parameter of OpenCV's bicubic interpolation
const MAX_LENGTHENING = 16;

/** Images that cannot be processed, whatever runs the model. */
class ImageError extends Error {
  name = "ImageError";
}

/**
 * Compute the network input of an image and the map between their pixels.
 *
 * @param {number} width Width of the image.
 * @param {number} height Height of the image.
 * @param {number} size Shorter side of the network input; ignored if the model has a fixed shape.
 * @param {{stride: number, fixed_shape: [number, number] | null}} input Entry `input` of model.json.
 * @returns {{scale: number, left: number, top: number, width: number, height: number,
 *   inputWidth: number, inputHeight: number}} Scale, offset and size of the resized image, and the
 *   size of the network input, which is padded to whole cells.
 * @throws {ImageError} The image is too narrow.
 */
export function fitImage(width, height, size, { stride, fixed_shape: fixed }) {
  if (fixed) {
    const [inputHeight, inputWidth] = fixed;
    const scale = Math.min(inputHeight / height, inputWidth / width);
    const left = Math.floor((inputWidth - Math.round(width * scale)) / 2);
    const top = Math.floor((inputHeight - Math.round(height * scale)) / 2);
    return { scale, left, top, width: inputWidth, height: inputHeight, inputWidth, inputHeight };
  }
  const scale = Math.max(size / height, size / width);
  const [columns, rows] = [Math.round(width * scale), Math.round(height * scale)];
  if (Math.max(columns, rows) > MAX_LENGTHENING * size) {
    throw new ImageError(`An image of ${width} × ${height} pixels is too narrow. Crop it.`);
  }
  const [inputWidth, inputHeight] = [columns, rows].map((side) => Math.ceil(side / stride) * stride);
  return { scale, left: 0, top: 0, width: columns, height: rows, inputWidth, inputHeight };
}

/** Map a point of the network input to the image; the center of a pixel is at an integer. */
export function toImage({ x, y }, { scale, left, top }) {
  return { x: (x - left + 0.5) / scale - 0.5, y: (y - top + 0.5) / scale - 0.5 };
}

/**
 * Resize an image to the network input.
 *
 * @param {ImageData} image Image of any size.
 * @param {object} fit Result of `fitImage` for this image.
 * @returns {{data: Uint8ClampedArray, width: number, height: number}} RGBA pixels.
 */
export function resizeToInput(image, fit) {
  const averaged = average(image, Math.floor(1 / fit.scale));
  return resample(
    averaged,
    cubicWeights(image.width, averaged.width, fit.inputWidth, fit.width, fit.scale, fit.left),
    cubicWeights(image.height, averaged.height, fit.inputHeight, fit.height, fit.scale, fit.top),
  );
}

/**
 * Convert RGBA pixels to the data of the input tensor.
 *
 * @param {{data: Uint8ClampedArray, width: number, height: number}} pixels RGBA pixels.
 * @param {{type: string, channels_last: boolean, image_scale: number[], image_offset: number[]}}
 *   input Entry `input` of model.json. The type `float32` stands for normalized pixels.
 * @returns {{data: Uint8Array | Float32Array, dims: number[]}} Data and shape of a batch of one.
 */
export function toTensorData({ data, width, height }, input) {
  const count = width * height;
  const isFloat = input.type === "float32";
  const values = new (isFloat ? Float32Array : Uint8Array)(3 * count);
  const [step, plane] = input.channels_last ? [3, 1] : [1, count];
  for (let channel = 0; channel < 3; channel++) {
    const [scale, offset] = [input.image_scale[channel], input.image_offset[channel]];
    for (let pixel = 0; pixel < count; pixel++) {
      const value = data[4 * pixel + channel];
      values[pixel * step + channel * plane] = isFloat ? value / scale - offset : value;
    }
  }
  return { data: values, dims: input.channels_last ? [1, height, width, 3] : [1, 3, height, width] };
}

/** Weights of source pixels for the target pixels of one axis; `pad` is the weight of gray. */
class Weights {
  constructor(target, taps) {
    this.target = target;
    this.taps = taps;
    this.first = new Int32Array(target);
    this.values = new Float32Array(target * taps);
    this.pad = new Float32Array(target);
  }

  add(index, source, weight) {
    this.values[index * this.taps + source - this.first[index]] += weight;
  }
}

/** Average blocks of pixels, as OpenCV's INTER_AREA, if they are larger than one pixel. */
function average(image, block) {
  if (block < 2) return image;
  const { width, height } = image;
  // OpenCV rounds up the mean of 2 × 2 pixels, which is a multiple of 1/4, if it ends in 1/2.
  const bias = block === 2 && width % 2 === 0 && height % 2 === 0 ? 0.1 : 0;
  return resample(image, averagingWeights(width, block), averagingWeights(height, block), bias);
}

function averagingWeights(source, block) {
  const target = Math.max(Math.floor(source / block), 1);
  const span = source / target;
  const weights = new Weights(target, Math.ceil(span) + 1);
  for (let index = 0; index < target; index++) {
    const [start, end] = [index * span, Math.min((index + 1) * span, source)];
    weights.first[index] = Math.floor(start);
    for (let pixel = weights.first[index]; pixel < end; pixel++) {
      const overlap = Math.min(pixel + 1, end) - Math.max(pixel, start);
      weights.add(index, pixel, overlap / span);
    }
  }
  return weights;
}

/**
 * Weights of bicubic interpolation, with gray outside of the image and beyond `filled` pixels.
 *
 * @param {number} original Pixels of the image before averaging.
 * @param {number} source Pixels after averaging.
 * @param {number} target Pixels of the network input.
 * @param {number} filled Pixels of the network input before it was padded to whole cells.
 * @param {number} scale Scale from the image to the network input.
 * @param {number} offset Position of the resized image in the network input.
 */
function cubicWeights(original, source, target, filled, scale, offset) {
  const weights = new Weights(target, 4);
  for (let index = 0; index < target; index++) {
    if (index >= filled) {
      weights.pad[index] = 1;
      continue;
    }
    const position = (((index - offset + 0.5) / scale) * source) / original - 0.5;
    const left = Math.floor(position) - 1;
    weights.first[index] = Math.min(Math.max(left, 0), Math.max(source - 4, 0));
    for (let tap = left; tap < left + 4; tap++) {
      const weight = cubic(Math.abs(position - tap));
      if (tap < 0 || tap >= source) weights.pad[index] += weight;
      else weights.add(index, tap, weight);
    }
  }
  return weights;
}

function cubic(distance) {
  if (distance <= 1) return ((CUBIC + 2) * distance - (CUBIC + 3)) * distance * distance + 1;
  return CUBIC * (((distance - 5) * distance + 8) * distance - 4);
}

/** Resample RGBA pixels along both axes and add a bias; alpha is ignored. */
function resample({ data, width, height }, horizontal, vertical, bias = 0) {
  const columns = horizontal.target;
  const rows = new Float32Array(3 * columns * height);
  for (let y = 0, place = 0; y < height; y++) {
    for (let x = 0; x < columns; x++) {
      let red = PAD_VALUE * horizontal.pad[x];
      let [green, blue] = [red, red];
      const tap = x * horizontal.taps;
      const start = 4 * (y * width + horizontal.first[x]);
      for (let k = 0; k < horizontal.taps; k++) {
        const weight = horizontal.values[tap + k];
        if (weight === 0) continue;
        red += weight * data[start + 4 * k];
        green += weight * data[start + 4 * k + 1];
        blue += weight * data[start + 4 * k + 2];
      }
      rows[place++] = red;
      rows[place++] = green;
      rows[place++] = blue;
    }
  }
  const result = new Uint8ClampedArray(4 * columns * vertical.target);
  const line = new Float32Array(3 * columns);
  for (let y = 0; y < vertical.target; y++) {
    line.fill(PAD_VALUE * vertical.pad[y] + bias);
    for (let k = 0; k < vertical.taps; k++) {
      const weight = vertical.values[y * vertical.taps + k];
      if (weight === 0) continue;
      const start = 3 * columns * (vertical.first[y] + k);
      for (let place = 0; place < line.length; place++) line[place] += weight * rows[start + place];
    }
    for (let x = 0; x < columns; x++) {
      const target = 4 * (y * columns + x);
      for (let channel = 0; channel < 3; channel++) {
        result[target + channel] = line[3 * x + channel];
      }
    }
  }
  return { data: result, width: columns, height: vertical.target };
}
