"""The OpenAPI 3.1 document: every route, parameter, header, media type, status and answer. Pure.

`models` are the answers, `operations` what each route does, `forms` the requests that a script takes,
`document` puts them together, `markdown` writes the reference page.
"""
