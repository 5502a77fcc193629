"""One page: what the demo reads from the container that strata built."""

import platform

from flask import Flask

app = Flask(__name__)


@app.route("/")
def hello():
    return f"Hello from flask, on Python {platform.python_version()}.\n"
