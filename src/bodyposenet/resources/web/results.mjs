// Results as JSON, in the formats of `bpnet inference`: detections.json for an image, and a line of
// JSON per frame for a video or a camera.

const MAX_FRAMES = 10_000; // of the last results of a camera that runs for hours

/** Return the text of a detections.json for one image. */
export function toDetections(name, people, size, config) {
  const document = {
    ...config.skeleton,
    keypoint_names: config.decoding.joints,
    inference_spec: {
      input_shape: config.input.fixed_shape ?? [size, size],
      keep_aspect_ratio_mode: config.input.fixed_shape ? "pad_image_input" : "adjust_network_input",
      mode: "accurate",
    },
    images: [{ full_image_path: name, ...toLists(people) }],
  };
  return JSON.stringify(document, null, 2) + "\n";
}

/** Results of the frames of a video. */
export class FrameResults {
  #lines = [];
  #count = 0;

  constructor(config) {
    this.joints = config.decoding.joints;
  }

  /** Add the people of a frame at a time in seconds. */
  add(time, people) {
    const frame = this.#count++;
    const entry = { frame, time: round(time, 3), keypoint_names: this.joints, ...toLists(people) };
    this.#lines.push(JSON.stringify(entry));
    if (this.#lines.length > MAX_FRAMES) this.#lines.shift();
  }

  toString() {
    return this.#lines.map((line) => `${line}\n`).join("");
  }
}

/** Missing joints are [0, 0] with the score 0. */
function toLists(people) {
  return {
    keypoints: people.map(({ keypoints }) =>
      keypoints.map((point) => (point ? [round(point.x, 3), round(point.y, 3)] : [0, 0])),
    ),
    scores: people.map(({ score }) => round(score, 5)),
    keypoint_scores: people.map(({ keypoints }) =>
      keypoints.map((point) => (point ? round(point.score, 5) : 0)),
    ),
  };
}

function round(value, digits) {
  return Number(value.toFixed(digits));
}
