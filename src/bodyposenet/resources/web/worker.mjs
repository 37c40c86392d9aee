// Worker that runs the model, so that the page stays responsive. See `Detector` in detector.mjs.

import { assemble } from "./bodypose.mjs";
import { fitImage, resizeToInput, toImage, toTensorData } from "./network_input.mjs";

const MAX_SIDE = 4096; // larger images are reduced first: canvases have a maximum size
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
  const reduction = image.width / bitmap.width;
  const people = assemble(peaks.data, pafScores.data, config.decoding).map((person) => ({
    score: person.score,
    keypoints: person.keypoints.map((point) => {
      if (!point) return null;
      const { x, y } = toImage(toImage(point, fit), { scale: reduction, left: 0, top: 0 });
      return { x, y, score: point.score };
    }),
  }));
  return [{ people, bitmap, milliseconds: performance.now() - start }, [bitmap]];
}

function readPixels(bitmap) {
  const scale = Math.min(1, MAX_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = new OffscreenCanvas(
    Math.max(Math.round(bitmap.width * scale), 1),
    Math.max(Math.round(bitmap.height * scale), 1),
  );
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}
