"""Heavy tails: quantiles, ranks, trimming, resampling, and the question how few accounts carry an effect."""
