"""Fail unless the wheel and the sdist hold exactly the package: every source file, nothing else at the top."""

import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def expected() -> set[str]:
    """Paths inside the wheel of every file of the package in the checkout, links followed."""
    src = ROOT / "src"
    found: set[str] = set()
    for folder in [src / "slatewise", *(path for path in (src / "slatewise").iterdir() if path.is_symlink())]:
        for path in folder.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                found.add(path.relative_to(src).as_posix())
    return found


def main(wheel: str, sdist: str) -> int:
    """Compare both archives with the checkout; returns the exit status."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    in_wheel = {name for name in names if ".dist-info/" not in name}
    with tarfile.open(sdist) as archive:
        members = archive.getmembers()
    in_sdist = {"/".join(m.name.split("/")[2:]) for m in members if m.isfile() and m.name.split("/")[1:2] == ["src"]}
    in_sdist = {name for name in in_sdist if name.startswith("slatewise/")}
    wanted, problems = expected(), []
    for what, held in (("wheel", in_wheel), ("sdist", in_sdist)):
        problems += [f"{what} lacks {name}" for name in sorted(wanted - held)]
        problems += [f"{what} holds {name}, which the checkout lacks" for name in sorted(held - wanted)]
    if any(member.issym() for member in members):
        problems.append("sdist holds links; a source archive must hold files")
    print("\n".join(problems) or f"wheel and sdist hold the {len(wanted)} files of slatewise and nothing else")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2]))
