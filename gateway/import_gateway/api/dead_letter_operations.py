"""The part of the API's table of contents that is about dead letters."""

from __future__ import annotations

from import_core.domain.callers import Action
from import_gateway.api import dead_letters
from import_gateway.api.dead_letter_models import (
    DeadLetterChoice,
    DeadLetterDetail,
    DeadLetterPage,
    DeadLetterReasons,
    DeadLettersChanged,
    DeadLettersQuery,
    DeadLettersRequest,
)
from import_gateway.api.operation import Answer, Operation
from import_gateway.api.problems import (
    CONFLICT,
    INVALID,
    MALFORMED,
    NOT_FOUND,
    TOO_LARGE,
    UNSUPPORTED_MEDIA_TYPE,
)

ALL = "/v1/dead-letters"
ONE = f"{ALL}/{{letter}}"

_BODY = (MALFORMED, TOO_LARGE, UNSUPPORTED_MEDIA_TYPE, INVALID)
_WHOSE = (
    "Of imports of the served namespace, or of none: products that a finished import gave up (step `import`), and "
    "those that a step after it gave up."
)
_BOUNDED = (
    "At most 1,000 at once, about 100 imports, and no more than a list's page looks at where few are meant; `more` "
    "says whether to ask again, with `next` as the `cursor`. With `until` none that died after one looked. What was "
    "done until an error stays done."
)
_RETRY = (
    "A step gets all its tries, and its step job belongs to no ImportJob. What an import gave up is imported again "
    "with all other failed items of that import, by its ImportJob's annotation `imports.avnz.io/retry-items`."
)
_DISCARD = (
    "A product takes a discarded step, and those behind it, again when it changes. What an import gave up stays among "
    "its errors, and no retry of its failed items asks for it again."
)

DEAD_LETTERS = (
    Operation(
        method="GET",
        path=ALL,
        id="listDeadLetters",
        handler=dead_letters.list_dead_letters,
        action=Action.LIST,
        summary="List products that were given up: by steps, those that died last first, then by imports",
        description=_WHOSE,
        query=DeadLettersQuery,
        answers={200: Answer("A page of dead letters.", DeadLetterPage)},
        problems=(INVALID,),
    ),
    Operation(
        method="GET",
        path=f"{ALL}/reasons",
        id="listDeadLetterReasons",
        handler=dead_letters.list_reasons,
        action=Action.LIST,
        summary="Why products were given up, how often, and what to do about it",
        description=_WHOSE,
        query=DeadLetterChoice,
        answers={200: Answer("The reasons.", DeadLetterReasons)},
        problems=(INVALID,),
    ),
    Operation(
        method="POST",
        path=f"{ALL}/retry",
        id="retryDeadLetters",
        handler=dead_letters.retry_dead_letters,
        action=Action.RETRY,
        summary="Try again what was given up",
        description=f"{_RETRY} All that is meant of an import counts with the call that retries it. {_BOUNDED}",
        body=DeadLettersRequest,
        answers={200: Answer("How many.", DeadLettersChanged)},
        problems=_BODY,
    ),
    Operation(
        method="POST",
        path=f"{ALL}/discard",
        id="discardDeadLetters",
        handler=dead_letters.discard_dead_letters,
        action=Action.CANCEL,
        summary="Discard what was given up",
        description=f"{_DISCARD} {_BOUNDED}",
        body=DeadLettersRequest,
        answers={200: Answer("How many.", DeadLettersChanged)},
        problems=_BODY,
    ),
    Operation(
        method="GET",
        path=ONE,
        id="getDeadLetter",
        handler=dead_letters.get_dead_letter,
        action=Action.LIST,
        summary="One dead letter, with its product and all of that one's steps",
        answers={200: Answer("The dead letter.", DeadLetterDetail)},
        problems=(NOT_FOUND,),
    ),
    Operation(
        method="POST",
        path=f"{ONE}/retry",
        id="retryDeadLetter",
        handler=dead_letters.retry_dead_letter,
        action=Action.RETRY,
        summary="Try one dead letter again",
        description=_RETRY,
        answers={200: Answer("It will be tried again.", DeadLettersChanged)},
        problems=(NOT_FOUND, CONFLICT),
    ),
    Operation(
        method="POST",
        path=f"{ONE}/discard",
        id="discardDeadLetter",
        handler=dead_letters.discard_dead_letter,
        action=Action.CANCEL,
        summary="Discard one dead letter",
        description=_DISCARD,
        answers={200: Answer("It is given up.", DeadLettersChanged)},
        problems=(NOT_FOUND, CONFLICT),
    ),
)
