// Assembly of people from the outputs of a model exported with --with_decoding; needs C++17 only.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

namespace bodypose {

// Entry `decoding` of the model's header.
struct Skeleton {
  int joints;                             // J
  int max_peaks;                          // K
  std::vector<std::array<int, 2>> limbs;  // L pairs: start and end joint
  std::vector<int> auxiliary_limbs;       // indices of limbs that do not start a new person
  std::size_t max_people = std::numeric_limits<std::size_t>::max();  // to return
};

struct Keypoint {
  float x = 0, y = 0;  // in network-input pixels
  float score = 0;     // 0: the joint is missing
};

struct Person {
  std::vector<Keypoint> keypoints;  // J
  double score = 0;                 // in 0..1
};

// Assign the peaks of one image to people, the best connections first.
//
// peaks: (J, K, 3) x, y and score; the model's output `peaks` for one image.
// paf_scores: (L, K, K); the model's output `paf_scores` for the same image.
// Returns at most max_people people, sorted by score, the best first.
inline std::vector<Person> assemble(const float* peaks, const float* paf_scores,
                                    const Skeleton& skeleton) {
  struct Connection {
    int limb, start, end;
    double score;
    bool is_auxiliary;
  };
  struct Candidate {
    std::vector<int> peaks;  // of each joint, -1 if it is missing
    double total = 0;        // sum of the scores of peaks and connections
    int count = 0;           // number of peaks, 0 after a merge
    double size = 0;         // in pixels, from five peaks on
  };
  const int k = skeleton.max_peaks, joints = skeleton.joints;
  const int limbs = static_cast<int>(skeleton.limbs.size());
  // A peak is identified by joint * k + its index among the peaks of the joint.
  const auto score_of = [&](int peak) { return static_cast<double>(peaks[3 * peak + 2]); };

  std::vector<bool> auxiliary(limbs, false);
  for (int limb : skeleton.auxiliary_limbs) auxiliary[limb] = true;
  std::vector<Connection> connections;
  for (int limb = 0; limb < limbs; ++limb) {
    const int from = skeleton.limbs[limb][0] * k, to = skeleton.limbs[limb][1] * k;
    for (int i = 0; i < k && score_of(from + i) > 0; ++i)
      for (int j = 0; j < k && score_of(to + j) > 0; ++j) {
        const double paf = paf_scores[(static_cast<std::size_t>(limb) * k + i) * k + j];
        if (paf <= 0) continue;
        const double score = paf * std::sqrt(score_of(from + i) * score_of(to + j));
        connections.push_back({limb, from + i, to + j, score, auxiliary[limb]});
      }
  }
  // Auxiliary limbs, which do not start a new person, come after all others.
  std::stable_sort(connections.begin(), connections.end(),
                   [](const Connection& a, const Connection& b) {
                     if (a.is_auxiliary != b.is_auxiliary) return b.is_auxiliary;
                     return a.score > b.score;
                   });

  std::vector<Candidate> people;
  std::vector<int> person_of(static_cast<std::size_t>(joints) * k, -1);
  std::vector<bool> used(person_of.size() * limbs, false);  // one connection per limb and peak
  const auto add = [&](int person, int peak) {
    int& part = people[person].peaks[peak / k];
    if (part >= 0) return false;  // the person has a peak of this joint
    part = peak;
    person_of[peak] = person;
    people[person].total += score_of(peak);
    ++people[person].count;
    return true;
  };
  const auto merge = [&](int person, int other) {
    Candidate &one = people[person], &two = people[other];
    for (int joint = 0; joint < joints; ++joint)
      if (one.peaks[joint] >= 0 && two.peaks[joint] >= 0) return false;
    for (int joint = 0; joint < joints; ++joint)
      if (const int peak = two.peaks[joint]; peak >= 0) {
        one.peaks[joint] = peak;
        person_of[peak] = person;
      }
    one.total += two.total;
    one.count += std::exchange(two.count, 0);
    return true;
  };
  const auto size_of = [&](const Candidate& person) {
    double size = 0;
    for (int axis = 0; axis < 2; ++axis) {
      double low = std::numeric_limits<double>::infinity(), high = -low;
      for (int peak : person.peaks)
        if (peak >= 0) {
          low = std::min<double>(low, peaks[3 * peak + axis]);
          high = std::max<double>(high, peaks[3 * peak + axis]);
        }
      size = std::max(size, high - low);
    }
    return size;
  };
  for (const auto& [limb, start, end, score, is_auxiliary] : connections) {
    const std::size_t row = static_cast<std::size_t>(limb) * person_of.size();
    if (used[row + start] || used[row + end]) continue;
    int first = person_of[start], second = person_of[end];
    double size = 0;
    for (int each : {first, second})
      if (each >= 0) size = std::max(size, people[each].size);
    const double length = std::hypot(peaks[3 * start] - peaks[3 * end],
                                     peaks[3 * start + 1] - peaks[3 * end + 1]);
    if (size > 0 && length > 4 * size) continue;  // it is much longer than the person
    used[row + start] = used[row + end] = true;
    if (first < 0 && second < 0) {
      if (is_auxiliary) continue;
      first = static_cast<int>(people.size());
      people.push_back({std::vector<int>(joints, -1)});
      add(first, start);
    }
    const int person = first < 0 ? second : first;
    const bool is_added = first < 0    ? add(second, start)
                          : second < 0 ? add(first, end)
                                       : first == second || merge(first, second);
    if (is_added) {
      people[person].total += score;
      if (people[person].count >= 5) people[person].size = size_of(people[person]);
    }
  }

  people.erase(std::remove_if(people.begin(), people.end(),
                              [&](const Candidate& each) {
                                return each.count < std::min(3, joints);
                              }),
               people.end());
  std::stable_sort(people.begin(), people.end(),
                   [](const Candidate& a, const Candidate& b) { return a.total > b.total; });
  if (people.size() > skeleton.max_people) people.resize(skeleton.max_people);
  std::vector<Person> found;
  for (const Candidate& candidate : people) {
    Person person{std::vector<Keypoint>(joints),
                  candidate.total < 2 ? candidate.total / 4 : 1 - 1 / candidate.total};
    for (int joint = 0; joint < joints; ++joint)
      if (const int peak = candidate.peaks[joint]; peak >= 0)
        person.keypoints[joint] = {peaks[3 * peak], peaks[3 * peak + 1], peaks[3 * peak + 2]};
    found.push_back(std::move(person));
  }
  return found;
}

}  // namespace bodypose
