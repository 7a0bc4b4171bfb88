# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoints are read without PyTorch, and nothing in them is ever run."""

import collections
import contextlib
import pathlib
import pickle
import sys
import time
import warnings

import numpy as np
import pytest

from vivant.backends.common.errors import BrokenFile, UnsupportedFormat, VivantError
from vivant.backends.gaussian.formats import torch_file

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from torch_files import Named, archive, saved


def read(data):
    return torch_file.load(np.frombuffer(data, np.uint8))


def state(seed=0):
    random = np.random.default_rng(seed)
    return {
        "weight": random.normal(size=(3, 5)).astype(np.float32),
        "double": random.normal(size=4),
        "half": random.normal(size=(2, 2)).astype(np.float16),
        "count": np.arange(6).reshape(2, 3),
        "mask": np.array([True, False]),
        "empty": np.empty((0, 3), np.float32),
        "scalar": np.array(2.5, np.float32),
    }


@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_what_is_saved_is_read(protocol):
    tensors = state()
    value = (collections.OrderedDict(tensors), 30000, [1.5, None, True, "text", -(10**30)], {"nested": {"a": (1, 2, 3, 4)}})
    found = read(saved(value, protocol))
    for name, array in tensors.items():
        np.testing.assert_array_equal(found[0][name], array)
        assert found[0][name].dtype == array.dtype
    assert found[1:] == value[1:]


def test_a_damaged_name_in_a_pickle_makes_no_noise():
    data = archive({"a/data.pkl": b"\x80\x02ctorch._utils\n\\_rebuild\n."})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with contextlib.suppress(VivantError):
            read(data)


def test_tensors_share_the_file_s_bytes():
    data = np.frombuffer(saved(state()), np.uint8)
    assert np.shares_memory(torch_file.load(data)["weight"], data)


def test_files_of_pytorch_itself_are_read(tmp_path):
    torch = pytest.importorskip("torch")
    layers = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    optimiser = torch.optim.Adam(layers.parameters())
    layers(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    whole = torch.arange(24.0).reshape(4, 6)
    value = {
        "state": layers.state_dict(),
        "optimiser": optimiser.state_dict(),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "turned": whole.T,
        "part": whole[1:3, 2:4],
        "small": torch.tensor([1.5, -2.25], dtype=torch.bfloat16),
        "number": np.float64(2.5),
    }
    torch.save(value, tmp_path / "all.pth")
    found = torch_file.load(np.memmap(tmp_path / "all.pth", np.uint8, "r"))
    for name, tensor in layers.state_dict().items():
        np.testing.assert_array_equal(found["state"][name], tensor.numpy())
    np.testing.assert_array_equal(found["turned"], whole.T.numpy())
    np.testing.assert_array_equal(found["part"], whole[1:3, 2:4].numpy())
    np.testing.assert_array_equal(found["parameter"], [1, 1])
    np.testing.assert_array_equal(found["small"], [1.5, -2.25])
    assert found["optimiser"]["param_groups"][0]["lr"] == 0.001
    assert isinstance(found["number"], torch_file.Unknown)
    torch.save(value, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    with pytest.raises(UnsupportedFormat, match=r"before 1\.6"):
        torch_file.load(np.fromfile(tmp_path / "old.pth", np.uint8))


@pytest.mark.parametrize("call", [("os", "system"), ("builtins", "eval"), ("builtins", "exec"), ("vivant_trap", "spring")])
def test_nothing_that_a_file_names_is_imported_or_called(call, tmp_path):
    trap = tmp_path / "sprung"
    found = read(saved({"trap": Named(*call, f"touch {trap}"), "weight": np.ones(2)}))
    assert found["trap"] == torch_file.Unknown(".".join(call))
    np.testing.assert_array_equal(found["weight"], [1, 1])
    assert not trap.exists()
    assert "vivant_trap" not in sys.modules


def test_instructions_that_no_network_needs_are_refused():
    program = b"\x80\x02cos\nsystem\n(S'true'\no."  # OBJ
    with pytest.raises(BrokenFile, match="OBJ"):
        read(archive({"data.pkl": program}))
    with pytest.raises(BrokenFile, match="no name"):
        read(archive({"data.pkl": b"\x80\x02]]R."}))


def bombs():
    nested = b"\x80\x02" + b")" + b"".join(b"2\x86" for _ in range(60))  # a pair of pairs of pairs …
    return {
        "nested pairs as a key": b"\x80\x02}"
        + b"K\x00"
        + b"K\x01\x86q\x00"
        + b"".join(b"h\x00h\x00\x86q\x00" for _ in range(60))
        + b"K\x01s.",
        "duplicated": nested + b".",
        "marks": b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b".",
        "endless": b"\x80\x02" + b"]0" * 300_000 + b".",
        "long text": b"\x80\x02X\xff\xff\xff\x7fabc.",
        "nested key of a storage": b"\x80\x02" + b"K\x01\x86q\x00" + b"h\x00h\x00\x86q\x00" * 60 + b"Q.",
    }


@pytest.mark.parametrize("name", bombs())
def test_programs_made_to_exhaust_the_reader_end_soon(name):
    start = time.perf_counter()
    with pytest.raises(VivantError):
        read(archive({"data.pkl": bombs()[name]}))
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    "arguments",
    [
        (0, (4, 4), (4, 1)),
        (3, (2,), (1,)),
        (-1, (1,), (1,)),
        (0, (2**40,), (0,)),
        (0, (2,), (2**62,)),
        (0, (2,), (-1,)),
        (0, (2, 2), (1,)),
    ],
)
def test_tensors_that_reach_beyond_their_numbers_are_refused(arguments):
    offset, shape, strides = (pickle.dumps(value, 2)[2:-1] for value in arguments)
    storage = b"(X\x07\x00\x00\x00storagectorch\nDoubleStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
    program = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n(" + storage + offset + shape + strides + b"tR."
    with pytest.raises(BrokenFile, match="tensor of the checkpoint"):
        read(archive({"data.pkl": program, "data/0": np.arange(4.0).tobytes()}))


def test_damaged_and_truncated_files_are_refused_with_a_sentence():
    good = saved(({"weight": np.arange(12, dtype=np.float32).reshape(3, 4)}, 7))
    random = np.random.default_rng(3)
    for cut in range(0, len(good), max(1, len(good) // 40)):
        with pytest.raises(VivantError):
            read(good[:cut])
    for _ in range(1500):
        broken = bytearray(good)
        for _ in range(random.integers(1, 4)):
            broken[random.integers(len(broken))] = random.integers(256)
        with contextlib.suppress(VivantError):
            read(bytes(broken))
