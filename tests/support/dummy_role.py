"""A role that does as told, for tests of the launcher: serve, die, hang, ignore SIGTERM, keep a child."""

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from cross_silo.coordination import JobStore, connect
from cross_silo.launch.ready import write_ready

parser = argparse.ArgumentParser()
parser.add_argument("--role_dir", type=Path, required=True)
parser.add_argument("--say", default="")
parser.add_argument("--exit", type=int, help="end with this status before serving")
parser.add_argument("--never_ready", action="store_true")
parser.add_argument("--stubborn", action="store_true", help="ignore SIGTERM")
parser.add_argument("--child", action="store_true", help="keep a child that ignores SIGTERM")
parser.add_argument("--live", type=float, default=60.0, help="seconds until it ends with --status")
parser.add_argument("--status", type=int, default=0)
parser.add_argument("--serve_redis", default="", help="be job's server at this Redis until it is asked to stop")
parser.add_argument("--fl_name", default="job")
arguments = parser.parse_args()


def serve() -> None:
    """Beat as the job's server and stop it when asked to."""
    client = connect(arguments.serve_redis, start_embedded=True, user="server_0")
    store, node = JobStore(client, arguments.fl_name), f"{socket.gethostname()}:{os.getpid()}"
    store.begin({"instance": "i1"})
    while True:
        store.beat("server", node, {})
        write_ready(arguments.role_dir, arguments.serve_redis)
        for command, payload in store.take_requests():
            if command == "stop":
                store.end("stopped", payload["reason"])
                store.leave("server", node)
                print("stopped in order")
                sys.exit(0)
        time.sleep(0.1)


signal.signal(signal.SIGTERM, signal.SIG_IGN if arguments.stubborn else lambda *_: sys.exit(0))
if arguments.say:
    print(arguments.say)
if arguments.exit is not None:
    sys.exit(arguments.exit)
if arguments.child:
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    child.stdout.readline()
    (arguments.role_dir / "child.pid").write_text(str(child.pid))
if arguments.serve_redis:
    serve()
if not arguments.never_ready:
    write_ready(arguments.role_dir, os.environ.get("OMP_NUM_THREADS", "nowhere"))
time.sleep(arguments.live)
sys.exit(arguments.status)
