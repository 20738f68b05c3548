"""`python`: a policy in Python, to show that a policy need not be in Rust.

It runs redis, valkey and memcached, and keeps nothing but a cache's address and port: a reboot may lose the
data, a stop leaves nothing. Neither versions nor snapshots nor restores are to be had of it.

`cargo xtask build` makes the component `python.wasm` of it. By hand, at the root of the repository:

    python3 -m venv /tmp/venv && /tmp/venv/bin/pip install componentize-py==0.25.1
    /tmp/venv/bin/componentize-py -d wit -w policy componentize -p guest/python -o python.wasm app

and with the bindings, which an editor or mypy wants to see:

    /tmp/venv/bin/componentize-py -d wit -w policy bindings /tmp/bindings

componentize-py puts CPython and this module, both already loaded, into the component. It runs under
`python.toml`, since it needs more memory than the shipped policies. Besides this project's interfaces it imports
those of WASI, in which the host gives it nothing: no files, no network, no environment.

Every call runs in a fresh instance, so nothing is remembered in this module. Every call observes first, and acts
on what it sees. An error of the host comes as an exception, `Err`; what is not handled goes to the caller.

Names, labels and the place of the data are those of the policies in Rust (`guest/kit`): after a swap each finds
what the other made.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.lifecycle import ExecResult, Restore
from wit_world.imports import docker, probes, store
from wit_world.imports.docker import Container, ContainerInfo, ContainerSpec, ContainerState
from wit_world.imports.logging import Level, log
from wit_world.imports.probes import Check, Target, Target_Container
from wit_world.imports.snapshots import Snapshot
from wit_world.imports.types import (
    Backend,
    Cache,
    CacheKey,
    CacheSpec,
    CacheState,
    Description,
    Endpoint,
    Engine,
    Error,
    Error_Conflict,
    Error_EngineError,
    Error_Invalid,
    Error_NotFound,
    Error_Other,
    Error_PortTaken,
    Error_Timeout,
    Error_Unavailable,
    InvalidInput,
    Operation,
    Promise,
)

# What `recover` needs to know about a container without asking anybody.
ENGINE_LABEL = "fakecloud-policy-engine"
VERSION_LABEL = "fakecloud-policy-version"
FOLDER_LABEL = "fakecloud-policy-folder"
# A folder that every image has, and that every user may write to.
FOLDER = "/tmp"
# Where images declare a volume, which would be made for each container, and would stay.
DECLARED_VOLUME = "/data"

# Milliseconds for an engine to answer after a start, and for all engines of a listing.
READY_WITHIN = 300_000
LISTING_WITHIN = 1_000
# Seconds between SIGTERM and SIGKILL. The engines have nothing to write and end at once; a container that another
# policy made may need them.
GRACE = 30
# Ports to try before giving up. Each was free a moment before, so more than a few is no coincidence.
PORT_ATTEMPTS = 8


@dataclass(frozen=True)
class Kind:
    """What an engine is run as."""

    name: str
    image: str
    port: int
    check: Check
    command: tuple[str, ...]
    # The client program in the image.
    client: str | None


# Protected mode would refuse every client that comes through a published port.
OPTIONS = ("--protected-mode", "no", "--dir", FOLDER, "--appendonly", "no", "--save", "")
KINDS = {
    Engine.REDIS: Kind(
        "redis", "redis:7-alpine", 6379, Check.REDIS_PING, ("redis-server", *OPTIONS), "redis-cli"
    ),
    Engine.VALKEY: Kind(
        "valkey", "valkey/valkey:8-alpine", 6379, Check.REDIS_PING, ("valkey-server", *OPTIONS), "valkey-cli"
    ),
    Engine.MEMCACHED: Kind(
        "memcached", "memcached:1.6-alpine", 11211, Check.MEMCACHED_VERSION, ("memcached",), None
    ),
}


class Lifecycle(exports.Lifecycle):
    """What the world `policy` exports."""

    def describe(self) -> Description:
        return Description(
            name="python",
            version="0.1.0",
            summary="A small policy in Python: keeps the endpoint through reboots, and no data.",
            engines=list(KINDS),
            backends=[Backend.DOCKER],
            promises=[Promise.ENDPOINT_SURVIVES_REBOOT, Promise.NOTHING_SURVIVES_STOP],
        )

    def ensure(self, operation: Operation, spec: CacheSpec, restore: Restore | None) -> Cache:
        # Everything that the input alone decides comes first: nothing has been touched yet.
        if spec.version is not None:
            raise invalid("version", "cannot be chosen with this policy")
        if restore is not None:
            raise invalid("snapshot", "cannot be restored by this policy, which keeps no data")
        found = find(operation, spec.key)
        if found is not None:
            there = engine_of(found.info())
            if there != spec.engine:
                a, b = KINDS[there].name, KINDS[spec.engine].name
                raise refused(spec.key, f"it is a {a}; stop it before starting a {b}")
        try:
            return ensure(operation, spec, found)
        except Err as error:
            raise of_another_object(error)

    def reboot(self, operation: Operation, key: CacheKey) -> Cache:
        found = find(operation, key)
        state = None if found is None else found.info().state
        # One that was created and never started is what a create that broke off left: no cache yet.
        if found is None or state in (ContainerState.CREATED, ContainerState.DEAD):
            raise no_such_cache(key)
        refuse_unless_usable(found.info())
        try:
            if state == ContainerState.RUNNING:
                return restart(operation, found)
            return start_again(operation, found)
        except Err as error:
            raise of_another_object(error)

    def snapshot(self, operation: Operation, key: CacheKey) -> Snapshot:
        if find(operation, key) is None:
            raise no_such_cache(key)
        raise invalid("snapshot", "cannot be taken with this policy, which keeps no data")

    def stop(self, operation: Operation, key: CacheKey) -> bool:
        found = find(operation, key)
        if found is None:
            return False
        end(found)
        return True

    def remove_data(self, operation: Operation, key: CacheKey) -> bool:
        if find(operation, key) is not None:
            raise refused(key, "it exists; stop it before deleting its data")
        return False

    def exec(self, operation: Operation, key: CacheKey, args: list[str]) -> ExecResult:
        found = find(operation, key)
        if found is None:
            raise no_such_cache(key)
        refuse_unless_usable(found.info())
        if found.info().state != ContainerState.RUNNING:
            raise refused(key, "it does not run; bring it up first")
        client = KINDS[engine_of(found.info())].client
        if client is None:
            raise invalid("engine", "is memcached, which has no command-line client")
        # -e: without it the client ends with 0 where the server replied with an error.
        output = found.exec([client, "-e", *args])
        return ExecResult(output.exit_code() == 0, output)

    def find(self, operation: Operation, key: CacheKey) -> Cache | None:
        found = find(operation, key)
        caches = [] if found is None else report_all([found])
        return caches[0] if caches else None

    def recover(self, operation: Operation) -> list[Cache]:
        return sorted(report_all(docker.containers()), key=lambda cache: (cache.key.scope, cache.key.id))

    def reap(self, operation: Operation) -> list[str]:
        removed = []
        for container in docker.stale():
            name = container.info().name
            try:
                end(container)
                removed.append(name)
            except Err as error:
                # Its owner may have come back; the others are still to be looked at.
                log(Level.WARN, f"{name} was left: {error.value}")
        return removed


def find(operation: Operation, key: CacheKey) -> Container | None:
    """The container of a cache."""
    return docker.find(container_name(operation, key))


def ensure(operation: Operation, spec: CacheSpec, found: Container | None) -> Cache:
    """Bring a cache to running, from whatever there is of it."""
    if found is None:
        return create(operation, spec)
    refuse_unless_usable(found.info())
    match found.info().state:
        case ContainerState.RUNNING | ContainerState.RESTARTING:
            try:
                return ready(found, True)
            except Err as error:
                # Somebody was just ending it.
                ended = isinstance(error.value, Error_EngineError)
                if ended and found.refresh().state == ContainerState.EXITED:
                    return start_again(operation, found)
                raise
        case ContainerState.EXITED:
            return start_again(operation, found)
        case _:
            # It never ran, and how far its making came cannot be told.
            found.remove()
            return create(operation, spec)


def create(operation: Operation, spec: CacheSpec) -> Cache:
    """Make a cache where there is no container, and leave no container if that fails."""
    taken = Err(Error_PortTaken(0))
    for attempt in range(PORT_ATTEMPTS):
        port = docker.reserve_port((port_hint(spec.key) + attempt) & 0xFFFF_FFFF)
        container = create_container(operation, container_spec(operation, spec, port))
        try:
            start(container)
            return ready(container, False)
        except Err as error:
            tidy(lambda: container.stop(GRACE), "stopping the container that failed to start")
            tidy(container.remove, "removing the container that failed to start")
            if not isinstance(error.value, Error_PortTaken):
                raise
            taken = error
    raise taken


def container_spec(operation: Operation, spec: CacheSpec, port: int) -> ContainerSpec:
    """What a container is to be."""
    kind = KINDS[spec.engine]
    labels = [(ENGINE_LABEL, kind.name)]
    tmpfs = []
    if kind.client is not None:
        labels.append((FOLDER_LABEL, FOLDER))
        tmpfs.append(DECLARED_VOLUME)
    return ContainerSpec(
        name=container_name(operation, spec.key),
        image=image(kind),
        command=list(kind.command),
        labels=labels,
        publish=docker.Publish(kind.port, port),
        tmpfs=tmpfs,
        restart=docker.RestartPolicy.UNLESS_STOPPED,
        stop_grace=GRACE,
    )


def create_container(operation: Operation, wanted: ContainerSpec) -> Container:
    """Create a container, its image fetched if need be."""
    try:
        try:
            return docker.create(wanted, [])
        except Err as error:
            if not isinstance(error.value, Error_NotFound):
                raise
            docker.pull(wanted.image)
            return docker.create(wanted, [])
    except Err as error:
        if not isinstance(error.value, Error_Timeout | Error_Unavailable | Error_Conflict):
            raise
        # The reply may be lost where the deed was done; only our own mark proves that it was ours.
        found = docker.find(wanted.name)
        if found is not None and found.info().operation == operation.id:
            return found
        if found is not None and found.info().state == ContainerState.CREATED:
            # The create of an operation that was cut off came to its end only now: nobody but us may start it.
            found.remove()
            return docker.create(wanted, [])
        raise


def start(container: Container) -> None:
    """Start it, and look again where the reply was lost."""
    try:
        container.start()
    except Err as error:
        lost = isinstance(error.value, Error_Timeout | Error_Unavailable)
        if not lost or container.refresh().state != ContainerState.RUNNING:
            raise


def start_again(operation: Operation, container: Container) -> Cache:
    """Start a cache that does not run, at the port that it had if that is still free."""
    try:
        start(container)
    except Err as error:
        if not isinstance(error.value, Error_PortTaken):
            raise
        info = container.info()
        container.remove()
        made = create(operation, CacheSpec(info.key, engine_of(info), None, []))
        return replace(made, adopted=True)
    try:
        return ready(container, True)
    except Err:
        # It did not run before. Left as it is the container engine would start it for ever.
        tidy(lambda: container.stop(GRACE), "stopping what does not get ready")
        raise


def restart(operation: Operation, container: Container) -> Cache:
    """Restart a cache that runs."""
    try:
        container.restart(GRACE)
    except Err as error:
        if not isinstance(error.value, Error_PortTaken | Error_Timeout | Error_Unavailable):
            raise
        # How far it came is not guessed: it is stopped now, whatever it was.
        container.stop(GRACE)
        return start_again(operation, container)
    return ready(container, True)


def end(container: Container) -> None:
    """Stop a container if it runs, and remove it."""
    info = container.info()
    if info.state == ContainerState.PAUSED:
        refuse_unless_usable(info)
    if info.state in (ContainerState.RUNNING, ContainerState.RESTARTING):
        container.stop(GRACE)
    container.remove()


def ready(container: Container, adopted: bool) -> Cache:
    """Wait until its engine answers, and report it."""
    info = container.info()
    check = KINDS[engine_of(info)].check
    endpoint = probes.wait_ready(Target_Container(container), check, READY_WITHIN)
    return report(info, CacheState.AVAILABLE, endpoint, adopted)


def report(info: ContainerInfo, state: CacheState, endpoint: Endpoint | None, adopted: bool) -> Cache:
    """A cache in the embedder's words."""
    return Cache(info.key, engine_of(info), label(info, VERSION_LABEL), state, info.id, endpoint, adopted)


def report_all(containers: list[Container]) -> list[Cache]:
    """Reports containers with their engines asked, all at once."""
    ours = []
    for container in containers:
        try:
            ours.append((container, KINDS[engine_of(container.info())].check))
        except Err as error:
            log(Level.WARN, f"container {container.info().name} was left out: {error.value}")
    running = [pair for pair in ours if pair[0].info().state == ContainerState.RUNNING]
    asked: list[tuple[Target, Check]] = [(Target_Container(container), check) for container, check in running]
    findings = {
        container.info().id: finding
        for (container, _), finding in zip(running, probes.check_now(asked, LISTING_WITHIN), strict=True)
    }
    caches = []
    for container, _ in ours:
        info = container.info()
        finding = findings.get(info.id)
        if finding is not None:
            state = CacheState.AVAILABLE if finding.ready else CacheState.STARTING
            caches.append(report(info, state, finding.endpoint, True))
        elif info.state == ContainerState.RESTARTING:
            caches.append(report(info, CacheState.STARTING, None, True))
        else:
            caches.append(report(info, CacheState.STOPPED, None, True))
    return caches


def image(kind: Kind) -> str:
    """The image that the environment sets, or else the default one."""
    setting = f"image.{kind.name}"
    try:
        return store.get(setting) or kind.image
    except Err as error:
        raise Err(Error_Other(f"reading the setting {setting}: {error.value}"))


def label(info: ContainerInfo, name: str) -> str | None:
    """A label's value."""
    return dict(info.labels).get(name)


def engine_of(info: ContainerInfo) -> Engine:
    """What runs in a container of a policy's."""
    name = label(info, ENGINE_LABEL)
    for engine, kind in KINDS.items():
        if kind.name == name:
            return engine
    raise refused(info.key, "its container does not say which engine it runs")


def container_name(operation: Operation, key: CacheKey) -> str:
    """One-to-one from instance and key: the hash tells apart, the rest is for people who look at a list."""
    slug = "".join(c.lower() if c.isascii() and c.isalnum() else "-" for c in key.id[:40]).strip("-")
    digest = digest_of(operation.instance, key.scope, key.id).hex()[:32]
    return f"fakecloud-ec-{slug or 'cache'}-{digest}"


def port_hint(key: CacheKey) -> int:
    """Where the search for a cache's port starts: the same after every restart of anything."""
    return int.from_bytes(digest_of(key.scope, key.id)[:4])


def digest_of(*parts: str) -> bytes:
    """Each part goes in with its length before it: ("a", "bc") and ("ab", "c") must differ."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode()
        digest.update(len(data).to_bytes(8))
        digest.update(data)
    return digest.digest()


def tidy(step: Callable[[], None], what: str) -> None:
    """Cleaning up after an error: a second error must not hide the first."""
    try:
        step()
    except Err as error:
        log(Level.WARN, f"{what}: {error.value}")


def refuse_unless_usable(info: ContainerInfo) -> None:
    """Somebody else paused it, or is removing it."""
    if info.state == ContainerState.PAUSED:
        raise refused(info.key, "its container is paused; unpause it first")
    if info.state == ContainerState.REMOVING:
        raise refused(info.key, "its container is being removed; try again in a moment")


def about(key: CacheKey) -> str:
    """Names a cache in an error."""
    return f'cache "{key.id}"' + (f' in scope "{key.scope}"' if key.scope else "")


def no_such_cache(key: CacheKey) -> Err[Error]:
    return Err(Error_NotFound(about(key)))


def refused(key: CacheKey, why: str) -> Err[Error]:
    return Err(Error_Conflict(f"{about(key)}: {why}"))


def invalid(field: str, reason: str) -> Err[Error]:
    return Err(Error_Invalid(InvalidInput(field, reason)))


def of_another_object(error: Err[Error]) -> Err[Error]:
    """`not-found` is for caches. What else is missing, an image say, is the engine's answer."""
    if isinstance(error.value, Error_NotFound):
        return Err(Error_EngineError(error.value.value))
    return error
