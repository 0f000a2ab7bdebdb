"""`cheops agent`: runs the agent of a site."""

import logging
import sys
from pathlib import Path

import click


@click.command()
@click.option("--config", "path", type=click.Path(path_type=Path), default=Path("site.yaml"), show_default=True)
@click.option("--check", is_flag=True, help="Only read the settings, and say whether they can be used.")
def agent(path: Path, check: bool) -> None:
    """Run the agent of a site, and its Envoy, until SIGTERM.

    Envoy goes on serving if the agent dies; the next agent takes it over.
    """
    if check:
        from cheops.config import read_site

        site = read_site(path)
        click.echo(f"{path}: {site.name} can be run: {', '.join(site.settings.services)}")
        return
    import asyncio

    import uvloop

    from cheops.agent import Agent

    _log_as_json()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(Agent(path).run())


@click.command()
@click.option("--config", "path", type=click.Path(path_type=Path), default=Path("site.yaml"), show_default=True)
def worker(path: Path) -> None:
    """Run one more agent of a site, which executes what is due in the store that they share.

    The site's store must be one that several agents can use: PostgreSQL.
    """
    import asyncio

    import uvloop

    from cheops.worker import work

    _log_as_json()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work(path))


def _log_as_json() -> None:
    """One JSON line an event, on standard error."""
    import structlog
    from structlog.typing import Processor

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer(ensure_ascii=False)],
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    render = structlog.processors.JSONRenderer(ensure_ascii=False)
    processors: list[Processor] = [structlog.stdlib.ProcessorFormatter.remove_processors_meta, render]
    handler.setFormatter(structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=processors))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
