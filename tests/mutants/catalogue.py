"""All planted bugs. Every one of them must be caught by the campaign: what is not shows a hole in the checkers."""

from __future__ import annotations

from tests.mutants import makers, storage, strangers

CATALOGUE = [*makers.MUTANTS, *storage.MUTANTS, *strangers.MUTANTS]
