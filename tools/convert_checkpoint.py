"""Convert weights between .ckpt, .safetensors, .pth and .pt, and between public names and ours; see --help."""

from cross_silo.checkpoint.convert import main
from cross_silo.errors import run_main

NAMINGS = {
    "yolov5": "yolo.names:PublicYOLOv5",
    "torchvision_resnet": "faster_rcnn.names:TorchvisionResNet",
    "torchvision_faster_rcnn": "faster_rcnn.names:TorchvisionFasterRCNN",
}
"""The public names of the detectors that come with the project."""

if __name__ == "__main__":
    run_main(lambda: main(NAMINGS))
