import click


@click.group("lab")
def lab_commands() -> None:
    """x"""
