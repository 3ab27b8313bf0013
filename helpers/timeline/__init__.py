"""Effects over time: their course with its covariance, fading, before and after, seasons, regions and campaigns."""
