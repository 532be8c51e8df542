"How fast taco is, beside the usual way of doing the same. Run `python -m benchmarks.bench`."
