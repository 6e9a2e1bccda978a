"""In which order a student meets the functions of a step's rooms: as a run calls them, from the command line on."""

import ast
import re
from collections.abc import Iterator, Mapping

from . import rooms

OUTSIDE = ("", "")  # what a name means that is imported from elsewhere
Comprehension = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp
Types = Mapping[str, set[str]]  # of the parameters of a function: the names in their annotations


class Story:
    """The modules of one step, and what their names mean to each other."""

    def __init__(self, sources: dict[str, str]) -> None:
        """`sources`: the text of each file, by its path inside the step."""
        self.functions: dict[tuple[str, str], rooms.Function] = {}
        self.classes: dict[tuple[str, str], list[str]] = {}  # and the methods that each has
        self.imports: dict[tuple[str, str], tuple[str, str]] = {}  # what a name in a module means: (module, name or "")
        self.modules = {rooms.module(file) for file in sources}
        for file, source in sources.items():
            own = rooms.module(file)
            for name, function in rooms.functions(source):
                self.functions[own, name] = function
                if "." in name:
                    self.classes.setdefault((own, name.partition(".")[0]), []).append(name)
            for node in ast.walk(rooms.parsed(source)):
                if isinstance(node, ast.ImportFrom) and node.level:
                    self.note_imports(own, file, node)
                elif isinstance(node, ast.Import | ast.ImportFrom):
                    self.imports |= {(own, alias.asname or alias.name): OUTSIDE for alias in node.names}

    def note_imports(self, own: str, file: str, node: ast.ImportFrom) -> None:
        """What the names of one `from … import …` mean in the module `own`."""
        package = file.split("/")[:-1]
        base = package[: len(package) - node.level + 1] + (node.module.split(".") if node.module else [])
        for alias in node.names:
            inside = ".".join([*base, alias.name])
            is_module = inside in self.modules
            self.imports[own, alias.asname or alias.name] = (inside, "") if is_module else (".".join(base), alias.name)

    def follow(self, module: str, name: str, seen: dict[tuple[str, str], None]) -> None:
        """Note this function, then those that it mentions, in the order in which it does."""
        if (module, name) in seen or (module, name) not in self.functions:
            return
        seen[module, name] = None
        function = self.functions[module, name]
        for statement in rooms.body_of(function):
            for place, mentioned in self.mentioned(module, statement, types_of(function)):
                self.follow(place, mentioned, seen)

    def mentioned(self, module: str, node: ast.AST, types: Types) -> Iterator[tuple[str, str]]:
        """Functions and methods of the step that a piece of code names, in the order in which it does."""
        if isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            if (module, owner) in self.imports:
                place, _ = self.imports[module, owner]
                yield from self.meaning(place, node.attr)
            else:
                yield from self.mentioned(module, node.value, types)
                yield from self.methods(module, node.attr, types.get(owner))
        elif isinstance(node, ast.Name):
            place, name = self.imports.get((module, node.id), (module, node.id))
            yield from self.meaning(place, name)
        else:
            for child in as_done(node):
                yield from self.mentioned(module, child, types)

    def methods(self, module: str, name: str, classes: set[str] | None) -> Iterator[tuple[str, str]]:
        """The methods of this name that a module can mean: of these classes, or (None) of all that it imports."""
        known = {module, *(place for (importer, _), (place, _) in self.imports.items() if importer == module)}
        for place, method in self.functions:
            kind, _, own = method.rpartition(".")
            if kind and own == name and place in known and (classes is None or kind in classes):
                yield place, method

    def meaning(self, module: str, name: str) -> Iterator[tuple[str, str]]:
        """The function of this name; or of a class what happens when it is called."""
        module, name = self.imports.get((module, name), (module, name))  # a module may hand on what it has imported
        made_by = [f"{name}.__init__", f"{name}.__post_init__"]
        methods = self.classes.get((module, name), [])
        yield from ((module, method) for method in made_by if method in methods)
        yield module, name


def types_of(function: rooms.Function) -> Types:
    """Of which classes the parameters are, as far as they say so."""
    parameters = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return {one.arg: {*re.findall(r"\w+", ast.unparse(one.annotation))} for one in parameters if one.annotation}


def as_done(node: ast.AST) -> list[ast.AST]:
    """The parts of a piece of code in the order of what they do: what something is given is made before it."""
    if isinstance(node, ast.Call):
        return [*node.args, *node.keywords, node.func]
    children = [*ast.iter_child_nodes(node)]
    if isinstance(node, Comprehension):
        return sorted(children, key=lambda child: not isinstance(child, ast.comprehension))
    return children


def first_sentence(function: rooms.Function) -> str:
    """What a function's docstring says first; "" if it has none."""
    paragraph = " ".join((ast.get_docstring(function) or "").partition("\n\n")[0].split())
    sentence = re.match(r".*?[.:](?= [A-Z]|$)", paragraph)
    return sentence[0] if sentence else paragraph


def order(sources: dict[str, str], chosen: list[str]) -> list[tuple[str, str, str]]:
    """The functions of the files `chosen`, in the order of the story: (file, name, first sentence of its docstring)."""
    story = Story(sources)
    seen: dict[tuple[str, str], None] = {}
    beginnings = [file for file in sources if file == "cli.py"]
    beginnings += sorted(file for file in sources if file.startswith("commands/"))
    for file in [*beginnings, *chosen]:  # at last those that nobody was seen to call
        for name, _ in rooms.functions(sources[file]):
            story.follow(rooms.module(file), name, seen)
    files = {rooms.module(file): file for file in chosen}
    return [
        (files[module], name, first_sentence(story.functions[module, name])) for module, name in seen if module in files
    ]
