"""Runs notebooks on launches and publishes each as one offline page; knows no statistics."""
