// Sources of images: photos, video files and cameras.

const DECODING = { imageOrientation: "from-image", colorSpaceConversion: "none" };

/** Open a photo or a video file. */
export async function openFile(file) {
  const unsupported = new Error(`${file.name} is not a photo or video that this browser supports.`);
  if (!file.type.startsWith("video/")) {
    try {
      return new PhotoSource(file.name, file, await createImageBitmap(file, DECODING));
    } catch {
      if (file.type.startsWith("image/")) throw unsupported;
    }
  }
  const video = createVideo();
  const release = () => URL.revokeObjectURL(video.src);
  video.src = URL.createObjectURL(file);
  try {
    await firstEvent(video, "loadeddata");
    if (!video.videoWidth) throw unsupported; // only sound
  } catch {
    release();
    throw unsupported;
  }
  return new VideoSource(file.name, video, release);
}

/** Open the camera, after the browser has asked for permission. */
export async function openCamera() {
  if (!navigator.mediaDevices) {
    throw new Error("Browsers allow cameras only on pages with https, or on this machine itself.");
  }
  let stream;
  try {
    const size = { width: { ideal: 640 }, height: { ideal: 480 } };
    stream = await navigator.mediaDevices.getUserMedia({ video: size });
  } catch (error) {
    throw new Error(CAMERA_ERRORS[error.name] ?? `The camera cannot be used: ${error.message}`);
  }
  const video = createVideo();
  video.srcObject = stream;
  await video.play();
  return new VideoSource("camera", video, () => stream.getTracks().forEach((track) => track.stop()));
}

const CAMERA_ERRORS = {
  NotAllowedError: "The camera is not allowed. Allow it in the settings of this page, and retry.",
  NotFoundError: "No camera was found.",
  NotReadableError: "The camera cannot be read. Another program may be using it.",
};

/** A single image. */
class PhotoSource {
  isVideo = false;

  constructor(name, file, bitmap) {
    Object.assign(this, { name, file, bitmap });
  }

  /** Return the image; the caller owns it. */
  async nextFrame() {
    const bitmap = this.bitmap ?? (await createImageBitmap(this.file, DECODING));
    this.bitmap = null;
    return { bitmap, time: 0 };
  }

  close() {
    this.bitmap?.close();
    this.bitmap = null;
  }
}

/** A video file or a camera. */
class VideoSource {
  isVideo = true;
  #closed = new AbortController();

  constructor(name, video, release) {
    Object.assign(this, { name, video, release });
  }

  /** Wait for the next frame; returns null after `close`. */
  async nextFrame() {
    const time = await this.#nextTime();
    if (time === null) return null;
    return { bitmap: await createImageBitmap(this.video), time };
  }

  /** Let `nextFrame` return the current frame if the video is paused. */
  refresh() {
    if (this.video.paused) this.video.currentTime = this.video.currentTime;
  }

  close() {
    this.#closed.abort();
    this.video.pause();
    this.release();
  }

  #nextTime() {
    const { video } = this;
    const { signal } = this.#closed;
    return new Promise((resolve) => {
      const finish = (time) => {
        signal.removeEventListener("abort", cancel);
        resolve(time);
      };
      const cancel = () => finish(null);
      if (signal.aborted) return cancel();
      signal.addEventListener("abort", cancel);
      if ("requestVideoFrameCallback" in video) {
        video.requestVideoFrameCallback((_, { mediaTime }) => finish(mediaTime));
      } else {
        video.addEventListener("timeupdate", () => finish(video.currentTime), { once: true });
      }
    });
  }
}

function createVideo() {
  return Object.assign(document.createElement("video"), { muted: true, playsInline: true });
}

function firstEvent(element, name) {
  return new Promise((resolve, reject) => {
    element.addEventListener(name, resolve, { once: true });
    element.addEventListener("error", reject, { once: true });
  });
}
