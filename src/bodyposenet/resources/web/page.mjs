// The page: takes images from a source, lets the detector find the people, and draws them.

import { availableBackends, BACKENDS, Detector } from "./detector.mjs";
import { drawPeople } from "./drawing.mjs";
import { FrameResults, toDetections } from "./results.mjs";
import { openCamera, openFile } from "./sources.mjs";

const MAX_CANVAS = 1920; // larger images are drawn reduced
const RATE_FRAMES = 20; // of the moving average of the frame rate

const elements = Object.fromEntries(
  [...document.querySelectorAll("[id]")].map((element) => [element.id, element]),
);
const context = elements.canvas.getContext("2d");

let config;
let detector;
let source = null;
let opening = 0; // number of the source that was requested last; earlier ones are discarded
let run = 0; // number of the current run; the results of earlier ones are discarded
let last = null; // last result: {bitmap, people, name, size, frames}, frames only of a video
let ends = []; // times at which the last frames were shown, in milliseconds

start();

async function start() {
  try {
    const response = await fetch("model.json");
    if (!response.ok) throw new Error(`model.json cannot be loaded: status ${response.status}`);
    config = await response.json();
    fillPage();
    addListeners();
    setEnabled(true);
    await openDetector(availableBackends(config));
  } catch (error) {
    showStatus("");
    showError(`The model cannot be loaded: ${error.message}`);
  }
}

function fillPage() {
  const options = (values) => values.map(([text, value]) => new Option(text, value));
  const fixed = config.input.fixed_shape;
  const sizes = fixed ? [[fixed.join(" × "), 0]] : config.sizes.map((size) => [size, size]);
  elements.size.append(...options(sizes));
  if (!fixed) elements.size.value = config.default_size;
  const backends = availableBackends(config);
  elements.backend.append(...options(backends.map((backend) => [BACKENDS[backend], backend])));
  if (config.model_card) {
    elements["model-card"].href = config.model_card;
    elements["model-card"].hidden = false;
  }
  elements.threshold.value = config.score_threshold;
  showThreshold();
}

function addListeners() {
  elements.file.addEventListener("change", () => {
    if (elements.file.files.length) openSource(() => openFile(elements.file.files[0]));
  });
  for (const [button, open] of [
    [elements.camera, openCamera],
    [elements.example, openExample],
  ]) {
    button.addEventListener("click", () => {
      elements.file.value = ""; // the name of the last file would be misleading
      openSource(open);
    });
  }
  elements.threshold.addEventListener("input", () => {
    showThreshold();
    if (last) drawResult();
  });
  elements.size.addEventListener("change", restart);
  elements.backend.addEventListener("change", () => openDetector([elements.backend.value]));
  elements.play.addEventListener("click", togglePlay);
  elements.stop.addEventListener("click", stop);
  elements.download.addEventListener("click", download);
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dragging");
  });
  document.addEventListener("dragleave", () => document.body.classList.remove("dragging"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    const [file, ...others] = event.dataTransfer.files;
    if (!file || elements.file.disabled) return;
    elements.file.value = "";
    openSource(() => openFile(file));
    if (others.length) showError(`Only ${file.name} is shown: the page takes one file at a time.`);
  });
}

/** Open the model on the first backend that works, and restart the current source. */
async function openDetector(backends) {
  run++;
  detector?.close();
  detector = null;
  showError("");
  showStatus("Loading the model …");
  elements.backend.disabled = true;
  const failures = [];
  for (const backend of backends) {
    try {
      detector = await Detector.open(config, backend);
      break;
    } catch (error) {
      failures.push(`${BACKENDS[backend]}: ${error.message}`);
    }
  }
  elements.backend.disabled = false;
  setEnabled(Boolean(detector));
  if (!detector) {
    showStatus("");
    showError(`The model cannot be loaded. ${failures.join("; ")}`);
    return;
  }
  elements.backend.value = detector.backend;
  const threads = detector.threads === 1 ? "1 thread" : `${detector.threads} threads`;
  const place = BACKENDS[detector.backend] + (detector.backend === "wasm" ? `, ${threads}` : "");
  showStatus([`Ready: ${place}`, ...failures.map((text) => `not used: ${text}`)].join("; ") + ".");
  restart();
}

async function openSource(open) {
  stop();
  showError("");
  const mine = ++opening;
  try {
    const opened = await open();
    if (mine !== opening) {
      opened.close();
      return;
    }
    source = opened;
  } catch (error) {
    if (mine === opening) showError(error.message);
    return;
  }
  elements.play.hidden = !source.isVideo || source.name === "camera";
  elements.stop.hidden = !source.isVideo;
  if (!elements.play.hidden) {
    source.video.addEventListener("play", () => (elements.play.textContent = "Pause"));
    source.video.addEventListener("pause", () => (elements.play.textContent = "Play"));
    if (!matchMedia("(prefers-reduced-motion: reduce)").matches) source.video.play();
  }
  restart();
}

async function openExample() {
  const response = await fetch(config.example).catch(() => null);
  if (!response?.ok) throw new Error(`${config.example} cannot be loaded.`);
  return openFile(new File([await response.blob()], config.example));
}

/** Process the current source from now on, with the current settings. */
async function restart() {
  const mine = ++run;
  if (!source || !detector) return;
  const current = source;
  const { name } = current;
  const size = Number(elements.size.value);
  const frames = current.isVideo ? new FrameResults(config) : null;
  ends = [];
  if (!frames) showStatus("Detecting people …");
  await detector.idle(); // of an earlier run
  if (mine !== run) return;
  current.refresh?.();
  try {
    do {
      const frame = await current.nextFrame();
      if (!frame || mine !== run) return frame?.bitmap.close();
      const result = await detector.detect(frame.bitmap, size);
      if (mine !== run) return result.bitmap.close();
      showResult({ ...result, name, size, frames }, frame.time);
    } while (frames);
  } catch (error) {
    if (mine === run) await recover(error, name);
  }
}

/** Continue on the next backend after an error, unless the image is the reason. */
async function recover(error, name) {
  const backends = availableBackends(config);
  const others = backends.slice(backends.indexOf(detector.backend) + 1);
  if (others.length && error.name !== "ImageError") {
    await openDetector(others);
  } else {
    showStatus("");
    showError(`${name}: the people cannot be detected. ${error.message}`);
  }
}

function showResult({ milliseconds, ...result }, time) {
  last?.bitmap.close();
  last = result;
  const { people, frames } = result;
  frames?.add(time, people);
  ends = [...ends, performance.now()].slice(-RATE_FRAMES - 1);
  const seconds = (ends.at(-1) - ends[0]) / 1000;
  elements.rate.parentElement.hidden = !frames;
  elements.rate.textContent = seconds ? ((ends.length - 1) / seconds).toFixed(1) : "–";
  elements.duration.textContent = milliseconds.toFixed(0);
  elements.empty.hidden = true;
  elements.result.hidden = false;
  drawResult();
}

function drawResult() {
  const { bitmap, people, name, frames } = last;
  const scale = Math.min(1, MAX_CANVAS / Math.max(bitmap.width, bitmap.height));
  const { canvas } = elements;
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height].map((side) =>
    Math.max(Math.round(side * scale), 1),
  );
  context.setTransform(scale, 0, 0, scale, 0, 0);
  context.drawImage(bitmap, 0, 0);
  const drawn = people.filter(({ score }) => score >= Number(elements.threshold.value));
  drawPeople(context, bitmap, drawn, config.decoding, config.colors);
  const count = `${drawn.length} ${drawn.length === 1 ? "person" : "people"}`;
  canvas.setAttribute("aria-label", `${name} with ${count}`);
  elements.people.textContent = drawn.length;
  // Announced to screen readers, so not for every frame of a video.
  showStatus(frames ? "" : `${count} in ${name}.`);
}

function togglePlay() {
  const { video } = source;
  if (!video.paused) {
    video.pause();
    return;
  }
  const isOver = video.ended;
  video.play();
  if (isOver) restart(); // with new results
}

/** Stop the current source; its last result stays. */
function stop() {
  run++;
  source?.close();
  if (source?.isVideo) source = null;
  elements.play.hidden = elements.stop.hidden = true;
}

function download() {
  const { people, name, size, frames } = last;
  const [file, text] = frames
    ? ["detections.jsonl", frames.toString()]
    : ["detections.json", toDetections(name, people, size, config)];
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  link.download = file;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** Enable or disable everything that needs the model. */
function setEnabled(isEnabled) {
  for (const name of ["file", "camera", "example", "size"]) elements[name].disabled = !isEnabled;
}

function showThreshold() {
  elements.score.textContent = Number(elements.threshold.value).toFixed(2);
}

function showStatus(text) {
  elements.status.textContent = text;
}

function showError(text) {
  elements.error.textContent = text;
  elements.error.hidden = !text;
}
