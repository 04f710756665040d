"""`python -m facedet`: the command `facedet`."""

from facedet.cli import app

if __name__ == "__main__":
    app(prog_name="facedet")
