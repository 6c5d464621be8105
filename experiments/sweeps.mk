# Which knob a family turns and which values a table shows, loose to tight or small to large as the knob goes.
# A new family: its name in FAMILIES, a KNOB_ line and a SWEEP_ line. SWEEP_<family>_<setting> names the values of a setting and
# of those that extend it, FAMILIES_<setting> its families where they are not all.
FAMILIES := none identity cuts noisy sparse vq nsvq diveq fsq rvq residual nested nested_rvq

KNOB_noisy      := beta
KNOB_sparse     := lambda_l1
KNOB_vq         := num_codes
KNOB_nsvq       := num_codes
KNOB_diveq      := num_codes
KNOB_fsq        := num_levels
KNOB_rvq        := num_quantizers
# no wider than the latent, num_latents * latent_dim numbers
KNOB_residual   := num_floats
# one model for every smaller value too
KNOB_nested     := num_floats
KNOB_nested_rvq := num_quantizers

# What a setting has that names no values and extends none that does: a few that suit videos of one's own.
SWEEP_noisy      := 1e-2 1e-3 1e-4
SWEEP_sparse     := 0.1 0.01
SWEEP_vq         := 8 64
SWEEP_nsvq       := 8 64
SWEEP_diveq      := 8 64
SWEEP_fsq        := 3 8
SWEEP_rvq        := 1 4
SWEEP_residual   := 4 32
SWEEP_nested     := 32
SWEEP_nested_rvq := 4

# One value each: a row of a small model takes ten seconds on two cores.
SWEEP_noisy_demo    := 3e-3
SWEEP_sparse_demo   := 0.05
SWEEP_vq_demo       := 32
SWEEP_nsvq_demo     := 16
SWEEP_diveq_demo    := 16
SWEEP_fsq_demo      := 5
SWEEP_rvq_demo      := 2
SWEEP_residual_demo := 4
SWEEP_nested_demo := 8
SWEEP_nested_rvq_demo := 3

SWEEP_noisy_bridge    := 1e-2 1e-3
SWEEP_sparse_bridge   := 0.1 0.01
SWEEP_vq_bridge       := 4 32
SWEEP_nsvq_bridge     := 4 32
SWEEP_diveq_bridge    := 4 32
SWEEP_fsq_bridge      := 3 8
SWEEP_rvq_bridge      := 1 3
SWEEP_residual_bridge := 1 8
SWEEP_nested_bridge := 8
SWEEP_nested_rvq_bridge := 3

# The study's settings and series: tight to loose.
SWEEP_noisy_arm    := 1e-1 3e-2 1e-2 1e-3
SWEEP_sparse_arm   := 0.2 0.1 0.05 0.01
SWEEP_vq_arm       := 4 16 64 256
SWEEP_nsvq_arm     := 8 32 128
SWEEP_diveq_arm    := 4 16 64 256
SWEEP_fsq_arm      := 2 3 5 8
SWEEP_rvq_arm      := 1 2 4
SWEEP_residual_arm := 1 2 4 16
SWEEP_nested_arm := 16
SWEEP_nested_rvq_arm := 4
STUDY := nav scene texture distractors policy transfer
$(foreach s,$(STUDY),$(foreach f,$(FAMILIES),$(eval SWEEP_$f_$s := $(SWEEP_$f_arm))))
# a moving camera is most of the change: sparsity of 0.2 still closes half of the gap
SWEEP_sparse_nav   := 0.8 0.2 0.05 0.01

# Minutes a row, so few of them.
SWEEP_noisy_pusht    := 1e-2 1e-3
SWEEP_sparse_pusht   := 0.1 0.01
SWEEP_vq_pusht       := 16 64
SWEEP_nsvq_pusht     := 32
SWEEP_diveq_pusht    := 32
SWEEP_fsq_pusht      := 3
SWEEP_rvq_pusht      := 2
SWEEP_residual_pusht := 2
SWEEP_nested_pusht := 2
SWEEP_nested_rvq_pusht := 2

# A few families, since the world is simple.
FAMILIES_rooms       := none identity noisy sparse vq residual
SWEEP_noisy_rooms    := 1e-2 1e-3
SWEEP_sparse_rooms   := 0.01
SWEEP_vq_rooms       := 16 64
SWEEP_residual_rooms := 2

# Few rows for each world of a series (make distractors).
SERIES_ROWS := none identity noisy:beta@1e-2 noisy:beta@1e-3 vq:num_codes@16

# Budgets of labeled clips that controllers learn from, and behavior cloning; settings named here have planning columns.
LABELS_arm   := 256
LABELS_nav   := 256
LABELS_pusht := 1024
LABELS_quality := $(LABELS_pusht)
LABELS_rooms := 800

# How encoders are trained on a setting's own video first.
ENCODER_pusht-keypoints := --trainer.max_steps 4000
ENCODER_rooms-keypoints := $(ENCODER_pusht-keypoints)
ENCODER_quality-keypoints := $(ENCODER_pusht-keypoints)
# Simulators that need no packages of the extra sim.
PLAIN_SIMULATORS := rooms
# Simulator of a series of recordings, whose names are other than the simulator's.
SIMULATOR_quality := pusht

# Shares of the gap that make matched trains families to.
LEVELS := 0.5 0.75 0.9

# Published systems (experiments/systems) and the rows of each; anchors are trained under its own heads.
SYSTEMS       := lapa univla adaworld garrido rla lapo moto
ROWS_lapa     := nsvq:num_codes@8
ROWS_univla   := vq:num_codes@16
ROWS_adaworld := noisy:beta@3.6e-2 noisy:beta@2e-4
ROWS_garrido  := noisy:beta@5e-5 sparse:lambda_l1@0.05 vq:num_codes@16
ROWS_rla      := residual:num_floats@2048 residual:num_floats@64
ROWS_lapo     := vq:num_codes@64
ROWS_moto     := vq:num_codes@128
