"""The first page of help of commands with hundreds of settings: those that people change. ``--help-all`` lists the rest."""

FIT = """\
usage: lam fit --config SETTING [--config FAMILY] --name SETTING/FAMILY@KNOB [--KEY VALUE ...]

Train a latent action model. A setting says what it is trained on and how large it is; a family, one of
experiments/bottlenecks, says through which bottleneck its latent actions go. Any key of theirs can be set
after them, in full:

  lam fit --config experiments/wild.yaml --config experiments/bottlenecks/vq.yaml --name wild/vq@64 \\
      --model.bottleneck.num_codes 64 --trainer.max_steps 2000

What people change:
  --name                    folder under runs/: runs/NAME/seed0 receives config.yaml, checkpoints and curves
  --seed_everything         seed of weights, order of data and noise                                (0)
  --data.shards             folder of shards, made by data_prep
  --data.frames             frames of a clip
  --data.batch_size         clips a step
  --data.num_workers        processes that decode video
  --model.bottleneck.KNOB   how much a latent action may say: beta, num_codes, ... (sweeps.mk lists them)
  --model.latent_dim        width of a latent action
  --trainer.max_steps       steps; the learning rate falls to zero at the last one
  --trainer.precision       bf16-mixed on a GPU, 32-true on most processors
  --trainer.max_time        or a time, DD:HH:MM:SS; 00:04:00:00 is four hours, with --trainer.max_steps -1
  --init_from               folder of a run, an export or hub:owner/name, whose weights a new run begins with

A run that was stopped goes on: --ckpt_path runs/NAME/seed0/checkpoints/last.ckpt.
Next: lam validate --config runs/NAME/seed0/config.yaml --ckpt_path runs/NAME/seed0/checkpoints/last.ckpt

--help-all lists every setting, --model.bottleneck.help CLASS those of a class."""

_TRAINED = """\
usage: lam {command} --config RUN/config.yaml --ckpt_path RUN/checkpoints/last.ckpt [--KEY VALUE ...]

{about}

  lam {command} --config runs/wild/vq@64/seed0/config.yaml --ckpt_path runs/wild/vq@64/seed0/checkpoints/last.ckpt{more}

What people change:
  --ckpt_path               weights of the run
{settings}  --data.batch_size         clips at a time
  --data.num_workers        processes that decode video
  --trainer.accelerator     cpu, gpu or auto

--help-all lists every setting."""

VALIDATE = _TRAINED.format(
    command="validate",
    about="Run every evaluation on the run's validation clips and write metrics.json, curves.json and clips.parquet\n"
    "into its folder: a row of the table that lam report makes.",
    more="",
    settings="  --trainer.callbacks+      one more evaluation, such as lam.evals.Motion\n",
)

TEST = _TRAINED.format(
    command="test",
    about="Run every evaluation on other data and write test-DATA.json into the run's folder.",
    more=" \\\n      --data.shards shards/other",
    settings="  --data.shards             folder of the other shards\n",
)

PREDICT = _TRAINED.format(
    command="predict",
    about="Write the latent action of every transition to latents.parquet: key, source, time, z, codes, bits.",
    more=" \\\n      --latents.path latents.parquet",
    settings="  --latents.path            file to write; in the run's folder if not given\n"
    "  --latents.npz             also write arrays for numpy\n"
    "  --data.shards             folder of shards, the run's own if not given\n"
    "  --data.predict_split      train, val or both\n",
)

CONTROL = """\
usage: lam control {command} --config experiments/control.yaml --model.run RUN [--KEY VALUE ...]

{about} Results go to
RUN/control/clips<labeled clips>.

  lam control {command} --config experiments/control.yaml --model.run runs/arm/noisy@1e-2/seed0 --model.labeled_clips 256{more}

What people change:
  --model.run               folder of a finished run
  --model.labeled_clips     training clips whose actions may be seen, the label budget              (256)
  --model.shards            set with labeled clips and episodes; the run's own if not given
  --model.batch_size        clips a step
  --model.width             channels of the heads
  --trainer.max_steps       steps; heads train in seconds
  --trainer.callbacks       evaluations: ControllerError, Planning, ClosedLoop
  --seed_everything         seed of weights and of the clips' order                                 (0)

--help-all lists every setting."""

ENCODER = """\
usage: lam encoder fit --config experiments/KIND.yaml --data.shards DIR --name NAME [--KEY VALUE ...]

Train an encoder on the frames of a set of shards; world models then see its states.

  autoencoder               a grid of features of a small convolutional network, for anything
  keypoints                 one token, the places of a few keypoints: for few moving things before a fixed ground, and to plan

  lam encoder fit --config experiments/keypoints.yaml --data.shards shards/pusht --name keypoints/pusht
  lam fit ... --model.encoder Keypoints --model.encoder.path runs/keypoints/pusht/seed0

What people change:
  --name                    folder under runs/
  --data.shards             folder of shards, made by data_prep; square frames
  --data.batch_size         clips a step
  --model.dim               autoencoder: width of a token
  --model.num_keypoints     keypoints: how many
  --model.width             channels of the hidden layers
  --model.num_halvings      layers that halve the resolution
  --trainer.max_steps       steps
  --seed_everything         seed of weights and of the order of data                                (0)

--help-all lists every setting."""

SHORT_HELP = {
    "fit": FIT,
    "validate": VALIDATE,
    "test": TEST,
    "predict": PREDICT,
    "control fit": CONTROL.format(
        command="fit",
        about="Train heads between actions and latents on a few labeled clips, then plan with them.",
        more="",
    ),
    "control validate": CONTROL.format(
        command="validate",
        about="Plan and act with heads that have been trained.",
        more=" \\\n      --ckpt_path runs/arm/noisy@1e-2/seed0/control/clips256/checkpoints/last.ckpt",
    ),
    "encoder fit": ENCODER,
}
"""Pages of help by command."""
