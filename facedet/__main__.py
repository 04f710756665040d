"""`python -m facedet` is the command `facedet`."""

from facedet.cli import app

app()
