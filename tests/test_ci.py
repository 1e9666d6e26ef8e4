"""The script of continuous integration, with programs in place of those that it installs and runs."""

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "run"
#: Makes the programs of an environment; the tests run in the background until they are ended.
PYTHON = """#!/bin/sh
mkdir -p .venv/bin
printf '#!/bin/sh\\n' | tee .venv/bin/pip .venv/bin/ruff .venv/bin/mypy >/dev/null
cat > .venv/bin/pytest <<'END'
#!/bin/sh
case "$*" in
    *no:cacheprovider*) echo $$ > background; exec sleep 60 ;;
    *) while [ ! -s background ]; do sleep 0.01; done; touch foreground; sleep "$TESTS_S"; exit 1 ;;
esac
END
chmod +x .venv/bin/*
"""


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} has not appeared"
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be asked for does not."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not SCRIPT.exists(), reason="a source archive has no script of continuous integration")
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs the processes of Linux")
@pytest.mark.parametrize("stop", ["failure", "Ctrl-C", "SIGTERM"])
def test_tests_in_the_background_end_with_the_script(tmp_path: Path, stop: str) -> None:
    (tmp_path / ".ci").mkdir()
    shutil.copy(SCRIPT, tmp_path / ".ci" / "run")
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in (("python", PYTHON), ("chromium", "#!/bin/sh\n")):
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    seconds = "0" if stop == "failure" else "10"
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "TESTS_S": seconds}
    with subprocess.Popen([tmp_path / ".ci" / "run"], env=environment, start_new_session=True) as script:
        wait_for(tmp_path / "foreground")
        if stop == "Ctrl-C":  # a terminal tells the whole group, of which the background does not listen
            os.killpg(script.pid, signal.SIGINT)
        elif stop == "SIGTERM":
            script.terminate()
        assert script.wait(20) != 0
    background = int((tmp_path / "background").read_text())
    deadline = time.monotonic() + 5
    try:
        while is_running(background):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        with suppress(ProcessLookupError):  # all that the script has left, where it fails this test
            os.killpg(script.pid, signal.SIGKILL)
