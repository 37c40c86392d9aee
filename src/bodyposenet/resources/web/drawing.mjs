// Drawing of skeletons, in the style of bodyposenet.draw in Python (bodyposenet.media.draw).

const OUTLINE = "rgb(18 18 24)";

/**
 * Draw people on a canvas, the largest in front.
 *
 * @param {CanvasRenderingContext2D} context Context whose units are image pixels.
 * @param {{width: number, height: number}} image Size of the image.
 * @param {object[]} people People as returned by `assemble`, in image pixels.
 * @param {{limbs: number[][], joints: string[]}} skeleton Joints and limbs.
 * @param {number[][]} colors RGB color of each limb.
 */
export function drawPeople(context, image, people, skeleton, colors) {
  const style = { limbs: skeleton.limbs, colors, jointColors: jointColors(skeleton, colors) };
  people
    .map((person) => ({ points: person.keypoints, extent: extentOf(person.keypoints) }))
    .sort((a, b) => a.extent - b.extent)
    .forEach(({ points, extent }) => drawPerson(context, points, penFor(image, extent), style));
  context.globalAlpha = 1;
}

/** Longer side of the box around a person's joints. */
function extentOf(points) {
  const found = points.filter(Boolean);
  const range = (values) => Math.max(...values) - Math.min(...values);
  return Math.max(range(found.map(({ x }) => x)), range(found.map(({ y }) => y)));
}

/** Line widths: they scale with the image, and are finer on small people. */
function penFor({ width, height }, extent) {
  const limb = clamp(Math.min(0.0115 * Math.sqrt(width * height), 0.035 * extent), 1.5, 40);
  return { limb, outline: Math.max(0.7, 0.2 * limb), joint: Math.max(1.3, 0.75 * limb) };
}

function drawPerson(context, points, pen, { limbs, colors, jointColors: tints }) {
  const drawn = limbs
    .map(([from, to], index) => ({ from, to, color: `rgb(${colors[index].join(" ")})` }))
    .filter(({ from, to }) => points[from] && points[to]);
  const sizes = jointSizes(points, drawn, pen);
  const opacity = (joint) => 0.95 * clamp(0.5 + points[joint].score, 0.65, 1);
  context.lineCap = "round";
  for (const isOutline of [true, false]) {
    for (const { from, to, color } of drawn) {
      const width = pen.limb * Math.min(sizes[from], sizes[to]);
      context.globalAlpha = Math.min(opacity(from), opacity(to));
      context.strokeStyle = isOutline ? OUTLINE : color;
      context.lineWidth = isOutline ? width + 2 * pen.outline : width;
      context.beginPath();
      context.moveTo(points[from].x + 0.5, points[from].y + 0.5);
      context.lineTo(points[to].x + 0.5, points[to].y + 0.5);
      context.stroke();
    }
  }
  points.forEach((point, joint) => {
    if (!point) return;
    const radius = pen.joint * sizes[joint];
    context.globalAlpha = opacity(joint);
    drawDot(context, point, radius + pen.outline, OUTLINE);
    drawDot(context, point, radius, tints[joint]);
  });
}

/** Relative size of each joint, up to 1; joints with short limbs are smaller. */
function jointSizes(points, limbs, pen) {
  const reach = new Array(points.length).fill(0);
  for (const { from, to } of limbs) {
    const length = Math.hypot(points[from].x - points[to].x, points[from].y - points[to].y);
    reach[from] = Math.max(reach[from], length);
    reach[to] = Math.max(reach[to], length);
  }
  return reach.map((length) => (length ? clamp((0.2 * length) / pen.limb, 0.5, 1) : 1));
}

/** Color of each joint: a light tint of a limb that ends (or else starts) in it. */
function jointColors({ joints, limbs }, colors) {
  return joints.map((_, joint) => {
    const ends = limbs.findIndex((limb) => limb[1] === joint);
    const limb = ends >= 0 ? ends : limbs.findIndex((each) => each.includes(joint));
    const base = limb >= 0 ? colors[limb] : [255, 255, 255];
    return `rgb(${base.map((value) => Math.round(value + 0.55 * (255 - value))).join(" ")})`;
  });
}

function drawDot(context, { x, y }, radius, color) {
  context.fillStyle = color;
  context.beginPath();
  context.arc(x + 0.5, y + 0.5, radius, 0, 2 * Math.PI);
  context.fill();
}

function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}
