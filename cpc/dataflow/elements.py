"""XML as elements that know where they are written. Nothing outside the text is read, and no entities are expanded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from xml.sax.handler import ContentHandler
from xml.sax.xmlreader import AttributesImpl, Locator

from defusedxml.common import DefusedXmlException
from defusedxml.expatreader import DefusedExpatParser

from cpc.core.errors import BadInput, TooLarge

MAX_TEXT = 64 << 20
MAX_DEPTH = 64
_TRUE, _FALSE = ("1", "true", "yes"), ("0", "false", "no", "")


@dataclass(slots=True)
class Element:
    """An element. `document` is what people call the text; `text` is all character data directly in it."""

    name: str
    attributes: dict[str, str]
    document: str
    line: int
    column: int
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def wrong(self, message: str, hint: str = "") -> BadInput:
        """The error to raise about this element."""
        return BadInput(f"{self.document} (line {self.line}, column {self.column}): {message}", hint)

    def need(self, attribute: str) -> str:
        """An attribute that must be there."""
        if not self.attributes.get(attribute):
            raise self.wrong(f"<{self.name}> needs the attribute {attribute}")
        return self.attributes[attribute]

    def get(self, attribute: str) -> str:
        """An attribute; empty when it is not there."""
        return self.attributes.get(attribute, "")

    def flag(self, attribute: str) -> bool:
        """An attribute that is true or false."""
        said = self.get(attribute).strip().lower()
        if said not in _TRUE + _FALSE:
            raise self.wrong(f"{attribute}={said!r} is neither true nor false", "write yes or no")
        return said in _TRUE

    def number(self, attribute: str) -> float:
        """An attribute that is a number, not negative; 0 when it is not there."""
        try:
            value = float(self.get(attribute) or 0)
        except ValueError:
            value = -1.0
        if not 0 <= value < float("inf"):
            raise self.wrong(f"{attribute}={self.get(attribute)!r} is not a number from 0 on")
        return value

    def all(self, name: str) -> Iterator[Element]:
        """The elements of that name directly in it."""
        return (child for child in self.children if child.name == name)

    def one(self, name: str) -> Element | None:
        """The single element of that name directly in it; None when there is none."""
        found = list(self.all(name))
        if len(found) > 1:
            raise found[1].wrong(f"a second <{name}> in the same <{self.name}>")
        return found[0] if found else None

    def only(self, *names: str) -> None:
        """Refuse elements of other names directly in it."""
        for child in self.children:
            if child.name not in names:
                known = ", ".join(names)
                raise child.wrong(f"<{child.name}> is not known in <{self.name}>", f"it can hold {known or 'nothing'}")

    @property
    def words(self) -> str:
        """Its text with single blanks."""
        return " ".join(self.text.split())


class _Builder(ContentHandler):
    def __init__(self, document: str) -> None:
        super().__init__()
        self._document = document
        self._locator: Locator
        self._open: list[Element] = []
        self.root: Element | None = None

    def setDocumentLocator(self, locator: Locator) -> None:
        self._locator = locator

    def startElement(self, name: str, attrs: AttributesImpl) -> None:
        line, column = self._locator.getLineNumber() or 0, (self._locator.getColumnNumber() or 0) + 1
        element = Element(name, dict(attrs.items()), self._document, line, column)
        if len(self._open) >= MAX_DEPTH:
            raise element.wrong(f"more than {MAX_DEPTH} elements within each other")
        if self._open:
            self._open[-1].children.append(element)
        else:
            self.root = element
        self._open.append(element)

    def endElement(self, name: str) -> None:
        self._open.pop()

    def characters(self, content: str) -> None:
        self._open[-1].text += content


class _Errors:
    """What the parser does with errors: they are raised with their place."""

    def __init__(self, document: str) -> None:
        self._document = document

    def error(self, exception: Any) -> None:
        place = f"line {exception.getLineNumber()}, column {exception.getColumnNumber() + 1}"
        raise BadInput(f"{self._document} ({place}): {exception.getMessage()}", "it is not well-formed XML")

    fatalError = error

    def warning(self, exception: Any) -> None:
        """Warnings are not for us."""


def read(text: str, document: str) -> Element:
    """The root element. BadInput says what is wrong, with line and column."""
    if len(text) > MAX_TEXT:
        raise TooLarge(f"{document} is longer than {MAX_TEXT >> 20} MiB")
    builder = _Builder(document)
    parser = DefusedExpatParser(forbid_dtd=True)
    parser.setContentHandler(builder)
    builder.setDocumentLocator(parser)
    parser.setErrorHandler(_Errors(document))
    try:
        parser.feed(text)
        parser.close()
    except DefusedXmlException:
        raise BadInput(f"{document} has a document type or entities", "leave out the <!DOCTYPE …>") from None
    assert builder.root is not None
    return builder.root
