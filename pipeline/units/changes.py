"""The error of a stage whose plan, or whose input files, are not those that it was run with."""

from vlmixer.artifacts.errors import UserError


class PlanChanged(UserError):
    """A stage was begun or finished with another plan. inputs_only: whether only its inputs differ."""

    def __init__(self, message: str, *, inputs_only: bool) -> None:
        super().__init__(message)
        self.inputs_only = inputs_only
