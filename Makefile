# Two commands set everything up: `make demo` and `make test`. Nothing outside this folder is changed.
PYTHON ?= python3
PHOTOS ?= examples/crowd.jpg
OUT ?= crowdmood-out
TESTS ?= tests
export PHOTOS OUT

# Real data, see datasets/README.md
ifdef CROWDMOOD_DATASETS
FER2013 ?= $(CROWDMOOD_DATASETS)/fer2013/archive.zip
FERPLUS ?= $(CROWDMOOD_DATASETS)/fer2013/ferplus_votes.csv
WIDER_TRAIN ?= $(CROWDMOOD_DATASETS)/wider_face/train
WIDER ?= $(CROWDMOOD_DATASETS)/wider_face/dev
else
FER2013 ?= datasets/fer2013/data/archive.zip
FERPLUS ?= datasets/fer2013/data/ferplus_votes.csv
WIDER_TRAIN ?= datasets/wider_face/data/train
WIDER ?= datasets/wider_face/data/dev
endif

.PHONY: help demo test check format bench reproduce retrain-emotion retrain-compact retrain-faster-rcnn clean

help:
	@echo "make demo [PHOTOS=photo-or-folder] [OUT=folder]   faces and emotions on a photo, in .venv without torch"
	@echo "make test [TESTS=path]                            all tests, in .venv-test with every extra"
	@echo "make check                                        ruff and mypy --strict, in .venv-test"
	@echo "make bench [WIDER=folder] [YUNET=] [FASTER_RCNN=] face detectors side by side: accuracy, time, memory"
	@echo "make reproduce [FER2013=archive.zip]              earlier projects' emotion models, trained again (hours)"
	@echo "make retrain-emotion [FER2013= FERPLUS=]          the recipe of the shipped classifier (hours)"
	@echo "make retrain-compact DATATURKS= MASKS= WEBFACES= WIDER_MORE= [WIDER_TRAIN=]   the recipe of the shipped detector (hours)"
	@echo "make retrain-faster-rcnn DATATURKS= [WIDER_TRAIN=]      the recipe of the Faster R-CNN in docs/faster_rcnn.md (an hour)"
	@echo "make format                                       let ruff mend what it can"
	@echo "make clean                                        remove both environments and all caches"

# A stamp per environment: install again only when what is to be installed has changed.
.venv/.installed: setup.py pyproject.toml
	@echo "Setting up .venv (once; a minute or two) ..."
	@$(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv-test/.installed: setup.py pyproject.toml
	@echo "Setting up .venv-test with torch (once; several minutes) ..."
	@$(PYTHON) -m venv .venv-test
	@.venv-test/bin/python -m pip install --quiet --disable-pip-version-check --editable ".[train,dev]"
	@touch $@

# One bad photo makes the command exit 1; the results of the others are there all the same.
demo: .venv/.installed
	@status=0; .venv/bin/crowdmood annotate "$$PHOTOS" -o "$$OUT" || status=$$?; \
	if [ -d "$$OUT" ]; then \
	    echo "Pictures: $$OUT/annotated   Data: $$OUT/results.jsonl and $$OUT/faces.csv"; \
	fi; \
	exit $$status

test: .venv-test/.installed
	.venv-test/bin/python -m pytest -n logical --maxprocesses 4 --dist worksteal $(TESTS)

check: .venv-test/.installed
	.venv-test/bin/ruff check .
	.venv-test/bin/ruff format --check .
	.venv-test/bin/mypy

format: .venv-test/.installed
	.venv-test/bin/ruff check --fix .
	.venv-test/bin/ruff format .

bench: .venv-test/.installed
	.venv-test/bin/python benchmarks/detectors.py --photos "$(WIDER)" \
	    $(if $(YUNET),--yunet "$(YUNET)") $(if $(FASTER_RCNN),--faster-rcnn "$(FASTER_RCNN)")

reproduce: .venv-test/.installed
	.venv-test/bin/emotion reproduce --data "$(FER2013)"

EMOTION_TRAIN = .venv-test/bin/emotion train --data "$(FER2013)" --ferplus "$(FERPLUS)" --resume
retrain-emotion: .venv-test/.installed
	$(EMOTION_TRAIN) --epochs 19 -o runs/emotion-1
	$(EMOTION_TRAIN) --epochs 17 --lr 1.5e-3 --size 40 --augmentation mild --weights runs/emotion-1/last.pt -o runs/emotion-2
	$(EMOTION_TRAIN) --epochs 9 --lr 8e-4 --size 40 --augmentation seam --weights runs/emotion-2/last.pt -o runs/emotion-3
	$(EMOTION_TRAIN) --epochs 23 --lr 1.2e-3 --size 40 --augmentation seam --mixup 0.2 --weights runs/emotion-3 \
	    --teacher runs/emotion-3 --teacher runs/emotion-2 --distill-weight 0.4 --seed 5 -o runs/emotion-4
	$(EMOTION_TRAIN) --model fer_resnet_wide --epochs 14 --lr 1.4e-3 --size 40 --augmentation seam \
	    --weights runs/emotion-4/last.pt --teacher runs/emotion-4 --distill-weight 0.35 -o runs/emotion-5
	$(EMOTION_TRAIN) --model fer_resnet_wide --config emotion/weights/default-run-6.json --weights runs/emotion-5/last.pt \
	    --teacher runs/emotion-5 --teacher runs/emotion-4 -o runs/emotion-6
	.venv-test/bin/emotion average runs/emotion-5 runs/emotion-6 -o runs/emotion-mean/best.pt
	$(EMOTION_TRAIN) --model fer_resnet_wide --config emotion/weights/default-run-7.json --weights runs/emotion-mean \
	    --teacher runs/emotion-mean --teacher ferplus -o runs/emotion-7
	$(EMOTION_TRAIN) --model fer_resnet_wide --config emotion/weights/default-run-8.json --weights runs/emotion-mean -o runs/emotion-8
	.venv-test/bin/emotion average runs/emotion-7 runs/emotion-7/last.pt -o runs/emotion-7-mean/best.pt
	.venv-test/bin/emotion average runs/emotion-7-mean runs/emotion-8 --share 0.3 -o runs/emotion-last/best.pt
	.venv-test/bin/emotion export runs/emotion-last -o runs/emotion.onnx --data "$(FER2013)"

# DATATURKS, MASKS, WEBFACES and WIDER_MORE: folders that `facedet prepare` has written; the commands are in facedet/weights/compact.md.
COMPACT_TRAIN = .venv-test/bin/facedet train --model compact --data "$(WIDER_TRAIN)" --data "$(DATATURKS)" --eval-every 0 --resume
COMPACT_GO_ON = --face-px 8 288 --ema-decay 0.998 --no-remember --no-fit-boxes
COMPACT_ON_WIDER = .venv-test/bin/facedet train --model compact --data "$(WIDER_TRAIN)" --data "$(WIDER_MORE)" --eval-every 0 --resume \
    $(COMPACT_GO_ON) --start-share 0 --mosaic 0.1 --warmup-steps 100
COMPACT_BY_MUON = $(COMPACT_ON_WIDER) --freeze none --optimiser muon --precision bfloat16 --compile
retrain-compact: .venv-test/.installed
	@test -n "$(DATATURKS)" -a -n "$(MASKS)" -a -n "$(WEBFACES)" -a -n "$(WIDER_MORE)" \
	    || { echo "expected DATATURKS=, MASKS=, WEBFACES= and WIDER_MORE=, see facedet/weights/compact.md" >&2; exit 2; }
	$(COMPACT_TRAIN) --data "$(MASKS)" --weights none --epochs 18 --lr 2e-3 --out runs/compact-1
	$(COMPACT_TRAIN) $(COMPACT_GO_ON) --freeze stem --start-share 0 --weights runs/compact-1/best.onnx --epochs 54 --lr 1.5e-3 --warmup-steps 300 --out runs/compact-2
	$(COMPACT_TRAIN) $(COMPACT_GO_ON) --freeze stem --data "$(WIDER_TRAIN)" --data "$(MASKS)" --weights runs/compact-2/best.onnx \
	    --start-share 0 --epochs 12 --lr 1e-3 --warmup-steps 200 --seed 4 --out runs/compact-3
	$(COMPACT_TRAIN) $(COMPACT_GO_ON) --freeze stem --data "$(WIDER_TRAIN)" --data "$(MASKS)" --weights runs/compact-3/best.onnx \
	    --start-share 0 --augmentation strong --mosaic 0.3 --epochs 22 --lr 1.5e-3 --warmup-steps 200 --seed 5 --out runs/compact-4
	.venv-test/bin/facedet audit "$(WEBFACES)" --detector runs/compact-4/best.onnx --confident 0.5 --unsure 0.3 \
	    --propose "$(WEBFACES)/proposed.json"
	$(COMPACT_TRAIN) $(COMPACT_GO_ON) --freeze stem --data "$(WIDER_TRAIN)" --data "$(WIDER_TRAIN)" --data "$(WEBFACES)/proposed.json" --data "$(MASKS)" \
	    --weights runs/compact-4/best.onnx --start-share 0.5 --augmentation strong --mosaic 0.3 --epochs 7 --lr 1.5e-3 \
	    --warmup-steps 200 --seed 6 --out runs/compact-5
	$(COMPACT_TRAIN) --data "$(WIDER_TRAIN)" --data "$(WIDER_TRAIN)" --data "$(WIDER_MORE)" --data "$(WIDER_MORE)" --data "$(WIDER_MORE)" \
	    --data "$(DATATURKS)" --data "$(WEBFACES)/proposed.json" --data "$(MASKS)" --weights runs/compact-5/best.onnx --start-share 0 \
	    $(COMPACT_GO_ON) --freeze backbone --augmentation strong --mosaic 0.3 --epochs 8 --lr 2e-3 \
	    --warmup-steps 200 --seed 10 --out runs/compact-6
	$(COMPACT_ON_WIDER) --weights runs/compact-6/best.onnx --freeze stem --augmentation strong --epochs 20 --lr 1.5e-3 --seed 13 --out runs/compact-7
	.venv-test/bin/facedet average runs/compact-7 runs/compact-6 --share 0.25 -o runs/compact-7-mean/best.pt
	$(COMPACT_ON_WIDER) --weights runs/compact-7-mean/best.pt --freeze stem --augmentation strong --epochs 20 --lr 2e-3 --seed 14 --out runs/compact-8
	.venv-test/bin/facedet average runs/compact-8 runs/compact-7-mean --share 0.5 -o runs/compact-8-mean/best.pt
	$(COMPACT_BY_MUON) --weights runs/compact-8-mean/best.pt --epochs 28 --lr 2e-3 --seed 22 --out runs/compact-9
	$(COMPACT_BY_MUON) --weights runs/compact-9/best.onnx --epochs 46 --lr 3e-3 --seed 23 --out runs/compact-10
	$(COMPACT_BY_MUON) --weights runs/compact-10/best.onnx --size 448 --batch-size 8 --face-px 8 400 --epochs 26 --lr 2e-3 --seed 24 --out runs/compact-11
	$(COMPACT_BY_MUON) --weights runs/compact-11/best.onnx --size 448 --batch-size 8 --face-px 6 400 --epochs 27 --lr 2.5e-3 --seed 25 --out runs/compact-12
	.venv-test/bin/facedet export runs/compact-12 -o runs/compact.onnx --int8 "$(WIDER_TRAIN)"

FASTER_RCNN_TRAIN = .venv-test/bin/facedet train --model faster_rcnn_compact_fpn --crop-px 320 --batch-size 8 \
    --test-short-px 400 --test-long-px 720 --resume
retrain-faster-rcnn: .venv-test/.installed
	@test -n "$(DATATURKS)" || { echo "expected DATATURKS=, see docs/faster_rcnn.md" >&2; exit 2; }
	$(FASTER_RCNN_TRAIN) --weights bundled --data "$(WIDER_TRAIN)" --data "$(DATATURKS)" --data "$(DATATURKS)" --data "$(DATATURKS)" \
	    --steps 1600 --lr 0.02 --warmup-steps 150 --eval-every 800 --out runs/faster-rcnn-1
	$(FASTER_RCNN_TRAIN) --weights runs/faster-rcnn-1/model_best.pth --data "$(DATATURKS)" \
	    --steps 360 --lr 0.01 --warmup-steps 30 --eval-every 120 --out runs/faster-rcnn-2

clean:
	rm -rf .venv .venv-test .mypy_cache .pytest_cache .ruff_cache .hypothesis build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
