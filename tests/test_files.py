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
