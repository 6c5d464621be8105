"""What several evaluations share: the clip buffer, splits, ground-truth factors, pairs, rate-distortion."""
