"""A worker process of a MistNet job that sends random features for its silo's; it reads no images."""

from cross_silo.config.federated import load_federated
from cross_silo.errors import run_main
from cross_silo.launch.ready import write_ready
from cross_silo.mistnet.edge import FEATURES
from cross_silo.training.worker import parse
from tests.support.uploader import upload


def main():
    arguments = parse()
    role_dir = arguments.run_dir / f"worker_{arguments.worker_index}"
    config, address = load_federated(arguments.yaml_config), arguments.http_server_address

    def serves():
        write_ready(role_dir, address)

    return upload(config, address, arguments.silo, role_dir / FEATURES, serves=serves)


if __name__ == "__main__":
    run_main(main)
