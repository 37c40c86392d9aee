// Assembly of people from the outputs of a model exported with --with_decoding; no dependencies.

/**
 * Assign the peaks of one image to people, the best connections first.
 *
 * @param {Float32Array} peaks (J, K, 3) x, y and score; the model's output `peaks` for one image.
 * @param {Float32Array} pafScores (L, K, K); the output `paf_scores` for the same image.
 * @param {{joints: string[], limbs: number[][], auxiliary_limbs: number[], max_peaks: number,
 *   max_people: ?number}} skeleton Entry `decoding` of the model's header, with the maximum number
 *   of people to return (null: all).
 * @returns {{score: number, keypoints: ({x: number, y: number, score: number} | null)[]}[]}
 *   People, sorted by score, the best first. Each has J keypoints in network-input pixels, null for
 *   missing joints.
 */
export function assemble(peaks, pafScores, skeleton) {
  const { limbs, max_peaks: k } = skeleton;
  const joints = skeleton.joints.length;
  const auxiliary = new Set(skeleton.auxiliary_limbs);
  // A peak is identified by joint * k + its index among the peaks of the joint.
  const scoreOf = (peak) => peaks[3 * peak + 2];

  const connections = [];
  limbs.forEach(([from, to], limb) => {
    for (let i = 0; i < k && scoreOf(from * k + i) > 0; i++) {
      for (let j = 0; j < k && scoreOf(to * k + j) > 0; j++) {
        const paf = pafScores[(limb * k + i) * k + j];
        if (paf > 0) {
          const [start, end] = [from * k + i, to * k + j];
          const score = paf * Math.sqrt(scoreOf(start) * scoreOf(end));
          connections.push({ limb, start, end, score, isAuxiliary: auxiliary.has(limb) });
        }
      }
    }
  });
  // Auxiliary limbs, which do not start a new person, come after all others; sorting is stable.
  connections.sort((a, b) => a.isAuxiliary - b.isAuxiliary || b.score - a.score);

  // Each {parts: Map(joint -> peak), total: sum of scores, size: in pixels, from five peaks on}.
  const people = new Set();
  const personOf = new Map(); // peak -> person
  const used = new Set(); // a peak has one connection per limb
  const add = (person, peak) => {
    person.parts.set(Math.floor(peak / k), peak);
    person.total += scoreOf(peak);
    personOf.set(peak, person);
  };
  const sizeOf = (parts) =>
    Math.max(
      ...[0, 1].map((axis) => {
        const places = parts.map((peak) => peaks[3 * peak + axis]);
        return Math.max(...places) - Math.min(...places);
      }),
    );
  for (const { limb, start, end, score, isAuxiliary } of connections) {
    const ends = [start, end].map((peak) => limb * joints * k + peak);
    if (ends.some((each) => used.has(each))) continue;
    let [person, other] = [personOf.get(start), personOf.get(end)];
    const size = Math.max(person?.size ?? 0, other?.size ?? 0);
    const [dx, dy] = [0, 1].map((axis) => peaks[3 * start + axis] - peaks[3 * end + axis]);
    if (size > 0 && Math.hypot(dx, dy) > 4 * size) continue; // it is much longer than the person
    ends.forEach((each) => used.add(each));
    if (!person && !other) {
      if (isAuxiliary) continue;
      person = { parts: new Map(), total: 0, size: 0 };
      people.add(person);
      add(person, start);
    }
    if (person && other && person !== other) {
      if ([...other.parts.keys()].some((joint) => person.parts.has(joint))) continue;
      for (const [joint, peak] of other.parts) {
        person.parts.set(joint, peak);
        personOf.set(peak, person);
      }
      person.total += other.total;
      people.delete(other);
    } else if (!person || !other) {
      const peak = person ? end : start;
      person = person ?? other;
      if (person.parts.has(Math.floor(peak / k))) continue; // it has a peak of this joint
      add(person, peak);
    }
    person.total += score;
    if (person.parts.size >= 5) person.size = sizeOf([...person.parts.values()]);
  }

  return [...people]
    .filter(({ parts }) => parts.size >= Math.min(3, joints))
    .sort((a, b) => b.total - a.total)
    .slice(0, skeleton.max_people ?? Infinity)
    .map(({ parts, total }) => ({
      score: total < 2 ? total / 4 : 1 - 1 / total,
      keypoints: Array.from({ length: joints }, (_, joint) => {
        if (!parts.has(joint)) return null;
        const place = 3 * parts.get(joint);
        return { x: peaks[place], y: peaks[place + 1], score: peaks[place + 2] };
      }),
    }));
}
