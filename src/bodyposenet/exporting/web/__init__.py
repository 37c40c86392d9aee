"""A static web page that runs a model in the browser (`bpnet web`).

Modules:
    model: the model for the page: decoding inside, and its description for the scripts.
    runtime: ONNX Runtime Web, downloaded once from the npm registry.
    site: the files of the page.
    server: a web server for this machine.

The page itself, HTML and JavaScript modules without a build step, is in `resources/web`.
"""
