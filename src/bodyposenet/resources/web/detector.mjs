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
      const call = this.#calls.get(id);
      this.#calls.delete(id);
      if (error) call?.reject(Object.assign(new Error(error.message), { name: error.name }));
      else call?.resolve(result);
    };
    this.#worker.onerror = (event) => this.#fail(event.message || "the worker cannot be loaded");
  }

  /**
   * Detect the people in an image.
   *
   * @param {ImageBitmap} bitmap The image, which is transferred to the worker and back.
   * @param {number} size Shorter side of the network input in pixels.
   * @returns {Promise<{people: object[], bitmap: ImageBitmap, milliseconds: number}>} People in
   *   image pixels as returned by `assemble`, the image, and the duration. Rejected with an error
   *   of the name ImageError if the reason is the image.
   */
  detect(bitmap, size) {
    return this.#call("detect", [bitmap, size], [bitmap]);
  }

  /** Wait until no call is pending. */
  async idle() {
    await Promise.allSettled([...this.#calls.values()].map(({ promise }) => promise));
  }

  /** Stop the worker; pending calls are rejected. */
  close() {
    this.#worker.terminate();
    this.#fail("the model was closed");
  }

  #call(method, args, transfer = []) {
    const id = this.#count++;
    const call = {};
    call.promise = new Promise((resolve, reject) => Object.assign(call, { resolve, reject }));
    this.#calls.set(id, call);
    this.#worker.postMessage({ id, method, args }, transfer);
    return call.promise;
  }

  #fail(message) {
    for (const { reject } of this.#calls.values()) reject(new Error(message));
    this.#calls.clear();
  }
}
