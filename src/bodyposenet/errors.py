"""The one exception that a user's mistake or a broken file ends in."""


class BodyPoseNetError(Exception):
    """A problem that the user can mend; the command line shows it in two lines, exit code 2.

    Args:
        what: What went wrong and where: the file, the place in it, the value found.
        remedy: What to do about it; empty where `what` says it all.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(what, remedy)
        self.what = what
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.what}\n{self.remedy}" if self.remedy else self.what
