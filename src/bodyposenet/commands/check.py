"""Check specs, files and labels before a training, and find the usual mistakes.

Example: bpnet check -e train.yaml -i inference.yaml

Errors are listed first, each with what to do. Warnings and notes do not change the exit code.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from bodyposenet.commands.options import CommandOptions, Option, StrPath, command, options_class
from bodyposenet.console import logger
from bodyposenet.errors import BodyPoseNetError
from bodyposenet.files import make_directory, write_json

if TYPE_CHECKING:
    from bodyposenet.data.dataset_check import Problem
    from bodyposenet.data.findings import Severity

_REPORT = "check.json"


@options_class
class CheckOptions(CommandOptions):
    """Options of `check`."""

    experiment_spec_file: Annotated[
        StrPath | None,
        Option("-e", help="Train spec (YAML); its datasets are checked, too.", metavar="FILE"),
    ] = None
    dataset_spec: Annotated[
        StrPath | None, Option("-d", help="Dataset spec (JSON or YAML).", metavar="FILE")
    ] = None
    inference_spec: Annotated[
        StrPath | None, Option("-i", help="Inference spec (YAML).", metavar="FILE")
    ] = None
    results_dir: Annotated[
        StrPath | None,
        Option("-r", help=f"Folder to which all problems are written ({_REPORT}).", metavar="DIR"),
    ] = None


@dataclass(frozen=True)
class CheckResult:
    """Problems of specs and data.

    Args:
        problems: The problems, the most severe first.
        counts: What was read: images and people of each dataset.
        commands: Command lines that show the labels of each dataset.
    """

    problems: tuple[Problem, ...]
    counts: tuple[str, ...]
    commands: tuple[str, ...]

    def summary(self) -> str:
        """Return the problems with what to do, and their numbers."""
        from bodyposenet.data.findings import Severity

        lines: list[str] = []
        for problem in self.problems:
            lines.append(f"{problem.severity.name:<8} {problem.place}: {problem.text}")
            lines += [f"         -> {problem.remedy}"] if problem.remedy else []
        numbers = ", ".join(self._count(severity) for severity in Severity)
        lines += [*self.counts, *(f"to look at the labels: {each}" for each in self.commands)]
        return "\n".join([*lines, f"found: {numbers}"])

    @property
    def failure(self) -> BodyPoseNetError | None:
        """Error with which the command line ends; None if there are only warnings and notes."""
        from bodyposenet.data.findings import Severity

        if all(problem.severity is not Severity.ERROR for problem in self.problems):
            return None
        found = self._count(Severity.ERROR)
        return BodyPoseNetError(f"{found} found", "Correct what is listed as ERROR.")

    def _count(self, severity: Severity) -> str:
        """Return the number of problems of a severity in words."""
        count = sum(problem.severity is severity for problem in self.problems)
        return f"{count} {severity.name.lower()}{'' if count == 1 else 's'}"


@command(CheckOptions)
def check_specs(options: CheckOptions) -> CheckResult:
    """Check specs, files and labels before a training.

    Example:
        >>> result = bodyposenet.check_specs(experiment_spec_file="train.yaml")
        >>> print(result.summary())

    Raises:
        BodyPoseNetError: No spec is given, or the results folder cannot be written.
    """
    if not (options.experiment_spec_file or options.dataset_spec or options.inference_spec):
        raise BodyPoseNetError("check needs a spec", "Give a train spec: bpnet check -e train.yaml")
    from bodyposenet.commands.spec_checks import SpecChecker

    checker = SpecChecker()
    if options.experiment_spec_file is not None:
        checker.check_train_spec(Path(options.experiment_spec_file))
    if options.dataset_spec is not None:
        checker.check_dataset_spec(Path(options.dataset_spec))
    if options.inference_spec is not None:
        checker.check_inference_spec(Path(options.inference_spec))
    problems = tuple(sorted(checker.problems, key=lambda problem: problem.severity))
    if options.results_dir is not None:
        path = make_directory(options.results_dir) / _REPORT
        report = [asdict(problem) | {"severity": problem.severity.name} for problem in problems]
        write_json(path, report)
        logger.info("written: %s", path)
    return CheckResult(problems, tuple(checker.counts), tuple(checker.commands))
