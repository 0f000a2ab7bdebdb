"""nova-compute with one more folder in which it looks for drivers; nova itself stays as installed."""

import sys
from pathlib import Path


def main() -> None:
    import nova.virt
    from nova.cmd.compute import main as compute

    nova.virt.__path__.append(str(Path(__file__).parent / "virt"))
    sys.exit(compute())
