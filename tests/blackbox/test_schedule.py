"""`flowvault schedule`: a line that works from anywhere, and a crontab that is else left alone."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.cli import log as logs
from pipeline.engine import schedule
from pipeline.errors import UsageError
from tests.inprocess import command

from .conftest import REPO
from .vaults import ms, plain_line

FAKE = """#!{python}
import pathlib, sys
kept = pathlib.Path({kept!r})
if sys.argv[1:] == ["-l"]:
    if not kept.exists():
        sys.exit("no crontab for nobody")
    sys.stdout.buffer.write(kept.read_bytes())
elif sys.argv[1:] == ["-"]:
    data = sys.stdin.buffer.read()
    if b"refuse" in data:
        sys.exit('"-":1: bad minute')
    kept.write_bytes(data)
    kept.with_name("times").open("a").write("x")
else:
    sys.exit("usage error")
"""
OTHERS = b"MAILTO=me\n# m h  dom\n5 4 * * * /usr/bin/backup \\%d caf\xe9\n"


@pytest.fixture(autouse=True)
def _installed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the package were installed, where a line is not run; asking Python takes a while."""
    if "anywhere" not in request.node.name:
        monkeypatch.setattr(schedule, "_environment", dict)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the crontab command that is found first keeps its lines."""
    folder, kept = tmp_path / "bin", tmp_path / "kept" / "crontab"
    folder.mkdir()
    kept.parent.mkdir()
    program = folder / "crontab"
    program.write_text(FAKE.format(python=sys.executable, kept=str(kept)), encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return kept


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    """A vault in an awkward place, with a few trades."""
    vault = tmp_path / "it's 100% my vault"
    raw = vault / "raw" / "acme" / "trades_spot" / "X-Y"
    raw.mkdir(parents=True)
    lines = [plain_line(n, ms(30 * n), "100.5", "1") for n in range(20)]
    (raw / "2024-03-05.jsonl").write_bytes(b"".join(lines))
    return vault


def as_cron_reads_it(line: str) -> tuple[str, str]:
    """The five times, and what the shell is given: a bare % ends it, an escaped one is one."""
    *times, rest = line.split(maxsplit=5)
    match = re.match(r"((?:\\%|[^%])*)", rest)
    assert match is not None
    assert match[1] == rest, "a bare % in the line"
    return " ".join(times), rest.replace(r"\%", "%")


def test_the_line_does_its_work_from_anywhere(vault: Path, tmp_path: Path) -> None:
    """As cron would run it: by sh, elsewhere, with next to no environment."""
    done = command(vault, "schedule", "--for", "cron")
    (line,) = done.out.splitlines()
    assert "--install" in done.err
    times, text = as_cron_reads_it(line)
    assert times == "* * * * *"
    waits, _, text = text.partition("; ")
    assert waits == "sleep 5"
    elsewhere = tmp_path / "home"
    (elsewhere / "pipeline").mkdir(parents=True)
    (elsewhere / "pipeline" / "__init__.py").write_text("raise SystemExit('not this one')\n")
    for _ in range(2):
        ran = subprocess.run(
            ["/bin/sh", "-c", text],
            cwd=elsewhere,
            env={"HOME": str(elsewhere), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            check=False,
        )
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")
    log = (vault / "run.log").read_text(encoding="utf-8").splitlines()
    assert sum(line.startswith("# 20") and line.endswith("run --all --json") for line in log) == 2
    assert sum('"stage":"trades"' in line and '"rows_in":20' in line for line in log) == 1
    assert not list((vault / "run.log").parent.glob("*.1"))


@pytest.mark.parametrize(
    ("every", "cron", "windows"),
    [
        ("1m", "* * * * *", "/SC MINUTE /MO 1"),
        ("5m", "*/5 * * * *", "/SC MINUTE /MO 5"),
        ("60m", "0 * * * *", "/SC HOURLY /MO 1"),
        ("1h", "0 * * * *", "/SC HOURLY /MO 1"),
        ("6h", "0 */6 * * *", "/SC HOURLY /MO 6"),
        ("1d", "0 0 * * *", "/SC DAILY"),
    ],
)
def test_how_often(tmp_path: Path, every: str, cron: str, windows: str) -> None:
    line = command(tmp_path, "schedule", "--every", every, "--for", "cron").out
    assert line.startswith(f"{cron} sleep 5; ")
    task = command(tmp_path, "schedule", "--every", every, "--for", "windows").out
    assert f" {windows} /TR " in task


@pytest.mark.parametrize("every", ["30s", "7m", "90m", "5h", "2d", "0m", "soon", "1"])
def test_what_cannot_be_had(tmp_path: Path, every: str) -> None:
    done = command(tmp_path, "schedule", "--every", every, expect=2)
    assert "every" in done.err or "not a time" in done.err


def test_another_command(tmp_path: Path) -> None:
    line = command(
        tmp_path, "schedule", "--for", "cron", "run", "-i", "BTC-USDT-SWAP", "--give-up", "5m"
    ).out
    assert " run -i BTC-USDT-SWAP --give-up 5m # flowvault" in line
    line = command(tmp_path, "schedule", "--for", "cron", "--log", "a b.txt", "volume", "--all").out
    assert " --log 'a b.txt' volume --all # flowvault" in line
    assert command(tmp_path, "schedule", "tail", "volume", expect=2)
    assert command(tmp_path, "schedule", "--evry", "5m", expect=2)
    assert command(tmp_path, "schedule", "--install", "--remove", expect=2)


# -- the crontab -----------------------------------------------------------------------------


def test_install_and_remove(kept: Path, vault: Path) -> None:
    """One line, put in place of the one before; all others stay, to the byte."""
    kept.write_bytes(OTHERS)
    line = command(vault, "schedule", "--install").out.encode()
    assert kept.read_bytes() == OTHERS + line
    assert command(vault, "schedule", "--install").err == "it is in the crontab already\n"
    assert kept.with_name("times").read_text() == "x"
    kept.write_bytes(OTHERS + line + b"0 0 * * 0 weekly\n")
    other = command(vault, "schedule", "--every", "5m", "--install").out.encode()
    assert other != line
    assert kept.read_bytes() == OTHERS + other + b"0 0 * * 0 weekly\n"
    done = command(vault, "schedule", "--remove")
    assert (done.out, done.err) == ("", "taken out of the crontab\n")
    assert kept.read_bytes() == OTHERS + b"0 0 * * 0 weekly\n"
    done = command(vault, "schedule", "--remove")
    assert done.err == "there is no line for this vault in the crontab\n"


def test_an_empty_crontab_and_one_without_an_end(kept: Path, vault: Path) -> None:
    line = command(vault, "schedule", "--install").out.encode()
    assert kept.read_bytes() == line
    kept.write_bytes(b"@daily x")
    command(vault, "schedule", "--install")
    assert kept.read_bytes() == b"@daily x\n" + line
    kept.write_bytes(line * 3 + b"@daily x\n")
    command(vault, "schedule", "--install")
    assert kept.read_bytes() == line + b"@daily x\n"


def test_each_vault_has_a_line_of_its_own(kept: Path, vault: Path) -> None:
    for name in (vault.name, vault.name + "2", "other"):
        command(vault.with_name(name), "schedule", "--install")
    lines = kept.read_bytes().splitlines(keepends=True)
    assert len(lines) == 3
    command(vault, "schedule", "--remove")
    assert kept.read_bytes() == b"".join(lines[1:])


def test_a_cron_that_refuses(kept: Path, tmp_path: Path) -> None:
    kept.write_bytes(OTHERS)
    done = command(tmp_path / "refuse", "schedule", "--install", expect=74)
    assert "bad minute" in done.err
    assert kept.read_bytes() == OTHERS


def test_no_cron(vault: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for option in ("--install", "--remove"):
        done = command(vault, "schedule", "--for", "cron", option, expect=66)
        assert "no crontab on this machine" in done.err
    program = tmp_path / "crontab"
    program.write_text(f"#!{sys.executable}\nraise SystemExit('you may not use this program')\n")
    program.chmod(0o755)
    done = command(vault, "schedule", "--for", "cron", "--install", expect=74)
    assert "you may not use this program" in done.err


def test_lines_that_cron_would_not_take(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="control character"):
        schedule.cron_line(schedule.Schedule.of(tmp_path / "a\nb", 1, ("run",), "run.log"))
    with pytest.raises(UsageError, match="cron takes 900"):
        schedule.cron_line(schedule.Schedule.of(tmp_path / ("a" * 900), 1, ("run",), "run.log"))


# -- Task Scheduler --------------------------------------------------------------------------


def windows(vault: str, **more: dict[str, str]) -> schedule.Schedule:
    """A schedule as it would be on Windows."""
    words = (r"C:\Program Files\Python\python.exe", "-P", "-m", "pipeline", "--vault", vault)
    return schedule.Schedule(Path(vault), 5, (*words, "run", "--all"), more.get("environment", {}))


def test_the_task() -> None:
    made = schedule.create_task(windows(r"D:\my vault"))
    assert made[:4] == ["schtasks", "/Create", "/F", "/TN"]
    assert made[5:9] == ["/SC", "MINUTE", "/MO", "5"]
    program = r'"C:\Program Files\Python\python.exe" -P -m pipeline --vault "D:\my vault" run --all'
    assert made[9:] == ["/TR", program]
    typed = subprocess.list2cmdline(made)
    assert typed.endswith(
        r'/TR "\"C:\Program Files\Python\python.exe\" -P -m pipeline '
        r'--vault \"D:\my vault\" run --all"'
    )
    name = made[4]
    assert re.fullmatch(r"flowvault [\w-]+ [0-9a-f]{8}", name)
    assert schedule.create_task(windows(r"D:\my vault2"))[4] != name
    assert schedule.delete_task(Path(r"D:\my vault")) == ["schtasks", "/Delete", "/F", "/TN", name]
    task = schedule.create_task(windows("D:\\v", environment={"PYTHONPATH": "D:\\a b"}))[-1]
    assert task.startswith('cmd /c "set "PYTHONPATH=D:\\a b"&& ')
    assert schedule.create_task(windows("D:\\100% vault"))
    with pytest.raises(UsageError, match="between two %"):
        schedule.create_task(windows(r"D:\%TEMP%\vault"))
    with pytest.raises(UsageError, match="a task takes 261"):
        schedule.create_task(windows("D:\\" + "a" * 250))


def test_a_task_is_installed_and_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a Task Scheduler that notes what it is asked."""
    (tmp_path / "bin").mkdir()
    program, notes = tmp_path / "bin" / "schtasks", tmp_path / "notes"
    program.write_text(
        f"#!{sys.executable}\nimport sys\n"
        f"open({str(notes)!r}, 'a').write(' '.join(sys.argv[1:3]) + '\\n')\n"
        f"sys.exit({str(tmp_path / 'none')!r} in sys.argv)\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(schedule, "_LONGEST_TASK", 1000)
    done = command(tmp_path, "schedule", "--for", "windows", "--install")
    assert done.out.startswith("schtasks /Create /F /TN ")
    command(tmp_path, "schedule", "--for", "windows", "--remove")
    assert notes.read_text().splitlines() == ["/Create /F", "/Query /TN", "/Delete /F"]
    program.write_text(f"#!{sys.executable}\nraise SystemExit('ERROR: Access is denied.')\n")
    done = command(tmp_path, "schedule", "--for", "windows", "--install", expect=74)
    assert "Access is denied" in done.err
    done = command(tmp_path, "schedule", "--for", "windows", "--remove")
    assert "no task" in done.err


# -- the log ---------------------------------------------------------------------------------


def logged(vault: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command with a log."""
    words = [sys.executable, "-m", "pipeline", "--vault", str(vault), "--log", "run.log"]
    return subprocess.run([*words, *arguments], cwd=REPO, capture_output=True, check=False)


def test_errors_and_statuses_are_in_the_log(vault: Path) -> None:
    done = logged(vault, "run", "-i", "NONE")
    assert (done.returncode, done.stdout, done.stderr) == (66, b"", b"")
    lines = (vault / "run.log").read_text(encoding="utf-8").splitlines()
    assert lines[0].endswith("run -i NONE")
    assert any(line.startswith("flowvault: okx/perps/NONE: nothing under") for line in lines)
    assert re.fullmatch(r"# 20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ exit status 66", lines[-1])
    logged(vault, "run", "--stage", "nonsense", "--all")
    assert "exit status 2" in (vault / "run.log").read_text(encoding="utf-8").splitlines()[-1]


def test_no_log_no_note(vault: Path) -> None:
    """That the room is loaded, as here, is not yet a log."""
    done = command(vault, "run", "-i", "NONE", expect=66)
    assert "exit status" not in done.out + done.err


def test_the_log_does_not_grow_for_ever(vault: Path) -> None:
    log = vault / "run.log"
    log.write_bytes(b"x" * (logs.LARGEST - 1) + b"\n")
    log.with_name("run.log.1").write_bytes(b"older")
    logged(vault, "layers", "volume_1m")
    assert log.with_name("run.log.1").stat().st_size == logs.LARGEST
    assert 0 < log.stat().st_size < 10_000
    logged(vault, "layers", "volume_1m")
    assert log.read_text(encoding="utf-8").count("layers volume_1m") == 2
    assert log.with_name("run.log.1").stat().st_size == logs.LARGEST


def test_no_vault_is_made_for_a_log(tmp_path: Path) -> None:
    """A disk that is not mounted is not filled."""
    done = logged(tmp_path / "none", "run", "--all")
    assert done.returncode == 66
    assert b"there is no vault at" in done.stderr
    assert not (tmp_path / "none").exists()
    (tmp_path / "run.log").mkdir()
    done = logged(tmp_path, "run", "--all")
    assert done.returncode == 74
    assert b"run.log" in done.stderr


def test_words_survive_the_shell(tmp_path: Path) -> None:
    """Whatever is in the paths, the shell hands over the same words."""
    for name in ("a b", "it's", 'q"q', "$HOME", "`id`", "a;b", "100%", "*", "ü", "back\\slash"):
        made = schedule.Schedule.of(tmp_path / name, 1, ("run", "--all"), "run.log")
        _, text = as_cron_reads_it(schedule.cron_line(made))
        words = shlex.split(text.partition("; ")[2], comments=True)
        assert tuple(words) == made.words
        echo = "-c 'import sys; print(ascii(sys.argv))'"
        shown = subprocess.run(
            ["/bin/sh", "-c", text.partition("; ")[2].replace("-P -m pipeline", echo, 1)],
            capture_output=True,
            check=True,
        )
        assert ascii(str(tmp_path / name)) in shown.stdout.decode()
