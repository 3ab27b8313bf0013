"""Runs notebooks on launches, each in a fresh kernel, and publishes every one as a page, failed or not."""

from __future__ import annotations

import contextlib
import copy
import datetime as dt
import json
import logging
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from helpers.errors import ParameterError, ReportError, did_you_mean, hush
from helpers.report import index, page, params, record
from helpers.report.record import Record, Setting, Subject

if TYPE_CHECKING:
    from nbformat import NotebookNode

    from helpers.report.kernels import Nursery

__all__ = ["Job", "Subject", "plan", "run"]

INTERRUPTED = 130  # what a shell reports after Ctrl-C


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Job:
    """One notebook to be run on one launch, with every parameter already checked."""

    subject: Subject
    path: Path
    notebook: NotebookNode
    title: str
    settings: tuple[Setting, ...]
    injected: Mapping[str, params.Value]

    @property
    def name(self) -> str:
        """Return the notebook's file name without its ending."""
        return self.path.stem


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    """A notebook after its run."""

    job: Job
    notebook: NotebookNode
    record: Record


def plan(subjects: Sequence[Subject], notebooks: Path, given: Mapping[str, str], only: Sequence[str] = ()) -> list[Job]:
    """Decide what is run, and check every parameter before anything is.

    Args:
        subjects: the launches.
        notebooks: the folder of the numbered notebooks; it is also where they run.
        given: parameters as texts; each goes to the notebooks that declare it.
        only: numbers ("04", "4") or beginnings of names ("04_an"); all notebooks where empty.

    Raises:
        ParameterError: `only` names no notebook, no chosen notebook declares a given name, or a text is not of the
            declared type.
        ReportError: the folder has no notebooks, or one cannot be read.
    """
    chosen = {path: _read(path) for path in _choose(notebooks, only)}
    declared = {path: params.declared(notebook, where=path.name) for path, notebook in chosen.items()}
    known = set().union(*declared.values())
    if "launch" in given:
        raise ParameterError("parameter 'launch' is set for each launch; name the launch files themselves")
    for name in sorted(given.keys() - known):
        raise ParameterError(f"no chosen notebook has a parameter {name!r}; {did_you_mean(name, known - {'launch'})}")
    jobs = []
    for subject in subjects:
        launch = Path(os.path.relpath(subject.path, notebooks)).as_posix()
        for path, notebook in chosen.items():
            own = {name: text for name, text in given.items() if name in declared[path]}
            values = params.resolve(declared[path], own, where=path.name)
            jobs.append(
                Job(
                    subject=subject,
                    path=path,
                    notebook=notebook,
                    title=page.title(notebook, path.stem),
                    settings=tuple(
                        Setting(name=name, value=values[name], default=p.default, meaning=p.meaning)
                        for name, p in declared[path].items()
                        if name != "launch"
                    ),
                    injected={name: values[name] for name in own} | ({"launch": launch} if "launch" in values else {}),
                )
            )
    return jobs


def run(jobs: Sequence[Job], *, out: Path, date: dt.date, workers: int, replace: bool) -> int:
    """Run notebooks, publish their pages below `out`/`date`, and rewrite the index over all runs.

    A launch that already has a folder of that date gets another one (`name.2`), unless `replace`. Each page appears
    whole or not at all; after an interrupt the finished pages stay and the index lists them.

    Returns:
        0, 1 when a notebook failed, or 130 when the run was interrupted.

    Raises:
        ReportError: `out` is not a folder that can be written, or there are not at least one job and one worker.
    """
    from helpers.report.kernels import FORKS, Nursery

    if not jobs or workers < 1:
        raise ReportError(f"{len(jobs)} notebooks and {workers} workers: a run needs at least one of each")
    commit, versions = record.commit(jobs[0].path.parent), record.versions()
    subjects = list(dict.fromkeys(job.subject for job in jobs))
    nursery = Nursery() if FORKS and len(jobs) >= 3 * workers else None  # for fewer, its imports cost what they save
    batch = _Batch(date=date, commit=commit, versions=versions, progress=_Progress(jobs), nursery=nursery)
    folders: dict[Subject, Path] = {}
    done: list[_Done] = []

    def publish(result: _Done) -> None:
        _publish(result, folders[result.job.subject], siblings=[j for j in jobs if j.subject == result.job.subject])
        done.append(result)

    with _interrupts(), ThreadPoolExecutor(min(workers, len(jobs))) as pool:
        try:
            for subject in subjects:
                folders[subject] = _folder(out / date.isoformat(), subject.name, replace=replace)
            for future in as_completed([pool.submit(_run_one, job, batch, publish) for job in jobs]):
                future.result()
        except BaseException as error:
            batch.stop()
            pool.shutdown(cancel_futures=True)
            for result in done:  # the way through the run leads only to what there is
                kept = [d.job for d in done if d.job.subject == result.job.subject]
                _publish(result, folders[result.job.subject], siblings=kept)
            for folder in folders.values():
                with contextlib.suppress(OSError):  # only an empty folder goes
                    folder.rmdir()
                    folder.parent.rmdir()
            if not isinstance(error, KeyboardInterrupt):
                raise
        finally:
            if nursery:
                nursery.close()
            if out.is_dir():
                index.write(out)
    batch.progress.close()
    if batch.stopped.is_set():
        print(f"Interrupted: {len(done)} of {len(jobs)} pages written.")
        return INTERRUPTED
    failed = sum(result.record.status == "failed" for result in done)
    print(f"{len(done)} page{'s' * (len(done) != 1)}{f', {failed} failed' if failed else ''}: {out / 'index.html'}")
    return 1 if failed else 0


def _choose(notebooks: Path, only: Sequence[str]) -> list[Path]:
    every = sorted(notebooks.glob("[0-9]*.ipynb"))
    if not every:
        raise ReportError(f"{notebooks} has no numbered notebooks (such as 04_analysis.ipynb)")

    def matches(path: Path, wanted: str) -> bool:
        number = path.stem.partition("_")[0]
        return int(number) == int(wanted) if wanted.isdecimal() and number.isdecimal() else path.stem.startswith(wanted)

    for wanted in only:
        if not wanted or not any(matches(path, wanted) for path in every):
            raise ParameterError(f"no notebook is {wanted!r}; {did_you_mean(wanted, [path.stem for path in every])}")
    return [path for path in every if not only or any(matches(path, wanted) for wanted in only)]


def _read(path: Path) -> NotebookNode:
    import nbformat

    try:
        notebook: NotebookNode = nbformat.reads(path.read_text(encoding="utf-8"), 4)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, AttributeError, nbformat.reader.NotJSONError, nbformat.ValidationError) as error:
        raise ReportError(f"{path.name} cannot be read as a notebook: {str(error).splitlines()[0]}") from None
    return notebook


def _folder(day: Path, name: str, *, replace: bool) -> Path:
    """Claim a folder for one launch's pages; making it is what claims it, so two runs never share one."""
    attempt = 1
    while True:
        folder = day / (name if attempt == 1 else f"{name}.{attempt}")
        try:
            folder.mkdir(parents=True, exist_ok=replace)
        except FileExistsError:
            if not folder.is_dir():
                raise ReportError(f"{folder} is in the way: it is not a folder") from None
            attempt += 1
        except OSError as error:
            raise ReportError(f"reports cannot be written to {folder}: {error.strerror}") from None
        else:
            return folder


@contextlib.contextmanager
def _interrupts() -> Iterator[None]:
    """Let a polite kill end the run as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _StoppedError(Exception):
    """The run is being interrupted; this notebook has no page."""


@dataclass(slots=True, kw_only=True)
class _Batch:
    """What the notebooks of one run share."""

    date: dt.date
    commit: str
    versions: dict[str, str]
    progress: _Progress
    stopped: threading.Event = field(default_factory=threading.Event)
    kernels: set[Any] = field(default_factory=set)
    nursery: Nursery | None = None

    def stop(self) -> None:
        """Kill every kernel; a notebook that is about to start sees that it must not."""
        self.stopped.set()
        for kernel in list(self.kernels):
            process = kernel.provisioner and kernel.provisioner.process
            if process is not None:
                process.kill()

    def check(self) -> None:
        if self.stopped.is_set():
            raise _StoppedError


def _run_one(job: Job, batch: _Batch, publish: Callable[[_Done], None]) -> None:
    """Run one notebook and publish it, unless the run is interrupted."""
    if batch.stopped.is_set():
        return
    started, clock = dt.datetime.now(dt.UTC), time.perf_counter()
    notebook, error = _execute(job, batch)
    if batch.stopped.is_set():
        return
    notebook.cells = [c for c in notebook.cells if "papermill-error-cell-tag" not in c.metadata.get("tags", [])]
    if not error and any(_unfinished(cell) for cell in notebook.cells):
        error = "the notebook stopped before its last cell; was exit called?"
    if not error and page.result(notebook) is None:
        error = "the notebook displayed no Readout; end it with one"
    subject = job.subject
    result = _Done(
        job=job,
        notebook=notebook,
        record=Record(
            notebook=job.name,
            title=job.title,
            launch=subject.name,
            launch_title=subject.title,
            launch_path=Path(os.path.relpath(subject.path, job.path.parent)).as_posix(),
            launch_hash=subject.content_hash,
            data_hash=subject.data_hash,
            date=batch.date.isoformat(),
            started=started.strftime("%Y-%m-%d %H:%M:%S UTC"),
            seconds=round(time.perf_counter() - clock, 1),
            commit=batch.commit,
            versions=batch.versions,
            parameters=job.settings,
            error=page.shorten(error, job.path.parent.resolve().parent),
            label=subject.label,
            remarks=subject.remarks,
        ),
    )
    publish(result)
    batch.progress.finish(job, result.record, (page.result(notebook) or {}).get("decision"))


def _execute(job: Job, batch: _Batch) -> tuple[NotebookNode, str]:
    """Run a notebook in a kernel of this Python; return what it displayed, and in a line why it failed."""
    import nbclient.exceptions
    import papermill
    from jupyter_core.utils import ensure_event_loop
    from traitlets.config import Config

    from helpers.report.kernels import manager

    logging.getLogger("papermill").addHandler(logging.NullHandler())  # what it would print stands on the page
    notebook = copy.deepcopy(job.notebook)
    running = [notebook]  # papermill works on a copy, which a killed kernel would take with it

    def started(notebook: NotebookNode) -> None:
        batch.check()
        running.append(notebook)

    def cell(cell: NotebookNode, cell_index: int) -> None:  # noqa: ARG001 - called with both names
        batch.check()
        batch.progress.update(job, cell_index + 1, len(running[-1].cells))

    try:
        with contextlib.closing(ensure_event_loop()):  # this thread's own
            papermill.execute_notebook(
                notebook,
                None,
                parameters=dict(job.injected),
                kernel_name="python3",
                language="python",
                progress_bar=False,
                request_save_on_cell_execute=False,
                autosave_cell_every=0,
                start_timeout=120,
                shutdown_kernel="immediate",
                kernel_manager_class=manager(batch.kernels, batch.nursery),
                config=Config({"KernelManager": {"transport_encryption": "auto"}}),
                resources={"metadata": {"path": str(job.path.parent)}},
                on_notebook_start=started,
                on_cell_start=cell,
            )
    except papermill.PapermillExecutionError as error:
        return running[-1], f"{error.ename}: {error.evalue}".strip(": ")
    except nbclient.exceptions.DeadKernelError:
        return running[-1], "the kernel died: out of memory, killed, or crashed"
    except Exception as error:
        return running[-1], f"{type(error).__name__}: {error}"
    return running[-1], ""


def _unfinished(cell: NotebookNode) -> bool:
    return cell.cell_type == "code" and bool(cell.source.strip()) and cell.execution_count is None


def _publish(result: _Done, folder: Path, *, siblings: Sequence[Job]) -> None:
    """Write the page, then the JSON that makes the index list it; a failed notebook also leaves what it ran."""
    import nbformat

    values = (page.result(result.notebook) or {}) if not result.record.error else {"estimates": [], "verdict": None}
    root = result.job.path.parent.resolve().parent
    others = [page.Sibling(notebook=job.name, title=job.title) for job in siblings]
    target = folder / result.job.name
    partly = target.with_suffix(".ipynb")
    if result.record.error:
        index.write_whole(partly, nbformat.writes(result.notebook))  # type: ignore[no-untyped-call]
    else:
        partly.unlink(missing_ok=True)
    index.write_whole(
        target.with_suffix(".html"), page.render(result.notebook, result.record, siblings=others, root=root)
    )
    text = json.dumps(values | result.record.to_json(), indent=1, ensure_ascii=False, allow_nan=False)
    index.write_whole(target.with_suffix(".json"), text + "\n")


class _Progress:
    """One line per notebook: live where somebody watches, else written when it ends."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._live = sys.stdout.isatty()
        self._lock = threading.Lock()
        self._width = max(len(self._label(job)) for job in jobs)
        self._running: dict[Job, str] = {}

    def update(self, job: Job, cell: int, cells: int) -> None:
        """Show which cell a notebook is in."""
        if self._live:
            state = f"  …      {self._label(job):{self._width}}  cell {cell} of {cells}"
            self._draw(lambda: self._running.update({job: state}))

    def finish(self, job: Job, done: Record, decision: str | None) -> None:
        """Leave a notebook's last line."""
        sign = "failed" if done.error else "ok"
        tail = done.error.splitlines()[0] if done.error else decision or ""
        line = f"  {sign:6} {self._label(job):{self._width}} {done.seconds:6.1f} s  {tail}".rstrip()
        self._draw(lambda: self._running.pop(job, None), line)

    def close(self) -> None:
        """Clear what was live."""
        self._draw(self._running.clear)

    def _draw(self, change: Callable[[], object], line: str = "") -> None:
        with self._lock:
            if self._live and self._running:
                sys.stdout.write(f"\x1b[{len(self._running)}A\x1b[J")
            change()
            columns = shutil.get_terminal_size().columns
            try:
                for text in [line] * bool(line) + list(self._running.values()) * self._live:
                    sys.stdout.write((text[: columns - 1] if self._live else text) + "\n")
                sys.stdout.flush()
            except BrokenPipeError:  # the pages are written all the same
                hush()

    @staticmethod
    def _label(job: Job) -> str:
        return f"{job.subject.name}/{job.name}"
