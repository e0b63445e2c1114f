"""What a measurement was made on: part of every benchmark's JSON."""

import os
import platform
from pathlib import Path
from typing import Any

from slatewise.datasets.artefact import package_versions


def describe() -> dict[str, Any]:
    """Processor, cores, memory in GiB, and versions of what results depend on."""
    cpu = Path("/proc/cpuinfo")
    names = (
        [line.split(":", 1)[1].strip() for line in cpu.read_text().splitlines() if line.startswith("model name")]
        if (cpu.is_file())
        else [platform.processor()]
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30 if hasattr(os, "sysconf") else None
    return {
        "cpu": names[0] if names else "unknown",
        "cores": os.cpu_count(),
        "memory_gib": round(memory, 1) if memory else None,
        "system": platform.platform(terse=True),
        "load_average": [round(load, 1) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "versions": package_versions(),
    }
