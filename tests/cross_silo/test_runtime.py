"""What is set before MindSpore is imported."""

from __future__ import annotations

import platform
import sys

import pytest

from cross_silo import runtime


@pytest.fixture()
def bare(monkeypatch):
    """An x86-64 host without settings of the user's, before MindSpore is imported."""
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    for name in (runtime.ISA_VARIABLE, "OMP_NUM_THREADS", "GLOG_v"):
        monkeypatch.setenv(name, "x")  # so that what prepare() sets is undone
        monkeypatch.delenv(name)
    monkeypatch.delitem(sys.modules, "mindspore", raising=False)
    return monkeypatch


def cpuinfo(tmp_path, flags):
    file = tmp_path / "cpuinfo"
    file.write_text(f"processor : 0\nflags\t\t: fpu {flags}\n")
    return str(file)


def test_avx512_is_held_to_avx2(bare, tmp_path):
    runtime.prepare(cpuinfo=cpuinfo(tmp_path, "avx2 avx512f"))
    assert runtime.os.environ[runtime.ISA_VARIABLE] == "AVX2"


def test_a_users_setting_wins(bare, tmp_path):
    bare.setenv(runtime.ISA_VARIABLE, "AVX512_CORE")
    runtime.prepare(cpuinfo=cpuinfo(tmp_path, "avx2 avx512f"))
    assert runtime.os.environ[runtime.ISA_VARIABLE] == "AVX512_CORE"


def test_other_hosts_are_left_alone(bare, tmp_path):
    runtime.prepare(cpuinfo=cpuinfo(tmp_path, "avx2"))
    runtime.prepare(cpuinfo=str(tmp_path / "missing"))
    bare.setattr(platform, "machine", lambda: "aarch64")
    runtime.prepare(cpuinfo=cpuinfo(tmp_path, "avx512f"))
    assert runtime.ISA_VARIABLE not in runtime.os.environ


def test_too_late_is_an_error(bare, tmp_path):
    bare.setitem(sys.modules, "mindspore", object())
    with pytest.raises(RuntimeError, match="before mindspore is imported"):
        runtime.prepare(cpuinfo=cpuinfo(tmp_path, "avx512f"))


def test_threads(bare, tmp_path):
    runtime.prepare(threads=1, cpuinfo=cpuinfo(tmp_path, ""))
    assert runtime.os.environ["OMP_NUM_THREADS"] == "1"
