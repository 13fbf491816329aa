"""Make a job's initial model, which the server starts from; see --help."""

from cross_silo.checkpoint.init_model import main
from cross_silo.errors import run_main

if __name__ == "__main__":
    run_main(main)
