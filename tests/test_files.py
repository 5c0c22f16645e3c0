"""Files appear whole or not at all."""

import pytest

from repaint_jax.files import replacing


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "new" / "file.txt"

    def write(text, failing):
        with replacing(path) as temporary:
            temporary.write_text(text)
            if failing:
                raise RuntimeError

    write("first", failing=False)
    with pytest.raises(RuntimeError):
        write("sec", failing=True)
    assert path.read_text() == "first"
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"]


def test_two_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    path = tmp_path / "file.txt"
    with replacing(path) as one:
        one.write_text("one")
        with replacing(path) as other:
            other.write_text("other")
        assert path.read_text() == "other"
    assert path.read_text() == "one"
