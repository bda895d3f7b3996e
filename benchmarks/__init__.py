"""The benchmarks: ``python -m benchmarks`` measures the daemon and writes `docs/performance.md`.

Every module `bench_*` is one of them; what they share is beside them. Nothing here is installed.
"""
