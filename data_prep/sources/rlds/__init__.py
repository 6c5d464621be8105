"""RLDS data sets: TFRecord files of tfds."""
