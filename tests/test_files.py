"""Files that are there whole or not at all."""

import errno
import os

import pytest
import torch

from fp_potential.files import naming, replaced, write_whole


@pytest.fixture
def path(tmp_path):
    return tmp_path / "folder" / "model.pt"


def test_file_takes_its_place_when_it_is_written(path):
    for content in ("old", "new"):
        with replaced(path) as temporary:
            temporary.write_text(content)
            assert temporary.parent == path.parent and temporary != path
            assert not path.exists() or path.read_text() == "old"
        assert path.read_text() == content
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_error_leaves_what_was_there(path, error):
    with replaced(path) as temporary:
        temporary.write_text("old")
    with pytest.raises(error), replaced(path) as temporary:
        temporary.write_text("half")
        raise error
    assert path.read_text() == "old" and list(path.parent.iterdir()) == [path]


def test_full_disk_is_named(path):
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"), naming("/dev/full"):
        with open("/dev/full", "w") as file:
            file.write("text")
    with pytest.raises(OSError, match=rf"No space left on device: '{path}'"), replaced(path) as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(path.parent.iterdir()) == []


def test_checkpoint_on_a_full_disk_is_named():
    """Torch has an error of its own where it opens the file itself."""
    with pytest.raises(OSError, match=r"No space left on device: 'a\.pt'"), naming("a.pt"):
        with open("/dev/full", "wb") as file:
            torch.save({"a": torch.zeros(100000)}, file)
    with pytest.raises(OSError, match=r"could not be written; is the disk full\?: 'a\.pt'"), naming("a.pt"):
        torch.save({"a": torch.zeros(100000)}, "/dev/full")


def test_other_errors_stay_what_they_are():
    for error in (FileNotFoundError(errno.ENOENT, "no", "its own"), RuntimeError("of the model")):
        with pytest.raises(type(error)) as caught, naming("a.pt"):
            raise error
        assert caught.value is error


def test_nothing_written_is_an_error(path):
    with pytest.raises(FileNotFoundError), replaced(path):
        pass
    assert list(path.parent.iterdir()) == []


def test_text_has_the_line_ends_it_is_given(tmp_path):
    write_whole(tmp_path / "log.csv", "a\r\nb\n")
    assert (tmp_path / "log.csv").read_bytes() == b"a\r\nb\n" and os.listdir(tmp_path) == ["log.csv"]


def test_a_disk_that_is_full_is_named(tmp_path) -> None:
    """The system gives such errors without the file; torch, as one of its own."""
    import resource

    import torch

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    (tmp_path / "file").write_text("old")
    contents = {
        "text": lambda path: path.write_text("x" * 100_000),
        "torch": lambda path: torch.save(torch.zeros(10**5), path),
    }
    for name, content in contents.items():
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
        try:
            with pytest.raises(OSError, match=r"file'") as raised, replaced(tmp_path / "file") as temporary:
                content(temporary)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert raised.value.filename == str(tmp_path / "file"), name
    assert (tmp_path / "file").read_text() == "old" and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(NotADirectoryError, match="a file is there, expected a folder"):
        write_whole(tmp_path / "file" / "inside", "text")
