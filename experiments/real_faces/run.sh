#!/bin/sh
# experiments/real_faces/run.sh CELEBA PAIRS JUDGES RUNS: everything that experiments/real_faces/results.json holds.
# What is there is not made again, and what was stopped goes on. THREADS, QUERIES and SOME may be set.
set -e
celeba=$1 pairs=$2 judges=$3 runs=$4
python=${PYTHON:-python} threads=${THREADS:-1} queries=${QUERIES:-200} some=${SOME:-64}
test -f "$runs/pairs/regions.csv" || $python experiments/real_faces/pairs.py "$pairs" "$runs/pairs"

explain() { # NAME, and settings
  name=$1
  shift
  test -f "$runs/$name/metrics.json" || $python -m cfexp.explain "$@" "data.root=$celeba" "pairs_root=$runs/pairs" \
    num_threads="$threads" data.eval_batch_size=8 hydra.run.dir="$runs/$name"
}

explain smile +experiment=real_smile data.max_test_images="$queries"
explain smile_pgd +experiment=real_smile explainer=pgd '~explainer.proximity_weight' data.max_test_images="$queries"
explain smile_hair_background +experiment=real_smile 'regions=[hair,background]' data.max_test_images="$some"
explain smile_mouth +experiment=real_smile 'regions=[mouth]' data.max_test_images="$some"
explain young +experiment=real_young data.max_test_images="$queries"
set -- smile smile_pgd smile_hair_background smile_mouth young
$python experiments/real_faces/figures.py experiments/real_faces/results.json --celeba "$celeba" \
  --pairs "$runs/pairs" --stages "${CFEXP_CACHE:-$HOME/.cache/cfexp}/stages" --judge "$judges/faceapi_happy.pt" \
  $(for name; do echo "$runs/$name"; done)
