#!/usr/bin/env bash
# From nothing to a trained detector: set up, make data, split it over two silos, convert it, train in a federation,
# and show loss, AP and what was moved. Fails where the final AP50 is below the one that is expected.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage="expected: [faster_rcnn|yolo|mistnet] [--engine native|mindspore_federated]"
demo=${1:-faster_rcnn} engine=native
if [ $# -gt 1 ]; then
  [ $# -eq 3 ] && [ "$2" = --engine ] || { echo "error: '${*:2}'; $usage" >&2; exit 2; }
  engine=$3
fi
case $engine in
  native) ;;
  mindspore_federated) bash scripts/setup_engine.sh ;;
  *) echo "error: engine '$engine'; $usage" >&2; exit 2 ;;
esac
case $demo in
  faster_rcnn) job=demo_faster_rcnn model=configs/faster_rcnn_r18_demo.yaml ;;
  yolo) job=demo_yolov5 model=configs/yolov5n_demo.yaml ;;
  mistnet) job=demo_mistnet model=configs/yolov5n_demo.yaml ;;
  *) echo "error: demo '$demo', $usage" >&2; exit 2 ;;
esac
[ "$demo" != mistnet ] || [ "$engine" = native ] || { echo "error: mistnet with engine '$engine', expected native" >&2; exit 2; }
run=runs/$job data=data/demo

bash scripts/setup.sh
python=.venv/bin/python
began=$SECONDS

read -r redis sched server < <("$python" -m cross_silo.launch.free_ports 3)
finish() { "$python" scripts/finish.py --redis_port "$redis" --fl_name "$job" --run_dir "$run" >/dev/null || true; }
trap finish EXIT

echo "== data: synthetic shapes, split over two silos with skewed labels, one MindRecord directory a silo"
rm -rf "$data" "$run"
"$python" tools/make_synthetic_coco.py --out "$data/train" --num_images 1200 --size 160 160 --seed 1
"$python" tools/make_synthetic_coco.py --out "$data/val" --num_images 200 --size 160 160 --seed 2 --validation

if [ "$demo" = mistnet ]; then
  # FedAvg and MistNet start from one checkpoint, trained on public images of other textures, and take as many steps.
  "$python" tools/make_synthetic_coco.py --out "$data/public" --num_images 1200 --size 160 160 --seed 11 --public
  "$python" tools/benchmarks/mistnet_vs.py --yaml_config "configs/$job.yaml" --config "$model" \
    --annotations "$data/train/annotations.json" --image_dir "$data/train/images" \
    --val_annotations "$data/val/annotations.json" --val_image_dir "$data/val/images" \
    --public_annotations "$data/public/annotations.json" --public_image_dir "$data/public/images" --public_steps 900 \
    --epsilons null 4 --work_dir "$run" --out "$run/results.json" --expect_ap50 0.3
  "$python" tools/plot_loss.py --run_dir "$run/$job/run"
  echo "demo: $((SECONDS - began)) s after set-up; detector: $(ls -t "$run/$job"/fl_ckpt/*_recovery_iteration_*.ckpt | head -n 1)"
  exit
fi

"$python" tools/split_coco.py --annotations "$data/train/annotations.json" --num_silos 2 --scheme dirichlet --alpha 1.0 --seed 1 --out "$data/split_2"
"$python" tools/generate_mindrecord.py --split_dir "$data/split_2" --image_dir "$data/train/images"

echo "== job $job: scheduler, server and two workers"
mkdir -p "$run"
printf 'base: ../../configs/%s.yaml\ndistributed_cache:\n  address: 127.0.0.1:%s\nengine: %s\n' "$job" "$redis" "$engine" > "$run/federated.yaml"
"$python" scripts/run_sched.py --yaml_config "$run/federated.yaml" --scheduler_manage_address "127.0.0.1:$sched"
"$python" scripts/run_server.py --yaml_config "$run/federated.yaml" --config "$model" --tcp_server_ip 127.0.0.1 --checkpoint_dir "$run/fl_ckpt" --local_server_num 1 --http_server_address "127.0.0.1:$server"
"$python" scripts/run_worker.py --yaml_config "$run/federated.yaml" --config "$model" --local_worker_num 2 --dataset_path "$data/split_2" --http_server_address "127.0.0.1:$server"

echo "== rounds"
"$python" tools/show_summary.py --run_dir "$run" --follow --expect_ap50 0.5
"$python" tools/plot_loss.py --run_dir "$run"
echo "demo: $((SECONDS - began)) s after set-up; global model: $(ls -t "$run"/fl_ckpt/*_recovery_iteration_*.ckpt | head -n 1)"
