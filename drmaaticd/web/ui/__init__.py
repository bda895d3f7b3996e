"""The page: what people see in a browser, under ``/ui/``.

Its handlers ask the same service as the API's and see nothing else of the daemon.
"""
