"""Writes mutants into a source file as alternatives that are selected by number: see `run.py`.

A mutant is an entry of `cargo mutants --list --json`, with a `number`. Each becomes, in its place,
`if crate::mutants::is(NUMBER) { changed } else { original }`, so that a file contains all of its
mutants at once, nested ones too. Operands are bound to names first, so each is evaluated once.
Comments around each mutant attribute errors of the compiler: `/*<7*/ … /*7>*/` around the text
of mutant 7 alone, `/*[7,8*/ … /*]*/` around text that was changed for 7 and 8.
"""

import re

import tree_sitter
import tree_sitter_rust

PARSER = tree_sitter.Parser(tree_sitter.Language(tree_sitter_rust.language()))
COMPARISONS = {"==", "!=", "<", ">", "<=", ">="}
TIGHT = re.compile(rb"/\*<(\d+)\*/|/\*(\d+)>\*/")
LOOSE = re.compile(rb"/\*\[([\d,]+)\*/|/\*\]\*/")


class NotExpressible(Exception):
    """A mutant cannot be written as one of two alternatives."""


class Planter:
    """A source file with planted mutants."""

    def __init__(self, source):
        self.source = source.encode()
        self.lines = source.splitlines(keepends=True)
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line.encode()))
        self.tree = PARSER.parse(self.source)
        # Insertions in this order: (offset, kind, size of the enclosed text, text). Kinds:
        # 0 closes, 1 is between two operands, 2 opens. Then the removed ranges.
        self.inserted, self.removed, self.constants = [], [], set()

    def offset(self, place):
        """The byte of a line and a column, which counts characters from 1."""
        line = self.lines[place["line"] - 1] if place["line"] <= len(self.lines) else ""
        return self.starts[place["line"] - 1] + len(line[: place["column"] - 1].encode())

    def span(self, mutant):
        return self.offset(mutant["span"]["start"]), self.offset(mutant["span"]["end"])

    def text(self, node):
        return self.source[node.start_byte : node.end_byte].decode()

    def plant(self, mutants):
        """Plants mutants; returns the file's text and those that cannot be expressed."""
        groups, refused = {}, []
        for mutant in mutants:
            groups.setdefault((mutant["genre"], self.span(mutant)), []).append(mutant)
        for (genre, span), group in groups.items():
            try:
                WAYS[genre](self, span, group)
            except NotExpressible:
                refused += group
        text = self.rendered()
        # A mutant may be inside a removed range.
        lost = (m for m in mutants if m not in refused and f"/*<{m['number']}*/" not in text)
        return text, refused + list(lost)

    def replace(self, mutant):
        """The file's text with one mutant in place of the original."""
        start, end = self.span(mutant)
        return (self.source[:start] + mutant["replacement"].encode() + self.source[end:]).decode()

    def around(self, node, before, after, outside=0):
        """Inserts text around a node; with `outside`, around other insertions too."""
        self.put(node.start_byte, node.end_byte, before, after, outside)

    def put(self, start, end, before, after, outside=0):
        size = end - start + outside / 2
        self.inserted.append((start, 2, -size, before))
        self.inserted.append((end, 0, size, after))

    def between(self, place, text):
        self.inserted.append((place, 1, 0, text))

    def rendered(self):
        pieces, at = [], 0
        events = [(*entry, entry[0]) for entry in self.inserted]
        events += [(start, 3, 0, "", end) for start, end in self.removed]
        for place, _, _, text, until in sorted(events, key=lambda event: event[:3]):
            if place >= at:
                pieces += [self.source[at:place], text.encode()]
                at = until
        pieces.append(self.source[at:])
        return b"".join(pieces).decode()

    def leaf(self, span):
        node = self.tree.root_node.descendant_for_byte_range(*span)
        if node is None or (node.start_byte, node.end_byte) != span or node.parent is None:
            raise NotExpressible
        return node

    def above(self, node, kind):
        """The smallest enclosing node of a kind."""
        while node is not None and node.type != kind:
            node = node.parent
        return node

    def climb(self, span, kind):
        """The smallest node of a kind that encloses a span."""
        node = self.above(self.tree.root_node.descendant_for_byte_range(*span), kind)
        if node is None:
            raise NotExpressible
        return node


def function(planter, span, mutants):
    item = planter.climb(span, "function_item")
    while item.child_by_field_name("body").start_byte >= span[0]:
        item = item.parent
        while item is not None and item.type != "function_item":
            item = item.parent
        if item is None:
            raise NotExpressible
    body, made = item.child_by_field_name("body"), item.child_by_field_name("return_type")
    made = planter.text(made) if made else ""
    start, end = body.start_byte + 1, body.end_byte - 1
    if made.startswith("impl Iterator") and "return" not in planter.text(body):
        ways = [other(m, f"{EITHER}::Left({m['replacement']})") for m in mutants]
        before = "".join(f" {way} {{ {EITHER}::Right(" for way in ways)
        after = ") }" * len(mutants)
        planter.put(start, end, f"{before} {{", f"}} {after} ")
    elif "impl " in made:
        raise NotExpressible
    else:
        early = (tight(m, f"if {lives(m)} {{ return {m['replacement']}; }}") for m in mutants)
        planter.put(start, end, f" {' '.join(early)} ", "")
    planter.around(item, loose(mutants), "/*]*/")


def operator(planter, span, mutants):
    node = planter.leaf(span)
    whole, is_now = node.parent, planter.text(node)
    if whole.type not in ("binary_expression", "compound_assignment_expr"):
        raise NotExpressible
    if planter.above(whole, "function_item") is None:
        return constant(planter, whole, node, mutants)
    left, right = whole.child_by_field_name("left"), whole.child_by_field_name("right")
    if planter.above(whole, "const_item") is not None:
        return constant(planter, whole, node, mutants)
    if contains(whole, "let_condition"):
        raise NotExpressible
    planter.removed.append((left.end_byte, right.start_byte))
    if is_now in ("&&", "||"):
        either = " != " if is_now == "&&" else " == "
        then = "".join(either + tight(m, lives(m)) for m in mutants)
        # There is one mutant of each: `l != is(7)` equals `l` unless 7 is selected.
        planter.around(whole, f"({loose(mutants)}{{ let l__: bool = ", " } else { l__ } }/*]*/)")
        planter.between(left.end_byte, f"; if l__{then} {{ ")
        return
    arms = "".join(other(m, f"l__ {m['replacement']} r__") + " " for m in mutants)
    if whole.type == "compound_assignment_expr":
        target = planter.text(left)
        arms = arms.replace("l__", target)
        planter.removed[-1] = (left.start_byte, right.start_byte)
        planter.around(whole, f"{{{loose(mutants)} match ", f" {{ r__ => {arms}{{ {target} {is_now} r__ }} }}/*]*/}}")
        return
    lent = "&" if is_now in COMPARISONS else ""
    after = f")) {{ (l__, r__) => {arms}{{ l__ {is_now} r__ }} }}/*]*/)"
    planter.around(whole, f"({loose(mutants)}match ({lent}(", after)
    planter.between(left.end_byte, f"), {lent}(")


def constant(planter, whole, sign, mutants):
    """Keeps the constant, and replaces its uses by calls of a function."""
    item = planter.above(whole, "const_item")
    if item is None:
        raise NotExpressible
    name, of = planter.text(item.child_by_field_name("name")), planter.text(item.child_by_field_name("type"))
    if planter.text(item).startswith("pub"):
        raise NotExpressible
    value, instead = item.child_by_field_name("value"), f"{name.lower()}__"
    uses = [node for node in every(planter.tree.root_node, "identifier") if planter.text(node) == name]
    uses = [node for node in uses if not item.start_byte <= node.start_byte < item.end_byte]
    if any(in_types(node) or planter.above(node, "const_item") for node in uses):
        raise NotExpressible
    if name not in planter.constants:
        planter.constants.add(name)
        for use in uses:
            planter.removed.append((use.start_byte, use.end_byte))
            planter.between(use.start_byte, f"{instead}()")
        planter.put(item.end_byte, item.end_byte, "", f" fn {instead}() -> {of} {{ ", 0)
        planter.inserted.append((item.end_byte, 1, 2, f"{name} }}"))
    text = planter.source
    for mutant in mutants:
        before, after = text[value.start_byte : sign.start_byte], text[sign.end_byte : value.end_byte]
        changed = f"{before.decode()}{mutant['replacement']}{after.decode()}"
        made = tight(mutant, f"if {lives(mutant)} {{ const CHANGED: {of} = {changed}; return CHANGED; }}")
        planter.inserted.append((item.end_byte, 1, 1, made + " "))


def in_types(node):
    while node is not None and node.type not in ("block", "function_item"):
        if node.type in ("array_type", "type_arguments", "use_declaration", "match_pattern", "attribute_item"):
            return True
        node = node.parent
    return node is None


def every(node, kind):
    if node.type == kind:
        yield node
    for child in node.children:
        yield from every(child, kind)


def unary(planter, span, mutants):
    node = planter.leaf(span)
    whole, sign, mutant = node.parent, planter.text(node), mutants[0]
    if whole.type != "unary_expression":
        raise NotExpressible
    planter.removed.append((node.start_byte, node.end_byte))
    deleted = other(mutant, "v__")
    planter.around(whole, f"({loose(mutants)}match (", f") {{ v__ => {deleted} {{ {sign}v__ }} }}/*]*/)")


def guard(planter, span, mutants):
    inside = planter.climb((span[0], span[0] + 1), "match_pattern")
    if contains(inside, "let_condition"):
        raise NotExpressible
    tights = {m["replacement"]: tight(m, lives(m)) for m in mutants}
    always, never = tights.get("true", "false"), tights.get("false", "false")
    planter.put(*span, f"{loose(mutants)}({always} || (", f")) && !{never}/*]*/", 1)


def arm(planter, span, mutants):
    whole, mutant = planter.climb((span[0], span[0] + 1), "match_arm"), mutants[0]
    pattern = whole.child_by_field_name("pattern")
    while whole is not None and whole.type != "match_expression":
        whole = whole.parent
    planter.between(pattern.end_byte, f" if {tight(mutant, '!' + lives(mutant))}")
    planter.around(whole, loose(mutants), "/*]*/")


def field(planter, span, mutants):
    literal, mutant = planter.climb(span, "field_initializer_list"), mutants[0]
    base = next((c for c in literal.children if c.type == "base_field_initializer"), None)
    one = next((c for c in literal.children if c.start_byte == span[0]), None)
    if base is None or one is None:
        raise NotExpressible
    base = planter.text(base).removeprefix("..")
    if one.type == "shorthand_field_initializer":
        name, value = planter.text(one), one
        before = f"{name}: "
    else:
        name, value = planter.text(one.child_by_field_name("field")), one.child_by_field_name("value")
        before = ""
    left_out = other(mutant, f"({base}).{name}")
    planter.around(value, f"{before}{loose(mutants)}{left_out} {{ ", " }/*]*/", 1)


WAYS = {
    "FnValue": function,
    "BinaryOperator": operator,
    "UnaryOperator": unary,
    "MatchArmGuard": guard,
    "MatchArm": arm,
    "StructField": field,
}
EITHER = "crate::mutants::Either"


def lives(mutant):
    return f"crate::mutants::is({mutant['number']})"


def other(mutant, text):
    """The first half of an alternative, up to `else`."""
    return tight(mutant, f"if {lives(mutant)} {{ {text} }} else")


def tight(mutant, text):
    return f"/*<{mutant['number']}*/{text}/*{mutant['number']}>*/"


def loose(mutants):
    return f"/*[{','.join(str(m['number']) for m in mutants)}*/"


def contains(node, kind):
    return node.type == kind or any(contains(child, kind) for child in node.children)


def blamed(text, start, end):
    """The mutants to blame for an error between two bytes of a planted text."""
    opened = {}
    for mark in TIGHT.finditer(text):
        if mark.group(1):
            opened[mark.group(1)] = mark.start()
        elif opened.get(mark.group(2), len(text)) <= start and end <= mark.end():
            return [int(mark.group(2))]
    stack, smallest = [], None
    for mark in LOOSE.finditer(text):
        if mark.group(1):
            stack.append(mark)
            continue
        opening = stack.pop()
        if opening.start() <= start and end <= mark.end():
            smallest = smallest or opening
    return [int(number) for number in smallest.group(1).split(b",")] if smallest else []
