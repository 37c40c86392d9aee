// Worker that runs the model, so that the page stays responsive. See `Detector` in detector.mjs.

import { assemble } from "./bodypose.mjs";
import { fitImage, resizeToInput, toImage, toTensorData } from "./network_input.mjs";

const STRIP_HEIGHT = 1024;
const MAX_THREADS = 4; // as many as most phones have fast cores

let ort, session, config;

onmessage = async ({ data: { id, method, args } }) => {
  try {
    const [result, transfer] = await { open, detect }[method](...args);
    postMessage({ id, result }, transfer);
  } catch (error) {
    const { name = "Error", message = String(error) } = error;
    postMessage({ id, error: { name, message } });
  }
};

/** Load the runtime and the model. */
async function open(model, backend) {
  config = model;
  const { file, integrity, data_type: type } = config.models[backend];
  if (backend === "webgpu") await checkGpu(type);
  ort = await import(`./runtime/${config.runtime.scripts[backend]}`);
  ort.env.logLevel = "error";
  ort.env.wasm.wasmPaths = new URL("./runtime/", import.meta.url).href;
  // Threads need shared memory, which browsers allow on cross-origin isolated pages only.
  const cores = Math.min(navigator.hardwareConcurrency || 1, MAX_THREADS);
  ort.env.wasm.numThreads = self.crossOriginIsolated ? cores : 1;
  const response = await fetch(file, { integrity }).catch(() => null);
  if (!response?.ok) {
    throw new Error(`${file} is missing on the server, or was changed. Write the page again.`);
  }
  const content = new Uint8Array(await response.arrayBuffer());
  const options = { executionProviders: [backend], logSeverityLevel: 3 };
  session = await ort.InferenceSession.create(content, options);
  return [{ threads: ort.env.wasm.numThreads }, []];
}

async function checkGpu(type) {
  const adapter = await navigator.gpu?.requestAdapter();
  if (!adapter) throw new Error("no GPU is available");
  if (type === "fp16" && !adapter.features.has("shader-f16")) {
    throw new Error("the GPU does not support float16");
  }
}

/** Detect the people in an image; returns them with the image and the duration. */
async function detect(bitmap, size) {
  const start = performance.now();
  const image = readPixels(bitmap);
  const fit = fitImage(image.width, image.height, size, config.input);
  const { data, dims } = toTensorData(resizeToInput(image, fit), config.input);
  const tensor = new ort.Tensor(config.input.type, data, dims);
  const { peaks, paf_scores: pafScores } = await session.run({ [config.input.name]: tensor });
  const people = assemble(peaks.data, pafScores.data, config.decoding).map((person) => ({
    score: person.score,
    keypoints: person.keypoints.map(
      (point) => point && { ...toImage(point, fit), score: point.score },
    ),
  }));
  return [{ people, bitmap, milliseconds: performance.now() - start }, [bitmap]];
}

/** Read the pixels in strips, because canvases have a maximum size. */
function readPixels(bitmap) {
  const { width, height } = bitmap;
  const data = new Uint8ClampedArray(4 * width * height);
  const canvas = new OffscreenCanvas(width, Math.min(height, STRIP_HEIGHT));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.globalCompositeOperation = "copy";
  for (let top = 0; top < height; top += STRIP_HEIGHT) {
    const rows = Math.min(STRIP_HEIGHT, height - top);
    context.drawImage(bitmap, 0, -top);
    data.set(context.getImageData(0, 0, width, rows).data, 4 * width * top);
  }
  return { data, width, height };
}
