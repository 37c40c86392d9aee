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
    int size = 0;            // number of peaks, 0 after a merge
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
    ++people[person].size;
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
    one.size += std::exchange(two.size, 0);
    return true;
  };
  for (const auto& [limb, start, end, score, is_auxiliary] : connections) {
    const std::size_t row = static_cast<std::size_t>(limb) * person_of.size();
    if (used[row + start] || used[row + end]) continue;
    used[row + start] = used[row + end] = true;
    int first = person_of[start], second = person_of[end];
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
    if (is_added) people[person].total += score;
  }

  people.erase(std::remove_if(people.begin(), people.end(),
                              [&](const Candidate& each) {
                                return each.size < std::min(3, joints);
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
