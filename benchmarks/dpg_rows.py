"""DPG-Bench's question file: which yes-no questions a picture must answer, and which question depends on which.

The published form is a CSV file of nine columns, one row a question; six of them matter::

    item_id,text,keywords,proposition_id,dependency,category_broad,category_detailed,tuple,question_natural_language
    237,"Two red cups on a table.",,1,0,entity,whole,entity - whole (cups),Are there cups?
    237,"Two red cups on a table.",,2,1,attribute,color,"attribute - color (cups, red)",Are the cups red?

Source: TencentQQGYLab/ELLA @ 3c228f1dc6c4, dpg_bench/compute_dpg_bench.py, prepare_dpg_data; dpg_bench/prompts.
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jfeval.errors import UserError
from jfeval.schema import Json, JsonObject

QUESTIONS_FILE = "dpg_bench.csv"
PROMPTS_FOLDER = "prompts"
COLUMNS = ("item_id", "text", "proposition_id", "dependency", "tuple", "question_natural_language")
"""What is read; other columns may stand between them."""

NO_PARENT = 0
_MAX_TEXT = 10_000
_MAX_NUMBER = 100_000
_MAX_PARENTS = 1_000
_SHOWN = 60


@dataclass(frozen=True, kw_only=True)
class Question:
    """One yes-no question about a picture."""

    row: int
    """Place in the file, the first row after the header being 0; rows of one item that stand together are counted on."""
    number: int
    """The proposition's id within its item, 1 or more."""
    parents: tuple[int, ...]
    """Ids of the questions without whose yes this one means nothing; empty for a question that stands alone."""
    category: str
    """For example ``attribute - color``: what stands before the bracket of the tuple."""
    text: str

    @property
    def broad(self) -> str:
        """Return the category's first word, for example ``attribute``."""
        return self.category.split("-")[0].strip()


@dataclass(frozen=True, kw_only=True)
class Item:
    """One prompt with its questions, in the order of the file."""

    id: str
    prompt: str
    questions: tuple[Question, ...]

    def reference(self) -> JsonObject:
        """Return the questions in JSON, as a run stores them; `parse_reference` reads them back."""
        return {
            "item_id": self.id,
            "questions": [
                {"row": q.row, "id": q.number, "parents": list(q.parents), "category": q.category, "question": q.text}
                for q in self.questions
            ],
        }


def parse_reference(reference: JsonObject, *, where: str) -> tuple[Question, ...]:
    """Read what `Item.reference` wrote.

    Raises:
        UserError: It has another form.
    """
    try:
        rows = reference["questions"]
        return tuple(_stored_question(row) for row in rows)  # pyright: ignore[reportGeneralTypeIssues, reportOptionalIterable]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{where}: the stored questions are not in DPG-Bench's form ({type(error).__name__}: {error})") from error


def _stored_question(row: Json) -> Question:
    if not isinstance(row, dict) or not isinstance(row["parents"], list):
        raise TypeError("a question is an object with a list of parents")
    parents = tuple(int(p) for p in row["parents"])  # pyright: ignore[reportArgumentType]
    number, place = int(row["id"]), int(row["row"])  # pyright: ignore[reportArgumentType]
    return Question(row=place, number=number, parents=parents, category=str(row["category"]), text=str(row["question"]))


def read_items(path: Path) -> list[Item]:
    """Read a question file; items come in the order of their first row.

    Rows of an item that are not contiguous are all kept: the rules of each protocol say which of them count.

    Raises:
        UserError: The file is missing, is not UTF-8 CSV, lacks a column, or a row is broken; names file, line and column.
    """
    items: dict[str, tuple[str, list[Question]]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                found = ", ".join(_shown(name) for name in reader.fieldnames or ()) or "none"
                raise UserError(f"{path}, line 1: no column {', '.join(missing)}; found {found}. Needed: {', '.join(COLUMNS)}")
            for index, fields in enumerate(reader):
                where = f"{path}, line {reader.line_num}"
                name, prompt, question = _row(fields, index, where)
                known, questions = items.setdefault(name, (prompt, []))
                if known != prompt:
                    raise UserError(f"{where}, column text: item {_shown(name)} has another prompt than in its earlier rows")
                questions.append(question)
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing; --data names a folder with {QUESTIONS_FILE} and, where prompts lie in files of their own, the folder "
            f"{PROMPTS_FOLDER} (both from dpg_bench of TencentQQGYLab/ELLA)"
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as UTF-8 CSV: {error}") from error
    if not items:
        raise UserError(f"{path} holds no question; each row after the header is one")
    return [Item(id=name, prompt=prompt, questions=tuple(questions)) for name, (prompt, questions) in items.items()]


def read_prompts(folder: Path, items: Sequence[Item]) -> list[Item]:
    """Give items the prompts of a folder of text files, one a prompt, the file's stem being the item's id.

    Raises:
        UserError: An item without a file, a file without questions, or a prompt that is no text; names the first few.
    """
    files = {path.stem: path for path in sorted(folder.glob("*.txt"))}
    without = [item.id for item in items if item.id not in files]
    strangers = sorted(files.keys() - {item.id for item in items})
    if without or strangers:
        raise UserError(
            f"{folder} and {QUESTIONS_FILE} are of different sets: {len(without)} items without a prompt file{_first(without)}, "
            f"{len(strangers)} prompt files without questions{_first(strangers)}; take both from the same revision"
        )
    return [Item(id=item.id, prompt=_prompt_file(files[item.id]), questions=item.questions) for item in items]


def check_graph(items: Iterable[Item], *, where: str = QUESTIONS_FILE) -> None:
    """Refuse questions that no dependency rule can decide: a missing parent, an id given twice, a circle.

    Args:
        items: Prompts with their questions.
        where: The file, for the message.

    Raises:
        UserError: Names how many there are and the first few, each with its row (the first after the header being 1) and column.
    """
    problems = [problem for item in items for problem in _problems(item)]
    if problems:
        more = f"\n  and {len(problems) - 5} more" if len(problems) > 5 else ""
        shown = "\n  ".join(problems[:5])
        raise UserError(f"the question graph is broken in {len(problems)} places; mend these rows of {where}:\n  {shown}{more}")


def _problems(item: Item) -> Iterator[str]:
    parents = {q.number: q.parents for q in item.questions}
    name = f"item {_shown(item.id)}"
    seen: set[int] = set()
    for question in item.questions:
        if question.number in seen:
            yield f"row {question.row + 1}, column proposition_id, {name}: proposition {question.number} stands there more than once"
        seen.add(question.number)
        for parent in question.parents:
            if parent not in parents:
                place = f"row {question.row + 1}, column dependency, {name}"
                yield f"{place}: proposition {question.number} depends on {parent}, which the item does not have"
    left = dict(parents)
    while free := [n for n, needed in left.items() if not any(p in left for p in needed)]:
        for number in free:
            del left[number]
    if left:
        rows = [question.row + 1 for question in item.questions if question.number in left]
        names = ", ".join(map(str, sorted(left)[:5]))
        yield f"row {min(rows)}, column dependency, {name}: propositions {names} depend on each other in a circle"


def _row(fields: dict[str | None, str | list[str] | None], index: int, where: str) -> tuple[str, str, Question]:
    """Check one row: its item, the item's prompt, and the question."""
    if None in fields or None in fields.values():
        what = "more" if None in fields else "fewer"
        raise UserError(f"{where}: {what} fields than the header has columns; a field with a comma or a line break stands in double quotes")
    name, prompt, number, dependency, proposition, text = (str(fields[column]) for column in COLUMNS)
    for column, value in (("item_id", name), ("text", prompt), ("tuple", proposition), ("question_natural_language", text)):
        if not value.strip() or len(value) > _MAX_TEXT:
            raise _wrong(where, column, value, f"text of 1 to {_MAX_TEXT} characters")
    category = proposition.split("(")[0].strip()
    if not category:
        raise _wrong(where, "tuple", proposition, "a category before the bracket, for example 'entity - whole (cat)'")
    question = Question(
        row=index,
        number=_number(number, where, "proposition_id", least=1),
        parents=_parents(dependency, where),
        category=category,
        text=text,
    )
    return name, prompt, question


def _parents(value: str, where: str) -> tuple[int, ...]:
    """Read "0", "1" or "1, 2"; zero stands for no parent."""
    parts = value.split(",")
    if len(parts) > _MAX_PARENTS:
        raise _wrong(where, "dependency", value, f"at most {_MAX_PARENTS} ids")
    numbers = [_number(part, where, "dependency", least=NO_PARENT) for part in parts]
    return tuple(number for number in numbers if number != NO_PARENT)


def _number(value: str, where: str, column: str, *, least: int) -> int:
    text = value.strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 6 and least <= int(text) <= _MAX_NUMBER):
        raise _wrong(where, column, value, f"a whole number from {least}" + (", or several with commas" if column == "dependency" else ""))
    return int(text)


def _prompt_file(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as UTF-8 text: {error}") from error
    if not text or len(text) > _MAX_TEXT:
        raise UserError(f"{path} holds {len(text)} characters; a prompt has 1 to {_MAX_TEXT}")
    return text


def _wrong(where: str, column: str, value: str, allowed: str) -> UserError:
    return UserError(f"{where}, column {column}: found {_shown(value)}; allowed: {allowed}")


def _shown(value: str) -> str:
    text = value if value.isprintable() else ascii(value)[1:-1]
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")


def _first(names: Sequence[str]) -> str:
    return f" ({', '.join(_shown(name) for name in names[:3])}{', ...' if len(names) > 3 else ''})" if names else ""
