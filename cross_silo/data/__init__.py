"""COCO data: reading, partitioning, MindRecord shards, and the pipeline that feeds training."""
