"""`python -m pipeline`: the command `crowdmood`."""

from pipeline.cli import app

if __name__ == "__main__":
    app(prog_name="crowdmood")
