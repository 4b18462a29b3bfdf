"""Which requests a client's methods made: the column `request` of the table of methods."""

import functools
import inspect
import re
from contextvars import ContextVar
from urllib.parse import unquote

from conftest import done, http

# The method that a caller of the client called, not those it calls itself.
CALLED = ContextVar("called", default=None)
SEEN = {}
NAMES = [
    (r"^/v1/memories/(?!events/)[^/]+/", "/v1/memories/{id}/"),
    (r"^/v1/event/[^/]+/", "/v1/event/{id}/"),
    (r"^(/v[12]/entities)/([^/]+)/[^/]+/", r"\1/{type}/{name}/"),
    (r"^/v2/profiles/jobs/[^/]+/", "/v2/profiles/jobs/{id}/"),
    (r"/organizations/[^/]+/", "/organizations/{org}/"),
    (r"/projects/[^/]+/", "/projects/{project}/"),
    (r"^/api/v1/webhooks/(?!projects/)[^/]+/", "/api/v1/webhooks/{id}/"),
]


def template(method, raw_path):
    """A request without what differs from run to run."""
    path = raw_path.split("?")[0]
    for pattern, name in NAMES:
        path = re.sub(pattern, name, path)
    return f"{method} {unquote(path)}"


def note(name, method, raw_path):
    found = SEEN.setdefault(name, [])
    call = template(method, raw_path)
    if call not in found:
        found.append(call)


def requests(name):
    return ", ".join(f"`{call}`" for call in SEEN.get(name, [])) or "none"


def methods(c):
    """Names of the public methods of a client and of its project, as a caller writes them."""
    return {name for name in named(c)} | {f"project.{name}" for name in named(c.project)}


def named(owner):
    kind = type(owner)
    return [name for name in dir(kind) if not name.startswith("_") and callable(getattr(kind, name))]


def wrapped(method, name):
    """The method, and that requests are made for `name` meanwhile."""

    @functools.wraps(method)
    async def play_async(*args, **options):
        token = CALLED.set(CALLED.get() or name)
        try:
            return await method(*args, **options)
        finally:
            CALLED.reset(token)

    @functools.wraps(method)
    def play(*args, **options):
        token = CALLED.set(CALLED.get() or name)
        try:
            return method(*args, **options)
        finally:
            CALLED.reset(token)

    return play_async if inspect.iscoroutinefunction(method) else play


def heard(owner, prefix=""):
    """The same object; its methods are known while they run."""
    for name in named(owner):
        setattr(owner, name, wrapped(getattr(owner, name), f"{prefix}{name}"))
    return owner


def listen(c):
    """The same client; what it sends is noted from now on."""

    def sent(request):
        if CALLED.get():
            note(CALLED.get(), request.method, request.url.raw_path.decode())

    async def sent_async(request):
        sent(request)

    is_async = inspect.iscoroutinefunction(http(c).request)
    http(c).event_hooks["request"].append(sent_async if is_async else sent)
    heard(c.project, "project.")
    return heard(c)


def project_of(c, project_id):
    """The client's view of another project."""
    project = type(c.project)(http(c), org_id=c.project.org_id, project_id=project_id)
    return heard(project, "project.")


async def closed(c):
    close = getattr(http(c), "aclose", None) or http(c).close
    await done(close())
