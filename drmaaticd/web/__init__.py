"""HTTP: routes, handlers, streamed bodies. Handlers parse, await one call of the service, and write."""
