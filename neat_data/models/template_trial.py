"""A program: render a chat template under limits of processor time, memory and size; its exit status says what came.

A process of its own, because nothing inside one can stop a filter that fills the memory. It is run as a file, by
`template_bounds`, and imports nothing of this project.
"""

import json
import resource
import sys

TOO_LARGE = 3


def main() -> int:
    """Read the task from standard input; 0 for a template that ended, by an error of its own, too."""
    task = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (task["seconds"], task["seconds"]))
    sys.path[:] = task["path"]
    jinja = environment()
    resource.setrlimit(resource.RLIMIT_AS, (task["memory"], task["memory"]))
    try:
        template = jinja.from_string(task["source"])
    except MemoryError:
        return TOO_LARGE
    except Exception:
        return 0  # the caller renders it again, and tells of its errors
    return max((_rendered(template, call, task["characters"]) for call in task["calls"]), default=0)


def _rendered(template, call, limit):
    size = 0
    try:
        for piece in template.generate(**call):
            size += len(piece)
            if size > limit:
                return TOO_LARGE
    except MemoryError:
        return TOO_LARGE
    except Exception:
        return 0
    return 0


def environment():
    """What transformers renders chat templates in, without what it has for tools' sake."""
    import jinja2
    from jinja2 import ext, sandbox

    class Generation(ext.Extension):
        tags = {"generation"}  # noqa: RUF012 - as jinja declares it

        def parse(self, parser):
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def refuse(message):
        raise jinja2.TemplateError(message)

    environment = sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, ext.loopcontrols]
    )
    environment.filters["tojson"] = lambda value, **_: json.dumps(value)
    environment.globals.update(raise_exception=refuse, strftime_now=lambda _: "")
    return environment


if __name__ == "__main__":
    sys.exit(main())
