"""Number of usable cores, by affinity and by quotas in a fake cgroup file system."""

import os

import pytest

import bodyposenet
from bodyposenet import cpu
from bodyposenet.errors import BodyPoseNetError


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)


def write_tree(root, files):
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text + "\n")


V2 = "0::/kubepods/pod1/main"
V1 = "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n3:cpuset:/docker/abc"


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        # Version 2: in a container, its own group is the root; on a host, the whole path is used.
        ("0::/", {"cpu.max": "200000 100000"}, 2),
        ("0::/", {"cpu.max": "150000 100000"}, 2),
        ("0::/", {"cpu.max": "20000 100000"}, 1),
        ("0::/", {"cpu.max": "max 100000"}, 8),
        ("0::/", {"cpu.max": "1600000 100000"}, 8),
        (V2, {"kubepods/pod1/main/cpu.max": "400000 100000"}, 4),
        (V2, {"kubepods/pod1/main/cpu.max": "max 100000", "kubepods/cpu.max": "300000 100000"}, 3),
        (V2, {"cpu.max": "100000 50000"}, 2),
        # Version 1: in a container, the path is that of the host, but its own group is the root.
        (V1, {"cpu/docker/abc/cpu.cfs_quota_us": "250000",
              "cpu/docker/abc/cpu.cfs_period_us": "100000"}, 3),
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "100000",
              "cpu,cpuacct/cpu.cfs_period_us": "100000"}, 1),
        (V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 8),
        # Both versions, as systemd mounts them on older systems.
        (V1 + "\n0::/user", {"unified/user/cpu.max": "500000 100000"}, 5),
        ("", {}, 8),
        ("0::/", {"cpu.max": "nonsense"}, 8),
    ],
)  # fmt: skip
def test_a_quota_limits_the_cores(tmp_path, groups, files, cores):
    tree = {f"sys/fs/cgroup/{path}": text for path, text in files.items()}
    write_tree(tmp_path, {"proc/self/cgroup": groups, **tree})
    assert cpu.usable_cores(tmp_path) == cores
    assert cpu.quota_cores(tmp_path) == (None if cores == 8 else cores)


def test_a_system_without_control_groups_has_no_quota(tmp_path):
    assert cpu.usable_cores(tmp_path) == 8
    assert cpu.quota_cores(tmp_path) is None


def test_affinity_below_the_quota_limits_the_cores(tmp_path, monkeypatch):
    write_tree(tmp_path, {"proc/self/cgroup": "0::/", "sys/fs/cgroup/cpu.max": "400000 100000"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5}, raising=False)
    assert cpu.usable_cores(tmp_path) == 1


def test_quota_sets_thread_limits_of_libraries(monkeypatch):
    names = ("OMP_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
    for name in names:
        monkeypatch.setenv(name, "restored after the test")
        del os.environ[name]
    monkeypatch.setattr(cpu, "quota_cores", lambda: None)
    cpu.limit_threads()
    assert not set(names) & set(os.environ)
    os.environ["OMP_NUM_THREADS"] = "1"
    monkeypatch.setattr(cpu, "quota_cores", lambda: 3)
    cpu.limit_threads()
    assert [os.environ[name] for name in names] == ["1", "3"]


def test_a_quota_limits_the_threads_of_a_network(monkeypatch):
    calls = []

    def open_session(path, *, threads, **_):
        calls.append(threads)
        raise BodyPoseNetError("stopped by the test")

    monkeypatch.setattr("bodyposenet.inference.engines.onnx.open_session", open_session)
    for quota, threads, expected in ((None, None, None), (3, None, 3), (3, 5, 5)):
        monkeypatch.setattr("bodyposenet.inference.models.quota_cores", lambda quota=quota: quota)
        with pytest.raises(BodyPoseNetError, match="stopped by the test"):
            bodyposenet.load(threads=threads)
        assert calls.pop() == expected
