"""`python -m emotion`."""

from emotion.cli import app

if __name__ == "__main__":
    app()
