"""The engine's own YAML loads; what it would promise in vain is refused or named."""

from __future__ import annotations

import pytest

from cross_silo.config.federated import load_federated
from cross_silo.errors import UserError

TUTORIAL = """
fl_name: fasterrcnn
fl_iteration_num: 30
server_mode: CLOUD_TRAINING
enable_ssl: false
distributed_cache: {type: redis, address: "127.0.0.1:2345", plugin_lib_path: ""}
round:
  start_fl_job_threshold: 2
  start_fl_job_time_window: 30000
  update_model_ratio: 1.0
  update_model_time_window: 30000
  global_iteration_time_window: 60000
summary: {metrics_file: metrics.json, failure_event_file: event.txt, continuous_failure_times: 10, data_rate_dir: ..}
encrypt: {encrypt_train_type: NOT_ENCRYPT, pw_encrypt: {share_secrets_ratio: 1.0, cipher_time_window: 3000}}
compression: {upload_compress_type: NO_COMPRESS, upload_sparse_rate: 0.4, download_compress_type: NO_COMPRESS}
ssl: {server_cert_path: server.p12}
client_verify: {pki_verify: false}
client: {http_url_prefix: "", client_epoch_num: 20, client_batch_size: 32, client_learning_rate: 0.01}
"""


def test_the_tutorials_yaml_loads(tmp_path, capsys):
    file = tmp_path / "f.yaml"
    file.write_text(TUTORIAL)
    config = load_federated(file)
    assert (config.fl_name, config.client.client_epoch_num, config.round.start_fl_job_threshold) == (
        "fasterrcnn",
        20,
        2,
    )
    note = capsys.readouterr().err
    assert "summary.failure_event_file" in note and "summary.data_rate_dir" in note
    assert "metrics_file" not in note


@pytest.mark.parametrize(
    "old, new, key",
    [
        ("NOT_ENCRYPT", "STABLE_PW_ENCRYPT", "encrypt.encrypt_train_type is 'STABLE_PW_ENCRYPT'"),
        ("upload_compress_type: NO_COMPRESS", "upload_compress_type: DIFF_SPARSE_QUANT", "upload_compress_type"),
        ("pki_verify: false", "pki_verify: true", "client_verify.pki_verify is True"),
        ("fl_name: f", "aggregation_type: FedNova\nfl_name: f", "unknown key 'aggregation_type'"),
    ],
)
def test_what_would_change_the_training_is_refused(tmp_path, old, new, key):
    file = tmp_path / "f.yaml"
    file.write_text(TUTORIAL.replace(old, new))
    with pytest.raises(UserError) as error:
        load_federated(file)
    assert key in str(error.value)
