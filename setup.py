"""The distribution `crowdmood`: three import packages, three commands. Settings of tools are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

BASE = [
    "numpy>=1.26",
    "opencv-python>=4.10,<5",  # OpenCV 5 has no CascadeClassifier
    "onnxruntime>=1.19",
    "pillow>=10.3",
    "requests>=2.31",
    "typer>=0.12",
    "rich>=13.7",
]
EXTRAS = {
    "train": [
        "torch>=2.4",
        "torchvision>=0.19",
        "onnx>=1.16",
        "onnxscript>=0.1",
        "pycocotools>=2.0.8",
        "pyyaml>=6",
        "scikit-learn>=1.4",
        "scipy>=1.11",
        "matplotlib>=3.8",
        "supervision>=0.25",
        "tensorboard>=2.16",
    ],
    "heic": ["pillow-heif>=0.18"],
    "video": ["supervision>=0.26", "trackers>=2.0"],
    # Builds from source and looks for torch while it does: pip install --no-build-isolation "crowdmood[detectron2]"
    "detectron2": ["detectron2 @ git+https://github.com/facebookresearch/detectron2.git"],
    "dev": [
        "pytest>=8",
        "pytest-timeout>=2.3",
        "pytest-xdist>=3.5",
        "hypothesis>=6.100",
        "pillow-heif>=0.18",
        "jsonschema>=4.20",
        "scikit-image>=0.22",
        "trackers>=2.0",
        "mypy>=1.11",
        "ruff>=0.6",
        "types-requests>=2.31",
    ],
}

setup(
    name="crowdmood",
    version="0.1.0",
    description="Find the faces in photos of crowds and read their expressions",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    # By name: a bare find_packages() would install `datasets` and `tests` and shadow other people's packages.
    packages=find_packages(include=["facedet*", "emotion*", "pipeline*"]),
    package_data={"": ["py.typed", "weights/*.onnx", "weights/*.md", "*.json", "schema/*.json", "templates/*"]},
    install_requires=BASE,
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": [
            "crowdmood=pipeline.cli:app",
            "facedet=facedet.cli:app",
            "emotion=emotion.cli:app",
        ]
    },
    zip_safe=False,
)
