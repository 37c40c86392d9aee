// The model in a worker, as an object with asynchronous methods.

/** Backends, the preferred one first, with their names on the page. */
export const BACKENDS = { webgpu: "GPU (WebGPU)", wasm: "CPU (WebAssembly)" };

/** Return the backends that the page has files for and that this browser may support. */
export function availableBackends(config) {
  // The runtime for WebGPU needs JavaScript Promise Integration.
  const hasGpu = "gpu" in navigator && "Suspending" in WebAssembly;
  return Object.keys(BACKENDS).filter(
    (backend) => backend in config.models && (backend !== "webgpu" || hasGpu),
  );
}

export class Detector {
  #worker = new Worker(new URL("./worker.mjs", import.meta.url), { type: "module" });
  #calls = new Map();
  #count = 0;

  /**
   * Open the model.
   *
   * @param {object} config Content of model.json.
   * @param {string} backend Key of `BACKENDS`.
   * @returns {Promise<Detector>} Rejected if the backend cannot run the model.
   */
  static async open(config, backend) {
    const detector = new Detector();
    try {
      const { threads } = await detector.#call("open", [config, backend]);
      return Object.assign(detector, { backend, threads });
    } catch (error) {
      detector.close();
      throw error;
    }
  }

  constructor() {
    this.#worker.onmessage = ({ data: { id, result, error } }) => {
      const { resolve, reject } = this.#calls.get(id);
      this.#calls.delete(id);
      if (error === undefined) resolve(result);
      else reject(new Error(error));
    };
    this.#worker.onerror = (event) => this.#fail(event.message || "the worker cannot be loaded");
  }

  /**
   * Detect the people in an image.
   *
   * @param {ImageBitmap} bitmap The image, which is transferred to the worker and back.
   * @param {number} size Shorter side of the network input in pixels.
   * @returns {Promise<{people: object[], bitmap: ImageBitmap, milliseconds: number}>} People in
   *   image pixels as returned by `assemble`, the image, and the duration.
   */
  detect(bitmap, size) {
    return this.#call("detect", [bitmap, size], [bitmap]);
  }

  /** Stop the worker; pending calls are rejected. */
  close() {
    this.#worker.terminate();
    this.#fail("the model was closed");
  }

  #call(method, args, transfer = []) {
    const id = this.#count++;
    return new Promise((resolve, reject) => {
      this.#calls.set(id, { resolve, reject });
      this.#worker.postMessage({ id, method, args }, transfer);
    });
  }

  #fail(message) {
    for (const { reject } of this.#calls.values()) reject(new Error(message));
    this.#calls.clear();
  }
}
