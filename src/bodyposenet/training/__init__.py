"""Training of networks.

- `loop`: the training loop; `build` creates what it needs, `initial_state` loads the weights.
- `step`: loss, gradients and weight update of a batch; `optimizer`, `schedule`, `ema`,
  `color_jitter`.
- `samples`, `batches`: sample sets of a train spec, and batches of them for each rank;
  `sample_preview` shows some.
- `checkpoints`, `resume_checks`: saved states, and whether a train spec may resume from one.
- `validation`, `oracle`: loss and AP while training; AP of perfect maps.
- `distributed`, `signals`: processes that train together; stopping on SIGTERM, SIGUSR1 and Ctrl-C.
- `distillation`, `precompute_maps`: learning from a teacher network.
- `progress`: log lines, status.json and TensorBoard.
"""
